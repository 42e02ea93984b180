//! Replacing members all the time, in some runs: of members that are there and of members whose process and disk are lost
//! for good, to homes where a process is and to homes where none ever is, completed or taken back.
//!
//! A member that is lost for good counts among those that forgot, as long as it is a member.

use super::coverage::Counted;
use super::injure::FORGETFUL_MAX;
use super::node::{SegmentNode, VOLUME};
use super::world::{Event, World};
use auriga_protocol::identity::{Answers, Missing, joining};
use auriga_protocol::membership::{MembershipNote, Step};
use auriga_protocol::writer::{Request, WriterRole};
use auriga_protocol::{
    Charter, Held, Input, MemberId, Membership, Note, Party, PgId, QuorumSet, SegmentId, Token, WriterConfig,
};
use std::net::SocketAddr;

impl World<'_> {
    /// The newest step that any segment of the group knows.
    pub(super) fn step_of(&self, pg: PgId) -> Step {
        let of_group = self.segments.iter().filter(|node| node.id.pg == pg && !node.left);
        let known = of_group.filter_map(|node| node.machine.as_ref()).map(|machine| machine.membership_step());
        let newest = known.max_by_key(|step| (step.volume_epoch, step.epochs()));
        newest.cloned().unwrap_or_else(|| Step::first(Membership::initial(QuorumSet::aurora())))
    }

    /// What a new writer begins with. Half of them are told what processes said, and all where the first members are few.
    pub(super) fn config_with_hints(&mut self) -> WriterConfig {
        let mut config = self.writer_config.clone();
        if self.plan.settings.replace_every > 0 {
            let told = self.rng.bool();
            for pg in config.geometry.group_ids() {
                let membership = self.step_of(pg).next;
                let first = membership.members().iter().filter(|member| member.0 < 6).count();
                if told || first < 5 {
                    config.hints.push((pg, membership));
                }
            }
        }
        config
    }

    /// Something happens to the members of some group.
    pub(super) fn change_members(&mut self) {
        if self.healed {
            return;
        }
        let again = self.now + self.rng.u64(1..=2 * self.plan.settings.replace_every);
        self.queue.push(again, Event::ChangeMembers);
        self.adopt();
        let pg = PgId(self.rng.u16(..self.plan.settings.groups));
        let Some(writer) = self.open_writer() else { return };
        let step = self.step_of(pg);
        let joining: Vec<MemberId> = step.next.joining().iter().collect();
        match (joining.first(), self.rng.u8(..8)) {
            (Some(new), 0 | 1) => {
                self.coverage.count(Counted::Undone);
                self.ask(writer, Request::UndoReplace { pg, new: *new });
            }
            (Some(_), 2..=5) => {}
            (_, chance) => self.replace_one(writer, pg, &step, chance.is_multiple_of(2)),
        }
    }

    fn replace_one(&mut self, writer: usize, pg: PgId, step: &Step, loses: bool) {
        let base: Vec<MemberId> = step.next.arrangement().base.iter().collect();
        let old = base[self.rng.usize(..base.len())];
        let node = self.index(SegmentId { volume: VOLUME, pg, member: old });
        let may_lose = self.forgetful(pg.0, node) < FORGETFUL_MAX && self.pages_may_go(pg.0, node);
        if loses && may_lose && !self.segments[node].dead {
            self.coverage.count(Counted::LostForGood);
            self.stop_segment(node, usize::MAX, 0);
            self.segments[node].dead = true;
        }
        let stuck = self.rng.u8(..8) == 0;
        self.replace(writer, pg, old, stuck);
    }

    fn replace(&mut self, writer: usize, pg: PgId, old: MemberId, stuck: bool) {
        let home = SocketAddr::from(([127, 0, 0, 1], 1000 + self.homes.len() as u16));
        self.homes.push((home, !stuck));
        self.ask(writer, Request::Replace { pg, old, home });
    }

    fn ask(&mut self, writer: usize, request: Request<super::payload::Mark>) {
        let it = &mut self.writers[writer];
        let token = Token(it.next_token);
        it.next_token += 1;
        self.step_writer(writer, Input::Request { token, request });
    }

    fn open_writer(&self) -> Option<usize> {
        let open = |writer: &usize| {
            let it = &self.writers[*writer];
            it.frozen_until <= self.now && it.machine.as_ref().is_some_and(|it| it.role() == WriterRole::Open)
        };
        (0..self.writers.len()).rev().find(open)
    }

    /// Each process that is there asks all others what it should hold (R-MEMBER-9).
    fn adopt(&mut self) {
        let charter = Charter { label: 1, shape: self.writer_config.shape() };
        let mut answers = Answers::new();
        for machine in self.segments.iter().filter_map(|node| node.machine.as_ref()) {
            let (id, membership) = (machine.id(), machine.membership_step().clone());
            let held = Held { id, charter, membership, written: true };
            answers.entry(id.member).or_default().get_or_insert_default().push(held);
        }
        for (home, _) in self.homes.clone().into_iter().filter(|(_, is_up)| *is_up) {
            let own: Vec<Held> = Vec::new();
            for Missing { id, membership, .. } in joining(home, &own, &answers, self.segment_config.defects) {
                if !self.is_there(id) {
                    self.make(id, home, membership);
                }
            }
        }
    }

    fn make(&mut self, id: SegmentId, home: SocketAddr, membership: Membership) {
        let node = self.segments.len();
        self.segments.push(SegmentNode::joining(id, membership));
        self.joined.insert(id, node);
        self.note(Party::Segment(id), Note::Membership(MembershipNote::Made { segment: id, home }));
        self.boot_segment(node);
    }

    /// The segment's process deletes it.
    pub(super) fn retire(&mut self, node: usize) {
        self.segments[node].stop(usize::MAX);
        self.segments[node].left = true;
    }

    /// The end of every run: whoever is lost for good is replaced, and no replacement is left under way.
    pub(super) fn members_are_whole(&mut self, writer: usize) {
        if self.plan.settings.replace_every == 0 {
            return;
        }
        self.homes.iter_mut().for_each(|(_, is_up)| *is_up = true);
        let deadline = self.now + super::finale::PATIENCE;
        while self.failure.is_none() && self.writers[writer].in_the_running() && !self.mend(writer) {
            if self.now >= deadline {
                let steps: Vec<_> = (0..self.plan.settings.groups).map(|pg| self.step_of(PgId(pg))).collect();
                return self
                    .fail("I-PROGRESS", format!("nothing is wrong any more, and groups are not whole: {steps:?}"));
            }
            self.run_until(self.now + super::finale::LOOK_EVERY);
        }
    }

    /// Whether every group has six members that are there, as its writer knows it. Asks for what is missing.
    fn mend(&mut self, writer: usize) -> bool {
        self.adopt();
        let Some(machine) = &self.writers[writer].machine else { return false };
        let known: Vec<(PgId, Step)> = machine.memberships().map(|(pg, step)| (pg, step.clone())).collect();
        let mut whole = true;
        for (pg, step) in known {
            let replaced = |member: &MemberId| step.next.replacements.iter().any(|each| each.old == *member);
            let is_dead = |member: &MemberId| {
                let id = SegmentId { volume: VOLUME, pg, member: *member };
                self.is_there(id) && self.segments[self.index(id)].dead
            };
            let dead = step.next.members().iter().find(|member| is_dead(member) && !replaced(member));
            whole &= dead.is_none() && step.is_settled() && step.next.replacements.is_empty();
            if let Some(dead) = dead.filter(|_| step.is_settled() && step.next.replacements.len() < 2) {
                self.replace(writer, pg, dead, false);
            }
        }
        whole
    }
}
