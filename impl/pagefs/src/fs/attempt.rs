//! Operations that may find something missing, and are tried again when it is there.
//!
//! An attempt holds the locks it needs, looks whether every page it must know is cached and whether there is room, and
//! either does the whole thing or says what it lacks, having changed nothing. So no lock is held while storage is
//! asked, and the code that decides has no second, asynchronous version.

use super::PageFs;
use crate::cache::{Fetch, FetchEnd, Fetched};
use crate::error::FsError;
use crate::inode::Inode;
use auriga_page::PageImage;
use auriga_protocol::{Lsn, PageId};
use auriga_volume::{Callback, PageRead, VolumeError};
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What an attempt comes to.
pub(super) enum Attempt {
    /// Done, by the mini-transaction with this CPL.
    Done(Lsn),
    /// These blocks must be fetched first.
    Missing(Vec<u64>),
    /// Something must become durable first.
    Full,
}

/// What the answer to a change is given to: the LSN at which the change is durable.
pub trait Answer: FnOnce(Result<Lsn, FsError>) + Send + 'static {}
impl<T: FnOnce(Result<Lsn, FsError>) + Send + 'static> Answer for T {}

/// Called with a page that was fetched. Must not block.
pub(crate) type FetchDone = Box<dyn FnOnce(Result<PageImage, FsError>) + Send>;

type Try = Box<dyn Fn(&Arc<PageFs>, &Arc<Inode>) -> Result<Attempt, FsError> + Send>;

/// An operation that waits for what its attempt lacks.
struct Pending {
    inode: Arc<Inode>,
    attempt: Try,
    done: Box<dyn FnOnce(Result<Lsn, FsError>) + Send>,
    deadline: Instant,
}

impl PageFs {
    /// Makes attempts on a worker until one is done, fails, or the deadline has passed; the first when the blocks that
    /// were found `missing` are there.
    pub(super) fn attempt_later(
        self: &Arc<Self>,
        inode: Arc<Inode>,
        missing: &[u64],
        attempt: impl Fn(&Arc<PageFs>, &Arc<Inode>) -> Result<Attempt, FsError> + Send + 'static,
        done: impl Answer,
    ) {
        let deadline = self.deadline();
        let pending = Pending { inode, attempt: Box::new(attempt), done: Box::new(done), deadline };
        match missing {
            [] => self.resume_later(pending),
            missing => self.fetch_then_run(pending, missing),
        }
    }

    fn resume_later(self: &Arc<Self>, pending: Pending) {
        self.run_later(move |fs| fs.run(pending));
    }

    fn run(self: &Arc<Self>, pending: Pending) {
        loop {
            if Instant::now() >= pending.deadline {
                return (pending.done)(Err(FsError::Volume(VolumeError::TimedOut)));
            }
            match (pending.attempt)(self, &pending.inode) {
                Ok(Attempt::Done(lsn)) => return (pending.done)(Ok(lsn)),
                Ok(Attempt::Missing(blocks)) => return self.fetch_then_run(pending, &blocks),
                Ok(Attempt::Full) => {
                    if let Err(error) = self.wait_until_durable() {
                        return (pending.done)(Err(error));
                    }
                }
                Err(error) => return (pending.done)(Err(error)),
            }
        }
    }

    fn fetch_then_run(self: &Arc<Self>, pending: Pending, blocks: &[u64]) {
        let inode = Arc::clone(&pending.inode);
        let waiting = Arc::new(Waiting {
            left: AtomicUsize::new(blocks.len()),
            failure: Mutex::new(None),
            pending: Mutex::new(Some(pending)),
        });
        let fetch = |block: &u64| {
            let (fs, waiting) = (Arc::clone(self), Arc::clone(&waiting));
            let done = move |result: Result<PageImage, FsError>| {
                if let Err(error) = result {
                    crate::inode::lock(&waiting.failure).get_or_insert(error);
                }
                if waiting.left.fetch_sub(1, AcqRel) == 1 {
                    waiting.resume(&fs);
                }
            };
            (*block, Box::new(done) as FetchDone)
        };
        self.fetch_all(&inode, blocks.iter().map(fetch).collect());
    }

