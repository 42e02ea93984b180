//! The wire format, pinned byte by byte (`specs/formats.md`, "On the wire"). A change here is a new protocol version.

use auriga_net::admin::{AdminReply, AdminRequest};
use auriga_net::frame::take_frame;
use auriga_net::handshake::{ClusterId, ConnectionRole, Hello, accept, dial};
use auriga_net::{Encoded, Frame};
use auriga_page::{Delta, PAGE_SIZE};
use auriga_protocol::membership::{Membership, Step};
use auriga_protocol::{
    Defects, Lsn, MemberId, MembershipEpoch, Message, PageId, Party, PgId, QuorumSet, ReaderId, Record, Refusal,
    SegmentId, Token, VolumeEpoch, VolumeId, WriterConfig, WriterId,
};
use bytes::BytesMut;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn segment() -> Party {
    Party::Segment(SegmentId { volume: VolumeId(300), pg: PgId(1), member: MemberId(2) })
}

fn writer() -> Party {
    Party::Writer(VolumeId(300), WriterId(5))
}

/// Encodes, compares, and decodes again.
fn check_message(from: Party, to: Party, message: &Message<Delta>, expected: &str) {
    let mut out = BytesMut::new();
    Encoded::protocol(from, message).expect("small").write(Some(to), &mut out);
    assert_eq!(hex(&out), expected, "{}", message.name());
    let (frame, size) = take_frame(&mut out).expect("sound").expect("whole");
    assert_eq!(size * 2, expected.len());
    let Frame::Protocol(envelope) = frame else { panic!("{frame:?}") };
    assert_eq!((envelope.from, envelope.to, &envelope.message), (from, to, message));
}

#[test]
fn messages() {
    check_message(
        writer(),
        segment(),
        &Message::Seal { volume_epoch: VolumeEpoch::new(2, WriterId(5)), shape: WriterConfig::default().shape() },
        "1300000014f9edc50000020501800880804001ac020500ac020102",
    );
    let mut content = [0; PAGE_SIZE];
    content[16..20].copy_from_slice(&[1, 2, 3, 4]);
    let record = Record {
        lsn: Lsn(1000),
        prev_volume: Lsn(999),
        prev_segment: Lsn(997),
        prev_block: Lsn(0),
        is_cpl: true,
        page: PageId { inode: 7, block: 128 },
        payload: Delta::between(&[0; PAGE_SIZE], &content).expect("they differ"),
    };
    let write = Message::Write {
        volume_epoch: VolumeEpoch::new(2, WriterId(5)),
        membership_epoch: MembershipEpoch(1),
        records: vec![record],
        vdl: Lsn(999),
        pgmrpl: Lsn(998),
    };
    check_message(
        writer(),
        segment(),
        &write,
        "28000000a8b17ed6000502050101e807e707e507000107800109001000040001020304e707e60701ac020500ac020102",
    );
    let refused = Message::Refused(Refusal::StaleVolumeEpoch { current: VolumeEpoch::new(3, WriterId(5)) });
    check_message(segment(), writer(), &refused, "0e00000003fe3ea6000700030500ac02010201ac0205");
    let first = Membership::initial(QuorumSet::aurora());
    let home = SocketAddr::from(([127, 0, 0, 9], 5433));
    let next = first.replacing(MemberId(5), home, Defects::NONE).expect("F→G makes sense").0;
    let volume_epoch = VolumeEpoch::new(2, WriterId(5));
    let told =
        Message::Membership { pg: PgId(1), volume_epoch, membership: Step { volume_epoch, before: first, next } };
    check_message(
        writer(),
        segment(),
        &told,
        "30000000662317d8002101020502050101043f01033f0000060202043f045f01033f0105060106007f000009b92a0701ac020500ac020102",
    );
    let reader = Party::Reader(VolumeId(300), ReaderId(5));
    let anyone = Party::Writer(VolumeId(300), WriterId(0));
    let follow = Message::Follow { number: 300, floor: Some(Lsn(999)), quiet: true };
    check_message(reader, anyone, &follow, "10000000c8a8e285001aac0201e7070102ac020501ac0200");
}

#[test]
fn requests_and_replies() {
    let mut out = BytesMut::new();
    Encoded::request(Token(1), &AdminRequest::Status).expect("small").write(None, &mut out);
    Encoded::reply(Token(1), &AdminReply::Refused("no".into())).expect("small").write(None, &mut out);
    assert_eq!(hex(&out), "03000000702aec24010101060000009a530f6d020101026e6f");
}

#[tokio::test]
async fn handshake() {
    let hello = |role, name: &str| Hello { cluster: ClusterId(0x0102), role, name: name.into() };
    let (mut here, mut there) = duplex(256);
    let dialled = tokio::spawn(async move {
        let result = dial(&mut here, &hello(ConnectionRole::WriterLog, "i1")).await;
        (result, here)
    });
    let mut said = [0; 32];
    there.read_exact(&mut said).await.expect("said");
    assert_eq!(hex(&said), "4155524947410900090014000201000000000000000000000000000001026931");
    let (mut acceptor, mut relay) = duplex(256);
    acceptor.write_all(&said).await.expect("fits");
    let theirs = accept(&mut relay, &hello(ConnectionRole::Storage, "s1")).await.expect("welcome");
    assert_eq!(theirs, hello(ConnectionRole::WriterLog, "i1"));
    let mut answer = [0; 33];
    acceptor.read_exact(&mut answer).await.expect("answered");
    assert_eq!(hex(&answer), "004155524947410900090014000201000000000000000000000000000000027331");
    there.write_all(&answer).await.expect("fits");
    let (result, _) = dialled.await.expect("ran");
    assert_eq!(result.expect("welcome"), hello(ConnectionRole::Storage, "s1"));
}
