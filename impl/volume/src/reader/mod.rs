//! A volume as another instance reads it: the protocol's reader, connected to the writer and to the storage nodes.
//!
//! It asks every address at which a writer may listen to follow it; the writer answers. So a failover
//! needs nothing from it: it goes on with the next writer by itself, and the writer waits for it (R-READER-5).
//!
//! It decides nothing: what may be shown is the reader's business (`auriga-protocol`). `ports.rs`: where its effects
//! go, over connections that follow the membership (`connections.rs`).

mod connections;
mod ports;

use crate::{Callback, Changes, PageRead, Published, ReaderVolume, VolumeError};
use auriga_audit::trace::Trace;
use auriga_driver::{Driver, lock, random};
use auriga_net::connection::{ConnectionError, Receiver};
use auriga_net::dialler::keep_connected;
use auriga_net::frame::Frame;
use auriga_net::tls::Credentials;
use auriga_net::traffic::MessageTraffic;
use auriga_net::{ClusterId, ConnectionRole, Hello};
use auriga_page::Delta;
use auriga_protocol::reader::{Passed, ReaderIdentity, ReaderRefused, ReaderStatus, Request};
use auriga_protocol::{
    Input, Lsn, MemberId, Message, PageId, Party, Reader, ReaderConfig, ReaderId, Token, VolumeEpoch, VolumeId,
};
use ports::ReaderPorts;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How often deadlines are looked at, and whether what is waited for has come.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How to reach a volume, and those that may write it.
#[derive(Clone)]
pub struct RemoteReaderConfig {
    /// This instance's name: 1 to 63 bytes, unique in the cluster.
    pub name: String,
    /// Which cluster the storage belongs to.
    pub cluster: ClusterId,
    /// This process's, and whom it believes; none: connections are neither encrypted nor authenticated.
    pub credentials: Option<Credentials>,
    /// Which volume.
    pub volume: VolumeId,
    /// Where each member's node listens.
    pub members: BTreeMap<MemberId, SocketAddr>,
    /// Where instances listen for readers, whichever of them writes.
    pub writers: Vec<SocketAddr>,
    /// The reader's limits, and the volume's geometry and membership.
    pub reader: ReaderConfig,
    /// Where notes go.
    pub trace: Trace,
}

/// A volume, open for reading. Dropping it is a crash of the reader: the writer drops it when its lease is over.
pub struct RemoteReader {
    client: Arc<Client>,
    tasks: Mutex<JoinSet<()>>,
}

/// The reader's numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteReaderStatus {
    /// The protocol's.
    pub reader: ReaderStatus,
    /// Frames and bytes by message, since it was opened.
    pub traffic: Vec<MessageTraffic>,
}

/// When and where a reader heard the writer that it follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// Where that writer listens for readers: one of [`RemoteReaderConfig::writers`].
    pub writer: SocketAddr,
    /// The last time.
    pub at: Instant,
}

struct Client {
    driver: Driver<Reader<Delta>, ReaderPorts>,
    next_read: AtomicU64,
    closed: AtomicBool,
    heard: Mutex<Option<Heard>>,
}

