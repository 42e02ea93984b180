//! The model of one volume: production segments and writers in a [`World`].
//!
//! A step is one thing that happens to one party: a message arrives, an append becomes durable, a node or a zone
//! crashes, a task of the page store ends, a timer fires, a user asks, a writer starts. What a machine does in answer is
//! the machine's own code. See `world.rs` for what is abstracted of network and crashes, `node.rs` for disks,
//! `reductions.rs` for what is left out and why, `invariants.rs` for what is checked after each step.
//!
//! Abstracted in all models of this kind: time (timers fire when a budget lets them; latencies are zero); batching by
//! the driver (each submission is flushed at once); a gossip question reaches its peer at once (its answer may be as
//! late as it likes); damage to disks (the simulation's business); membership stays as it is (`membership/`).

use crate::invariants;
use crate::linearizability::Operations;
use crate::node::Node;
use crate::payload::Mark;
use crate::reductions::{Reductions, thin_out};
use crate::world::{Budgets, History, Shape, Submitted, VOLUME, World};
use auriga_protocol::observer::Observer;
use auriga_protocol::segment::Timer as SegmentTimer;
use auriga_protocol::writer::{Answer, Request, Role, Timer as WriterTimer, WriterIdentity};
use auriga_protocol::{
    Change, Defects, Effect, Effects, Geometry, Input, Lsn, Machine, MemberId, MemberSet, Membership, Message, Micros,
    PageId, Party, PgId, QuorumSet, Refusal, Segment, SegmentConfig, SegmentId, Token, VolumeEpoch, Writer,
    WriterConfig, WriterId,
};
use stateright::{Model, Property};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the scope is about: which `sometimes` must be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Focus {
    /// Log and recovery.
    Recovery,
    /// Reads and collection.
    Reads,
    /// Several writers at once.
    Promotion,
}

/// One size of the model. Start from [`Scale::of`] and change what the scope is about.
#[derive(Clone, Debug)]
pub struct Scale {
    /// Which `sometimes` must be shown.
    pub focus: Focus,
    /// Protection groups.
    pub groups: u16,
    /// Members of each group, in zones of the same size.
    pub zones: Vec<Vec<u8>>,
    /// Write quorum.
    pub write: u8,
    /// Read quorum.
    pub read: u8,
    /// How much may happen.
    pub budgets: Budgets,
    /// Highest volume epoch: a refused candidate that would go above takes no further step.
    pub epochs: u64,
    /// The pages that each submission changes, in turn.
    pub workload: Vec<Vec<PageId>>,
    /// Whether an append is durable as soon as it is started.
    pub synchronous: bool,
    /// Whether the run begins with the first writer open on an empty volume.
    pub begins_open: bool,
    /// Whether page store tasks end in the step that starts them.
    pub prompt_tasks: bool,
    /// Whether the users' operations are recorded and judged.
    pub linearizable: bool,
    /// LAL.
    pub allocation_limit: u64,
    /// Which reductions are on.
    pub reductions: Reductions,
    /// Planted defects.
    pub defects: Defects,
}

/// A page by number.
pub fn page(block: u64) -> PageId {
    PageId { inode: 0, block }
}

impl Scale {
    /// `zones` zones of `per_zone` members, one group, one writer, nothing else.
    pub fn of(focus: Focus, zones: u8, per_zone: u8, write: u8, read: u8) -> Scale {
        let zone = |zone: u8| (zone * per_zone..(zone + 1) * per_zone).collect();
        Scale {
            focus,
            groups: 1,
            zones: (0..zones).map(zone).collect(),
            write,
            read,
            budgets: Budgets { writers: 1, ..Budgets::default() },
            epochs: 2,
            workload: vec![vec![page(0)]],
            synchronous: true,
            begins_open: false,
            prompt_tasks: true,
            linearizable: false,
            allocation_limit: 4,
            reductions: Reductions::ON,
            defects: Defects::NONE,
        }
    }
}

/// The model: see the module's header.
pub struct Volume {
    /// Its size.
    pub scale: Scale,
    shape: Arc<Shape>,
    segment_config: SegmentConfig,
    writer_config: WriterConfig,
    expanded: AtomicUsize,
}

