//! The store as its owner sees it.

mod faults;
mod full_disk;
mod room;
mod sequences;
pub mod testing;
mod vectors;

use crate::tests::testing::*;
use crate::{Delta, OpenError, PAGE_SIZE, PageImage, Store, StoreOptions};
use auriga_protocol::message::BasePage;
use auriga_protocol::segment::{Entry, Outcome, PageRange, Task};
use auriga_protocol::{AppendId, Lsn, Token, VolumeEpoch, WriterId};
use std::sync::Arc;

fn floor(lsn: u64) -> Lsn {
    Lsn(lsn)
}

fn coalesce(through: u64) -> Task<Delta> {
    let records = (1..=through).map(|lsn| record(lsn, page(lsn % 7))).collect();
    Task::Coalesce { floor: floor(through), records }
}

fn promise(epoch: u64) -> Entry<Delta> {
    Entry::Promise { volume_epoch: VolumeEpoch::new(epoch, WriterId(epoch)) }
}

#[test]
fn what_was_reported_durable_is_there_after_a_restart() {
    let disk = MemoryDisk::default();
    let running = Running::open(&disk, options());
    running.store.create_segment(segment(1), membership(), charter(), false).expect("new");
    running.store.append(segment(1), AppendId(1), &promise(1));
    running.store.append(segment(1), AppendId(2), &records(1..=3));
    assert!(running.owner.durable(segment(1), 2));
    drop(running);
    let disk = disk.after_power_cut(|_| (0, 0));
    let running = Running::open(&disk, options());
    let survived = &running.survived[&segment(1)];
    assert!(!survived.damaged);
    assert_eq!(survived.floor, Lsn::ZERO);
    assert_eq!(survived.entries, [Entry::Membership(membership()), promise(1), records(1..=3)]);
}

#[test]
fn a_real_directory_works_like_the_one_in_memory_and_belongs_to_one_node_and_process() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, survived) = Store::open(dir.path(), options()).expect("opens");
    assert!(survived.is_empty());
    assert!(matches!(Store::open(dir.path(), options()), Err(OpenError::Io(_))), "it is in use");
    let owner = Arc::new(Recorder::default());
    store.start(owner.clone());
    store.create_segment(segment(1), membership(), charter(), false).expect("new");
    assert!(store.create_segment(segment(1), membership(), charter(), false).is_err(), "it exists");
    store.append(segment(1), AppendId(1), &records(1..=20));
    assert!(owner.durable(segment(1), 1));
    store.run(segment(1), coalesce(10));
    assert_eq!(owner.outcome(segment(1)), Some(Outcome::Coalesced { floor: floor(10) }));
    store.run(segment(1), Task::ReadBase { token: Token(1), page: page(3) });
    let base = Some(BasePage { page: page(3), version: Lsn(10), content: PageImage::copy_from(&content(10)) });
    assert_eq!(owner.outcome(segment(1)), Some(Outcome::Base { token: Token(1), page: page(3), base }));
    drop(store);
    let (store, survived) = Store::open(dir.path(), options()).expect("opens");
    assert_eq!(survived[0].1.floor, floor(10));
    assert_eq!(lsns(&survived[0].1), (1..=20).collect::<Vec<_>>());
    drop(store);
    let other = StoreOptions { node: "other".into(), ..options() };
    assert!(matches!(Store::open(dir.path(), other), Err(OpenError::WrongIdentity { .. })));
    std::fs::remove_file(dir.path().join("node")).expect("there is one");
    assert!(matches!(Store::open(dir.path(), options()), Err(OpenError::IdentityLost)));
}

#[test]
fn a_page_that_becomes_zero_is_forgotten_for_good() {
    let disk = MemoryDisk::default();
    let mut running = Running::open(&disk, options());
    running.store.create_segment(segment(1), membership(), charter(), false).expect("new");
    running.store.run(segment(1), coalesce(10));
    running.owner.outcome(segment(1));
    let mut gone = record(11, page(3));
    gone.payload = Delta::zero();
    running.store.run(segment(1), Task::Coalesce { floor: floor(11), records: vec![gone] });
    for round in 0..4 {
        assert!(matches!(running.owner.outcome(segment(1)), Some(Outcome::Coalesced { .. })));
        running.store.run(segment(1), Task::ReadBase { token: Token(1), page: page(3) });
        let outcome = running.owner.outcome(segment(1));
        assert_eq!(outcome, Some(Outcome::Base { token: Token(1), page: page(3), base: None }), "{round}");
        drop(running);
        running = Running::open(&disk.after_power_cut(|_| (0, 0)), options());
        assert_eq!(running.store.status().pages, 6);
        let other = record(12 + round, page(4));
        running.store.run(segment(1), Task::Coalesce { floor: floor(12 + round), records: vec![other] });
    }
}

