//! What can happen next.

use super::Volume;
use crate::world::World;
use auriga_protocol::writer::WriterRole;
use auriga_protocol::{Lsn, MemberId, Message, PageId, Party, VolumeEpoch, WriterId};
use std::collections::BTreeSet;

/// A step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The next writer starts. Where every segment has durably promised a volume epoch above its first, that one is
    /// hopeless: it goes on from the refusal that names this epoch.
    Start(Option<VolumeEpoch>),
    /// The message at this place in the network arrives.
    Deliver(usize),
    /// It arrives, and will arrive again.
    Duplicate(usize),
    /// The read question at this place in the network reaches this member instead.
    Misroute(usize, MemberId),
    /// The oldest pending append of this node is durable.
    Fsync(usize),
    /// This node crashes; this many pending appends survive.
    Crash(usize, usize),
    /// All nodes of this zone crash; of each, this many pending appends survive.
    CrashZone(usize, Vec<usize>),
    /// This node crashes, and its journal is found damaged: this many of its entries are left.
    Lose(usize, usize),
    /// This node's journal is cleaned: what was replaced goes, and what is left stands in another order.
    Clean(usize),
    /// A user of this writer submits the next mini-transaction.
    Submit(usize),
    /// A user of this writer reads a page.
    Read(usize, PageId),
    /// This writer's retry timer fires.
    Retry(usize),
    /// This writer waits for no more promises than it has.
    Linger(usize),
    /// This node's gossip timer fires, and its question reaches this member.
    Gossip(usize, MemberId),
    /// This node's coalesce timer fires.
    Coalesce(usize),
    /// The oldest task of this node ends.
    Task(usize),
    /// A reader starts; the one before it crashes.
    StartReader,
    /// The reader's users go on to this read point.
    Advance(Lsn),
    /// The reader's users need nothing below the read point any more.
    Release,
    /// A user of the reader reads a page as of this read point.
    ReadAt(PageId, Lsn),
    /// The reader's retry timer fires.
    ReaderRetry,
    /// The reader's lease with this writer ends.
    Lease(usize),
    /// This writer waits for no reader of the writer before any more.
    Grace(usize),
}

impl Volume {
    pub(super) fn network_steps(&self, world: &World, steps: &mut Vec<Step>) {
        for (at, flying) in world.network.iter().enumerate() {
            steps.push(Step::Deliver(at));
            if let (Message::ReadPage { .. }, Party::Segment(asked)) = (&flying.envelope.message, flying.envelope.to) {
                let others = (0..self.shape.members).map(MemberId).filter(|member| *member != asked.member);
                steps.extend(others.map(|member| Step::Misroute(at, member)));
            }
            if world.left.duplicates > 0 {
                steps.push(Step::Duplicate(at));
            }
        }
    }

    pub(super) fn node_steps(&self, world: &World, steps: &mut Vec<Step>) {
        let nothing = self.scale.reductions.crash_keeps_nothing;
        for (index, node) in world.nodes.iter().enumerate() {
            let member = node.machine.id().member;
            if !node.pending.is_empty() {
                steps.push(Step::Fsync(index));
            }
            if !node.tasks.is_empty() {
                steps.push(Step::Task(index));
            }
            if world.left.crashes > 0 && world.may_crash(index) {
                let most = if nothing { 0 } else { node.pending.len() };
                steps.extend((0..=most).map(|keep| Step::Crash(index, keep)));
            }
            if world.left.losses > 0 && world.may_lose(index) {
                // The first two entries made the segment: a node that lost them is a new one.
                steps.extend((2..node.journal().len().max(2)).map(|first| Step::Lose(index, first)));
            }
            if world.left.cleans > 0 && world.may_crash(index) && node.can_be_cleaned() {
                steps.push(Step::Clean(index));
            }
            if world.left.coalesces > 0 {
                steps.push(Step::Coalesce(index));
            }
            if world.left.gossips > 0 {
                let peers = (0..self.shape.members).map(MemberId).filter(|peer| *peer != member);
                steps.extend(peers.map(|peer| Step::Gossip(index, peer)));
            }
        }
        if world.left.zone_crashes > 0 {
            let doomed = |zone: &usize| self.shape.nodes_of(*zone).all(|index| world.may_crash(index));
            for zone in (0..self.shape.zones.len()).filter(doomed) {
                let pending = self.shape.nodes_of(zone).map(|index| world.nodes[index].pending.len());
                let most: Vec<usize> = pending.map(|pending| if nothing { 0 } else { pending }).collect();
                steps.extend(choices(&most).into_iter().map(|keep| Step::CrashZone(zone, keep)));
            }
        }
    }

    pub(super) fn writer_steps(&self, world: &World, steps: &mut Vec<Step>) {
        if world.left.writers > 0 {
            let promised: BTreeSet<VolumeEpoch> = world.nodes.iter().map(|node| node.kept.promised).collect();
            let first = VolumeEpoch::NONE.next(WriterId(world.writers.len() as u64 + 1));
            let hopeless = self.scale.reductions.drop_spent && promised.iter().all(|promised| *promised > first);
            if hopeless {
                steps.extend(promised.into_iter().map(|epoch| Step::Start(Some(epoch))));
            } else {
                steps.push(Step::Start(None));
            }
        }
        let newest_open = world.writers.iter().rposition(|writer| writer.role() == WriterRole::Open);
        for (index, writer) in world.writers.iter().enumerate() {
            if writer.role() == WriterRole::Open && world.left.submits > 0 {
                steps.push(Step::Submit(index));
            }
            // A writer that was overtaken and does not know it may still read: what it sees is old, and the
            // control plane that promoted the new one has cut its users off. Where operations are judged, users ask the
            // newest open writer.
            let may_read = !self.scale.linearizable || newest_open == Some(index);
            if writer.role() == WriterRole::Open && world.left.reads > 0 && may_read {
                let pages: BTreeSet<PageId> = self.scale.workload.iter().flatten().copied().collect();
                steps.extend(pages.into_iter().map(|page| Step::Read(index, page)));
            }
            if writer.role() != WriterRole::Fenced && world.left.retries > 0 {
                steps.push(Step::Retry(index));
            }
            if writer.is_lingering() {
                steps.push(Step::Linger(index));
            }
        }
    }
}

/// Every choice of one number up to each of `most`.
fn choices(most: &[usize]) -> Vec<Vec<usize>> {
    most.iter().fold(vec![Vec::new()], |chosen, most| {
        let longer = |choice: Vec<usize>| (0..=*most).map(move |keep| [choice.clone(), vec![keep]].concat());
        chosen.into_iter().flat_map(longer).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_all_of_them() {
        assert_eq!(choices(&[1, 0]), [[0, 0], [1, 0]]);
        assert_eq!(choices(&[2, 2]).len(), 9);
    }
}