    /// Gets pages of a file, from wherever they are; calls back at once for those that are not in storage. What storage
    /// is asked for, it is asked for together.
    pub(super) fn fetch_all(self: &Arc<Self>, inode: &Arc<Inode>, fetches: Vec<(u64, FetchDone)>) {
        let mut reads: Vec<(PageId, Callback<PageRead>)> = Vec::new();
        let deadline = self.deadline();
        for (block, done) in fetches {
            if let Some(page) = self.begin_fetch(inode, block, done) {
                reads.push((page, self.end_of_fetch(inode, page, deadline)));
            }
        }
        if !reads.is_empty() {
            self.volume.read_all(reads, deadline);
        }
    }

    /// What takes storage's answer for a page.
    fn end_of_fetch(self: &Arc<Self>, inode: &Arc<Inode>, page: PageId, deadline: Instant) -> Callback<PageRead> {
        let (fs, inode) = (Arc::clone(self), Arc::clone(inode));
        Box::new(move |answer| fs.end_fetch(&inode, page, answer, deadline))
    }

    /// Storage has answered for a page. When the page was changed since, it is looked for again: until storage knows of
    /// a zeroing it would answer what was there before.
    fn end_fetch(
        self: &Arc<Self>,
        inode: &Arc<Inode>,
        page: PageId,
        mut answer: Result<PageRead, VolumeError>,
        deadline: Instant,
    ) {
        while self.cache.fetched(page, answer) == FetchEnd::ReadAgain {
            let vdl = self.volume.vdl();
            if !inode.lock_zeroes().covers(page.block, || vdl) {
                return self.volume.read(page, deadline, self.end_of_fetch(inode, page, deadline));
            }
            answer = Ok(PageRead { read_point: vdl, version: vdl, page: PageImage::default() });
        }
    }

    /// Gets a page of a file, or begins to: then storage must be asked for the page that is answered.
    fn begin_fetch(&self, inode: &Inode, block: u64, done: FetchDone) -> Option<PageId> {
        let page = PageId { inode: inode.ino, block };
        let done: Fetched = Box::new(move |result| done(result.map_err(FsError::Volume)));
        // While this lock is held no thread can zero the block: so either it is known to be zero, or its zeroing
        // finds this fetch and outdates it.
        let zeroes = inode.lock_zeroes();
        if zeroes.covers(block, || self.volume.vdl()) {
            drop(zeroes);
            let cached = self.cache.get(page);
            done(Ok(cached.unwrap_or_default()));
            return None;
        }
        let fetch = self.cache.fetch(page, done);
        drop(zeroes);
        match fetch {
            Fetch::Hit(image, done) => {
                done(Ok(image));
                None
            }
            Fetch::Joined => None,
            Fetch::Begin => Some(page),
        }
    }

    /// The page as an attempt must know it, or `None`: it must be fetched.
    pub(super) fn page_if_known(&self, inode: &Inode, block: u64) -> Option<PageImage> {
        let cached = self.cache.get(PageId { inode: inode.ino, block });
        cached.or_else(|| inode.lock_zeroes().covers(block, || self.volume.vdl()).then(PageImage::default))
    }
}

/// A pending operation and the pages that it waits for.
struct Waiting {
    left: AtomicUsize,
    failure: Mutex<Option<FsError>>,
    pending: Mutex<Option<Pending>>,
}

impl Waiting {
    fn resume(&self, fs: &Arc<PageFs>) {
        let Some(pending) = crate::inode::lock(&self.pending).take() else { return };
        match crate::inode::lock(&self.failure).take() {
            Some(error) => (pending.done)(Err(error)),
            None => fs.resume_later(pending),
        }
    }
}
