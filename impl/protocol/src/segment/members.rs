//! Who is in the segment's group: what a writer installs, and what peers tell each other (R-MEMBER).
//!
//! A segment keeps the newest step that it knows, both sides, and counts its peers by both. Steps are ordered by the
//! volume epoch of the writer that installed them last, then by their membership epochs: between two writers a step is
//! what a value is between two proposers of Paxos (R-MEMBER-7). A segment takes a step as it takes a write: of the
//! volume epoch that it has installed, while it has promised none above. An install brings its writer's step with it.
//!
//! Peers that know different steps tell each other the later one. That is no acknowledgement, and counts for nothing; it
//! says whom to ask.
//!
//! A member that is neither on the one side nor on the other of a settled membership, and whose number was given, has
//! left for good. It answers nothing any more but that, and its process deletes it (R-MEMBER-10).

use super::{Entry, Out, Reply, Segment, Task};
use crate::defect::Defect;
use crate::ids::{MembershipEpoch, Party, SegmentId, VolumeEpoch};
use crate::membership::{MembershipNote, Step};
use crate::message::{Install, Message, Refusal};
use crate::note::Note;
use crate::record::Payload;

impl<P: Payload> Segment<P> {
    /// Whether this member has left its group for good, as far as it knows.
    pub fn has_left(&self) -> bool {
        self.is_left_by(&self.membership)
    }

    fn is_left_by(&self, step: &Step) -> bool {
        step.is_settled() && step.next.has_left(self.id.member)
    }

    /// Takes up again what the journal says, in whichever order it says it.
    pub(super) fn replay_membership(&mut self, step: Step) {
        self.membership = step;
        self.raise_membership();
    }

    /// What an install brought, or left as it was, is of that install's volume epoch.
    pub(super) fn raise_membership(&mut self) {
        self.membership.volume_epoch = self.membership.volume_epoch.max(self.install.volume_epoch);
    }

    /// Whether `told` is newer than what is known here (R-MEMBER-7).
    fn is_news(&self, told: &Step) -> bool {
        let own = &self.membership;
        if self.config.defects.has(Defect::StepIgnoresVolumeEpoch) {
            return told.epochs() > own.epochs();
        }
        (told.volume_epoch, told.epochs()) > (own.volume_epoch, own.epochs())
    }

    fn differs(&self, told: &Step) -> bool {
        told.before != self.membership.before || told.next != self.membership.next
    }

    /// Makes the step the one that is known here. What it replaces is older, so no quorum can come of that any more.
    fn keep_membership(&mut self, step: Step, out: &mut Out<P>) {
        if self.differs(&step) {
            self.append(Entry::Step(step.clone()), out);
            self.told_left = crate::quorum::MemberSet::EMPTY;
        }
        self.membership = step;
        self.raise_membership();
    }

    /// An install of a newer volume epoch brings its writer's step, whatever is known here: if that were in force, or
    /// could still be, the writer would have heard of it (R-MEMBER-6).
    pub(super) fn take_membership_of(&mut self, install: &Install, step: Step, out: &mut Out<P>) {
        let ignores = self.config.defects.has(Defect::StepIgnoresVolumeEpoch) && !self.is_news(&step);
        if install.volume_epoch >= self.membership.volume_epoch && !ignores {
            self.keep_membership(step, out);
        }
    }

    /// Takes a writer's step, and answers when it is durable (R-MEMBER-1).
    pub(super) fn on_membership(&mut self, from: Party, volume_epoch: VolumeEpoch, step: Step, out: &mut Out<P>) {
        if let Err(refusal) = self.admit_write(volume_epoch, MembershipEpoch(u64::MAX)) {
            return out.send(from, Message::Refused(refusal));
        }
        if self.is_left_by(&step) {
            return self.leave(step, out);
        }
        if step.volume_epoch != volume_epoch {
            return;
        }
        if self.is_news(&step) {
            self.keep_membership(step, out);
        }
        let epochs = self.membership.epochs();
        self.answer(Reply::Membership { to: from, volume_epoch, epochs }, out);
    }

    pub(super) fn tell_membership(
        &self,
        to: Party,
        volume_epoch: VolumeEpoch,
        epochs: (MembershipEpoch, MembershipEpoch),
        out: &mut Out<P>,
    ) {
        let (counts, standing) = (self.counts(), self.standing.clone());
        out.send(to, Message::MembershipInstalled { volume_epoch, epochs, counts, standing });
    }

