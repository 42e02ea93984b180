//! Nodes, their disks, the network, and what a machine's step does to them.

use auriga_protocol::global::{
    ControllerEntry, GlobalController, GlobalMessage, GlobalNote, GlobalObserver, GlobalParty, Region, RegionEntry,
    RegionLog, RegionOutcome, RegionTask,
};
use auriga_protocol::observer::Violation;
use auriga_protocol::{
    AppendId, ControllerId, Effect, Effects, GlobalEpoch, Input, Lsn, Machine, Micros, Note, RegionId,
};
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
    /// The region that acknowledged it.
    pub region: RegionId,
    /// The branch's global epoch.
    pub global_epoch: GlobalEpoch,
    /// Its position.
    pub lsn: Lsn,
    /// Its content.
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

impl World {
    pub(super) fn region_mut(&mut self, id: RegionId) -> &mut RegionNode {
        Arc::make_mut(&mut self.regions[usize::from(id.0) - 1])
    }

    pub(super) fn controller_mut(&mut self, id: ControllerId) -> &mut ControllerNode {
        Arc::make_mut(&mut self.controllers[id.0 as usize - 1])
    }

    pub(super) fn step_region(&mut self, id: RegionId, input: Input<Region<Payload>>) {
        let mut effects = Effects::default();
        self.region_mut(id).machine.step(Micros(0), input, &mut effects);
        self.act_for_region(id, effects);
    }

    pub(super) fn step_controller(&mut self, id: ControllerId, input: Input<GlobalController<Payload>>) {
        let mut effects = Effects::default();
        self.controller_mut(id).machine.step(Micros(0), input, &mut effects);
        self.act_for_controller(id, effects);
    }

    pub(super) fn act_for_region(&mut self, id: RegionId, mut effects: Effects<Region<Payload>>) {
        let effects: Vec<_> = effects.drain().collect();
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.send(GlobalParty::Region(id), to, message),
                Effect::Multicast { to, message } => {
                    to.into_iter().for_each(|to| self.send(GlobalParty::Region(id), to, message.clone()));
                }
                Effect::Append { id: append, entry } => self.region_mut(id).pending.push((append, entry)),
                Effect::Start(task) => self.run_task(id, task),
                Effect::Note(note) => self.note(&note),
                Effect::SetTimer { .. } | Effect::Answer { .. } => {}
            }
        }
    }

    pub(super) fn act_for_controller(&mut self, id: ControllerId, mut effects: Effects<GlobalController<Payload>>) {
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

    /// A region reads its own log, or finds its end: no other process writes it here. What is pending can be read too:
    /// a machine that asks for it is wrong, and is found.
    fn run_task(&mut self, id: RegionId, task: RegionTask) {
        let node = self.region_mut(id);
        let mut log = (*node.disk).clone();
        node.pending.iter().for_each(|(_, entry)| log.apply(entry));
        let outcome = match task {
            RegionTask::ReadLog { to, global_epoch, above, through, limit } => {
                RegionOutcome::LogRead { to, global_epoch, above, records: log.read(above, through, limit) }
            }
            RegionTask::TakeOver => RegionOutcome::TookOver { end: log.last() },
        };
        self.step_region(id, Input::Done(outcome));
    }

    pub(super) fn fsync_all(&mut self) {
        while let Some(index) = self.regions.iter().position(|node| !node.pending.is_empty()) {
            self.fsync_region(RegionId(index as u16 + 1));
        }
        while let Some(index) = self.controllers.iter().position(|node| !node.pending.is_empty()) {
            self.fsync_controller(ControllerId(index as u64 + 1));
        }
    }

    pub(super) fn fsync_region(&mut self, id: RegionId) {
        let node = self.region_mut(id);
        let (append, entry) = node.pending.remove(0);
        Arc::make_mut(&mut node.disk).apply(&entry);
        self.step_region(id, Input::Durable(append));
    }

    pub(super) fn fsync_controller(&mut self, id: ControllerId) {
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
