//! The page cache: the last version of pages that the mount knows, bounded in bytes.
//!
//! A page that was changed by a record above VDL is *pinned*: storage answers reads as of VDL, so the cache has the only
//! copy that is new enough (17 §4.2.3 keeps such pages for the same reason). Pinned pages are never evicted; when VDL has
//! passed them they become evictable, least recently used first. The cache itself never waits: a caller that will
//! change pages asks [`Cache::has_room_for`] first.
//!
//! A page that is being read from storage is *fetched* once, however many ask. When it is changed or discarded
//! meanwhile, what storage answers is out of date: it is neither kept nor answered. The page is read again instead,
//! unless the change is still cached.

use crate::defect::{Defect, Defects};
use crate::inode::lock;
use auriga_page::{PAGE_SIZE, PageImage};
use auriga_protocol::{Lsn, PageId};
use auriga_volume::{PageRead, VolumeError};
use lru::LruCache;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

/// Called with a page that was waited for.
pub(crate) type Fetched = Box<dyn FnOnce(Result<PageImage, VolumeError>) + Send>;

/// What an entry costs besides its page's bytes.
pub(crate) const ENTRY_COST: usize = 160;
/// Shards are not smaller than this, so that chance does not fill one while the others are empty.
const SHARD_BYTES_MIN: usize = 8 << 20;
const SHARDS_MAX: usize = 16;
/// Pages that are not durable may take one part in so many of the cache. Each has a record that is as large where a whole
/// page is new, and that is kept and sent until it is durable: the process must not need its limit several times.
const PINNED_SHARE: usize = 4;
/// But so much they may take in any case: the largest write, twice.
const PINNED_MIN: usize = 2 << 20;

/// Pages by identity. Every method may be called from any thread; none waits.
pub(crate) struct Cache {
    shards: Box<[Mutex<Shard>]>,
    shard_limit: usize,
    hasher: RandomState,
    bytes: AtomicUsize,
    pinned_bytes: AtomicUsize,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
    defects: Defects,
}

/// Figures of a [`Cache`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheFigures {
    /// Bytes in the cache, bookkeeping included.
    pub bytes: usize,
    /// Of those, bytes of pages that are not durable yet.
    pub pinned_bytes: usize,
    /// Look-ups that found the page.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Pages put out to make room.
    pub evictions: u64,
}

struct Shard {
    /// Pages that may be evicted.
    clean: LruCache<PageId, PageImage>,
    /// Pages that may not, with the LSN that frees them.
    pinned: HashMap<PageId, (Lsn, PageImage)>,
    /// Which page was changed at which LSN, oldest first. A page changed again has a later line as well.
    changed: VecDeque<(Lsn, PageId)>,
    fetching: HashMap<PageId, Fetching>,
    bytes: usize,
}

struct Fetching {
    /// Changed or discarded since the fetch began.
    outdated: bool,
    waiting: Vec<Fetched>,
}

/// What [`Cache::fetch`] asks of its caller.
pub(crate) enum Fetch {
    /// The page is there: call the waiter.
    Hit(PageImage, Fetched),
    /// It is being read already; the waiter will be called.
    Joined,
    /// Read it from storage, then call [`Cache::fetched`].
    Begin,
}

/// What becomes of a page that [`Cache::fetched`] was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum FetchEnd {
    /// Those who waited were answered.
    Answered,
    /// It was changed or discarded since, and is not cached: those who wait still do. Read it once more.
    ReadAgain,
}

fn cost(image: &PageImage) -> usize {
    ENTRY_COST + if image.is_zero() { 0 } else { PAGE_SIZE }
}

