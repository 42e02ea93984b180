//! What a region keeps of its own in its volume, and what follows from it: who may write.
//!
//! A volume has volume LSNs of its own; a *global LSN* is the position of a mini-transaction in the lineage. In the
//! region that wrote it the two go together by the branch's *grant*: the volume LSN at which the branch began. A
//! secondary stores the same mini-transactions at other volume LSNs, each together with the [`Position`] that it has
//! reached.
//!
//! Invariant: while an adoption is under way, or the region is fenced, or another one is primary, no process but the
//! region's itself writes the volume (R-GLOBAL-10).

use crate::global::lineage::{Branch, Lineage};
use crate::global::message::Handover;
use crate::global::note::LostSuffix;
use crate::global::region::{RegionEntry, RegionSurvived, Turned};
use crate::ids::{GlobalEpoch, Lsn, RegionId};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// How far a secondary is: everything through `lsn` of the lineage is in its volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Position {
    /// The branch at the end of its log then.
    pub global_epoch: GlobalEpoch,
    /// A global LSN.
    pub lsn: Lsn,
}

/// A lost suffix, and where in its region's own volume it lies: in `(above, through]`, by volume LSNs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct KeptSuffix {
    /// Its name.
    pub suffix: LostSuffix,
    /// Exclusive.
    pub above: Lsn,
    /// Inclusive.
    pub through: Lsn,
}

/// A newer lineage is being taken over: pages that the lost suffix changed are written as they were before it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Adopting {
    /// The lineage.
    pub lineage: Lineage,
    /// The last global LSN that stays.
    pub kept: Lsn,
    /// What goes.
    pub lost: KeptSuffix,
}

/// Where a branch whose primary this region was began: after a global LSN, and after a volume LSN.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct OwnBranch {
    /// The branch point.
    pub after: Lsn,
    /// The last volume LSN before it.
    pub grant: Lsn,
}

/// Most of a region's own branches that are remembered where they follow each other. What a secondary lacks of an older one
/// can't be shipped.
pub const OWN_BRANCHES_MAX: usize = 64;

/// What a region keeps of its own, but for its [`Position`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RegionState {
    /// Which region this is.
    pub region: RegionId,
    /// The branches that lead to the end of its log.
    pub lineage: Lineage,
    /// The volume LSN after which the records of the lineage's last branch lie, where this region is its primary.
    pub grant: Lsn,
    /// The fence in force.
    pub handover: Option<Handover>,
    /// Promotions below are refused.
    pub renounced: GlobalEpoch,
    /// How it came to its lineage; `None`: by the creation.
    pub turned: Option<Turned>,
    /// The adoption that is under way.
    pub adopting: Option<Adopting>,
    /// The last lost suffix.
    pub lost: Option<KeptSuffix>,
    /// The region's own branches directly before the last one, where that is its own, too: oldest first. A switchover that
    /// was undone, or two operations that chose one target, make them. A secondary may lack records of any of them.
    pub earlier: Vec<OwnBranch>,
}

/// Why a region's instances may not write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum MayNotWrite {
    /// Another region is primary.
    Secondary(Branch),
    /// The grant has ended.
    Fenced(Handover),
    /// A newer lineage is being taken over.
    Adopting(Branch),
}

impl RegionState {
    /// Of `region`, when the global database was just created.
    pub fn created(region: RegionId, primary: RegionId) -> RegionState {
        RegionState {
            region,
            lineage: Lineage::created(primary),
            grant: Lsn::ZERO,
            handover: None,
            renounced: GlobalEpoch::default(),
            turned: None,
            adopting: None,
            lost: None,
            earlier: Vec::new(),
        }
    }

    /// R-GLOBAL-10: whether instances of this region may write its volume.
    ///
    /// # Errors
    /// They may not, and why.
    pub fn grants(&self) -> Result<(), MayNotWrite> {
        let tip = self.lineage.tip();
        match (&self.adopting, self.handover) {
            (Some(adopting), _) => Err(MayNotWrite::Adopting(adopting.lineage.tip())),
            _ if tip.primary != self.region => Err(MayNotWrite::Secondary(tip)),
            (None, Some(handover)) => Err(MayNotWrite::Fenced(handover)),
            (None, None) => Ok(()),
        }
    }

