//! Nodes, their disks, the network, and what one step does to them.

use super::scopes::Bounds;
use crate::checking::Checkable;
use auriga_protocol::global::{
    ControllerConfig, ControllerEntry, ControllerTimer, GlobalController, GlobalMessage, GlobalNote, GlobalObserver,
    GlobalParty, Operation, Region, RegionConfig, RegionEntry, RegionLog, RegionOutcome, RegionRequest, RegionTask,
    RegionTimer,
};
use auriga_protocol::observer::Violation;
use auriga_protocol::{
    AppendId, ControllerId, Defects, Effect, Effects, GlobalEpoch, Input, Lsn, Machine, Micros, Note, RegionId, Token,
};
use stateright::{Model, Property};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a record holds: a number of its own.
pub type Payload = u8;
type Message = GlobalMessage<Payload>;

/// A message that was sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Envelope {
    /// Sender.
    pub from: GlobalParty,
    /// Receiver.
    pub to: GlobalParty,
    /// What it says.
    pub message: Message,
}

impl Envelope {
    /// Whether both are of one stream between two regions.
    fn replaces(&self, before: &Envelope) -> bool {
        let ships = |message: &Message| matches!(message, GlobalMessage::Ship { .. });
        ships(&self.message) && ships(&before.message) && self.from == before.from && self.to == before.to
    }
}

/// A region and its disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RegionNode {
    /// The production machine.
    pub machine: Region<Payload>,
    /// What is durable.
    pub disk: Arc<RegionLog<Payload>>,
    /// What was appended since, oldest first.
    pub pending: Vec<(AppendId, RegionEntry<Payload>)>,
}

/// A controller and its disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ControllerNode {
    /// The production machine.
    pub machine: GlobalController<Payload>,
    /// What is durable.
    pub disk: Vec<ControllerEntry>,
    /// What was appended since, oldest first.
    pub pending: Vec<(AppendId, ControllerEntry)>,
    /// How many of its operations were begun.
    pub begun: usize,
    /// Whether it crashed in the middle of one.
    pub interrupted: bool,
}

/// A commit that a user was told of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Acknowledged {
    /// By whom.
    pub region: RegionId,
    /// In which branch.
    pub global_epoch: GlobalEpoch,
    /// Where.
    pub lsn: Lsn,
    /// What.
    pub payload: Payload,
}

/// A state of the world.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    /// Regions 1, 2, …
    pub regions: Vec<Arc<RegionNode>>,
    /// Controllers 1, 2, …
    pub controllers: Vec<Arc<ControllerNode>>,
    /// What was sent, and may arrive.
    pub network: Arc<BTreeSet<Arc<Envelope>>>,
    /// Whether a step's appends are durable at its end.
    pub synchronous: bool,
    /// Whether to keep only the newest message of a stream, and to deliver `Arrived` at once.
    pub reduced: bool,
    /// The production judge.
    pub observer: Arc<GlobalObserver>,
    /// What users were told, with what was in the region's log then.
    pub acknowledged: Arc<BTreeSet<Acknowledged>>,
    /// Commits begun: also the next record's payload.
    pub commits: Payload,
    /// Shipments so far, where they are limited.
    pub ships: u8,
    /// Crashes so far.
    pub crashes: u8,
    /// The first rule that was broken; then nothing more happens.
    pub violation: Option<Violation>,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// A user commits at a region.
    Commit(RegionId),
    /// A controller is asked for its next operation.
    Begin(ControllerId),
    /// A region's shipping timer is due.
    Ship(RegionId),
    /// A failover has waited long enough for the old primary.
    GiveFenceUp(ControllerId),
    /// A message arrives.
    Deliver(Arc<Envelope>),
    /// The oldest pending entry of a node is durable.
    Fsync(GlobalParty),
    /// A node loses its memory and all but `keep` pending entries, and starts again.
    Crash(GlobalParty, usize),
}

