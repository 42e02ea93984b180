//! A new volume from a backup.
//!
//! Pages of a base image are written, then the log behind it, a mini-transaction for a mini-transaction. Until the last one,
//! the superblock's place holds a mark, so that nobody can open a volume that is filled by half. The last one writes the
//! superblock. To do all of it again, after it was interrupted anywhere, ends with the same volume: a record sets bytes,
//! whatever they were, and the same records are applied in the same order.

use crate::catalog::Catalog;
use crate::format::{Base, BasePart, Head, Log, Transaction, names};
use crate::instant::{Cut, InstantError, Looking};
use crate::store::{Store, StoreError};
use auriga_page::{Delta, PAGE_SIZE, PageImage};
use auriga_pagefs::layout::{RESTORING, TABLE};
use auriga_points::wal::WalError;
use auriga_points::{Commit, Stamp};
use auriga_protocol::{Change, Lsn, PageId, Payload, VolumeId};
use auriga_region::page::is_of_database;
use auriga_volume::{PageRead, Volume, VolumeError};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How long storage may not answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Pages in a mini-transaction.
const PAGES_AT_ONCE: usize = 64;
/// Where the superblock is.
const SUPERBLOCK: PageId = PageId { inode: TABLE, block: 0 };

/// What is to be restored.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The backup.
    pub store: Store,
    /// Commits of up to this instant are in, and no others; `None`: all that is backed up.
    pub at: Option<Stamp>,
    /// The clocks of the backup and of the database differ by less than this.
    pub clocks_within: Duration,
}

/// What was restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// The backup's volume.
    pub of: VolumeId,
    /// The log was applied through here.
    pub through: Lsn,
    /// The first commit that is not in, where one was found.
    pub first_out: Option<Commit>,
}

/// Why nothing was restored. The volume can't be opened, unless it could be before.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is none.
    #[error("there is no backup at this place")]
    NoBackup,
    /// No base image is old enough, or any.
    #[error("the backup begins too late: {}", .0.map_or("it has no base image yet".to_owned(), |at| format!("its first base image is of {at}")))]
    TooEarly(Option<Stamp>),
    /// The database may have committed something between the last known commit and the instant.
    #[error(
        "nothing in the backup was committed after this instant, so it is not known that all before it is there. What is \
         there was last written at {0}: without --at, all of it is restored"
    )]
    NothingLater(Stamp),
    /// Objects of the log are missing.
    #[error("the log between LSN {after} and LSN {from} is not in the backup")]
    Hole {
        /// Behind this.
        after: Lsn,
        /// Up to this.
        from: Lsn,
    },
    /// An object holds something else than its place says.
    #[error("{0} of the backup is not what its place in it says")]
    Misplaced(String),
    /// The volume is not empty.
    #[error("the volume was written before: a backup is restored into a new volume (`auriga create-volume`)")]
    NotEmpty,
    /// Another restore into it was begun.
    #[error(
        "another restore into this volume was begun, and has not ended: give the same command again, or make a new volume"
    )]
    OtherRestore,
    /// The volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Where to stop.
    #[error("looking for the instant: {0}")]
    Instant(#[from] InstantError),
}

/// What is on a volume before it is filled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing.
    Empty,
    /// The mark of a restore that has not ended.
    Mark(Vec<u8>),
    /// Anything else.
    Other,
}

/// Looks at the page where the superblock is, and whether anything was ever written.
pub fn found(superblock: &PageImage, durable: Lsn) -> Found {
    let content = superblock.content();
    if content[..8] == RESTORING {
        return Found::Mark(content.to_vec());
    }
    if durable == Lsn::ZERO && superblock.is_zero() { Found::Empty } else { Found::Other }
}

/// What is restored, from which objects.
struct Plan {
    base: Base,
    /// Above and through.
    log: Vec<(Lsn, Lsn)>,
    /// Where the last of them ends.
    end: Lsn,
    head: Option<Head>,
    next: Option<Lsn>,
}

impl Restore {
    /// Fills a volume, which was just opened. `bin` answers where the programs of a major version of PostgreSQL are. Waits on
    /// the calling thread, which must not be one of `runtime`'s.
    ///
    /// # Errors
    /// The volume was written before, the backup does not hold what was asked for, or something fails.
    pub fn run(
        &self,
        volume: &Arc<dyn Volume>,
        runtime: &Handle,
        bin: impl FnOnce(Option<u32>) -> Result<PathBuf, String>,
    ) -> Result<Restored, RestoreError> {
        let catalog = Catalog::read(&self.store)?.ok_or(RestoreError::NoBackup)?;
        let plan = self.plan(&catalog)?;
        let mark = self.mark(&catalog, &plan);
        match found(&read(&**volume, SUPERBLOCK)?, volume.vdl()) {
            Found::Empty => {}
            Found::Mark(known) if known == mark.content() => tracing::info!("a restore that was begun is done again"),
            Found::Mark(_) => return Err(RestoreError::OtherRestore),
            Found::Other => return Err(RestoreError::NotEmpty),
        }
        let changes = vec![Change { page: SUPERBLOCK, payload: Delta::full(mark.content()) }];
        let last = volume.submit(changes, Instant::now() + PATIENCE)?;
        let of = catalog.identity.volume;
        let mut filling = Filling { store: &self.store, of, volume, superblock: PageImage::default(), last };
        filling.base(&plan.base)?;
        let (through, cut) = self.log(&mut filling, &plan, runtime, bin)?;
        filling.end(cut.as_ref())?;
        Ok(Restored { of, through, first_out: cut.map(|cut| cut.commit) })
    }