    /// The region's own branches at the end of its log, the last one first.
    fn own_branches(&self) -> impl Iterator<Item = OwnBranch> {
        let last = OwnBranch { after: self.lineage.tip().after, grant: self.grant };
        core::iter::once(last).chain(self.earlier.iter().rev().copied())
    }

    /// The global LSN of what lies at `lsn` in the volume of the region that is the last branch's primary. What the region wrote
    /// of its own between two branches of its own lies where the later one begins.
    pub fn global_of(&self, lsn: Lsn) -> Lsn {
        let (mut end, mut global) = (u64::MAX, 0);
        for OwnBranch { after, grant } in self.own_branches() {
            global = (after.0 + lsn.0.saturating_sub(grant.0)).min(end);
            if lsn > grant {
                break;
            }
            end = after.0;
        }
        Lsn(global)
    }

    /// Where in the volume of the last branch's primary a global LSN lies. `None`: before the branches that are its own.
    pub fn volume_of(&self, global: Lsn) -> Option<Lsn> {
        let branch = self.own_branches().find(|branch| branch.after <= global)?;
        Some(Lsn(branch.grant.0 + (global.0 - branch.after.0)))
    }

    /// The volume LSN after which the region's own branches at the end of its log lie.
    pub fn first_grant(&self) -> Lsn {
        self.earlier.first().map_or(self.grant, |branch| branch.grant)
    }

    /// What a restarting [`Region`](super::Region) is told. A primary's log ends where it can be read to end.
    pub fn survived(&self, position: Position) -> RegionSurvived {
        let tip = self.lineage.tip();
        let last = match self.handover {
            Some(handover) => handover.final_lsn,
            None if tip.primary == self.region => tip.after,
            None => position.lsn,
        };
        let (lineage, handover) = (Some(self.lineage.clone()), self.handover);
        RegionSurvived { lineage, last, handover, renounced: self.renounced, turned: self.turned }
    }

