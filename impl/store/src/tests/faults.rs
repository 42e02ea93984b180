//! Power cuts and flipped bits: what the store must survive, or admit.

use crate::tests::testing::*;
use crate::{Delta, PAGE_SIZE, PageImage, StoreOptions};
use auriga_protocol::message::BasePage;
use auriga_protocol::segment::{Entry, Outcome, Task};
use auriga_protocol::{AppendId, Lsn, PageId, SegmentId, Token};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) fn floor(lsn: u64) -> Lsn {
    Lsn(lsn)
}

pub(crate) fn coalesce(lsns: std::ops::RangeInclusive<u64>) -> Task<Delta> {
    let floor = floor(*lsns.end());
    Task::Coalesce { floor, records: lsns.map(|lsn| record(lsn, page(lsn % 7))).collect() }
}

/// The record that each page must be as of when everything through `through` is applied; without zero pages.
fn expected(through: u64) -> BTreeMap<u64, u64> {
    let mut pages: BTreeMap<_, _> = (1..=through).map(|lsn| (lsn % 7, lsn)).collect();
    pages.retain(|_, lsn| content(*lsn).iter().any(|byte| *byte != 0));
    pages
}

/// What was confirmed to the owner, and what may have happened beyond.
#[derive(Clone, Default, Debug)]
struct Confirmed {
    created: bool,
    appended: u64,
    floor: u64,
    floor_asked: u64,
}

/// Appends and coalesces until `rounds` are done or the disk fails. LSNs are as the append that brought them.
fn work(disk: &MemoryDisk, id: SegmentId, rounds: u64) -> Confirmed {
    let mut confirmed = Confirmed::default();
    let Ok((store, _)) = crate::Store::open_on(std::sync::Arc::new(disk.clone()), options()) else { return confirmed };
    let owner = std::sync::Arc::new(Recorder::default());
    store.start(owner.clone());
    if store.create_segment(id, membership(), charter(), false).is_err() {
        return confirmed;
    }
    confirmed.created = true;
    for lsn in 1..=rounds {
        store.append(id, AppendId(lsn), &records([lsn]));
        if !owner.durable(id, lsn) {
            return confirmed;
        }
        confirmed.appended = lsn;
        if lsn % 5 != 0 {
            continue;
        }
        // Whatever makes a page zero is coalesced alone: a commit that does nothing but forget.
        let zero = |lsn| content(lsn).iter().all(|byte| *byte == 0);
        for end in (confirmed.floor + 1..=lsn - 2).filter(|end| *end == lsn - 2 || zero(*end) || zero(end + 1)) {
            confirmed.floor_asked = end;
            store.run(id, coalesce(confirmed.floor + 1..=end));
            if owner.outcome(id) != Some(Outcome::Coalesced { floor: floor(end) }) {
                return confirmed;
            }
            confirmed.floor = end;
        }
        // Twice: what is free now was not needed in between.
        if store.give_back_room().and_then(|()| store.give_back_room()).is_err() {
            return confirmed;
        }
    }
    confirmed
}

/// Reads every page of the segment: it must be as of its floor, or admitted to be damaged or lost.
fn check_pages(running: &Running, id: SegmentId, through: u64) -> bool {
    let mut sound = true;
    for block in 0..7 {
        running.store.run(id, Task::ReadBase { token: Token(block), page: page(block) });
    }
    for _ in 0..7 {
        match running.owner.outcome(id).expect("no failure") {
            Outcome::Base { page: at, base, .. } => {
                let wanted = expected(through).get(&at.block).map(|lsn| BasePage {
                    page: at,
                    version: Lsn(*lsn),
                    content: PageImage::copy_from(&content(*lsn)),
                });
                assert_eq!(base, wanted, "{at:?} as of {through}");
            }
            Outcome::Damaged { .. } => sound = false,
            other => panic!("{other:?}"),
        }
    }
    sound
}

