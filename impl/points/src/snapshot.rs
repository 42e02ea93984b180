//! A volume as of one point, with writes that stay in memory.

use auriga_driver::lock;
use auriga_page::{Delta, PageImage};
use auriga_pagefs::layout::TABLE;
use auriga_protocol::{Change, Lsn, PageId, Payload};
use auriga_region::source::{Point, Source, Unread};
use auriga_volume::{Callback, PageRead, Volume, VolumeError};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// How long to wait before storage is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How long a probe waits.
const PROBE: Duration = Duration::from_secs(1);

/// A volume as of one point. What is written to it is kept here, and ends with it. Dropping it is a crash of its user.
pub struct Snapshot(Arc<Shared>);

struct Shared {
    base: Base,
    /// Where pages are asked for.
    runtime: Handle,
    /// The LSN that pages of the base have.
    at: Lsn,
    /// Bytes of writes that may be kept.
    limit: usize,
    state: Mutex<State>,
}

/// What lies below the writes.
enum Base {
    /// A volume as of a point.
    Point {
        source: Arc<Source>,
        /// What is needed to read as of it; asked for anew where a writer has taken over since.
        point: tokio::sync::Mutex<Option<Point>>,
    },
    /// A volume that nobody changes meanwhile.
    Volume(Arc<dyn Volume>),
}

struct State {
    written: HashMap<PageId, Written>,
    bytes: usize,
    /// The last LSN given.
    last: Lsn,
    ended: Option<VolumeError>,
}

/// A page that was written here.
enum Written {
    Whole(Lsn, PageImage),
    /// Changes of a page that nobody has read yet, in order.
    Changes(Lsn, Vec<Delta>),
}

impl Snapshot {
    /// Opens the volume that `source` reads as of `at`, a VDL. No more than `limit` bytes may be written to it.
    /// Needs a tokio runtime, on which pages are then asked for.
    pub fn open(source: Arc<Source>, at: Lsn, limit: usize) -> Snapshot {
        Snapshot::new(Base::Point { source, point: tokio::sync::Mutex::default() }, at, limit)
    }

    /// The same over a volume as it is now. Nobody may change that while this exists.
    pub fn over(volume: Arc<dyn Volume>, limit: usize) -> Snapshot {
        let at = volume.vdl();
        Snapshot::new(Base::Volume(volume), at, limit)
    }

    fn new(base: Base, at: Lsn, limit: usize) -> Snapshot {
        let state = Mutex::new(State { written: HashMap::new(), bytes: 0, last: at, ended: None });
        Snapshot(Arc::new(Shared { base, runtime: Handle::current(), at, limit, state }))
    }

    /// Looks whether storage still keeps the point: asks it for a page.
    pub async fn probe(&self) {
        let page = PageId { inode: TABLE, block: 0 };
        // Where storage does not answer, it is not known, and asked again the next time.
        let _ = self.0.base(page, Instant::now() + PROBE).await;
    }

    /// Why it is of no use any more: storage does not keep the point, or more was written than may be.
    pub fn ended(&self) -> Option<VolumeError> {
        lock(&self.0.state).ended
    }
}

impl Volume for Snapshot {
    fn submit(&self, changes: Vec<Change<Delta>>, _: Instant) -> Result<Lsn, VolumeError> {
        let mut state = lock(&self.0.state);
        if let Some(error) = state.ended {
            return Err(error);
        }
        for change in changes {
            state.write(change);
        }
        if state.bytes > self.0.limit {
            tracing::error!(limit = self.0.limit, "more was written to the snapshot than may be: it ends");
            state.ended = Some(VolumeError::Closed);
        }
        Ok(state.last)
    }

    fn vdl(&self) -> Lsn {
        lock(&self.0.state).last
    }

    fn when_durable(&self, _: Lsn, _: Instant, callback: Callback<()>) {
        callback(self.ended().map_or(Ok(()), Err));
    }

    fn read(&self, page: PageId, deadline: Instant, callback: Callback<PageRead>) {
        let state = lock(&self.0.state);
        let here = match (state.ended, state.written.get(&page)) {
            (Some(error), _) => Some(Err(error)),
            (None, Some(Written::Whole(version, image))) => {
                Some(Ok(PageRead { read_point: state.last, version: *version, page: image.clone() }))
            }
            (None, _) => None,
        };
        drop(state);
        match here {
            Some(result) => callback(result),
            None => {
                let shared = self.0.clone();
                self.0.runtime.spawn(async move { callback(shared.fetch(page, deadline).await) });
            }
        }
    }
}

impl Shared {
    async fn fetch(&self, page: PageId, deadline: Instant) -> Result<PageRead, VolumeError> {
        let base = self.base(page, deadline).await?;
        let mut state = lock(&self.state);
        let (version, image) = state.over(page, base, self.at);
        Ok(PageRead { read_point: state.last, version, page: image })
    }

