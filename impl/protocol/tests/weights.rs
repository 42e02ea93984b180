//! A limit means the same to the writer that fills a log and to the segment that keeps it: a writer that counted less
//! than its segments once stood still for good, with six healthy segments that were full.

use auriga_protocol::segment::Survived;
use auriga_protocol::writer::{Request, SubmitRefused, WriterIdentity, WriterRole};
use auriga_protocol::{
    AppendId, Change, Effect, Effects, Input, Lsn, Machine, MemberId, MemberSet, Membership, Message, Micros, PageId,
    Party, Payload, PgId, QuorumSet, Refusal, Segment, SegmentConfig, SegmentId, Token, VolumeId, Writer, WriterConfig,
    WriterId,
};
use serde::{Deserialize, Serialize};

/// A record that is nothing but bookkeeping.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Nothing;

impl Payload for Nothing {
    type Page = ();

    fn apply(&self, (): &mut ()) {}

    fn weight(&self) -> usize {
        0
    }
}

const VOLUME: VolumeId = VolumeId(1);
const WRITER: Party = Party::Writer(VOLUME, WriterId(1));
const ID: SegmentId = SegmentId { volume: VOLUME, pg: PgId(0), member: MemberId(0) };
const LIMIT: usize = 100_000;

/// A writer and its only segment.
struct Pair {
    writer: Writer<Nothing>,
    segment: Segment<Nothing>,
    to_segment: Vec<Message<Nothing>>,
    to_writer: Vec<Message<Nothing>>,
}

impl Pair {
    fn new() -> Pair {
        let membership = Membership::initial(QuorumSet::steady(MemberSet::first(1), 1, 1));
        let config = WriterConfig {
            membership: membership.clone(),
            in_flight_weight_max: LIMIT,
            batch_weight_max: 3_000,
            ..WriterConfig::default()
        };
        let identity = WriterIdentity { volume: VOLUME, writer: WriterId(1) };
        let (mut out, mut none) = (Effects::default(), Effects::default());
        let writer = Writer::boot(&config, identity, (), Micros(0), &mut out);
        let config = SegmentConfig { log_weight_max: LIMIT, coalesce_weight: LIMIT, ..SegmentConfig::tiny() };
        let segment = Segment::boot(&config, ID, Survived::founded(membership), Micros(0), &mut none);
        let mut pair = Pair { writer, segment, to_segment: Vec::new(), to_writer: Vec::new() };
        pair.sent(out);
        pair
    }

    fn sent(&mut self, mut out: Effects<Writer<Nothing>>) {
        for effect in out.drain() {
            if let Effect::Send { message, .. } | Effect::Multicast { message, .. } = effect {
                self.to_segment.push(message);
            }
        }
    }

    fn segment_hears(&mut self) {
        for message in std::mem::take(&mut self.to_segment) {
            let mut out = Effects::default();
            self.segment.step(Micros(0), Input::Message { from: WRITER, message }, &mut out);
            self.segment.step(Micros(0), Input::Durable(AppendId(u64::MAX)), &mut out);
            self.to_writer.extend(out.drain().filter_map(|effect| match effect {
                Effect::Send { message, .. } => Some(message),
                _ => None,
            }));
        }
    }

    fn writer_hears(&mut self) {
        for message in std::mem::take(&mut self.to_writer) {
            let mut out = Effects::default();
            self.writer.step(Micros(0), Input::Message { from: Party::Segment(ID), message }, &mut out);
            self.sent(out);
        }
    }

    fn submit(&mut self, block: u64) -> Result<Lsn, SubmitRefused> {
        let mut out = Effects::default();
        let change = Change { page: PageId { inode: 1, block }, payload: Nothing };
        let submitted = self.writer.submit(vec![change], &mut out);
        self.writer.step(Micros(0), Input::Request { token: Token(0), request: Request::Flush }, &mut out);
        self.sent(out);
        submitted
    }
}

#[test]
fn what_may_be_in_flight_fits_into_a_segments_log() {
    let mut pair = Pair::new();
    while pair.writer.role() != WriterRole::Open {
        pair.segment_hears();
        pair.writer_hears();
    }
    let submitted = (0..).take_while(|block| pair.submit(*block).is_ok()).count();
    assert!(submitted > 100, "{submitted} records");
    pair.segment_hears();
    let busy = |message: &Message<Nothing>| matches!(message, Message::Refused(Refusal::Busy));
    assert!(!pair.to_writer.iter().any(busy), "a full writer must not find a full segment");
    assert_eq!(pair.segment.status().scl, pair.writer.allocated());
    pair.writer_hears();
    assert_eq!(pair.writer.vdl(), pair.writer.allocated());
}

#[test]
fn the_usual_limits_fit() {
    let (writer, segment) = (WriterConfig::default(), SegmentConfig::default());
    assert!(writer.in_flight_weight_max <= segment.log_weight_max);
}
