//! Members, their disks, the network, and what a machine's step does to them.

use auriga_protocol::membership::{Changer, ChangerEntry, ChangerMessage, Step};
use auriga_protocol::quorum::MemberSet;
use auriga_protocol::{AppendId, Effect, Effects, Input, Machine, MemberId, MembershipEpoch, Micros};
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
#[expect(clippy::large_enum_variant, reason = "a model has few entries")]
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
    pub(super) fn apply(&mut self, entry: &Entry) {
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
    pub(super) fn memory(&self) -> Held {
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
    pub(super) changer_disk: Vec<ChangerEntry>,
    pub(super) changer_pending: Vec<(AppendId, ChangerEntry)>,
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
    /// Who may crash: only its disk lets appends wait.
    pub doomed: Option<Doomed>,
}

/// Who may crash, guessed at the start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Doomed {
    /// This member.
    Member(MemberId),
    /// The changer.
    Changer,
}

impl World {
    pub(super) fn member(&self, member: MemberId) -> &Member {
        &self.members[usize::from(member.0)]
    }

    pub(super) fn member_mut(&mut self, member: MemberId) -> &mut Member {
        &mut self.members[usize::from(member.0)]
    }

    /// What a member answers arrives at once: it only adds to what is counted, and what makes members slow is the delay
    /// of what they are sent.
    pub(super) fn send(&mut self, message: Message) {
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

    pub(super) fn write(&mut self, lsn: u8) {
        let members = self.writer.before.quorum.members().or(self.writer.next.quorum.members());
        let epoch = self.writer.next.membership_epoch;
        members.iter().for_each(|member| self.send(Message::Write(member, lsn, epoch)));
    }

    pub(super) fn tell_installed(&mut self, member: MemberId, epoch: MembershipEpoch) {
        self.send(Message::Change(member, ChangerMessage::Installed(epoch), true));
    }

    pub(super) fn step_changer(&mut self, input: Input<Changer>) {
        let mut effects = Effects::default();
        self.changer.step(Micros(0), input, &mut effects);
        self.act(effects);
    }

    pub(super) fn act(&mut self, mut effects: Effects<Changer>) {
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

    pub(super) fn fsync(&mut self, member: MemberId) {
        let node = self.member_mut(member);
        let entry = node.pending.remove(0);
        node.disk.apply(&entry);
        match entry {
            Entry::Step(step) => self.tell_installed(member, step.next.membership_epoch),
            Entry::Record(lsn) => self.send(Message::Acknowledge(member, lsn)),
            Entry::Hydrated(_, epoch) => self.send(Message::Change(member, ChangerMessage::Hydrated(epoch), true)),
        }
    }

    pub(super) fn fsync_changer(&mut self) {
        let (append, entry) = self.changer_pending.remove(0);
        self.changer_disk.push(entry);
        self.step_changer(Input::Durable(append));
    }

    /// Completes the pending appends of every disk but that of the party that may still crash.
    pub(super) fn fsync_the_prompt(&mut self) {
        while self.doomed != Some(Doomed::Changer) && !self.changer_pending.is_empty() {
            self.fsync_changer();
        }
        let prompt = |world: &World, index: usize| world.doomed != Some(Doomed::Member(MemberId(index as u8)));
        let waits = |world: &World, index: &usize| prompt(world, *index) && !world.members[*index].pending.is_empty();
        while let Some(index) = (0..self.members.len()).find(|index| waits(self, index)) {
            self.fsync(MemberId(index as u8));
        }
        if self.doomed != Some(Doomed::Changer) && !self.changer_pending.is_empty() {
            self.fsync_the_prompt();
        }
    }
}