/// A step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The next writer starts. Where every segment has durably promised some volume epoch, its first seal is hopeless:
    /// it goes on from the refusal that names this epoch.
    Start(Option<VolumeEpoch>),
    /// The message at this place in the network arrives.
    Deliver(usize),
    /// It arrives, and will arrive again.
    Duplicate(usize),
    /// The read question at this place in the network reaches this member instead.
    Misroute(usize, MemberId),
    /// The oldest pending append of this node is durable.
    Fsync(usize),
    /// This node crashes; so many pending appends survive.
    Crash(usize, usize),
    /// All nodes of this zone crash; of each so many pending appends survive.
    CrashZone(usize, Vec<usize>),
    /// A user of this writer submits the next mini-transaction.
    Submit(usize),
    /// A user of this writer reads a page.
    Read(usize, PageId),
    /// This writer's retry timer fires.
    Retry(usize),
    /// This node's gossip timer fires, and its question reaches this member.
    Gossip(usize, MemberId),
    /// This node's coalesce timer fires.
    Coalesce(usize),
    /// The oldest task of this node ends.
    Task(usize),
}

impl Volume {
    /// The model of this size.
    pub fn new(scale: Scale) -> Volume {
        let members: u8 = scale.zones.iter().map(|zone| zone.len() as u8).sum();
        let symmetric = scale.reductions.symmetry;
        let shape = Shape { groups: scale.groups, members, zones: scale.zones.clone(), symmetric };
        let quorum = QuorumSet::steady(MemberSet::first(members), scale.write, scale.read);
        let writer_config = WriterConfig {
            geometry: Geometry { groups: scale.groups, extent_blocks: 1 },
            membership: Membership::initial(quorum),
            allocation_limit: scale.allocation_limit,
            defects: scale.defects,
            ..WriterConfig::default()
        };
        let segment_config = SegmentConfig { defects: scale.defects, ..SegmentConfig::tiny() };
        Volume { scale, shape: Arc::new(shape), segment_config, writer_config, expanded: AtomicUsize::new(0) }
    }

    /// The quorum set of every group.
    pub fn quorum(&self) -> &QuorumSet {
        &self.writer_config.membership.quorum
    }

    /// Which group keeps which page.
    pub fn geometry(&self) -> Geometry {
        self.writer_config.geometry
    }

    /// How many states' steps were asked for.
    pub fn expanded(&self) -> &AtomicUsize {
        &self.expanded
    }

    fn empty(&self, doomed: u64) -> World {
        let membership = &self.writer_config.membership;
        let ids = (0..self.shape.groups).flat_map(|pg| {
            let id = move |member| SegmentId { volume: VOLUME, pg: PgId(pg), member: MemberId(member) };
            (0..self.shape.members).map(id)
        });
        let node = |id| {
            let mut node = Node::created(&self.segment_config, id, membership.clone());
            node.seal_digest(&mut Vec::new());
            Arc::new(node)
        };
        let history = History {
            observer: Observer::new(membership.quorum.clone()),
            records: BTreeMap::new(),
            installs: BTreeMap::new(),
            opened: BTreeMap::new(),
            acknowledged: Lsn::ZERO,
            durable: (Lsn::ZERO, VolumeEpoch::NONE),
            operations: self.scale.linearizable.then(Operations::default),
        };
        World {
            shape: Arc::clone(&self.shape),
            nodes: ids.map(node).collect(),
            writers: Vec::new(),
            network: Vec::new(),
            left: self.scale.budgets,
            doomed,
            requests: 0,
            marks: 0,
            history: Arc::new(history),
            broken: None,
        }
    }

    /// The first writer starts, and where the scale says so, everything is delivered in order until it is open.
    fn begin(&self, doomed: u64) -> World {
        let mut world = self.empty(doomed);
        self.start(&mut world);
        while self.scale.begins_open && (!world.network.is_empty() || world.nodes.iter().any(|n| !n.pending.is_empty()))
        {
            if world.network.is_empty() {
                (0..world.nodes.len()).for_each(|node| self.fsync(&mut world, node));
            } else {
                self.deliver(&mut world, 0, false);
            }
        }
        assert!(!self.scale.begins_open || world.writers[0].role() == Role::Open, "the first writer did not open");
        self.settle(&mut world);
        world
    }

