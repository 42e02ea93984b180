//! Carrying out faults.

use super::coverage::Counted;
use super::faults::{Fault, Lose, Target};
use super::node::Ailments;
use super::payload::mix;
use super::settings::COPIES;
use super::world::{Event, World};
use auriga_protocol::message::Install;
use auriga_protocol::segment::Outcome;
use auriga_protocol::{Input, Membership, Note, Party, PgId, QuorumSet, SegmentId, WriterId};

/// Members of a group that may be forgetful when one more becomes so.
pub(super) const FORGETFUL_MAX: usize = 1;

impl World<'_> {
    /// The fault with this number strikes.
    pub(super) fn strike(&mut self, index: usize) {
        let fault = self.plan.faults[index].what.clone();
        self.tell(|_| format!("FAULT {fault:?}"));
        let now = self.now;
        match fault {
            Fault::Crash { target, keep, down } => self.crash(target, keep, down),
            Fault::Amnesia { group, member, lose, down } => self.amnesia(group, member, lose, down),
            Fault::Copy { target } => {
                for node in self.targets(target) {
                    self.segments[node].copy = Some(self.segments[node].disk.copied());
                }
            }
            Fault::Restore { group, member, down } => self.restore(group, member, down),
            Fault::Remake { group, member, down } => self.remake(group, member, down),
            Fault::Freeze { target, time } => self.ail(target, |ails| ails.frozen_until = now + time),
            Fault::SlowDisk { target, factor, time } => self.ail(target, |ails| {
                ails.slow_until = now + time;
                ails.slow_factor = factor;
            }),
            Fault::DiskFull { target, time } => {
                self.ail(target, |ails| ails.full_until = now + time);
                for node in self.targets(target) {
                    self.step_segment(node, Input::Done(Outcome::DiskFull(true)));
                    self.queue.push(now + time, Event::SpaceReturns { node });
                }
            }
            Fault::RotPage { group, member, nth } => self.rot_page(group, member, nth),
            Fault::LosePages { group, member, down } => self.lose_pages(group, member, down),
            Fault::Cut { target, inward, outward, time } => self.ail(target, |ails| {
                if inward {
                    ails.deaf_until = now + time;
                }
                if outward {
                    ails.mute_until = now + time;
                }
            }),
            Fault::CutWriter { from, time } => {
                let newest = WriterId(self.writers.len() as u64);
                self.ail(from, |ails| {
                    ails.cut_from = newest;
                    ails.cut_until = now + time;
                });
            }
            Fault::SlowNetwork { target, extra, time } => self.ail(target, |ails| {
                ails.far_until = now + time;
                ails.far_extra = extra;
            }),
            Fault::Lossy { permille, time } => self.lossy = (now + time, permille),
            Fault::CrashWriter { down } => {
                self.crash_writer(self.writers.len() - 1);
                self.queue.push(now + down, Event::StartWriter);
            }
            Fault::FreezeWriter { time, successor } => {
                if let Some(newest) = self.writers.last_mut() {
                    newest.frozen_until = now + time;
                    newest.woke = true;
                }
                self.queue.push(now + successor, Event::StartWriter);
            }
            Fault::Compete { writers } => (0..writers).for_each(|_| self.start_writer()),
            Fault::CrashInRecovery { first, second } => {
                self.crash_writer(self.writers.len() - 1);
                self.queue.push(now + first, Event::StartWriter);
                self.queue.push(now + first + second, Event::CrashNewestWriter);
                self.queue.push(now + first + second + 1, Event::StartWriter);
            }
        }
    }

    fn targets(&self, target: Target) -> Vec<usize> {
        let strikes = |node: usize| {
            let SegmentId { pg: PgId(group), member, .. } = self.segments[node].id;
            let member = member.0 % COPIES;
            match target {
                Target::Segment(pg, of) => group == pg && member == of,
                Target::Node(of) => member == of,
                Target::Zone(zone) => member / 2 == zone,
            }
        };
        (0..self.segments.len()).filter(|node| strikes(*node)).collect()
    }

    fn ail(&mut self, target: Target, mut change: impl FnMut(&mut Ailments)) {
        for node in self.targets(target) {
            change(&mut self.segments[node].ails);
        }
    }

    fn crash(&mut self, target: Target, keep: usize, down: u64) {
        if matches!(target, Target::Zone(_)) {
            self.coverage.count(Counted::ZoneLost);
        }
        for node in self.targets(target) {
            self.stop_segment(node, keep, down);
        }
    }

    /// Stops a segment and says when it starts again.
    pub(super) fn stop_segment(&mut self, node: usize, keep: usize, down: u64) {
        let it = &mut self.segments[node];
        if it.machine.is_none() {
            return;
        }
        let pending = it.disk.pending().len();
        let id = it.id;
        let mut installed: Vec<_> = it.disk.pending_installs(keep).cloned().collect();
        it.stop(keep);
        let life = it.life;
        // The segment tells of the last one when it starts again. What the others annulled is gone as well.
        installed.pop();
        for Install { volume_epoch, truncations, .. } in installed {
            self.note(Party::Segment(id), Note::Installed { segment: id, volume_epoch, truncations });
        }
        if pending > keep {
            self.coverage.count(if keep > 0 { Counted::PendingSplit } else { Counted::PendingDropped });
        }
        self.queue.push(self.now + down, Event::Restart { node, life });
    }

    /// The group's members, as they know it themselves.
    fn group_of(&self, group: u16) -> Vec<usize> {
        if self.plan.settings.replace_every == 0 {
            let first = usize::from(group) * usize::from(COPIES);
            return (first..first + usize::from(COPIES)).collect();
        }
        let members = self.step_of(PgId(group)).members();
        let is_one = |node: &usize| {
            let id = self.segments[*node].id;
            id.pg == PgId(group) && members.contains(id.member) && !self.segments[*node].left
        };
        (0..self.segments.len()).filter(is_one).collect()
    }

    /// The member's node, or that of who took its place.
    fn node_of(&self, group: u16, member: u8) -> Option<usize> {
        let nodes = self.group_of(group);
        let node = nodes.iter().copied().find(|node| self.segments[*node].id.member.0 % COPIES == member);
        node.filter(|node| !self.segments[*node].dead)
    }

    /// How many members of a group do not count now, this one left out.
    pub(super) fn forgetful(&self, group: u16, node: usize) -> usize {
        let others = self.group_of(group).into_iter().filter(|other| *other != node);
        others.filter(|other| self.segments[*other].forgetful()).count()
    }

    /// Two members of a group at a time may forget: what rejoining promises (`specs/rules.md`).
    fn amnesia(&mut self, group: u16, member: u8, lose: Lose, down: u64) {
        let Some(node) = self.node_of(group, member) else { return self.coverage.count(Counted::FaultSkipped) };
        if self.forgetful(group, node) >= FORGETFUL_MAX {
            return self.coverage.count(Counted::FaultSkipped);
        }
        self.stop_segment(node, usize::MAX, down);
        self.coverage.count(Counted::JournalDamaged);
        let disk = &mut self.segments[node].disk;
        let entries = disk.durable().len();
        disk.damage_journal(|index| match lose {
            Lose::All => true,
            Lose::Last(count) => index + count >= entries,
            Lose::Some(salt) => mix(salt ^ index as u64).is_multiple_of(2),
        });
    }

    /// An operator makes a member again, on an empty disk; under the same promise.
    fn remake(&mut self, group: u16, member: u8, down: u64) {
        let Some(node) = self.node_of(group, member) else { return self.coverage.count(Counted::FaultSkipped) };
        let others = self.forgetful(group, node);
        let founding = others + 1 == usize::from(COPIES) && !std::mem::replace(&mut self.remade_early, true);
        if (others >= FORGETFUL_MAX && !founding) || !self.pages_may_go(group, node) {
            return self.coverage.count(Counted::FaultSkipped);
        }
        if founding {
            self.coverage.count(Counted::RemadeInFounding);
        }
        self.stop_segment(node, usize::MAX, down);
        self.coverage.count(Counted::SegmentRemade);
        let id = self.segments[node].id;
        if self.joined.contains_key(&id) {
            let membership = self.step_of(id.pg).next;
            self.segments[node].disk.remake_joining(membership);
        } else {
            self.segments[node].disk.remake(Membership::initial(QuorumSet::aurora()));
        }
    }

    /// An operator puts an old copy of a member's disk back; under the same promise. Only a copy of an earlier life than
    /// the last one is promised to be found out.
    fn restore(&mut self, group: u16, member: u8, down: u64) {
        let Some(node) = self.node_of(group, member) else { return self.coverage.count(Counted::FaultSkipped) };
        let it = &self.segments[node];
        let copy = it.copy.clone().filter(|copy| it.copy_is_of_an_earlier_life() && !copy.unsound());
        let others = self.forgetful(group, node) >= FORGETFUL_MAX;
        let Some(copy) = copy.filter(|_| !others && self.pages_may_go(group, node)) else {
            return self.coverage.count(Counted::FaultSkipped);
        };
        self.stop_segment(node, usize::MAX, down);
        self.segments[node].disk.put_back(copy);
        self.segments[node].went_back = true;
        self.coverage.count(Counted::WentBack);
    }

    pub(super) fn pages_may_go(&self, group: u16, node: usize) -> bool {
        let others = self.group_of(group).into_iter().filter(|other| *other != node);
        others.filter(|other| self.segments[*other].unsound()).count() < 2
    }

    fn rot_page(&mut self, group: u16, member: u8, nth: usize) {
        let Some(node) = self.node_of(group, member) else { return self.coverage.count(Counted::FaultSkipped) };
        if !self.pages_may_go(group, node) || self.segments[node].disk.rot_page(nth).is_none() {
            return self.coverage.count(Counted::FaultSkipped);
        }
        self.coverage.count(Counted::PageRotted);
    }

    fn lose_pages(&mut self, group: u16, member: u8, down: u64) {
        let Some(node) = self.node_of(group, member) else { return self.coverage.count(Counted::FaultSkipped) };
        if !self.pages_may_go(group, node) {
            return self.coverage.count(Counted::FaultSkipped);
        }
        self.stop_segment(node, usize::MAX, down);
        self.segments[node].disk.lose_pages();
        self.coverage.count(Counted::PagesLost);
    }

    /// Ends every trouble, and starts what is down.
    pub(super) fn heal_everything(&mut self) {
        self.healed = true;
        for node in 0..self.segments.len() {
            let full = self.segments[node].ails.full_until > self.now;
            self.segments[node].ails = Ailments::default();
            if self.segments[node].dead || self.segments[node].left {
                continue;
            }
            if self.segments[node].machine.is_none() {
                self.boot_segment(node);
            } else if full {
                self.step_segment(node, Input::Done(Outcome::DiskFull(false)));
            }
        }
    }
}
