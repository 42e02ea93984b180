//! Truncating, allocating, punching holes, and giving the space of removed files back.
//!
//! What a file loses must read as zeros when it grows again, and storage should forget it. The records that zero many
//! blocks do not fit one mini-transaction, so shrinking by much has two steps: the mini-transaction that sets the new
//! size also sets `trim_end` in the inode's slot, meaning that blocks between the end of the file and `trim_end` may hold
//! old content; then bounded mini-transactions zero them from the top down and lower `trim_end`. A crash in between is
//! picked up by the next mount. A file can only grow again after its trim is finished.
//!
//! A removed file goes the same way, and its slot is freed by the mini-transaction that zeroes its first block.

use super::attempt::{Answer, Attempt};
use super::data::overwritten;
use super::{PageFs, now};
use crate::error::FsError;
use crate::inode::{Inode, NEVER, ZeroRange, lock};
use crate::layout::{FILE_MAX, InodeRecord, Kind, blocks};
use auriga_page::{Delta, PAGE_SIZE, PageImage};
use auriga_protocol::{Change, Lsn, PageId};
use auriga_volume::VolumeError;
use std::ops::Range;
use std::sync::Arc;
use std::sync::MutexGuard;

const PAGE: u64 = PAGE_SIZE as u64;

/// Most blocks zeroed by one mini-transaction that gives space back in the background.
const TRIM_STEP: u64 = 256;
/// Most blocks zeroed by one mini-transaction that a caller waits for: up to 32 MiB are zeroed atomically.
const ZERO_STEP: u64 = 4096;
/// A truncation that loses no more blocks than this zeroes them at once.
const TRIM_AT_ONCE: u64 = 64;

impl PageFs {
    /// Sets a file's size; bytes that it gains are zero.
    pub fn truncate(self: &Arc<Self>, ino: u64, size: u64, done: impl Answer) {
        self.change_size(ino, done, move |fs, inode| fs.try_truncate(inode, size));
    }