/// The store after `disk` was left behind with `confirmed`: nothing confirmed may be missing.
fn check_nothing_lost(disk: &MemoryDisk, id: SegmentId, confirmed: &Confirmed, what: &str) {
    let running = Running::open(disk, options());
    let Some(survived) = running.survived.get(&id) else {
        assert!(!confirmed.created, "{what}: the segment is gone");
        return;
    };
    assert!(!survived.damaged, "{what}: nothing was damaged, but {confirmed:?}");
    let floor = survived.floor.0;
    assert!(floor == confirmed.floor || floor == confirmed.floor_asked, "{what}: floor {floor}, {confirmed:?}");
    let found: Vec<u64> = lsns(survived).into_iter().filter(|lsn| *lsn > floor).collect();
    let last = found.last().copied().unwrap_or(floor);
    assert!(last >= confirmed.appended && last <= confirmed.appended + 1, "{what}: {last}, {confirmed:?}");
    assert_eq!(found, (floor + 1..=last).collect::<Vec<_>>(), "{what}");
    assert!(check_pages(&running, id, floor), "{what}: pages are damaged");
    // It goes on, and what the cut left half done does not come back.
    running.store.append(id, AppendId(1), &records([last + 1]));
    assert!(running.owner.durable(id, 1), "{what}: append");
    running.store.run(id, coalesce(floor + 1..=floor + 1));
    assert!(matches!(running.owner.outcome(id), Some(Outcome::Coalesced { .. })), "{what}: coalesce");
    drop(running);
    let running = Running::open(disk, options());
    assert!(!running.survived[&id].damaged, "{what}: damaged by going on");
    assert!(check_pages(&running, id, floor + 1), "{what}: pages are damaged by going on");
}

