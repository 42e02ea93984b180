//! Reading, writing and cutting files.

use super::node::{Cut, Ours};
use super::{ReaderFs, State};
use crate::error::FsError;
use crate::fs::{Answer, FetchDone, ReadData, gathering, now};
use crate::layout::{FILE_MAX, Kind, blocks};
use auriga_page::{PAGE_SIZE, PageImage};
use auriga_protocol::{Lsn, PageId};
use bytes::Bytes;
use std::sync::Arc;

const PAGE: u64 = PAGE_SIZE as u64;

/// What a look for a page finds.
pub(super) enum Found {
    Page(PageImage),
    /// It has to be read from the volume, as of this point.
    Missing(PageId, Lsn),
}

/// What an attempt to change a file comes to.
enum Attempt {
    Done,
    /// This block must be in memory first.
    Missing(PageId, Lsn),
}

impl State {
    /// A block of a file, as the reader sees it. The caller has looked at the file's end.
    pub(super) fn look(&mut self, ino: u64, block: u64) -> Result<Found, FsError> {
        let node = self.nodes.get(&ino).ok_or(FsError::NotFound)?;
        if let Some(ours) = node.pages.get(&block) {
            return Ok(Found::Page(self.store.get(&ours.stored)?));
        }
        match node.base {
            Some(inode) => self.look_below(inode, block),
            None => Ok(Found::Page(PageImage::default())),
        }
    }

    /// A block of an inode of the volume; zeros behind its end.
    pub(super) fn look_below(&mut self, inode: u64, block: u64) -> Result<Found, FsError> {
        let size = self.record_of(inode).map_or(0, |record| record.size);
        if block >= blocks(size) {
            return Ok(Found::Page(PageImage::default()));
        }
        let page = PageId { inode, block };
        Ok(match self.pages.get(page) {
            Some(image) => Found::Page(image),
            None => Found::Missing(page, self.point_of(inode)),
        })
    }

    /// Puts a page into the overlay.
    pub(super) fn put(&mut self, ino: u64, block: u64, page: PageImage, is_tagged: bool) -> Result<(), FsError> {
        let node = self.nodes.get_mut(&ino).ok_or(FsError::NotFound)?;
        let follows = node.class.follows();
        let stored = self.store.put(page, !follows)?;
        let is_tagged = is_tagged || node.pages.get(&block).is_some_and(|former| former.is_tagged);
        if let Some(former) = node.pages.insert(block, Ours { stored, is_tagged }) {
            self.store.free(former.stored);
        }
        if follows {
            self.note_page(ino, block);
        }
        Ok(())
    }

    /// Sets the size after a change that reaches to `end`, if that is behind the end of the file. Where the volume may
    /// hold what the reader has cut off, blocks that were jumped over become zeros of the reader's own.
    fn grow(&mut self, ino: u64, end: u64, written: u64) -> Result<(), FsError> {
        let node = self.node(ino)?;
        let (size, cut) = (self.size_of(node), node.cut);
        if end <= size {
            return Ok(());
        }
        if let Some(cut) = cut {
            for block in blocks(size).max(cut.from)..written.min(blocks(end)) {
                self.put(ino, block, PageImage::default(), true)?;
            }
        }
        self.node_mut(ino)?.size = Some(end);
        self.note_size(ino);
        Ok(())
    }

