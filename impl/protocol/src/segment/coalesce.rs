//! Turning the log into base pages, below PGMRPL; and verifying them in the background.
//!
//! The floor moves to at most min(PGMRPL, SCL). PGMRPL ≤ VDL, so nothing that is coalesced can ever be annulled, and
//! every read point still in use is at or above the floor (R-COLLECT-1).

use super::{Out, Segment, Task, Timer};
use crate::defect::Defect;
use crate::ids::Lsn;
use crate::note::Note;
use crate::record::{Payload, Record, take_weight};
use alloc::vec::Vec;

impl<P: Payload> Segment<P> {
    pub(super) fn on_coalesce_timer(&mut self, out: &mut Out<P>) {
        self.coalesce(out);
        out.set_timer(Timer::Coalesce, self.config.coalesce_every);
    }

    /// Starts one coalescing, unless one is under way, a peer needs the floor where it is, or pages are not sound.
    pub(super) fn coalesce(&mut self, out: &mut Out<P>) {
        let unsound = self.pages_lost || !self.damaged.is_empty() || self.hydration.is_some();
        if self.coalescing.is_some() || self.pin.is_some() || unsound {
            return;
        }
        let all = self.config.defects.has(Defect::CollectAbovePgmrpl);
        let target = if all { self.log.scl() } else { self.pgmrpl.min(self.log.scl()) };
        let above = self.log.floor();
        let eligible = self.log.chain_above(above).take_while(|record| record.lsn <= target).cloned();
        let records: Vec<Record<P>> = take_weight(eligible, self.config.coalesce_weight_max);
        let Some(last) = records.last() else { return };
        let floor = last.lsn;
        self.coalescing = Some(floor);
        out.start(Task::Coalesce { floor, records });
    }

    pub(super) fn on_coalesced(&mut self, floor: Lsn, out: &mut Out<P>) {
        if self.coalescing != Some(floor) {
            return; // Not asked for.
        }
        self.coalescing = None;
        self.log.collect(floor);
        out.note(Note::Collected { segment: self.id, floor });
        if self.config.coalesce_weight > 0 && self.log.weight() >= self.config.coalesce_weight {
            self.coalesce(out);
        }
    }

    pub(super) fn on_scrub_timer(&mut self, out: &mut Out<P>) {
        out.start(Task::Scrub { limit: self.config.scrub_pages });
        out.set_timer(Timer::Scrub, self.config.scrub_every);
    }
}
