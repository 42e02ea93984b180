//! What a region is asked, answers, makes durable and is configured with.

use crate::defect::Defects;
use crate::global::lineage::{Branch, Lineage};
use crate::global::message::{Handover, ShippedRecord};
use crate::global::note::LostSuffix;
use crate::ids::{GlobalEpoch, Lsn, Micros, RegionId};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a region makes durable, in order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RegionEntry<R> {
    /// Records, its own or shipped, in the branch at the end of the log.
    Records(Vec<ShippedRecord<R>>),
    /// The grant ends.
    Fenced(Handover),
    /// Promotions below are refused from now on.
    Renounced(GlobalEpoch),
    /// The region is the primary of the last branch of this lineage.
    Promoted {
        /// With the new branch.
        lineage: Lineage,
        /// Whether at the exact end of the branch before.
        planned: bool,
    },
    /// A newer lineage: what follows `kept` goes, and is kept as the snapshot `lost`, in one atomic step.
    Adopted {
        /// The new lineage.
        lineage: Lineage,
        /// The last LSN that stays.
        kept: Lsn,
        /// The suffix cut off, if any.
        lost: Option<LostSuffix>,
    },
}

/// How a region came to its lineage. After a restart it is told again: the crash may have come before it was told
/// first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Turned {
    /// It began the last branch.
    Promoted {
        /// Whether at the exact end of the branch before.
        planned: bool,
    },
    /// It took the lineage over.
    Adopted {
        /// The last LSN that stayed.
        kept: Lsn,
        /// The suffix cut off, if any.
        lost: Option<LostSuffix>,
    },
}

/// What survived of a region: its log, but for the records.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct RegionSurvived {
    /// `None`: nothing was ever written.
    pub lineage: Option<Lineage>,
    /// The last LSN.
    pub last: Lsn,
    /// The fence in force.
    pub handover: Option<Handover>,
    /// Promotions below are refused.
    pub renounced: GlobalEpoch,
    /// How it came to its lineage; `None`: by the creation.
    pub turned: Option<Turned>,
}

/// Work for the region's disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RegionTask {
    /// Read up to `limit` durable records of `(above, through]`. Ends as [`RegionOutcome`].
    ReadLog {
        /// Comes back.
        to: RegionId,
        /// Comes back: the log's last branch now.
        global_epoch: GlobalEpoch,
        /// Exclusive.
        above: Lsn,
        /// Inclusive.
        through: Lsn,
        /// At least 1.
        limit: usize,
    },
    /// Become the only one who writes the log, and say where it ends. Ends as [`RegionOutcome::TookOver`].
    TakeOver,
}

/// How a task ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RegionOutcome<R> {
    /// The log was read.
    LogRead {
        /// The region that the records go to.
        to: RegionId,
        /// The global epoch that they are shipped in.
        global_epoch: GlobalEpoch,
        /// The records follow this LSN.
        above: Lsn,
        /// Ascending.
        records: Vec<ShippedRecord<R>>,
    },
    /// No other process writes the log any more.
    TookOver {
        /// The last LSN that anybody has or will have acknowledged in it.
        end: Lsn,
    },
}

/// A region's timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RegionTimer {
    /// Ship to every other region what it lacks.
    Ship,
}

/// What the region's users ask.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RegionRequest<R> {
    /// Commit a record.
    Commit(R),
}

/// What they are answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RegionAnswer {
    /// Durable here, under a grant in force.
    Committed(Lsn),
    /// Not taken: the primary is elsewhere, as far as is known.
    NotPrimary(Branch),
    /// Not taken: the region's role is changing, or too much is waiting. Ask again.
    Busy,
    /// Taken, but the grant ended first: the new lineage may or may not have it.
    Unknown,
}

/// Where a region stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RegionRole {
    /// It has the grant: it acknowledges commits.
    Primary,
    /// Its grant has ended; it ships what it has.
    HandedOn,
    /// It takes the stream.
    Secondary,
}

/// A region's fixed configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RegionConfig {
    /// Every region of the global database.
    pub regions: Vec<RegionId>,
    /// The primary when the global database was created.
    pub first_primary: RegionId,
    /// How often to ship.
    pub ship_every: Micros,
    /// Most records in one message, at least 1.
    pub ship_records_max: usize,
    /// Most messages with records on their way to one region, at least 1. With 1, what has not arrived is sent again by
    /// each timer; with more, by the timer that finds no progress for [`RegionConfig::patience_rounds`].
    pub ship_window: usize,
    /// Timers without progress after which what is on its way counts as lost.
    pub patience_rounds: u8,
    /// Whether commits are another machine's: a primary then learns how far its log is durable by reading it.
    pub log_is_external: bool,
    /// Most commits that may wait for the disk at one time.
    pub waiting_max: usize,
    /// Planted defects.
    pub defects: Defects,
}

impl RegionConfig {
    /// The usual limits.
    pub fn new(regions: Vec<RegionId>, first_primary: RegionId) -> Self {
        RegionConfig {
            regions,
            first_primary,
            ship_every: Micros(50_000),
            ship_records_max: 1024,
            ship_window: 1,
            patience_rounds: 20,
            log_is_external: false,
            waiting_max: 4096,
            defects: Defects::NONE,
        }
    }
}
