//! Readers of a [`MemoryVolume`], in the same process.
//!
//! A read point is kept as long as a reader may ask for it. While it is, the version of a page that was the newest at
//! that point is kept when the page changes. Versions between two points are nobody's, and are not kept.

use super::{MemoryVolume, Pages, Shared, State};
use crate::{Callback, Changes, PageRead, Published, ReaderVolume, VolumeError};
use auriga_page::PageImage;
use auriga_protocol::{Lsn, PageId, Record};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Most points that a reader is offered. Beyond it every second one is withdrawn, the newest excepted.
const PUBLISHED_MAX: usize = 256;

/// What a volume keeps for its readers.
#[derive(Default)]
pub(super) struct Readers {
    last: u64,
    readers: HashMap<u64, Reader>,
    /// Points that were chosen and are about to be published.
    chosen: Vec<Lsn>,
    /// Versions that are not the newest: by page, ascending.
    versions: HashMap<PageId, VecDeque<Version>>,
}

struct Reader {
    read_point: Lsn,
    /// Points that it may read as of, or advance to.
    points: BTreeMap<Lsn, u64>,
}

struct Version {
    version: Lsn,
    /// The version after it.
    until: Lsn,
    page: PageImage,
}

impl Readers {
    fn need(&self, from: Lsn, until: Lsn) -> bool {
        self.chosen.iter().any(|chosen| from <= *chosen && *chosen < until)
            || self.readers.values().any(|reader| reader.points.range(from..until).next().is_some())
    }

    /// Keeps a page that changes at `until`, if a reader may ask for it.
    pub(super) fn keep(&mut self, page: PageId, until: Lsn, pages: &Pages) {
        if self.readers.is_empty() && self.chosen.is_empty() {
            return;
        }
        let (version, content) = pages.get(&page).cloned().unwrap_or_default();
        if self.need(version, until) {
            self.versions.entry(page).or_default().push_back(Version { version, until, page: content });
        }
    }

    /// Forgets what no point needs any more.
    fn forget(&mut self) {
        let mut versions = std::mem::take(&mut self.versions);
        versions.retain(|_, kept| {
            kept.retain(|kept| self.need(kept.version, kept.until));
            !kept.is_empty()
        });
        self.versions = versions;
    }
}

impl State {
    /// A page as of `at`: its version, and its content.
    fn page_at(&self, page: PageId, at: Lsn) -> (Lsn, PageImage) {
        let newest = self.pages.get(&page);
        if let Some((version, content)) = newest.filter(|(version, _)| *version <= at) {
            return (*version, content.clone());
        }
        let mut kept = self.readers.versions.get(&page).into_iter().flatten();
        let then = kept.rfind(|kept| kept.version <= at && at < kept.until);
        then.map_or_else(Default::default, |kept| (kept.version, kept.page.clone()))
    }

    fn changes(&self, from: Lsn, to: Lsn) -> Changes {
        if self.floor > from || from == Lsn::ZERO {
            return Changes::Unknown;
        }
        let first = self.log.partition_point(|logged| logged.lsn <= from);
        let until = self.log.partition_point(|logged| logged.lsn <= to);
        let record = |logged: &super::Logged| Record {
            lsn: logged.lsn,
            prev_volume: Lsn::ZERO,
            prev_segment: Lsn::ZERO,
            prev_block: Lsn::ZERO,
            is_cpl: logged.is_cpl,
            page: logged.change.page,
            payload: logged.change.payload.clone(),
        };
        Changes::Records(self.log.range(first..until).map(record).collect())
    }
}

impl MemoryVolume {
    /// A new reader of this volume. It can read once it has advanced to a point that was published.
    pub fn reader(&self) -> MemoryReader {
        let mut state = self.shared.lock();
        let readers = &mut state.readers;
        readers.last += 1;
        let id = readers.last;
        readers.readers.insert(id, Reader { read_point: Lsn::ZERO, points: BTreeMap::new() });
        drop(state);
        MemoryReader { shared: self.shared.clone(), id }
    }

    /// Publishes VDL to every reader. `wal` is asked for PostgreSQL's WAL insert position after VDL was looked at. `None`:
    /// it is not known, and nothing is published.
    pub fn publish(&self, wal: impl FnOnce() -> Option<u64>) -> Option<Published> {
        let mut state = self.shared.lock();
        let read_point = state.vdl;
        state.readers.chosen.push(read_point);
        drop(state);
        let wal = wal();
        let mut state = self.shared.lock();
        let chosen = state.readers.chosen.iter().position(|chosen| *chosen == read_point);
        chosen.map(|at| state.readers.chosen.swap_remove(at));
        let wal = wal?;
        for reader in state.readers.readers.values_mut().filter(|reader| reader.read_point < read_point) {
            reader.points.insert(read_point, wal);
            let offered: Vec<Lsn> = reader.points.range(reader.read_point.next()..).map(|(lsn, _)| *lsn).collect();
            if offered.len() > PUBLISHED_MAX {
                let last = offered.len() - 1;
                offered[..last].iter().step_by(2).for_each(|lsn| _ = reader.points.remove(lsn));
            }
        }
        Some(Published { read_point, wal })
    }
}

/// A reader of a [`MemoryVolume`]. Dropping it lets the volume forget what was kept for it.
pub struct MemoryReader {
    shared: Arc<Shared>,
    id: u64,
}

impl ReaderVolume for MemoryReader {
    fn read_point(&self) -> Lsn {
        self.shared.lock().readers.readers.get(&self.id).map_or(Lsn::ZERO, |reader| reader.read_point)
    }

    fn published(&self) -> Vec<Published> {
        let state = self.shared.lock();
        let Some(reader) = state.readers.readers.get(&self.id) else { return Vec::new() };
        let offered = reader.points.range(reader.read_point.next()..);
        offered.map(|(read_point, wal)| Published { read_point: *read_point, wal: *wal }).collect()
    }

    fn advance(&self, to: Lsn) -> Result<Changes, VolumeError> {
        let mut state = self.shared.lock();
        if let Some(error) = state.ended {
            return Err(error);
        }
        let Some(reader) = state.readers.readers.get_mut(&self.id) else { return Err(VolumeError::Closed) };
        let from = reader.read_point;
        assert!(to > from && reader.points.contains_key(&to), "{to} was not published, or is behind {from}");
        reader.read_point = to;
        // Points that were passed by are nobody's any more.
        let passed: Vec<Lsn> = reader.points.range(from.next()..to).map(|(lsn, _)| *lsn).collect();
        passed.iter().for_each(|lsn| _ = reader.points.remove(lsn));
        Ok(state.changes(from, to))
    }

    fn read(&self, page: PageId, at: Lsn, _deadline: Instant, callback: Callback<PageRead>) {
        let state = self.shared.lock();
        let result = match (state.ended, state.readers.readers.get(&self.id)) {
            (Some(error), _) => Err(error),
            (None, None) => Err(VolumeError::Closed),
            (None, Some(reader)) => {
                assert!(at <= reader.read_point && reader.points.contains_key(&at), "{at} was released");
                let (version, page) = state.page_at(page, at);
                Ok(PageRead { read_point: at, version, page })
            }
        };
        drop(state);
        callback(result);
    }

    fn release(&self, below: Lsn) {
        let mut state = self.shared.lock();
        let Some(reader) = state.readers.readers.get_mut(&self.id) else { return };
        let kept = reader.points.split_off(&below.min(reader.read_point));
        if !std::mem::replace(&mut reader.points, kept).is_empty() {
            state.readers.forget();
        }
    }
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.readers.readers.remove(&self.id);
        state.readers.forget();
    }
}
