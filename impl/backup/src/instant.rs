//! Where the log is left so that exactly the commits of an instant are in.
//!
//! The first commit record of a later time is looked for in the WAL. Everything before it in the WAL is in, and nothing from
//! it on. What was acknowledged before the instant has its record there before any record of a later time was made. The log is
//! applied through the mini-transaction that begins to write that record, and the WAL is cut where the record begins:
//! PostgreSQL writes a page only when the WAL of its changes is durable, so that no page is ahead of the cut.

use crate::format::{Log, Transaction};
use crate::restore::{PATIENCE, read};
use auriga_page::{Delta, PAGE_SIZE, PageImage};
use auriga_pagefs::layout::{TABLE, blocks};
use auriga_points::wal::{Redo, WalError, copy, dump, redo, segments};
use auriga_points::{Commit, Files, Snapshot, Stamp, Unreadable, WalPosition};
use auriga_protocol::{Change, PageId, Payload};
use auriga_volume::{Volume, VolumeError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;

/// Bytes of a record that say that it is this one: its length, transaction, and where the one before it is.
const RECOGNISED: usize = 16;
/// Bytes that an object of the log may change.
const OBJECT_LIMIT: usize = 1 << 30;

/// Why the instant is not found.
#[derive(Debug, thiserror::Error)]
pub enum InstantError {
    /// The WAL.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The volume that is being filled.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// PostgreSQL's programs.
    #[error("{0}")]
    Programs(String),
    /// Clocks.
    #[error(
        "a commit of {found} was backed up before {at}, by the clock of the backup: the clocks differ by more than \
         --clocks-within. Give a larger one, and a new volume"
    )]
    Clocks {
        /// Its time.
        found: Stamp,
        /// The instant.
        at: Stamp,
    },
    /// What was read twice is not the same.
    #[error("the record at {0} is not found in the log that wrote it")]
    NotFound(WalPosition),
}

/// Where the log and the WAL end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The first commit that is not in.
    pub commit: Commit,
    /// So many mini-transactions of the object are applied.
    pub transactions: usize,
    /// Pages of the WAL that are zeroed, each from an offset on.
    pages: Vec<(PageId, usize)>,
}

impl Cut {
    /// Pages of the WAL that are zeroed, each from an offset on.
    pub fn pages(&self) -> impl Iterator<Item = (PageId, usize)> {
        self.pages.iter().copied()
    }
}

/// Looks for the instant, an object of the log after the other.
pub struct Looking {
    at: Stamp,
    bin: PathBuf,
    /// What was looked at already ends here.
    from: Redo,
}

impl Looking {
    /// Looks at what was applied without looking: nothing in it may be later than the instant.
    pub fn begin(
        volume: &Arc<dyn Volume>,
        superblock: &PageImage,
        runtime: &Handle,
        bin: impl FnOnce(Option<u32>) -> Result<PathBuf, String>,
        at: Stamp,
    ) -> Result<Looking, InstantError> {
        let state = State::new(volume, superblock, runtime, &[])?;
        let version = state.files.read("pgdata/PG_VERSION").map_err(WalError::from)?.ok_or(WalError::NoCluster)?;
        let bin = bin(String::from_utf8_lossy(&version).trim().parse().ok()).map_err(InstantError::Programs)?;
        let mut looking = Looking { at, bin, from: redo(&state.files)? };
        match looking.first_later(&state)? {
            Some(commit) => Err(InstantError::Clocks { found: commit.at, at }),
            None => Ok(looking),
        }
    }

    /// Looks at what the volume is after an object of the log; `None`: the instant comes later.
    pub fn look(
        &mut self,
        volume: &Arc<dyn Volume>,
        superblock: PageImage,
        runtime: &Handle,
        log: &Log,
    ) -> Result<Option<Cut>, InstantError> {
        let state = State::new(volume, &superblock, runtime, &log.transactions)?;
        let Some(commit) = self.first_later(&state)? else { return Ok(None) };
        tracing::info!(xid = commit.xid, at = %commit.at, wal = %commit.lsn, "the first commit that is not in was found");
        let pages = wal_from(&state.files, commit.lsn, self.from.timeline)?;
        let Some((first, offset)) = pages.first().copied() else { return Err(InstantError::NotFound(commit.lsn)) };
        let beginning = |page: &PageImage| page.content()[offset..(offset + RECOGNISED).min(PAGE_SIZE)].to_vec();
        let wanted = beginning(&read(&*state.volume, first)?);
        let mut page = read(&**volume, first)?;
        let mut transactions = 0;
        while beginning(&page) != wanted {
            let next = log.transactions.get(transactions).ok_or(InstantError::NotFound(commit.lsn))?;
            changes_of(next, first).for_each(|change| change.payload.apply(&mut page));
            transactions += 1;
        }
        Ok(Some(Cut { commit, transactions, pages }))
    }

    /// The first commit that is later than the instant, in what was not looked at yet.
    fn first_later(&mut self, state: &State) -> Result<Option<Commit>, InstantError> {
        let failed = |error| WalError::Run { program: "making a temporary directory".to_owned(), error };
        let directory = tempfile::tempdir().map_err(failed)?;
        copy(&state.files, self.from, directory.path())?;
        let wal = dump(&self.bin, directory.path(), self.from)?;
        self.from.at = wal.last.unwrap_or(self.from.at);
        Ok(wal.commits.into_iter().find(|commit| commit.at > self.at))
    }
}

fn changes_of(transaction: &Transaction, page: PageId) -> impl Iterator<Item = &Change<Delta>> {
    transaction.changes.iter().filter(move |change| change.page == page)
}

/// The pages of the WAL from a position on, the first one from the position's offset.
fn wal_from(files: &Files, from: WalPosition, timeline: u32) -> Result<Vec<(PageId, usize)>, InstantError> {
    let mut pages = Vec::new();
    for segment in segments(files, timeline)? {
        if segment.begins.0 + segment.size <= from.0 {
            continue;
        }
        let path = format!("pgdata/pg_wal/{}", segment.name);
        let Some(record) = files.find(&path).map_err(|error: Unreadable| WalError::from(error))? else { continue };
        let within = from.0.saturating_sub(segment.begins.0);
        for block in within / PAGE_SIZE as u64..blocks(segment.size) {
            let offset = within.saturating_sub(block * PAGE_SIZE as u64) as usize;
            pages.push((PageId { inode: record.ino, block }, offset));
        }
    }
    Ok(pages)
}

/// What a volume would be.
struct State {
    volume: Arc<Snapshot>,
    files: Files,
}

impl State {
    fn new(
        volume: &Arc<dyn Volume>,
        superblock: &PageImage,
        runtime: &Handle,
        transactions: &[Transaction],
    ) -> Result<State, InstantError> {
        let volume = {
            let _within = runtime.enter();
            Arc::new(Snapshot::over(volume.clone(), OBJECT_LIMIT))
        };
        let until = Instant::now() + PATIENCE;
        for one in transactions {
            volume.submit(one.changes.clone(), until)?;
        }
        let page = PageId { inode: TABLE, block: 0 };
        volume.submit(vec![Change { page, payload: Delta::full(superblock.content()) }], until)?;
        let files = Files::open(volume.clone()).map_err(WalError::from)?;
        Ok(State { volume, files })
    }
}
