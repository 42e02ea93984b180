//! The observable facts of a global database.

use crate::global::lineage::Branch;
use crate::global::message::Handover;
use crate::ids::{GlobalEpoch, Lsn, RegionId};
use core::fmt;
use serde::{Deserialize, Serialize};

/// What a region had and its new lineage has not: `(after, through]` of the branch `branch`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct LostSuffix {
    /// Who had it.
    pub region: RegionId,
    /// The branch at the end of its log then.
    pub branch: GlobalEpoch,
    /// Exclusive.
    pub after: Lsn,
    /// Inclusive.
    pub through: Lsn,
}

impl fmt::Display for LostSuffix {
    /// The name of the snapshot that keeps it: `lost-r1-g1.0-4-6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lost-{}-{}-{}-{}", self.region, self.branch, self.after.next(), self.through)
    }
}

/// One observable fact of a global database.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum GlobalNote {
    /// A commit was acknowledged to the region's users.
    Committed {
        /// The region.
        region: RegionId,
        /// Under which grant.
        global_epoch: GlobalEpoch,
        /// The commit's position.
        lsn: Lsn,
    },
    /// A primary's fence was reported as durable.
    Fenced {
        /// The region.
        region: RegionId,
        /// The grant that ended.
        global_epoch: GlobalEpoch,
        /// To whom its authority goes.
        handover: Handover,
    },
    /// A promotion is durable.
    Promoted {
        /// The branch that it continues.
        parent: GlobalEpoch,
        /// The branch that it begins.
        branch: Branch,
        /// Whether at the exact end of the parent.
        planned: bool,
    },
    /// A secondary's log is durable this far.
    Arrived {
        /// The region.
        region: RegionId,
        /// The branch at the end of its log.
        global_epoch: GlobalEpoch,
        /// Inclusive.
        through: Lsn,
    },
    /// A region took over a newer lineage, durably.
    Adopted {
        /// The region.
        region: RegionId,
        /// The branch at the end of the new lineage.
        global_epoch: GlobalEpoch,
        /// Where its log ends now.
        kept: Lsn,
        /// What was cut off, and is kept as a snapshot.
        lost: Option<LostSuffix>,
    },
    /// A controller completed a failover.
    FailedOver {
        /// The new primary's branch.
        branch: Branch,
        /// The old primary's branch and its last LSN, if it could be fenced: then what is lost is known exactly.
        fenced_at: Option<(GlobalEpoch, Lsn)>,
    },
}
