//! Readers on other instances, which connect to their writer. They get what the segments get, encoded once for all.
//!
//! One whose outbox is full misses a frame, notices, and begins anew: nothing is kept for it here.

use super::{Client, RemoteVolume, VolumeConfig};
use auriga_driver::lock;
use auriga_net::Outbox;
use auriga_net::connection::{ConnectionError, Receiver};
use auriga_net::frame::Frame;
use auriga_net::handshake::{ConnectionRole, Hello};
use auriga_net::listener::{Acceptor, ListenLimits, listen};
use auriga_net::tls::Certified;
use auriga_protocol::limits::READERS_MAX;
use auriga_protocol::writer::Request;
use auriga_protocol::{Input, Lsn, Message, Party, ReaderId, Token, Writer};
use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// Connections that lead to readers: some of readers that are gone and not yet known to be.
const ROUTES_MAX: usize = 2 * READERS_MAX as usize;

/// Which connection leads to which reader.
#[derive(Default)]
pub(super) struct ReaderRoutes(Mutex<HashMap<ReaderId, Arc<Outbox>>>);

impl ReaderRoutes {
    /// Returns the connection on which this reader spoke last.
    pub fn find(&self, reader: ReaderId) -> Option<Arc<Outbox>> {
        lock(&self.0).get(&reader).cloned()
    }

    /// Remembers where a reader has spoken. Returns whether there was room.
    fn learn(&self, reader: ReaderId, outbox: &Arc<Outbox>) -> bool {
        let mut routes = lock(&self.0);
        if !routes.contains_key(&reader) && routes.len() >= ROUTES_MAX {
            return false;
        }
        routes.insert(reader, outbox.clone());
        true
    }

    fn forget(&self, outbox: &Arc<Outbox>) {
        lock(&self.0).retain(|_, other| !Arc::ptr_eq(other, outbox));
    }
}

impl RemoteVolume {
    /// Lets readers on other instances follow, for as long as the volume is open. The volume's configuration must allow
    /// for them (`WriterConfig::followers`).
    pub fn serve_readers(&self, listener: TcpListener, config: &VolumeConfig) {
        let own = Hello { cluster: config.cluster, role: ConnectionRole::WriterLog, name: config.name.clone() };
        let traffic = self.client.driver.ports().traffic.clone();
        let limits = ListenLimits { connections_max: ROUTES_MAX, ..ListenLimits::default() };
        let inbound = Arc::new(Inbound { client: self.client.clone(), label: config.label });
        lock(&self.tasks).spawn(listen(listener, own, config.credentials.clone(), limits, traffic, inbound));
    }

    /// Whether some reader would learn something from [`RemoteVolume::publish`].
    pub fn wants_publication(&self) -> bool {
        self.client.driver.inspect(Writer::wants_publication)
    }

    /// Publishes VDL to the readers, with a position of the database's own log: `position` is asked once VDL is chosen
    /// (R-READER-6), and must answer the *insert* position, because pages may be written before their log is. Returns the
    /// point, unless there was no position.
    pub fn publish(&self, position: impl FnOnce() -> Option<u64>) -> Option<Lsn> {
        let read_point = Lsn(self.client.vdl.load(SeqCst));
        self.publish_at(read_point, position()?);
        Some(read_point)
    }

    /// Publishes a read point at or below VDL, with a position that was asked after it was chosen. Where a later one was
    /// published already, nothing happens.
    pub fn publish_at(&self, read_point: Lsn, wal: u64) {
        self.client.input(Input::Request { token: Token(0), request: Request::Publish { read_point, wal } });
    }

    /// Returns the last LSN that was submitted: everything that was submitted so far is at or below it.
    pub fn allocated(&self) -> Lsn {
        self.client.driver.inspect(Writer::allocated)
    }

    /// Returns the readers that follow, each with the lowest read point that it needs.
    pub fn followers(&self) -> Vec<(ReaderId, Lsn)> {
        self.client.driver.inspect(|writer| writer.followers().collect())
    }
}

struct Inbound {
    client: Arc<Client>,
    /// The volume's.
    label: u64,
}

impl Acceptor for Inbound {
    type Receiver = FollowerReceiver;

    fn accept(
        &self,
        peer: Hello,
        certified: Option<Certified>,
        outbox: &Arc<Outbox>,
    ) -> Result<FollowerReceiver, ConnectionError> {
        if let Some(Certified { name, role, volumes }) = certified
            && !(role.uses_volumes() && volumes.contains(&self.label))
        {
            let why = format!("{name} (role {role}) may not read volume {}", self.label);
            return Err(ConnectionError::NotAllowed(why));
        }
        Ok(FollowerReceiver { client: self.client.clone(), role: peer.role, outbox: outbox.clone() })
    }
}

/// Receives one reader's frames.
struct FollowerReceiver {
    client: Arc<Client>,
    role: ConnectionRole,
    outbox: Arc<Outbox>,
}

impl Receiver for FollowerReceiver {
    async fn receive(&mut self, frame: Frame, size: usize) -> Result<(), ConnectionError> {
        let ports = self.client.driver.ports();
        ports.traffic.count_received(frame.name(), size);
        let Frame::Protocol(envelope) = frame else {
            return Err(ConnectionError::OutOfPlace("not a message of the protocol"));
        };
        let speaks = matches!(envelope.message, Message::Follow { .. } | Message::Feedback { .. });
        let Party::Reader(volume, reader) = envelope.from else {
            return Err(ConnectionError::OutOfPlace("not a reader"));
        };
        if self.role != ConnectionRole::Reader || !speaks {
            return Err(ConnectionError::OutOfPlace("not what a reader says"));
        }
        if volume != ports.identity.volume {
            return Ok(()); // It looks for the writer of another volume, and tries all that it knows of.
        }
        if !ports.readers.learn(reader, &self.outbox) {
            return Err(ConnectionError::OutOfPlace("too many readers"));
        }
        self.client.input(Input::Message { from: envelope.from, message: envelope.message });
        Ok(())
    }
}

impl Drop for FollowerReceiver {
    fn drop(&mut self) {
        self.client.driver.ports().readers.forget(&self.outbox);
    }
}