impl Cache {
    /// A cache of at most `limit` bytes.
    pub fn new(limit: usize, defects: Defects) -> Cache {
        let shards = (limit / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let new_shard = || {
            Mutex::new(Shard {
                clean: LruCache::unbounded(),
                pinned: HashMap::new(),
                changed: VecDeque::new(),
                fetching: HashMap::new(),
                bytes: 0,
            })
        };
        Cache {
            shards: (0..shards).map(|_| new_shard()).collect(),
            shard_limit: limit / shards,
            hasher: RandomState::new(),
            bytes: AtomicUsize::new(0),
            pinned_bytes: AtomicUsize::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            defects,
        }
    }

    /// Figures, each right at some moment of the call.
    pub fn figures(&self) -> CacheFigures {
        CacheFigures {
            bytes: self.bytes.load(Relaxed),
            pinned_bytes: self.pinned_bytes.load(Relaxed),
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            evictions: self.evictions.load(Relaxed),
        }
    }

    /// The page, if it is here.
    pub fn get(&self, page: PageId) -> Option<PageImage> {
        let found = self.shard(page).find(page);
        if found.is_some() { &self.hits } else { &self.misses }.fetch_add(1, Relaxed);
        found
    }

    /// Whether the page is here, as far as that matters to read-ahead. Does not count as a look-up.
    pub fn contains(&self, page: PageId) -> bool {
        let shard = self.shard(page);
        shard.pinned.contains_key(&page) || shard.clean.contains(&page)
    }

    /// The page is `image` as of `lsn`, which is durable once `vdl` reaches it.
    pub fn put(&self, page: PageId, image: PageImage, lsn: Lsn, vdl: Lsn) {
        let mut shard = self.shard(page);
        if let Some(fetching) = shard.fetching.get_mut(&page) {
            fetching.outdated = true;
        }
        self.remove(&mut shard, page);
        let added = cost(&image);
        shard.bytes += added;
        self.bytes.fetch_add(added, Relaxed);
        self.pinned_bytes.fetch_add(added, Relaxed);
        shard.pinned.insert(page, (lsn, image));
        shard.changed.push_back((lsn, page));
        self.settle(&mut shard, vdl);
        self.evict(&mut shard);
    }

    /// Forgets the page: it holds no data any more, and what a fetch under way answers is old.
    pub fn discard(&self, page: PageId) {
        let mut shard = self.shard(page);
        if let Some(fetching) = shard.fetching.get_mut(&page) {
            fetching.outdated = true;
        }
        self.remove(&mut shard, page);
    }

    /// Forgets every page that is durable, given what is.
    pub fn drop_clean(&self, vdl: Lsn) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            self.settle(&mut shard, vdl);
            while let Some((_, image)) = shard.clean.pop_lru() {
                shard.bytes -= cost(&image);
                self.bytes.fetch_sub(cost(&image), Relaxed);
            }
        }
    }

    /// Whether pages of `bytes` can be pinned without going above their share of the limit, given what is durable.
    pub fn has_room_for(&self, bytes: usize, vdl: impl FnOnce() -> Lsn) -> bool {
        let limit = self.shard_limit * self.shards.len();
        let limit = (limit / PINNED_SHARE).max(limit.min(PINNED_MIN));
        if self.pinned_bytes.load(Relaxed) + bytes <= limit {
            return true;
        }
        let vdl = vdl();
        for shard in &self.shards {
            let mut shard = lock(shard);
            self.settle(&mut shard, vdl);
            self.evict(&mut shard);
        }
        self.pinned_bytes.load(Relaxed) + bytes <= limit
    }

    /// Asks for `page` on behalf of `waiter`. On [`Fetch::Begin`] the waiter is kept, and the caller must read the page.
    pub fn fetch(&self, page: PageId, waiter: Fetched) -> Fetch {
        let mut shard = self.shard(page);
        if let Some(image) = shard.find(page) {
            return Fetch::Hit(image, waiter);
        }
        match shard.fetching.get_mut(&page) {
            Some(fetching) => {
                fetching.waiting.push(waiter);
                Fetch::Joined
            }
            None => {
                shard.fetching.insert(page, Fetching { outdated: false, waiting: vec![waiter] });
                Fetch::Begin
            }
        }
    }

    /// Storage has answered for `page`. Calls those who wait for it, unless the answer is out of date: then the caller
    /// must ask again, and give that answer here.
    pub fn fetched(&self, page: PageId, answer: Result<PageRead, VolumeError>) -> FetchEnd {
        let mut shard = self.shard(page);
        let newer = shard.find(page);
        let Some(fetching) = shard.fetching.get_mut(&page) else { return FetchEnd::Answered };
        let answer = match (newer, answer) {
            (Some(newer), _) => Ok(newer),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) if fetching.outdated && self.defects.has(Defect::OutdatedFetchIsZero) => {
                Ok(PageImage::default())
            }
            (None, Ok(_)) if fetching.outdated => {
                // What comes now began after the change. Another change sets this again.
                fetching.outdated = false;
                return FetchEnd::ReadAgain;
            }
            (None, Ok(read)) => {
                let added = cost(&read.page);
                shard.bytes += added;
                self.bytes.fetch_add(added, Relaxed);
                shard.clean.put(page, read.page.clone());
                self.evict(&mut shard);
                Ok(read.page)
            }
        };
        let waiting = shard.fetching.remove(&page).map(|fetching| fetching.waiting).unwrap_or_default();
        drop(shard);
        waiting.into_iter().for_each(|waiter| waiter(answer.clone()));
        FetchEnd::Answered
    }

    fn shard(&self, page: PageId) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(page) as usize % self.shards.len()])
    }

    fn remove(&self, shard: &mut Shard, page: PageId) {
        let removed = match shard.pinned.remove(&page) {
            Some((_, image)) => {
                self.pinned_bytes.fetch_sub(cost(&image), Relaxed);
                Some(image)
            }
            None => shard.clean.pop(&page),
        };
        if let Some(image) = removed {
            shard.bytes -= cost(&image);
            self.bytes.fetch_sub(cost(&image), Relaxed);
        }
    }

    /// Unpins what `vdl` has passed.
    fn settle(&self, shard: &mut Shard, vdl: Lsn) {
        while let Some((lsn, page)) = shard.changed.front().copied().filter(|(lsn, _)| *lsn <= vdl) {
            shard.changed.pop_front();
            // A page that was changed again stays, until its later line.
            if shard.pinned.get(&page).is_some_and(|(pinned_at, _)| *pinned_at == lsn)
                && let Some((_, image)) = shard.pinned.remove(&page)
            {
                self.pinned_bytes.fetch_sub(cost(&image), Relaxed);
                shard.clean.put(page, image);
            }
        }
    }

    fn evict(&self, shard: &mut Shard) {
        while shard.bytes > self.shard_limit
            && let Some((_, image)) = shard.clean.pop_lru()
        {
            shard.bytes -= cost(&image);
            self.bytes.fetch_sub(cost(&image), Relaxed);
            self.evictions.fetch_add(1, Relaxed);
        }
    }
}

impl Shard {
    fn find(&mut self, page: PageId) -> Option<PageImage> {
        match self.pinned.get(&page) {
            Some((_, image)) => Some(image.clone()),
            None => self.clean.get(&page).cloned(),
        }
    }
}

#[cfg(test)]
mod tests;
