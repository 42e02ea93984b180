//! One connection's life after its handshake.

use crate::frame::{Frame, FrameError, take_frame};
use crate::outbox::Outbox;
use bytes::BytesMut;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::timeout;

/// How long the rest of a frame may take once its first byte is there.
const FRAME_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the kernel may keep what the peer does not take, before the connection counts as broken. Without it, a
/// host that vanished would be noticed only after many minutes.
const UNSENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Read buffer; grows for a frame that is larger, and only as far as its bytes arrive.
const READ_BYTES: usize = 64 << 10;

/// Takes frames as they arrive. Called by the connection's task, in order; to wait makes the sender wait.
pub trait Receiver: Send + Sync + 'static {
    /// One frame of `size` bytes from the peer. An error closes the connection.
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
    /// A frame began and did not end.
    #[error("a frame was not complete after {FRAME_TIMEOUT:?}")]
    Stalled,
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

/// Reads and writes, connected to the node named `peer`, until the connection ends, and says why it did.
pub async fn run(stream: TcpStream, peer: &str, outbox: &Outbox, receiver: &mut impl Receiver) -> ConnectionError {
    let (reader, writer) = stream.into_split();
    let writer = Arc::new(writer);
    outbox.connect(writer.clone(), peer);
    let error = tokio::select! {
        error = read(reader, receiver) => error,
        error = outbox.write_the_rest(&writer) => error.into(),
    };
    outbox.disconnect();
    error
}

async fn read(reader: OwnedReadHalf, receiver: &mut impl Receiver) -> ConnectionError {
    match try_read(reader, receiver).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn try_read(
    mut reader: OwnedReadHalf,
    receiver: &mut impl Receiver,
) -> Result<std::convert::Infallible, ConnectionError> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        while let Some((frame, size)) = take_frame(&mut buffer)? {
            receiver.receive(frame, size).await?;
        }
        let is_between_frames = buffer.is_empty();
        buffer.reserve(READ_BYTES);
        // Not `readable` and `try_read`: only this takes a short read for what it is, the last one for now. Those ask the
        // kernel a second time after each frame.
        let more = reader.read_buf(&mut buffer);
        let read = match is_between_frames {
            true => more.await?,
            false => timeout(FRAME_TIMEOUT, more).await.map_err(|_| ConnectionError::Stalled)??,
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

    struct Nobody;

    impl Receiver for Nobody {
        async fn receive(&mut self, _: Frame, _: usize) -> Result<(), ConnectionError> {
            Ok(())
        }
    }

    /// With tokio's clock paused, time leaps to the next timeout whenever nothing else can happen.
    #[tokio::test(start_paused = true)]
    async fn half_a_frame_is_not_waited_for_for_ever_but_silence_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("connected");
        let outbox = Outbox::new(Arc::new(Traffic::default()), 1000);
        let mut receiver = Nobody;
        let mut running = std::pin::pin!(run(stream, "peer", &outbox, &mut receiver));
        assert!(timeout(FRAME_TIMEOUT * 10, &mut running).await.is_err(), "an idle connection stays");
        peer.write_all(&[9, 0, 0]).await.expect("sent");
        assert!(matches!(running.await, ConnectionError::Stalled));
    }
}
