//! What a reader may be told by whoever reaches it, and a writer by readers: no assertion fails, nothing goes back, and
//! nothing grows without end.

use auriga_protocol::reader::{ReaderIdentity, Request, Timer};
use auriga_protocol::writer::{FollowersConfig, WriterIdentity};
use auriga_protocol::{
    Effect, Effects, Input, Lsn, Machine, MemberId, Membership, Message, Micros, PageId, Party, Payload, PgId,
    QuorumSet, Reader, ReaderConfig, ReaderId, Record, Refusal, SegmentId, Token, VolumeEpoch, VolumeId, Writer,
    WriterConfig, WriterId,
};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
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
/// Records are counted as 164 bytes each here.
const STREAM_WEIGHT_MAX: usize = 8 * 164;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Near those that matter, and now and then as far away as may be.
    fn lsn(&mut self) -> Lsn {
        if self.below(30) == 0 { Lsn(auriga_protocol::limits::LSN_MAX - self.below(2)) } else { Lsn(self.below(16)) }
    }

    fn records(&mut self) -> Vec<Record<Push>> {
        let (first, count) = (1 + self.below(16), self.below(5));
        let of = |lsn: u64, is_cpl| {
            let (prev_volume, prev_segment, prev_block) = (Lsn(lsn - 1), Lsn(lsn - 1), Lsn::ZERO);
            let page = PageId { inode: 1, block: lsn % 2 };
            Record { lsn: Lsn(lsn), prev_volume, prev_segment, prev_block, is_cpl, page, payload: Push(lsn as u32) }
        };
        (first..first + count).map(|lsn| of(lsn, self.below(2) == 0)).collect()
    }

    fn epoch(&mut self) -> VolumeEpoch {
        VolumeEpoch::new(1 + self.below(3), WriterId(1 + self.below(2)))
    }

    /// `asked`: the reader's last `Follow`; `known`: whom it follows.
    fn for_reader(&mut self, asked: u64, known: VolumeEpoch) -> Input<Reader<Push>> {
        let volume_epoch = if self.below(8) == 0 || known == VolumeEpoch::NONE { self.epoch() } else { known };
        let from = Party::Writer(VOLUME, volume_epoch.writer);
        let (member, read) = (MemberId(self.below(7) as u8), Token(self.below(4)));
        let segment = Party::Segment(SegmentId { volume: VOLUME, pg: PgId(self.below(3) as u16), member });
        let message = match self.below(12) {
            0 | 1 => {
                let points = (0..1 + self.below(3)).map(|_| self.lsn()).collect();
                let number = if self.below(4) == 0 { self.below(8) } else { asked };
                Message::Following { number, volume_epoch, start: self.lsn(), points }
            }
            2..=5 => {
                let membership_epoch = Membership::initial(QuorumSet::aurora()).membership_epoch;
                let (records, vdl, pgmrpl) = (self.records(), self.lsn(), self.lsn());
                Message::Write { volume_epoch, membership_epoch, records, vdl, pgmrpl }
            }
            6 => Message::Published { volume_epoch, read_point: self.lsn(), wal: self.below(99) },
            7 if self.below(20) == 0 => Message::NotKept { volume_epoch, floor: self.lsn() },
            8 => {
                let message = Message::Page { read, version: self.lsn(), page: vec![1] };
                return Input::Message { from: segment, message };
            }
            9 => {
                let refusal = match self.below(3) {
                    0 => Refusal::BelowFloor { floor: self.lsn() },
                    1 => Refusal::StaleVolumeEpoch { current: self.epoch() },
                    _ => Refusal::AboveScl { scl: self.lsn() },
                };
                return Input::Message { from: segment, message: Message::ReadRefused { read, refusal } };
            }
            10 => {
                let page = PageId { inode: 1, block: self.below(2) };
                return Input::Request { token: read, request: Request::Read { page, at: self.lsn() } };
            }
            _ if self.below(2) == 0 => return Input::Timer(Timer::Hedge(read)),
            _ => return Input::Timer(Timer::Retry),
        };
        Input::Message { from, message }
    }
}

#[test]
fn whatever_it_hears_a_reader_never_goes_back() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut moved, mut cuts) = (0, 0);
    for _ in 0..4_000 {
        let config = ReaderConfig {
            stream_weight_max: STREAM_WEIGHT_MAX,
            published_max: 4,
            held_max: 4,
            reads_max: 4,
            ..ReaderConfig::default()
        };
        let config = ReaderConfig { geometry: auriga_protocol::Geometry { groups: 2, extent_blocks: 1 }, ..config };
        let id = ReaderIdentity { volume: VOLUME, reader: ReaderId(1) };
        let mut effects = Effects::default();
        let mut reader = Reader::<Push>::boot(&config, id, (), Micros(0), &mut effects);
        let mut asked = 0;
        for _ in 0..150 {
            let follow = effects.drain().filter_map(|effect| match effect {
                Effect::Send { message: Message::Follow { number, .. }, .. } => Some(number),
                _ => None,
            });
            asked = follow.last().unwrap_or(asked);
            let before = reader.read_point();
            let input = random.for_reader(asked, reader.status().volume_epoch);
            reader.step(Micros(0), input, &mut effects);
            assert_eq!(reader.read_point(), before, "only its users move it");
            let points = reader.points();
            if let Some(to) = points.get(random.below(8) as usize).copied() {
                let advanced = reader.advance(to, &mut effects);
                assert!(reader.read_point() >= before);
                moved += u64::from(advanced.is_ok());
            }
            if random.below(4) == 0 {
                reader.release(random.lsn(), &mut effects);
            }
            let status = reader.status();
            assert!(status.waiting_weight <= STREAM_WEIGHT_MAX as u64 && reader.published().len() <= 4);
            assert!(reader.held().count() <= 4 && reader.needs().is_none_or(|needs| needs <= status.vdl.max(before)));
        }
        cuts += reader.status().cuts;
    }
    assert!(moved > 2_000 && cuts > 500, "{moved} steps forward, {cuts} cuts: does this still reach anything?");
}

/// A writer that is not open listens to no reader; readers that it does not know get no more than it may give.
#[test]
fn readers_get_nothing_of_a_candidate_or_of_a_writer_that_wants_none() {
    for followers in [FollowersConfig::default(), FollowersConfig::some()] {
        let config = WriterConfig { followers, ..WriterConfig::default() };
        let id = WriterIdentity { volume: VOLUME, writer: WriterId(1) };
        let mut effects = Effects::default();
        let mut writer = Writer::<Push>::boot(&config, id, (), Micros(0), &mut effects);
        effects.drain().for_each(drop);
        for reader in 0..100 {
            let from = Party::Reader(VOLUME, ReaderId(reader));
            let message = Message::Follow { number: 1, floor: None, quiet: false };
            writer.step(Micros(0), Input::Message { from, message }, &mut effects);
            assert!(effects.is_empty() && writer.followers().count() == 0);
        }
    }
}