    /// Chooses a base image. What can be known to fail is said before the volume is touched.
    fn plan(&self, catalog: &Catalog) -> Result<Plan, RestoreError> {
        let oldest = catalog.bases.iter().map(|base| Stamp(base.ended)).min();
        let is_before = |base: &&Base| self.at.is_none_or(|at| self.is_surely_before(base.ended, at));
        let base = catalog.bases.iter().rev().find(is_before).ok_or(RestoreError::TooEarly(oldest))?.clone();
        let (log, end) = catalog.chain(base.begin);
        let head = catalog.head.clone();
        if let (Some(at), Some(head)) = (self.at, &head)
            && head.read < at.0
        {
            return Err(RestoreError::NothingLater(Stamp(head.read)));
        }
        let next = catalog.log.range(end..).map(|(above, _)| *above).find(|above| *above > end);
        let plan = Plan { base, log, end, head, next };
        if plan.end < plan.base.through || (self.at.is_none() && plan.is_cut_short()) {
            return Err(plan.hole());
        }
        if let (Some(at), Some((above, through)), true) = (self.at, plan.log.last(), plan.is_cut_short())
            && self.is_surely_before(self.store.get::<Log>(&names::log(*above, *through))?.0.read, at)
        {
            return Err(plan.hole());
        }
        Ok(plan)
    }

    /// Whether what was read at `read`, by the backup's clock, was committed before `at`, by the database's.
    fn is_surely_before(&self, read: i64, at: Stamp) -> bool {
        read.saturating_add(self.clocks_within.as_micros() as i64) < at.0
    }

    /// What the superblock's place holds until the end.
    fn mark(&self, catalog: &Catalog, plan: &Plan) -> PageImage {
        let mut page = [0; PAGE_SIZE];
        page[..8].copy_from_slice(&RESTORING);
        let fields = [catalog.identity.volume.0, plan.base.begin.0, self.at.map_or(plan.end.0, |at| at.0 as u64)];
        for (index, field) in fields.iter().enumerate() {
            page[8 + index * 8..][..8].copy_from_slice(&field.to_le_bytes());
        }
        page[32] = u8::from(self.at.is_some());
        PageImage::copy_from(&page)
    }

    /// Applies the log. Returns where it ends, and where the WAL is cut.
    fn log(
        &self,
        filling: &mut Filling<'_>,
        plan: &Plan,
        runtime: &Handle,
        bin: impl FnOnce(Option<u32>) -> Result<PathBuf, String>,
    ) -> Result<(Lsn, Option<Cut>), RestoreError> {
        let mut objects = plan.log.iter();
        let mut through = plan.base.begin;
        let mut unsure = None;
        for (above, end) in objects.by_ref() {
            let log = filling.log_object(*above, *end)?;
            // Below the end of the base image no look is of use: pages are of different points.
            let (needed, rest) = log.split(plan.base.through);
            through = filling.apply(&needed)?.unwrap_or(through);
            match self.at {
                Some(at) if !rest.transactions.is_empty() && !self.is_surely_before(rest.read, at) => {
                    unsure = Some(rest);
                    break;
                }
                _ => through = filling.apply(&rest.transactions)?.unwrap_or(through),
            }
        }
        let Some(at) = self.at else { return Ok((through, None)) };
        filling.until_durable()?;
        let mut looking = Looking::begin(filling.volume, &filling.superblock, runtime, bin, at)?;
        while let Some(log) = unsure {
            if let Some(cut) = looking.look(filling.volume, filling.after(&log), runtime, &log)? {
                through = filling.apply(&log.transactions[..cut.transactions])?.unwrap_or(through);
                return Ok((through, Some(cut)));
            }
            through = filling.apply(&log.transactions)?.unwrap_or(through);
            filling.until_durable()?;
            tracing::info!(%through, "the instant is not reached yet");
            unsure = objects.next().map(|(above, end)| filling.log_object(*above, *end)).transpose()?;
        }
        let last = Stamp(plan.head.as_ref().map_or(0, |head| head.read));
        Err(if plan.is_cut_short() { plan.hole() } else { RestoreError::NothingLater(last) })
    }
}

impl Plan {
    /// Whether objects behind the end are missing.
    fn is_cut_short(&self) -> bool {
        self.next.is_some() || self.head.as_ref().is_some_and(|head| head.through > self.end)
    }

