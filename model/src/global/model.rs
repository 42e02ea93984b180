//! What can happen next, and what happens then.

use super::scopes::Bounds;
use super::world::{ControllerNode, Envelope, RegionNode, World};
use crate::checking::Checkable;
use auriga_protocol::global::{
    ControllerConfig, ControllerEntry, ControllerTimer, GlobalController, GlobalObserver, GlobalParty, Operation,
    Region, RegionConfig, RegionLog, RegionRequest, RegionTimer,
};
use auriga_protocol::{ControllerId, Defects, Effects, Input, Machine, Micros, RegionId, Token};
use stateright::{Model, Property};
use std::sync::Arc;

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

    /// Returns the step as a counterexample prints it, for the explorer.
    fn format_step(&self, world: &World, action: Action) -> Option<String> {
        Some(self.line(world, &action))
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
