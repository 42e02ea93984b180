//! Judges the notes of a global database by the rules R-GLOBAL: the same code in the model, in the simulation, and over a
//! real trace.
//!
//! What is promised when a failover has left an old primary unreached is said in terms of lineages (decision 0030):
//!
//! - a global epoch has one primary and one branch point, and only that primary acknowledges in it, above that point
//!   (R-GLOBAL-2);
//! - a planned promotion lies at or above everything that its parent has acknowledged, or ever will; a global epoch has
//!   one planned successor at most (R-GLOBAL-3): so without a failover nothing is ever lost;
//! - a region that takes over a newer lineage keeps everything that it acknowledged and that the lineage has, and names
//!   everything else that it acknowledged in its lost suffixes (R-GLOBAL-4, R-GLOBAL-5);
//! - a controller that could fence the old primary knows its last LSN exactly (R-GLOBAL-4).
//!
//! Notes of one process must come in its order; notes of different processes in an order that respects messages.

use crate::global::lineage::Branch;
use crate::global::note::{GlobalNote, LostSuffix};
use crate::ids::{GlobalEpoch, Lsn, RegionId};
use crate::observer::Violation;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

type Verdict = Result<(), Violation>;

fn require(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation { rule, what: what() }) }
}

/// One promotion, as it was told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Promotion {
    branch: Branch,
    parent: Option<GlobalEpoch>,
    planned: bool,
}

/// The judge: see the module's header.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GlobalObserver {
    promotions: BTreeMap<GlobalEpoch, Promotion>,
    /// What was acknowledged in each branch.
    committed: BTreeMap<GlobalEpoch, BTreeSet<Lsn>>,
    lost: Vec<LostSuffix>,
    fenced: BTreeMap<GlobalEpoch, Lsn>,
}

impl GlobalObserver {
    /// A judge who has seen nothing of a global database that began with `primary`.
    pub fn new(primary: RegionId) -> Self {
        let branch = Branch { global_epoch: GlobalEpoch::FIRST, primary, after: Lsn::ZERO };
        GlobalObserver {
            promotions: [(GlobalEpoch::FIRST, Promotion { branch, parent: None, planned: true })].into(),
            committed: BTreeMap::new(),
            lost: Vec::new(),
            fenced: BTreeMap::new(),
        }
    }

    /// Takes one fact.
    ///
    /// # Errors
    /// The rule that it breaks, given everything before.
    pub fn observe(&mut self, note: &GlobalNote) -> Verdict {
        match *note {
            GlobalNote::Committed { region, global_epoch, lsn } => self.on_committed(region, global_epoch, lsn),
            GlobalNote::Fenced { region, global_epoch, handover } => {
                self.on_fenced(region, global_epoch, handover.final_lsn)
            }
            GlobalNote::Promoted { parent, branch, planned } => self.on_promoted(parent, branch, planned),
            GlobalNote::Arrived { region, global_epoch, through } => self.on_arrived(region, global_epoch, through),
            GlobalNote::Adopted { region, global_epoch, kept, lost } => {
                // Told again after a restart.
                self.lost.extend(lost.filter(|lost| !self.lost.contains(lost)));
                self.lost.sort_unstable();
                self.on_adopted(region, global_epoch, kept, lost)
            }
            GlobalNote::FailedOver { branch, fenced_at } => self.on_failed_over(branch, fenced_at),
        }
    }