    fn hole(&self) -> RestoreError {
        let known = self.next.or(self.head.as_ref().map(|head| head.through));
        RestoreError::Hole { after: self.end, from: known.unwrap_or(self.base.through).max(self.end) }
    }
}

/// A volume that is being filled.
struct Filling<'a> {
    store: &'a Store,
    of: VolumeId,
    volume: &'a Arc<dyn Volume>,
    /// As it will be written at the end.
    superblock: PageImage,
    /// The last LSN that was submitted.
    last: Lsn,
}

impl Filling<'_> {
    fn base(&mut self, base: &Base) -> Result<(), RestoreError> {
        for (number, sum) in (0..).zip(&base.parts) {
            let name = names::part(base.begin, number);
            let (part, found) = self.store.get::<BasePart>(&name)?;
            if (part.volume, part.begin, part.part, found) != (self.of, base.begin, number, *sum) {
                return Err(RestoreError::Misplaced(name));
            }
            for some in part.pages.chunks(PAGES_AT_ONCE) {
                self.change(some.iter().cloned())?;
            }
        }
        tracing::info!(pages = base.pages, begin = %base.begin, "the pages of the base image are written");
        Ok(())
    }

    fn log_object(&self, above: Lsn, through: Lsn) -> Result<Log, RestoreError> {
        let name = names::log(above, through);
        let (log, _) = self.store.get::<Log>(&name)?;
        let ends = log.transactions.last().map(|last| last.lsn);
        if (log.volume, log.above, log.through, ends) != (self.of, above, through, Some(through)) {
            return Err(RestoreError::Misplaced(name));
        }
        Ok(log)
    }

    /// Applies mini-transactions. Returns where the last one ended.
    fn apply(&mut self, transactions: &[Transaction]) -> Result<Option<Lsn>, RestoreError> {
        transactions.iter().try_for_each(|one| self.change(one.changes.iter().cloned()))?;
        Ok(transactions.last().map(|last| last.lsn))
    }

    /// Submits changes as one mini-transaction, but for those of the superblock, which are kept back.
    fn change(&mut self, changes: impl Iterator<Item = Change<Delta>>) -> Result<(), RestoreError> {
        let (own, others): (Vec<_>, Vec<_>) =
            changes.filter(|change| is_of_database(change.page)).partition(|change| change.page == SUPERBLOCK);
        own.iter().for_each(|change| change.payload.apply(&mut self.superblock));
        if !others.is_empty() {
            self.last = self.volume.submit(others, Instant::now() + PATIENCE)?;
        }
        Ok(())
    }

    /// Waits until all that was submitted is durable: before that it can't be read.
    fn until_durable(&self) -> Result<(), RestoreError> {
        let (done, durable) = mpsc::channel();
        let tell = move |result| {
            let _ = done.send(result); // It waits.
        };
        self.volume.when_durable(self.last, Instant::now() + PATIENCE, Box::new(tell));
        Ok(durable.recv().unwrap_or(Err(VolumeError::Closed))?)
    }

    /// The superblock as it is when an object of the log is applied.
    fn after(&self, log: &Log) -> PageImage {
        let mut superblock = self.superblock.clone();
        let changes = log.transactions.iter().flat_map(|one| &one.changes).filter(|change| change.page == SUPERBLOCK);
        changes.for_each(|change| change.payload.apply(&mut superblock));
        superblock
    }

    /// Cuts the WAL, writes the superblock, and waits until everything is durable.
    fn end(mut self, cut: Option<&Cut>) -> Result<(), RestoreError> {
        self.until_durable()?;
        let mut changes = Vec::new();
        for (page, from) in cut.into_iter().flat_map(Cut::pages) {
            let before = read(&**self.volume, page)?;
            let mut after = before.content().to_vec();
            after[from..].fill(0);
            changes.extend(Delta::between(before.content(), &after).map(|payload| Change { page, payload }));
        }
        for some in changes.chunks(PAGES_AT_ONCE) {
            self.volume.submit(some.to_vec(), Instant::now() + PATIENCE)?;
        }
        let last = vec![Change { page: SUPERBLOCK, payload: Delta::full(self.superblock.content()) }];
        self.last = self.volume.submit(last, Instant::now() + PATIENCE)?;
        self.until_durable()
    }
}

/// Reads a page.
pub(crate) fn read(volume: &dyn Volume, page: PageId) -> Result<PageImage, VolumeError> {
    let (done, read) = mpsc::channel();
    let tell = move |result: Result<PageRead, VolumeError>| {
        let _ = done.send(result); // It waits.
    };
    volume.read(page, Instant::now() + PATIENCE, Box::new(tell));
    read.recv().unwrap_or(Err(VolumeError::Closed)).map(|read| read.page)
}

impl From<WalError> for RestoreError {
    fn from(error: WalError) -> RestoreError {
        RestoreError::Instant(InstantError::Wal(error))
    }
}
