//! What the other end of a connection under TLS can do to this one: each attack ends the connection, by name.

use super::*;
use crate::connection::{ConnectionError, Receiver, run};
use crate::frame::{FRAME_PAYLOAD_MAX, Frame, FrameError};
use crate::handshake::HandshakeError;
use crate::handshake::{ClusterId, ConnectionRole, Hello};
use crate::listener::ListenLimits;
use crate::places::{Places, UNFINISHED_BYTES_PER_ADDRESS_MAX};
use crate::tls::{Credentials, accept, dial};
use crate::{Outbox, Traffic};
use auriga_certs::{Authority, Validity};
use auriga_protocol::{Party, VolumeId, WriterId};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

fn issue(authority: &Authority, name: &str, role: auriga_certs::CertifiedRole) -> Credentials {
    let said = auriga_certs::Certified { name: name.to_owned(), role, volumes: [].into() };
    let issued = authority.sign(&said, Validity::days(1)).expect("signed");
    Credentials::from_pem(authority.certificate(), &issued.certificate, &issued.key).expect("good")
}

fn hello(name: &str) -> Hello {
    Hello { cluster: ClusterId(1), role: ConnectionRole::Admin, name: name.into() }
}

/// Both ends of a connection: the dialler's, and the acceptor's.
async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let here = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
    (here, listener.accept().await.expect("connected").0)
}

/// Both ends of a connection under TLS: that of the acceptor, and what the dialler writes with.
async fn pair() -> (Session, (ReadHalf, WriteHalf)) {
    let authority = Authority::generate().expect("new");
    let storage = issue(&authority, "s1", auriga_certs::CertifiedRole::Storage);
    let admin = issue(&authority, "x", auriga_certs::CertifiedRole::Admin);
    let ((here, there), ours, theirs) = (tcp().await, hello("s1"), hello("x"));
    let (dialled, accepted) = tokio::join!(dial(here, &theirs, Some(&admin)), accept(there, &ours, Some(&storage)));
    let accepted = accepted.map_err(|(error, _)| error).expect("its certificate is good");
    (accepted.0, dialled.expect("welcome").0.into_split())
}

struct Nobody;

impl Receiver for Nobody {
    async fn receive(&mut self, _: Frame, _: usize) -> Result<(), ConnectionError> {
        Ok(())
    }
}

async fn ended(session: Session) -> ConnectionError {
    let outbox = Outbox::new(Arc::new(Traffic::default()), 1000);
    run(session, "peer", None, &outbox, &mut Nobody).await
}

fn send(writer: &WriteHalf, bytes: &[u8]) -> io::Result<()> {
    let (mut sealed, _) = writer.seal(BytesMut::from(bytes))?;
    writer.write_now(&mut sealed)
}

/// What comes out of TLS is believed no more than what comes in the clear.
#[tokio::test]
async fn what_is_no_frame_ends_the_connection_by_name() {
    let oversized = [(FRAME_PAYLOAD_MAX as u32 + 1).to_le_bytes(), [0; 4]].concat();
    let damaged = [&2u32.to_le_bytes()[..], &[0; 4], &[1, 1]].concat();
    let (session, (_reader, writer)) = pair().await;
    send(&writer, &oversized).expect("sent");
    assert!(matches!(ended(session).await, ConnectionError::Frame(FrameError::TooLarge { .. })));
    let (session, (_reader, writer)) = pair().await;
    send(&writer, &damaged).expect("sent");
    assert!(matches!(ended(session).await, ConnectionError::Frame(FrameError::Checksum { .. })));
}

/// One bit of what is on the wire is changed: TLS notices, before any checksum of ours.
#[tokio::test]
async fn what_was_changed_on_its_way_ends_the_connection() {
    let (session, (_reader, writer)) = pair().await;
    let (mut sealed, _) = writer.seal(BytesMut::from(&[1, 2, 3][..])).expect("sealed");
    let last = sealed.len() - 1;
    sealed[last] ^= 1;
    writer.write_now(&mut sealed).expect("sent");
    let reason = ended(session).await;
    assert!(matches!(&reason, ConnectionError::Io(error) if error.kind() == ErrorKind::InvalidData), "{reason:?}");
}

/// A byte now and then, each in a record of its own, does not keep a frame alive.
#[tokio::test]
async fn a_frame_that_drips_is_not_waited_for() {
    let (session, (_reader, writer)) = pair().await;
    tokio::time::pause();
    let dripping = tokio::spawn(async move {
        while send(&writer, &[0]).is_ok() {
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
    });
    let reason = ended(session).await;
    assert!(matches!(reason, ConnectionError::Stalled), "{reason:?}");
    dripping.abort();
}

fn frame_around(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_le_bytes()[..], &crc32c::crc32c(payload).to_le_bytes(), payload].concat()
}