    /// Which nodes may crash: one guess for each initial state (reduction 5).
    fn guesses(&self) -> Vec<u64> {
        let Budgets { crashes, zone_crashes, .. } = self.scale.budgets;
        let bits = |nodes: &mut dyn Iterator<Item = usize>| nodes.fold(0, |bits, index| bits | 1_u64 << index);
        let nodes = usize::from(self.shape.groups) * usize::from(self.shape.members);
        let members = usize::from(self.shape.members);
        let named = !self.shape.symmetric;
        match (crashes, zone_crashes) {
            _ if !self.scale.reductions.only_the_doomed_wait => vec![bits(&mut (0..nodes))],
            (1, 0) => (0..nodes).filter(|index| named || index % members == 0).map(|index| 1 << index).collect(),
            (0, 1) => {
                let zones = (0..self.shape.zones.len()).filter(|zone| named || *zone == 0);
                zones.map(|zone| bits(&mut self.shape.nodes_of(zone))).collect()
            }
            _ => vec![bits(&mut (0..nodes))],
        }
    }

    /// Whether appends of this node are durable as soon as they are started.
    fn is_prompt(&self, world: &World, index: usize) -> bool {
        self.scale.synchronous || (self.scale.reductions.only_the_doomed_wait && !world.may_crash(index))
    }

    fn start(&self, world: &mut World) {
        let writer = WriterId(world.writers.len() as u64 + 1);
        world.left.writers -= 1;
        let mut effects = Effects::default();
        let id = WriterIdentity { volume: VOLUME, writer };
        let machine = Writer::boot(&self.writer_config, id, (), Micros(0), &mut effects);
        world.writers.push(Arc::new(machine));
        self.writer_effects(world, world.writers.len() - 1, effects);
    }

    fn start_after(&self, world: &mut World, refused_by: Option<VolumeEpoch>) {
        self.start(world);
        let writer = world.writers.len() - 1;
        let holds = |node: &Arc<Node>| Some(node.kept.promised) == refused_by;
        if let Some(segment) = world.nodes.iter().find(|node| holds(node)).map(|node| node.machine.id()) {
            let current = refused_by.unwrap_or_default();
            let taken = current == world.writers[writer].volume_epoch();
            let refusal = if taken { Refusal::EpochTaken { current } } else { Refusal::StaleVolumeEpoch { current } };
            let message = Message::Refused(refusal);
            self.step_writer(world, writer, Input::Message { from: Party::Segment(segment), message });
        }
    }

    fn deliver(&self, world: &mut World, at: usize, again: bool) {
        let flying = if again { Arc::clone(&world.network[at]) } else { world.network.remove(at) };
        let (from, message) = (flying.envelope.from, flying.envelope.message.clone());
        match flying.envelope.to {
            Party::Segment(segment) => {
                let index = self.shape.index(segment.pg, segment.member);
                self.step_segment(world, index, Input::Message { from, message }, None);
            }
            Party::Writer(_, writer) => {
                if let Some(index) = world.writer_index(writer) {
                    self.step_writer(world, index, Input::Message { from, message });
                }
            }
        }
    }

    fn fsync(&self, world: &mut World, index: usize) {
        let durable = Arc::make_mut(&mut world.nodes[index]).fsync(&self.segment_config);
        if let Some(append) = durable {
            self.step_segment(world, index, Input::Durable(append), None);
        }
    }

    fn run_task(&self, world: &mut World, index: usize) {
        let outcome = Arc::make_mut(&mut world.nodes[index]).run_task(&self.segment_config);
        if let Some(outcome) = outcome {
            self.step_segment(world, index, Input::Done(outcome), None);
        }
    }

