//! Room: what pages that are gone or replaced took is given back, and is there again when it is needed.

use crate::tests::faults::floor;
use crate::tests::testing::*;
use crate::{Delta, PAGE_SIZE, PageImage, Store, StoreOptions};
use auriga_protocol::message::BasePage;
use auriga_protocol::segment::{Outcome, Task};
use auriga_protocol::{Lsn, Record, Token};
use std::sync::Arc;

/// Pages of a load: some groups of slots.
const PAGES: u64 = 1000;
const LOAD: u64 = PAGES * PAGE_SIZE as u64;
/// LSNs whose records replace their page by something that is not zero.
const FIRST: u64 = 1001;

/// Replaces every page, by records from `first` on.
fn load(first: u64) -> Task<Delta> {
    let records = (first..first + PAGES).map(|lsn| record(lsn, page(lsn - first))).collect();
    Task::Coalesce { floor: floor(first + PAGES - 1), records }
}

/// Makes every page zero, by records from `first` on.
fn forget(first: u64) -> Task<Delta> {
    let zero = |lsn| Record { payload: Delta::zero(), ..record(lsn, page(lsn - first)) };
    Task::Coalesce { floor: floor(first + PAGES - 1), records: (first..first + PAGES).map(zero).collect() }
}

fn run(running: &Running, task: Task<Delta>) {
    running.store.run(segment(1), task);
    running.wait_for(|outcome| matches!(outcome, Outcome::Coalesced { .. }));
}

fn give_back(store: &Store) {
    (0..2).for_each(|_| store.give_back_room().expect("no failure"));
}

fn created(disk: &MemoryDisk, options: StoreOptions) -> Running {
    let running = Running::open(disk, options);
    running.store.create_segment(segment(1), membership(), charter(), false).expect("new");
    running
}

/// Groups of slots in the page file.
fn groups(disk: &MemoryDisk) -> usize {
    disk.files()
        .into_iter()
        .find(|(name, _)| name.starts_with("pages"))
        .expect("one")
        .1
        .saturating_sub(8192)
        .div_ceil(528_384)
}

#[test]
fn what_is_forgotten_is_given_back_and_the_file_does_not_grow() {
    let disk = MemoryDisk::default();
    let mut running = created(&disk, options());
    let fresh = running.store.status().used_bytes;
    run(&running, load(FIRST));
    let (loaded, long) = (running.store.status().used_bytes, groups(&disk));
    assert!(loaded >= fresh + LOAD);
    for round in 1..4 {
        let first = FIRST + 2 * round * PAGES;
        run(&running, forget(first));
        give_back(&running.store);
        let left = running.store.status().used_bytes;
        assert!(left < fresh + LOAD / 20, "{fresh} bytes at first, {loaded} when loaded, now {left}");
        drop(running);
        running = Running::open(&disk, options());
        give_back(&running.store);
        assert_eq!((running.store.status().used_bytes, running.store.status().pages), (left, 0), "also to the next");
        run(&running, load(first + PAGES));
        assert_eq!((running.store.status().used_bytes, groups(&disk)), (loaded, long), "round {round}");
    }
    assert!(disk.punched() >= 3 * LOAD);
    running.store.run(segment(1), Task::ReadBase { token: Token(1), page: page(999) });
    let lsn = FIRST + 8 * PAGES - 1;
    let base = BasePage { page: page(999), version: Lsn(lsn), content: PageImage::copy_from(&content(lsn)) };
    let read = running.wait_for(|outcome| matches!(outcome, Outcome::Base { .. }));
    assert_eq!(read, Outcome::Base { token: Token(1), page: page(999), base: Some(base) });
}

#[test]
fn updates_neither_grow_the_file_nor_make_holes() {
    let disk = MemoryDisk::default();
    let running = created(&disk, options());
    run(&running, load(FIRST));
    run(&running, load(FIRST + PAGES));
    running.store.give_back_room().expect("no failure");
    let (used, long) = (running.store.status().used_bytes, groups(&disk));
    for round in 2..12 {
        run(&running, load(FIRST + round * PAGES));
        running.store.give_back_room().expect("no failure");
    }
    assert_eq!((running.store.status().used_bytes, groups(&disk), disk.punched()), (used, long, 0));
    give_back(&running.store);
    let left = running.store.status().used_bytes;
    assert!(left < used - LOAD * 3 / 4, "{left} of {used}: what no update needs any more is given back but for a part");
    assert!(left > used - LOAD, "a part is kept for the next commit");
}

#[test]
fn a_full_disk_forgets_pages_and_has_room_again() {
    let disk = MemoryDisk::default();
    // Room for the load, and for nothing else.
    let capacity = 3 * (64 << 10) + 8192 + LOAD + PAGES.div_ceil(64) * 4096;
    let running = created(&disk, StoreOptions { capacity_bytes: Some(capacity), ..options() });
    run(&running, load(FIRST));
    let extra = |first| Task::Coalesce { floor: floor(first), records: vec![record(first, page(PAGES + 1))] };
    run(&running, forget(FIRST + PAGES));
    give_back(&running.store);
    run(&running, load(FIRST + 2 * PAGES));
    running.store.run(segment(1), extra(FIRST + 3 * PAGES));
    running.wait_for(|outcome| *outcome == Outcome::DiskFull(true));
    assert!(running.store.status().used_bytes <= capacity);
}

#[test]
fn a_file_system_without_holes_goes_on_without() {
    let disk = MemoryDisk::default();
    disk.without_holes();
    let running = created(&disk, options());
    run(&running, load(FIRST));
    let loaded = running.store.status().used_bytes;
    run(&running, forget(FIRST + PAGES));
    give_back(&running.store);
    run(&running, load(FIRST + 2 * PAGES));
    assert_eq!(running.store.status().used_bytes, loaded, "it is used again, at least");
}

#[test]
fn a_real_file_system_has_the_room_again() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = Store::open(dir.path(), options()).expect("opens");
    let owner = Arc::new(Recorder::default());
    store.start(owner.clone());
    store.create_segment(segment(1), membership(), charter(), false).expect("new");
    let name = std::fs::read_dir(dir.path().join("pages")).expect("there").next().expect("one").expect("readable");
    let room = || name.metadata().expect("there").blocks() * 512;
    for task in [load(FIRST), forget(FIRST + PAGES)] {
        store.run(segment(1), task);
        assert!(matches!(owner.outcome(segment(1)), Some(Outcome::Coalesced { .. })));
    }
    let before = room();
    give_back(&store);
    // Where the file system can't make holes, nothing changes.
    let (after, used) = (room(), store.status().used_bytes);
    assert!(after < LOAD / 10 || used > LOAD, "{before} bytes before, {after} after; the store counts {used}");
}
