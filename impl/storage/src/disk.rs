//! What a storage node needs of its disk. `auriga-store` is the real one.

use super::Stopped;
use auriga_net::admin::DiskStatus;
use auriga_page::Delta;
use auriga_protocol::segment::{Entry, Outcome, Survived, Task};
use auriga_protocol::{AppendId, Charter, Membership, SegmentId};
use std::sync::Arc;

/// Told by the disk, on a thread of its own, of what it has completed. Must not block.
pub trait DiskEvents: Send + Sync + 'static {
    /// Every append of the segment up to and including this one is durable.
    fn durable(&self, segment: SegmentId, append: AppendId);
    /// A task ended (or the disk has something to say of its own accord).
    fn task_done(&self, segment: SegmentId, outcome: Outcome<Delta>);
    /// Several tasks ended, in this order.
    fn tasks_done(&self, segment: SegmentId, outcomes: Vec<Outcome<Delta>>) {
        outcomes.into_iter().for_each(|outcome| self.task_done(segment, outcome));
    }
    /// The disk can't be relied on any more: the node must stop, for this reason.
    fn failed(&self, reason: Stopped);
}

/// A node's disk. Nothing here waits for the disk except [`Disk::create_segment`] and [`Disk::close`].
pub trait Disk: Send + Sync + 'static {
    /// From now on, tells `events`; nothing is told before. Called once, when every survivor is hosted.
    fn begin(&self, events: Arc<dyn DiskEvents>);
    /// Makes an empty segment of a volume that was made as `charter` says, durably; `joins`: of one that exists, so that it
    /// must rejoin before it counts, in every life until it has said so itself.
    ///
    /// # Errors
    /// When it isn't made, and why, for a person to read.
    fn create_segment(
        &self,
        id: SegmentId,
        membership: &Membership,
        charter: &Charter,
        joins: bool,
    ) -> Result<Survived<Delta>, String>;
    /// Starts an append to the segment's log; [`DiskEvents::durable`] follows.
    fn append(&self, segment: SegmentId, id: AppendId, entry: Entry<Delta>);
    /// Starts a task; [`DiskEvents::task_done`] follows. Tasks of one segment run one after another, in order.
    fn start(&self, segment: SegmentId, task: Task<Delta>);
    /// Numbers.
    fn status(&self) -> DiskStatus;
    /// Completes what was started, and lets go of the files.
    fn close(&self);
}

/// A disk as it was opened, with what survived on it.
pub struct Opened {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// Each segment that is there.
    pub survived: Vec<(SegmentId, Survived<Delta>)>,
}
