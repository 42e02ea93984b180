//! Where a hosted segment's effects go.

use super::node::Node;
use auriga_audit::recording::{Happened, outputs};
use auriga_audit::trace::Trace;
use auriga_driver::timers::Timers;
use auriga_driver::{Ports, lock};
use auriga_net::Outbox;
use auriga_page::Delta;
use auriga_protocol::segment::{Entry, Task, Timer};
use auriga_protocol::{AppendId, Effect, Input, Message, Micros, Note, Party, Segment, SegmentId, Token};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, Weak};

/// A hosted segment's ports.
pub(super) struct SegmentPorts {
    id: SegmentId,
    /// Weak, because the node holds the segment. A node that is gone needs nothing done.
    node: Weak<Node>,
    trace: Trace,
    pub timers: Arc<Timers<Timer>>,
    touched: Mutex<Vec<Arc<Outbox>>>,
}

impl SegmentPorts {
    pub fn new(id: SegmentId, node: Weak<Node>, trace: Trace) -> SegmentPorts {
        SegmentPorts { id, node, trace, timers: Arc::default(), touched: Mutex::default() }
    }
}

impl Ports<Segment<Delta>> for SegmentPorts {
    fn send(&self, to: Party, message: Message<Delta>) {
        self.multicast(vec![to], message);
    }

    fn multicast(&self, to: Vec<Party>, message: Message<Delta>) {
        if let Some(node) = self.node.upgrade() {
            let touched = node.send(Party::Segment(self.id), &to, message);
            lock(&self.touched).extend(touched);
        }
    }

    fn append(&self, id: AppendId, entry: Entry<Delta>) {
        if let Some(node) = self.node.upgrade() {
            node.disk().append(self.id, id, entry);
        }
    }

    fn start(&self, task: Task<Delta>) {
        let Some(node) = self.node.upgrade() else { return };
        match task {
            Task::Retire => node.retire(self.id),
            task => node.disk().start(self.id, task),
        }
    }

    fn set_timer(&self, timer: Timer, after: Micros) {
        self.timers.set(timer, after);
    }

    fn record_input(&self, now: Micros, input: &Input<Segment<Delta>>) {
        self.trace.record(now, Party::Segment(self.id), || Happened::to_segment(input));
    }

    fn record_effects(&self, now: Micros, effects: &[Effect<Segment<Delta>>]) {
        self.trace.record(now, Party::Segment(self.id), || Happened::Gave(outputs(effects)));
    }

    fn observe(&self, at: Micros, note: &Note) {
        if let Some(node) = self.node.upgrade() {
            node.warn_of(note);
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

    fn answer(&self, _: Token, answer: Infallible) {
        match answer {}
    }
}
