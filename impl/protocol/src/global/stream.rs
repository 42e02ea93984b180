//! The stream: a primary ships its durable log, a secondary takes it and says how far it is durable.
//!
//! A stream also carries the primary's lineage. That is how a region that was away learns of a promotion: it finds where
//! its own log parts from the new lineage, keeps what follows as a snapshot, truncates, and goes on as a secondary.

use crate::defect::Defect;
use crate::global::lineage::Lineage;
use crate::global::message::{GlobalMessage, GlobalParty, GlobalRefusal, ShippedRecord};
use crate::global::note::{GlobalNote, LostSuffix};
use crate::global::region::{Out, Region, RegionEntry, RegionOutcome, RegionRole, RegionTask, Turn};
use crate::ids::{GlobalEpoch, Lsn};
use crate::note::Note;
use alloc::vec::Vec;
use core::fmt::Debug;

impl<R: Clone + Debug> Region<R> {
    /// R-GLOBAL-1: ships what is durable, to every other region what it lacks. A fenced primary goes on shipping.
    pub(super) fn ship(&mut self, out: &mut Out<R>) {
        let tip = self.lineage.tip();
        if tip.primary != self.id {
            return;
        }
        let through = if self.config.defects.has(Defect::ShipBeforeDurable) { self.last } else { self.durable };
        for to in self.config.regions.iter().copied().filter(|region| *region != self.id) {
            let above = self.arrived.get(&to).copied().unwrap_or_default();
            let limit = self.config.ship_records_max;
            out.start(RegionTask::ReadLog { to, global_epoch: tip.global_epoch, above, through, limit });
        }
    }

    /// The records to ship have been read.
    pub(super) fn on_log_read(&mut self, outcome: RegionOutcome<R>, out: &mut Out<R>) {
        let RegionOutcome { to, global_epoch, above, records } = outcome;
        if self.lineage.tip().global_epoch == global_epoch {
            let lineage = self.lineage.clone();
            out.send(GlobalParty::Region(to), GlobalMessage::Ship { lineage, above, records });
        }
    }

    /// A secondary said how far it is.
    pub(super) fn on_arrived(&mut self, from: GlobalParty, global_epoch: GlobalEpoch, through: Lsn) {
        let GlobalParty::Region(from) = from else { return };
        if global_epoch == self.lineage.tip().global_epoch && self.role() != RegionRole::Secondary {
            let arrived = self.arrived.entry(from).or_default();
            *arrived = through.max(*arrived);
        }
    }

    /// R-GLOBAL-9: takes the stream of its log's last branch or of a newer one, from that branch's primary only.
    pub(super) fn on_ship(
        &mut self,
        from: GlobalParty,
        lineage: Lineage,
        above: Lsn,
        records: Vec<ShippedRecord<R>>,
        out: &mut Out<R>,
    ) {
        if !lineage.is_sound() {
            return;
        }
        let (theirs, ours) = (lineage.tip(), self.lineage.tip());
        if from != GlobalParty::Region(theirs.primary) || theirs.primary == self.id || self.turn.is_some() {
            return;
        }
        // Only a branch that has begun makes another one old. A promise alone must not stop the stream: the promise may be
        // kept by a switchover that waits for it.
        let stale = theirs.global_epoch < ours.global_epoch;
        if stale && !self.config.defects.has(Defect::StaleStreamAccepted) {
            let refusal = GlobalRefusal::StaleGlobalEpoch { known: ours.global_epoch, tip: ours };
            return out.send(from, GlobalMessage::Refused { global_epoch: theirs.global_epoch, refusal });
        }
        if theirs.global_epoch > ours.global_epoch {
            return self.adopt(lineage, out);
        }
        let next: Vec<_> = records.into_iter().filter(|record| record.lsn > self.last).collect();
        if above <= self.last && !next.is_empty() {
            self.append_records(next, None, out);
        } else if self.waiting.is_empty() {
            self.tell_arrived(out);
        }
    }

    /// R-GLOBAL-5: a newer lineage. What ours has beyond the place where they part is kept as a snapshot, and cut.
    fn adopt(&mut self, lineage: Lineage, out: &mut Out<R>) {
        self.give_commits_up(out);
        let defects = self.config.defects;
        let parted = if defects.has(Defect::PartedByLastBranch) {
            self.last.min(lineage.tip().after)
        } else {
            self.lineage.shared_through(self.last, &lineage)
        };
        let kept = if defects.has(Defect::RejoinWithoutTruncation) { self.last } else { parted };
        let branch = self.lineage.tip().global_epoch;
        let suffix = LostSuffix { region: self.id, branch, after: kept, through: self.last };
        let lost = (kept < self.last && !defects.has(Defect::LostSuffixNotCounted)).then_some(suffix);
        let append = self.append(RegionEntry::Adopted { lineage: lineage.clone(), kept, lost }, out);
        self.turn = Some((append, Turn::Adopt { lineage, kept, lost }));
    }

    /// Tells the primary, as it is known here, how far this log is durable.
    pub(super) fn tell_arrived(&self, out: &mut Out<R>) {
        let tip = self.lineage.tip();
        let (global_epoch, through) = (tip.global_epoch, self.durable);
        out.send(GlobalParty::Region(tip.primary), GlobalMessage::Arrived { global_epoch, through });
        out.note(Note::Global(GlobalNote::Arrived { region: self.id, global_epoch, through }));
    }
}