/// The model: what doesn't change.
pub struct GlobalModel {
    /// How large.
    pub bounds: Bounds,
    regions: RegionConfig,
    controllers: ControllerConfig,
}

const FIRST: RegionId = RegionId(1);

impl GlobalModel {
    /// A model within `bounds`, with `defects` planted.
    pub fn new(bounds: Bounds, defects: Defects) -> GlobalModel {
        let ids: Vec<RegionId> = (1..=bounds.regions).map(RegionId).collect();
        let regions = RegionConfig { defects, ..RegionConfig::new(ids.clone(), FIRST) };
        let attempts_max = bounds.attempts;
        let controllers = ControllerConfig { defects, attempts_max, ..ControllerConfig::new(ids, FIRST) };
        GlobalModel { bounds, regions, controllers }
    }

    /// The world after `action`; `None` when nothing has changed.
    pub fn after(&self, world: &World, action: &Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Commit(region) => {
                next.commits += 1;
                let request = RegionRequest::Commit(world.commits);
                next.step_region(*region, Input::Request { token: Token(0), request });
            }
            Action::Begin(controller) => self.begin(&mut next, *controller),
            Action::Ship(region) => {
                next.ships += u8::from(self.bounds.ships.is_some());
                next.step_region(*region, Input::Timer(RegionTimer::Ship));
            }
            Action::GiveFenceUp(id) => next.step_controller(*id, Input::Timer(ControllerTimer::FenceDeadline)),
            Action::Deliver(envelope) => {
                let Envelope { from, to, message } = (**envelope).clone();
                match to {
                    GlobalParty::Region(id) => next.step_region(id, Input::Message { from, message }),
                    GlobalParty::Controller(id) => next.step_controller(id, Input::Message { from, message }),
                }
            }
            Action::Fsync(GlobalParty::Region(id)) => next.fsync_region(*id),
            Action::Fsync(GlobalParty::Controller(id)) => next.fsync_controller(*id),
            Action::Crash(GlobalParty::Region(id), keep) => self.crash_region(&mut next, *id, *keep),
            Action::Crash(GlobalParty::Controller(id), keep) => self.crash_controller(&mut next, *id, *keep),
        }
        if next.synchronous {
            next.fsync_all();
        }
        (next != *world).then_some(next)
    }

    fn begin(&self, world: &mut World, id: ControllerId) {
        let index = id.0 as usize - 1;
        let node = world.controller_mut(id);
        let operation: Operation = self.bounds.operations[index][node.begun];
        node.begun += 1;
        world.step_controller(id, Input::Request { token: Token(0), request: operation });
    }

    fn crash_region(&self, world: &mut World, id: RegionId, keep: usize) {
        world.crashes += 1;
        let mut effects = Effects::default();
        let node = world.region_mut(id);
        let disk = Arc::make_mut(&mut node.disk);
        node.pending.drain(..).take(keep).for_each(|(_, entry)| disk.apply(&entry));
        node.machine = Region::boot(&self.regions, id, disk.survived(), Micros(0), &mut effects);
        world.act_for_region(id, effects);
    }

    fn crash_controller(&self, world: &mut World, id: ControllerId, keep: usize) {
        world.crashes += 1;
        let mut effects = Effects::default();
        let node = world.controller_mut(id);
        node.interrupted |= !node.machine.is_idle();
        let kept: Vec<ControllerEntry> = node.pending.drain(..).take(keep).map(|(_, entry)| entry).collect();
        node.disk.extend(kept);
        node.machine = GlobalController::boot(&self.controllers, id, node.disk.clone(), Micros(0), &mut effects);
        world.act_for_controller(id, effects);
    }

    /// What can happen without a user, an operator or a fault: whatever is under way.
    pub fn going_on(&self, world: &World, actions: &mut Vec<Action>) {
        for (index, node) in world.regions.iter().enumerate() {
            let id = RegionId(index as u16 + 1);
            let may_ship = self.bounds.ships.is_none_or(|limit| world.ships < limit);
            if may_ship && node.machine.lineage().tip().primary == id {
                actions.push(Action::Ship(id));
            }
            if !node.pending.is_empty() {
                actions.push(Action::Fsync(GlobalParty::Region(id)));
            }
        }
        for (index, node) in world.controllers.iter().enumerate() {
            let id = ControllerId(index as u64 + 1);
            if node.machine.may_give_fence_up() {
                actions.push(Action::GiveFenceUp(id));
            }
            if !node.pending.is_empty() {
                actions.push(Action::Fsync(GlobalParty::Controller(id)));
            }
        }
        actions.extend(world.network.iter().cloned().map(Action::Deliver));
    }
}

