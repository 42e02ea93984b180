//! A copy that comes back takes nothing from the copy that heals it (R-HYDRATE-3), and no more than it misses
//! (R-HYDRATE-1).

use auriga_conformance::caught::caught;
use auriga_conformance::disk::Disk;
use auriga_protocol::quorum::{Membership, QuorumSet};
use auriga_protocol::segment::{Segment, SegmentConfig, Timer};
use auriga_protocol::{
    Defect, Defects, Effect, Effects, Input, Install, Lsn, Machine, MemberId, Message, Micros, PageId, Party, Payload,
    PgId, Record, Refusal, SegmentId, Token, VolumeEpoch, VolumeId, WriterId,
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Appends its number to its page; zero clears it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Push(u32);

impl Payload for Push {
    type Page = Vec<u32>;

    fn apply(&self, page: &mut Vec<u32>) {
        match self.0 {
            0 => page.clear(),
            number => page.push(number),
        }
    }

    fn weight(&self) -> usize {
        4
    }

    fn may_clear(&self) -> bool {
        self.0 == 0
    }
}

const VOLUME: VolumeId = VolumeId(1);
const WRITER: Party = Party::Writer(VOLUME, WriterId(1));
const EPOCH: VolumeEpoch = VolumeEpoch { number: 1, writer: WriterId(1) };
/// Weight of a record.
const RECORD: usize = 164;

struct Copy {
    id: SegmentId,
    machine: Segment<Push>,
    disk: Disk<Push>,
}

/// A copy that is whole, a copy that was away, and what travels between them.
struct Pair {
    whole: Copy,
    away: Copy,
    under_way: VecDeque<(SegmentId, SegmentId, Message<Push>)>,
    last: u64,
    /// Every write: block and number, in order from LSN 1.
    written: Vec<(u64, u32)>,
    /// Of the messages that brought pages: pages, and pages said to be unchanged.
    brought: Vec<(usize, usize)>,
    refused: u32,
    /// What a read was answered.
    page: Option<Vec<u32>>,
}

fn config(defects: Defects) -> SegmentConfig {
    SegmentConfig {
        defects,
        log_weight_max: 20 * RECORD,
        hydrate_pages_max: 2,
        hydrate_look_max: 8,
        ..SegmentConfig::tiny()
    }
}

impl Copy {
    fn new(member: u8, defects: Defects) -> Copy {
        let id = SegmentId { volume: VOLUME, pg: PgId(0), member: MemberId(member) };
        let mut disk = Disk::founded(Membership::initial(QuorumSet::aurora()));
        let install = Install { volume_epoch: EPOCH, ..Install::default() };
        disk.append(auriga_protocol::AppendId(1), auriga_protocol::segment::Entry::Install(install));
        disk.crash(1);
        let mut out = Effects::default();
        let machine = Segment::boot(&config(defects), id, disk.survived(), Micros(0), &mut out);
        Copy { id, machine, disk }
    }
}

impl Pair {
    fn new() -> Pair {
        Pair::with(Defects::NONE)
    }

    fn with(defects: Defects) -> Pair {
        let (whole, away) = (Copy::new(0, defects), Copy::new(1, defects));
        let (under_way, brought, written) = Default::default();
        Pair { whole, away, under_way, last: 0, written, brought, refused: 0, page: None }
    }

    /// Feeds one input, and does everything that the copy asks of its disk.
    fn step(&mut self, away: bool, input: Input<Segment<Push>>) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let copy = if away { &mut self.away } else { &mut self.whole };
            let mut out = Effects::default();
            copy.machine.step(Micros(0), input, &mut out);
            for effect in out.drain() {
                match effect {
                    Effect::Send { to: Party::Segment(to), message } => {
                        self.under_way.push_back((copy.id, to, message));
                    }
                    Effect::Send { message: Message::Refused(refusal), .. } => {
                        self.refused += u32::from(refusal == Refusal::Busy);
                    }
                    Effect::Send { message: Message::Page { page, .. }, .. } => self.page = Some(page),
                    Effect::Append { id, entry } => copy.disk.append(id, entry),
                    Effect::Start(task) => copy.disk.start(task),
                    _ => {}
                }
            }
            let pending = copy.disk.pending().len();
            inputs.extend(copy.disk.sync(pending).map(Input::Durable));
            inputs.extend(copy.disk.do_task().map(Input::Done));
        }
    }

    /// A record of `block`, for the whole copy; it is durable, and nobody reads below it.
    fn write(&mut self, block: u64, number: u32) {
        let (prev, lsn) = (Lsn(self.last), Lsn(self.last + 1));
        let page = PageId { inode: 1, block };
        let (prev_block, payload) = (Lsn::ZERO, Push(number));
        let record = Record { lsn, prev_volume: prev, prev_segment: prev, prev_block, is_cpl: true, page, payload };
        self.last += 1;
        self.written.push((block, number));
        self.tell(false, vec![record], prev);
        self.tell(false, Vec::new(), lsn);
    }

    /// What the writer tells a copy.
    fn tell(&mut self, away: bool, records: Vec<Record<Push>>, vdl: Lsn) {
        let membership_epoch = Membership::initial(QuorumSet::aurora()).membership_epoch;
        let message = Message::Write { volume_epoch: EPOCH, membership_epoch, records, vdl, pgmrpl: vdl };
        self.step(away, Input::Message { from: WRITER, message });
    }

    fn coalesce(&mut self) {
        self.step(false, Input::Timer(Timer::Coalesce));
    }

    /// Delivers the next message; answers whether there was one.
    fn deliver(&mut self) -> bool {
        let Some((from, to, message)) = self.under_way.pop_front() else { return false };
        if let Message::HydratePush { pages, unchanged, .. } = &message {
            self.brought.push((pages.len(), unchanged.len()));
        }
        if to == self.whole.id || to == self.away.id {
            self.step(to == self.away.id, Input::Message { from: Party::Segment(from), message });
        }
        true
    }

    /// Gossip rounds, until the copy that was away has everything.
    fn heal(&mut self, mut meanwhile: impl FnMut(&mut Pair)) {
        for _ in 0..400 {
            self.step(true, Input::Timer(Timer::Gossip));
            while self.deliver() {
                meanwhile(self);
            }
            if self.away.machine.log().scl() == Lsn(self.last) {
                return;
            }
        }
        panic!("not healed: {:?}", self.away.machine.status());
    }

    /// Reads a page of the copy that was away: it is as of the read point, or refused.
    fn check_read(&mut self, block: u64, read_point: Lsn) {
        let page = PageId { inode: 1, block };
        let (read, volume_epoch, group_point) = (Token(1), EPOCH, read_point);
        let message = Message::ReadPage { read, volume_epoch, page, read_point, group_point };
        self.page = None;
        self.step(true, Input::Message { from: WRITER, message });
        let mut expected = Vec::new();
        let through = self.written.iter().take(read_point.0 as usize);
        through.filter(|(of, _)| *of == block).for_each(|(_, number)| Push(*number).apply(&mut expected));
        let right = self.page.as_ref().is_none_or(|page| *page == expected);
        assert!(right, "R-HYDRATE-2 broken: {page:?} at {read_point} is {:?}, not {expected:?}", self.page);
    }

    fn check_same(&mut self) {
        self.coalesce();
        self.tell(true, Vec::new(), Lsn(self.last));
        self.step(true, Input::Timer(Timer::Coalesce));
        let (whole, away) = (self.whole.machine.status(), self.away.machine.status());
        assert_eq!((away.floor, away.hydrating), (whole.floor, false));
        for block in 0..100 {
            let page = PageId { inode: 1, block };
            assert_eq!(self.away.disk.page(page), self.whole.disk.page(page), "{page:?}");
        }
    }
}

