//! Where a reader's effects go: page requests to the nodes, what it needs to the writer, pages to those who asked.

use super::RemoteReaderConfig;
use crate::pending_reads::PendingReads;
use crate::{PageRead, VolumeError};
use auriga_audit::trace::Trace;
use auriga_driver::timers::Timers;
use auriga_driver::{Ports, lock};
use auriga_net::outbox::{OUTBOX_BYTES_MAX, Outbox};
use auriga_net::{Encoded, Peers, Traffic};
use auriga_page::Delta;
use auriga_protocol::reader::{Answer, ReaderIdentity, ReaderRefused, Timer};
use auriga_protocol::{AppendId, Lsn, Message, Micros, Note, PageId, Party, Reader, Token};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// A reader's ports.
pub(super) struct ReaderPorts {
    pub identity: ReaderIdentity,
    pub members: Peers,
    /// Told when a group's membership may have changed.
    pub memberships: Notify,
    /// In the order of the configured addresses.
    pub writers: Vec<Arc<Outbox>>,
    pub traffic: Arc<Traffic>,
    pub timers: Timers<Timer>,
    pub trace: Trace,
    touched: Mutex<Vec<Arc<Outbox>>>,
    pub reads: PendingReads<Wanted>,
}

/// A page, as of a read point.
type Wanted = (PageId, Lsn);

impl ReaderPorts {
    pub fn new(identity: ReaderIdentity, config: &RemoteReaderConfig) -> ReaderPorts {
        let traffic = Arc::new(Traffic::default());
        let outbox = || Outbox::new(traffic.clone(), OUTBOX_BYTES_MAX);
        ReaderPorts {
            identity,
            members: Peers::new(config.members.clone(), traffic.clone()),
            memberships: Notify::new(),
            writers: config.writers.iter().map(|_| outbox()).collect(),
            timers: Timers::default(),
            trace: config.trace.clone(),
            touched: Mutex::default(),
            reads: PendingReads::default(),
            traffic,
        }
    }
}

impl Ports<Reader<Delta>> for ReaderPorts {
    fn send(&self, to: Party, message: Message<Delta>) {
        let from = Party::Reader(self.identity.volume, self.identity.reader);
        let encoded = match Encoded::protocol(from, &message) {
            Ok(encoded) => encoded,
            Err(error) => {
                tracing::error!(message = message.name(), %error, "a message can't be sent");
                return;
            }
        };
        let ways: Vec<Arc<Outbox>> = match to {
            Party::Segment(segment) => self.members.find(segment).into_iter().collect(),
            // To every possible writer: the message says in which volume epoch it is meant.
            Party::Writer(..) => self.writers.iter().filter(|outbox| outbox.is_connected()).cloned().collect(),
            Party::Reader(..) => Vec::new(),
        };
        let mut touched = lock(&self.touched);
        touched.extend(ways.into_iter().filter(|outbox| outbox.push(&encoded, Some(to))));
    }

    fn multicast(&self, to: Vec<Party>, message: Message<Delta>) {
        to.into_iter().for_each(|to| self.send(to, message.clone()));
    }

    fn append(&self, _: AppendId, entry: Infallible) {
        match entry {}
    }

    fn start(&self, task: Infallible) {
        match task {}
    }

    fn set_timer(&self, timer: Timer, after: Micros) {
        self.timers.set(timer, after);
    }

    fn observe(&self, at: Micros, note: &Note) {
        if let Note::Membership(_) = note {
            self.memberships.notify_one();
        }
        self.trace.note(at, note);
    }

    fn flush_observations(&self) {
        self.trace.flush();
    }

    fn flush_outboxes(&self) {
        let touched = std::mem::take(&mut *lock(&self.touched));
        touched.into_iter().for_each(|outbox| outbox.flush());
    }

    fn answer(&self, token: Token, answer: Answer<Delta>) {
        match answer {
            Answer::Page { read_point, version, page } => {
                self.reads.finish(token, Ok(PageRead { read_point, version, page }));
            }
            Answer::NotRead(ReaderRefused::Busy) => self.reads.postpone(token),
            // A point that was released is not kept either.
            Answer::NotRead(ReaderRefused::NotKept | ReaderRefused::NotHeld) => {
                self.reads.finish(token, Err(VolumeError::NotKept));
            }
        }
    }
}
