//! What a controller is asked, answers, makes durable and is configured with.

use crate::defect::Defects;
use crate::global::lineage::Branch;
use crate::global::message::Handover;
use crate::ids::{GlobalEpoch, Lsn, Micros, RegionId};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a controller is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Operation {
    /// Planned: move the role to `target` without loss.
    Switchover {
        /// The new primary.
        target: RegionId,
    },
    /// Unplanned: move the role to `target`, losing what has not arrived there.
    Failover {
        /// The new primary.
        target: RegionId,
    },
    /// Take a switchover back that has not been completed: `primary` goes on.
    Undo {
        /// The region whose authority was handed on.
        primary: RegionId,
    },
}

/// What a controller makes durable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ControllerEntry {
    /// The epoch is used for this, and nothing else.
    Intent {
        /// The operation that the epoch is used for.
        operation: Operation,
        /// In which epoch.
        global_epoch: GlobalEpoch,
        /// The primary to fence, as far as is known.
        old: RegionId,
    },
    /// The last intent is done with.
    Done {
        /// The highest epoch known.
        known: GlobalEpoch,
        /// The primary known.
        primary: RegionId,
    },
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// The role has moved.
    Moved {
        /// The branch that began.
        branch: Branch,
        /// The old primary's last LSN, if it was fenced: `branch.after` up to here is the lost suffix.
        fenced_at: Option<Lsn>,
    },
    /// The region asked for is the primary already.
    AlreadyPrimary(Branch),
    /// The primary's authority was handed on to another: finish that switchover, undo it, or fail over.
    HandedOn(Handover),
    /// There is no switchover to undo, or it is complete.
    NothingToUndo,
    /// Another controller's newer operation has overtaken this one, time and again.
    Overtaken(GlobalEpoch),
}

/// What the user is answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ControllerAnswer {
    /// The operation ended.
    Ended(Outcome),
    /// Another operation is under way.
    Busy,
    /// The target is no region of this global database.
    UnknownRegion,
}

/// A controller's timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ControllerTimer {
    /// Send the last command again.
    Retry,
    /// A failover has waited long enough for the old primary.
    FenceDeadline,
}

/// A controller's fixed configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ControllerConfig {
    /// Every region of the global database.
    pub regions: Vec<RegionId>,
    /// The primary when the global database was created.
    pub first_primary: RegionId,
    /// How often to send a command again.
    pub retry_every: Micros,
    /// How long a failover waits for the old primary's fence.
    pub fence_within: Micros,
    /// How many epochs one operation may try when others overtake it, at least 1.
    pub attempts_max: u8,
    /// Planted defects.
    pub defects: Defects,
}

impl ControllerConfig {
    /// The usual limits.
    pub fn new(regions: Vec<RegionId>, first_primary: RegionId) -> Self {
        ControllerConfig {
            regions,
            first_primary,
            retry_every: Micros(200_000),
            fence_within: Micros(3_000_000),
            attempts_max: 8,
            defects: Defects::NONE,
        }
    }
}
