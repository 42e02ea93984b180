//! A backup that runs: the log as it becomes durable, and a base image now and then.
//!
//! It keeps nothing of its own. Where it starts again, it goes on where the log in the store ends.

use crate::base;
use crate::catalog::Catalog;
use crate::format::{Base, Head, Identity, Log, Transaction, names};
use crate::retain::retain;
use crate::store::{Store, StoreError};
use auriga_page::Delta;
use auriga_points::Stamp;
use auriga_protocol::{Change, Lsn, Payload, VolumeId};
use auriga_region::hold::{BACKUP_READER, Hold};
use auriga_region::merge::MiniTransaction;
use auriga_region::page::is_of_database;
use auriga_region::source::{Source, Unread};
use auriga_volume::VolumeConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::sleep;

/// Bytes of changes in an object of the log, roughly.
const OBJECT_BYTES: usize = 4 << 20;
/// How long mini-transactions that change nothing of the database wait for more.
const EMPTY_EVERY: Duration = Duration::from_secs(30);
/// How long to wait where there is nothing new.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// After a failure, before it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How often segments may say that the log is not kept any more, before that is believed of all of them.
const TOO_FAR_MAX: usize = 20;

/// What a backup needs to know.
#[derive(Clone)]
pub struct BackupConfig {
    /// The volume.
    pub volume: VolumeConfig,
    /// Where its instances listen for readers: whoever writes keeps what is not backed up yet.
    pub writers: Vec<SocketAddr>,
    /// Where it goes.
    pub store: Store,
    /// How long the log may wait for more before it is put: so much may be missing after a disaster.
    pub put_every: Duration,
    /// How often a base image is taken.
    pub base_every: Duration,
    /// Instants of so long ago can be restored to.
    pub keep: Duration,
}

/// Why a backup does not go on. Most of it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The store.
    #[error(transparent)]
    Store(StoreError),
    /// Another volume's backup is there.
    #[error("the backup there is of volume {0}, not of this one: give another place")]
    OtherVolume(VolumeId),
    /// The volume.
    #[error("reading the volume: {0}")]
    Unread(#[from] Unread),
    /// What is on the volume.
    #[error("the volume holds no sound file system: {0}")]
    Files(auriga_pagefs::layout::Malformed),
}

/// Backs a volume up for as long as it is polled. Needs a tokio runtime of several threads. Returns only where to try again
/// is of no use.
pub async fn run(config: BackupConfig) -> TakeError {
    let source = Arc::new(Source::start(&config.volume));
    let mut said = None;
    loop {
        let error = match Taking::begin(&config, &source).await {
            Ok(taking) => taking.go_on().await,
            Err(error) => error,
        };
        if let TakeError::OtherVolume(_) = error {
            return error;
        }
        let text = error.to_string();
        if said.replace(text.clone()).is_none_or(|before| before != text) {
            tracing::warn!(why = text, "the backup waits: it goes on as soon as it can");
        }
        sleep(TRY_AGAIN).await;
    }
}

/// A backup between two failures.
struct Taking<'a> {
    config: &'a BackupConfig,
    source: &'a Arc<Source>,
    hold: Hold,
    /// The log is in the store through here.
    put: Lsn,
    /// It is read through here.
    read: Lsn,
    read_at: Stamp,
    transactions: Vec<Transaction>,
    bytes: usize,
    /// Since when the first of them waits.
    since: Instant,
    /// The base image that is being taken, and where it begins.
    base: Option<(Lsn, JoinHandle<Result<Base, TakeError>>)>,
    /// When the next one is due.
    base_due: Instant,
}