    fn try_write(&mut self, ino: u64, offset: u64, data: &[u8]) -> Result<Attempt, FsError> {
        let node = self.node(ino)?;
        check_file(node.record.kind)?;
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= FILE_MAX).ok_or(FsError::TooLarge)?;
        let (size, cut) = (self.size_of(node), node.cut);
        let mut changed = Vec::with_capacity(1 + data.len() / PAGE_SIZE);
        for block in offset / PAGE..blocks(end) {
            let whole = offset <= block * PAGE && (block + 1) * PAGE <= end;
            let old = match whole || block >= blocks(size) {
                true => PageImage::default(),
                false => match self.look(ino, block)? {
                    Found::Page(page) => page,
                    Found::Missing(page, at) => return Ok(Attempt::Missing(page, at)),
                },
            };
            changed.push((block, overwritten(&old, block * PAGE, offset, data)));
        }
        self.grow(ino, end, offset / PAGE)?;
        for (block, page) in changed {
            let is_new = block >= blocks(size);
            self.put(ino, block, page, is_new && cut.is_some_and(|cut| block >= cut.from))?;
        }
        self.touch(ino);
        Ok(Attempt::Done)
    }

    fn try_truncate(&mut self, ino: u64, size: u64) -> Result<Attempt, FsError> {
        let node = self.node(ino)?;
        check_file(node.record.kind)?;
        if size > FILE_MAX {
            return Err(FsError::TooLarge);
        }
        let (former, follows) = (self.size_of(node), node.class.follows());
        if size >= former {
            self.grow(ino, size, u64::MAX)?;
            self.touch(ino);
            return Ok(Attempt::Done);
        }
        if !size.is_multiple_of(PAGE) {
            match self.look(ino, size / PAGE)? {
                Found::Missing(page, at) => return Ok(Attempt::Missing(page, at)),
                Found::Page(page) => {
                    let mut bytes = page.content().to_vec();
                    bytes[(size % PAGE) as usize..].fill(0);
                    self.put(ino, size / PAGE, image_of(bytes), follows)?;
                }
            }
        }
        let node = self.nodes.get_mut(&ino).ok_or(FsError::NotFound)?;
        for (_, ours) in node.pages.split_off(&blocks(size)) {
            self.store.free(ours.stored);
        }
        node.size = Some(size);
        if follows {
            // R-READER-FS-9: the volume may hold what was cut off until it is seen to have been cut, too.
            let from = node.cut.map_or(u64::MAX, |cut| cut.from).min(blocks(size));
            node.cut = Some(Cut { from, replayed: None });
            self.cuts.insert(ino);
            self.note_size(ino);
        }
        self.touch(ino);
        Ok(Attempt::Done)
    }

    fn try_zero(&mut self, ino: u64, offset: u64, end: u64, keep: bool) -> Result<Attempt, FsError> {
        let size = self.size_of(self.node(ino)?);
        let end = if keep { end.min(size) } else { end };
        let mut at = offset;
        while at < end {
            let until = end.min((at / PAGE + 1) * PAGE);
            let zeros = vec![0; (until - at) as usize];
            if let Attempt::Missing(page, point) = self.try_write(ino, at, &zeros)? {
                return Ok(Attempt::Missing(page, point));
            }
            at = until;
        }
        Ok(Attempt::Done)
    }

    fn touch(&mut self, ino: u64) {
        let now = now();
        if let Some(node) = self.nodes.get_mut(&ino) {
            (node.record.mtime, node.record.ctime) = (now, now);
        }
    }
}

fn check_file(kind: Kind) -> Result<(), FsError> {
    match kind {
        Kind::File => Ok(()),
        Kind::Directory => Err(FsError::IsDirectory),
        _ => Err(FsError::Invalid),
    }
}

impl ReaderFs {
    /// Reads up to `size` bytes of a file at `offset`, all as of one moment; nothing at or behind its end.
    pub fn read<F>(self: &Arc<Self>, ino: u64, offset: u64, size: u32, done: F)
    where
        F: FnOnce(Result<ReadData, FsError>) + Send + 'static,
    {
        let mut state = self.lock();
        let end = match state.node(ino).and_then(|node| check_file(node.record.kind).map(|()| state.size_of(node))) {
            Ok(end) => end.min(offset.saturating_add(u64::from(size))),
            Err(error) => return done(Err(error)),
        };
        if offset >= end {
            drop(state);
            return done(Ok(ReadData::new(Vec::new(), 0, 0)));
        }
        let wanted = offset / PAGE..blocks(end);
        let (from, len) = ((offset % PAGE) as usize, (end - offset) as usize);
        let found: Result<Vec<Found>, FsError> = wanted.clone().map(|block| state.look(ino, block)).collect();
        let found = match found {
            Ok(found) => found,
            Err(error) => return done(Err(error)),
        };
        let missing: Vec<(PageId, Lsn)> = found.iter().filter_map(Found::missing).collect();
        let known: Vec<Option<PageImage>> = found.into_iter().map(Found::page).collect();
        if missing.is_empty() {
            drop(state);
            return done(Ok(ReadData::new(known.into_iter().flatten().collect(), from, len)));
        }
        let fetches = gathering(wanted, known, from, len, done);
        let mut begun = Vec::new();
        for ((page, at), (_, done)) in missing.into_iter().zip(fetches) {
            if state.pages.wait(page, at, done) {
                begun.push((page, at));
            }
        }
        drop(state);
        begun.into_iter().for_each(|(page, at)| self.begin_read(page, at));
    }

