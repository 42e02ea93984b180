//! What all sessions of a forwarding endpoint share.

use super::board::Boards;
use super::login::Verifiers;
use super::settings::ForwardConfig;
use super::writers::Writers;
use crate::wire::CANCEL;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long a request to cancel may take.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);

/// What all sessions share.
#[derive(Debug)]
pub struct Shared {
    /// How writes are forwarded.
    pub config: ForwardConfig,
    /// Who writes.
    pub writers: Writers,
    /// How far readers are.
    pub boards: Boards,
    /// Sessions, by the keys that their clients have.
    pub keys: Keys,
    /// What has happened.
    pub counted: Counted,
    /// Where the verifiers of users are asked for.
    pub verifiers: Option<Verifiers>,
    /// For a test of the tests: reads wait for nothing.
    pub never_waits: bool,
}

impl Shared {
    /// Nothing has happened yet.
    pub fn new(config: ForwardConfig, writers: Writers) -> Shared {
        Shared {
            config,
            writers,
            boards: Boards::default(),
            keys: Keys::default(),
            counted: Counted::default(),
            verifiers: None,
            never_waits: false,
        }
    }
}

/// What has happened, under the names that Aurora has for it.
#[derive(Debug, Default)]
pub struct Counted {
    /// `AuroraForwardingReplicaOpenSessions`: sessions that have a connection to the writer.
    pub open: AtomicUsize,
    /// Connections to the writer that were made.
    pub connections: AtomicU64,
    /// `AuroraForwardingReplicaDMLThroughput`, as a count: units that were sent to the writer.
    pub statements: AtomicU64,
    /// `AuroraForwardingReplicaErrorSessionsLimit`: sessions that found too many.
    pub turned_away: AtomicU64,
    /// Reads that have waited.
    pub waits: AtomicU64,
    /// `AuroraForwardingReplicaReadWaitLatency`, as a sum: for so many microseconds.
    pub waited_us: AtomicU64,
}

impl Counted {
    /// Says what has happened, for the log; the same where nothing has.
    pub fn shown(&self) -> [u64; 6] {
        let open = self.open.load(Relaxed) as u64;
        let others = [&self.connections, &self.statements, &self.turned_away, &self.waits, &self.waited_us];
        let [connections, statements, turned_away, waits, waited_us] = others.map(|count| count.load(Relaxed));
        [open, connections, statements, turned_away, waits, waited_us]
    }
}

/// A connection to the writer, counted as long as this lives.
#[derive(Debug)]
pub struct Open(pub Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counted.open.fetch_sub(1, Relaxed);
    }
}

/// The keys of sessions.
#[derive(Debug, Default)]
pub struct Keys {
    sessions: Mutex<HashMap<[u8; 8], Arc<Cancelled>>>,
}

/// What a request to cancel does to a session.
#[derive(Debug, Default)]
pub struct Cancelled {
    /// Where a statement may be running, and by which key it is cancelled there.
    running: Mutex<Option<(SocketAddr, Bytes)>>,
    /// A session that waits is woken by it.
    pub waits: Notify,
}

impl Cancelled {
    /// A statement is sent there.
    pub fn runs_at(&self, address: SocketAddr, key: &Bytes) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some((address, key.clone()));
    }

    /// Nothing runs.
    pub fn rests(&self) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A session's key; given back when dropped.
#[derive(Debug)]
pub struct Key {
    shared: Arc<Shared>,
    bytes: [u8; 8],
    /// What a request with it does.
    pub cancelled: Arc<Cancelled>,
}

impl Key {
    /// A key that nobody can guess.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(shared: &Arc<Shared>) -> io::Result<Key> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        // Clients show the first half as a process's number.
        bytes[0] &= 0x7f;
        let cancelled = Arc::new(Cancelled::default());
        let mut sessions = shared.keys.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(bytes, cancelled.clone());
        Ok(Key { shared: shared.clone(), bytes, cancelled })
    }

    /// What the client is told: `BackendKeyData`.
    pub fn message(&self) -> Bytes {
        super::messages::message(b'K', &self.bytes)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.shared.keys.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.bytes);
    }
}

impl Keys {
    /// Cancels what the session with this key does.
    pub async fn cancel(&self, key: &[u8]) {
        let found = {
            let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            key.try_into().ok().and_then(|key: [u8; 8]| sessions.get(&key).cloned())
        };
        let Some(cancelled) = found else { return };
        cancelled.waits.notify_waiters();
        let running = cancelled.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((address, key)) = running else { return };
        let passing = async {
            let mut stream = TcpStream::connect(address).await?;
            let mut request = BytesMut::new();
            request.put_u32(key.len() as u32 + 8);
            request.put_u32(CANCEL);
            request.put_slice(&key);
            stream.write_all(&request).await
        };
        match timeout(CANCEL_LIMIT, passing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%address, %error, "a request to cancel was not passed on"),
            Err(_) => tracing::debug!(%address, "a request to cancel was not passed on in time"),
        }
    }
}
