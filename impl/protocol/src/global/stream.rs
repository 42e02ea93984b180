//! The stream: a primary ships its durable log, a secondary takes it and says how far it is durable.
//!
//! A stream also carries the primary's lineage. That is how a region that was away learns of a promotion: it finds where
//! its own log parts from the new lineage, keeps what follows as a snapshot, truncates, and goes on as a secondary.

use crate::defect::Defect;
use crate::global::lineage::Lineage;
use crate::global::message::{GlobalMessage, GlobalParty, GlobalRefusal, ShippedRecord};
use crate::global::note::{GlobalNote, LostSuffix};
use crate::global::region::{Ahead, Next, Out, Region, RegionEntry, RegionRole, RegionTask, Turn};
use crate::ids::{GlobalEpoch, Lsn, RegionId};
use crate::limits::LSN_MAX;
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
        for index in 0..self.config.regions.len() {
            let to = self.config.regions[index];
            if to != self.id && self.is_time_to_ship(to) {
                self.read_for(to, out);
            }
        }
    }

    /// Whether the timer is to begin the stream to a region, or to begin it again.
    fn is_time_to_ship(&mut self, to: RegionId) -> bool {
        if self.config.ship_window == 1 {
            return true;
        }
        let ahead = self.ahead.entry(to).or_default();
        if ahead.reads || !ahead.sent.is_empty() {
            ahead.idle_rounds = ahead.idle_rounds.saturating_add(1);
            if ahead.idle_rounds < self.config.patience_rounds {
                return false;
            }
        }
        *ahead = Ahead::default();
        true
    }

    /// Reads what a region lacks, and is not on its way to it.
    fn read_for(&mut self, to: RegionId, out: &mut Out<R>) {
        let grows = self.config.log_is_external && self.role() == RegionRole::Primary && self.turn.is_none();
        let through = match () {
            () if self.config.defects.has(Defect::ShipBeforeDurable) => self.last,
            // Another machine writes it: it is durable as far as it can be read (R-GLOBAL-11).
            () if grows => Lsn(LSN_MAX),
            () => self.durable,
        };
        let mut above = self.arrived.get(&to).copied().unwrap_or_default();
        if self.config.ship_window > 1 {
            let ahead = self.ahead.entry(to).or_default();
            ahead.reads = true;
            above = ahead.sent.back().copied().unwrap_or(above);
        }
        let (global_epoch, limit) = (self.lineage.tip().global_epoch, self.config.ship_records_max);
        out.start(RegionTask::ReadLog { to, global_epoch, above, through, limit });
    }

    /// The records to ship have been read.
    pub(super) fn on_log_read(
        &mut self,
        to: RegionId,
        global_epoch: GlobalEpoch,
        above: Lsn,
        records: Vec<ShippedRecord<R>>,
        out: &mut Out<R>,
    ) {
        if self.lineage.tip().global_epoch != global_epoch {
            return;
        }
        let last = records.last().map(|record| record.lsn);
        if let Some(last) = last
            && self.config.log_is_external
            && self.role() == RegionRole::Primary
            && self.turn.is_none()
        {
            self.last = self.last.max(last);
            self.durable = self.last;
        }
        let lineage = self.lineage.clone();
        out.send(GlobalParty::Region(to), GlobalMessage::Ship { lineage, above, records });
        if self.config.ship_window > 1 {
            let ahead = self.ahead.entry(to).or_default();
            ahead.reads = false;
            ahead.sent.extend(last);
            self.ship_on(to, last.is_some(), out);
        }
    }

    /// Goes on with a stream while there is more to send, and room for it.
    fn ship_on(&mut self, to: RegionId, more: bool, out: &mut Out<R>) {
        let window = self.config.ship_window;
        if more && self.ahead.get(&to).is_some_and(|ahead| !ahead.reads && ahead.sent.len() < window) {
            self.read_for(to, out);
        }
    }

    /// A secondary said how far it is.
    pub(super) fn on_arrived(&mut self, from: GlobalParty, global_epoch: GlobalEpoch, through: Lsn, out: &mut Out<R>) {
        let GlobalParty::Region(from) = from else { return };
        if global_epoch != self.lineage.tip().global_epoch || self.role() == RegionRole::Secondary {
            return;
        }
        let arrived = self.arrived.entry(from).or_default();
        *arrived = through.max(*arrived);
        if self.config.ship_window > 1 {
            let ahead = self.ahead.entry(from).or_default();
            let waited = ahead.sent.len();
            while ahead.sent.front().is_some_and(|sent| *sent <= through) {
                ahead.sent.pop_front();
                ahead.idle_rounds = 0;
            }
            let is_news = ahead.sent.len() < waited;
            self.ship_on(from, is_news, out);
        }
    }

    /// The branch is another: what was said of how far others are counts no more.
    pub(super) fn forget_streams(&mut self) {
        self.arrived.clear();
        self.ahead.clear();
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
            return match self.role() {
                RegionRole::Primary => self.take_over(Next::Adopt { lineage }, out),
                RegionRole::HandedOn | RegionRole::Secondary => self.adopt(lineage, out),
            };
        }
        let next: Vec<_> = records.into_iter().filter(|record| record.lsn > self.last).collect();
        if above <= self.last && !next.is_empty() {
            self.append_records(next, None, out);
        } else if self.waiting.is_empty() {
            self.tell_arrived(out);
        }
    }

    /// R-GLOBAL-5: a newer lineage. What ours has beyond the place where they part is kept as a snapshot, and cut.
    pub(super) fn adopt(&mut self, lineage: Lineage, out: &mut Out<R>) {
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