#[test]
fn only_pages_that_changed_travel() {
    let mut pair = Pair::new();
    for block in 0..40 {
        pair.write(block, 1);
        pair.coalesce();
    }
    pair.heal(|_| {});
    assert_eq!(pair.brought.iter().map(|(pages, _)| pages).sum::<usize>(), 40);
    pair.check_same();
    pair.brought.clear();
    for block in [3, 17, 3] {
        pair.write(block, 2);
    }
    pair.write(25, 0);
    pair.coalesce();
    pair.heal(|_| {});
    assert_eq!(pair.brought.iter().map(|(pages, _)| pages).sum::<usize>(), 2, "{:?}", pair.brought);
    assert_eq!(pair.brought.iter().map(|(_, unchanged)| unchanged).sum::<usize>(), 37, "page 25 is no more");
    pair.check_same();
}

#[test]
fn the_sender_coalesces_and_takes_writes_as_if_nobody_hydrated() {
    let mut pair = Pair::new();
    for block in 0..40 {
        pair.write(block, 1);
        pair.coalesce();
    }
    let mut number = 1;
    // Far more than the log may hold, while pages travel; some pages are cleared, and written again.
    pair.heal(|pair| {
        if number < 120 {
            number += 1;
            pair.write(u64::from(number * 7 % 40), if number % 5 == 0 { 0 } else { number });
            pair.write(u64::from(number * 11 % 40), number);
            pair.coalesce();
            assert_eq!(pair.whole.machine.log().floor(), Lsn(pair.last), "the floor moves");
        }
    });
    assert!(number == 120, "the load ended before the hydration did");
    assert_eq!(pair.refused, 0, "a write was refused");
    pair.check_same();
}

