//! Changing who is in a group: the writer is who does it (R-MEMBER, decision 0081).
//!
//! ```text
//!            replace / undo           on a write quorum of both sides          the new member is hydrated
//!   Settled ───────────────► Step on its way ──────────────────────► Settled ───────────────────────────► Step on its way ─► …
//!                                                            (replacing: hydrating)                        (completed)
//! ```
//!
//! It keeps nothing on disk. A step is durable where segments have installed it. The next writer hears of every step
//! that may be in force, installs the newest of them as its own, together with its volume epoch, and goes on with it;
//! one that nobody of a read quorum had was never in force, and is dropped. So what a volume epoch is for records it is
//! for steps: between two writers nothing else decides.
//!
//! While a step is not known to be in force, everything is counted by both its sides (R-MEMBER-5).

use super::group::{Group, Member};
use super::{Out, Writer, WriterRole};
use crate::defect::Defect;
use crate::ids::{MemberId, MembershipEpoch, Party, PgId, SegmentId, VolumeEpoch};
use crate::membership::{MembershipNote, ReplaceRefused, Step};
use crate::message::{Message, Standing};
use crate::note::Note;
use crate::quorum::{MemberSet, Membership, QuorumSet};
use crate::record::Payload;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// A member that was not heard for so many retries is away.
const ANSWERS_WITHIN: u8 = 10;

impl<P: Payload> Group<P> {
    /// A segment says which step it has. What the configuration says gives way to what any segment says (R-MEMBER-6).
    pub fn hear_membership(&mut self, told: &Step) {
        let own = &self.membership;
        let is_news = (told.volume_epoch, told.epochs()) > (own.volume_epoch, own.epochs());
        if is_news || self.is_hint {
            self.is_hint = false;
            self.adopt(told.clone());
        }
    }

    fn adopt(&mut self, step: Step) {
        self.membership = step;
        let members = self.membership.members();
        self.members.retain(|member, _| members.contains(*member));
        for member in members.iter() {
            self.members.entry(member).or_default();
        }
    }

    /// The newest step that was heard of becomes the writer's own (R-MEMBER-7).
    pub fn carry_membership(&mut self, volume_epoch: VolumeEpoch) {
        self.membership.volume_epoch = volume_epoch;
        self.carried = self.membership.epochs();
    }

    /// Whether the group's members were never changed: then there is nothing to tell anybody.
    pub fn is_as_founded(&self) -> bool {
        self.membership.is_settled() && self.membership.next.is_first()
    }

    /// Members that answer.
    fn answering(&self) -> MemberSet {
        let answers = |(_, member): &(&MemberId, &Member)| member.installed && member.unheard.0 < ANSWERS_WITHIN;
        self.members.iter().filter(answers).map(|(id, _)| *id).collect()
    }

    /// A retry: who does not answer it is away.
    pub fn count_silence(&mut self) {
        self.members.values_mut().for_each(|member| member.unheard.0 = member.unheard.0.saturating_add(1));
    }

    /// R-MEMBER-11: whether a replacement leaves the group able to write, and able to lose as many members as before.
    fn bears(&self, next: &Membership) -> bool {
        let (now, here) = (&self.membership.next.quorum, self.answering());
        let bears_one = |quorum: &QuorumSet| here.iter().all(|one| quorum.write_met(here.without(one)));
        next.quorum.write_met(here) && (bears_one(&next.quorum) || !bears_one(now))
    }

    /// Members that have the step, or a later one.
    fn have_step(&self) -> MemberSet {
        let epochs = self.membership.epochs();
        let have = |(_, member): &(&MemberId, &Member)| member.installed && member.epochs >= epochs;
        self.members.iter().filter(have).map(|(id, _)| *id).collect()
    }