    /// Steps a segment. A gossip question goes to `asked` at once, whomever the segment's own turn would have it ask.
    fn step_segment(&self, world: &mut World, index: usize, input: Input<Segment<Mark>>, asked: Option<MemberId>) {
        let mut effects = Effects::default();
        let node = Arc::make_mut(&mut world.nodes[index]);
        let id = node.machine.id();
        let from = Party::Segment(id);
        let group_point = match &input {
            Input::Message { message: Message::ReadPage { group_point, .. }, .. } => Some(*group_point),
            _ => None,
        };
        let stepped = catch_unwind(AssertUnwindSafe(|| node.machine.step(Micros(0), input, &mut effects)));
        if let Err(panic) = stepped {
            return world.breaks("assertion", panic_text(&*panic));
        }
        let effects_list: Vec<Effect<Segment<Mark>>> = effects.drain().collect();
        if let (Some(group_point), Some(scl)) = (group_point, refused_above_scl(&effects_list))
            && group_point <= scl
        {
            world.breaks("R-READ-2", format!("{id} refused group point {group_point} although its SCL is {scl}"));
        }
        let mut questions = Vec::new();
        for effect in effects_list {
            match effect {
                Effect::Send { message: message @ Message::GossipPull { .. }, .. } => questions.push(message),
                Effect::Send { to, message } => world.send(from, to, message),
                Effect::Multicast { to, message } => {
                    to.into_iter().for_each(|to| world.send(from, to, message.clone()));
                }
                Effect::Append { id, entry } => Arc::make_mut(&mut world.nodes[index]).pending.push_back((id, entry)),
                Effect::Start(task) => Arc::make_mut(&mut world.nodes[index]).tasks.push_back(task),
                Effect::Note(note) => world.note(&note),
                Effect::SetTimer { .. } => {}
                Effect::Answer { answer, .. } => match answer {},
            }
        }
        while self.is_prompt(world, index) && !world.nodes[index].pending.is_empty() && world.broken.is_none() {
            self.fsync(world, index);
        }
        while self.scale.prompt_tasks && !world.nodes[index].tasks.is_empty() && world.broken.is_none() {
            self.run_task(world, index);
        }
        if let (Some(member), Some(message)) = (asked, questions.pop()) {
            let peer = self.shape.index(id.pg, member);
            self.step_segment(world, peer, Input::Message { from, message }, None);
        }
    }

    fn step_writer(&self, world: &mut World, index: usize, input: Input<Writer<Mark>>) {
        let mut effects = Effects::default();
        let writer = Arc::make_mut(&mut world.writers[index]);
        let stepped = catch_unwind(AssertUnwindSafe(|| writer.step(Micros(0), input, &mut effects)));
        match stepped {
            Ok(()) => self.writer_effects(world, index, effects),
            Err(panic) => world.breaks("assertion", panic_text(&*panic)),
        }
    }

    fn writer_effects(&self, world: &mut World, index: usize, mut effects: Effects<Writer<Mark>>) {
        let from = Party::Writer(VOLUME, WriterId(index as u64 + 1));
        for effect in effects.drain() {
            match effect {
                Effect::Send { to, message } => world.send(from, to, message),
                Effect::Multicast { to, message } => {
                    to.into_iter().for_each(|to| world.send(from, to, message.clone()));
                }
                Effect::Note(note) => world.note(&note),
                Effect::Answer { token, answer } => self.answered(world, index, token, answer),
                Effect::SetTimer { .. } => {}
                Effect::Append { entry, .. } => match entry {},
                Effect::Start(task) => match task {},
            }
        }
    }

    /// A user hears.
    fn answered(&self, world: &mut World, index: usize, token: Token, answer: Answer<Mark>) {
        match answer {
            Answer::Submitted(last) => self.submitted(world, index, token, last),
            Answer::Page { read_point, page: content, .. } => {
                let volume_epoch = world.writers[index].volume_epoch();
                let asked = self.scale.workload.iter().flatten().copied().collect::<BTreeSet<_>>();
                let pages: Vec<PageId> = asked.into_iter().collect();
                let Some(page) = pages.get(token.0 as usize >> 8).copied() else { return };
                let expected = world.page_as_of(volume_epoch, page, read_point);
                if content != expected {
                    world.breaks("I-PAGE", format!("{page:?} as of {read_point} is {content:?}, not {expected:?}"));
                }
                let history = Arc::make_mut(&mut world.history);
                if let Some(operations) = &mut history.operations {
                    operations.answered(token.0 as u8, &content);
                }
            }
            Answer::NotSubmitted(_) | Answer::NotRead(_) => {}
        }
    }

