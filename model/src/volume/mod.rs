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
//!
//! `scale.rs`: how large. `steps.rs`: what can happen. `act.rs`: what happens then.

mod act;
mod reader;
mod scale;
mod steps;

pub use scale::{Focus, Scale, page};
pub use steps::Step;

use crate::checking::Checkable;
use crate::invariants;
use crate::linearizability::Operations;
use crate::node::Node;
use crate::payload::Mark;
use crate::world::{Budgets, History, Shape, VOLUME, World};
use auriga_protocol::observer::Observer;
use auriga_protocol::writer::WriterRole;
use auriga_protocol::{
    Geometry, Lsn, MemberId, MemberSet, Membership, Micros, PgId, QuorumSet, ReaderConfig, SegmentConfig, SegmentId,
    VolumeEpoch, Writer, WriterConfig,
};
use stateright::{Model, Property};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The model: see the module's header.
pub struct Volume {
    /// Its size.
    pub scale: Scale,
    shape: Arc<Shape>,
    segment_config: SegmentConfig,
    writer_config: WriterConfig,
    reader_config: ReaderConfig,
    expanded: AtomicUsize,
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
            linger: Micros(u64::from(scale.lingers)),
            followers: scale.followers.clone(),
            defects: scale.defects,
            ..WriterConfig::default()
        };
        let reader_config = ReaderConfig {
            geometry: writer_config.geometry,
            membership: writer_config.membership.clone(),
            patience_rounds: 1,
            ask_again_rounds: u8::MAX,
            defects: scale.defects,
            ..ReaderConfig::default()
        };
        let segment_config = SegmentConfig { defects: scale.defects, ..SegmentConfig::tiny() };
        Volume {
            scale,
            shape: Arc::new(shape),
            segment_config,
            writer_config,
            reader_config,
            expanded: AtomicUsize::new(0),
        }
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
        let every_entry_counts = self.scale.budgets.losses + self.scale.budgets.cleans > 0;
        let node = |id| {
            let mut node = Node::created(&self.segment_config, id, membership.clone(), every_entry_counts);
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
            reader: None,
            reader_dropped: false,
            network: Vec::new(),
            left: self.scale.budgets,
            doomed,
            requests: 0,
            marks: 0,
            history: Arc::new(history),
            broken: None,
            script: None,
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
        if self.scale.begins_followed {
            self.start_reader(&mut world);
            while !world.network.is_empty() {
                self.deliver(&mut world, 0, false);
            }
        }
        assert!(
            !self.scale.begins_open || world.writers[0].role() == WriterRole::Open,
            "the first writer did not open"
        );
        self.settle(&mut world);
        world
    }

    /// Which nodes a crash or loss may strike: one guess for each initial state (reduction 5). Where no name matters,
    /// nodes and zones are alike, and one guess stands for all.
    fn guesses(&self) -> Vec<u64> {
        let Budgets { crashes, zone_crashes, losses, reads, .. } = self.scale.budgets;
        let bits = |nodes: &mut dyn Iterator<Item = usize>| nodes.fold(0, |bits, index| bits | 1_u64 << index);
        let members = usize::from(self.shape.members);
        let nodes = usize::from(self.shape.groups) * members;
        let named = reads > 0 || !self.scale.reductions.symmetry;
        match (crashes + losses, zone_crashes) {
            _ if !self.scale.reductions.only_the_doomed_wait => vec![bits(&mut (0..nodes))],
            (1, 0) => (0..nodes).filter(|index| named || index % members == 0).map(|index| 1 << index).collect(),
            (0, 1) => {
                let zones = (0..self.shape.zones.len()).filter(|zone| named || *zone == 0);
                zones.map(|zone| bits(&mut self.shape.nodes_of(zone))).collect()
            }
            _ => vec![bits(&mut (0..nodes))],
        }
    }
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
            self.reader_steps(world, steps);
        }
    }

    /// Returns the step as a counterexample prints it, for the explorer.
    fn format_step(&self, before: &World, step: Step) -> Option<String> {
        Some(self.line(before, &step))
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        self.apply(&mut world, &step);
        let left = (world.left, world.requests);
        let useless = !matches!(step, Step::Clean(_)) && {
            // A step that only spends budget leads nowhere new.
            (world.left, world.requests) = (before.left, before.requests);
            let same = left != (before.left, before.requests) && idle(before, &world);
            (world.left, world.requests) = left;
            same
        };
        let beyond = |writer: &Arc<Writer<Mark>>| writer.volume_epoch().number > self.scale.epochs;
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
        && same_reader(world, before)
        && (Arc::ptr_eq(&world.history, &before.history) || world.history == before.history)
        && world.broken.is_none()
}

/// Whether nothing but budgets differs.
fn idle(before: &World, world: &World) -> bool {
    world.network == before.network
        && world.writers.len() == before.writers.len()
        && world.writers.iter().zip(&before.writers).all(|(now, then)| Arc::ptr_eq(now, then) || now == then)
        && world.nodes.iter().zip(&before.nodes).all(|(now, then)| Arc::ptr_eq(now, then) || same_node(now, then))
        && same_reader(world, before)
        && world.broken == before.broken
        && world.history.operations == before.history.operations
}

fn same_reader(now: &World, then: &World) -> bool {
    let same = match (&now.reader, &then.reader) {
        (Some(now), Some(then)) => Arc::ptr_eq(now, then) || now == then,
        (now, then) => now.is_none() && then.is_none(),
    };
    same && now.reader_dropped == then.reader_dropped
}

fn same_node(now: &Node, then: &Node) -> bool {
    let mut bytes = [Vec::new(), Vec::new()];
    now.write(&mut bytes[0], &mut u64::from);
    then.write(&mut bytes[1], &mut u64::from);
    bytes[0] == bytes[1]
}
