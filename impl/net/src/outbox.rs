//! What waits to be sent to one peer.
//!
//! [`Outbox::push`] copies a frame into a buffer; [`Outbox::flush`] writes the buffer from the calling thread, in one
//! system call for all that has gathered, and never blocks: what the kernel does not take at once is left to the
//! connection's own task. So in the normal case no other thread has to wake up for a message to leave.
//!
//! Under TLS, the buffer is encrypted when it is written, all of it at once.
//!
//! The buffer is bounded. A frame that does not fit, or that finds no connection, is dropped and counted.

use crate::frame::Encoded;
use crate::session::WriteHalf;
use crate::traffic::Traffic;
use auriga_driver::lock;
use auriga_protocol::Party;
use bytes::BytesMut;
use std::io::{self, ErrorKind};
use std::mem::take;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Bytes that may wait for one peer.
pub const OUTBOX_BYTES_MAX: usize = 8 << 20;

/// Memory that an idle outbox keeps.
const KEEP_BYTES: usize = 256 << 10;

/// Frames on their way to one peer.
pub struct Outbox {
    traffic: Arc<Traffic>,
    bytes_max: usize,
    state: Mutex<State>,
    /// Tells the connection's task that the kernel took less than everything, or that the connection broke.
    attention: Notify,
}

#[derive(Default)]
struct State {
    stream: Option<Arc<WriteHalf>>,
    peer: Arc<str>,
    /// Frames, whole.
    queued: BytesMut,
    /// What the kernel did not take; begins within a frame.
    unsent: BytesMut,
    /// A thread is writing: one in `flush`, or the connection's task once it can.
    writing: bool,
    failed: Option<io::Error>,
}

impl Outbox {
    /// An outbox that is not connected. Counts in `traffic`; holds at most `bytes_max`.
    pub fn new(traffic: Arc<Traffic>, bytes_max: usize) -> Arc<Outbox> {
        Arc::new(Outbox { traffic, bytes_max, state: Mutex::default(), attention: Notify::new() })
    }

    /// Queues a frame for the next [`Outbox::flush`], or drops it. Returns whether it was queued.
    pub fn push(&self, frame: &Encoded, to: Option<Party>) -> bool {
        let mut state = lock(&self.state);
        let waiting = state.queued.len() + state.unsent.len();
        if state.stream.is_none() || waiting >= self.bytes_max {
            drop(state);
            self.traffic.count_dropped();
            return false;
        }
        let bytes = frame.write(to, &mut state.queued);
        drop(state);
        self.traffic.count_sent(frame.name(), bytes);
        true
    }

    /// Writes what is queued, as far as the kernel takes it without waiting.
    pub fn flush(&self) {
        let mut state = lock(&self.state);
        while !state.writing && !state.queued.is_empty() {
            let Some(stream) = state.stream.clone() else { return };
            state.writing = true;
            let chunk = take(&mut state.queued);
            drop(state);
            let (written, chunk, spare) = write(&stream, chunk);
            state = lock(&self.state);
            if !state.stream.as_ref().is_some_and(|current| Arc::ptr_eq(current, &stream)) {
                return; // Another connection has begun meanwhile: what is left of this chunk is lost with the old one.
            }
            match written {
                Ok(()) => {
                    state.writing = false;
                    state.reuse(if spare.capacity() > 0 { spare } else { chunk });
                }
                Err(error) => {
                    state.unsent = chunk;
                    state.failed = Some(error).filter(|error| error.kind() != ErrorKind::WouldBlock);
                    drop(state);
                    self.attention.notify_one(); // `writing` stays set: the task goes on.
                    return;
                }
            }
        }
    }

    /// Sends through `stream`, to the node named `peer`, from now on.
    pub(super) fn connect(&self, stream: Arc<WriteHalf>, peer: &str) {
        *lock(&self.state) = State { stream: Some(stream), peer: peer.into(), ..State::default() };
    }

    /// The connection is gone; what was queued for it is lost.
    pub(super) fn disconnect(&self) {
        *lock(&self.state) = State::default();
    }