    /// fallocate(2): `mode` may have `FALLOC_FL_KEEP_SIZE` with `FALLOC_FL_PUNCH_HOLE` or `FALLOC_FL_ZERO_RANGE`. The
    /// volume is sparse, so plain allocation only sets the size.
    pub fn allocate(self: &Arc<Self>, ino: u64, offset: u64, length: u64, mode: i32, done: impl Answer) {
        let keep = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let end = offset.saturating_add(length);
        if length == 0 {
            return done(Err(FsError::Invalid));
        }
        if end > FILE_MAX {
            return done(Err(FsError::TooLarge));
        }
        match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 if keep => done(self.check_writable().map(|()| self.last())),
            0 => self.change_size(ino, done, move |fs, inode| fs.try_grow(inode, end)),
            libc::FALLOC_FL_PUNCH_HOLE if keep => {
                self.change_size(ino, done, move |fs, inode| fs.try_zero(inode, offset, end, true));
            }
            libc::FALLOC_FL_ZERO_RANGE => {
                self.change_size(ino, done, move |fs, inode| fs.try_zero(inode, offset, end, keep));
            }
            _ => done(Err(FsError::NotSupported)),
        }
    }

    fn change_size(
        self: &Arc<Self>,
        ino: u64,
        done: impl Answer,
        attempt: impl Fn(&Arc<PageFs>, &Arc<Inode>) -> Result<Attempt, FsError> + Send + 'static,
    ) {
        let inode = match self.inode(ino) {
            Ok(inode) if inode.kind == Kind::File => inode,
            Ok(inode) if inode.kind == Kind::Directory => return done(Err(FsError::IsDirectory)),
            Ok(_) => return done(Err(FsError::Invalid)),
            Err(error) => return done(Err(error)),
        };
        self.forget_part(&inode);
        let mut missing = Vec::new();
        if !self.is_lagging() {
            match attempt(self, &inode) {
                Ok(Attempt::Done(lsn)) => return done(Ok(lsn)),
                Ok(Attempt::Missing(blocks)) => missing = blocks,
                Ok(Attempt::Full) => {}
                Err(error) => return done(Err(error)),
            }
        }
        self.attempt_later(inode, &missing, attempt, done);
    }

    fn try_truncate(self: &Arc<Self>, inode: &Arc<Inode>, size: u64) -> Result<Attempt, FsError> {
        self.check_writable()?;
        if size > FILE_MAX {
            return Err(FsError::TooLarge);
        }
        let mut order = inode.lock_order();
        if size >= order.size {
            return self.grow(inode, &mut order, size).map(Attempt::Done);
        }
        if !self.has_room(inode, 1) {
            return Ok(Attempt::Full);
        }
        // The part of the last page that is cut off becomes zero now, so that it is when the file grows again.
        let mut changes = Vec::new();
        let mut changed = Vec::new();
        if let Err(block) = self.zero_part(inode, size, blocks(size) * PAGE, &mut changes, &mut changed) {
            return Ok(Attempt::Missing(vec![block]));
        }
        let start = blocks(size);
        let trim_end = order.trim_end.max(inode.lock_zeroes().written_end);
        let at_once = trim_end.saturating_sub(start) <= TRIM_AT_ONCE;
        if at_once {
            changes.extend(zeroing(inode.ino, start..trim_end));
        }
        let kept = if at_once || trim_end <= start { 0 } else { trim_end };
        let now = now();
        let record = InodeRecord { size, trim_end: kept, mtime: now, ctime: now, ..order.clone() };
        let lsn = self.resubmit(inode, &mut order, record, changes)?;
        self.publish_pages(inode, changed, lsn);
        self.forget_blocks(inode, start..trim_end, if at_once { lsn } else { NEVER });
        drop(order);
        if !at_once {
            self.trim_later(Arc::clone(inode));
        }
        Ok(Attempt::Done(lsn))
    }

    fn try_grow(self: &Arc<Self>, inode: &Arc<Inode>, size: u64) -> Result<Attempt, FsError> {
        self.check_writable()?;
        let mut order = inode.lock_order();
        if size <= order.size {
            return Ok(Attempt::Done(self.last()));
        }
        self.grow(inode, &mut order, size).map(Attempt::Done)
    }

    fn grow(&self, inode: &Inode, order: &mut MutexGuard<'_, InodeRecord>, size: u64) -> Result<Lsn, FsError> {
        if size > order.size {
            self.finish_trim(inode, order)?;
        }
        let now = now();
        let record = InodeRecord { size, mtime: now, ctime: now, ..order.clone() };
        self.resubmit(inode, order, record, Vec::new())
    }

    /// Submits an inode's new record together with `changes`, and makes it visible.
    fn resubmit(
        &self,
        inode: &Inode,
        order: &mut InodeRecord,
        record: InodeRecord,
        mut changes: Vec<Change<Delta>>,
    ) -> Result<Lsn, FsError> {
        self.reserve(blocks(order.size), blocks(record.size))?;
        changes.extend(InodeRecord::change(inode.slot, Some(order), Some(&record)));
        let lsn = match self.submit(changes) {
            Ok(lsn) => lsn,
            Err(error) => {
                self.unreserve(blocks(order.size), blocks(record.size));
                return Err(error);
            }
        };
        self.unreserve(blocks(record.size), blocks(order.size));
        inode.lock_view().record = record.clone();
        *order = record;
        Ok(lsn)
    }

    /// Makes `start..end` zero. With `keep`, the size stays, and bytes past the end of the file are unspecified.
    fn try_zero(self: &Arc<Self>, inode: &Arc<Inode>, start: u64, end: u64, keep: bool) -> Result<Attempt, FsError> {
        self.check_writable()?;
        let mut order = inode.lock_order();
        if !self.has_room(inode, 2) {
            return Ok(Attempt::Full);
        }
        let size = if keep { order.size } else { order.size.max(end) };
        let end = end.min(size);
        if start >= end {
            return Ok(Attempt::Done(self.last()));
        }
        if size > order.size {
            self.finish_trim(inode, &mut order)?;
        }
        // The end of the file is the end of its last page: behind it there are only zeros.
        let whole = blocks(start)..if end == size { blocks(end) } else { end / PAGE };
        let mut changes = Vec::new();
        let mut changed = Vec::new();
        let parts = if whole.start > whole.end || (whole.start == whole.end && start / PAGE == end / PAGE) {
            [(start, end), (0, 0)]
        } else {
            [(start, whole.start * PAGE), (whole.end * PAGE, end)]
        };
        for (from, to) in parts.into_iter().filter(|(from, to)| from < to) {
            if let Err(block) = self.zero_part(inode, from, to, &mut changes, &mut changed) {
                return Ok(Attempt::Missing(vec![block]));
            }
        }
        let until = whole.end.min(inode.lock_zeroes().written_end);
        let first = whole.start..until.min(whole.start.saturating_add(ZERO_STEP)).max(whole.start);
        // The size grows in the mini-transaction that zeroes: a crash leaves both or neither.
        let now = now();
        let record = InodeRecord { size, mtime: now, ctime: now, ..order.clone() };
        changes.extend(zeroing(inode.ino, first.clone()));
        let lsn = self.resubmit(inode, &mut order, record, changes)?;
        self.publish_pages(inode, changed, lsn);
        self.zeroed(inode, first.clone(), lsn);
        self.zero_blocks(inode, first.end..until).map(|rest| Attempt::Done(rest.unwrap_or(lsn)))
    }

    /// Zeroes whole blocks, in as many mini-transactions as it takes. `None`: there were none.
    fn zero_blocks(&self, inode: &Inode, blocks: Range<u64>) -> Result<Option<Lsn>, FsError> {
        let mut last = None;
        let mut start = blocks.start;
        while start < blocks.end {
            let step = start..blocks.end.min(start.saturating_add(ZERO_STEP));
            let lsn = self.submit(zeroing(inode.ino, step.clone()).collect())?;
            start = step.end;
            self.zeroed(inode, step, lsn);
            last = Some(lsn);
        }
        Ok(last)
    }

    /// The change that makes `from..to`, which lie in one page, zero. `Err`: that block must be fetched first.
    fn zero_part(
        &self,
        inode: &Inode,
        from: u64,
        to: u64,
        changes: &mut Vec<Change<Delta>>,
        changed: &mut Vec<(PageId, PageImage)>,
    ) -> Result<(), u64> {
        if from >= to {
            return Ok(());
        }
        let block = from / PAGE;
        let page = PageId { inode: inode.ino, block };
        let old = self.page_if_known(inode, block).ok_or(block)?;
        let zeros = [0; PAGE_SIZE];
        if let Some((image, payload)) = overwritten(&old, block * PAGE, from, &zeros[..(to - from) as usize]) {
            changes.push(Change { page, payload });
            changed.push((page, image));
        }
        Ok(())
    }

    /// Whether `pages` more can be pinned, and one more zero range be remembered.
    fn has_room(&self, inode: &Inode, pages: usize) -> bool {
        self.cache.has_room_for(pages * PAGE_SIZE, || self.volume.vdl())
            && inode.lock_zeroes().has_room(|| self.volume.vdl())
    }

    /// The blocks have no content any more: zero for everyone, from storage only once `until` is durable.
    fn zeroed(&self, inode: &Inode, range: Range<u64>, until: Lsn) {
        if range.is_empty() {
            return;
        }
        let vdl = self.volume.vdl();
        inode.lock_zeroes().add(ZeroRange { start: range.start, end: range.end, until }, vdl);
        range.for_each(|block| self.cache.discard(PageId { inode: inode.ino, block }));
    }

    /// The file ends before `range` now.
    fn forget_blocks(&self, inode: &Inode, range: Range<u64>, until: Lsn) {
        let mut zeroes = inode.lock_zeroes();
        zeroes.written_end = zeroes.written_end.min(range.start);
        zeroes.ranges.retain(|range| range.until != NEVER);
        drop(zeroes);
        self.zeroed(inode, range, until);
    }

    /// Zeroes everything that a former truncation left, so that the file can grow.
    pub(super) fn finish_trim(&self, inode: &Inode, order: &mut InodeRecord) -> Result<(), FsError> {
        while self.trim_step(inode, order)? {}
        Ok(())
    }

    /// Zeroes some of what a truncation left; returns whether there is more.
    fn trim_step(&self, inode: &Inode, order: &mut InodeRecord) -> Result<bool, FsError> {
        let (low, high) = (blocks(order.size), order.trim_end);
        if high <= low {
            return Ok(false);
        }
        let start = low.max(high.saturating_sub(TRIM_STEP));
        let more = start > low;
        let record = InodeRecord { trim_end: if more { start } else { 0 }, ..order.clone() };
        let mut changes: Vec<_> = zeroing(inode.ino, start..high).collect();
        changes.extend(InodeRecord::change(inode.slot, Some(order), Some(&record)));
        let lsn = self.submit(changes)?;
        *order = record;
        if !more {
            let mut zeroes = inode.lock_zeroes();
            zeroes.ranges.iter_mut().filter(|range| range.until == NEVER).for_each(|range| range.until = lsn);
        }
        Ok(more)
    }

    /// Has a worker trim the file, a step at a time, letting others have it in between.
    pub(super) fn trim_later(self: &Arc<Self>, inode: Arc<Inode>) {
        let fs = Arc::clone(self);
        self.workers.run(move || {
            let step = fs.trim_step(&inode, &mut inode.lock_order());
            if fs.should_go_on(step) {
                fs.trim_later(inode);
            }
        });
    }

    /// Gives the inode's space back if it has neither a name nor an open handle.
    pub(super) fn give_back_if_unused(self: &Arc<Self>, inode: &Arc<Inode>) {
        let view = inode.lock_view();
        let unused = view.record.nlink == 0 && view.opens == 0;
        drop(view);
        if unused {
            self.give_back_later(Arc::clone(inode));
        }
    }

    /// Has a worker give an orphan's space back, a step at a time.
    pub(super) fn give_back_later(self: &Arc<Self>, inode: Arc<Inode>) {
        let fs = Arc::clone(self);
        self.workers.run(move || {
            let step = fs.give_back_step(&inode);
            if fs.should_go_on(step) {
                fs.give_back_later(inode);
            }
        });
    }

    /// Whether there is another step. A volume that is only slow is tried again: the failed attempt waited for it.
    fn should_go_on(&self, step: Result<bool, FsError>) -> bool {
        match step {
            Ok(more) => more,
            Err(FsError::Volume(VolumeError::TimedOut)) => !self.is_lost(),
            Err(_) => false,
        }
    }

    fn give_back_step(&self, inode: &Arc<Inode>) -> Result<bool, FsError> {
        let mut order = inode.lock_order();
        let high = order.trim_end.max(inode.lock_zeroes().written_end);
        let low = high.saturating_sub(TRIM_STEP);
        if !self.retire(inode, low == 0) {
            return Ok(false);
        }
        let record = (low > 0).then(|| InodeRecord { size: 0, trim_end: low, ..order.clone() });
        let mut changes: Vec<_> = zeroing(inode.ino, low..high).collect();
        changes.extend(InodeRecord::change(inode.slot, Some(&order), record.as_ref()));
        if let Err(error) = self.submit(changes) {
            inode.lock_view().gone = false;
            return Err(error);
        }
        self.unreserve(0, blocks(order.size));
        order.size = 0;
        order.trim_end = low;
        inode.lock_view().record.size = 0;
        inode.lock_zeroes().written_end = low;
        (low..high).for_each(|block| self.cache.discard(PageId { inode: inode.ino, block }));
        drop(order);
        if low > 0 {
            return Ok(true);
        }
        self.remove_inode(inode.ino);
        lock(&self.tree).free_slots.push(inode.slot);
        Ok(false)
    }

    /// Whether the inode is (still) an orphan that no process has open. `for_good`: from now on it can't be opened.
    fn retire(&self, inode: &Inode, for_good: bool) -> bool {
        let mut view = inode.lock_view();
        if view.opens > 0 || view.record.nlink > 0 || view.gone {
            return false;
        }
        view.gone = for_good;
        true
    }
}

fn zeroing(ino: u64, range: Range<u64>) -> impl Iterator<Item = Change<Delta>> {
    range.map(move |block| Change { page: PageId { inode: ino, block }, payload: Delta::zero() })
}