    /// Takes over what an entry of the region's log says. `at`: the last volume LSN before the entry; `lost`: where the
    /// lost suffix of an adoption lies.
    pub fn apply<R>(&mut self, entry: &RegionEntry<R>, at: Lsn, lost: Option<KeptSuffix>) {
        match entry {
            RegionEntry::Records(_) => {}
            RegionEntry::Fenced(handover) => self.handover = Some(*handover),
            RegionEntry::Renounced(global_epoch) => self.renounced = *global_epoch,
            RegionEntry::Promoted { lineage, planned } => {
                let before = self.lineage.tip();
                if before.primary == self.region && lineage.tip().primary == self.region {
                    self.earlier.push(OwnBranch { after: before.after, grant: self.grant });
                    let too_many = self.earlier.len().saturating_sub(OWN_BRANCHES_MAX);
                    self.earlier.drain(..too_many);
                }
                self.lineage = lineage.clone();
                self.grant = at;
                self.handover = None;
                self.turned = Some(Turned::Promoted { planned: *planned });
            }
            RegionEntry::Adopted { lineage, kept, lost: named } => {
                let handed_on = self.handover.take().map_or(GlobalEpoch::default(), |handover| handover.to);
                self.renounced = self.renounced.max(self.lineage.tip().global_epoch).max(handed_on);
                self.lineage = lineage.clone();
                self.grant = Lsn::ZERO;
                self.earlier.clear();
                self.turned = Some(Turned::Adopted { kept: *kept, lost: *named });
                self.adopting = None;
                self.lost = lost.or(self.lost);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ControllerId;

    const FIRST: RegionId = RegionId(1);
    const SECOND: RegionId = RegionId(2);

    fn promoted(state: &mut RegionState, primary: RegionId, number: u64, after: u64, at: u64) {
        let global_epoch = GlobalEpoch { number, controller: ControllerId(1) };
        let lineage = state.lineage.with(Branch { global_epoch, primary, after: Lsn(after) });
        state.apply(&RegionEntry::<()>::Promoted { lineage, planned: true }, Lsn(at), None);
    }

    #[test]
    fn only_the_primary_that_is_not_fenced_grants_writing() {
        let mut state = RegionState::created(FIRST, FIRST);
        assert_eq!(state.grants(), Ok(()));
        assert!(matches!(RegionState::created(SECOND, FIRST).grants(), Err(MayNotWrite::Secondary(_))));
        let to = GlobalEpoch { number: 2, controller: ControllerId(1) };
        let handover = Handover { to, target: SECOND, planned: true, final_lsn: Lsn(7) };
        state.apply(&RegionEntry::<()>::Fenced(handover), Lsn(7), None);
        assert_eq!(state.grants(), Err(MayNotWrite::Fenced(handover)));
        assert_eq!(state.survived(Position::default()).last, Lsn(7));
        promoted(&mut state, FIRST, 3, 7, 9);
        assert_eq!(state.grants(), Ok(()), "an undone switchover");
        let lost = KeptSuffix {
            suffix: LostSuffix { region: FIRST, branch: to, after: Lsn(7), through: Lsn(8) },
            above: Lsn(9),
            through: Lsn(10),
        };
        state.adopting = Some(Adopting { lineage: state.lineage.clone(), kept: Lsn(7), lost });
        assert!(matches!(state.grants(), Err(MayNotWrite::Adopting(_))));
    }

    #[test]
    fn what_a_secondary_lacks_of_an_earlier_branch_of_its_own_is_found() {
        let mut state = RegionState::created(FIRST, FIRST);
        promoted(&mut state, SECOND, 2, 100, 0);
        let lineage = state.lineage.clone();
        state.apply(&RegionEntry::<()>::Adopted { lineage, kept: Lsn(100), lost: None }, Lsn(40), None);
        promoted(&mut state, FIRST, 3, 150, 90);
        assert_eq!((state.first_grant(), state.earlier.len()), (Lsn(90), 0), "a branch of another region was before");
        // It was fenced at 160, and goes on: at 101 to 103 of its volume is what it wrote of its own.
        promoted(&mut state, FIRST, 4, 160, 103);
        assert_eq!(state.first_grant(), Lsn(90));
        assert_eq!(
            [149, 150, 155, 160, 161].map(|global| state.volume_of(Lsn(global)).map(|lsn| lsn.0)),
            [None, Some(90), Some(95), Some(103), Some(104)]
        );
        assert_eq!([90, 95, 100, 101, 103, 104].map(|lsn| state.global_of(Lsn(lsn)).0), [150, 155, 160, 160, 160, 161]);
        for number in 5..200 {
            promoted(&mut state, FIRST, number, 160 + number, 103 + number);
        }
        assert_eq!(state.earlier.len(), OWN_BRANCHES_MAX);
        let lineage = state.lineage.clone();
        state.apply(&RegionEntry::<()>::Adopted { lineage, kept: Lsn(100), lost: None }, Lsn(40), None);
        assert!(state.earlier.is_empty());
    }

    #[test]
    fn global_positions_ascend_over_branches_whatever_the_volumes_own_are() {
        let mut state = RegionState::created(FIRST, FIRST);
        assert_eq!((state.global_of(Lsn(5)), state.volume_of(Lsn(5))), (Lsn(5), Some(Lsn(5))));
        promoted(&mut state, SECOND, 2, 100, 40);
        assert_eq!((state.global_of(Lsn(43)), state.volume_of(Lsn(103))), (Lsn(103), Some(Lsn(43))));
        assert_eq!(state.volume_of(Lsn(99)), None, "of the branch before");
        assert_eq!(state.survived(Position { lsn: Lsn(90), ..Position::default() }).last, Lsn(90));
    }
}
