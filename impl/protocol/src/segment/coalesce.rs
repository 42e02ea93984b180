//! Turning the log into base pages, below PGMRPL; and verifying them in the background.
//!
//! The floor moves to at most min(PGMRPL, SCL). PGMRPL ≤ VDL, so nothing that is coalesced can ever be annulled, and
//! every read point still in use is at or above the floor (R-COLLECT-1).

use super::{Out, Segment, Task, Timer};
use crate::defect::Defect;
use crate::ids::Lsn;
use crate::note::Note;
use crate::record::{Payload, Record};
use alloc::vec::Vec;

impl<P: Payload> Segment<P> {
    pub(super) fn on_coalesce_timer(&mut self, out: &mut Out<P>) {
        self.coalesce(out);
        out.set_timer(Timer::Coalesce, self.config.coalesce_every);
    }

    /// Starts one coalescing, unless one is under way or pages are not sound.
    pub(super) fn coalesce(&mut self, out: &mut Out<P>) {
        self.coalesce_to_leave(0, out);
    }

    /// The log has grown long. Its newest records stay: a peer that lags a little finds them here, and needs no pages.
    pub(super) fn coalesce_for_room(&mut self, out: &mut Out<P>) {
        if self.config.coalesce_weight > 0 && self.log.weight() >= self.config.coalesce_weight {
            self.coalesce_to_leave(self.config.coalesce_leaves, out);
        }
    }

    fn coalesce_to_leave(&mut self, left: usize, out: &mut Out<P>) {
        let unsound = self.pages_lost || !self.damaged.is_empty() || self.hydration.is_some();
        if self.coalescing.is_some() || unsound {
            return;
        }
        let all = self.config.defects.has(Defect::CollectAbovePgmrpl);
        let target = if all { self.log.scl() } else { self.pgmrpl.min(self.log.scl()) };
        if target < self.ceiling {
            return;
        }
        let most = self.config.coalesce_weight_max.min(self.log.weight().saturating_sub(left));
        let records = self.eligible(target, most);
        let Some(last) = records.last() else { return };
        let floor = last.lsn;
        self.coalescing = Some(floor);
        out.start(Task::Coalesce { floor, records });
    }

    /// The chain above the floor and at or below `target`: about `most` bytes of it, but at least one record, and all
    /// below the ceiling. Pages that are newer than the floor would otherwise be taken for older ones (R-HYDRATE-2).
    fn eligible(&self, target: Lsn, most: usize) -> Vec<Record<P>> {
        let mut weight = 0;
        let mut records: Vec<Record<P>> = Vec::new();
        for record in self.log.chain_above(self.log.floor()).take_while(|record| record.lsn <= target) {
            weight += record.weight();
            if !records.is_empty() && weight > most && record.lsn > self.ceiling {
                break;
            }
            records.push(record.clone());
        }
        records
    }

    pub(super) fn on_coalesced(&mut self, floor: Lsn, out: &mut Out<P>) {
        if self.coalescing != Some(floor) {
            return; // Not asked for.
        }
        self.coalescing = None;
        self.log.collect(floor);
        out.note(Note::Collected { segment: self.id, floor });
        self.coalesce_for_room(out);
    }

    pub(super) fn on_scrub_timer(&mut self, out: &mut Out<P>) {
        out.start(Task::Scrub { limit: self.config.scrub_pages });
        out.set_timer(Timer::Scrub, self.config.scrub_every);
    }
}
