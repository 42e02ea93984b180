//! Branches and lineages: what "one history" means when a failover has made two.
//!
//! Each promotion starts a branch: from then on the log continues in the new global epoch. The branches that lead to a
//! log's end are its *lineage*. Two regions that were promoted from the same log share everything up to where their
//! lineages part, and nothing after it.
//!
//! Invariants: global epochs ascend strictly, branch points don't descend.

use crate::ids::{GlobalEpoch, Lsn, RegionId};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Most branches a lineage may have; a promotion that would need more is refused.
pub const LINEAGE_MAX: usize = 4096;

/// One promotion: in `global_epoch`, `primary` continues the log after `after`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Branch {
    /// In which epoch.
    pub global_epoch: GlobalEpoch,
    /// Who takes commits.
    pub primary: RegionId,
    /// The branch point: the last LSN taken over from the branch before.
    pub after: Lsn,
}

/// Every branch that leads to the end of a log, oldest first. Never empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Lineage(Vec<Branch>);

impl Lineage {
    /// Of a global database that was just created.
    pub fn created(primary: RegionId) -> Lineage {
        Lineage([Branch { global_epoch: GlobalEpoch::FIRST, primary, after: Lsn::ZERO }].into())
    }

    /// The branch at the end of the log.
    pub fn tip(&self) -> Branch {
        // The only constructor puts one in, and nothing takes one out.
        self.0[self.0.len() - 1]
    }

    /// The branches, oldest first.
    pub fn branches(&self) -> &[Branch] {
        &self.0
    }

    /// Whether no further branch fits.
    pub fn is_full(&self) -> bool {
        self.0.len() >= LINEAGE_MAX
    }

    /// Starts a branch. Branches that the log has not reached when the new one begins are no part of it: a secondary knows
    /// its primary's branch before it has the records that lead there.
    #[must_use]
    pub fn with(&self, branch: Branch) -> Lineage {
        let reached = self.0.iter().filter(|before| before.after <= branch.after);
        Lineage(reached.copied().chain([branch]).collect())
    }

    /// Whether branches ascend as they must. To be asked of a lineage that came from outside.
    pub fn is_sound(&self) -> bool {
        let ascends = |pair: &[Branch]| pair[0].global_epoch < pair[1].global_epoch && pair[0].after <= pair[1].after;
        !self.0.is_empty() && self.0.len() <= LINEAGE_MAX && self.0.windows(2).all(ascends)
    }

    /// How far a log of this lineage that ends at `last` is also part of `other`: beyond it, the two have different
    /// records, or only one has any.
    pub fn shared_through(&self, last: Lsn, other: &Lineage) -> Lsn {
        let shared = self.0.iter().zip(&other.0).take_while(|(ours, theirs)| ours == theirs).count();
        let parts = [self.0.get(shared), other.0.get(shared)];
        parts.into_iter().flatten().map(|branch| branch.after).fold(last, Lsn::min)
    }

    /// In which global epoch the record at `lsn` was written.
    pub fn written_in(&self, lsn: Lsn) -> GlobalEpoch {
        let branch = self.0.iter().rev().find(|branch| branch.after < lsn).unwrap_or(&self.0[0]);
        branch.global_epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ControllerId;

    fn branch(number: u64, controller: u64, primary: u16, after: u64) -> Branch {
        let global_epoch = GlobalEpoch { number, controller: ControllerId(controller) };
        Branch { global_epoch, primary: RegionId(primary), after: Lsn(after) }
    }

    #[test]
    fn two_failovers_from_one_log_share_what_both_took_over() {
        let created = Lineage::created(RegionId(1));
        let (early, late) = (created.with(branch(2, 1, 2, 3)), created.with(branch(2, 2, 3, 5)));
        assert_eq!(early.shared_through(Lsn(9), &late), Lsn(3));
        assert_eq!(late.shared_through(Lsn(9), &early), Lsn(3));
        assert_eq!(created.shared_through(Lsn(9), &late), Lsn(5));
        assert_eq!(created.shared_through(Lsn(4), &late), Lsn(4), "a log that ends early has nothing to part with");
        assert_eq!(late.written_in(Lsn(5)), GlobalEpoch::FIRST);
        assert_eq!(late.written_in(Lsn(6)), late.tip().global_epoch);
    }

    #[test]
    fn a_branch_that_was_not_reached_is_not_continued() {
        let created = Lineage::created(RegionId(1));
        let continued = created.with(branch(2, 1, 2, 3)).with(branch(3, 1, 3, 2));
        assert_eq!(continued, created.with(branch(3, 1, 3, 2)));
    }

    #[test]
    fn what_does_not_ascend_is_unsound() {
        let created = Lineage::created(RegionId(1));
        assert!(created.with(branch(2, 1, 2, 3)).is_sound());
        assert!(!created.with(branch(1, 0, 2, 3)).is_sound(), "one epoch can't have two primaries");
    }
}
