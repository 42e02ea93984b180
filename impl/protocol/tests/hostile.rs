//! What a stranger who can reach a segment or a writer may say, and what must not come of it (R-LIMIT-1 to 3, R-LOG-4).

use auriga_protocol::limits::{EPOCH_STEP_MAX, INCARNATION_STEP_MAX, LSN_STEP_MAX};
use auriga_protocol::membership::Step;
use auriga_protocol::segment::{Implausible, Outcome, Survived};
use auriga_protocol::writer::{WriterIdentity, WriterRole};
use auriga_protocol::{
    AppendId, Effect, Effects, Input, Install, Lsn, Machine, MemberId, Membership, Message, Micros, Note, PageId,
    Party, Payload, PgId, QuorumSet, Record, Refusal, Segment, SegmentConfig, SegmentId, TruncationList, VolumeEpoch,
    VolumeId, Writer, WriterConfig, WriterId,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Push(u32);

impl Payload for Push {
    type Page = Vec<u32>;

    fn apply(&self, page: &mut Vec<u32>) {
        page.push(self.0);
    }

    fn weight(&self) -> usize {
        4
    }
}

const VOLUME: VolumeId = VolumeId(1);
const WRITER: Party = Party::Writer(VOLUME, WriterId(1));
const FIRST: VolumeEpoch = epoch(1);

const fn epoch(number: u64) -> VolumeEpoch {
    VolumeEpoch::new(number, WriterId(1))
}

fn segment_id(member: u8) -> SegmentId {
    SegmentId { volume: VOLUME, pg: PgId(0), member: MemberId(member) }
}

fn record(lsn: u64, prev: u64, push: u32) -> Record<Push> {
    let (prev_volume, prev_segment, prev_block) = (Lsn(prev), Lsn(prev), Lsn(prev));
    let page = PageId { inode: 1, block: 0 };
    Record { lsn: Lsn(lsn), prev_volume, prev_segment, prev_block, is_cpl: true, page, payload: Push(push) }
}

fn write(records: Vec<Record<Push>>, vdl: u64, pgmrpl: u64) -> Message<Push> {
    let membership_epoch = Membership::initial(QuorumSet::aurora()).membership_epoch;
    Message::Write { volume_epoch: FIRST, membership_epoch, records, vdl: Lsn(vdl), pgmrpl: Lsn(pgmrpl) }
}

fn install(volume_epoch: VolumeEpoch, truncations: TruncationList) -> Message<Push> {
    let install = Install { volume_epoch, truncations, vdl: Lsn::ZERO };
    Message::Install { install, membership: first_step() }
}

/// A segment whose disk makes everything durable at once.
struct Alone {
    segment: Segment<Push>,
    appended: AppendId,
}

type Given = Vec<Effect<Segment<Push>>>;

impl Alone {
    fn new() -> Alone {
        let survived = Survived::founded(Membership::initial(QuorumSet::aurora()));
        let segment =
            Segment::boot(&SegmentConfig::tiny(), segment_id(0), survived, Micros(0), &mut Effects::default());
        Alone { segment, appended: AppendId(0) }
    }

    /// With the first writer's install, and its records 1 and 2, of which VDL covers the first.
    fn written() -> Alone {
        let mut alone = Alone::new();
        alone.hears(WRITER, Message::Seal { volume_epoch: FIRST, shape: WriterConfig::default().shape() });
        alone.hears(WRITER, install(FIRST, TruncationList::default()));
        alone.hears(WRITER, write(vec![record(1, 0, 1), record(2, 1, 2)], 1, 1));
        assert_eq!((alone.segment.status().scl, alone.segment.status().vdl), (Lsn(2), Lsn(1)));
        alone
    }

    fn hears(&mut self, from: Party, message: Message<Push>) -> Given {
        self.takes(Input::Message { from, message })
    }

    fn takes(&mut self, input: Input<Segment<Push>>) -> Given {
        let mut out = Effects::default();
        self.segment.step(Micros(0), input, &mut out);
        let last = out.as_slice().iter().filter_map(|effect| match effect {
            Effect::Append { id, .. } => Some(*id),
            _ => None,
        });
        if let Some(id) = last.max() {
            self.appended = id;
            self.segment.step(Micros(0), Input::Durable(id), &mut out);
        }
        out.drain().collect()
    }

    /// It dropped the message, noted why, and nothing else has changed.
    fn drops(&mut self, from: Party, message: Message<Push>, reason: Implausible) {
        let (before, name) = (self.segment.clone(), message.name());
        let given = self.hears(from, message);
        let [Effect::Note(Note::Implausible { why, .. })] = given.as_slice() else {
            panic!("{name}: {} effects", given.len())
        };
        assert_eq!(*why, reason, "{name}");
        assert_eq!(self.segment, before, "{name}");
    }
}

fn note_of(given: &Given) -> Option<&Note> {
    given.iter().find_map(|effect| match effect {
        Effect::Note(note) => Some(note),
        _ => None,
    })
}

fn annulling(above: u64, length: u64) -> TruncationList {
    let mut truncations = TruncationList::default();
    truncations.annul_above(epoch(2), Lsn(above), length);
    truncations
}

/// A range that annuls the segment's own floor once sent it into an endless loop.
#[test]
fn a_range_over_the_floor_does_not_hang_it() {
    let mut alone = Alone::written();
    alone.hears(WRITER, write(Vec::new(), 2, 2));
    alone.takes(Input::Request { token: Default::default(), request: auriga_protocol::segment::Request::CoalesceNow });
    alone.takes(Input::Done(Outcome::Coalesced { floor: Lsn(2) }));
    assert_eq!(alone.segment.status().floor, Lsn(2));
    assert_eq!(alone.segment.log().last_in_force(Lsn(5), &annulling(1, 4)), Lsn(2));
    let pull = |truncations| Message::TailPull { volume_epoch: FIRST, above: Lsn(2), truncations };
    let given = alone.hears(WRITER, pull(annulling(1, 4)));
    assert!(matches!(given.as_slice(), [Effect::Send { message: Message::Tail { base: Lsn(2), .. }, .. }]));
    alone.hears(WRITER, write(Vec::new(), 3, 2));
    alone.drops(WRITER, pull(annulling(1, 4)), Implausible::AnnulsDurable);
}

fn first_step() -> Step {
    Step::first(Membership::initial(QuorumSet::aurora()))
}

#[test]
fn what_no_sound_sender_sends_is_dropped() {
    let mut alone = Alone::written();
    let peer = Party::Segment(segment_id(1));
    alone.drops(WRITER, write(Vec::new(), 1, 2), Implausible::PgmrplAboveVdl);
    alone.drops(WRITER, write(Vec::new(), LSN_STEP_MAX + 3, 0), Implausible::LsnJumps);
    alone.drops(WRITER, write(vec![record(4, 3, 0), record(3, 2, 0)], 1, 1), Implausible::OutOfOrder);
    alone.drops(WRITER, write(vec![record(3, 3, 0)], 1, 1), Implausible::OutOfOrder);
    let push = Message::GossipPush { installed: FIRST, records: vec![record(3, 2, 0), record(3, 2, 1)] };
    alone.drops(peer, push, Implausible::OutOfOrder);
    alone.drops(WRITER, install(epoch(2), annulling(0, 9)), Implausible::AnnulsDurable);
    alone.drops(
        peer,
        Message::RejoinPull {
            question: Default::default(),
            incarnation: auriga_protocol::ids::Incarnation(INCARNATION_STEP_MAX + 1),
            membership: first_step(),
        },
        Implausible::IncarnationJumps,
    );
    let far = epoch(EPOCH_STEP_MAX + 2);
    alone.drops(
        WRITER,
        Message::Seal { volume_epoch: far, shape: WriterConfig::default().shape() },
        Implausible::VolumeEpochJumps,
    );
    alone.drops(WRITER, install(far, TruncationList::default()), Implausible::VolumeEpochJumps);
    // One less is believed: the limit is where it says.
    alone.hears(
        WRITER,
        Message::Seal { volume_epoch: epoch(EPOCH_STEP_MAX + 1), shape: WriterConfig::default().shape() },
    );
    assert_eq!(alone.segment.promised(), epoch(EPOCH_STEP_MAX + 1));
}

#[test]
fn a_contradiction_stops_it_and_names_both() {
    let peer = Party::Segment(segment_id(1));
    for from in [WRITER, peer] {
        let mut alone = Alone::written();
        let records = vec![record(2, 1, 66), record(3, 2, 3)];
        let message =
            if from == peer { Message::GossipPush { installed: FIRST, records } } else { write(records, 1, 1) };
        let given = alone.hears(from, message);
        let Some(Note::Contradicted { lsn, from: told_by, held, came, .. }) = note_of(&given) else {
            panic!("{} effects and no contradiction", given.len());
        };
        assert_eq!((*lsn, *told_by), (Lsn(2), from));
        assert_ne!(held, came);
        assert_eq!(alone.segment.status().contradiction, Some(Lsn(2)));
        assert!(alone.hears(WRITER, write(vec![record(3, 2, 3)], 1, 1)).is_empty(), "it has stopped");
    }
    let mut alone = Alone::written();
    assert!(matches!(
        alone.hears(WRITER, write(vec![record(2, 1, 2)], 1, 1)).as_slice(),
        [
            Effect::Note(Note::Acknowledged { .. }),
            Effect::Send { message: Message::Acknowledge { scl: Lsn(2), .. }, .. }
        ]
    ));
}

/// R-GLOBAL-11: whoever ships the log gets what a writer called durable, and nothing above it.
#[test]
fn the_log_is_handed_out_as_far_as_it_is_durable() {
    let mut alone = Alone::written();
    let shipper = Party::Reader(VOLUME, auriga_protocol::ReaderId(9));
    let pull = |above| Message::LogPull { pull: auriga_protocol::Token(5), above: Lsn(above) };
    let pushed = |given: &Given| match given.as_slice() {
        [Effect::Send { message: Message::LogPush { base, records, through, vdl, .. }, .. }] => {
            let lsns: Vec<u64> = records.iter().map(|record| record.lsn.0).collect();
            (base.0, lsns, through.0, vdl.0)
        }
        other => panic!("{} effects", other.len()),
    };
    // Record 2 is here, and on no quorum as far as this segment was told.
    assert_eq!(pushed(&alone.hears(shipper, pull(0))), (0, vec![1], 1, 1));
    alone.hears(WRITER, write(vec![record(4, 3, 4)], 4, 1));
    assert_eq!(
        pushed(&alone.hears(shipper, pull(1))),
        (1, vec![2], 2, 4),
        "3 is missing here: the chain ends before it"
    );
    alone.hears(WRITER, write(vec![record(3, 2, 3)], 4, 1));
    assert_eq!(pushed(&alone.hears(shipper, pull(1))), (1, vec![2, 3, 4], 4, 4));
    assert_eq!(pushed(&alone.hears(shipper, pull(9))), (4, vec![], 4, 4), "asked beyond its end it says where that is");
    alone.hears(WRITER, write(Vec::new(), 4, 3));
    alone.takes(Input::Request { token: Default::default(), request: auriga_protocol::segment::Request::CoalesceNow });
    alone.takes(Input::Done(Outcome::Coalesced { floor: Lsn(3) }));
    let refused = Refusal::BelowFloor { floor: Lsn(3) };
    assert!(matches!(
        alone.hears(shipper, pull(2)).as_slice(),
        [Effect::Send { message: Message::ReadRefused { refusal, .. }, .. }] if *refusal == refused
    ));
}

/// A hundred thousand records of one page, in whatever order, and an install that annuls them all.
#[test]
fn a_long_page_is_not_quadratic() {
    let mut alone = Alone::written();
    let records = |range: std::ops::Range<u64>| range.map(|lsn| record(lsn, lsn - 1, 0)).collect();
    for chunk in (0..100u64).rev() {
        alone.hears(WRITER, write(records(chunk * 1000 + 3..chunk * 1000 + 1003), 1, 1));
    }
    assert_eq!(alone.segment.log().record_count(), 100_002);
    alone.hears(WRITER, install(epoch(2), annulling(1, 1 << 20)));
    assert_eq!(alone.segment.log().record_count(), 1);
}

/// A task's end that was not asked for, as a recording can hold.
#[test]
fn a_floor_that_was_not_asked_for_is_not_adopted() {
    let mut alone = Alone::written();
    alone.takes(Input::Done(Outcome::Coalesced { floor: Lsn(65) }));
    assert_eq!(alone.segment.status().floor, Lsn::ZERO);
    alone.takes(Input::Durable(AppendId(99)));
}

struct Candidate {
    writer: Writer<Push>,
}

impl Candidate {
    fn new() -> Candidate {
        let id = WriterIdentity { volume: VOLUME, writer: WriterId(7) };
        Candidate { writer: Writer::boot(&WriterConfig::default(), id, (), Micros(0), &mut Effects::default()) }
    }

    fn refused(&mut self, member: u8, current: VolumeEpoch) {
        let message = Message::Refused(Refusal::StaleVolumeEpoch { current });
        let input = Input::Message { from: Party::Segment(segment_id(member)), message };
        self.writer.step(Micros(0), input, &mut Effects::default());
    }

    fn number(&self) -> u64 {
        self.writer.volume_epoch().number
    }
}

#[test]
fn one_segment_that_lies_does_not_lead_a_candidate() {
    let mut candidate = Candidate::new();
    for _ in 0..100 {
        candidate.refused(0, epoch(u64::MAX >> 4));
        candidate.refused(1, epoch(u64::MAX >> 5));
    }
    assert_eq!((candidate.number(), candidate.writer.role()), (1, WriterRole::Sealing));
}

/// Four of six were driven to an epoch far above: then a candidate gets there, and at each step those that were not
/// driven still find it plausible.
#[test]
fn a_candidate_follows_where_no_quorum_is_left_behind() {
    let mut candidate = Candidate::new();
    let target = epoch(3 * EPOCH_STEP_MAX + 5);
    let (mut rounds, mut before) = (0, candidate.number());
    while candidate.number() <= target.number {
        (0..4).for_each(|member| candidate.refused(member, target));
        assert!(candidate.number() > before && candidate.number() <= before + EPOCH_STEP_MAX, "a plausible step");
        (rounds, before) = (rounds + 1, candidate.number());
        assert!(rounds < 10);
    }
    assert_eq!(candidate.number(), target.number + 1);
}

/// Numbers near those that matter, and as far away as may be.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn number(&mut self) -> u64 {
        let far = [auriga_protocol::limits::LSN_MAX, EPOCH_STEP_MAX, LSN_STEP_MAX];
        if self.below(8) == 0 { far[self.below(3) as usize] - self.below(2) } else { self.below(12) }
    }

    fn lsn(&mut self) -> Lsn {
        Lsn(self.number())
    }

    fn truncations(&mut self) -> TruncationList {
        let mut list = TruncationList::default();
        for number in 1..=self.below(4) {
            list.annul_above(epoch(number), Lsn(self.below(20)), 1 + self.below(9));
        }
        list
    }

    fn records(&mut self) -> Vec<Record<Push>> {
        let count = self.below(4);
        (0..count).map(|_| record(self.number().max(1), self.number(), self.below(3) as u32)).collect()
    }

    fn page(&mut self) -> PageId {
        PageId { inode: self.number(), block: self.number() }
    }

    fn input(&mut self) -> Input<Segment<Push>> {
        let from = if self.below(2) == 0 { WRITER } else { Party::Segment(segment_id(self.below(7) as u8)) };
        let (volume_epoch, installed, read) = (epoch(self.number()), epoch(self.number()), Default::default());
        let incarnation = auriga_protocol::ids::Incarnation(self.below(3) as u32);
        let question = Default::default();
        let message = match self.below(18) {
            0 => Message::Seal { volume_epoch, shape: WriterConfig::default().shape() },
            1 => Message::TailPull { volume_epoch, above: self.lsn(), truncations: self.truncations() },
            2 => Message::Install {
                install: Install { volume_epoch, truncations: self.truncations(), vdl: self.lsn() },
                membership: first_step(),
            },
            3 | 4 => write(self.records(), self.number(), self.number()),
            5 => Message::ReadPage {
                read,
                volume_epoch,
                page: self.page(),
                read_point: self.lsn(),
                group_point: self.lsn(),
            },
            6 => Message::GossipPull { installed, scl: self.lsn(), membership: first_step() },
            7 => Message::GossipPush { installed, records: self.records() },
            8 => Message::GossipTooFar { floor: self.lsn() },
            9 => {
                let (after, newer_than, at_least) = (Some(self.page()), self.lsn(), self.lsn());
                Message::HydratePull { installed, after, newer_than, at_least }
            }
            10 => {
                let complete = self.below(2) == 0;
                let (newer_than, floor, pages, unchanged) = (self.lsn(), self.lsn(), Vec::new(), vec![self.page()]);
                Message::HydratePush { installed, after: None, newer_than, floor, pages, unchanged, complete }
            }
            11 => Message::HealPull { page: self.page(), floor: self.lsn() },
            12 => Message::HealPush { page: self.page(), base: None, through: self.lsn() },
            13 => Message::RejoinPull { question, incarnation, membership: first_step() },
            14 => Message::RejoinKnown { question, known: incarnation },
            15 => return Input::Durable(AppendId(self.number())),
            16 => {
                let from = Party::Reader(VOLUME, auriga_protocol::ReaderId(9));
                return Input::Message { from, message: Message::LogPull { pull: read, above: self.lsn() } };
            }
            _ => return Input::Done(Outcome::Coalesced { floor: self.lsn() }),
        };
        Input::Message { from, message }
    }
}

/// Whatever a segment is told, no assertion fails and every step ends.
#[test]
fn whatever_it_hears_a_segment_goes_on() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let mut alone = Alone::new();
        for _ in 0..100 {
            alone.takes(random.input());
        }
    }
}