    fn submitted(&self, world: &mut World, index: usize, token: Token, last: Lsn) {
        let volume_epoch = world.writers[index].volume_epoch();
        let pages = self.next_pages(world).to_vec();
        let first = last.0 + 1 - pages.len() as u64;
        let marks: Vec<(PageId, Mark)> = (pages.iter().zip(world.marks..)).map(|(page, n)| (*page, Mark(n))).collect();
        let history = Arc::make_mut(&mut world.history);
        for (lsn, (page, mark)) in (first..).zip(&marks) {
            history.records.insert(Lsn(lsn), Submitted { volume_epoch, page: *page, mark: *mark });
        }
        world.marks += pages.len() as u8;
        world.left.submits -= 1;
        if let Some(operations) = &mut history.operations {
            operations.submitted(token.0 as u8, last, marks);
        }
    }

    /// The pages that the next submission changes.
    pub fn next_pages(&self, world: &World) -> &[PageId] {
        let done = usize::from(self.scale.budgets.submits - world.left.submits);
        &self.scale.workload[done % self.scale.workload.len()]
    }

    fn submit(&self, world: &mut World, index: usize) {
        let marks = (self.next_pages(world).iter()).zip(world.marks..);
        let changes = marks.map(|(page, mark)| Change { page: *page, payload: Mark(mark) }).collect();
        world.requests += 1;
        let token = Token(world.requests.into());
        self.step_writer(world, index, Input::Request { token, request: Request::Submit(changes) });
        self.step_writer(world, index, Input::Request { token, request: Request::Flush });
    }

    /// The token names the page, so that the answer can be judged.
    fn read(&self, world: &mut World, index: usize, page: PageId) {
        let pages: BTreeSet<PageId> = self.scale.workload.iter().flatten().copied().collect();
        let place = pages.iter().position(|other| *other == page).unwrap_or_default();
        world.requests += 1;
        world.left.reads -= 1;
        let token = Token((place as u64) << 8 | u64::from(world.requests));
        if let Some(operations) = &mut Arc::make_mut(&mut world.history).operations {
            operations.asked(world.requests, page);
        }
        self.step_writer(world, index, Input::Request { token, request: Request::Read(page) });
    }

    fn apply(&self, world: &mut World, step: &Step) {
        match step {
            Step::Start(refused_by) => self.start_after(world, *refused_by),
            Step::Deliver(at) => self.deliver(world, *at, false),
            Step::Duplicate(at) => {
                world.left.duplicates -= 1;
                self.deliver(world, *at, true);
            }
            Step::Misroute(at, member) => {
                let flying = Arc::clone(&world.network[*at]);
                if let Party::Segment(segment) = flying.envelope.to {
                    let index = self.shape.index(segment.pg, *member);
                    let (from, message) = (flying.envelope.from, flying.envelope.message.clone());
                    self.step_segment(world, index, Input::Message { from, message }, None);
                }
            }
            Step::Fsync(index) => self.fsync(world, *index),
            Step::Crash(index, keep) => {
                world.left.crashes -= 1;
                Arc::make_mut(&mut world.nodes[*index]).crash(&self.segment_config, *keep);
            }
            Step::CrashZone(zone, keep) => {
                world.left.zone_crashes -= 1;
                for (index, keep) in self.shape.nodes_of(*zone).zip(keep) {
                    Arc::make_mut(&mut world.nodes[index]).crash(&self.segment_config, *keep);
                }
            }
            Step::Submit(index) => self.submit(world, *index),
            Step::Read(index, page) => self.read(world, *index, *page),
            Step::Retry(index) => {
                world.left.retries -= 1;
                self.step_writer(world, *index, Input::Timer(WriterTimer::Retry));
            }
            Step::Gossip(index, peer) => {
                world.left.gossips -= 1;
                self.step_segment(world, *index, Input::Timer(SegmentTimer::Gossip), Some(*peer));
            }
            Step::Coalesce(index) => {
                world.left.coalesces -= 1;
                self.step_segment(world, *index, Input::Timer(SegmentTimer::Coalesce), None);
            }
            Step::Task(index) => self.run_task(world, *index),
        }
    }

