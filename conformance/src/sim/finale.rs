//! How every run ends: all troubles are over, a new writer starts, and within bounded virtual time it must be open,
//! make something new durable, and read back every page with everything that was ever acknowledged.

use super::node::SegmentNode;
use super::world::World;
use auriga_protocol::SegmentId;
use std::collections::BTreeMap;

/// Longest time, in virtual microseconds, from the end of all troubles to each milestone.
pub(super) const PATIENCE: u64 = 20_000_000;
/// How often the finale looks, in virtual microseconds.
pub(super) const LOOK_EVERY: u64 = 5_000;

impl World<'_> {
    /// Runs the finale; what doesn't happen in time is a failure.
    pub fn finale(&mut self) {
        for writer in 0..self.writers.len() {
            self.writers[writer].frozen_until = 0;
            // A writer that has not opened yet could still fence the last writer, so its process ends here.
            if !self.writers[writer].open {
                self.crash_writer(writer);
            }
        }
        self.heal_everything();
        // A supervisor of instances starts another one in place of one that was fenced: a segment that was silent for
        // long may have promised more to a candidate that is gone. Each such promise fences one writer at most.
        for _ in 0..=self.segments.len() {
            self.start_writer();
            let writer = self.writers.len() - 1;
            self.everything_is_served(writer);
            if self.failure.is_some() || self.writers[writer].in_the_running() {
                return;
            }
            self.writers[writer].reads.clear();
            self.unread = 0;
        }
        self.fail("I-PROGRESS", "nothing is wrong any more, and writer after writer is fenced");
    }

    /// What must come to pass in time, unless the writer is fenced meanwhile.
    fn everything_is_served(&mut self, writer: usize) {
        self.wait_for(writer, "a writer opens", |world| world.writers[writer].open);
        self.count_losses(writer);
        self.submit_until_taken(writer);
        self.wait_for(writer, "a commit becomes durable", |world| {
            world.writers[writer].machine.as_ref().is_some_and(|it| it.vdl() == it.allocated())
        });
        self.read_back(writer);
        self.wait_for(writer, "every page is read", |world| world.unread == 0);
        self.members_are_whole(writer);
        // One that left its group while it was away may never hear of it: it counts for nothing.
        let members: Vec<_> = self.writers[writer].machine.iter().flat_map(|it| it.memberships()).collect();
        let members: BTreeMap<_, _> = members.into_iter().map(|(pg, step)| (pg, step.members())).collect();
        let is_member = |id: SegmentId| members.get(&id.pg).is_none_or(|members| members.contains(id.member));
        let ailing = |node: &&SegmentNode| {
            !node.dead && !node.left && is_member(node.id) && (node.forgetful() || node.unsound())
        };
        self.wait_for(writer, "every segment is whole again", |world| !world.segments.iter().any(|node| ailing(&node)));
        let statuses =
            self.segments.iter().filter(ailing).map(|node| node.machine.as_ref().map(|it| (it.id(), it.status())));
        if self.failure.is_some() {
            let statuses: Vec<_> = statuses.collect();
            self.tell(|_| format!("ailing: {statuses:?}"));
        }
    }

    pub(super) fn wait_for(&mut self, writer: usize, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = self.now + PATIENCE;
        while self.failure.is_none() && self.writers[writer].in_the_running() && !holds(self) {
            if self.now >= deadline {
                return self
                    .fail("I-PROGRESS", format!("nothing is wrong any more, but not within {PATIENCE} us: {what}"));
            }
            self.run_until(self.now + LOOK_EVERY);
        }
    }

    fn count_losses(&mut self, writer: usize) {
        let Some(machine) = self.writers[writer].machine.as_ref().filter(|_| self.writers[writer].open) else { return };
        let lost = self.judge.lost(machine.volume_epoch());
        if self.failure.is_none() && !lost.is_empty() {
            self.fail("I-KEPT", format!("acknowledged mini-transactions are gone: {lost:?}"));
        }
    }

    fn submit_until_taken(&mut self, writer: usize) {
        if self.failure.is_none() && self.writers[writer].open {
            (0..3).for_each(|_| self.submit(writer));
            self.flush(writer);
        }
    }

    fn read_back(&mut self, writer: usize) {
        if self.failure.is_some() || !self.writers[writer].open {
            return;
        }
        let pages: Vec<_> = self.judge.changed_pages().collect();
        for chunk in pages.chunks(4) {
            self.unread += chunk.len();
            chunk.iter().for_each(|page| self.read(writer, *page, true));
            self.wait_for(writer, "every page is read", |world| world.unread == 0);
        }
    }
}