    /// The page below the writes.
    async fn base(&self, page: PageId, deadline: Instant) -> Result<PageImage, VolumeError> {
        match &self.base {
            Base::Volume(volume) => {
                let (done, waiting) = oneshot::channel();
                let tell = move |result: Result<PageRead, VolumeError>| {
                    let _ = done.send(result.map(|read| read.page)); // The reader waits.
                };
                volume.read(page, deadline, Box::new(tell));
                waiting.await.unwrap_or(Err(VolumeError::Closed))
            }
            Base::Point { source, point } => {
                let read = page_as_of(source, point, (page, self.at), deadline).await;
                if read == Err(VolumeError::NotKept) {
                    lock(&self.state).ended.get_or_insert(VolumeError::NotKept);
                }
                read
            }
        }
    }
}

/// Reads a page as of a point.
async fn page_as_of(
    source: &Source,
    known: &tokio::sync::Mutex<Option<Point>>,
    (page, at): (PageId, Lsn),
    deadline: Instant,
) -> Result<PageImage, VolumeError> {
    loop {
        let why = match point(source, known, at).await {
            Ok(point) => match source.page(page, &point).await {
                Ok(image) => return Ok(image),
                Err(why) => why,
            },
            Err(why) => why,
        };
        match why {
            Unread::TooFar { .. } => return Err(VolumeError::NotKept),
            // Another writer may have opened the volume since the point was asked for.
            Unread::Unreachable | Unread::Unrecovered => *known.lock().await = None,
        }
        if Instant::now() >= deadline {
            return Err(VolumeError::TimedOut);
        }
        sleep(ASK_AGAIN).await;
    }
}

async fn point(source: &Source, known: &tokio::sync::Mutex<Option<Point>>, at: Lsn) -> Result<Point, Unread> {
    let mut known = known.lock().await;
    match &*known {
        Some(point) => Ok(point.clone()),
        None => Ok(known.insert(source.point(at).await?).clone()),
    }
}

impl State {
    fn write(&mut self, change: Change<Delta>) {
        self.last = self.last.next();
        match self.written.entry(change.page) {
            Entry::Vacant(vacant) => {
                self.bytes += change.payload.weight();
                vacant.insert(Written::Changes(self.last, vec![change.payload]));
            }
            Entry::Occupied(mut occupied) => match occupied.get_mut() {
                Written::Whole(version, image) => {
                    self.bytes -= image.stored().len();
                    change.payload.apply(image);
                    self.bytes += image.stored().len();
                    *version = self.last;
                }
                Written::Changes(version, changes) => {
                    self.bytes += change.payload.weight();
                    changes.push(change.payload);
                    *version = self.last;
                }
            },
        }
    }

    /// The page as it is here, where `base` is what it was at the point.
    fn over(&mut self, page: PageId, mut base: PageImage, at: Lsn) -> (Lsn, PageImage) {
        match self.written.get_mut(&page) {
            None => (if base.is_zero() { Lsn::ZERO } else { at }, base),
            Some(Written::Whole(version, image)) => (*version, image.clone()),
            Some(written @ Written::Changes(..)) => {
                let Written::Changes(version, changes) = &*written else { unreachable!("matched") };
                let version = *version;
                for change in changes {
                    self.bytes -= change.weight();
                    change.apply(&mut base);
                }
                self.bytes += base.stored().len();
                *written = Written::Whole(version, base.clone());
                (version, base)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_page::PAGE_SIZE;

    const PAGE: PageId = PageId { inode: 7, block: 1 };

    fn state() -> State {
        State { written: HashMap::new(), bytes: 0, last: Lsn(5), ended: None }
    }

    fn write(state: &mut State, at: usize, byte: u8) {
        let payload = Delta::within(at, &[0], &[byte]).expect("a change");
        state.write(Change { page: PAGE, payload });
    }

    #[test]
    fn changes_of_a_page_that_was_not_read_lie_over_what_it_was() {
        let mut state = state();
        write(&mut state, 1, 3);
        write(&mut state, 2, 4);
        let mut base = PageImage::default();
        Delta::within(0, &[0], &[9]).expect("a change").apply(&mut base);
        let (version, image) = state.over(PAGE, base, Lsn(5));
        assert_eq!((version, &image.content()[..4]), (Lsn(7), &[9, 3, 4, 0][..]));
        assert_eq!(state.bytes, PAGE_SIZE, "one page is kept");
        write(&mut state, 3, 5);
        let (version, image) = state.over(PAGE, PageImage::default(), Lsn(5));
        assert_eq!((version, &image.content()[..4]), (Lsn(8), &[9, 3, 4, 5][..]), "the base is not asked again");
    }

    #[test]
    fn what_was_not_written_is_the_volumes() {
        let other = PageId { inode: 8, block: 0 };
        let mut state = state();
        write(&mut state, 1, 3);
        assert_eq!(state.over(other, PageImage::default(), Lsn(5)), (Lsn::ZERO, PageImage::default()));
    }
}
