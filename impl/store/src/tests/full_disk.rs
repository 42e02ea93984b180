//! Full disks: what the store reports, what waits, and that nothing is lost.

use crate::tests::faults::{coalesce, floor};
use crate::tests::testing::*;
use crate::{PageImage, StoreOptions};
use auriga_protocol::message::BasePage;
use auriga_protocol::segment::{Entry, Outcome, Task};
use auriga_protocol::{AppendId, Lsn, Token, VolumeEpoch, WriterId};
use std::time::Duration;

#[test]
fn a_full_disk_is_told_and_ends() {
    let disk = MemoryDisk::default();
    let running = Running::open(&disk, StoreOptions { reserve_bytes: 4 << 20, ..options() });
    running.store.create_segment(segment(1), membership(), charter(), false).expect("new");
    disk.set_free(1000);
    assert_eq!(running.owner.outcome(segment(1)), Some(Outcome::DiskFull(true)));
    running.store.create_segment(segment(2), membership(), charter(), false).expect("new");
    assert_eq!(running.owner.outcome(segment(2)), Some(Outcome::DiskFull(true)), "who comes later is told, too");
    disk.set_free(4 << 20);
    std::thread::sleep(Duration::from_millis(50));
    assert!(running.store.status().disk_full, "just enough is not enough, or it would be told all the time");
    disk.set_free(8 << 20);
    assert_eq!(running.owner.outcome(segment(1)), Some(Outcome::DiskFull(false)));
}

#[test]
fn without_room_commits_wait_reads_go_on_and_nothing_is_lost() {
    // Room for the journal's first files and one group of slots, not for two groups.
    let capacity = 3 * (64 << 10) + 8192 + 528_384 + 100;
    let disk = MemoryDisk::default();
    let running = Running::open(&disk, StoreOptions { capacity_bytes: Some(capacity), ..options() });
    let id = segment(1);
    running.store.create_segment(id, membership(), charter(), false).expect("new");
    let many = |lsns: std::ops::RangeInclusive<u64>| {
        let floor = floor(*lsns.end());
        Task::Coalesce { floor, records: lsns.map(|lsn| record(lsn, page(lsn))).collect() }
    };
    running.store.run(id, many(1..=40));
    running.wait_for(|outcome| matches!(outcome, Outcome::Coalesced { .. }));
    running.store.run(id, many(41..=70));
    running.wait_for(|outcome| *outcome == Outcome::DiskFull(true));
    running.store.run(id, Task::ReadBase { token: Token(1), page: page(40) });
    let base = running.wait_for(|outcome| matches!(outcome, Outcome::Base { .. }));
    let sound = BasePage { page: page(40), version: Lsn(40), content: PageImage::copy_from(&content(40)) };
    assert_eq!(base, Outcome::Base { token: Token(1), page: page(40), base: Some(sound) });
    assert!(running.store.status().used_bytes <= capacity);
    drop(running);
    let running = Running::open(&disk, options());
    assert_eq!(running.survived[&id].floor, floor(40));
    running.store.run(id, many(41..=70));
    running.wait_for(|outcome| matches!(outcome, Outcome::Coalesced { .. }));
    assert_eq!(running.store.status().pages, 67, "70 without the three that are zero");
}

#[test]
fn a_journal_without_room_waits_until_coalescing_frees_some() {
    let capacity = 4 * (64 << 10) + 8192 + 528_384;
    let disk = MemoryDisk::default();
    let running = Running::open(&disk, StoreOptions { capacity_bytes: Some(capacity), ..options() });
    let id = segment(1);
    running.store.create_segment(id, membership(), charter(), false).expect("new");
    running.store.run(id, coalesce(1..=1));
    running.wait_for(|outcome| matches!(outcome, Outcome::Coalesced { .. }));
    // Each entry takes a block: four files hold 60.
    (2..=100).for_each(|lsn| {
        running.store.append(id, AppendId(lsn), &Entry::Promise { volume_epoch: VolumeEpoch::new(lsn, WriterId(lsn)) });
        running.store.append(id, AppendId(lsn), &records([lsn; 100]));
        std::thread::sleep(Duration::from_millis(1));
    });
    running.wait_for(|outcome| *outcome == Outcome::DiskFull(true));
    for through in 2..=100 {
        running.store.run(id, coalesce(through..=through));
    }
    running.wait_for(|outcome| *outcome == Outcome::Coalesced { floor: floor(100) });
    assert!(running.owner.durable(id, 100));
    assert!(running.store.status().used_bytes <= capacity);
    drop(running);
    let survived = &Running::open(&disk, options()).survived[&id];
    assert!(!survived.damaged);
    assert_eq!(survived.floor, floor(100));
}

#[test]
fn a_journal_without_room_makes_some_by_moving_what_pins_its_oldest_file() {
    let capacity = 3 * (64 << 10) + 2 * 8192 + 528_384;
    let disk = MemoryDisk::default();
    let running = Running::open(&disk, StoreOptions { capacity_bytes: Some(capacity), ..options() });
    let (busy, silent) = (segment(1), segment(2));
    running.store.create_segment(busy, membership(), charter(), false).expect("new");
    running.store.create_segment(silent, membership(), charter(), false).expect("new");
    running.store.append(silent, AppendId(1), &records([1, 2]));
    running.store.append(silent, AppendId(2), &Entry::Promise { volume_epoch: VolumeEpoch::new(9, WriterId(9)) });
    assert!(running.owner.durable(silent, 2));
    for lsn in 1..=60 {
        running.store.append(busy, AppendId(lsn), &records([lsn; 100]));
        assert!(running.owner.durable(busy, lsn));
        running.store.run(busy, coalesce(lsn..=lsn));
        running.wait_for(|outcome| *outcome == Outcome::Coalesced { floor: floor(lsn) });
    }
    assert!(running.store.status().used_bytes <= capacity);
    drop(running);
    let survived = &Running::open(&disk, options()).survived[&silent];
    assert!(!survived.damaged);
    assert_eq!(lsns(survived), [1, 2]);
    assert!(matches!(survived.entries.last(), Some(Entry::Promise { volume_epoch }) if volume_epoch.number == 9));
}