    /// The name of the node that this leads to; empty while there is no connection.
    pub fn peer(&self) -> Arc<str> {
        lock(&self.state).peer.clone()
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        lock(&self.state).stream.is_some()
    }

    /// The connection's task: writes what [`Outbox::flush`] could not. Ends with the error that breaks the connection.
    pub(super) async fn write_the_rest(&self, stream: &WriteHalf) -> io::Error {
        loop {
            self.attention.notified().await;
            let mut rest = {
                let mut state = lock(&self.state);
                if let Some(error) = state.failed.take() {
                    return error;
                }
                take(&mut state.unsent)
            };
            if rest.is_empty() {
                continue; // A notification meant for the connection before this one.
            }
            while !rest.is_empty() {
                if let Err(error) = stream.writable().await {
                    return error;
                }
                match stream.write_now(&mut rest) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return error,
                }
            }
            lock(&self.state).writing = false;
            self.flush();
        }
    }
}

impl State {
    /// Keeps a written buffer's memory for the next frames.
    fn reuse(&mut self, mut chunk: BytesMut) {
        if self.queued.is_empty() && self.queued.capacity() < chunk.capacity() && chunk.capacity() <= KEEP_BYTES {
            chunk.clear();
            self.queued = chunk;
        }
    }
}

/// Encrypts where that is agreed, and writes what the kernel takes. Returns what it did not take, and a free buffer.
fn write(stream: &WriteHalf, plain: BytesMut) -> (io::Result<()>, BytesMut, BytesMut) {
    match stream.seal(plain) {
        Ok((mut chunk, spare)) => (stream.write_now(&mut chunk), chunk, spare),
        Err(error) => (Err(error), BytesMut::new(), BytesMut::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::AdminReply;
    use crate::frame::{Frame, take_frame};
    use crate::session::Session;
    use auriga_protocol::Token;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (Arc<WriteHalf>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let here = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        (Arc::new(Session::plain(here).into_split().1), listener.accept().await.expect("connected").0)
    }

    fn frame(index: u64, bytes: usize) -> Encoded {
        Encoded::reply(Token(index), &AdminReply::Refused("x".repeat(bytes))).expect("small")
    }

    #[tokio::test]
    async fn without_a_connection_frames_are_dropped_and_counted() {
        let traffic = Arc::new(Traffic::default());
        let outbox = Outbox::new(traffic.clone(), 1000);
        assert!(!outbox.push(&frame(0, 10), None));
        assert_eq!(traffic.dropped(), 1);
    }

    /// The limit holds while the peer does not read; what was accepted arrives whole and in order once it does.
    #[tokio::test]
    async fn a_peer_that_does_not_read_costs_no_more_than_the_limit() {
        const LIMIT: usize = 1 << 20;
        let traffic = Arc::new(Traffic::default());
        let outbox = Outbox::new(traffic.clone(), LIMIT);
        let (here, mut there) = pair().await;
        outbox.connect(here.clone(), "peer");
        let writing = tokio::spawn({
            let (outbox, here) = (outbox.clone(), here.clone());
            async move { outbox.write_the_rest(&here).await }
        });
        let mut accepted = Vec::new();
        for index in 0..3000 {
            if outbox.push(&frame(index, 8000), None) {
                accepted.push(index);
            }
            outbox.flush();
            tokio::task::yield_now().await;
        }
        let waiting = {
            let state = lock(&outbox.state);
            state.queued.len() + state.unsent.len()
        };
        assert!(traffic.dropped() > 0 && waiting < LIMIT + 9000, "{waiting} bytes wait");

        let mut buffer = BytesMut::new();
        let mut arrived = Vec::new();
        while arrived.len() < accepted.len() {
            while let Some((frame, _)) = take_frame(&mut buffer).expect("whole frames") {
                let Frame::Reply(Token(index), _) = frame else { panic!("{frame:?}") };
                arrived.push(index);
            }
            if arrived.len() < accepted.len() {
                assert!(there.read_buf(&mut buffer).await.expect("connected") > 0);
            }
        }
        assert_eq!(arrived, accepted);
        writing.abort();
    }
}
