//! A whole cluster in one thread and in virtual time: nodes, network, disks, users. It decides nothing of the protocol;
//! it carries out effects and feeds inputs, as a driver does, only with every delay and loss drawn from the seed.

use super::coverage::{Counted, Coverage};
use super::digest::Digest;
use super::judge::{Failure, Judge};
use super::node::{SegmentNode, VOLUME, WriterNode};
use super::payload::Mark;
use super::queue::Queue;
use super::settings::{COPIES, Plan};
use crate::notation::Names;
use auriga_protocol::segment::{self, Outcome, Segment};
use auriga_protocol::writer::{self, Writer};
use auriga_protocol::{
    Change, Effects, Input, MemberId, Message, Note, Party, PgId, QuorumSet, SegmentConfig, SegmentId, WriterConfig,
    WriterId,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::net::SocketAddr;

/// Something that will happen.
pub(super) enum Event {
    Deliver { from: Party, to: Party, serial: u64, message: Box<Message<Mark>> },
    SegmentTimer { node: usize, life: u32, timer: segment::Timer },
    WriterTimer { writer: usize, timer: writer::Timer },
    Synced { node: usize, life: u32 },
    TaskDone { node: usize, life: u32 },
    Fault(usize),
    Restart { node: usize, life: u32 },
    SpaceReturns { node: usize },
    StartWriter,
    CrashNewestWriter,
    Users { writer: usize },
    ChangeMembers,
}

/// Receives the lines of a trace.
pub type TraceSink<'a> = &'a mut dyn FnMut(u64, String);

/// A note as a trace line of a real process would keep it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// Virtual microseconds.
    pub now: u64,
    /// The step that caused it: later steps have higher numbers.
    pub step: u64,
    /// Who.
    pub from: Party,
    /// Counts the boots of who.
    pub life: u32,
    /// The fact.
    pub note: Note,
}

/// The cluster.
pub struct World<'a> {
    pub(super) plan: &'a Plan,
    pub(super) segment_config: SegmentConfig,
    pub(super) writer_config: WriterConfig,
    pub(super) now: u64,
    pub(super) queue: Queue<Event>,
    pub(super) rng: fastrand::Rng,
    pub(super) segments: Vec<SegmentNode>,
    /// Members that joined, by their places in `segments`.
    pub(super) joined: BTreeMap<SegmentId, usize>,
    /// Where new members are to live, and whether a process is there.
    pub(super) homes: Vec<(SocketAddr, bool)>,
    pub(super) writers: Vec<WriterNode>,
    pub(super) judge: Judge<Mark>,
    pub(super) coverage: Coverage,
    pub(super) failure: Option<Failure>,
    /// Set by the finale: no trouble any more, and users ask only what the finale asks.
    pub(super) healed: bool,
    pub(super) lossy: (u64, u16),
    pub(super) unread: usize,
    /// The number of the last message delivered, by sender and receiver.
    last_delivered: HashMap<(Party, Party), u64, BuildHasherDefault<Digest>>,
    pub(super) hash: Digest,
    pub(super) events: u64,
    names: Names,
    trace: Option<TraceSink<'a>>,
    /// Every note with the step that caused it, its node and that node's life, where the caller wants them.
    pub(super) notes: Option<Vec<Told>>,
    pub(super) mark: u32,
    /// Whether a segment was made again before its group was founded: one is enough for the rest to go on.
    pub(super) remade_early: bool,
    pub(super) sent: u64,
    /// What a `Submit` under way wants to change and was not allocated yet.
    pub(super) submitting: VecDeque<Change<Mark>>,
    /// Where a step's effects are collected: kept for its memory, empty between steps.
    pub(super) segment_out: Effects<Segment<Mark>>,
    pub(super) writer_out: Effects<Writer<Mark>>,
}