#[test]
fn bases_are_read_in_page_order_and_replaced_by_range() {
    let disk = MemoryDisk::default();
    let running = Running::open(&disk, options());
    let run = |task| {
        running.store.run(segment(1), task);
        running.owner.outcome(segment(1)).expect("no failure")
    };
    running.store.create_segment(segment(1), membership(), charter(), false).expect("new");
    run(coalesce(14));
    let read = |after: Option<u64>, newer_than, limit, look| {
        let (token, after, newer_than) = (Token(2), after.map(page), Lsn(newer_than));
        match run(Task::ReadBases { token, after, newer_than, limit, look }) {
            Outcome::Bases { pages, unchanged, complete, .. } => {
                let newer: Vec<u64> = pages.iter().map(|base| base.page.block).collect();
                (newer, unchanged.iter().map(|page| page.block).collect::<Vec<_>>(), complete)
            }
            other => panic!("{other:?}"),
        }
    };
    // The last records of blocks 0 to 6 are 14, 8, 9, …, 13.
    assert_eq!(read(None, 10, 9, 99), (vec![0, 4, 5, 6], vec![1, 2, 3], true));
    assert_eq!(read(None, 10, 2, 99), (vec![0, 4], vec![1, 2, 3], false));
    assert_eq!(read(Some(0), 10, 2, 3), (vec![], vec![1, 2, 3], false));
    let blocks = |after, limit| {
        let (newer, _, complete) = read(after, 0, limit, 99);
        (newer, complete)
    };
    assert_eq!(blocks(None, 3), (vec![0, 1, 2], false));
    assert_eq!(blocks(Some(3), 3), (vec![4, 5, 6], true));
    let replace = Some(PageRange { after: Some(page(1)), through: Some(page(5)) });
    let new = BasePage { page: page(4), version: Lsn(2), content: PageImage::copy_from(&[9; PAGE_SIZE]) };
    let put = Task::PutBases {
        token: Token(3),
        pages: vec![new.clone()],
        unchanged: vec![page(3)],
        replace,
        floor: None,
        ceiling: Lsn(20),
    };
    assert_eq!(run(put), Outcome::BasesPut { token: Token(3) });
    assert_eq!(blocks(None, 9), (vec![0, 1, 3, 4, 6], true));
    let read = run(Task::ReadBase { token: Token(4), page: page(4) });
    assert_eq!(read, Outcome::Base { token: Token(4), page: page(4), base: Some(new) }, "though it is older");
    drop(running);
    let survived = &Running::open(&disk.after_power_cut(|_| (0, 0)), options()).survived[&segment(1)];
    assert_eq!((survived.floor, survived.ceiling), (floor(14), Lsn(20)), "the ceiling is durable with the pages");
}

#[test]
fn a_long_journal_is_recycled_and_a_silent_segment_does_not_hold_it() {
    let disk = MemoryDisk::default();
    let running = Running::open(&disk, options());
    let (busy, silent) = (segment(1), segment(2));
    running.store.create_segment(busy, membership(), charter(), false).expect("new");
    running.store.create_segment(silent, membership(), charter(), false).expect("new");
    running.store.append(silent, AppendId(1), &promise(7));
    running.store.append(silent, AppendId(2), &records(1..=2));
    let mut most = 0;
    for round in 0..100 {
        let lsns = round * 20 + 1..=round * 20 + 20;
        running.store.append(busy, AppendId(2 * round + 1), &records(lsns.clone()));
        running.store.append(busy, AppendId(2 * round + 2), &promise(round));
        assert!(running.owner.durable(busy, 2 * round + 2));
        let records = lsns.clone().map(|lsn| record(lsn, page(lsn % 7))).collect();
        running.store.run(busy, Task::Coalesce { floor: floor(*lsns.end()), records });
        running.owner.outcome(busy);
        most = most.max(running.store.status().journal_files);
    }
    assert!(most <= 8, "{most} files in use for one batch of needed records");
    drop(running);
    let running = Running::open(&disk, options());
    assert_eq!(lsns(&running.survived[&silent]), [1, 2]);
    assert_eq!(running.survived[&silent].entries[1], promise(7));
    let busy = &running.survived[&busy];
    assert_eq!((busy.entries.last(), busy.floor), (Some(&promise(99)), floor(2000)));
    assert!(running.survived.values().all(|survived| !survived.damaged));
}
