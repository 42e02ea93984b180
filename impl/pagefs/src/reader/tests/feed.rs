//! A standby that finds its WAL in the volume.

use super::*;
use crate::reader::{Ahead, Feed};
use auriga_volume::{Changes, ReaderVolume, VolumeError};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Bytes of a segment of the WAL here.
const SEGMENT: u64 = 8 * PAGE_SIZE as u64;
const FIRST: &str = "pgdata/pg_wal/000000010000000000000001";
const SECOND: &str = "pgdata/pg_wal/000000010000000000000002";

struct World {
    writer: Writer,
    ahead: Arc<Ahead>,
    reader: Reader,
    feed: Feed,
}

impl Writer {
    fn make_segment(&self, path: &str) {
        self.make(path, &FILE);
        self.write(path, 7, &page(0, 0));
    }

    /// Publishes with this position.
    fn publish_at(&mut self, wal: u64) {
        self.wal = wal - 1;
        self.publish();
    }
}

impl World {
    /// A reader that has replayed what there was when it began: all before the second page of the first segment.
    fn start(judge: impl Fn(&Changes) -> Result<(), VolumeError> + Send + Sync + 'static) -> World {
        let mut writer = Writer::new();
        writer.make_segment(FIRST);
        writer.write(FIRST, 0, &page(1, 1));
        let ahead = Arc::new(Ahead::new(Arc::new(writer.volume.reader()), Box::new(move |changes, _| judge(changes))));
        writer.publish_at(SEGMENT + 100);
        let fs = ReaderFs::start(ahead.clone(), ReaderOptions::default()).expect("a reader");
        let (reader, feed) = (Reader { fs: fs.clone() }, Feed::new(ahead.clone(), fs));
        reader.replay(SEGMENT + 100);
        World { writer, ahead, reader, feed }
    }

    fn feed(&mut self, replayed: u64) {
        self.feed.step(replayed).expect("it goes on");
    }
}

#[test]
fn wal_is_fed_before_what_it_explains_is_shown() {
    let mut world = World::start(|_| Ok(()));
    world.feed(SEGMENT + 100);
    world.writer.write(TABLE, 0, &page(2, 2));
    world.writer.write(FIRST, 1, &page(2, 2));
    let page_2 = SEGMENT + PAGE_SIZE as u64 + 50;
    world.writer.publish_at(page_2);
    world.feed(SEGMENT + 100);
    world.reader.replay(SEGMENT + 100);
    assert_eq!((world.reader.fills(FIRST)[1], world.reader.fills(TABLE)[0]), (2, 1), "replay has yet to come");
    // The next segment is made while nothing was replayed, and the first one goes.
    world.writer.make_segment(SECOND);
    world.writer.write(SECOND, 0, &page(3, 3));
    world.writer.write(TABLE, 0, &page(3, 3));
    let next = 2 * SEGMENT + 70;
    world.writer.publish_at(next);
    let (parent, name) = world.writer.above(FIRST);
    world.writer.fs.unlink(parent, name).expect("removed");
    world.feed(SEGMENT + 100);
    assert_eq!(world.reader.fills(SECOND)[..2], [3, 0]);
    assert_eq!(world.ahead.published().len(), 2);
    world.reader.replay(page_2);
    assert_eq!(world.reader.fills(TABLE)[0], 2);
    world.reader.replay(next);
    assert_eq!((world.reader.fills(TABLE)[0], world.ahead.published().len()), (3, 0));
    // Its own segments are its own.
    world.reader.remove(FIRST);
    world.writer.write(SECOND, 0, &page(4, 4));
    world.writer.publish_at(next + 10);
    world.feed(next);
    assert_eq!((world.reader.fills(SECOND)[0], world.reader.find(FIRST)), (4, None));
}

#[test]
fn a_feed_that_was_paused_takes_up_what_it_missed_or_the_reader_begins_anew() {
    let mut world = World::start(|_| Ok(()));
    world.feed(SEGMENT + 100);
    world.feed.pause();
    world.writer.write(FIRST, 1, &page(2, 2));
    let at = SEGMENT + PAGE_SIZE as u64 + 50;
    world.writer.publish_at(at);
    world.feed.look().expect("it goes on");
    assert_eq!(world.reader.fills(FIRST)[1], 0, "nothing is fed");
    world.feed(SEGMENT + 100);
    assert_eq!(world.reader.fills(FIRST)[1], 2);
    world.feed.pause();
    world.writer.make_segment(SECOND);
    let (parent, name) = world.writer.above(FIRST);
    world.writer.fs.unlink(parent, name).expect("removed");
    world.writer.publish_at(2 * SEGMENT + 50);
    let missing = world.feed.step(at).expect_err("R-READER-FS-14");
    assert!(matches!(missing, FollowError::Volume(VolumeError::NotKept)), "{missing}");
}

#[test]
fn nothing_of_a_point_is_used_before_it_was_judged() {
    let is_lost = Arc::new(AtomicBool::new(false));
    let lost = is_lost.clone();
    let mut world = World::start(move |_| if lost.load(Relaxed) { Err(VolumeError::OtherLineage) } else { Ok(()) });
    world.feed(SEGMENT + 100);
    world.writer.write(FIRST, 1, &page(2, 2));
    world.writer.write(TABLE, 0, &page(2, 2));
    is_lost.store(true, Relaxed);
    world.writer.publish_at(SEGMENT + PAGE_SIZE as u64 + 50);
    assert!(world.feed.step(SEGMENT + 100).is_err(), "R-READER-FS-16");
    assert_eq!((world.reader.fills(FIRST)[1], world.reader.fills(TABLE)[0]), (0, 1));
    // Nor where the file system goes there by itself.
    let mut world = World::start(|changes| match changes {
        Changes::Records(records) if records.iter().any(|record| record.page.block == 6) => {
            Err(VolumeError::OtherLineage)
        }
        _ => Ok(()),
    });
    world.writer.write(TABLE, 6, &page(2, 2));
    world.writer.publish_at(SEGMENT + 101);
    assert!(world.reader.fs.step(|| Some(SEGMENT + 101)).is_err());
    assert_eq!(world.reader.fills(TABLE).len(), 1);
}
