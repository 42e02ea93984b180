//! Byte vectors: one frame of every message, in `conformance/vectors/messages.txt`. Another implementation that reads and
//! writes these bytes understands this one. `GOLDEN=rewrite` writes them anew: that is a new protocol version.

use auriga_net::frame::take_frame;
use auriga_net::{Encoded, Frame};
use auriga_page::{Delta, PAGE_SIZE, PageImage};
use auriga_protocol::ids::{Birth, Incarnation};
use auriga_protocol::membership::Step;
use auriga_protocol::message::{BasePage, Footing, Question, Standing};
use auriga_protocol::{
    Defects, Install, Life, Lsn, MemberId, Membership, MembershipEpoch, Message, PageId, Party, PgId, QuorumSet,
    ReaderId, Record, Refusal, SealReport, SegmentId, Token, TruncationList, VolumeEpoch, VolumeId, WriterConfig,
    WriterId,
};
use bytes::BytesMut;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

const READER: Party = Party::Reader(VolumeId(7), ReaderId(13));
const WRITER: Party = Party::Writer(VolumeId(7), WriterId(11));

fn segment(member: u8) -> Party {
    Party::Segment(SegmentId { volume: VolumeId(7), pg: PgId(1), member: MemberId(member) })
}

/// One of every message, with its addresses.
fn samples() -> Vec<(Party, Party, Message<Delta>)> {
    let question = Question { life: 300, number: 2 };
    let (epoch, page) = (VolumeEpoch::new(3, WriterId(11)), PageId { inode: 5, block: 129 });
    let mut content = [0; PAGE_SIZE];
    content[100..104].copy_from_slice(b"abcd");
    let payload = Delta::between(&[0; PAGE_SIZE], &content).expect("they differ");
    let record = Record {
        lsn: Lsn(40),
        prev_volume: Lsn(39),
        prev_segment: Lsn(36),
        prev_block: Lsn(0),
        is_cpl: true,
        page,
        payload,
    };
    let mut truncations = TruncationList::default();
    truncations.annul_above(epoch, Lsn(30), 9);
    let install = Install { volume_epoch: epoch, truncations, vdl: Lsn(30) };
    let standing = Standing { incarnation: Incarnation(1), losses: BTreeMap::from([(MemberId(4), Incarnation(2))]) };
    let life = Life { incarnation: Incarnation(1), number: 300, nonce: 1 << 63 };
    let membership = Step::first(Membership::initial(QuorumSet::aurora()));
    let home = std::net::SocketAddr::from(([127, 0, 0, 9], 5433));
    let replacing = membership.next.replacing(MemberId(5), home, Defects::NONE).expect("F→G makes sense").0;
    let step = Step { volume_epoch: epoch, before: membership.next.clone(), next: replacing };
    let report = SealReport {
        install: install.clone(),
        scl: Lsn(40),
        vdl: Lsn(30),
        floor: Lsn(20),
        membership: membership.clone(),
        standing: standing.clone(),
    };
    let image = PageImage::copy_from(&content);
    let base = BasePage { page, version: Lsn(28), content: image.clone() };
    let floor = Lsn(29);
    let records = vec![record];
    let refusals = [
        Refusal::StaleVolumeEpoch { current: VolumeEpoch::new(4, WriterId(12)) },
        Refusal::NotInstalled { installed: VolumeEpoch::new(2, WriterId(10)) },
        Refusal::StaleMembership { current: step.clone().into() },
        Refusal::AboveScl { scl: Lsn(40) },
        Refusal::BelowFloor { floor: Lsn(29) },
        Refusal::Busy,
        Refusal::DiskFull,
        Refusal::PageDamaged,
        Refusal::Rejoining,
        Refusal::OtherShape { shape: WriterConfig::default().shape() },
    ];
    let truncations = install.truncations.clone();
    let to_segment = [
        Message::Seal { volume_epoch: epoch, shape: WriterConfig::default().shape() },
        Message::TailPull { volume_epoch: epoch, above: Lsn(30), truncations },
        Message::Install { install: install.clone(), membership: membership.clone() },
        Message::Write {
            volume_epoch: epoch,
            membership_epoch: MembershipEpoch(1),
            records: records.clone(),
            vdl: Lsn(30),
            pgmrpl: Lsn(29),
        },
        Message::ReadPage { read: Token(9), volume_epoch: epoch, page, read_point: Lsn(40), group_point: Lsn(40) },
        Message::Membership { pg: PgId(0), volume_epoch: epoch, membership: step.clone() },
    ];
    let to_writer = [
        Message::Sealed { volume_epoch: epoch, report: report.clone() },
        Message::Tail { volume_epoch: epoch, above: Lsn(30), base: Lsn(28), records: records.clone(), complete: true },
        Message::Acknowledge { volume_epoch: epoch, scl: Lsn(40), standing: standing.clone() },
        Message::Page { read: Token(9), version: Lsn(40), page: image },
        Message::ReadRefused { read: Token(9), refusal: Refusal::AboveScl { scl: Lsn(39) } },
        Message::MembershipInstalled {
            volume_epoch: epoch,
            epochs: step.epochs(),
            counts: true,
            standing: standing.clone(),
        },
    ];
    let between = [
        Message::GossipPull { installed: epoch, scl: Lsn(36), membership: membership.clone() },
        Message::GossipPush { installed: epoch, records: records.clone() },
        Message::GossipInstall { install, membership: membership.clone() },
        Message::GossipTooFar { floor: Lsn(29) },
        Message::HydratePull { installed: epoch, after: Some(page), newer_than: Lsn(16), at_least: Lsn(20) },
        Message::HydratePush {
            installed: epoch,
            after: None,
            newer_than: Lsn(16),
            floor,
            pages: vec![base.clone()],
            unchanged: vec![page],
            complete: true,
        },
        Message::HealPull { page, floor },
        Message::HealPush { page, base: Some(base), through: Lsn(29) },
        Message::FoundPull { question },
        Message::FoundPush { question, footing: Footing::Founder { birth: Birth(300), yours: Some(Birth(2)) } },
        Message::RejoinPull { question, incarnation: Incarnation(1), membership: membership.clone() },
        Message::RejoinKnown { question, known: Incarnation(1) },
        Message::RejoinPush { question, promised: epoch, report, lives: BTreeMap::from([(MemberId(2), life)]) },
        Message::LifeAsk { question, life, membership },
        Message::LifeKnown { question, later: true, sure: false, standing: standing.clone() },
    ];
    let of_readers = [
        Message::Follow { number: 1, floor: Some(Lsn(29)), quiet: true },
        Message::LogPull { pull: Token(9), above: Lsn(28) },
        Message::Feedback { number: 2, volume_epoch: epoch, floor: Lsn(30) },
    ];
    let to_reader = [
        Message::LogPush {
            pull: Token(9),
            installed: epoch,
            base: Lsn(28),
            records: records.clone(),
            through: Lsn(40),
            vdl: Lsn(41),
        },
        Message::Following { number: 1, volume_epoch: epoch, start: Lsn(30), points: vec![Lsn(28), Lsn(30)] },
        Message::NotKept { volume_epoch: epoch, floor: Lsn(29) },
        Message::Published { volume_epoch: epoch, read_point: Lsn(30), wal: 1 << 33 },
    ];
    let mut all = Vec::new();
    all.extend(to_segment.into_iter().map(|message| (WRITER, segment(0), message)));
    all.extend(to_writer.into_iter().map(|message| (segment(0), WRITER, message)));
    all.extend(refusals.into_iter().map(|refusal| (segment(0), WRITER, Message::Refused(refusal))));
    all.extend(of_readers.into_iter().map(|message| (READER, WRITER, message)));
    all.extend(to_reader.into_iter().map(|message| (WRITER, READER, message)));
    all.extend(between.into_iter().map(|message| (segment(0), segment(1), message)));
    all
}

