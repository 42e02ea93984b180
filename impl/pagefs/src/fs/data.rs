//! Reading and writing files.

use super::attempt::{Answer, Attempt, FetchDone};
use super::{PageFs, now};
use crate::error::FsError;
use crate::inode::{Inode, lock};
use crate::layout::{FILE_MAX, InodeRecord, Kind, blocks};
use auriga_page::{Delta, PAGE_SIZE, PageImage};
use auriga_protocol::{Change, Lsn, PageId};
use bytes::Bytes;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

pub(super) const PAGE: u64 = PAGE_SIZE as u64;

/// What is read ahead of one reader may take up to this part of the cache.
const READ_AHEAD_SHARE: usize = 16;

/// What was read: parts of pages, not copied unless several must become one piece.
pub struct ReadData {
    pages: Vec<PageImage>,
    /// Offset in the first page.
    from: usize,
    len: usize,
}

impl ReadData {
    /// `len` bytes of `pages` (which are one behind the other), from `from` on.
    pub(crate) fn new(pages: Vec<PageImage>, from: usize, len: usize) -> ReadData {
        ReadData { pages, from, len }
    }

    /// Bytes that were read: fewer than asked for only at the end of the file.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there was nothing to read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls `use_it` with all bytes in one piece.
    pub fn with<T>(&self, use_it: impl FnOnce(&[u8]) -> T) -> T {
        match &self.pages[..] {
            [] => use_it(&[]),
            [page] => use_it(&page.content()[self.from..self.from + self.len]),
            pages => {
                let mut bytes = Vec::with_capacity(pages.len() * PAGE_SIZE);
                pages.iter().for_each(|page| bytes.extend_from_slice(page.content()));
                use_it(&bytes[self.from..self.from + self.len])
            }
        }
    }
}

/// Pages of one read that come one by one.
struct Gathering<F> {
    state: Mutex<GatheringState<F>>,
}

struct GatheringState<F> {
    pages: Vec<PageImage>,
    left: usize,
    from: usize,
    len: usize,
    failure: Option<FsError>,
    done: Option<F>,
}

impl PageFs {
    /// Reads up to `size` bytes of a file at `offset`; nothing at or behind its end.
    pub fn read<F>(self: &Arc<Self>, ino: u64, offset: u64, size: u32, done: F)
    where
        F: FnOnce(Result<ReadData, FsError>) + Send + 'static,
    {
        self.counters.read();
        let inode = match self.readable(ino) {
            Ok(inode) => inode,
            Err(error) => return done(Err(error)),
        };
        let file_size = inode.lock_view().record.size;
        let end = offset.saturating_add(u64::from(size)).min(file_size);
        if offset >= end {
            return done(Ok(ReadData { pages: Vec::new(), from: 0, len: 0 }));
        }
        let wanted = offset / PAGE..blocks(end);
        if inode.is_relation.load(Relaxed) {
            self.note_shown(&inode, &wanted);
        }
        let (from, len) = ((offset % PAGE) as usize, (end - offset) as usize);
        let ahead = self.read_ahead_of(&inode, &wanted);

        let known: Vec<Option<PageImage>> = wanted.clone().map(|block| self.page_if_known(&inode, block)).collect();
        if known.iter().all(Option::is_some) {
            let pages = known.into_iter().flatten().collect();
            done(Ok(ReadData { pages, from, len }));
            return self.fetch_all(&inode, ahead);
        }
        let mut fetches = gathering(wanted, known, from, len, done);
        fetches.extend(ahead);
        self.fetch_all(&inode, fetches);
    }

    /// Returns what to fetch besides `wanted`, for which no reader waits yet.
    fn read_ahead_of(&self, inode: &Inode, wanted: &Range<u64>) -> Vec<(u64, FetchDone)> {
        let most = (self.options.cache_bytes / READ_AHEAD_SHARE / PAGE_SIZE) as u64;
        let ahead = lock(&inode.read_ahead).read(wanted, most);
        if ahead.is_empty() {
            return Vec::new();
        }
        let written_end = inode.lock_zeroes().written_end;
        let uncached = |block: &u64| !self.cache.contains(PageId { inode: inode.ino, block: *block });
        let nobody = |block| (block, Box::new(|_| ()) as FetchDone);
        (ahead.start..ahead.end.min(written_end)).filter(uncached).map(nobody).collect()
    }

