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
//! Next: `membership/properties.rs`, `membership/scopes.rs`.

mod properties;
mod scopes;

pub use scopes::{Bounds, planted, scopes};

use crate::checking::Checkable;
use auriga_protocol::membership::{Changer, ChangerConfig, ChangerEntry, ChangerMessage, ChangerRequest, Step, admits};
use auriga_protocol::quorum::{MemberSet, Membership};
use auriga_protocol::{AppendId, Defects, Effect, Effects, Input, Machine, MemberId, MembershipEpoch, Micros, Token};
use stateright::{Model, Property};
use std::collections::BTreeSet;
use std::sync::Arc;

/// LSNs 0..8, as bits.
type Lsns = u8;

/// What travels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Message {
    /// Between the changer and a member: whose it is, what it says, and whether it comes from the member.
    Change(MemberId, ChangerMessage, bool),
    /// Writer to member.
    Write(MemberId, u8, MembershipEpoch),
    /// Member to writer: durable here.
    Acknowledge(MemberId, u8),
    /// Member to writer: your membership is old.
    Refused(Step),
}

impl Message {
    /// Of steps told to one member, and of refusals, only the newest stays in the network: older ones count as lost.
    fn replaces(&self, before: &Message) -> bool {
        match (self, before) {
            (Message::Refused(newer), Message::Refused(older)) => newer.is_after(older),
            (
                Message::Change(to, ChangerMessage::Install(_), false),
                Message::Change(also, ChangerMessage::Install(_), false),
            ) => to == also,
            _ => false,
        }
    }
}

/// What a member makes durable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Entry {
    /// A step.
    Step(Step),
    /// A record.
    Record(u8),
    /// What a read quorum had in this membership epoch.
    Hydrated(Lsns, MembershipEpoch),
}

/// A member's durable state, or what it believes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Held {
    /// The latest step.
    pub step: Step,
    /// LSNs.
    pub lsns: Lsns,
    /// Of a new member: hydrated.
    pub hydrated: bool,
}

impl Held {
    fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Step(step) => self.step = step.clone(),
            Entry::Record(lsn) => self.lsns |= 1 << lsn,
            Entry::Hydrated(lsns, _) => (self.lsns, self.hydrated) = (self.lsns | lsns, true),
        }
    }
}

/// A member and its disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Member {
    /// What is durable.
    pub disk: Held,
    /// What was appended since.
    pub pending: Vec<Entry>,
    /// The membership in which it was asked to hydrate.
    pub asked: Option<MembershipEpoch>,
}

impl Member {
    fn memory(&self) -> Held {
        let mut held = self.disk.clone();
        self.pending.iter().for_each(|entry| held.apply(entry));
        held
    }
}

