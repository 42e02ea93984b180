//! The inside of a storage node: its segments, and the ways in and out of them.

use super::adoption::Neighbours;
use super::config::StorageConfig;
use super::disk::{Disk, DiskEvents};
use super::faults::Faults;
use super::ports::SegmentPorts;
use super::{Stopped, routes::Routes};
use auriga_audit::recording::Happened;
use auriga_driver::{Driver, clock, lock, random};
use auriga_net::{Encoded, Outbox, Traffic, is_page_traffic};
use auriga_page::Delta;
use auriga_protocol::message::Envelope;
use auriga_protocol::segment::{Outcome, PageRange, Survived, Task};
use auriga_protocol::{AppendId, Input, MemberId, Message, Note, Party, PgId, Segment, SegmentId, Token, VolumeId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// Messages that an injected delay may hold back at one time; more are dropped.
const DELAYED_MAX: usize = 8192;

pub(super) type Hosted = Driver<Segment<Delta>, SegmentPorts>;

/// A node while it runs.
pub(super) struct Node {
    pub config: StorageConfig,
    pub disk: OnceLock<Arc<dyn Disk>>,
    pub segments: RwLock<BTreeMap<SegmentId, Arc<Hosted>>>,
    pub routes: Routes,
    pub traffic: Arc<Traffic>,
    pub faults: Faults,
    pub started: Instant,
    pub stopped: watch::Sender<Option<Stopped>>,
    pub runtime: Handle,
    /// Told when a membership of a segment here may have changed.
    pub memberships: Notify,
    /// What the peers hold.
    pub neighbours: Neighbours,
    /// Held while a segment is created, so that two requests for the same don't race.
    pub creating: Mutex<()>,
    delayed: Arc<Semaphore>,
    timers: Mutex<Vec<AbortHandle>>,
    misdirected: AtomicU64,
    implausible: AtomicU64,
}

impl Node {
    pub fn new(config: StorageConfig, routes: Routes, traffic: Arc<Traffic>) -> Arc<Node> {
        Arc::new(Node {
            config,
            disk: OnceLock::new(),
            segments: RwLock::default(),
            routes,
            traffic,
            faults: Faults::default(),
            started: Instant::now(),
            stopped: watch::Sender::new(None),
            runtime: Handle::current(),
            memberships: Notify::new(),
            neighbours: Neighbours::default(),
            creating: Mutex::default(),
            delayed: Arc::new(Semaphore::new(DELAYED_MAX)),
            timers: Mutex::default(),
            misdirected: AtomicU64::new(0),
            implausible: AtomicU64::new(0),
        })
    }

    /// The disk. There is one from before the first segment on.
    pub fn disk(&self) -> &dyn Disk {
        self.disk.get().expect("the disk is opened before anything is hosted").as_ref()
    }

    pub fn hosted(&self, id: SegmentId) -> Option<Arc<Hosted>> {
        self.segments.read().expect("no holder panics").get(&id).cloned()
    }

    /// The number by which people call a volume, from a segment of it here that knows it. `None`: none is here;
    /// `Some(None)`: none of those here knows.
    pub fn label_of(&self, volume: VolumeId) -> Option<Option<u64>> {
        let first = SegmentId { volume, pg: PgId(0), member: MemberId(0) };
        let segments = self.segments.read().expect("no holder panics");
        let mut of_volume = segments.range(first..).take_while(|(id, _)| id.volume == volume).peekable();
        of_volume.peek()?;
        Some(
            of_volume.find_map(|(_, segment)| segment.inspect(|segment| segment.held()).map(|held| held.charter.label)),
        )
    }

    /// Boots a segment, makes it reachable, and lets it begin.
    pub fn host(self: &Arc<Self>, id: SegmentId, mut survived: Survived<Delta>) {
        survived.boot = random::draw();
        let ports = SegmentPorts::new(id, Arc::downgrade(self), self.config.trace.clone());
        let config = &self.config.segment;
        let boot = || Happened::SegmentBooted(config.clone(), survived.clone());
        self.config.trace.record(clock::now(), Party::Segment(id), boot);
        let segment = Arc::new(Driver::boot(&self.config.segment, id, survived, ports));
        self.segments.write().expect("no holder panics").insert(id, segment.clone());
        let weak = Arc::downgrade(&segment);
        let timers = segment.ports().timers.clone();
        let fire = move |timer| {
            if let Some(segment) = weak.upgrade() {
                segment.input(Input::Timer(timer));
            }
        };
        let task = self.runtime.spawn(async move { timers.run(fire).await });
        lock(&self.timers).push(task.abort_handle());
        segment.release_boot_effects();
        if self.faults.disk_full() {
            segment.input(Input::Done(Outcome::DiskFull(true)));
        }
        self.memberships.notify_one();
        tracing::info!(segment = %id, "hosting");
    }

    /// Lets go of a segment whose member has left its group for good, and of what it has on the disk.
    pub fn retire(self: &Arc<Self>, id: SegmentId) {
        let node = self.clone();
        // Elsewhere: the segment's own effects are being handed over.
        self.runtime.spawn_blocking(move || {
            let gone = node.segments.write().expect("no holder panics").remove(&id);
            let Some(gone) = gone else { return };
            tracing::warn!(segment = %id, "ROLE retired: another member has taken its place; what it has here is deleted");
            // What stays is its name, and that it has left: a journal never misses a page file.
            let through = gone.inspect(|segment| segment.status().scl);
            let all = PageRange { after: None, through: None };
            let (pages, unchanged) = (Vec::new(), Vec::new());
            let (replace, floor, ceiling) = (Some(all), Some(through), through);
            node.disk().start(id, Task::PutBases { token: Token(0), pages, unchanged, replace, floor, ceiling });
            node.memberships.notify_one();
        });
    }

    /// The segment here that a message is for. A candidate may know only the members that its volume was made with, and
    /// where they lived: whoever is here of the group answers its seal, and so tells it who its members are (R-MEMBER-6).
    fn receiver(&self, id: SegmentId, message: &Message<Delta>) -> Option<Arc<Hosted>> {
        self.hosted(id).or_else(|| {
            let (first, last) = (SegmentId { member: MemberId(0), ..id }, SegmentId { member: MemberId::MAX, ..id });
            let segments = self.segments.read().expect("no holder panics");
            let mut of_group = segments.range(first..=last).map(|(_, segment)| segment.clone());
            of_group.next().filter(|_| matches!(message, Message::Seal { .. }))
        })
    }

    /// A message for one of the segments here.
    pub fn deliver(&self, envelope: Envelope<Delta>) {
        let hosted = match envelope.to {
            Party::Segment(id) => self.receiver(id, &envelope.message),
            Party::Writer(..) | Party::Reader(..) => None,
        };
        match hosted {
            Some(segment) => segment.input(Input::Message { from: envelope.from, message: envelope.message }),
            // Dropped, not answered: the sender's retries will find the segment once it exists. Said at the first and
            // then at each power of two, since it repeats with every retry.
            None if (self.misdirected.fetch_add(1, Relaxed) + 1).is_power_of_two() => {
                let (from, to, message) = (envelope.from, envelope.to, envelope.message.name());
                let here: Vec<_> = self.segments.read().expect("no holder panics").keys().map(|id| id.volume).collect();
                tracing::warn!(%from, %to, message, ?here, "dropped a message: its receiver is not hosted here");
            }
            None => {}
        }
    }

    /// Queues `message` for each of `to`; answers the outboxes that need a flush.
    pub fn send(self: &Arc<Self>, from: Party, to: &[Party], message: Message<Delta>) -> Vec<Arc<Outbox>> {
        let encoded = match Encoded::protocol(from, &message) {
            Ok(encoded) => encoded,
            Err(error) => {
                tracing::error!(%from, message = message.name(), %error, "a message can't be sent");
                return Vec::new();
            }
        };
        let pages = is_page_traffic(&message);
        let mut touched = Vec::new();
        for to in to {
            match *to {
                Party::Segment(id) if self.hosted(id).is_some() => {
                    // Through a task: delivering it here would lock another segment below this one's effects.
                    let (node, envelope) = (self.clone(), Envelope { from, to: *to, message: message.clone() });
                    self.runtime.spawn(async move { node.deliver(envelope) });
                }
                to => {
                    let ways = self.routes.find(to, pages).into_iter();
                    touched.extend(ways.filter(|outbox| self.push(outbox, &encoded, to)));
                }
            }
        }
        touched
    }

    /// Queues a frame. Returns whether the outbox needs a flush.
    fn push(&self, outbox: &Arc<Outbox>, encoded: &Encoded, to: Party) -> bool {
        if self.faults.is_partitioned_from(&outbox.peer()) {
            return false;
        }
        match self.faults.outgoing_delay() {
            None => outbox.push(encoded, Some(to)),
            Some(delay) => {
                let (outbox, encoded) = (outbox.clone(), encoded.clone());
                self.later(delay, move || {
                    outbox.push(&encoded, Some(to));
                    outbox.flush();
                });
                false
            }
        }
    }

    /// Does something after an injected delay, or, when too much is held back already, not at all.
    pub fn later(&self, delay: std::time::Duration, act: impl FnOnce() + Send + 'static) {
        if let Ok(permit) = self.delayed.clone().try_acquire_owned() {
            self.runtime.spawn(async move {
                sleep(delay).await;
                act();
                drop(permit);
            });
        }
    }

    /// Tells every segment that the disk is (or is no longer) nearly full.
    pub fn tell_disk_full(&self, full: bool) {
        let segments: Vec<_> = self.segments.read().expect("no holder panics").values().cloned().collect();
        segments.into_iter().for_each(|segment| segment.input(Input::Done(Outcome::DiskFull(full))));
    }

    /// Says what an operator must know of. What can be repeated at will is said at the first and then at each power of
    /// two.
    pub fn warn_of(&self, note: &Note) {
        match note {
            Note::Membership(_) => self.memberships.notify_one(),
            Note::Contradicted { segment, from, lsn, held, came } => {
                let (held, came) = (format!("{held:016x}"), format!("{came:016x}"));
                tracing::error!(%segment, %from, %lsn, held, came, "two records of one LSN differ: this segment has stopped");
            }
            Note::WentBack { segment, by } => {
                tracing::warn!(%segment, %by, "its disk is an old copy: a peer knows a later life of it; it rejoins");
            }
            Note::LossAccepted { segment, lost, fence } => {
                tracing::warn!(%segment, ?lost, %fence, "an operator accepted that journals are lost (R-REJOIN-8)");
            }
            Note::Implausible { segment, from, why }
                if (self.implausible.fetch_add(1, Relaxed) + 1).is_power_of_two() =>
            {
                let times = self.implausible.load(Relaxed);
                tracing::warn!(%segment, %from, ?why, times, "dropped a message that no sound sender sends");
            }
            _ => {}
        }
    }

    /// Stops for good: the first reason counts.
    pub fn stop(&self, reason: Stopped) {
        self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            stopped.get_or_insert(reason);
            first
        });
    }

    /// Stops timers and lets go of the segments.
    pub fn dismantle(&self) {
        self.routes.close();
        lock(&self.timers).drain(..).for_each(|task| task.abort());
        self.segments.write().expect("no holder panics").clear();
    }
}

