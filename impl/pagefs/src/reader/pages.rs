//! The volume's pages: a cache that follows the read point, and reads under way.
//!
//! A cached page is as of R; a page of an inode that the volume has removed is as of the last point at which it was
//! there. Records between two points are applied to cached pages. A page that changed while it was being read is
//! answered to those who wait for it, because it is what it was when they asked; it is not cached.

use crate::defect::{Defect, Defects};
use crate::fs::FetchDone;
use auriga_page::{Delta, PAGE_SIZE, PageImage};
use auriga_protocol::{Lsn, PageId, Payload};
use lru::LruCache;
use std::collections::{BTreeMap, HashMap};

/// What an entry costs besides its page's bytes.
const ENTRY_COST: usize = 160;

/// Pages of the volume.
pub(crate) struct Pages {
    cached: LruCache<PageId, PageImage>,
    bytes: usize,
    limit: usize,
    reading: HashMap<(PageId, Lsn), Reading>,
    /// Reads under way, by the point that they are as of.
    points: BTreeMap<Lsn, usize>,
    pub hits: u64,
    pub misses: u64,
    defects: Defects,
}

struct Reading {
    is_outdated: bool,
    waiting: Vec<FetchDone>,
}

impl Pages {
    pub fn new(limit: usize, defects: Defects) -> Pages {
        Pages {
            cached: LruCache::unbounded(),
            bytes: 0,
            limit,
            reading: HashMap::new(),
            points: BTreeMap::new(),
            hits: 0,
            misses: 0,
            defects,
        }
    }

    /// A page that is in memory.
    pub fn get(&mut self, page: PageId) -> Option<PageImage> {
        let found = self.cached.get(&page).cloned();
        match found {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        found
    }

    /// Lets `done` wait for a page as of `at`. Returns whether it has to be read: it is not being read already.
    #[must_use]
    pub fn wait(&mut self, page: PageId, at: Lsn, done: FetchDone) -> bool {
        let mut is_new = false;
        let reading = self.reading.entry((page, at)).or_insert_with(|| {
            is_new = true;
            Reading { is_outdated: false, waiting: Vec::new() }
        });
        reading.waiting.push(done);
        if is_new {
            *self.points.entry(at).or_default() += 1;
        }
        is_new
    }

    /// A page that was read. Returns who waited for it.
    pub fn read(&mut self, page: PageId, at: Lsn, image: Option<&PageImage>) -> Vec<FetchDone> {
        if let Some(count) = self.points.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                self.points.remove(&at);
            }
        }
        let Some(reading) = self.reading.remove(&(page, at)) else { return Vec::new() };
        let is_outdated = reading.is_outdated && !self.defects.has(Defect::ReaderCachesOutdated);
        if let Some(image) = image.filter(|_| !is_outdated) {
            self.put(page, image.clone());
        }
        reading.waiting
    }

    fn put(&mut self, page: PageId, image: PageImage) {
        self.bytes += cost(&image);
        if let Some(former) = self.cached.put(page, image) {
            self.bytes -= cost(&former);
        }
        while self.bytes > self.limit {
            let Some((_, evicted)) = self.cached.pop_lru() else { break };
            self.bytes -= cost(&evicted);
        }
    }

    /// A record changes a page.
    pub fn apply(&mut self, page: PageId, delta: &Delta) {
        if let Some(image) = self.cached.peek_mut(&page) {
            let before = cost(image);
            delta.apply(image);
            self.bytes = self.bytes + cost(image) - before;
        }
        if self.points.is_empty() {
            return;
        }
        for at in self.points.keys() {
            if let Some(reading) = self.reading.get_mut(&(page, *at)) {
                reading.is_outdated = true;
            }
        }
    }

    /// Nothing is known of the volume any more, but of inodes that `keep` names.
    pub fn forget(&mut self, keep: impl Fn(u64) -> bool) {
        let gone: Vec<PageId> = self.cached.iter().map(|(page, _)| *page).filter(|page| !keep(page.inode)).collect();
        for page in gone {
            let image = self.cached.pop(&page);
            self.bytes -= image.as_ref().map_or(0, cost);
        }
        let others = self.reading.iter_mut().filter(|((page, _), _)| !keep(page.inode));
        others.for_each(|(_, reading)| reading.is_outdated = true);
    }

    /// The oldest point that something is being read as of.
    pub fn oldest(&self) -> Option<Lsn> {
        self.points.keys().next().copied()
    }
}

fn cost(image: &PageImage) -> usize {
    ENTRY_COST + if image.is_zero() { 0 } else { PAGE_SIZE }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: PageId = PageId { inode: 9, block: 3 };

    fn page(byte: u8) -> PageImage {
        PageImage::copy_from(&[byte; PAGE_SIZE])
    }

    fn read_while_changed(defects: Defects) -> Option<PageImage> {
        let mut pages = Pages::new(1 << 20, defects);
        assert!(pages.wait(PAGE, Lsn(5), Box::new(|_| ())) && !pages.wait(PAGE, Lsn(5), Box::new(|_| ())));
        assert_eq!(pages.oldest(), Some(Lsn(5)));
        pages.apply(PAGE, &Delta::full(&[2; PAGE_SIZE]));
        assert_eq!(pages.read(PAGE, Lsn(5), Some(&page(1))).len(), 2);
        assert_eq!(pages.oldest(), None);
        pages.get(PAGE)
    }

    #[test]
    fn what_changed_while_it_was_read_is_not_cached() {
        assert_eq!(read_while_changed(Defects::default()), None);
        assert_eq!(read_while_changed(Defects::planted(Defect::ReaderCachesOutdated)), Some(page(1)), "caught");
    }

    #[test]
    fn records_keep_cached_pages_true_and_the_limit_holds() {
        let mut pages = Pages::new(2 * (PAGE_SIZE + ENTRY_COST), Defects::default());
        for block in 0..3 {
            let page_id = PageId { block, ..PAGE };
            assert!(pages.wait(page_id, Lsn(5), Box::new(|_| ())));
            pages.read(page_id, Lsn(5), Some(&page(1)));
        }
        let [first, last] = [0, 2].map(|block| PageId { block, ..PAGE });
        assert_eq!(pages.get(first), None, "the least recently used has gone");
        pages.apply(last, &Delta::full(&[2; PAGE_SIZE]));
        assert_eq!(pages.get(last), Some(page(2)));
        pages.forget(|_| false);
        assert_eq!((pages.get(last), pages.bytes), (None, 0));
    }
}