impl RemoteReader {
    /// Follows the volume's writer, and waits until that has published a point to begin with. Needs a tokio runtime, on
    /// which its tasks then run.
    ///
    /// # Errors
    /// Timed out: no writer answers at any of the addresses, or it publishes nothing.
    pub async fn open(config: RemoteReaderConfig, deadline: Instant) -> Result<RemoteReader, VolumeError> {
        let reader = RemoteReader::start(config);
        while reader.published().is_empty() {
            if reader.client.driver.inspect(Reader::is_lost) {
                return Err(VolumeError::NotKept);
            }
            if Instant::now() >= deadline {
                return Err(VolumeError::TimedOut);
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(reader)
    }

    fn start(config: RemoteReaderConfig) -> RemoteReader {
        let id = ReaderIdentity { volume: config.volume, reader: fresh_reader_id() };
        let ports = ReaderPorts::new(id, &config);
        let driver = Driver::boot(&config.reader, id, (), ports);
        let client = Arc::new(Client {
            driver,
            next_read: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            heard: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for (address, outbox) in config.writers.iter().zip(&client.driver.ports().writers) {
            let own = Hello { cluster: config.cluster, role: ConnectionRole::Reader, name: config.name.clone() };
            let receiver = ReaderReceiver { client: client.clone(), writer: Some(*address) };
            tasks.spawn(keep_connected(*address, own, config.credentials.clone(), outbox.clone(), receiver));
        }
        connections::follow(&client, &config);
        tasks.spawn(connections::follow_memberships(client.clone(), config));
        tasks.spawn(run_timers(client.clone()));
        tasks.spawn(sweep(client.clone()));
        client.driver.release_boot_effects();
        RemoteReader { client, tasks: Mutex::new(tasks) }
    }

    /// Returns the reader's numbers.
    pub fn status(&self) -> RemoteReaderStatus {
        let traffic = self.client.driver.ports().traffic.by_name();
        RemoteReaderStatus { reader: self.client.driver.inspect(Reader::status), traffic }
    }

    /// Returns when and where it heard the writer that it follows, or followed last.
    pub fn heard(&self) -> Option<Heard> {
        *lock(&self.client.heard)
    }

    /// Whether the writer has dropped it, for good: begin again, as another.
    pub fn is_lost(&self) -> bool {
        self.client.driver.inspect(Reader::is_lost)
    }

    /// Ends it. Every waiting caller is answered `Closed`.
    pub fn close(&self) {
        self.client.closed.store(true, SeqCst);
        lock(&self.tasks).abort_all();
        self.client.driver.ports().members.close();
        self.client.driver.ports().reads.end(VolumeError::Closed);
        self.client.driver.ports().trace.flush();
    }
}

impl Drop for RemoteReader {
    fn drop(&mut self) {
        self.close();
    }
}

impl ReaderVolume for RemoteReader {
    fn read_point(&self) -> Lsn {
        self.client.driver.inspect(Reader::read_point)
    }

    fn published(&self) -> Vec<Published> {
        let points = self.client.driver.inspect(Reader::published);
        points.into_iter().map(|point| Published { read_point: point.read_point, wal: point.wal }).collect()
    }

    fn advance(&self, to: Lsn) -> Result<Changes, VolumeError> {
        if self.client.closed.load(SeqCst) {
            return Err(VolumeError::Closed);
        }
        match self.client.driver.step(|reader, _, effects| reader.advance(to, effects)) {
            Ok(Passed::Records(records)) => Ok(Changes::Records(records)),
            Ok(Passed::Unknown) => Ok(Changes::Unknown),
            Err(ReaderRefused::NotKept) => Err(VolumeError::NotKept),
            // The stream was cut since it was published, or too many points are held: to be tried again.
            Err(ReaderRefused::NotHeld | ReaderRefused::Busy) => Err(VolumeError::TimedOut),
        }
    }

    fn read(&self, page: PageId, at: Lsn, deadline: Instant, callback: Callback<PageRead>) {
        if self.client.closed.load(SeqCst) {
            return callback(Err(VolumeError::Closed));
        }
        let token = Token(self.client.next_read.fetch_add(1, SeqCst));
        self.client.driver.ports().reads.begin(token, (page, at), deadline, callback);
        self.client.input(Input::Request { token, request: Request::Read { page, at } });
        if self.client.closed.load(SeqCst) {
            self.client.driver.ports().reads.end(VolumeError::Closed);
        }
    }

    fn release(&self, below: Lsn) {
        self.client.driver.step(|reader, _, effects| reader.release(below, effects));
    }
}

impl Client {
    fn input(&self, input: Input<Reader<Delta>>) {
        self.driver.input(input);
    }
}

/// Receives what storage and writers send.
struct ReaderReceiver {
    client: Arc<Client>,
    /// Where the peer listens, if it may be a writer.
    writer: Option<SocketAddr>,
}

impl Receiver for ReaderReceiver {
    async fn receive(&mut self, frame: Frame, size: usize) -> Result<(), ConnectionError> {
        let ports = self.client.driver.ports();
        ports.traffic.count_received(frame.name(), size);
        let Frame::Protocol(envelope) = frame else {
            return Err(ConnectionError::OutOfPlace("not a message of the protocol"));
        };
        if envelope.to == Party::Reader(ports.identity.volume, ports.identity.reader) {
            let spoken_in = volume_epoch(&envelope.message);
            self.client.input(Input::Message { from: envelope.from, message: envelope.message });
            // Another writer than the one that is followed may speak, too: an old one.
            if let (Some(writer), Some(epoch)) = (self.writer, spoken_in)
                && epoch == self.client.driver.inspect(Reader::volume_epoch)
            {
                *lock(&self.client.heard) = Some(Heard { writer, at: Instant::now() });
            }
        }
        Ok(())
    }
}

/// The epoch of the writer that sends a reader this.
fn volume_epoch(message: &Message<Delta>) -> Option<VolumeEpoch> {
    match message {
        Message::Write { volume_epoch, .. }
        | Message::Following { volume_epoch, .. }
        | Message::Published { volume_epoch, .. } => Some(*volume_epoch),
        _ => None,
    }
}

async fn run_timers(client: Arc<Client>) {
    client.driver.ports().timers.run(|timer| client.input(Input::Timer(timer))).await;
}

/// Answers whose deadline has passed, and asks again for reads that were too many at once.
async fn sweep(client: Arc<Client>) {
    loop {
        sleep(LOOK_EVERY).await;
        for token in client.driver.ports().reads.expire(Instant::now()) {
            client.input(Input::Request { token, request: Request::Cancel });
        }
        for (token, (page, at)) in client.driver.ports().reads.take_postponed() {
            client.input(Input::Request { token, request: Request::Read { page, at } });
        }
    }
}

/// Random: a reader that comes back is another.
fn fresh_reader_id() -> ReaderId {
    ReaderId(random::draw())
}