/// Receives the disk's events for a node, for as long as there is one.
pub(super) struct NodeEvents(pub Weak<Node>);

impl DiskEvents for NodeEvents {
    fn durable(&self, segment: SegmentId, append: AppendId) {
        let Some(node) = self.0.upgrade() else { return };
        let Some(hosted) = node.hosted(segment) else { return };
        match node.faults.append_delay() {
            None => hosted.input(Input::Durable(append)),
            Some(delay) => {
                node.runtime.spawn(async move {
                    sleep(delay).await;
                    hosted.input(Input::Durable(append));
                });
            }
        }
    }

    fn task_done(&self, segment: SegmentId, outcome: Outcome<Delta>) {
        if let Some(hosted) = self.0.upgrade().and_then(|node| node.hosted(segment)) {
            hosted.input(Input::Done(outcome));
        }
    }

    fn tasks_done(&self, segment: SegmentId, outcomes: Vec<Outcome<Delta>>) {
        if let Some(hosted) = self.0.upgrade().and_then(|node| node.hosted(segment)) {
            hosted.inputs(outcomes.into_iter().map(Input::Done));
        }
    }

    fn failed(&self, reason: Stopped) {
        tracing::error!(?reason, "the disk failed: this node stops");
        if let Some(node) = self.0.upgrade() {
            node.stop(reason);
        }
    }
}