    /// Reads what [`Pages::wait`](super::pages::Pages::wait) said has to be read.
    pub(super) fn begin_read(self: &Arc<Self>, page: PageId, at: Lsn) {
        let fs = Arc::clone(self);
        let callback = Box::new(move |answer: Result<auriga_volume::PageRead, _>| {
            let answer = answer.map(|read| read.page).map_err(FsError::from);
            let waiting = fs.lock().pages.read(page, at, answer.as_ref().ok());
            waiting.into_iter().for_each(|done| done(answer.clone()));
        });
        self.volume.read(page, at, self.deadline(), callback);
    }

    /// Tries a change until what it needs is in memory.
    fn change(
        self: &Arc<Self>,
        attempt: impl Fn(&mut State) -> Result<Attempt, FsError> + Send + 'static,
        done: impl Answer,
    ) {
        let mut state = self.lock();
        match attempt(&mut state) {
            Ok(Attempt::Done) => {
                drop(state);
                done(Ok(Lsn::ZERO));
            }
            Err(error) => {
                drop(state);
                done(Err(error));
            }
            Ok(Attempt::Missing(page, at)) => {
                let fs = Arc::clone(self);
                let again: FetchDone = Box::new(move |answer| match answer {
                    // On another thread: it may be missing again, and this one may be in the middle of asking for it.
                    Ok(_) => fs.clone().run_later(move |_| fs.change(attempt, done)),
                    Err(error) => done(Err(error)),
                });
                let is_new = state.pages.wait(page, at, again);
                drop(state);
                if is_new {
                    self.begin_read(page, at);
                }
            }
        }
    }

    /// Writes `data` at `offset`, to the overlay.
    pub fn write(self: &Arc<Self>, ino: u64, offset: u64, data: &[u8], done: impl Answer) {
        let data = data.to_vec();
        self.change(move |state| state.try_write(ino, offset, &data), done);
    }

    /// Sets a file's size; bytes that it gains are zero.
    pub fn truncate(self: &Arc<Self>, ino: u64, size: u64, done: impl Answer) {
        self.change(move |state| state.try_truncate(ino, size), done);
    }

    /// fallocate(2), as [`PageFs::allocate`](crate::PageFs::allocate) has it.
    pub fn allocate(self: &Arc<Self>, ino: u64, offset: u64, length: u64, mode: i32, done: impl Answer) {
        let keep = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let end = offset.saturating_add(length);
        match mode & !libc::FALLOC_FL_KEEP_SIZE {
            _ if length == 0 => done(Err(FsError::Invalid)),
            _ if end > FILE_MAX => done(Err(FsError::TooLarge)),
            0 if keep => done(Ok(Lsn::ZERO)),
            0 => {
                let grow = move |state: &mut State| match end > state.size_of(state.node(ino)?) {
                    true => state.try_truncate(ino, end),
                    false => Ok(Attempt::Done),
                };
                self.change(grow, done);
            }
            libc::FALLOC_FL_PUNCH_HOLE if keep => {
                self.change(move |state| state.try_zero(ino, offset, end, true), done);
            }
            libc::FALLOC_FL_ZERO_RANGE => self.change(move |state| state.try_zero(ino, offset, end, keep), done),
            _ => done(Err(FsError::NotSupported)),
        }
    }
}

impl Found {
    fn missing(&self) -> Option<(PageId, Lsn)> {
        match self {
            Found::Page(_) => None,
            Found::Missing(page, at) => Some((*page, *at)),
        }
    }

    fn page(self) -> Option<PageImage> {
        match self {
            Found::Page(page) => Some(page),
            Found::Missing(..) => None,
        }
    }
}

/// The page that begins at `page_at` of the file, after `data` was written at `offset`.
fn overwritten(old: &PageImage, page_at: u64, offset: u64, data: &[u8]) -> PageImage {
    let (first, skip) = match offset.checked_sub(page_at) {
        Some(first) => (first as usize, 0),
        None => (0, (page_at - offset) as usize),
    };
    let part = &data[skip..data.len().min(skip + PAGE_SIZE - first)];
    if part.len() == PAGE_SIZE {
        return image_of(part.to_vec());
    }
    let mut bytes = old.content().to_vec();
    bytes[first..first + part.len()].copy_from_slice(part);
    image_of(bytes)
}

fn image_of(bytes: Vec<u8>) -> PageImage {
    PageImage::new(Bytes::from(bytes)).expect("made with the length of a page")
}
