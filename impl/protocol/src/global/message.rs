//! What travels between regions and controllers.
//!
//! | message | from → to | answered by |
//! |---|---|---|
//! | `Fence` | controller → primary | `Fenced` once durable, or `Refused` |
//! | `Renounce` | controller → target of a switchover | `Renounced` once durable, or `Refused` |
//! | `Promote` | controller → region | `Promoted` once durable, or `Refused` |
//! | `Ship` | primary → secondary | `Arrived` once durable, or `Refused` |
//! | `Ask` | controller → region | `Standing` |
//!
//! Every message may be lost, duplicated, delayed or reordered.

use crate::global::lineage::{Branch, Lineage};
use crate::global::region::RegionRole;
use crate::ids::{ControllerId, GlobalEpoch, Lsn, RegionId};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Who sends or receives a message of a global database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GlobalParty {
    /// A region.
    Region(RegionId),
    /// A controller.
    Controller(ControllerId),
}

impl fmt::Debug for GlobalParty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GlobalParty::Region(id) => write!(f, "{id}"),
            GlobalParty::Controller(id) => write!(f, "{id}"),
        }
    }
}

impl fmt::Display for GlobalParty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A record on its way between regions, or in a region's log. `R` is the volume's business.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ShippedRecord<R> {
    /// Its position: the same in every region.
    pub lsn: Lsn,
    /// What it is.
    pub record: R,
}

/// To whom a fenced primary's authority goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Handover {
    /// The successor's global epoch.
    pub to: GlobalEpoch,
    /// The successor. For a fence that came by hearsay, the region's own number, which no other region may claim.
    pub target: RegionId,
    /// Whether this is a switchover's: then `target` is the only region that may go on, exactly after `final_lsn`.
    pub planned: bool,
    /// The last LSN that the fenced region will ever acknowledge under its grant.
    pub final_lsn: Lsn,
}

/// At what a region is to be promoted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Plan {
    /// Exactly at the final LSN of the primary of `parent`, which is fenced.
    Planned {
        /// The global epoch that ends.
        parent: GlobalEpoch,
        /// Its final LSN.
        at: Lsn,
    },
    /// At whatever has arrived.
    Unplanned,
}

/// Why a region does not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum GlobalRefusal {
    /// A higher global epoch is known here.
    StaleGlobalEpoch {
        /// The highest known.
        known: GlobalEpoch,
        /// The branch at the end of the log here.
        tip: Branch,
    },
    /// This region is not the primary.
    NotPrimary {
        /// The branch at the end of its log: who is, as far as it knows.
        tip: Branch,
    },
    /// The primary's authority was handed on before; that must be finished or undone first.
    HandedOn {
        /// To whom.
        handover: Handover,
        /// The branch that ends.
        tip: Branch,
    },
    /// The log has not arrived where the promotion is to be.
    NotDrained {
        /// Where it ends.
        last: Lsn,
    },
    /// The log does not end in the branch that was to be continued.
    NotParent {
        /// The branch at its end.
        tip: Branch,
    },
    /// The region was promoted already: it's too late to renounce.
    AlreadyPrimary {
        /// Its branch.
        tip: Branch,
    },
    /// No further branch fits into the lineage.
    LineageFull,
}

/// What travels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum GlobalMessage<R> {
    /// "Acknowledge nothing beyond what you have: `target` takes over in `global_epoch`."
    Fence {
        /// The successor's.
        global_epoch: GlobalEpoch,
        /// The successor.
        target: RegionId,
        /// Whether for a switchover.
        planned: bool,
    },
    /// The fence is durable.
    Fenced {
        /// Which fence.
        global_epoch: GlobalEpoch,
        /// The branch that ends.
        parent: GlobalEpoch,
        /// The last LSN that was or will be acknowledged in it.
        final_lsn: Lsn,
    },
    /// "Accept no promotion below `global_epoch` any more."
    Renounce {
        /// The new lower bound.
        global_epoch: GlobalEpoch,
    },
    /// The promise is durable.
    Renounced {
        /// The new lower bound, as it was asked for.
        global_epoch: GlobalEpoch,
    },
    /// "Become primary."
    Promote {
        /// In which epoch.
        global_epoch: GlobalEpoch,
        /// At what.
        plan: Plan,
    },
    /// The promotion is durable.
    Promoted {
        /// The branch that it began.
        branch: Branch,
    },
    /// Part of the primary's log, all of it durable there. May be without records: then it carries the lineage only.
    Ship {
        /// The log's lineage.
        lineage: Lineage,
        /// The records follow this LSN.
        above: Lsn,
        /// Ascending, without gaps in the log.
        records: Vec<ShippedRecord<R>>,
    },
    /// "My log is durable through `through`."
    Arrived {
        /// The branch at its end.
        global_epoch: GlobalEpoch,
        /// Inclusive.
        through: Lsn,
    },
    /// "Where do you stand?" So that a failover can choose, and say what it would lose.
    Ask,
    /// Where a region stands, as its durable log has it. Nothing is promised by it.
    Standing {
        /// The branch at the end of its log.
        tip: Branch,
        /// Its role.
        role: RegionRole,
        /// The last LSN that is known to be durable there.
        durable: Lsn,
        /// How far each other region is, as a primary has heard.
        arrived: BTreeMap<RegionId, Lsn>,
    },
    /// A request was refused.
    Refused {
        /// The request's global epoch.
        global_epoch: GlobalEpoch,
        /// The reason, with what the sender must learn.
        refusal: GlobalRefusal,
    },
}
