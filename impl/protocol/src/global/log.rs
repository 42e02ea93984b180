//! A region's log, replayed: what its entries mean. The model's disk, a test's disk, and a small region's.

use crate::global::lineage::Lineage;
use crate::global::message::{Handover, ShippedRecord};
use crate::global::note::LostSuffix;
use crate::global::region::{RegionEntry, RegionSurvived, Turned};
use crate::ids::{GlobalEpoch, Lsn, RegionId};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A lost suffix, with its records.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Snapshot<R> {
    /// Its name.
    pub suffix: LostSuffix,
    /// All of it.
    pub records: Vec<ShippedRecord<R>>,
}

/// What a region's durable entries amount to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RegionLog<R> {
    /// The branches that lead to the log's end.
    pub lineage: Lineage,
    /// Ascending.
    pub records: Vec<ShippedRecord<R>>,
    /// The fence in force.
    pub handover: Option<Handover>,
    /// Promotions below are refused.
    pub renounced: GlobalEpoch,
    /// How the region came to its lineage; `None`: by the creation.
    pub turned: Option<Turned>,
    /// Lost suffixes, oldest first.
    pub snapshots: Vec<Snapshot<R>>,
}

impl<R: Clone> RegionLog<R> {
    /// An empty log of a global database whose first primary is `primary`.
    pub fn created(primary: RegionId) -> Self {
        RegionLog {
            lineage: Lineage::created(primary),
            records: Vec::new(),
            handover: None,
            renounced: GlobalEpoch::default(),
            turned: None,
            snapshots: Vec::new(),
        }
    }

    /// The last LSN; zero when the log is empty.
    pub fn last(&self) -> Lsn {
        self.records.last().map_or(Lsn::ZERO, |record| record.lsn)
    }

    /// Applies an entry that became durable.
    pub fn apply(&mut self, entry: &RegionEntry<R>) {
        match entry {
            RegionEntry::Records(records) => self.records.extend(records.iter().cloned()),
            RegionEntry::Fenced(handover) => self.handover = Some(*handover),
            RegionEntry::Renounced(global_epoch) => self.renounced = *global_epoch,
            RegionEntry::Promoted { lineage, planned } => {
                self.lineage = lineage.clone();
                self.handover = None;
                self.turned = Some(Turned::Promoted { planned: *planned });
            }
            RegionEntry::Adopted { lineage, kept, lost } => {
                let at = self.records.partition_point(|record| record.lsn <= *kept);
                let records = self.records.split_off(at);
                if let Some(suffix) = *lost {
                    self.snapshots.push(Snapshot { suffix, records });
                }
                let handed_on = self.handover.take().map_or(GlobalEpoch::default(), |handover| handover.to);
                self.renounced = self.renounced.max(self.lineage.tip().global_epoch).max(handed_on);
                self.lineage = lineage.clone();
                self.turned = Some(Turned::Adopted { kept: *kept, lost: *lost });
            }
        }
    }

    /// Up to `limit` records of `(after, through]`.
    pub fn read(&self, after: Lsn, through: Lsn, limit: usize) -> Vec<ShippedRecord<R>> {
        let wanted = self.records.iter().filter(|record| after < record.lsn && record.lsn <= through);
        wanted.take(limit).cloned().collect()
    }

    /// What a restarting region is told.
    pub fn survived(&self) -> RegionSurvived {
        RegionSurvived {
            lineage: Some(self.lineage.clone()),
            last: self.last(),
            handover: self.handover,
            renounced: self.renounced,
            turned: self.turned,
        }
    }
}
