//! Keeps a writer from having collected what a secondary, or a backup, lacks: it follows the writer quietly.
//!
//! It is a reader to the writer (R-READER-3): silent for its lease, or too far behind, it is dropped, and what it needed may
//! go. Its number is the same after every start, so that a region process that starts again takes up what it held.

use auriga_driver::lock;
use auriga_net::connection::{ConnectionError, Receiver};
use auriga_net::dialler::keep_connected;
use auriga_net::frame::Frame;
use auriga_net::outbox::{OUTBOX_BYTES_MAX, Outbox};
use auriga_net::{ConnectionRole, Encoded, Hello, Traffic};
use auriga_protocol::{Lsn, Message, Party, ReaderId, VolumeEpoch, WriterId};
use auriga_volume::VolumeConfig;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How often the writer is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// A writer that was not heard for so long is asked anew, whoever it is then.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// The number by which a region is known to its writers: the highest, which no reader draws.
pub const REGION_READER: ReaderId = ReaderId(u64::MAX);

/// The number by which a backup is known to them.
pub const BACKUP_READER: ReaderId = ReaderId(u64::MAX - 1);

/// What is held at the writer of a volume, for as long as it exists.
pub struct Hold {
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

struct State {
    /// What is needed lies above; `None`: whatever the writer still holds for this reader.
    floor: Option<Lsn>,
    /// A lower floor would be refused: what lies below may be gone.
    least: Lsn,
    /// The writer that holds it.
    follows: Option<VolumeEpoch>,
    /// The writer has dropped this reader: it begins again where the writer is.
    dropped: bool,
    heard: Instant,
    number: u64,
}

impl Hold {
    /// Asks whoever writes, and listens at one of `writers`, to keep what lies above `floor` for `reader`.
    pub fn start(config: &VolumeConfig, writers: &[SocketAddr], floor: Lsn, reader: ReaderId) -> Hold {
        let traffic = Arc::new(Traffic::default());
        let number = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64);
        let state = State {
            floor: Some(floor),
            least: Lsn::ZERO,
            follows: None,
            dropped: false,
            heard: Instant::now(),
            number,
        };
        let state = Arc::new(Mutex::new(state));
        let mut tasks = JoinSet::new();
        let mut outboxes = Vec::new();
        for address in writers {
            let outbox = Outbox::new(traffic.clone(), OUTBOX_BYTES_MAX);
            let own = Hello { cluster: config.cluster, role: ConnectionRole::Reader, name: config.name.clone() };
            let told = Told { state: state.clone() };
            tasks.spawn(keep_connected(*address, own, config.credentials.clone(), outbox.clone(), told));
            outboxes.push(outbox);
        }
        tasks.spawn(tell(state.clone(), outboxes, Party::Reader(config.volume, reader)));
        Hold { state, _tasks: tasks }
    }

    /// From now on nothing at or below `floor` is needed. It never goes back.
    pub fn release(&self, floor: Lsn) {
        let mut state = lock(&self.state);
        if floor >= state.least {
            state.floor = state.floor.max(Some(floor));
        }
    }

    /// Whether a writer holds it.
    pub fn is_held(&self) -> bool {
        let state = lock(&self.state);
        state.follows.is_some() && state.heard.elapsed() < SILENT_AFTER
    }
}

async fn tell(state: Arc<Mutex<State>>, outboxes: Vec<Arc<Outbox>>, own: Party) {
    let Party::Reader(volume, _) = own else { return };
    loop {
        let (message, writer) = lock(&state).next_message();
        if let Ok(encoded) = Encoded::protocol(own, &message) {
            for outbox in outboxes.iter().filter(|outbox| outbox.is_connected()) {
                outbox.push(&encoded, Some(Party::Writer(volume, writer)));
                outbox.flush();
            }
        }
        sleep(TELL_EVERY).await;
    }
}

impl State {
    fn next_message(&mut self) -> (Message<auriga_page::Delta>, WriterId) {
        self.number += 1;
        let (number, floor) = (self.number, self.floor);
        if self.heard.elapsed() >= SILENT_AFTER {
            self.follows = None;
        }
        match (self.follows, floor) {
            (Some(volume_epoch), Some(floor)) => {
                (Message::Feedback { number, volume_epoch, floor }, volume_epoch.writer)
            }
            _ => (Message::Follow { number, floor, quiet: true }, WriterId(0)),
        }
    }
}

/// Receives what a writer says.
struct Told {
    state: Arc<Mutex<State>>,
}

impl Receiver for Told {
    async fn receive(&mut self, frame: Frame, _: usize) -> Result<(), ConnectionError> {
        let Frame::Protocol(envelope) = frame else {
            return Err(ConnectionError::OutOfPlace("not a message of the protocol"));
        };
        let mut state = lock(&self.state);
        match envelope.message {
            Message::Following { volume_epoch, start, .. }
                if state.follows.is_none_or(|known| known <= volume_epoch) =>
            {
                state.follows = Some(volume_epoch);
                if std::mem::take(&mut state.dropped) {
                    state.least = start;
                }
                state.heard = Instant::now();
            }
            Message::Write { volume_epoch, .. } if state.follows == Some(volume_epoch) => {
                state.heard = Instant::now();
            }
            Message::NotKept { volume_epoch, floor } if state.follows.is_none_or(|known| known <= volume_epoch) => {
                tracing::warn!(needed = ?state.floor, kept_from = %floor, "the writer does not keep what is lacking");
                state.dropped = state.follows.take().is_some();
                state.floor = None;
            }
            _ => {}
        }
        Ok(())
    }
}
