//! The records that a segment has above its floor, and its chain through them.
//!
//! ```text
//!   coalesced into base pages │ hot log
//!  ───────────────────────────┼──●───●───●──────●───●──────►  LSN (this group's records only)
//!                          floor         SCL  ^ hole: not yet received
//! ```
//!
//! Invariants:
//! - SCL is the gapless, *durable* end of the chain that starts at `floor`;
//! - every record above the floor and at or below SCL belongs to the chain, because a record's link names the one
//!   directly before it in the group;
//! - no record is annulled.

use crate::ids::{Lsn, PageId};
use crate::machine::AppendId;
use crate::record::{Payload, Record};
use crate::truncation::TruncationList;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::Serialize;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
struct Slot<P> {
    record: Record<P>,
    /// The append that makes it durable; zero when it was durable at boot.
    append: AppendId,
}

/// What a log has of a record that arrives.
pub(super) enum Held<'a, P> {
    /// Neither it nor what it was coalesced into.
    Nothing,
    /// The same; or it was coalesced, and can't be compared any more.
    Same,
    /// One of this LSN that is another (R-LOG-4).
    Another(&'a Record<P>),
}

/// The hot log: see the module's header.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct HotLog<P: Payload> {
    floor: Lsn,
    scl: Lsn,
    slots: BTreeMap<Lsn, Slot<P>>,
    /// Each page's records, in order. One set and not a list for each page: a stranger can bring a hundred thousand
    /// records of one page in whatever order.
    by_page: BTreeSet<(PageId, Lsn)>,
    weight: usize,
}

impl<P: Payload> HotLog<P> {
    /// An empty log above `floor`.
    pub fn new(floor: Lsn) -> Self {
        HotLog { floor, scl: floor, slots: BTreeMap::new(), by_page: BTreeSet::new(), weight: 0 }
    }

    /// Where base pages end and the log begins.
    pub fn floor(&self) -> Lsn {
        self.floor
    }

    /// Segment Complete LSN: inclusive end of the gapless durable chain (18 §2.3).
    pub fn scl(&self) -> Lsn {
        self.scl
    }

    /// Bytes held.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Number of records held.
    pub fn record_count(&self) -> usize {
        self.slots.len()
    }

    /// The greatest LSN held, in the chain or beyond a hole, durable or not.
    pub fn last(&self) -> Lsn {
        self.slots.keys().next_back().copied().unwrap_or(self.floor)
    }

    /// What the log has of `record`.
    pub(super) fn compare(&self, record: &Record<P>) -> Held<'_, P> {
        match self.slots.get(&record.lsn) {
            None if record.lsn > self.floor => Held::Nothing,
            Some(slot) if slot.record != *record => Held::Another(&slot.record),
            _ => Held::Same,
        }
    }

    /// Adds a record that the log lacks; it joins the chain once `append` is durable.
    pub fn insert(&mut self, record: Record<P>, append: AppendId) {
        self.weight += record.weight();
        self.by_page.insert((record.page, record.lsn));
        self.slots.insert(record.lsn, Slot { record, append });
    }

    /// Extends the chain over every record whose append is at or before `durable`. Returns whether SCL moved.
    pub fn advance(&mut self, durable: AppendId) -> bool {
        let before = self.scl;
        let mut scl = self.scl;
        for (lsn, slot) in self.slots.range(scl.next()..) {
            if slot.record.prev_segment != scl || slot.append > durable {
                break;
            }
            scl = *lsn;
        }
        self.scl = scl;
        scl != before
    }

    /// Drops annulled records; SCL falls back to the last record of the chain that stays.
    pub fn truncate(&mut self, truncations: &TruncationList) {
        let annulled: Vec<Lsn> = self.slots.keys().copied().filter(|lsn| truncations.annuls(*lsn)).collect();
        for lsn in annulled {
            self.remove(lsn);
        }
        self.scl = self.last_at_or_below(self.scl);
    }

    /// Drops every record.
    pub fn clear(&mut self) {
        *self = HotLog::new(self.floor);
    }

    /// Drops everything that the new floor covers.
    pub fn collect(&mut self, floor: Lsn) {
        if floor <= self.floor {
            return;
        }
        // Not one by one: there are tens of thousands, and nothing else can happen to the segment meanwhile.
        let above = self.slots.split_off(&floor.next());
        let covered = core::mem::replace(&mut self.slots, above);
        self.weight -= covered.values().map(|slot| slot.record.weight()).sum::<usize>();
        self.by_page.retain(|(_, lsn)| *lsn > floor);
        self.floor = floor;
        self.scl = self.scl.max(floor);
    }

    /// The chain's last LSN at or below `lsn`; `lsn` is at or above the floor.
    pub fn last_at_or_below(&self, lsn: Lsn) -> Lsn {
        let end = lsn.min(self.scl);
        self.slots.range(..=end).next_back().map_or(self.floor, |(lsn, _)| *lsn)
    }

    /// The chain's last LSN at or below `lsn` that `truncations` leave in force; `lsn` is at or above the floor, which
    /// counts as in force whatever they say (R-COLLECT-3).
    pub fn last_in_force(&self, lsn: Lsn, truncations: &TruncationList) -> Lsn {
        let mut last = self.last_at_or_below(lsn);
        while last > self.floor
            && let Some(range) = truncations.range_of(last)
        {
            last = self.last_at_or_below(range.above);
        }
        last
    }

    /// The chain above `above`, in order.
    pub fn chain_above(&self, above: Lsn) -> impl Iterator<Item = &Record<P>> {
        let first = above.max(self.floor).next();
        let end = self.scl.max(above);
        self.slots.range(first..=end.max(first)).map(|(_, slot)| &slot.record).filter(move |record| record.lsn <= end)
    }

    /// Records of `page` at or below `through`, in order.
    pub fn of_page(&self, page: PageId, through: Lsn) -> impl Iterator<Item = &Record<P>> {
        self.by_page.range((page, Lsn::ZERO)..=(page, through)).map(|(_, lsn)| &self.slots[lsn].record)
    }

    /// Every record held, in order: for checks by an observer.
    pub fn records(&self) -> impl Iterator<Item = &Record<P>> {
        self.slots.values().map(|slot| &slot.record)
    }

    fn remove(&mut self, lsn: Lsn) {
        if let Some(slot) = self.slots.remove(&lsn) {
            self.weight -= slot.record.weight();
            self.by_page.remove(&(slot.record.page, lsn));
        }
    }
}