impl World {
    pub(super) fn region_mut(&mut self, id: RegionId) -> &mut RegionNode {
        Arc::make_mut(&mut self.regions[usize::from(id.0) - 1])
    }

    fn controller_mut(&mut self, id: ControllerId) -> &mut ControllerNode {
        Arc::make_mut(&mut self.controllers[id.0 as usize - 1])
    }

    fn step_region(&mut self, id: RegionId, input: Input<Region<Payload>>) {
        let mut effects = Effects::default();
        self.region_mut(id).machine.step(Micros(0), input, &mut effects);
        self.act_for_region(id, effects);
    }

    fn step_controller(&mut self, id: ControllerId, input: Input<GlobalController<Payload>>) {
        let mut effects = Effects::default();
        self.controller_mut(id).machine.step(Micros(0), input, &mut effects);
        self.act_for_controller(id, effects);
    }

    fn act_for_region(&mut self, id: RegionId, mut effects: Effects<Region<Payload>>) {
        let effects: Vec<_> = effects.drain().collect();
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.send(GlobalParty::Region(id), to, message),
                Effect::Multicast { to, message } => {
                    to.into_iter().for_each(|to| self.send(GlobalParty::Region(id), to, message.clone()));
                }
                Effect::Append { id: append, entry } => self.region_mut(id).pending.push((append, entry)),
                Effect::Start(task) => self.read_log(id, task),
                Effect::Note(note) => self.note(&note),
                Effect::SetTimer { .. } | Effect::Answer { .. } => {}
            }
        }
    }

    fn act_for_controller(&mut self, id: ControllerId, mut effects: Effects<GlobalController<Payload>>) {
        for effect in effects.drain() {
            match effect {
                Effect::Send { to, message } => self.send(GlobalParty::Controller(id), to, message),
                Effect::Multicast { to, message } => {
                    to.into_iter().for_each(|to| self.send(GlobalParty::Controller(id), to, message.clone()));
                }
                Effect::Append { id: append, entry } => self.controller_mut(id).pending.push((append, entry)),
                Effect::Note(note) => self.note(&note),
                Effect::Start(never) => match never {},
                Effect::SetTimer { .. } | Effect::Answer { .. } => {}
            }
        }
    }

    fn send(&mut self, from: GlobalParty, to: GlobalParty, message: Message) {
        if let (true, GlobalMessage::Arrived { .. }, GlobalParty::Region(to)) = (self.reduced, &message, to) {
            return self.step_region(to, Input::Message { from, message });
        }
        let envelope = Envelope { from, to, message };
        if self.network.contains(&envelope) {
            return;
        }
        let network = Arc::make_mut(&mut self.network);
        if self.reduced {
            network.retain(|before| !envelope.replaces(before));
        }
        network.insert(Arc::new(envelope));
    }

    /// A region reads its own log. What is pending can be read too: a machine that asks for it is wrong, and is found.
    fn read_log(&mut self, id: RegionId, task: RegionTask) {
        let RegionTask::ReadLog { to, global_epoch, above, through, limit } = task;
        let node = self.region_mut(id);
        let mut log = (*node.disk).clone();
        node.pending.iter().for_each(|(_, entry)| log.apply(entry));
        let records = log.read(above, through, limit);
        self.step_region(id, Input::Done(RegionOutcome { to, global_epoch, above, records }));
    }

    fn fsync_all(&mut self) {
        while let Some(index) = self.regions.iter().position(|node| !node.pending.is_empty()) {
            self.fsync_region(RegionId(index as u16 + 1));
        }
        while let Some(index) = self.controllers.iter().position(|node| !node.pending.is_empty()) {
            self.fsync_controller(ControllerId(index as u64 + 1));
        }
    }

    fn fsync_region(&mut self, id: RegionId) {
        let node = self.region_mut(id);
        let (append, entry) = node.pending.remove(0);
        Arc::make_mut(&mut node.disk).apply(&entry);
        self.step_region(id, Input::Durable(append));
    }

    fn fsync_controller(&mut self, id: ControllerId) {
        let node = self.controller_mut(id);
        let (append, entry) = node.pending.remove(0);
        node.disk.push(entry);
        self.step_controller(id, Input::Durable(append));
    }

    fn note(&mut self, note: &Note) {
        let Note::Global(note) = note else { return };
        if let GlobalNote::Committed { region, global_epoch, lsn } = *note {
            let log = &self.region_mut(region).disk;
            let found = log.records.iter().find(|record| record.lsn == lsn).map(|record| record.record);
            // A commit that isn't on disk gets a payload that no record has: no log will ever match it.
            let payload = found.unwrap_or(Payload::MAX);
            Arc::make_mut(&mut self.acknowledged).insert(Acknowledged { region, global_epoch, lsn, payload });
        }
        if let (Err(violation), None) = (Arc::make_mut(&mut self.observer).observe(note), &self.violation) {
            self.violation = Some(violation);
        }
    }
}