impl<'a> Taking<'a> {
    /// Finds out where to go on.
    async fn begin(config: &'a BackupConfig, source: &'a Arc<Source>) -> Result<Taking<'a>, TakeError> {
        let volume = config.volume.volume;
        let catalog = block_in_place(|| {
            let catalog = Catalog::read(&config.store)?;
            if catalog.is_none() {
                config.store.put(names::IDENTITY, &Identity { volume, began: Stamp::now().0 })?;
            }
            Ok::<_, StoreError>(catalog)
        })?;
        if let Some(other) = catalog.as_ref().map(|catalog| catalog.identity.volume).filter(|other| *other != volume) {
            return Err(TakeError::OtherVolume(other));
        }
        let put = match catalog.as_ref().and_then(Catalog::end) {
            Some(end) => end,
            None => source.newest().await?.at,
        };
        let last =
            catalog.iter().flat_map(|catalog| &catalog.bases).filter(|base| reaches(catalog.as_ref(), base, put));
        let age = last.map(|base| Stamp::now().0.saturating_sub(base.ended)).min();
        let age = age.map(|micros| Duration::from_micros(micros.max(0) as u64));
        let left = age.map_or(Duration::ZERO, |age| config.base_every.saturating_sub(age));
        tracing::info!(from = %put, next_base_s = left.as_secs(), "BACKUP: goes on");
        Ok(Taking {
            config,
            source,
            hold: Hold::start(&config.volume, &config.writers, put, BACKUP_READER),
            put,
            read: put,
            read_at: Stamp::now(),
            transactions: Vec::new(),
            bytes: 0,
            since: Instant::now(),
            base: None,
            base_due: Instant::now() + left,
        })
    }

    /// Backs up until something fails.
    async fn go_on(mut self) -> TakeError {
        loop {
            if let Err(error) = self.step().await {
                return error;
            }
        }
    }

    async fn step(&mut self) -> Result<(), TakeError> {
        let is_new = match self.source.read(self.read).await {
            Ok(read) => self.take(read),
            Err(Unread::TooFar { .. }) if self.is_gone().await => return self.begin_anew().await,
            Err(error) => return Err(error.into()),
        };
        // What a region's writer publishes is not backed up, and is no reason for an object.
        let wait = if self.bytes == 0 { self.config.put_every.max(EMPTY_EVERY) } else { self.config.put_every };
        let is_due = self.bytes >= OBJECT_BYTES || self.since.elapsed() >= wait;
        if !self.transactions.is_empty() && is_due {
            self.put()?;
        }
        self.take_bases().await?;
        self.hold.release(self.put);
        if !is_new {
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Returns whether there was anything.
    fn take(&mut self, read: Vec<MiniTransaction<Delta>>) -> bool {
        let (Some(last), was_empty) = (read.last(), self.transactions.is_empty()) else { return false };
        (self.read, self.read_at) = (last.lsn, Stamp::now());
        if was_empty {
            self.since = Instant::now();
        }
        for one in read {
            let of_database = one.records.into_iter().filter(|record| is_of_database(record.page));
            let changes: Vec<_> =
                of_database.map(|record| Change { page: record.page, payload: record.payload }).collect();
            self.bytes += changes.iter().map(|change| change.payload.weight()).sum::<usize>();
            self.transactions.push(Transaction { lsn: one.lsn, changes });
        }
        true
    }

    fn put(&mut self) -> Result<(), TakeError> {
        let volume = self.config.volume.volume;
        let (above, through, read) = (self.put, self.read, self.read_at.0);
        let log = Log { volume, above, through, read, transactions: std::mem::take(&mut self.transactions) };
        self.bytes = 0;
        block_in_place(|| {
            self.config.store.put(&names::log(above, through), &log)?;
            self.config.store.put(names::HEAD, &Head { volume, through, read })
        })?;
        self.put = through;
        Ok(())
    }

    /// Whether no segment that is asked has the log from here on.
    async fn is_gone(&self) -> bool {
        for _ in 0..TOO_FAR_MAX {
            if !matches!(self.source.read(self.read).await, Err(Unread::TooFar { .. })) {
                return false;
            }
            sleep(LOOK_AGAIN).await;
        }
        true
    }

    /// The log has a hole now. Behind it, a base image is needed.
    async fn begin_anew(&mut self) -> Result<(), TakeError> {
        if !self.transactions.is_empty() {
            self.put()?;
        }
        let lost_from = self.put;
        let at = self.source.newest().await?.at;
        tracing::error!(
            after = %lost_from, from = %at,
            "the log is not kept any more: instants from the one to the other can't be restored to. A new base image is taken"
        );
        (self.put, self.read, self.base_due) = (at, at, Instant::now());
        if let Some((_, base)) = self.base.take() {
            base.abort();
        }
        self.hold = Hold::start(&self.config.volume, &self.config.writers, at, BACKUP_READER);
        Ok(())
    }

    /// Begins a base image where one is due, and picks up one that is whole.
    async fn take_bases(&mut self) -> Result<(), TakeError> {
        match &mut self.base {
            None if Instant::now() >= self.base_due => {
                let (source, store) = (self.source.clone(), self.config.store.clone());
                let taking = tokio::spawn(base::take(source, store, self.config.volume.volume, self.put));
                self.base = Some((self.put, taking));
                self.base_due = Instant::now() + self.config.base_every;
            }
            Some((_, taking)) if taking.is_finished() => {
                let taken = taking.await.map_err(|_| Unread::Unreachable)?;
                self.base = None;
                let base = taken?;
                tracing::info!(begin = %base.begin, pages = base.pages, "BACKUP: a base image is whole");
                self.retain()?;
            }
            _ => {}
        }
        Ok(())
    }

    fn retain(&self) -> Result<(), TakeError> {
        let store = &self.config.store;
        let removed = block_in_place(|| match Catalog::read(store)? {
            Some(catalog) => retain(store, &catalog, (Stamp::now(), self.config.keep), None),
            None => Ok(0),
        })?;
        if removed > 0 {
            tracing::info!(removed, "BACKUP: what is not needed any more was removed");
        }
        Ok(())
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        if let Some((_, base)) = self.base.take() {
            base.abort();
        }
    }
}

/// Whether a base image and the log behind it lead up to `end`.
fn reaches(catalog: Option<&Catalog>, base: &Base, end: Lsn) -> bool {
    catalog.is_some_and(|catalog| catalog.chain(base.begin).1 == end)
}