/// Writes twenty pages, and coalesces each change, so that the copy that was away misses pages.
fn twenty_pages(defects: Defects) -> Pair {
    let mut pair = Pair::with(defects);
    for block in 0..20 {
        pair.write(block, 1);
        pair.coalesce();
    }
    pair
}

/// Changes or clears one page after each of the first thirty deliveries of a hydration. The log comes too: so the floor
/// that is adopted is in it, and the ceiling may be above the chain.
fn change_meanwhile(pair: &mut Pair, delivered: u64) {
    if delivered <= 30 {
        pair.write(delivered * 3 % 20, if delivered.is_multiple_of(4) { 0 } else { 9 });
        pair.coalesce();
    }
}

#[test]
fn a_crash_between_two_points_is_survived() {
    for stop in 1..40 {
        let mut pair = twenty_pages(Defects::NONE);
        let mut delivered = 0;
        pair.heal(|pair| {
            delivered += 1;
            change_meanwhile(pair, delivered);
            if delivered == stop {
                pair.away.disk.crash(0);
                let mut out = Effects::default();
                let id = pair.away.id;
                pair.away.machine =
                    Segment::boot(&config(Defects::NONE), id, pair.away.disk.survived(), Micros(0), &mut out);
            }
        });
        pair.check_same();
    }
}

/// Asks the copy that was away for every page, at every read point: also at those that nobody uses any more.
fn every_read_is_right_or_refused(defects: Defects) {
    let mut pair = twenty_pages(defects);
    let mut delivered = 0;
    pair.heal(|pair| {
        delivered += 1;
        change_meanwhile(pair, delivered);
        let last = pair.last;
        for (block, point) in (0..20).flat_map(|block| (1..=last).map(move |point| (block, point))) {
            pair.check_read(block, Lsn(point));
        }
    });
}

#[test]
fn a_copy_between_two_points_serves_no_read_point_between_them() {
    every_read_is_right_or_refused(Defects::NONE);
    let served = caught(|| every_read_is_right_or_refused(Defects::plant(Defect::HydrationServesMixed)));
    assert_eq!(served.map_err(|(rule, _)| rule), Err("R-HYDRATE-2".to_owned()));
}
