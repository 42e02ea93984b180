//! Looking ahead: a volume as its reader sees it, of which newer points can be seen before the reader advances to them.
//!
//! A standby that is not connected to the writer's server finds its WAL in the volume, and that of `w(R')` is not there as of
//! R: it must be read as of a later point, before R' may be shown (R-READER-FS-13). So the points are passed one by one as
//! they are published, and what lay between them is kept until the reader's file system takes it.
//!
//! ```text
//!      R          ahead: passed, and not yet taken         published
//!   ───●───────────●───────●───────●───────●─────────────────●──►
//!      └ the file system           └ what is fed of the WAL is read here
//! ```
//!
//! Each point is *judged* when it is passed, before anything of it is used.

use crate::inode::lock;
use auriga_protocol::{Lsn, PageId, Record};
use auriga_volume::{Callback, Changes, PageRead, Published, ReaderVolume, VolumeError};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Points that are passed and not taken, at most: each is held.
const AHEAD_MAX: usize = 128;

/// Bytes of records that are kept. Of more it is only known that there was something.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// Says whether the reader may go on with a point, told what lies between it and the point before.
pub type Judge = Box<dyn Fn(&Changes, Lsn) -> Result<(), VolumeError> + Send + Sync>;

/// See the module's header.
pub struct Ahead {
    volume: Arc<dyn ReaderVolume>,
    judge: Judge,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last point that was taken.
    taken: Lsn,
    passed: VecDeque<(Published, Changes)>,
    kept_bytes: usize,
}

impl Ahead {
    /// Looks ahead in `volume`.
    pub fn new(volume: Arc<dyn ReaderVolume>, judge: Judge) -> Ahead {
        Ahead { volume, judge, state: Mutex::default() }
    }

    /// Passes the newest point that is published, if there is a newer one and not too many were passed. `seen` is told of
    /// it, and of what lies between it and the one before.
    ///
    /// # Errors
    /// The reader can't go on.
    pub fn look<R>(&self, seen: impl FnOnce(Published, &Changes) -> R) -> Result<Option<R>, VolumeError> {
        let mut state = lock(&self.state);
        if state.passed.len() >= AHEAD_MAX {
            return Ok(None);
        }
        let Some(newest) = self.volume.published().last().copied() else { return Ok(None) };
        let Some(changes) = self.pass(newest.read_point)? else { return Ok(None) };
        let told = seen(newest, &changes);
        state.kept_bytes += weight(&changes);
        state.passed.push_back((newest, changes));
        if state.kept_bytes > KEPT_BYTES_MAX {
            state.passed.iter_mut().for_each(|(_, changes)| *changes = Changes::Unknown);
            state.kept_bytes = 0;
        }
        Ok(Some(told))
    }

    /// The newest point that was passed, or taken: pages can be read as of it.
    pub fn newest(&self) -> Lsn {
        let state = lock(&self.state);
        state.passed.back().map_or(state.taken, |(point, _)| point.read_point)
    }

    /// `None`: the stream was cut since the point was published; others will be.
    fn pass(&self, to: Lsn) -> Result<Option<Changes>, VolumeError> {
        let changes = match self.volume.advance(to) {
            Err(VolumeError::TimedOut) => return Ok(None),
            changes => changes?,
        };
        (self.judge)(&changes, to)?;
        Ok(Some(changes))
    }
}

impl ReaderVolume for Ahead {
    fn read_point(&self) -> Lsn {
        lock(&self.state).taken
    }

    fn published(&self) -> Vec<Published> {
        let state = lock(&self.state);
        state.passed.iter().map(|(point, _)| *point).chain(self.volume.published()).collect()
    }

    fn advance(&self, to: Lsn) -> Result<Changes, VolumeError> {
        let mut state = lock(&self.state);
        let passed = state.passed.back().map_or(state.taken, |(point, _)| point.read_point);
        let last = if to > passed { Some(self.pass(to)?.ok_or(VolumeError::TimedOut)?) } else { None };
        let mut all = Vec::new();
        while state.passed.front().is_some_and(|(point, _)| point.read_point <= to)
            && let Some((_, changes)) = state.passed.pop_front()
        {
            state.kept_bytes = state.kept_bytes.saturating_sub(weight(&changes));
            all.push(changes);
        }
        state.taken = to;
        all.extend(last);
        Ok(joined(all))
    }

    fn read(&self, page: PageId, at: Lsn, deadline: Instant, callback: Callback<PageRead>) {
        self.volume.read(page, at, deadline, callback);
    }

    fn release(&self, below: Lsn) {
        self.volume.release(below);
    }
}

fn weight(changes: &Changes) -> usize {
    match changes {
        Changes::Records(records) => records.iter().map(Record::weight).sum(),
        Changes::Unknown => 0,
    }
}

/// What lies in several stretches, one after the other.
fn joined(all: Vec<Changes>) -> Changes {
    let mut records = Vec::new();
    for changes in all {
        match changes {
            Changes::Records(more) if records.is_empty() => records = more,
            Changes::Records(more) => records.extend(more),
            Changes::Unknown => return Changes::Unknown,
        }
    }
    Changes::Records(records)
}
