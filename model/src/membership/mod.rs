//! The model of membership change: the production [`Changer`] and quorum arithmetic, and a group that goes on writing.
//!
//! **What is real.** [`Changer`], [`Step`], [`admits`] and `in_force` of the protocol crate.
//!
//! **What is abstracted.** A member is the set of LSNs that it has, the step that it knows, and a disk with what is durable
//! and what is pending. Chains, volume epochs and sealing are the log-and-recovery model's: a recovery here is a moment in
//! which any set of members answers, and *every* such set is tried in *every* state. Hydration reads a read quorum of
//! members that know the membership in force, in one moment. Answers of members arrive at once. The writer is a counter of acknowledgements that learns of
//! steps from refusals only. The network only grows, as in `global/`.
//!
//! **Reduction.** Who will crash is guessed at the start, one initial state for each; everyone else's disk is prompt. A disk
//! that takes its time and then loses nothing is a prompt disk behind a slow network (reduction 5 of `reductions.rs`).
//!
//! Next: `world.rs`, `properties.rs`, `scopes.rs`.

mod notation;
mod properties;
mod scopes;
mod world;

pub use scopes::{Bounds, planted, scopes};
pub use world::{Doomed, Entry, Held, Member, Message, World};

use crate::checking::Checkable;
use auriga_protocol::membership::{Changer, ChangerConfig, ChangerEntry, ChangerMessage, ChangerRequest, Step, admits};
use auriga_protocol::quorum::{MemberSet, Membership};
use auriga_protocol::{Defects, Effects, Input, Machine, MemberId, Micros, Token};
use stateright::{Model, Property};
use std::sync::Arc;

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// The changer is asked for the next thing.
    Request,
    /// The writer writes the next LSN.
    Submit,
    /// A message arrives.
    Deliver(Arc<Message>),
    /// A new member copies what a read quorum has.
    Hydrate(MemberId, MemberSet),
    /// The oldest pending entry of a member is durable.
    Fsync(MemberId),
    /// The oldest pending entry of the changer is durable.
    FsyncChanger,
    /// A member loses its memory and all but `keep` pending entries.
    Crash(MemberId, usize),
    /// The changer does.
    CrashChanger(usize),
}

/// The model: what doesn't change.
pub struct MembershipModel {
    bounds: Bounds,
    config: ChangerConfig,
}

impl MembershipModel {
    /// A model within `bounds`, with `defects` planted.
    pub fn new(bounds: Bounds, defects: Defects) -> Self {
        let config = ChangerConfig { created: bounds.created.clone(), retry_every: Micros(1), defects };
        MembershipModel { bounds, config }
    }

    fn first(&self) -> Membership {
        Membership::initial(self.config.created.quorum(self.config.defects))
    }