impl<'a> World<'a> {
    /// A cluster in which every segment has just booted and the first writer begins its recovery.
    pub fn new(plan: &'a Plan, trace: Option<TraceSink<'a>>, notes: bool) -> Self {
        let mut world = World {
            plan,
            segment_config: plan.segment_config(),
            writer_config: plan.writer_config(),
            now: 0,
            queue: Queue::default(),
            rng: fastrand::Rng::with_seed(plan.seed),
            segments: Vec::new(),
            joined: BTreeMap::new(),
            homes: Vec::new(),
            writers: Vec::new(),
            judge: Judge::new(QuorumSet::aurora()),
            coverage: Coverage::default(),
            failure: None,
            healed: false,
            lossy: (0, 0),
            unread: 0,
            last_delivered: HashMap::default(),
            hash: Digest::default(),
            events: 0,
            names: Names::of(plan.settings.groups),
            trace,
            notes: notes.then(Vec::new),
            mark: 0,
            remade_early: false,
            sent: 0,
            submitting: VecDeque::new(),
            segment_out: Effects::default(),
            writer_out: Effects::default(),
        };
        for pg in (0..plan.settings.groups).map(PgId) {
            for member in (0..COPIES).map(MemberId) {
                world
                    .segments
                    .push(SegmentNode::created(SegmentId { volume: VOLUME, pg, member }, plan.settings.blank));
            }
        }
        (0..world.segments.len()).for_each(|node| world.boot_segment(node));
        for (index, fault) in plan.faults.iter().enumerate() {
            world.queue.push(fault.at, Event::Fault(index));
        }
        world.start_writer();
        if plan.settings.replace_every > 0 {
            world.queue.push(plan.settings.replace_every, Event::ChangeMembers);
        }
        world
    }

    /// Runs until `until` or until something fails; a run for its notes goes on, as a real cluster would.
    pub fn run_until(&mut self, until: u64) {
        while (self.failure.is_none() || self.notes.is_some()) && self.queue.next_at().is_some_and(|at| at <= until) {
            if let Some((at, serial, event)) = self.queue.pop() {
                self.now = at;
                self.events += 1;
                self.happen(serial, event);
            }
        }
        self.now = self.now.max(until);
    }

    /// A digest of everything observable so far: the same plan gives the same digest.
    pub fn digest(&self) -> u64 {
        self.hash.finish()
    }

    /// Adds a line to the trace, if there is one.
    pub(super) fn tell(&mut self, line: impl FnOnce(Names) -> String) {
        if let Some(trace) = &mut self.trace {
            trace(self.now, line(self.names));
        }
    }

    pub(super) fn fail(&mut self, rule: impl Into<String>, what: impl Into<String>) {
        let failure = Failure { rule: rule.into(), what: what.into(), at: self.now };
        self.tell(|_| format!("BROKEN {}: {}", failure.rule, failure.what));
        self.failure.get_or_insert(failure);
    }

    fn happen(&mut self, serial: u32, event: Event) {
        match event {
            Event::Deliver { from, to, serial, message } => self.deliver(from, to, serial, message),
            Event::SegmentTimer { node, life, timer } => self.segment_timer(node, life, timer, serial),
            Event::WriterTimer { writer, timer } => self.writer_timer(writer, timer, serial),
            Event::Synced { node, life } => self.synced(node, life),
            Event::TaskDone { node, life } => self.task_done(node, life),
            Event::Fault(_) | Event::StartWriter | Event::CrashNewestWriter if self.healed => {}
            Event::Fault(index) => self.strike(index),
            Event::Restart { node, life } => {
                let gone = self.segments[node].dead || self.segments[node].left;
                if self.segments[node].life == life && self.segments[node].machine.is_none() && !gone {
                    self.boot_segment(node);
                }
            }
            Event::SpaceReturns { node } => {
                if self.segments[node].ails.full_until <= self.now {
                    self.step_segment(node, Input::Done(Outcome::DiskFull(false)));
                }
            }
            Event::StartWriter => self.start_writer(),
            Event::CrashNewestWriter => self.crash_writer(self.writers.len() - 1),
            Event::Users { writer } => self.users(writer),
            Event::ChangeMembers => self.change_members(),
        }
    }