    /// Who is to be told the step: who does not have it, who joins and is not hydrated, and who has left.
    fn untold(&self) -> MemberSet {
        let joining = self.membership.next.joining();
        let hydrated: MemberSet = self.members.iter().filter(|(_, known)| known.counts).map(|(id, _)| *id).collect();
        let lacking = self.membership.members().minus(self.have_step());
        lacking.or(joining.minus(hydrated)).or(self.leaving)
    }
}

impl<P: Payload> Writer<P> {
    /// Who is in each group, in order of the groups; from the recovery's end on as this writer has installed it.
    pub fn memberships(&self) -> impl Iterator<Item = (PgId, &Step)> {
        self.groups.iter().map(|group| (group.pg, &group.membership))
    }

    /// Begins to replace `old` by a new member at `home`. Returns its number, which no other member ever had or will have
    /// (R-MEMBER-8).
    pub(super) fn replace(
        &mut self,
        pg: PgId,
        old: MemberId,
        home: SocketAddr,
        out: &mut Out<P>,
    ) -> Result<MemberId, ReplaceRefused> {
        let defects = self.config.defects;
        let mut settled = self.settled(pg)?.clone();
        if defects.has(Defect::MemberIdUsedAgain) {
            settled.next_member = Membership::initial(settled.quorum.clone()).next_member;
        }
        let (next, new) = settled.replacing(old, home, defects)?;
        if !self.group(pg).bears(&next) {
            return Err(ReplaceRefused::TooFewAnswer);
        }
        self.begin_step(pg, next, out);
        Ok(new)
    }

    /// Takes the replacement by `new` back.
    pub(super) fn undo_replace(&mut self, pg: PgId, new: MemberId, out: &mut Out<P>) -> Result<(), ReplaceRefused> {
        let next = self.settled(pg)?.undoing(new, self.config.defects)?;
        self.begin_step(pg, next, out);
        Ok(())
    }

    /// The membership in force, where no step is on its way.
    fn settled(&self, pg: PgId) -> Result<&Membership, ReplaceRefused> {
        if self.role != WriterRole::Open {
            return Err(ReplaceRefused::NotOpen);
        }
        let step = &self.groups.get(usize::from(pg.0)).ok_or(ReplaceRefused::NoSuchGroup)?.membership;
        if step.is_settled() { Ok(&step.next) } else { Err(ReplaceRefused::Busy) }
    }

    /// From now on everything is counted by both sides.
    fn begin_step(&mut self, pg: PgId, next: Membership, out: &mut Out<P>) {
        let volume_epoch = self.volume_epoch;
        let group = self.group(pg);
        let before = group.membership.next.clone();
        group.adopt(Step { volume_epoch, before, next });
        self.tell_group(pg, out);
    }

    /// R-MEMBER-1: the step counts once a write quorum of both quorum sets has it. R-MEMBER-3: a replacement is completed
    /// once its new member is hydrated.
    pub(super) fn settle(&mut self, pg: PgId, out: &mut Out<P>) {
        if self.role != WriterRole::Open {
            return;
        }
        let (defects, volume, volume_epoch) = (self.config.defects, self.id.volume, self.volume_epoch);
        let group = self.group(pg);
        if !group.membership.is_settled() {
            let (step, have) = (&group.membership, group.have_step());
            let before = step.before.quorum.write_met(have) || defects.has(Defect::MembershipOnNewQuorumOnly);
            if !before || !step.next.quorum.write_met(have) {
                return;
            }
            let membership = step.next.clone();
            group.leaving = group.leaving.or(step.before.members().minus(membership.members()));
            group.adopt(Step::settled(volume_epoch, membership.clone()));
            out.note(Note::Membership(MembershipNote::Changed { volume, pg, volume_epoch, membership }));
            self.tell_group(pg, out);
        }
        let group = self.group(pg);
        let early = defects.has(Defect::MemberCountedBeforeHydration);
        let hydrated = |new: &MemberId| early || group.members.get(new).is_some_and(|member| member.counts);
        let done = group.membership.next.joining().iter().find(hydrated);
        if let Some(next) = done.and_then(|new| group.membership.next.completing(new, defects)) {
            self.begin_step(pg, next, out);
        }
    }