    fn readable(&self, ino: u64) -> Result<Arc<Inode>, FsError> {
        let inode = self.inode(ino)?;
        match inode.kind {
            Kind::File => Ok(inode),
            Kind::Directory => Err(FsError::IsDirectory),
            _ => Err(FsError::Invalid),
        }
    }

    /// Writes `data` at `offset`, all of it or nothing. `done` has the LSN at which it is durable.
    pub fn write(self: &Arc<Self>, ino: u64, offset: u64, data: &[u8], done: impl Answer) {
        self.counters.wrote();
        let inode = match self.readable(ino) {
            Ok(inode) => inode,
            Err(error) => return done(Err(error)),
        };
        if !inode.is_relation.load(Relaxed) {
            return self.write_bytes(inode, offset, data, done);
        }
        let whole = match self.whole_pages(&inode, offset, data) {
            Ok(whole) => whole,
            Err(error) => return done(Err(error)),
        };
        let fs = whole.is_known_otherwise.then(|| Arc::clone(self));
        let done = move |written| {
            done(written);
            fs.into_iter().for_each(|fs| fs.forget_later(ino));
        };
        if whole.pages.is_empty() {
            done(Ok(self.last()));
        } else {
            self.write_bytes(inode, whole.offset, &whole.pages, done);
        }
    }

    fn write_bytes(self: &Arc<Self>, inode: Arc<Inode>, offset: u64, data: &[u8], done: impl Answer) {
        // What is written is a difference, so a sequential writer (a checkpoint) needs the pages ahead of it, too.
        let ahead = self.read_ahead_of(&inode, &(offset / PAGE..blocks(offset.saturating_add(data.len() as u64))));
        let mut missing = Vec::new();
        if !self.is_lagging() {
            match self.try_write(&inode, offset, data) {
                Ok(Attempt::Done(lsn)) => {
                    done(Ok(lsn));
                    return self.fetch_all(&inode, ahead);
                }
                Ok(Attempt::Missing(blocks)) => missing = blocks,
                Ok(Attempt::Full) => {}
                Err(error) => return done(Err(error)),
            }
        }
        let data = data.to_vec();
        self.attempt_later(Arc::clone(&inode), &missing, move |fs, inode| fs.try_write(inode, offset, &data), done);
        self.fetch_all(&inode, ahead);
    }

    fn try_write(self: &Arc<Self>, inode: &Arc<Inode>, offset: u64, data: &[u8]) -> Result<Attempt, FsError> {
        self.check_writable()?;
        if data.is_empty() {
            return Ok(Attempt::Done(self.last()));
        }
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= FILE_MAX).ok_or(FsError::TooLarge)?;
        if !self.cache.has_room_for(data.len() + 2 * PAGE_SIZE, || self.volume.vdl()) {
            return Ok(Attempt::Full);
        }
        let mut order = inode.lock_order();
        if end > order.size {
            self.finish_trim(inode, &mut order)?;
        }
        let mut missing = Vec::new();
        let mut changed = Vec::with_capacity(1 + data.len() / PAGE_SIZE);
        let mut changes = Vec::with_capacity(2 + data.len() / PAGE_SIZE);
        for block in offset / PAGE..blocks(end) {
            let Some(old) = self.page_if_known(inode, block) else {
                missing.push(block);
                continue;
            };
            if missing.is_empty()
                && let Some((image, payload)) = overwritten(&old, block * PAGE, offset, data)
            {
                let page = PageId { inode: inode.ino, block };
                changes.push(Change { page, payload });
                changed.push((page, image));
            }
        }
        if !missing.is_empty() {
            return Ok(Attempt::Missing(missing));
        }
        self.finish_write(inode, &mut order, end, changes, changed).map(Attempt::Done)
    }

    /// Submits a write's changes, with the new size if it grows, and makes them visible.
    fn finish_write(
        &self,
        inode: &Inode,
        order: &mut InodeRecord,
        end: u64,
        mut changes: Vec<Change<Delta>>,
        changed: Vec<(PageId, PageImage)>,
    ) -> Result<Lsn, FsError> {
        let now = now();
        let grown = if end > order.size {
            self.reserve(blocks(order.size), blocks(end))?;
            let record = InodeRecord { size: end, mtime: now, ctime: now, ..order.clone() };
            changes.extend(InodeRecord::change(inode.slot, Some(order), Some(&record)));
            Some(record)
        } else {
            None
        };
        let lsn = match self.submit(changes) {
            Ok(lsn) => lsn,
            Err(error) => {
                self.unreserve(blocks(order.size), blocks(grown.map_or(0, |record| record.size)));
                return Err(error);
            }
        };
        self.publish_pages(inode, changed, lsn);
        let mut view = inode.lock_view();
        (view.record.mtime, view.record.ctime) = (now, now);
        if let Some(record) = grown {
            view.record.size = record.size;
            *order = record;
        }
        Ok(lsn)
    }

    /// Makes changed pages visible to readers.
    pub(super) fn publish_pages(&self, inode: &Inode, changed: Vec<(PageId, PageImage)>, lsn: Lsn) {
        let Some(written_end) = changed.iter().map(|(page, _)| page.block + 1).max() else { return };
        let vdl = self.volume.vdl();
        for (page, image) in changed {
            self.cache.put(page, image, lsn, vdl);
        }
        let mut zeroes = inode.lock_zeroes();
        zeroes.written_end = zeroes.written_end.max(written_end);
    }

    /// Counts blocks that a file grows by.
    pub(super) fn reserve(&self, from: u64, to: u64) -> Result<(), FsError> {
        let grows = to.saturating_sub(from);
        let used = self.used_blocks.fetch_add(grows, Relaxed) + grows;
        if grows > 0 && self.options.capacity.is_some_and(|capacity| used.saturating_mul(PAGE) > capacity) {
            self.used_blocks.fetch_sub(grows, Relaxed);
            return Err(FsError::NoSpace);
        }
        Ok(())
    }

    /// Takes back what [`PageFs::reserve`] counted.
    pub(super) fn unreserve(&self, from: u64, to: u64) {
        self.used_blocks.fetch_sub(to.saturating_sub(from), Relaxed);
    }

    /// Blocks that files' sizes cover, directories included.
    pub fn used_blocks(&self) -> u64 {
        self.used_blocks.load(Relaxed)
    }
}