    /// Reduction 2: whatever answers a writer, and what a sealed segment is asked, arrives in the step that sends it.
    fn deliver_answers(&self, world: &mut World) {
        let is_answer = |flying: &Arc<crate::world::Flying>| {
            let message = &flying.envelope.message;
            matches!(
                message,
                Message::Acknowledge { .. } | Message::Sealed { .. } | Message::TailPull { .. } | Message::Tail { .. }
            )
        };
        while world.broken.is_none()
            && let Some(at) = world.network.iter().position(is_answer)
        {
            self.deliver(world, at, false);
        }
    }

    /// After a step: digests, reductions.
    fn settle(&self, world: &mut World) {
        if self.scale.reductions.answers_at_once {
            self.deliver_answers(world);
        }
        let mut scratch = Vec::with_capacity(512);
        for node in &mut world.nodes {
            // Only the nodes that the step has touched are not shared with the state before.
            if let Some(node) = Arc::get_mut(node) {
                node.seal_digest(&mut scratch);
            }
        }
        thin_out(self.scale.reductions, world);
    }
}

fn refused_above_scl(effects: &[Effect<Segment<Mark>>]) -> Option<Lsn> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send { message: Message::ReadRefused { refusal: Refusal::AboveScl { scl }, .. }, .. } => Some(*scl),
        _ => None,
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

impl Model for Volume {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        self.guesses().into_iter().map(|doomed| self.begin(doomed)).collect()
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        self.expanded.fetch_add(1, Ordering::Relaxed);
        if world.broken.is_none() {
            self.network_steps(world, steps);
            self.node_steps(world, steps);
            self.writer_steps(world, steps);
        }
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        self.apply(&mut world, &step);
        let left = (world.left, world.requests);
        let useless = {
            // A step that only spends budget leads nowhere new.
            (world.left, world.requests) = (before.left, before.requests);
            let same = left != (before.left, before.requests) && idle(before, &world);
            (world.left, world.requests) = left;
            same
        };
        let beyond = |writer: &Arc<Writer<Mark>>| writer.volume_epoch().0 > self.scale.epochs;
        if useless || world.writers.iter().any(beyond) {
            return None;
        }
        self.settle(&mut world);
        if let Step::Deliver(at) = step
            && self.scale.reductions.drop_spent
            && without_effect(before, at, &world)
        {
            return None;
        }
        invariants::after_step(self, before, &mut world);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::properties(&self.scale)
    }
}

/// Whether all that a delivery did was to take the message at `at` from the network.
fn without_effect(before: &World, at: usize, world: &World) -> bool {
    let rest = before.network[..at].iter().chain(&before.network[at + 1..]);
    world.network.len() + 1 == before.network.len()
        && world.network.iter().zip(rest).all(|(now, then)| Arc::ptr_eq(now, then))
        && world.nodes.iter().zip(&before.nodes).all(|(now, then)| Arc::ptr_eq(now, then) || now.digest == then.digest)
        && world.writers.iter().zip(&before.writers).all(|(now, then)| Arc::ptr_eq(now, then) || now == then)
        && (Arc::ptr_eq(&world.history, &before.history) || world.history == before.history)
        && world.broken.is_none()
}

/// Whether nothing but budgets differs.
fn idle(before: &World, world: &World) -> bool {
    world.network == before.network
        && world.writers.len() == before.writers.len()
        && world.writers.iter().zip(&before.writers).all(|(now, then)| Arc::ptr_eq(now, then) || now == then)
        && world.nodes.iter().zip(&before.nodes).all(|(now, then)| Arc::ptr_eq(now, then) || same_node(now, then))
        && world.broken == before.broken
        && world.history.operations == before.history.operations
}

fn same_node(now: &Node, then: &Node) -> bool {
    let mut bytes = [Vec::new(), Vec::new()];
    now.write(&mut bytes[0], &mut u64::from);
    then.write(&mut bytes[1], &mut u64::from);
    bytes[0] == bytes[1]
}