    /// A timer that is due. While its node is frozen it waits for the thaw.
    fn segment_timer(&mut self, node: usize, life: u32, timer: segment::Timer, serial: u32) {
        let it = &mut self.segments[node];
        if it.life != life || it.timers[timer as usize] != serial {
            return;
        }
        if it.ails.frozen_until > self.now {
            let serial = self.queue.push(it.ails.frozen_until, Event::SegmentTimer { node, life, timer });
            it.timers[timer as usize] = serial;
            return;
        }
        it.timers[timer as usize] = 0;
        self.step_segment(node, Input::Timer(timer));
    }

    fn deliver(&mut self, from: Party, to: Party, serial: u64, message: Box<Message<Mark>>) {
        let frozen = match to {
            Party::Segment(id) => self.segments[self.index(id)].ails.frozen_until,
            Party::Writer(_, id) => self.writers[writer_index(id)].frozen_until,
            Party::Reader(..) => 0,
        };
        if frozen > self.now {
            self.queue.push(frozen, Event::Deliver { from, to, serial, message });
            return;
        }
        let up = match to {
            Party::Segment(id) => self.segments[self.index(id)].machine.is_some(),
            Party::Writer(_, id) => self.writers[writer_index(id)].machine.is_some(),
            Party::Reader(..) => false,
        };
        if !up {
            return self.coverage.count(Counted::ToNobody);
        }
        let last = self.last_delivered.entry((from, to)).or_default();
        if *last > serial {
            self.coverage.count(Counted::Reordered);
        }
        *last = serial.max(*last);
        self.coverage.message(&message);
        (self.now, from, to, std::mem::discriminant(&*message)).hash(&mut self.hash);
        self.tell(|names| names.message(from, to, &message, false));
        match to {
            Party::Segment(id) => self.step_segment(self.index(id), Input::Message { from, message: *message }),
            Party::Writer(_, id) => self.step_writer(writer_index(id), Input::Message { from, message: *message }),
            Party::Reader(..) => {}
        }
    }

    fn synced(&mut self, node: usize, life: u32) {
        let it = &mut self.segments[node];
        let Some(count) = it.syncing.filter(|_| it.life == life) else { return };
        it.syncing = None;
        let last = it.disk.sync(count);
        self.start_sync(node);
        if let Some(append) = last {
            let id = self.segments[node].id;
            self.tell(|names| format!("{} durable #{}", names.segment(id), append.0));
            self.step_segment(node, Input::Durable(append));
        }
    }

    fn task_done(&mut self, node: usize, life: u32) {
        let it = &mut self.segments[node];
        if it.life != life || !it.working {
            return;
        }
        it.working = false;
        let outcome = it.disk.do_task();
        self.start_task(node);
        if let Some(outcome) = outcome {
            self.step_segment(node, Input::Done(outcome));
        }
    }

    fn writer_timer(&mut self, writer: usize, timer: writer::Timer, serial: u32) {
        let it = &mut self.writers[writer];
        if it.timers.get(&timer) != Some(&serial) {
            return;
        }
        if it.frozen_until > self.now {
            let serial = self.queue.push(it.frozen_until, Event::WriterTimer { writer, timer });
            it.timers.insert(timer, serial);
            return;
        }
        it.timers.remove(&timer);
        if matches!(timer, writer::Timer::Hedge(_)) {
            self.coverage.count(Counted::Hedged);
        }
        self.step_writer(writer, Input::Timer(timer));
    }

    pub(super) fn index(&self, id: SegmentId) -> usize {
        if let Some(node) = self.joined.get(&id) {
            return *node;
        }
        usize::from(id.pg.0) * usize::from(COPIES) + usize::from(id.member.0)
    }

    /// Whether there is, or was, such a segment.
    pub(super) fn is_there(&self, id: SegmentId) -> bool {
        id.member.0 < COPIES || self.joined.contains_key(&id)
    }
}

/// Writers are numbered from 1.
pub(super) fn writer_index(id: WriterId) -> usize {
    id.0 as usize - 1
}
