//! What stands on a `MemoryVolume` may rely on this.

use super::*;
use crate::{Changes, Published, ReaderVolume};
use auriga_page::PAGE_SIZE;
use auriga_protocol::WriterId;
use std::sync::mpsc::{Receiver, channel};

const PAGE: PageId = PageId { inode: 1, block: 0 };
const OTHER: PageId = PageId { inode: 1, block: 1 };

/// The change that makes an all-`from` page all-`to`.
fn fill(page: PageId, from: u8, to: u8) -> Change<Delta> {
    let payload = Delta::between(&[from; PAGE_SIZE], &[to; PAGE_SIZE]).expect("they differ");
    Change { page, payload }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn first_byte(volume: &MemoryVolume, page: PageId) -> u8 {
    let (sender, receiver) = channel();
    volume.read(page, soon(), Box::new(move |result| sender.send(result).expect("the test listens")));
    let read = receiver.recv().expect("answered").expect("not fenced");
    read.page.content()[0]
}

fn durable(volume: &MemoryVolume, lsn: Lsn, deadline: Instant) -> Receiver<Result<(), VolumeError>> {
    let (sender, receiver) = channel();
    volume.when_durable(lsn, deadline, Box::new(move |result| sender.send(result).expect("the test listens")));
    receiver
}

#[test]
fn without_a_delay_what_was_submitted_is_read() {
    let volume = MemoryVolume::new(MemoryVolumeConfig::default());
    let lsn = volume.submit(vec![fill(PAGE, 0, 7), fill(OTHER, 0, 8)], soon()).expect("open");
    assert_eq!((lsn, volume.vdl()), (Lsn(2), Lsn(2)));
    assert_eq!((first_byte(&volume, PAGE), first_byte(&volume, OTHER)), (7, 8));
}

#[test]
fn durability_waits_its_delay_and_reads_are_as_of_vdl() {
    let config = MemoryVolumeConfig { durable_after: Duration::from_millis(20), ..Default::default() };
    let volume = MemoryVolume::new(config);
    let started = Instant::now();
    let lsn = volume.submit(vec![fill(PAGE, 0, 7)], soon()).expect("open");
    assert_eq!(first_byte(&volume, PAGE), 0);
    durable(&volume, lsn, soon()).recv().expect("answered").expect("durable");
    assert!(started.elapsed() >= Duration::from_millis(20));
    assert_eq!(first_byte(&volume, PAGE), 7);
}

#[test]
fn a_crash_keeps_whole_mini_transactions_up_to_the_chosen_lsn() {
    let volume = MemoryVolume::new(MemoryVolumeConfig::default());
    volume.submit(vec![fill(PAGE, 0, 1)], soon()).expect("open");
    volume.submit(vec![fill(PAGE, 1, 2), fill(OTHER, 0, 2)], soon()).expect("open");
    assert_eq!(volume.consistency_points(), [Lsn(1), Lsn(3)]);
    for (lsn, expected) in [(0, (0, 0)), (1, (1, 0)), (2, (1, 0)), (3, (2, 2))] {
        let recovered = volume.crash_at(Lsn(lsn));
        assert_eq!((first_byte(&recovered, PAGE), first_byte(&recovered, OTHER)), expected, "crash at {lsn}");
        let next = recovered.submit(vec![fill(OTHER, expected.1, 9)], soon()).expect("open");
        assert!(next > volume.allocated(), "an annulled LSN never comes back");
    }
}

#[test]
fn held_durability_times_waiters_out_and_then_comes() {
    let volume = MemoryVolume::new(MemoryVolumeConfig { allocation_limit: 1, ..Default::default() });
    volume.hold(true);
    let lsn = volume.submit(vec![fill(PAGE, 0, 7)], soon()).expect("open");
    let deadline = Instant::now() + Duration::from_millis(20);
    let waiting = durable(&volume, lsn, deadline);
    assert_eq!(volume.submit(vec![fill(PAGE, 7, 8)], deadline), Err(VolumeError::TimedOut), "LAL is reached");
    assert_eq!(waiting.recv(), Ok(Err(VolumeError::TimedOut)));
    let waiting = durable(&volume, lsn, soon());
    volume.hold(false);
    assert_eq!(waiting.recv(), Ok(Ok(())));
    volume.submit(vec![fill(PAGE, 7, 8)], soon()).expect("back-pressure has lifted");
}

#[test]
fn fenced_answers_everything() {
    let volume = MemoryVolume::new(MemoryVolumeConfig::default());
    volume.hold(true);
    let lsn = volume.submit(vec![fill(PAGE, 0, 7)], soon()).expect("open");
    let waiting = durable(&volume, lsn, soon());
    let fenced = VolumeError::Fenced { by: VolumeEpoch::new(2, WriterId(2)) };
    volume.fence(VolumeEpoch::new(2, WriterId(2)));
    assert_eq!(waiting.recv(), Ok(Err(fenced)));
    assert_eq!(durable(&volume, lsn, soon()).recv(), Ok(Err(fenced)));
    assert_eq!(volume.submit(vec![fill(PAGE, 7, 8)], soon()), Err(fenced));
}

#[test]
fn history_is_bounded_and_the_present_unharmed() {
    let volume = MemoryVolume::new(MemoryVolumeConfig { history_weight_max: 0, ..Default::default() });
    for value in 0..10 {
        volume.submit(vec![fill(PAGE, value, value + 1)], soon()).expect("open");
    }
    assert_eq!(volume.consistency_points(), []);
    assert_eq!(first_byte(&volume.crash_at(Lsn(10)), PAGE), 10);
}

fn seen_by(reader: &MemoryReader, page: PageId, at: Lsn) -> u8 {
    let (sender, receiver) = channel();
    reader.read(page, at, soon(), Box::new(move |result| sender.send(result).expect("the test listens")));
    receiver.recv().expect("answered").expect("open").page.content()[0]
}

#[test]
fn a_reader_sees_its_read_point_until_it_moves_on() {
    let volume = MemoryVolume::new(MemoryVolumeConfig::default());
    let submit = |changes| volume.submit(changes, soon()).expect("open");
    let first = submit(vec![fill(PAGE, 0, 1)]);
    let reader = volume.reader();
    let published = volume.publish(|| Some(7)).expect("published");
    assert_eq!((reader.read_point(), reader.published()), (Lsn::ZERO, vec![Published { read_point: first, wal: 7 }]));
    assert!(matches!(reader.advance(published.read_point), Ok(Changes::Unknown)));
    submit(vec![fill(PAGE, 1, 2), fill(OTHER, 0, 2)]);
    // What becomes durable while the writer is asked for its position is above the point.
    let published = volume.publish(|| {
        submit(vec![fill(PAGE, 2, 3)]);
        Some(77)
    });
    let second = published.expect("published").read_point;
    assert_eq!(reader.published(), [Published { read_point: second, wal: 77 }]);
    assert_eq!((seen_by(&reader, PAGE, first), seen_by(&reader, OTHER, first)), (1, 0));
    let Changes::Records(records) = reader.advance(second).expect("open") else { panic!("all is in memory") };
    assert_eq!(
        records.iter().map(|record| (record.page, record.is_cpl)).collect::<Vec<_>>(),
        [(PAGE, false), (OTHER, true)]
    );
    assert_eq!((reader.read_point(), seen_by(&reader, PAGE, second), seen_by(&reader, PAGE, first)), (second, 2, 1));
    reader.release(second);
    assert_eq!((first_byte(&volume, PAGE), seen_by(&reader, PAGE, second), reader.published().len()), (3, 2, 0));
}

#[test]
fn a_reader_that_is_far_behind_is_told_that_it_knows_nothing() {
    let config = MemoryVolumeConfig { history_weight_max: 1, ..Default::default() };
    let volume = MemoryVolume::new(config);
    let reader = volume.reader();
    volume.submit(vec![fill(OTHER, 0, 1)], soon()).expect("open");
    let from = volume.publish(|| Some(1)).expect("published").read_point;
    reader.advance(from).expect("open");
    volume.submit(vec![fill(PAGE, 0, 1)], soon()).expect("open");
    let to = volume.publish(|| Some(1)).expect("published").read_point;
    assert!(matches!(reader.advance(to), Ok(Changes::Unknown)));
    assert_eq!((seen_by(&reader, PAGE, from), seen_by(&reader, PAGE, to)), (0, 1));
    assert!(volume.publish(|| None).is_none());
}
