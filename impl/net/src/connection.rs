//! One connection's life after its handshake.

use crate::frame::{self, Frame, FrameError, take_frame};
use crate::outbox::Outbox;
use crate::places::Place;
use crate::session::{ReadHalf, Session};
use bytes::BytesMut;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How long a frame may take from its first byte to its last, in however many pieces it comes.
const FRAME_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the kernel may keep what the peer does not take, before the connection counts as broken. Without it, a
/// host that vanished would be noticed only after many minutes.
const UNSENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Read buffer; grows for a frame that is larger, only as far as its bytes arrive, and shrinks again after it.
const READ_BYTES: usize = 64 << 10;

/// Takes frames as they arrive. Called by the connection's task, in order; to wait makes the sender wait.
pub trait Receiver: Send + Sync + 'static {
    /// One frame of `size` bytes from the peer, never a [`Frame::Skipped`]. An error closes the connection.
    fn receive(&mut self, frame: Frame, size: usize) -> impl Future<Output = Result<(), ConnectionError>> + Send;
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The peer closed it.
    #[error("the other side closed the connection")]
    Closed,
    /// What came was no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame came that has no business on this connection.
    #[error("a frame out of place: {0}")]
    OutOfPlace(&'static str),
    /// A frame came that its sender may not send.
    #[error("not allowed: {0}")]
    NotAllowed(String),
    /// A frame began and did not end.
    #[error("a frame was not complete after {FRAME_TIMEOUT:?}")]
    Stalled,
    /// Too much memory is held by frames that have begun and not ended.
    #[error("frames that are not complete hold too much memory: one more of {0} bytes is not taken")]
    Crowded(usize),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// Options that every connection has, from its first byte.
///
/// # Errors
/// When the socket is broken.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNSENT_TIMEOUT))
}

/// Reads and writes, connected to the node named `peer`, until the connection ends, and says why it did. A connection
/// that was accepted holds a `place`.
pub async fn run(
    stream: Session,
    peer: &str,
    place: Option<&Place>,
    outbox: &Outbox,
    receiver: &mut impl Receiver,
) -> ConnectionError {
    let (reader, writer) = stream.into_split();
    let writer = Arc::new(writer);
    outbox.connect(writer.clone(), peer);
    let error = tokio::select! {
        error = read(reader, place, receiver) => error,
        error = outbox.write_the_rest(&writer) => error.into(),
    };
    outbox.disconnect();
    error
}

async fn read(reader: ReadHalf, place: Option<&Place>, receiver: &mut impl Receiver) -> ConnectionError {
    match try_read(reader, place, receiver).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn try_read(
    mut reader: ReadHalf,
    place: Option<&Place>,
    receiver: &mut impl Receiver,
) -> Result<std::convert::Infallible, ConnectionError> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut began = None;
    // Kinds are bytes: the set is bounded, and so is what it makes the log grow by.
    let mut skipped = BTreeSet::new();
    loop {
        while let Some((frame, size)) = take_frame(&mut buffer)? {
            place.inspect(|place| place.spoke());
            began = None;
            match frame {
                Frame::Skipped(kind) => {
                    if skipped.insert(kind) {
                        tracing::warn!(
                            kind,
                            "skipping frames of a kind that this build does not know: the peer is a later one"
                        );
                    }
                }
                frame => receiver.receive(frame, size).await?,
            }
        }
        match frame::expected(&buffer) {
            Some(bytes) if bytes > READ_BYTES && !place.is_none_or(|place| place.expects(bytes)) => {
                return Err(ConnectionError::Crowded(bytes));
            }
            None if buffer.is_empty() && buffer.capacity() > 4 * READ_BYTES => {
                buffer = BytesMut::with_capacity(READ_BYTES);
            }
            _ => {}
        }
        let buffer_is_empty = buffer.is_empty();
        buffer.reserve(READ_BYTES);
        let more = reader.read(&mut buffer);
        let read = if buffer_is_empty {
            more.await?
        } else {
            let until = *began.get_or_insert_with(Instant::now) + FRAME_TIMEOUT;
            timeout_at(until, more).await.map_err(|_| ConnectionError::Stalled)??
        };
        if read == 0 {
            return Err(ConnectionError::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Traffic;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::{sleep, timeout};

    struct Nobody;

    impl Receiver for Nobody {
        async fn receive(&mut self, _: Frame, _: usize) -> Result<(), ConnectionError> {
            Ok(())
        }
    }

    /// A build of today and one of tomorrow, which sends what today's does not know.
    #[tokio::test]
    async fn an_unknown_frame_of_a_later_build_is_skipped_or_ends_the_connection_by_name() {
        struct Heard(Vec<&'static str>);
        impl Receiver for Heard {
            async fn receive(&mut self, frame: Frame, _: usize) -> Result<(), ConnectionError> {
                self.0.push(frame.name());
                Ok(())
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("connected");
        let mut known = BytesMut::new();
        let status = crate::admin::AdminRequest::Status;
        crate::Encoded::request(auriga_protocol::Token(1), &status).expect("small").write(None, &mut known);
        for kind in [frame::KIND_SKIPPABLE, 255, 77] {
            let payload = [kind, 1, 2, 3];
            let header = [4u32.to_le_bytes(), crc32c::crc32c(&payload).to_le_bytes()].concat();
            peer.write_all(&[&header[..], &payload, &known].concat()).await.expect("sent");
        }
        let (outbox, mut heard) = (Outbox::new(Arc::new(Traffic::default()), 1000), Heard(Vec::new()));
        let reason = run(Session::plain(stream), "peer", None, &outbox, &mut heard).await;
        assert_eq!(heard.0, ["AdminRequest", "AdminRequest"]);
        assert_eq!(reason.to_string(), "frame kind 77 is unknown: the other side is a later build");
    }

    /// With tokio's clock paused, time leaps to the next timeout whenever nothing else can happen.
    #[tokio::test(start_paused = true)]
    async fn half_a_frame_is_not_waited_for_for_ever_but_silence_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("connected");
        let outbox = Outbox::new(Arc::new(Traffic::default()), 1000);
        let mut receiver = Nobody;
        let mut running = std::pin::pin!(run(Session::plain(stream), "peer", None, &outbox, &mut receiver));
        assert!(timeout(FRAME_TIMEOUT * 10, &mut running).await.is_err(), "an idle connection stays");
        peer.write_all(&[9, 0, 0]).await.expect("sent");
        assert!(matches!(running.await, ConnectionError::Stalled));
    }

    /// A byte now and then does not keep a frame alive.
    #[tokio::test(start_paused = true)]
    async fn a_frame_that_drips_is_not_waited_for_either() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("connected");
        let outbox = Outbox::new(Arc::new(Traffic::default()), 1000);
        let mut receiver = Nobody;
        let dripping = tokio::spawn(async move {
            while peer.write_all(&[0]).await.is_ok() {
                sleep(FRAME_TIMEOUT / 5).await;
            }
        });
        let reason =
            timeout(FRAME_TIMEOUT * 3, run(Session::plain(stream), "peer", None, &outbox, &mut receiver)).await;
        assert!(matches!(reason, Ok(ConnectionError::Stalled)), "{reason:?}");
        dripping.abort();
    }
}