#[test]
fn a_power_cut_at_any_write_loses_nothing_that_was_confirmed() {
    const ROUNDS: u64 = 32;
    let whole = MemoryDisk::default();
    work(&whole, segment(1), ROUNDS);
    let writes = whole.writes();
    assert!(whole.punched() > 10 * PAGE_SIZE as u64, "{} bytes given back: too few", whole.punched());
    assert!(writes > 80, "{writes} writes: too few to be worth cutting");
    let mut random = fastrand::Rng::with_seed(1);
    for cut in 0..writes {
        let disk = MemoryDisk::default();
        disk.cut_after(cut);
        let confirmed = work(&disk, segment(1), ROUNDS);
        check_nothing_lost(&disk.after_power_cut(|_| (0, 0)), segment(1), &confirmed, &format!("cut {cut}, all lost"));
        check_nothing_lost(&disk.copy(), segment(1), &confirmed, &format!("cut {cut}, all kept"));
        for attempt in 0..3 {
            let torn = disk.after_power_cut(|sectors| {
                let first = random.usize(0..=sectors);
                if random.bool() { (0, first) } else { (first, sectors - first) }
            });
            check_nothing_lost(&torn, segment(1), &confirmed, &format!("cut {cut}, torn {attempt}"));
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_is_harmless_or_noticed() {
    const LAST: u64 = 23;
    let disk = MemoryDisk::default();
    let confirmed = work(&disk, segment(1), LAST);
    assert_eq!((confirmed.appended, confirmed.floor), (LAST, 18));
    let mut noticed = BTreeMap::new();
    for (name, length) in disk.files() {
        for at in interesting(&name, length) {
            let flipped = disk.copy();
            flipped.flip(&name, at, 1 << (at % 8));
            let verdict = verdict_on(&flipped, &confirmed, &format!("{name}, byte {at}"));
            *noticed.entry((name.split('/').next().unwrap_or_default().to_owned(), verdict)).or_insert(0) += 1;
        }
    }
    let count = |kind: &str, verdict| noticed.get(&(kind.to_owned(), verdict)).copied().unwrap_or(0);
    assert!(count("journal", Verdict::LogDamaged) > 50, "{noticed:?}");
    assert!(count("pages", Verdict::PageDamaged) > 50, "{noticed:?}");
    assert!(count("pages", Verdict::PagesLost) > 50, "{noticed:?}");
    assert_eq!(count("node", Verdict::Harmless), 200 * 2, "two copies: {noticed:?}");
}

/// Every byte near the start of each block, where headers are, and some of the rest.
fn interesting(name: &str, length: usize) -> Vec<usize> {
    let (dense, stride) = if name.starts_with("node") { (200, usize::MAX) } else { (72, 997) };
    let starts = (0..length).step_by(4096).take(24);
    let mut bytes: Vec<usize> = starts.flat_map(|start| start..(start + dense).min(length)).collect();
    bytes.extend((0..length).step_by(stride.min(length)).skip(1));
    // Slot headers of the first group: 64 bytes each, in the third block of a page file.
    if name.starts_with("pages") {
        bytes.extend(8192..8192 + 16 * 64);
    }
    bytes
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Verdict {
    Harmless,
    LogDamaged,
    PageDamaged,
    PagesLost,
}

fn verdict_on(disk: &MemoryDisk, confirmed: &Confirmed, what: &str) -> Verdict {
    let id = segment(1);
    let running = Running::open(disk, options());
    let survived = running.survived.get(&id).unwrap_or_else(|| panic!("{what}: the segment is gone"));
    assert_eq!(survived.floor, floor(confirmed.floor), "{what}");
    assert_eq!(survived.entries.first(), Some(&Entry::Membership(membership())), "{what}");
    let mut found = lsns(survived);
    found.retain(|lsn| *lsn > confirmed.floor);
    let wanted: Vec<u64> = (confirmed.floor + 1..=confirmed.appended).collect();
    if survived.damaged {
        assert!(found.iter().all(|lsn| wanted.contains(lsn)), "{what}");
        damage_is_remembered(disk, running, what);
        return Verdict::LogDamaged;
    }
    assert_eq!(found, wanted, "{what}: entries are gone, and it was not noticed");
    if running.owner.wait("start", |told| Some(told.outcomes.contains(&(id, Outcome::PagesLost)))) {
        assert_eq!(running.store.status().pages, 0, "{what}");
        return Verdict::PagesLost;
    }
    if check_pages(&running, id, confirmed.floor) { Verdict::Harmless } else { Verdict::PageDamaged }
}

/// Damage is told at every start, until the segment has said that it knows.
fn damage_is_remembered(disk: &MemoryDisk, running: Running, what: &str) {
    drop(running);
    let running = Running::open(disk, options());
    assert!(running.survived[&segment(1)].damaged, "{what}: told once only");
    let target = None;
    let incarnation = Default::default();
    running.store.append(segment(1), AppendId(1), &Entry::Amnesia { incarnation, target });
    assert!(running.owner.durable(segment(1), 1), "{what}");
    drop(running);
    let running = Running::open(disk, options());
    let survived = &running.survived[&segment(1)];
    assert!(!survived.damaged, "{what}: told again");
    assert_eq!(survived.entries.last(), Some(&Entry::Amnesia { incarnation, target }), "{what}");
}

#[test]
fn lost_pages_stay_lost_until_all_have_come_from_a_peer() {
    let disk = MemoryDisk::default();
    let confirmed = work(&disk, segment(1), 23);
    let name = disk.files().into_iter().map(|(name, _)| name).find(|name| name.starts_with("pages")).expect("one");
    (8192..8192 + 64 * 64).step_by(64).for_each(|header| disk.flip(&name, header + 9, 1));
    for _ in 0..2 {
        let running = Running::open(&disk, options());
        assert_eq!(running.owner.outcome(segment(1)), Some(Outcome::PagesLost));
        assert!(!running.survived[&segment(1)].damaged, "the log is whole");
    }
    let running = Running::open(&disk, options());
    assert_eq!(running.owner.outcome(segment(1)), Some(Outcome::PagesLost));
    let base = |(block, lsn): (u64, u64)| BasePage {
        page: page(block),
        version: Lsn(lsn),
        content: PageImage::copy_from(&content(lsn)),
    };
    let pages = expected(confirmed.floor).into_iter().map(base).collect();
    let floor = Some(floor(confirmed.floor));
    running.store.run(
        segment(1),
        Task::PutBases { token: Token(1), pages, unchanged: Vec::new(), replace: None, floor, ceiling: Lsn::ZERO },
    );
    assert_eq!(running.owner.outcome(segment(1)), Some(Outcome::BasesPut { token: Token(1) }));
    drop(running);
    check_nothing_lost(&disk, segment(1), &confirmed, "healed");
}

#[test]
fn a_damaged_page_is_found_by_scrubbing_and_healed() {
    let disk = MemoryDisk::default();
    let confirmed = work(&disk, segment(1), 23);
    let name = disk.files().into_iter().map(|(name, _)| name).find(|name| name.starts_with("pages")).expect("one");
    // A byte that every page has, in all slots.
    (0..64).for_each(|slot| {
        let at = 12288 + slot * 8192 + 4050;
        if at < disk.files().iter().find(|(other, _)| *other == name).expect("there").1 {
            disk.flip(&name, at, 4);
        }
    });
    let running = Running::open(&disk, options());
    running.store.run(segment(1), Task::Scrub { limit: 3 });
    running.store.run(segment(1), Task::Scrub { limit: 100 });
    let Some(Outcome::Scrubbed { mut damaged }) = running.owner.outcome(segment(1)) else { panic!("no scrub") };
    if damaged.len() == 3 {
        // Both were run one after the other; otherwise they were one.
        running.store.run(segment(1), Task::Scrub { limit: 4 });
        let Some(Outcome::Scrubbed { damaged: more }) = running.owner.outcome(segment(1)) else { panic!("no scrub") };
        damaged.extend(more);
    }
    damaged.sort_unstable();
    damaged.dedup();
    assert!(damaged.len() >= 3, "{damaged:?}");
    running.store.run(segment(1), coalesce(19..=20));
    let outcome = running.wait_for(|outcome| matches!(outcome, Outcome::Damaged { token: None, .. }));
    let Outcome::Damaged { page: first, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(first, page(5), "the first that the records change");
    for (block, lsn) in expected(confirmed.floor) {
        let content = PageImage::copy_from(&content(lsn));
        let pages = vec![BasePage { page: page(block), version: Lsn(lsn), content }];
        running.store.run(
            segment(1),
            Task::PutBases {
                token: Token(9),
                pages,
                unchanged: Vec::new(),
                replace: None,
                floor: None,
                ceiling: Lsn::ZERO,
            },
        );
        running.wait_for(|outcome| matches!(outcome, Outcome::BasesPut { .. }));
    }
    running.store.run(segment(1), coalesce(19..=20));
    running.wait_for(|outcome| matches!(outcome, Outcome::Coalesced { .. }));
    assert!(check_pages(&running, segment(1), 20));
}

#[test]
fn damage_of_one_segments_superblocks_makes_that_segment_forget_and_no_other() {
    let disk = MemoryDisk::default();
    {
        let running = Running::open(&disk, options());
        for volume in 1..=2 {
            running.store.create_segment(segment(volume), membership(), charter(), false).expect("new");
            running.store.append(segment(volume), AppendId(1), &Entry::Membership(membership()));
            running.store.append(segment(volume), AppendId(2), &Entry::Charter(charter()));
            running.store.append(segment(volume), AppendId(3), &records(1..=3));
            assert!(running.owner.durable(segment(volume), 3));
        }
    }
    disk.flip("pages/v1-pg0-B", 40, 1);
    disk.flip("pages/v1-pg0-B", 4096 + 40, 1);
    for _ in 0..2 {
        let running = Running::open(&disk, options());
        let damaged: Vec<bool> = running.survived.values().map(|survived| survived.damaged).collect();
        assert_eq!(damaged, [true, false]);
        assert_eq!(running.owner.outcome(segment(1)), Some(Outcome::PagesLost));
    }
}

#[test]
fn scrubbing_finds_damage_in_a_complete_journal_file_and_the_next_start_tells_it() {
    let disk = MemoryDisk::default();
    let options = || StoreOptions { scrub_journal_every: Duration::from_millis(1), ..options() };
    let running = Running::open(&disk, options());
    running.store.create_segment(segment(1), membership(), charter(), false).expect("new");
    for lsn in 1..=30 {
        running.store.append(segment(1), AppendId(lsn), &records([lsn]));
        assert!(running.owner.durable(segment(1), lsn));
    }
    disk.flip("journal/00000001", 3 * 4096 + 50, 1);
    let fatal = running.owner.wait("a failure", |told| told.fatal.clone());
    assert_eq!(fatal, "journal file journal/00000001 is damaged at or after byte 12288");
    drop(running);
    let running = Running::open(&disk, options());
    assert!(running.survived[&segment(1)].damaged);
}

#[test]
#[should_panic(expected = "bytes queued")]
fn more_queued_than_a_segment_may_is_a_broken_invariant() {
    let disk = MemoryDisk::default();
    let (store, _) = crate::Store::open_on(std::sync::Arc::new(disk), StoreOptions { queue_bytes: 1000, ..options() })
        .expect("opens");
    store.create_segment(segment(1), membership(), charter(), false).expect("new");
    (1..100).for_each(|lsn| store.append(segment(1), AppendId(lsn), &records([lsn])));
}

#[test]
fn each_copy_of_the_identity_may_be_damaged_if_a_start_lies_between() {
    let disk = MemoryDisk::default();
    let open = || crate::Store::open_on(std::sync::Arc::new(disk.clone()), options());
    drop(open().unwrap());
    for copy in [0, 1, 0] {
        disk.flip("node", copy * 4096 + 40, 1);
        assert!(open().is_ok(), "copy {copy}");
    }
}

#[test]
fn a_directory_of_an_earlier_or_later_build_is_refused_by_name_and_left_alone() {
    let disk = MemoryDisk::default();
    let open = || crate::Store::open_on(std::sync::Arc::new(disk.clone()), options());
    drop(open().unwrap());
    let file = crate::disk::Directory::open(&disk, "node").expect("there is one");
    for (magic, age) in [(*b"AUN1", "earlier"), (*b"AUN2", "earlier"), (*b"AUN4", "later"), (*b"AUN9", "later")] {
        let found = String::from_utf8_lossy(&magic);
        crate::twin::write_both(&*file, magic, 1, b"another build's").expect("written");
        let refused = open().err().expect("refused").to_string();
        assert_eq!(refused, format!("the directory has the format {found} of {age} builds; this one reads AUN3"));
        assert_eq!(crate::twin::read(&*file, magic).expect("readable").expect("as it was").1, b"another build's");
    }
    crate::twin::write_both(&*file, *b"ELSE", 1, b"").expect("written");
    assert!(matches!(open(), Err(crate::OpenError::IdentityLost)), "no magic of ours");
}

/// Neighbours are read at once: that answers what reading one by one answers, also next to a page that is damaged.
#[test]
fn pages_that_are_read_together_are_as_if_they_were_read_one_by_one() {
    let disk = MemoryDisk::default();
    work(&disk, segment(1), 23);
    let (name, length) = disk.files().into_iter().find(|(name, _)| name.starts_with("pages/")).expect("one");
    for damaged in [None, Some(8192 + 4096 + 9000), Some(8192 + 2 * 64 + 9), Some(length - 1)] {
        let disk = disk.copy();
        let running = Running::open(&disk, options());
        damaged.into_iter().for_each(|at| disk.flip(&name, at, 4));
        let read = |wanted: &[(Token, PageId)]| {
            let mut read = Vec::new();
            let answered = running.store.page_file(segment(1)).read_bases(wanted, |outcomes| read = outcomes);
            answered.expect("the disk works");
            read
        };
        let wanted: Vec<(Token, PageId)> = (0..12).rev().map(|block| (Token(block), page(block))).collect();
        let one_by_one: Vec<_> = wanted.iter().flat_map(|one| read(&[*one])).collect();
        assert_eq!(read(&wanted), one_by_one, "{damaged:?}");
        let found = one_by_one.iter().filter(|one| matches!(one, Outcome::Base { base: Some(_), .. })).count();
        assert!(found >= 5 && found < wanted.len(), "{found} of them are there");
    }
}
