//! Frames go there and back, and nothing that isn't one gets through.

use super::*;
use auriga_page::{PAGE_SIZE, PageImage};
use auriga_protocol::{
    Lsn, MemberId, MembershipEpoch, PageId, PgId, Record, Refusal, SegmentId, VolumeEpoch, VolumeId, WriterId,
};
use proptest::prelude::*;

fn segment(member: u8) -> Party {
    Party::Segment(SegmentId { volume: VolumeId(1), pg: PgId(0), member: MemberId(member) })
}

fn writer() -> Party {
    Party::Writer(VolumeId(1), WriterId(u64::MAX))
}

fn heartbeat(lsn: u64) -> Message<Delta> {
    write_of(Vec::new(), lsn)
}

fn write_of(records: Vec<Record<Delta>>, lsn: u64) -> Message<Delta> {
    Message::Write {
        volume_epoch: VolumeEpoch::new(3, WriterId(3)),
        membership_epoch: MembershipEpoch(1),
        records,
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

/// One byte less is no frame yet; no payload at all is none ever.
#[test]
fn the_shortest_frame_is_a_kind_alone() {
    let shortest = around(&[KIND_SKIPPABLE]);
    for short in 0..shortest.len() {
        let mut bytes = BytesMut::from(&shortest[..short]);
        assert!(matches!(take_frame(&mut bytes), Ok(None)), "{short} bytes");
    }
    let mut bytes = shortest.clone();
    let (frame, size) = take_frame(&mut bytes).expect("sound").expect("whole");
    assert_eq!((frame, size, bytes.len()), (Frame::Skipped(KIND_SKIPPABLE), FRAME_HEADER + 1, 0));
    assert!(matches!(take_frame(&mut around(&[])), Err(FrameError::Malformed("empty"))));
    assert!(matches!(take_frame(&mut around(&[KIND_SKIPPABLE - 1])), Err(FrameError::Kind(_))));
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
    assert!(matches!(take_frame(&mut around(&[200, 1, 2])), Ok(Some((Frame::Skipped(200), 11)))));
    let beyond = framed(segment(64), writer(), &heartbeat(1));
    assert!(matches!(take_frame(&mut around(&beyond[FRAME_HEADER..])), Err(FrameError::Postcard(_))));
}

/// A write of one record that writes these bytes into a page.
fn write(bytes: Vec<u8>) -> Message<Delta> {
    let mut page = [0; PAGE_SIZE];
    page[100..100 + bytes.len()].copy_from_slice(&bytes);
    let record = Record {
        lsn: Lsn(2),
        prev_volume: Lsn(1),
        prev_segment: Lsn(1),
        prev_block: Lsn(0),
        is_cpl: true,
        page: PageId { inode: 1, block: 1 },
        payload: Delta::full(&page),
    };
    write_of(vec![record], 9)
}

#[test]
fn what_repeats_itself_is_shorter_on_the_wire_and_a_page_that_is_waited_for_is_not() {
    let sent = framed(writer(), segment(0), &write(vec![7; 2000]));
    assert!(sent.len() < 200, "{} bytes", sent.len());
    let page = Message::Page { read: Token(1), version: Lsn(1), page: PageImage::copy_from(&[7; PAGE_SIZE]) };
    assert!(framed(segment(0), writer(), &page).len() > PAGE_SIZE);
}

#[test]
fn a_block_that_is_not_what_it_says_is_refused() {
    let sent = framed(writer(), segment(0), &write(vec![7; 900]));
    let (length, block, to): (u32, &[u8], Party) = postcard::from_bytes(&sent[FRAME_HEADER + 1..]).expect("sound");
    let claim = |length: u32| {
        let block = Bytes::copy_from_slice(block);
        let payload = postcard::to_extend(&(length, block, to), vec![KIND_COMPRESSED]).expect("small");
        take_frame(&mut around(&payload))
    };
    assert!(matches!(claim(length), Ok(Some(_))));
    assert!(matches!(claim(length + 1), Err(FrameError::Malformed(_))));
    assert!(matches!(claim(length - 1), Err(FrameError::Malformed(_))));
    assert!(matches!(claim(FRAME_PAYLOAD_MAX as u32 + 1), Err(FrameError::TooLarge { .. })));
}

proptest! {
    #[test]
    fn every_write_comes_back_as_it_was(bytes in proptest::collection::vec(0u8..4, 1..3000)) {
        let message = write(bytes);
        let (frame, _) = take_frame(&mut framed(writer(), segment(3), &message)).expect("sound").expect("whole");
        prop_assert_eq!(frame, Frame::Protocol(Envelope { from: writer(), to: segment(3), message }));
    }

    #[test]
    fn arbitrary_payloads_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..4) {
        let mut payload = payload;
        payload.insert(0, kind);
        let _ = take_frame(&mut around(&payload));
    }
}