impl Volume {
    fn network_steps(&self, world: &World, steps: &mut Vec<Step>) {
        for (at, flying) in world.network.iter().enumerate() {
            steps.push(Step::Deliver(at));
            if let (Message::ReadPage { .. }, Party::Segment(asked)) = (&flying.envelope.message, flying.envelope.to) {
                let others = (0..self.shape.members).map(MemberId).filter(|member| *member != asked.member);
                steps.extend(others.map(|member| Step::Misroute(at, member)));
            }
            if world.left.duplicates > 0 {
                steps.push(Step::Duplicate(at));
            }
        }
    }

    fn node_steps(&self, world: &World, steps: &mut Vec<Step>) {
        let nothing = self.scale.reductions.crash_keeps_nothing;
        for (index, node) in world.nodes.iter().enumerate() {
            let member = node.machine.id().member;
            if !node.pending.is_empty() {
                steps.push(Step::Fsync(index));
            }
            if !node.tasks.is_empty() {
                steps.push(Step::Task(index));
            }
            if world.left.crashes > 0 && world.may_crash(index) {
                let most = if nothing { 0 } else { node.pending.len() };
                steps.extend((0..=most).map(|keep| Step::Crash(index, keep)));
            }
            if world.left.coalesces > 0 {
                steps.push(Step::Coalesce(index));
            }
            if world.left.gossips > 0 {
                let peers = (0..self.shape.members).map(MemberId).filter(|peer| *peer != member);
                steps.extend(peers.map(|peer| Step::Gossip(index, peer)));
            }
        }
        if world.left.zone_crashes > 0 {
            let doomed = |zone: &usize| self.shape.nodes_of(*zone).all(|index| world.may_crash(index));
            for zone in (0..self.shape.zones.len()).filter(doomed) {
                let pending = self.shape.nodes_of(zone).map(|index| world.nodes[index].pending.len());
                let most: Vec<usize> = pending.map(|pending| if nothing { 0 } else { pending }).collect();
                steps.extend(choices(&most).into_iter().map(|keep| Step::CrashZone(zone, keep)));
            }
        }
    }

    fn writer_steps(&self, world: &World, steps: &mut Vec<Step>) {
        if world.left.writers > 0 {
            let promised: BTreeSet<VolumeEpoch> = world.nodes.iter().map(|node| node.kept.promised).collect();
            let hopeless = self.scale.reductions.drop_spent && !promised.contains(&VolumeEpoch::NONE);
            if hopeless {
                steps.extend(promised.into_iter().map(|epoch| Step::Start(Some(epoch))));
            } else {
                steps.push(Step::Start(None));
            }
        }
        let newest_open = world.writers.iter().rposition(|writer| writer.role() == Role::Open);
        for (index, writer) in world.writers.iter().enumerate() {
            if writer.role() == Role::Open && world.left.submits > 0 {
                steps.push(Step::Submit(index));
            }
            // A writer that was overtaken and does not know it may still read: what it sees is old, and its users are
            // cut off by whoever promoted the new one. Where operations are judged, users ask the newest open writer.
            let may_read = !self.scale.linearizable || newest_open == Some(index);
            if writer.role() == Role::Open && world.left.reads > 0 && may_read {
                let pages: BTreeSet<PageId> = self.scale.workload.iter().flatten().copied().collect();
                steps.extend(pages.into_iter().map(|page| Step::Read(index, page)));
            }
            if writer.role() != Role::Fenced && world.left.retries > 0 {
                steps.push(Step::Retry(index));
            }
        }
    }
}

/// Every choice of one number up to each of `most`.
fn choices(most: &[usize]) -> Vec<Vec<usize>> {
    most.iter().fold(vec![Vec::new()], |chosen, most| {
        let longer = |choice: Vec<usize>| (0..=*most).map(move |keep| [choice.clone(), vec![keep]].concat());
        chosen.into_iter().flat_map(longer).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_all_of_them() {
        assert_eq!(choices(&[1, 0]), [[0, 0], [1, 0]]);
        assert_eq!(choices(&[2, 2]).len(), 9);
    }
}