    /// A segment that forgot what it promised answers no writer, but learns whom to ask.
    pub(super) fn hear_of_membership(&mut self, message: &Message<P>, out: &mut Out<P>) {
        match message {
            Message::Membership { membership, .. } if self.is_left_by(membership) => {
                self.leave(membership.clone(), out);
            }
            Message::Membership { membership, .. } | Message::Install { membership, .. } => {
                self.learn_membership(membership.clone(), out);
            }
            _ => {}
        }
    }

    /// Takes over a step that a peer knows, if it is newer.
    pub(super) fn learn_membership(&mut self, told: Step, out: &mut Out<P>) {
        if self.differs(&told) && self.is_news(&told) && !self.is_left_by(&told) {
            self.keep_membership(told, out);
        }
    }

    /// Compares what both know, where a peer asks in a way in which it matters who is counted. Returns whether the
    /// question is to be answered: not if the asker must learn first.
    pub(super) fn agrees_on_members(&mut self, peer: SegmentId, message: &Message<P>, out: &mut Out<P>) -> bool {
        let told = match message {
            Message::GossipPull { membership, .. }
            | Message::LifeAsk { membership, .. }
            | Message::RejoinPull { membership, .. } => membership,
            _ => return true,
        };
        if !self.differs(told) {
            return true;
        }
        if self.is_news(told) {
            self.learn_membership(told.clone(), out);
            return true;
        }
        let current = self.membership.clone().into();
        out.send(self.peer(peer.member), Message::Refused(Refusal::StaleMembership { current }));
        false
    }

    /// A peer knows a later step. That this member has left is believed when a read quorum says so: one liar must not
    /// delete a segment.
    pub(super) fn on_stale_membership(&mut self, peer: SegmentId, current: Step, out: &mut Out<P>) {
        if !self.is_left_by(&current) {
            let news = self.differs(&current) && self.is_news(&current);
            self.learn_membership(current, out);
            if news {
                self.ask_to_rejoin(out);
            }
            return;
        }
        self.told_left = self.told_left.with(peer.member);
        if current.next.quorum.read_met(self.told_left) {
            self.leave(current, out);
        }
    }

    /// R-MEMBER-10: nothing is answered any more, and once that is durable everything is deleted.
    fn leave(&mut self, settled: Step, out: &mut Out<P>) {
        if self.config.defects.has(Defect::RetiredMemberAnswers) {
            return self.tell_of_leaving(out);
        }
        self.waiting.clear();
        let append = self.append(Entry::Step(settled.clone()), out);
        self.membership = settled;
        self.waiting.push((append, Reply::Left));
    }

    /// It is durable that this member has left.
    pub(super) fn retire(&self, out: &mut Out<P>) {
        self.tell_of_leaving(out);
        out.start(Task::Retire);
    }

    fn tell_of_leaving(&self, out: &mut Out<P>) {
        out.note(Note::Membership(MembershipNote::Left { segment: self.id }));
    }

    /// What a member that has left says to everybody.
    pub(super) fn refuse_as_left(&self, from: Party, message: &Message<P>, out: &mut Out<P>) {
        let refusal = Refusal::StaleMembership { current: self.membership.clone().into() };
        match message {
            Message::ReadPage { read, .. } | Message::LogPull { pull: read, .. } => {
                out.send(from, Message::ReadRefused { read: *read, refusal });
            }
            _ if matches!(from, Party::Writer(..)) || asks(message) => out.send(from, Message::Refused(refusal)),
            _ => {}
        }
    }

    /// Tells a segment that was a member, and asks as if it still were one.
    pub(super) fn tell_who_left(&self, from: Party, message: &Message<P>, out: &mut Out<P>) {
        let Party::Segment(peer) = from else { return };
        let of_ours = peer.volume == self.id.volume && peer.pg == self.id.pg;
        if of_ours && asks(message) && self.membership.is_settled() && self.membership.next.has_left(peer.member) {
            let current = self.membership.clone().into();
            out.send(from, Message::Refused(Refusal::StaleMembership { current }));
        }
    }
}

/// Whether a peer waits for an answer. A refusal is not answered, or two segments could go on refusing.
fn asks<P: Payload>(message: &Message<P>) -> bool {
    matches!(
        message,
        Message::GossipPull { .. }
            | Message::RejoinPull { .. }
            | Message::LifeAsk { .. }
            | Message::FoundPull { .. }
            | Message::HydratePull { .. }
    )
}