fn frame(from: Party, to: Party, message: &Message<Delta>) -> BytesMut {
    let mut out = BytesMut::new();
    Encoded::protocol(from, message).expect("small").write(Some(to), &mut out);
    out
}

#[test]
fn every_message_has_exactly_its_bytes_and_reads_back() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/messages.txt");
    let mut text = String::from(
        "# One frame of every message: its name, and its bytes in hexadecimal. specs/formats.md explains them.\n",
    );
    for (from, to, message) in samples() {
        let mut bytes = frame(from, to, &message);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = match &message {
            Message::Refused(refusal) => {
                format!("{}:{}", message.name(), format!("{refusal:?}").split(' ').next().unwrap_or_default())
            }
            _ => message.name().to_owned(),
        };
        text += &format!("{name} {hex}\n");
        let (read, _) = take_frame(&mut bytes).expect("sound").expect("whole");
        let Frame::Protocol(envelope) = read else { panic!("{name} reads back as {read:?}") };
        assert_eq!((envelope.from, envelope.to, envelope.message), (from, to, message));
        assert!(bytes.is_empty(), "{name} leaves {} bytes", bytes.len());
    }
    if std::env::var("GOLDEN").is_ok_and(|mode| mode == "rewrite") {
        std::fs::write(&path, &text).expect("written");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("readable"), text);
}

proptest! {
    /// Garbage, and sound frames with one byte changed or the end cut off, are refused or wait for more: no panic, and
    /// never a message that was not sent.
    #[test]
    fn what_was_damaged_is_never_a_message(which in 0usize..36, at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<prop::sample::Index>()) {
        let samples = samples();
        let (from, to, message) = &samples[which % samples.len()];
        let sound = frame(*from, *to, message);
        let mut damaged = sound.clone();
        damaged[at.index(sound.len())] ^= flip;
        if let Ok(Some((Frame::Protocol(envelope), _))) = take_frame(&mut damaged) {
            prop_assert!(false, "a damaged frame was read as {:?}", envelope);
        }
        let mut short = BytesMut::from(&sound[..cut.index(sound.len())]);
        prop_assert!(matches!(take_frame(&mut short), Ok(None)));
    }

    #[test]
    fn garbage_is_no_message(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::from(&garbage[..]);
        prop_assert!(!matches!(take_frame(&mut buffer), Ok(Some(_))));
    }
}