/// A few kilobytes that claim to be, or that are, more than a frame may hold.
#[tokio::test]
async fn a_compressed_bomb_is_not_unpacked() {
    let bomb = lz4_flex::block::compress(&vec![0; FRAME_PAYLOAD_MAX + 1]);
    assert!(bomb.len() < FRAME_PAYLOAD_MAX / 100, "{} bytes", bomb.len());
    let (kind_compressed, to) = (3, Party::Writer(VolumeId(1), WriterId(1)));
    for (claimed, reason) in [
        (u32::MAX, "exceeds the limit"),
        (FRAME_PAYLOAD_MAX as u32 + 1, "exceeds the limit"),
        // It says that it fits, and does not.
        (FRAME_PAYLOAD_MAX as u32, "no LZ4 block"),
        (4096, "no LZ4 block"),
    ] {
        let content = (claimed, bytes::Bytes::copy_from_slice(&bomb), to);
        let payload = postcard::to_extend(&content, vec![kind_compressed]);
        let (session, (_reader, writer)) = pair().await;
        let frame = frame_around(&payload.expect("small"));
        let sending = std::thread::spawn(move || {
            let (mut sealed, _) = writer.seal(BytesMut::from(&frame[..])).expect("sealed");
            // What the kernel does not take yet, it takes once the other side has read.
            while let Err(error) = writer.write_now(&mut sealed)
                && error.kind() == ErrorKind::WouldBlock
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            writer
        });
        let ended = ended(session).await.to_string();
        assert!(ended.contains(reason), "{claimed}: {ended}");
        sending.join().expect("sent");
    }
}

/// Who can write on the wire, and has no key, sends again what was sent before.
#[tokio::test]
async fn a_record_that_comes_twice_ends_the_connection() {
    let (session, (_reader, writer)) = pair().await;
    let (mut sealed, _) = writer.seal(BytesMut::from(&frame_around(&[200])[..])).expect("sealed");
    let mut again = sealed.clone();
    writer.write_now(&mut sealed).expect("sent");
    writer.write_now(&mut again).expect("sent");
    let reason = ended(session).await;
    assert!(matches!(&reason, ConnectionError::Io(error) if error.kind() == ErrorKind::InvalidData), "{reason:?}");
}

/// All that one side of a connection has sent, sent again on another.
#[tokio::test]
async fn a_connection_that_was_recorded_is_not_taken_for_a_new_one() {
    let authority = Authority::generate().expect("new");
    let storage = issue(&authority, "s1", auriga_certs::CertifiedRole::Storage);
    let admin = issue(&authority, "x", auriga_certs::CertifiedRole::Admin);
    let ((here, mut listening), (mut forwarding, there)) = (tcp().await, tcp().await);
    let recording = tokio::spawn(async move {
        let (mut from, mut back) = listening.split();
        let (mut answers, mut to) = forwarding.split();
        let forward = async {
            let (mut recorded, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(read @ 1..) = from.read(&mut piece).await {
                recorded.extend_from_slice(&piece[..read]);
                to.write_all(&piece[..read]).await.expect("forwarded");
            }
            recorded
        };
        tokio::select! {
            recorded = forward => recorded,
            _ = tokio::io::copy(&mut answers, &mut back) => panic!("the acceptor was first to close"),
        }
    });
    let (theirs, ours) = (hello("x"), hello("s1"));
    let (dialled, accepted) = tokio::join!(dial(here, &theirs, Some(&admin)), accept(there, &ours, Some(&storage)));
    let accepted = accepted.map_err(|(error, _)| error).expect("its certificate is good");
    drop(dialled.expect("welcome"));
    let recorded = recording.await.expect("ran");
    drop(accepted);
    assert!(recorded.len() > 500, "a certificate is in it: {}", recorded.len());

    let (mut here, there) = tcp().await;
    here.write_all(&recorded).await.expect("sent");
    let (refused, _) = accept(there, &ours, Some(&storage)).await.err().expect("refused");
    assert!(matches!(&refused, HandshakeError::Tls(why) if why.contains("decrypt")), "{refused:?}");
}

/// The length of a handshake message has 24 bits: who fills them is cut off long before.
#[tokio::test]
async fn a_handshake_message_without_end_is_not_collected() {
    let authority = Authority::generate().expect("new");
    let storage = issue(&authority, "s1", auriga_certs::CertifiedRole::Storage);
    let (mut here, there) = tcp().await;
    let flooding = tokio::spawn(async move {
        let mut record = [&[22, 3, 1, 64, 0][..], &[0; 16_384]].concat();
        record[5..9].copy_from_slice(&[1, 255, 255, 255]);
        while here.write_all(&record).await.is_ok() {
            record[5..9].fill(0);
        }
    });
    let (refused, tcp) = accept(there, &hello("s1"), Some(&storage)).await.err().expect("refused");
    assert!(matches!(&refused, HandshakeError::Tls(why) if why.contains("HandshakePayloadTooLarge")), "{refused:?}");
    drop(tcp);
    flooding.await.expect("cut off");
}

/// Peers that announce long frames and send nothing of them. A good certificate gives nobody more memory than others have.
#[tokio::test]
async fn frames_that_only_begin_hold_no_more_memory_than_others() {
    let places = Places::new(ListenLimits::default());
    let header = [(FRAME_PAYLOAD_MAX as u32).to_le_bytes(), [0; 4]].concat();
    let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let mut writers = Vec::new();
    for _ in 0..=UNFINISHED_BYTES_PER_ADDRESS_MAX / FRAME_PAYLOAD_MAX {
        let (session, (reader, writer)) = pair().await;
        send(&writer, &header).expect("sent");
        writers.push((reader, writer));
        let (place, ends) = (places.enter([127, 0, 0, 1].into()).expect("room"), ends.clone());
        tokio::spawn(async move {
            let outbox = Outbox::new(Arc::new(Traffic::default()), 1000);
            let _ = ends.send(run(session, "peer", Some(&place), &outbox, &mut Nobody).await);
        });
    }
    let reason = ended.recv().await.expect("one of them ends");
    assert!(matches!(reason, ConnectionError::Crowded(_)), "{reason:?}");
}