    /// The writer opens: says by what it counts, where that was ever changed, and goes on with what is under way.
    pub(super) fn settle_all(&mut self, out: &mut Out<P>) {
        let (volume, volume_epoch) = (self.id.volume, self.volume_epoch);
        for group in self.groups.iter().filter(|group| group.membership.is_settled() && !group.is_as_founded()) {
            let (pg, membership) = (group.pg, group.membership.next.clone());
            out.note(Note::Membership(MembershipNote::Changed { volume, pg, volume_epoch, membership }));
        }
        for index in 0..self.groups.len() {
            self.settle(self.groups[index].pg, out);
        }
    }

    /// A member has the step, or a later one.
    pub(super) fn on_membership_installed(
        &mut self,
        from: SegmentId,
        epochs: (MembershipEpoch, MembershipEpoch),
        counts: bool,
        standing: &Standing,
        out: &mut Out<P>,
    ) {
        if !self.hear_losses(from, standing) || !matches!(self.role, WriterRole::Installing | WriterRole::Open) {
            return;
        }
        let group = self.group(from.pg);
        let own = group.membership.epochs();
        if let Some(member) = group.members.get_mut(&from.member).filter(|_| epochs <= own) {
            member.unheard.0 = 0;
            member.epochs = member.epochs.max(epochs);
            member.counts = counts;
        }
        self.settle(from.pg, out);
    }

    /// A candidate is told of a later membership. An open writer is told only of its own: what it sent before a step is
    /// sent again.
    pub(super) fn on_stale_membership(&mut self, from: SegmentId, current: &Step, out: &mut Out<P>) {
        if matches!(self.role, WriterRole::Sealing | WriterRole::Collecting) {
            let told = current.is_sound() && current.volume_epoch < self.volume_epoch;
            let group = self.group(from.pg);
            if told && current.epochs() > group.membership.epochs() {
                group.hear_membership(current);
                self.send_seals(out);
            }
            return;
        }
        let group = self.group(from.pg);
        group.leaving = group.leaving.without(from.member);
        if current.epochs() <= group.membership.epochs() && group.members.contains_key(&from.member) {
            self.send_missing(from.pg, from.member, out);
        }
    }

    /// The step, again, to those who may not have it.
    pub(super) fn send_memberships(&mut self, out: &mut Out<P>) {
        for index in 0..self.groups.len() {
            if !self.groups[index].is_as_founded() {
                self.send_membership(self.groups[index].pg, self.groups[index].untold(), out);
            }
        }
    }

    /// The step, to all members and all readers.
    fn tell_group(&mut self, pg: PgId, out: &mut Out<P>) {
        let group = self.group(pg);
        let (to, membership) = (group.membership.members().or(group.leaving), group.membership.clone());
        self.send_membership(pg, to, out);
        let (readers, volume_epoch) = (self.all_readers(), self.volume_epoch);
        if !readers.is_empty() {
            out.multicast(readers, Message::Membership { pg, volume_epoch, membership });
        }
    }

    fn send_membership(&self, pg: PgId, to: MemberSet, out: &mut Out<P>) {
        let to: Vec<Party> = to.iter().map(|member| self.segment(pg, member)).collect();
        if !to.is_empty() {
            let (volume_epoch, membership) = (self.volume_epoch, self.groups[usize::from(pg.0)].membership.clone());
            out.multicast(to, Message::Membership { pg, volume_epoch, membership });
        }
    }

    /// Tells a reader who is in each group, where that was ever changed.
    pub(super) fn tell_members(&self, to: Party, out: &mut Out<P>) {
        let volume_epoch = self.volume_epoch;
        for group in self.groups.iter().filter(|group| !group.is_as_founded()) {
            let (pg, membership) = (group.pg, group.membership.clone());
            out.send(to, Message::Membership { pg, volume_epoch, membership });
        }
    }
}
