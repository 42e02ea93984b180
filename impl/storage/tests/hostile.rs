//! Strangers and broken peers: each loses its own connection, and no other peer is affected.

mod common;

use auriga_net::admin::{AdminReply, AdminRequest, ask};
use auriga_net::frame::{FRAME_PAYLOAD_MAX, Frame, take_frame};
use auriga_net::handshake::{ConnectionRole, Hello, dial};
use auriga_net::{ClusterId, Encoded};
use auriga_protocol::identity::{Charter, Shape};
use auriga_protocol::message::Envelope;
use auriga_protocol::{
    Geometry, Lsn, Membership, MembershipEpoch, Message, Party, PgId, QuorumSet, SegmentId, VolumeEpoch, VolumeId,
    WriterConfig, WriterId,
};
use auriga_storage::StorageConfig;
use auriga_volume::RemoteVolume;
use bytes::BytesMut;
use common::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);

fn impatient(config: &mut StorageConfig) {
    config.limits.handshake_timeout = Duration::from_millis(150);
    config.limits.connections_max = 16;
}

async fn impatient_cluster() -> (Cluster, RemoteVolume) {
    Cluster::start_adjusted(Arc::new(impatient)).await.and_volume().await
}

fn hello(role: ConnectionRole) -> Hello {
    Hello { cluster: CLUSTER, role, name: "stranger".into() }
}

async fn connect(cluster: &Cluster) -> TcpStream {
    TcpStream::connect(cluster.members[&member(0)]).await.expect("it listens")
}

/// Connected, with a handshake behind it.
async fn greeted(cluster: &Cluster, role: ConnectionRole) -> TcpStream {
    let mut stream = connect(cluster).await;
    dial(&mut stream, &hello(role)).await.expect("welcome");
    stream
}

/// Whether the node closes the connection (soon, not at the end of the test).
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match timeout(PATIENCE, stream.read_to_end(&mut rest)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionReset,
        Err(_) => false,
    }
}

async fn still_works(volume: &RemoteVolume, from: u8) {
    commit(volume, vec![fill(page(1), from, from + 1)], soon()).await.expect("the others are unharmed");
}

fn segment_a() -> SegmentId {
    SegmentId { volume: VOLUME, pg: PgId(0), member: member(0) }
}

