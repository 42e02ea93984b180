//! Frames go there and back, and nothing that isn't one gets through.

use super::*;
use auriga_protocol::{Lsn, MembershipEpoch, PgId, Refusal, SegmentId, VolumeEpoch, VolumeId, WriterId};
use proptest::prelude::*;

fn segment(member: u8) -> Party {
    Party::Segment(SegmentId { volume: VolumeId(1), pg: PgId(0), member: MemberId(member) })
}

fn writer() -> Party {
    Party::Writer(VolumeId(1), WriterId(u64::MAX))
}

fn heartbeat(lsn: u64) -> Message<Delta> {
    Message::Write {
        volume_epoch: VolumeEpoch(3),
        membership_epoch: MembershipEpoch(1),
        records: Vec::new(),
        vdl: Lsn(lsn),
        pgmrpl: Lsn(lsn),
    }
}

fn framed(from: Party, to: Party, message: &Message<Delta>) -> BytesMut {
    let mut out = BytesMut::new();
    Encoded::protocol(from, message).expect("small").write(Some(to), &mut out);
    out
}

/// A frame around any payload, with a sound checksum.
fn around(payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    out.extend_from_slice(payload);
    out
}

#[test]
fn one_encoding_serves_every_receiver() {
    let encoded = Encoded::protocol(writer(), &heartbeat(9)).expect("small");
    let mut out = BytesMut::new();
    for member in 0..6 {
        encoded.write(Some(segment(member)), &mut out);
    }
    for member in 0..6 {
        let (frame, _) = take_frame(&mut out).expect("sound").expect("whole");
        let expected = Envelope { from: writer(), to: segment(member), message: heartbeat(9) };
        assert_eq!(frame, Frame::Protocol(expected));
    }
    assert!(out.is_empty());
}

#[test]
fn a_part_of_a_frame_is_waited_for() {
    let whole = framed(segment(0), writer(), &Message::Refused(Refusal::Busy));
    for cut in 0..whole.len() {
        let mut part = BytesMut::from(&whole[..cut]);
        assert!(take_frame(&mut part).expect("nothing wrong yet").is_none());
        assert_eq!(part.len(), cut, "nothing is taken");
    }
}

#[test]
fn any_flipped_bit_is_noticed() {
    let whole = framed(segment(0), writer(), &heartbeat(77));
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let taken = take_frame(&mut damaged);
        assert!(!matches!(taken, Ok(Some(_))), "bit {bit}: {taken:?}");
    }
}

#[test]
fn too_large_is_refused_before_it_is_read_and_before_it_is_sent() {
    let mut header = BytesMut::from(&((FRAME_PAYLOAD_MAX + 1) as u32).to_le_bytes()[..]);
    header.extend_from_slice(&[0; 4]);
    assert!(matches!(take_frame(&mut header), Err(FrameError::TooLarge { .. })));
    let reply = AdminReply::Refused("x".repeat(FRAME_PAYLOAD_MAX));
    assert!(matches!(Encoded::reply(Token(0), &reply), Err(FrameError::TooLarge { .. })));
}

#[test]
fn sound_checksums_around_nonsense_are_refused() {
    let sound = framed(segment(0), writer(), &heartbeat(1));
    let mut longer = sound[FRAME_HEADER..].to_vec();
    longer.push(0);
    assert!(matches!(take_frame(&mut around(&longer)), Err(FrameError::Malformed(_))));
    assert!(matches!(take_frame(&mut around(&[])), Err(FrameError::Malformed(_))));
    assert!(matches!(take_frame(&mut around(&[9, 1, 2])), Err(FrameError::Kind(9))));
    let beyond = framed(segment(16), writer(), &heartbeat(1));
    assert!(matches!(take_frame(&mut around(&beyond[FRAME_HEADER..])), Err(FrameError::Malformed(_))));
}

proptest! {
    #[test]
    fn arbitrary_payloads_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..3) {
        let mut payload = payload;
        payload.insert(0, kind);
        let _ = take_frame(&mut around(&payload));
    }
}
