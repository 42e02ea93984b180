//! An inode in memory, and a directory's entries.
//!
//! Three locks, each with one job, taken in this order:
//!
//! 1. [`Inode::order`] is held from the decision to change an inode until the change is submitted and visible. So the
//!    log has the changes of one inode in the order in which the cache and everyone else saw them. Submitting may wait
//!    for storage, so a thread that only looks never takes this lock.
//! 2. [`Inode::view`] is what `getattr` and `read` look at: locked for a copy, never while waiting.
//! 3. [`Inode::zeroes`] knows which blocks are zero although storage may not know it yet.

use crate::fs::Part;
use crate::layout::{Entry, InodeRecord, Kind, blocks};
use crate::readahead::ReadAhead;
use auriga_protocol::Lsn;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// An LSN that is never durable: for what has not been submitted yet.
pub(crate) const NEVER: Lsn = Lsn(u64::MAX);

/// An inode in memory.
pub(crate) struct Inode {
    pub ino: u64,
    pub kind: Kind,
    /// Its place in the table.
    pub slot: u64,
    /// The slot's content as last submitted.
    pub order: Mutex<InodeRecord>,
    pub view: Mutex<View>,
    pub zeroes: Mutex<Zeroes>,
    /// A directory's entries.
    pub directory: Option<RwLock<Directory>>,
    /// Who reads it from front to back.
    pub read_ahead: Mutex<ReadAhead>,
    /// Whether it is a file of a relation, as its name says: such a file is written in whole pages.
    pub is_relation: AtomicBool,
    /// Of such a file: the first part of a page whose rest has not come yet.
    pub part: Mutex<Option<Part>>,
}

/// What those who look at an inode see.
pub(crate) struct View {
    /// The attributes; the times may be ahead of the slot's (they are submitted at the next fsync, close or change).
    pub record: InodeRecord,
    /// Open handles.
    pub opens: u64,
    /// Its slot has been given back: it may not be opened any more.
    pub gone: bool,
}

impl Inode {
    /// An inode with this slot's content. Its pages are those that its size allows.
    pub fn new(slot: u64, record: InodeRecord, directory: Option<Directory>) -> Inode {
        let end = blocks(record.size);
        let mut zeroes = Zeroes { written_end: end, ranges: Vec::new() };
        if record.trim_end > end {
            zeroes.ranges.push(ZeroRange { start: end, end: record.trim_end, until: NEVER });
        }
        Inode {
            ino: record.ino,
            kind: record.kind,
            slot,
            order: Mutex::new(record.clone()),
            view: Mutex::new(View { record, opens: 0, gone: false }),
            zeroes: Mutex::new(zeroes),
            directory: directory.map(RwLock::new),
            read_ahead: Mutex::default(),
            is_relation: AtomicBool::new(false),
            part: Mutex::default(),
        }
    }