impl Model for GlobalModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let region = |id: &RegionId| {
            let disk = RegionLog::created(FIRST);
            let machine = Region::boot(&self.regions, *id, disk.survived(), Micros(0), &mut Effects::default());
            Arc::new(RegionNode { machine, disk: Arc::new(disk), pending: Vec::new() })
        };
        let regions = self.regions.regions.iter().map(region).collect();
        let controllers = (1..=self.bounds.operations.len() as u64).map(|id| {
            let id = ControllerId(id);
            let machine = GlobalController::boot(&self.controllers, id, Vec::new(), Micros(0), &mut Effects::default());
            let (disk, pending) = (Vec::new(), Vec::new());
            Arc::new(ControllerNode { machine, disk, pending, begun: 0, interrupted: false })
        });
        let controllers = controllers.collect();
        vec![World {
            regions,
            controllers,
            network: Arc::default(),
            synchronous: self.bounds.crashes == 0,
            reduced: !self.bounds.whole_stream,
            observer: Arc::new(GlobalObserver::new(FIRST)),
            acknowledged: Arc::default(),
            commits: 0,
            crashes: 0,
            ships: 0,
            violation: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.violation.is_some() {
            return;
        }
        self.going_on(world, actions);
        for (index, node) in world.regions.iter().enumerate() {
            let id = RegionId(index as u16 + 1);
            if world.commits < self.bounds.commits && node.machine.takes_commits() {
                actions.push(Action::Commit(id));
            }
            if world.crashes < self.bounds.crashes {
                actions.extend((0..=node.pending.len()).map(|keep| Action::Crash(GlobalParty::Region(id), keep)));
            }
        }
        for (index, node) in world.controllers.iter().enumerate() {
            let id = ControllerId(index as u64 + 1);
            if node.begun < self.bounds.operations[index].len() && node.machine.is_idle() {
                actions.push(Action::Begin(id));
            }
            if world.crashes < self.bounds.crashes {
                actions.extend((0..=node.pending.len()).map(|keep| Action::Crash(GlobalParty::Controller(id), keep)));
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        self.after(world, &action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::properties::of(&self.bounds)
    }
}

impl Checkable for GlobalModel {
    fn line(&self, before: &World, action: &Action) -> String {
        super::notation::line(before, action)
    }

    fn last_word(&self, world: &World) -> String {
        super::notation::last_word(world)
    }
}