fn seal(to: SegmentId, writer: WriterId) -> BytesMut {
    let seal = Message::Seal { volume_epoch: VolumeEpoch::new(1, writer), shape: WriterConfig::default().shape() };
    let mut out = BytesMut::new();
    let encoded = Encoded::protocol(Party::Writer(to.volume, writer), &seal).expect("small");
    encoded.write(Some(Party::Segment(to)), &mut out);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_bytes_and_other_clusters_are_turned_away() {
    let (cluster, volume) = impatient_cluster().await;
    let mut http = connect(&cluster).await;
    http.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    assert!(is_closed(&mut http).await);
    let mut other = connect(&cluster).await;
    let refused = dial(&mut other, &Hello { cluster: ClusterId(0xb2), ..hello(ConnectionRole::Admin) }).await;
    assert!(refused.expect_err("refused").to_string().contains("another cluster"));
    assert!(is_closed(&mut other).await);
    still_works(&volume, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dawdles_over_the_handshake_is_cut_off() {
    let (cluster, volume) = impatient_cluster().await;
    let mut silent = connect(&cluster).await;
    let mut dribbling = connect(&cluster).await;
    dribbling.write_all(b"AUR").await.expect("sent");
    assert!(is_closed(&mut silent).await && is_closed(&mut dribbling).await);
    still_works(&volume, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_damaged_and_misplaced_frames_cost_their_connection() {
    let (cluster, volume) = impatient_cluster().await;
    let mut oversized = greeted(&cluster, ConnectionRole::WriterLog).await;
    let length = u32::try_from(FRAME_PAYLOAD_MAX + 1).expect("it fits");
    oversized.write_all(&[&length.to_le_bytes()[..], &[0; 4]].concat()).await.expect("sent");
    assert!(is_closed(&mut oversized).await);

    let mut damaged = greeted(&cluster, ConnectionRole::WriterLog).await;
    let mut frame = seal(segment_a(), WriterId(66));
    let last = frame.len() - 1;
    frame[last] ^= 1;
    damaged.write_all(&frame).await.expect("sent");
    assert!(is_closed(&mut damaged).await);

    let mut misplaced = greeted(&cluster, ConnectionRole::Admin).await;
    misplaced.write_all(&seal(segment_a(), WriterId(66))).await.expect("sent");
    assert!(is_closed(&mut misplaced).await);
    still_works(&volume, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_writers_on_one_connection_cost_it() {
    let (cluster, volume) = impatient_cluster().await;
    let mut crowd = greeted(&cluster, ConnectionRole::WriterLog).await;
    for writer in 0..65 {
        let _ = crowd.write_all(&seal(SegmentId { volume: VolumeId(99), ..segment_a() }, WriterId(writer))).await;
    }
    assert!(is_closed(&mut crowd).await);
    still_works(&volume, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited_and_places_become_free() {
    let (cluster, volume) = impatient_cluster().await;
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let mut stream = connect(&cluster).await;
        match timeout(PATIENCE, dial(&mut stream, &hello(ConnectionRole::Storage))).await.expect("answered or closed") {
            Ok(_) => held.push(stream),
            Err(_) => refused += 1,
        }
    }
    assert!(held.len() <= 16 && refused >= 4, "{} held, {refused} refused", held.len());
    still_works(&volume, 0).await;
    held.clear();
    let until = soon();
    loop {
        let mut stream = connect(&cluster).await;
        if timeout(PATIENCE, dial(&mut stream, &hello(ConnectionRole::Storage)))
            .await
            .is_ok_and(|dialled| dialled.is_ok())
        {
            break;
        }
        assert!(std::time::Instant::now() < until, "no place becomes free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_a_segment_that_is_not_there_creates_nothing() {
    let (cluster, volume) = impatient_cluster().await;
    let mut stream = greeted(&cluster, ConnectionRole::WriterLog).await;
    let elsewhere = SegmentId { volume: VolumeId(99), ..segment_a() };
    stream.write_all(&seal(elsewhere, WriterId(66))).await.expect("sent");
    // The connection lives on: it may still speak to a segment that is there (whose promise is higher already).
    stream.write_all(&seal(segment_a(), WriterId(66))).await.expect("sent");
    let mut buffer = BytesMut::new();
    let frame = loop {
        if let Some((frame, _)) = take_frame(&mut buffer).expect("sound") {
            break frame;
        }
        let read = timeout(PATIENCE, stream.read_buf(&mut buffer)).await.expect("answered").expect("open");
        assert!(read > 0, "closed instead of answered");
    };
    let Frame::Protocol(Envelope { to, message: Message::Refused(_), .. }) = frame else { panic!("{frame:?}") };
    assert_eq!(to, Party::Writer(VOLUME, WriterId(66)));
    let status = ask(cluster.members[&member(0)], CLUSTER, &AdminRequest::Status, PATIENCE).await.expect("answered");
    let AdminReply::Status(status) = status else { panic!("{status:?}") };
    assert_eq!(status.segments.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [segment_a()]);
    assert!(status.segments[0].1.scl >= Lsn::ZERO && status.rss_bytes > 0);
    still_works(&volume, 0).await;
}

/// A heartbeat of the writer, repeated by another party: the writer's answers still come to the writer.
#[tokio::test(flavor = "multi_thread")]
async fn who_repeats_a_writers_words_takes_no_answer_away() {
    let (cluster, volume) = impatient_cluster().await;
    still_works(&volume, 0).await;
    let volume_epoch = volume.status().writer.volume_epoch;
    let heartbeat = Message::Write {
        volume_epoch,
        membership_epoch: MembershipEpoch(1),
        records: Vec::new(),
        vdl: Lsn::ZERO,
        pgmrpl: Lsn::ZERO,
    };
    let encoded = Encoded::protocol(Party::Writer(VOLUME, volume_epoch.writer), &heartbeat).expect("small");
    let mut parrots = Vec::new();
    for index in 0..6 {
        let mut stream = TcpStream::connect(cluster.members[&member(index)]).await.expect("it listens");
        dial(&mut stream, &hello(ConnectionRole::WriterLog)).await.expect("welcome");
        let mut frame = BytesMut::new();
        encoded.write(Some(Party::Segment(SegmentId { member: member(index), ..segment_a() })), &mut frame);
        stream.write_all(&frame).await.expect("sent");
        assert!(stream.read_u8().await.is_ok(), "it is answered as well");
        parrots.push(stream);
    }
    still_works(&volume, 1).await;
    drop(parrots);
    still_works(&volume, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_too_many_and_a_formula_too_long_are_refused() {
    let adjust = |config: &mut StorageConfig| config.segments_max = 1;
    let (cluster, volume) = Cluster::start_adjusted(Arc::new(adjust)).await.and_volume().await;
    let shape = Shape { geometry: Geometry { groups: 1, extent_blocks: 8 }, allocation_limit: 64 };
    let create = async |quorum: QuorumSet| {
        let (id, membership) = (SegmentId { volume: VolumeId(99), ..segment_a() }, Membership::initial(quorum));
        let request = AdminRequest::CreateSegment { id, membership, charter: Charter { label: 99, shape } };
        match ask(cluster.members[&member(0)], CLUSTER, &request, Duration::from_secs(60)).await.expect("answered") {
            AdminReply::Refused(why) => why,
            other => panic!("{other:?}"),
        }
    };
    let why = create(QuorumSet::aurora()).await;
    assert!(why.contains("no more than 1"), "{why}");
    // A minute's work once, when thresholds were not counted.
    let aurora = QuorumSet::aurora();
    let endless = QuorumSet { write: aurora.write.repeat(30_000), read: aurora.read.repeat(30_000) };
    let why = create(endless).await;
    assert!(why.contains("too long"), "{why}");
    still_works(&volume, 0).await;
}