    pub fn lock_order(&self) -> MutexGuard<'_, InodeRecord> {
        lock(&self.order)
    }

    pub fn lock_view(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }

    pub fn lock_zeroes(&self) -> MutexGuard<'_, Zeroes> {
        lock(&self.zeroes)
    }

    pub fn entries(&self) -> Option<RwLockReadGuard<'_, Directory>> {
        self.directory.as_ref().map(|directory| directory.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn entries_mut(&self) -> Option<RwLockWriteGuard<'_, Directory>> {
        self.directory.as_ref().map(|directory| directory.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Locks. A holder that panicked has broken an invariant and its thread is gone; what it protects was either replaced
/// whole or not at all, so the others go on and fail where they meet the broken thing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Most ranges an inode remembers; at the limit, a thread that adds one waits until the last is durable.
pub(crate) const ZERO_RANGES_MAX: usize = 32;

/// Blocks of a file that are zero unless they are cached, whatever storage would answer.
#[derive(Debug)]
pub(crate) struct Zeroes {
    /// No block at or above this one holds data.
    pub written_end: u64,
    /// Ranges that were zeroed by records that may not be durable yet. A block of theirs that was written again is
    /// pinned in the cache until it is durable, and by then the range's own LSN, a lower one, is durable too.
    pub ranges: Vec<ZeroRange>,
}

/// Blocks `start..end` are zero, and storage knows it once VDL ≥ `until`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZeroRange {
    pub start: u64,
    pub end: u64,
    pub until: Lsn,
}

impl Zeroes {
    /// Whether an uncached `block` is zero without asking storage; `vdl` is only called when it matters.
    pub fn covers(&self, block: u64, vdl: impl FnOnce() -> Lsn) -> bool {
        if block >= self.written_end {
            return true;
        }
        let mut holding = self.ranges.iter().filter(|range| range.start <= block && block < range.end).peekable();
        if holding.peek().is_none() {
            return false;
        }
        let vdl = vdl();
        holding.any(|range| range.until > vdl)
    }

    /// Adds a range, forgetting those that storage knows by now.
    pub fn add(&mut self, range: ZeroRange, vdl: Lsn) {
        self.ranges.retain(|range| range.until > vdl);
        if range.start < range.end {
            self.ranges.push(range);
        }
    }

    /// Whether one more range has room, given what is durable.
    pub fn has_room(&self, vdl: impl FnOnce() -> Lsn) -> bool {
        if self.ranges.len() < ZERO_RANGES_MAX {
            return true;
        }
        let vdl = vdl();
        self.ranges.iter().filter(|range| range.until > vdl).count() < ZERO_RANGES_MAX
    }
}

/// A directory's entries by place and by name.
#[derive(Default)]
pub(crate) struct Directory {
    slots: Vec<Option<Entry>>,
    names: HashMap<Box<[u8]>, u64>,
    /// No slot below this one is free.
    first_free: usize,
    /// The directory that this one is in; the root is in itself.
    pub parent: u64,
}

impl Directory {
    pub fn new(parent: u64) -> Directory {
        Directory { parent, ..Directory::default() }
    }

    /// The slot and the inode that `name` has.
    pub fn find(&self, name: &[u8]) -> Option<(u64, u64)> {
        let slot = *self.names.get(name)?;
        Some((slot, self.slots[slot as usize].as_ref()?.ino))
    }

    pub fn get(&self, slot: u64) -> Option<&Entry> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// A free slot, other than `taken`.
    pub fn free_slot(&self, taken: Option<u64>) -> u64 {
        let from = self.first_free;
        let free = (from..self.slots.len()).find(|slot| self.slots[*slot].is_none() && Some(*slot as u64) != taken);
        free.map_or_else(|| (self.slots.len() as u64).max(taken.map_or(0, |taken| taken + 1)), |slot| slot as u64)
    }

    /// Puts `entry` into `slot`; `None` frees it.
    pub fn set(&mut self, slot: u64, entry: Option<Entry>) {
        let at = slot as usize;
        if at >= self.slots.len() {
            self.slots.resize(at + 1, None);
        }
        if let Some(old) = self.slots[at].take()
            && self.names.get(&old.name) == Some(&slot)
        {
            self.names.remove(&old.name);
        }
        match entry {
            Some(entry) => {
                self.names.insert(entry.name.clone(), slot);
                self.slots[at] = Some(entry);
                while self.slots.get(self.first_free).is_some_and(Option::is_some) {
                    self.first_free += 1;
                }
            }
            None => self.first_free = self.first_free.min(at),
        }
    }

    /// Entries from `slot` on, with their slots.
    pub fn listed_from(&self, slot: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let slots = self.slots.iter().enumerate().skip(usize::try_from(slot).unwrap_or(usize::MAX));
        slots.filter_map(|(slot, entry)| Some((slot as u64, entry.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ino: u64, name: &str) -> Entry {
        Entry { ino, name: name.as_bytes().into() }
    }

    #[test]
    fn slots_are_used_again_from_the_front() {
        let mut directory = Directory::new(1);
        for (slot, name) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(directory.free_slot(None), slot as u64);
            directory.set(slot as u64, Some(entry(10 + slot as u64, name)));
        }
        directory.set(1, None);
        assert_eq!(directory.find(b"b"), None);
        assert_eq!((directory.free_slot(None), directory.free_slot(Some(1)), directory.free_slot(Some(3))), (1, 3, 1));
        directory.set(1, Some(entry(20, "d")));
        assert_eq!((directory.find(b"d"), directory.len(), directory.free_slot(Some(3))), (Some((1, 20)), 3, 4));
        assert_eq!(directory.listed_from(1).map(|(_, entry)| entry.ino).collect::<Vec<_>>(), [20, 12]);
    }

    #[test]
    fn a_zero_range_counts_until_storage_knows_it() {
        let mut zeroes = Zeroes { written_end: 100, ranges: Vec::new() };
        zeroes.add(ZeroRange { start: 10, end: 20, until: Lsn(5) }, Lsn(0));
        assert!(zeroes.covers(100, || unreachable!()) && !zeroes.covers(20, || unreachable!()));
        assert!(zeroes.covers(10, || Lsn(4)) && !zeroes.covers(10, || Lsn(5)));
        for _ in 1..ZERO_RANGES_MAX {
            zeroes.add(ZeroRange { start: 30, end: 31, until: Lsn(6) }, Lsn(4));
        }
        assert!(!zeroes.has_room(|| Lsn(4)) && zeroes.has_room(|| Lsn(5)));
        zeroes.add(ZeroRange { start: 40, end: 41, until: NEVER }, Lsn(6));
        assert_eq!(zeroes.ranges.len(), 1);
    }
}