/// A state of the world.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    /// A, B, …: base members first, then those that may replace them.
    pub members: Vec<Member>,
    /// The production machine.
    pub changer: Changer,
    changer_disk: Vec<ChangerEntry>,
    changer_pending: Vec<(AppendId, ChangerEntry)>,
    /// Requests made.
    pub requests: usize,
    /// The step that the writer knows.
    pub writer: Step,
    /// Who acknowledged each LSN.
    pub acks: Vec<MemberSet>,
    /// LSNs that users were told are durable.
    pub acknowledged: Lsns,
    /// LSNs acknowledged while a replacement was in force.
    pub during: Lsns,
    /// Everything that was ever sent.
    pub network: Arc<BTreeSet<Arc<Message>>>,
    /// Crashes so far.
    pub crashes: u8,
}

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
            }
            Action::CrashChanger(keep) => {
                next.crashes += 1;
                let kept: Vec<ChangerEntry> = next.changer_pending.drain(..).take(*keep).map(|(_, it)| it).collect();
                next.changer_disk.extend(kept);
                let mut effects = Effects::default();
                next.changer = Changer::boot(&self.config, (), next.changer_disk.clone(), Micros(0), &mut effects);
                next.act(effects);
            }
        }
        if self.bounds.crashes == 0 {
            next.fsync_all();
        }
        self.count(&mut next);
        (next != *world).then_some(next)
    }

    fn deliver(&self, world: &mut World, message: &Message) {
        match message.clone() {
            Message::Change(from, message, true) => world.step_changer(Input::Message { from, message }),
            Message::Change(to, ChangerMessage::Install(step), _) => {
                if step.is_after(&world.member(to).memory().step) {
                    world.member_mut(to).pending.push(Entry::Step(step));
                } else if step == world.member(to).disk.step {
                    world.tell_installed(to);
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

impl World {
    fn member(&self, member: MemberId) -> &Member {
        &self.members[usize::from(member.0)]
    }

    fn member_mut(&mut self, member: MemberId) -> &mut Member {
        &mut self.members[usize::from(member.0)]
    }

    /// What a member answers arrives at once: it only adds to what is counted, and what makes members slow is the delay
    /// of what they are sent.
    fn send(&mut self, message: Message) {
        match message {
            Message::Acknowledge(from, lsn) => {
                let acks = &mut self.acks[usize::from(lsn)];
                *acks = acks.with(from);
                return;
            }
            Message::Change(from, message, true) => return self.step_changer(Input::Message { from, message }),
            _ => {}
        }
        if !self.network.contains(&message) {
            let network = Arc::make_mut(&mut self.network);
            network.retain(|before| !message.replaces(before));
            network.insert(Arc::new(message));
        }
    }

    fn write(&mut self, lsn: u8) {
        let members = self.writer.before.quorum.members().or(self.writer.next.quorum.members());
        let epoch = self.writer.next.membership_epoch;
        members.iter().for_each(|member| self.send(Message::Write(member, lsn, epoch)));
    }

    fn tell_installed(&mut self, member: MemberId) {
        let epoch = self.member(member).disk.step.next.membership_epoch;
        self.send(Message::Change(member, ChangerMessage::Installed(epoch), true));
    }

    fn step_changer(&mut self, input: Input<Changer>) {
        let mut effects = Effects::default();
        self.changer.step(Micros(0), input, &mut effects);
        self.act(effects);
    }

    fn act(&mut self, mut effects: Effects<Changer>) {
        for effect in effects.drain() {
            match effect {
                Effect::Send { to, message } => self.send(Message::Change(to, message, false)),
                Effect::Multicast { to, message } => {
                    to.into_iter().for_each(|to| self.send(Message::Change(to, message.clone(), false)));
                }
                Effect::Append { id, entry } => self.changer_pending.push((id, entry)),
                Effect::Start(never) => match never {},
                Effect::SetTimer { .. } | Effect::Answer { .. } | Effect::Note(_) => {}
            }
        }
    }

    fn fsync(&mut self, member: MemberId) {
        let node = self.member_mut(member);
        let entry = node.pending.remove(0);
        node.disk.apply(&entry);
        match entry {
            Entry::Step(_) => self.tell_installed(member),
            Entry::Record(lsn) => self.send(Message::Acknowledge(member, lsn)),
            Entry::Hydrated(_, epoch) => self.send(Message::Change(member, ChangerMessage::Hydrated(epoch), true)),
        }
    }

    fn fsync_changer(&mut self) {
        let (append, entry) = self.changer_pending.remove(0);
        self.changer_disk.push(entry);
        self.step_changer(Input::Durable(append));
    }

    fn fsync_all(&mut self) {
        while !self.changer_pending.is_empty() {
            self.fsync_changer();
        }
        while let Some(index) = self.members.iter().position(|node| !node.pending.is_empty()) {
            self.fsync(MemberId(index as u8));
        }
    }
}

impl Model for MembershipModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let step = Step::settled(self.first());
        let mut effects = Effects::default();
        let changer = Changer::boot(&self.config, (), Vec::new(), Micros(0), &mut effects);
        let disk = Held { step: step.clone(), lsns: 0, hydrated: false };
        let member = Member { disk, pending: Vec::new(), asked: None };
        vec![World {
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
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.going_on(world, actions);
        if world.requests < self.bounds.requests.len() {
            actions.push(Action::Request);
        }
        if world.acks.len() < usize::from(self.bounds.writes) {
            actions.push(Action::Submit);
        }
        if world.crashes < self.bounds.crashes {
            for (index, node) in world.members.iter().enumerate() {
                actions.extend((0..=node.pending.len()).map(|keep| Action::Crash(MemberId(index as u8), keep)));
            }
            actions.extend((0..=world.changer_pending.len()).map(Action::CrashChanger));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        self.after(world, &action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(&self.bounds)
    }
}

impl Checkable for MembershipModel {
    fn line(&self, _: &World, action: &Action) -> String {
        let epochs = |step: &Step| format!("{}→{}", step.before.membership_epoch, step.next.membership_epoch);
        match action {
            Action::Request => String::from("the changer is asked"),
            Action::Submit => String::from("the writer writes the next LSN"),
            Action::Deliver(message) => match &**message {
                Message::Change(to, ChangerMessage::Install(step), _) => {
                    format!("changer → {to} Install {}", epochs(step))
                }
                Message::Change(to, ChangerMessage::Hydrate(m), _) => {
                    format!("changer → {to} Hydrate {}", m.membership_epoch)
                }
                Message::Change(from, message, _) => format!("{from} → changer {message:?}"),
                Message::Write(to, lsn, epoch) => format!("writer@{epoch} → {to} Write {}", lsn + 1),
                Message::Acknowledge(from, lsn) => format!("{from} → writer Acknowledge {}", lsn + 1),
                Message::Refused(step) => format!("a member → writer Refused: {} is known", epochs(step)),
            },
            Action::Hydrate(member, from) => format!("{member} hydrates from {from:?}"),
            Action::Fsync(member) => format!("{member} fsync"),
            Action::FsyncChanger => String::from("changer fsync"),
            Action::Crash(member, keep) => format!("{member} crashes, keeps {keep} of what was pending"),
            Action::CrashChanger(keep) => format!("the changer crashes, keeps {keep} of what was pending"),
        }
    }

    fn last_word(&self, world: &World) -> String {
        properties::last_word(self, world)
    }
}