    /// Every promotion so far but the creation: its branch, and whether it was planned.
    pub fn promotions(&self) -> impl Iterator<Item = (Branch, bool)> + '_ {
        let made = self.promotions.values().filter(|promotion| promotion.parent.is_some());
        made.map(|promotion| (promotion.branch, promotion.planned))
    }

    /// The lost suffixes that were named.
    pub fn lost(&self) -> &[LostSuffix] {
        &self.lost
    }

    /// What was acknowledged: in which branch, by whom, at which LSN.
    pub fn committed(&self) -> impl Iterator<Item = (Branch, Lsn)> + '_ {
        let branch_of = |epoch| self.promotions.get(epoch).map(|promotion| promotion.branch);
        let branches = self.committed.iter().filter_map(move |(epoch, lsns)| Some((branch_of(epoch)?, lsns)));
        branches.flat_map(|(branch, lsns)| lsns.iter().map(move |lsn| (branch, *lsn)))
    }

    /// Whether the record that `written_in` has at `lsn` is part of the lineage of `lineage`.
    pub fn is_part(&self, written_in: GlobalEpoch, lsn: Lsn, lineage: GlobalEpoch) -> bool {
        let mut at = lineage;
        while at != written_in {
            match self.promotions.get(&at) {
                Some(Promotion { branch, parent: Some(parent), .. }) if lsn <= branch.after => at = *parent,
                _ => return false,
            }
        }
        true
    }

    /// Whether some named suffix of `region` has `lsn`, cut off from a branch that had the record.
    fn is_named(&self, region: RegionId, written_in: GlobalEpoch, lsn: Lsn) -> bool {
        let names = |suffix: &LostSuffix| suffix.region == region && suffix.after < lsn && lsn <= suffix.through;
        self.lost.iter().any(|suffix| names(suffix) && self.is_part(written_in, lsn, suffix.branch))
    }

    fn on_committed(&mut self, region: RegionId, epoch: GlobalEpoch, lsn: Lsn) -> Verdict {
        self.committed.entry(epoch).or_default().insert(lsn);
        let branch = self.promotions.get(&epoch).map(|promotion| promotion.branch);
        let may = branch.is_some_and(|branch| branch.primary == region && branch.after < lsn);
        require(may, "R-GLOBAL-2", || format!("{region} acknowledged {lsn} in {epoch}, which is {branch:?}"))?;
        let fenced = self.fenced.get(&epoch).copied();
        require(fenced.is_none_or(|last| lsn <= last), "R-GLOBAL-3", || {
            format!("{region} acknowledged {lsn} in {epoch} after it had been fenced at {fenced:?}")
        })?;
        let planned = self.promotions.values().find(|next| next.planned && next.parent == Some(epoch));
        require(planned.is_none_or(|next| lsn <= next.branch.after), "R-GLOBAL-3", || {
            format!("{region} acknowledged {lsn} in {epoch}, but was followed as planned: {planned:?}")
        })
    }

    fn on_fenced(&mut self, region: RegionId, epoch: GlobalEpoch, final_lsn: Lsn) -> Verdict {
        let before = self.fenced.insert(epoch, final_lsn).filter(|before| *before != final_lsn);
        require(before.is_none(), "R-GLOBAL-3", || {
            format!("{region} in {epoch} is fenced at {final_lsn}, and was at {before:?}")
        })?;
        let last = self.committed.get(&epoch).and_then(BTreeSet::last).copied();
        require(last.is_none_or(|last| last <= final_lsn), "R-GLOBAL-3", || {
            format!("{region} in {epoch} says {final_lsn} is its last, but acknowledged {last:?}")
        })
    }

    fn on_promoted(&mut self, parent: GlobalEpoch, branch: Branch, planned: bool) -> Verdict {
        let epoch = branch.global_epoch;
        let promotion = Promotion { branch, parent: Some(parent), planned };
        let before = self.promotions.get(&epoch).copied().filter(|before| *before != promotion);
        require(before.is_none(), "R-GLOBAL-2", || format!("{epoch} has {branch:?}, and before it {before:?}"))?;
        self.promotions.insert(epoch, promotion);
        require(parent < epoch, "R-GLOBAL-2", || format!("{epoch} continues {parent}, which is newer"))?;
        if !planned {
            return Ok(());
        }
        let siblings = self.promotions.values().filter(|other| other.planned && other.parent == Some(parent)).count();
        require(siblings == 1, "R-GLOBAL-3", || format!("{parent} has {siblings} planned successors, one is {epoch}"))?;
        let last = self.committed.get(&parent).and_then(BTreeSet::last).copied();
        require(last.is_none_or(|last| last <= branch.after), "R-GLOBAL-3", || {
            format!("{branch:?} was planned, but {last:?} was acknowledged in {parent}")
        })
    }

    fn on_arrived(&self, region: RegionId, epoch: GlobalEpoch, through: Lsn) -> Verdict {
        let known = self.promotions.contains_key(&epoch);
        require(known, "R-GLOBAL-9", || format!("{region} has {through} of {epoch}, which no region began"))
    }

    fn on_adopted(&self, region: RegionId, epoch: GlobalEpoch, kept: Lsn, lost: Option<LostSuffix>) -> Verdict {
        let by_region = |(branch, _): &(Branch, Lsn)| branch.primary == region;
        for (branch, lsn) in self.committed().filter(by_region) {
            let written_in = branch.global_epoch;
            if self.is_part(written_in, lsn, epoch) {
                // It may have been cut off before, for a lineage that this one has overtaken: then the stream brings it back.
                let cut_now = lost.is_some_and(|lost| lost.after < lsn);
                let has = lsn <= kept || self.is_named(region, written_in, lsn);
                require(has && !cut_now, "R-GLOBAL-5", || {
                    format!("{region} cut off {lsn} of {written_in}, which is part of {epoch}")
                })?;
            } else {
                require(lost.is_none_or(|lost| lost.after >= kept), "R-GLOBAL-4", || {
                    format!("{region} says it lost {lost:?}, but kept all through {kept}")
                })?;
                require(self.is_named(region, written_in, lsn), "R-GLOBAL-4", || {
                    format!(
                        "{region} acknowledged {lsn} in {written_in}, has no part in {epoch}, and names it in no suffix"
                    )
                })?;
            }
        }
        Ok(())
    }

    fn on_failed_over(&self, branch: Branch, fenced_at: Option<(GlobalEpoch, Lsn)>) -> Verdict {
        let Some((parent, final_lsn)) = fenced_at else { return Ok(()) };
        let last = self.committed.get(&parent).and_then(BTreeSet::last).copied();
        require(last.is_none_or(|last| last <= final_lsn), "R-GLOBAL-4", || {
            format!("{branch:?} counts losses up to {final_lsn}, but {last:?} was acknowledged in {parent}")
        })
    }
}