/// The fetches of what is not known of `wanted`; the last to end answers.
pub(crate) fn gathering<F>(
    wanted: Range<u64>,
    known: Vec<Option<PageImage>>,
    from: usize,
    len: usize,
    done: F,
) -> Vec<(u64, FetchDone)>
where
    F: FnOnce(Result<ReadData, FsError>) + Send + 'static,
{
    let missing: Vec<(usize, u64)> = wanted.enumerate().filter(|(index, _)| known[*index].is_none()).collect();
    let pages = known.into_iter().map(Option::unwrap_or_default).collect();
    let state = GatheringState { pages, left: missing.len(), from, len, failure: None, done: Some(done) };
    let gathering = Arc::new(Gathering { state: Mutex::new(state) });
    let fetch = |(index, block)| {
        let gathering = Arc::clone(&gathering);
        (block, Box::new(move |result| gathering.take(index, result)) as FetchDone)
    };
    missing.into_iter().map(fetch).collect()
}

impl<F: FnOnce(Result<ReadData, FsError>)> Gathering<F> {
    fn take(&self, index: usize, result: Result<PageImage, FsError>) {
        let mut state = lock(&self.state);
        match result {
            Ok(page) => state.pages[index] = page,
            Err(error) => state.failure = Some(error),
        }
        state.left -= 1;
        if state.left > 0 {
            return;
        }
        let Some(done) = state.done.take() else { return };
        let data = ReadData { pages: std::mem::take(&mut state.pages), from: state.from, len: state.len };
        let result = state.failure.map_or(Ok(data), Err);
        drop(state);
        done(result);
    }
}

/// The page that begins at `page_at` of the file, after `data` was written at `offset`, and how it changed; `None`: it
/// did not.
pub(super) fn overwritten(old: &PageImage, page_at: u64, offset: u64, data: &[u8]) -> Option<(PageImage, Delta)> {
    let (first, skip) = match offset.checked_sub(page_at) {
        Some(first) => (first as usize, 0),
        None => (0, (page_at - offset) as usize),
    };
    let part = &data[skip..data.len().min(skip + PAGE_SIZE - first)];
    if part.len() == PAGE_SIZE {
        let delta = Delta::between(old.content(), part)?;
        return Some((image_of(Bytes::copy_from_slice(part)), delta));
    }
    let mut new = Vec::with_capacity(PAGE_SIZE);
    new.extend_from_slice(old.content());
    new[first..first + part.len()].copy_from_slice(part);
    let delta = Delta::between(old.content(), &new)?;
    Some((image_of(new.into()), delta))
}

fn image_of(bytes: Bytes) -> PageImage {
    PageImage::new(bytes).expect("made with the length of a page")
}
