//! Where the writer's effects go: records and page requests to the nodes, pages to those who asked.

use super::VolumeConfig;
use super::followers::ReaderRoutes;
use super::replacing::Changes;
use crate::pending_reads::PendingReads;
use crate::{PageRead, VolumeError};
use auriga_audit::recording::{Happened, outputs};
use auriga_audit::trace::Trace;
use auriga_driver::timers::Timers;
use auriga_driver::{Ports, lock};
use auriga_net::{Encoded, Outbox, Peers, Traffic, is_page_traffic};
use auriga_page::Delta;
use auriga_protocol::writer::{Answer, SubmitRefused, Timer, WriterIdentity};
use auriga_protocol::{AppendId, Effect, Input, Message, Micros, Note, PageId, Party, Token, VolumeEpoch, Writer};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// The ways to the nodes: two to each, so that pages never stand in an acknowledgement's way.
pub(super) struct Ways {
    pub log: Peers,
    pub pages: Peers,
}

/// A writer's ports.
pub(super) struct WriterPorts {
    pub identity: WriterIdentity,
    pub ways: Ways,
    pub changes: Changes,
    /// Told when a group's membership may have changed.
    pub memberships: Notify,
    pub traffic: Arc<Traffic>,
    pub timers: Timers<Timer>,
    pub trace: Trace,
    touched: Mutex<Vec<Arc<Outbox>>>,
    pub reads: PendingReads<PageId>,
    fenced_by: Mutex<VolumeEpoch>,
    /// Where readers on other instances are.
    pub readers: ReaderRoutes,
}

impl WriterPorts {
    pub fn new(identity: WriterIdentity, config: &VolumeConfig) -> WriterPorts {
        let traffic = Arc::new(Traffic::default());
        let peers = || Peers::new(config.members.clone(), traffic.clone());
        WriterPorts {
            identity,
            ways: Ways { log: peers(), pages: peers() },
            memberships: Notify::new(),
            changes: Changes::default(),
            timers: Timers::default(),
            trace: config.trace.clone(),
            touched: Mutex::default(),
            reads: PendingReads::default(),
            fenced_by: Mutex::default(),
            readers: ReaderRoutes::default(),
            traffic,
        }
    }

    /// Returns the volume epoch that fenced this writer, or [`VolumeEpoch::NONE`].
    pub fn fenced_by(&self) -> VolumeEpoch {
        *lock(&self.fenced_by)
    }

    /// Records what happens to the writer, where that is asked for.
    pub fn record(&self, now: Micros, what: impl FnOnce() -> Happened) {
        self.trace.record(now, Party::Writer(self.identity.volume, self.identity.writer), what);
    }
}

impl Ports<Writer<Delta>> for WriterPorts {
    fn send(&self, to: Party, message: Message<Delta>) {
        self.multicast(vec![to], message);
    }

    fn multicast(&self, to: Vec<Party>, message: Message<Delta>) {
        let from = Party::Writer(self.identity.volume, self.identity.writer);
        let encoded = match Encoded::protocol(from, &message) {
            Ok(encoded) => encoded,
            Err(error) => {
                tracing::error!(message = message.name(), %error, "a message can't be sent");
                return;
            }
        };
        let pages = is_page_traffic(&message);
        let mut touched = lock(&self.touched);
        for to in to {
            let outbox = match to {
                Party::Segment(segment) => {
                    if pages {
                        self.ways.pages.find(segment)
                    } else {
                        self.ways.log.find(segment)
                    }
                }
                Party::Reader(_, reader) => self.readers.find(reader),
                Party::Writer(..) => None,
            };
            if let Some(outbox) = outbox.filter(|outbox| outbox.push(&encoded, Some(to))) {
                touched.push(outbox);
            }
        }
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

    fn record_input(&self, now: Micros, input: &Input<Writer<Delta>>) {
        self.record(now, || Happened::to_writer(input));
    }

    fn record_effects(&self, now: Micros, effects: &[Effect<Writer<Delta>>]) {
        self.record(now, || Happened::Gave(outputs(effects)));
    }

    fn observe(&self, at: Micros, note: &Note) {
        if let Note::Fenced { by, .. } = note {
            *lock(&self.fenced_by) = *by;
        }
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
            Answer::NotRead(SubmitRefused::Fenced { by }) => self.reads.finish(token, Err(VolumeError::Fenced { by })),
            Answer::NotRead(SubmitRefused::BackPressure | SubmitRefused::NotOpen) => self.reads.postpone(token),
            Answer::Replacing { new } => self.changes.answer(token, Ok(Some(new))),
            Answer::Undoing => self.changes.answer(token, Ok(None)),
            Answer::NotReplaced(why) => self.changes.answer(token, Err(why)),
            // Submits don't take the way of requests.
            Answer::Submitted(_) | Answer::NotSubmitted(_) | Answer::Published => {}
        }
    }
}
