//! Where the writer's effects go: records and page requests to the nodes, pages to those who asked.

use super::VolumeConfig;
use super::followers::ReaderRoutes;
use crate::pending_reads::PendingReads;
use crate::{PageRead, VolumeError};
use auriga_audit::recording::{Happened, outputs};
use auriga_audit::trace::Trace;
use auriga_driver::timers::Timers;
use auriga_driver::{Ports, lock};
use auriga_net::outbox::{OUTBOX_BYTES_MAX, Outbox};
use auriga_net::{Encoded, Traffic, is_page_traffic};
use auriga_page::Delta;
use auriga_protocol::writer::{Answer, SubmitRefused, Timer, WriterIdentity};
use auriga_protocol::{
    AppendId, Effect, Input, MemberId, Message, Micros, Note, PageId, Party, Token, VolumeEpoch, Writer,
};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

/// The ways to one node: two, so that pages never stand in an acknowledgement's way.
pub(super) struct Ways {
    pub log: Arc<Outbox>,
    pub pages: Arc<Outbox>,
}

/// A writer's ports.
pub(super) struct WriterPorts {
    pub identity: WriterIdentity,
    pub members: BTreeMap<MemberId, Ways>,
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
        let outbox = || Outbox::new(traffic.clone(), OUTBOX_BYTES_MAX);
        let ways = |member: &MemberId| (*member, Ways { log: outbox(), pages: outbox() });
        WriterPorts {
            identity,
            members: config.members.keys().map(ways).collect(),
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
                    let ways = self.members.get(&segment.member);
                    ways.map(|ways| if pages { &ways.pages } else { &ways.log }).cloned()
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
            // Submits don't take the way of requests.
            Answer::Submitted(_) | Answer::NotSubmitted(_) | Answer::Published => {}
        }
    }
}