    fn after(&self, world: &World, action: &Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Request => {
                let request: ChangerRequest = self.bounds.requests[next.requests];
                next.requests += 1;
                next.step_changer(Input::Request { token: Token(0), request });
            }
            Action::Submit => {
                next.acks.push(MemberSet::EMPTY);
                next.write(next.acks.len() as u8 - 1);
            }
            Action::Deliver(message) => self.deliver(&mut next, message),
            Action::Hydrate(member, from) => {
                let lsns = from.iter().fold(0, |all, peer| all | next.member(peer).disk.lsns);
                let epoch = next.member(*member).asked?;
                next.member_mut(*member).pending.push(Entry::Hydrated(lsns, epoch));
            }
            Action::Fsync(member) => next.fsync(*member),
            Action::FsyncChanger => next.fsync_changer(),
            Action::Crash(member, keep) => {
                next.crashes += 1;
                let node = next.member_mut(*member);
                let kept: Vec<Entry> = node.pending.drain(..).take(*keep).collect();
                kept.iter().for_each(|entry| node.disk.apply(entry));
                node.asked = None;
                next.doomed = None;
            }
            Action::CrashChanger(keep) => {
                next.crashes += 1;
                next.doomed = None;
                let kept: Vec<ChangerEntry> = next.changer_pending.drain(..).take(*keep).map(|(_, it)| it).collect();
                next.changer_disk.extend(kept);
                let mut effects = Effects::default();
                next.changer = Changer::boot(&self.config, (), next.changer_disk.clone(), Micros(0), &mut effects);
                next.act(effects);
            }
        }
        next.fsync_the_prompt();
        self.count(&mut next);
        (next != *world).then_some(next)
    }

    fn deliver(&self, world: &mut World, message: &Message) {
        match message.clone() {
            Message::Change(from, message, true) => world.step_changer(Input::Message { from, message }),
            Message::Change(to, ChangerMessage::Install(step), _) => {
                if step.is_after(&world.member(to).memory().step) {
                    world.member_mut(to).pending.push(Entry::Step(step));
                } else if !step.is_after(&world.member(to).disk.step) {
                    // Also for an older one: a changer that crashed may have forgotten that it went on.
                    world.tell_installed(to, step.next.membership_epoch);
                }
            }
            Message::Change(to, ChangerMessage::Hydrate(membership), _) => {
                if world.member(to).disk.hydrated {
                    let hydrated = ChangerMessage::Hydrated(membership.membership_epoch);
                    world.send(Message::Change(to, hydrated, true));
                } else {
                    world.member_mut(to).asked = Some(membership.membership_epoch);
                }
            }
            Message::Change(..) => {}
            Message::Write(to, lsn, epoch) => {
                let held = world.member(to).memory();
                if !admits(held.step.next.membership_epoch, epoch, self.config.defects) {
                    world.send(Message::Refused(held.step));
                } else if held.lsns >> lsn & 1 == 0 {
                    world.member_mut(to).pending.push(Entry::Record(lsn));
                } else if world.member(to).disk.lsns >> lsn & 1 == 1 {
                    world.send(Message::Acknowledge(to, lsn));
                }
            }
            // Delivered at once: see `send`.
            Message::Acknowledge(..) => {}
            Message::Refused(step) => {
                if step.is_after(&world.writer) {
                    world.writer = step;
                    (0..world.acks.len() as u8).for_each(|lsn| world.write(lsn));
                }
            }
        }
    }

    fn count(&self, world: &mut World) {
        for lsn in 0..world.acks.len() {
            if world.acknowledged >> lsn & 1 == 0 && world.writer.write_met(world.acks[lsn], self.config.defects) {
                world.acknowledged |= 1 << lsn;
                let replacing = !world.changer.settled().replacements.is_empty();
                world.during |= u8::from(replacing) << lsn;
            }
        }
    }

    /// Whatever is under way, without users and faults.
    fn going_on(&self, world: &World, actions: &mut Vec<Action>) {
        for (index, node) in world.members.iter().enumerate() {
            let member = MemberId(index as u8);
            if !node.pending.is_empty() {
                actions.push(Action::Fsync(member));
            }
            let hydrating = node.pending.iter().any(|entry| matches!(entry, Entry::Hydrated(..)));
            if let (Some(epoch), false, false) = (node.asked, node.disk.hydrated, hydrating) {
                let knows = |peer: &MemberId| world.member(*peer).disk.step.next.membership_epoch >= epoch;
                let base = self.config.created.base;
                let peers: MemberSet = base.iter().filter(knows).collect();
                let sets = (1..=peers.0).map(MemberSet).filter(|set| set.and(peers) == *set);
                let quorums = sets.filter(|set| set.len() == u32::from(self.config.created.read));
                actions.extend(quorums.map(|set| Action::Hydrate(member, set)));
            }
        }
        if !world.changer_pending.is_empty() {
            actions.push(Action::FsyncChanger);
        }
        actions.extend(world.network.iter().cloned().map(Action::Deliver));
    }
}

impl Model for MembershipModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let step = Step::first(self.first());
        let mut effects = Effects::default();
        let changer = Changer::boot(&self.config, (), Vec::new(), Micros(0), &mut effects);
        let disk = Held { step: step.clone(), lsns: 0, hydrated: false };
        let member = Member { disk, pending: Vec::new(), asked: None };
        let world = World {
            members: vec![member; usize::from(self.bounds.members)],
            changer,
            changer_disk: Vec::new(),
            changer_pending: Vec::new(),
            requests: 0,
            writer: step,
            acks: Vec::new(),
            acknowledged: 0,
            during: 0,
            network: Arc::default(),
            crashes: 0,
            doomed: None,
        };
        if self.bounds.crashes == 0 {
            return vec![world];
        }
        let members = (0..self.bounds.members).map(|member| Doomed::Member(MemberId(member)));
        let doomed = members.chain([Doomed::Changer]);
        doomed.map(|doomed| World { doomed: Some(doomed), ..world.clone() }).collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.going_on(world, actions);
        if world.requests < self.bounds.requests.len() {
            actions.push(Action::Request);
        }
        if world.acks.len() < usize::from(self.bounds.writes) {
            actions.push(Action::Submit);
        }
        match world.doomed {
            Some(Doomed::Member(member)) => {
                let pending = world.member(member).pending.len();
                actions.extend((0..=pending).map(|keep| Action::Crash(member, keep)));
            }
            Some(Doomed::Changer) => {
                actions.extend((0..=world.changer_pending.len()).map(Action::CrashChanger));
            }
            None => {}
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
        properties::of(&self.bounds)
    }
}
