//! Truncation ranges: LSNs that a recovery annulled, versioned by the volume epoch that did it (17 §4.3).
//!
//! Ranges are forgotten once no segment can hold a record that they annul (R-TRUNCATE-6). So a list stays short however
//! often a volume is recovered.
//!
//! Invariants:
//! - ranges are disjoint and ascending, in both LSN and volume epoch: each recovery keeps what earlier ones kept;
//! - every range ends above all that was forgotten;
//! - an annulled LSN never comes back: new LSNs start above the range.

use crate::ids::{Lsn, VolumeEpoch};
use crate::limits::TRUNCATION_RANGES_MAX;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Annuls every LSN in `(above, through]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TruncationRange {
    /// The recovery that annulled.
    pub volume_epoch: VolumeEpoch,
    /// The recovered VDL: the last LSN that stays.
    pub above: Lsn,
    /// The last LSN that an earlier writer can have allocated: `above` + LAL.
    pub through: Lsn,
}

impl TruncationRange {
    /// Whether the range annuls `lsn`.
    pub fn annuls(&self, lsn: Lsn) -> bool {
        self.above < lsn && lsn <= self.through
    }
}

/// The truncations in force, oldest first. One that breaks the invariants in the module's header is not decoded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct TruncationList {
    forgotten: Lsn,
    ranges: Vec<TruncationRange>,
}

/// A list as it arrives.
#[derive(Deserialize)]
struct Unchecked {
    forgotten: Lsn,
    ranges: Vec<TruncationRange>,
}

impl TryFrom<Unchecked> for TruncationList {
    type Error = &'static str;

    fn try_from(Unchecked { forgotten, ranges }: Unchecked) -> Result<Self, Self::Error> {
        let ascend = |(one, next): (&TruncationRange, &TruncationRange)| {
            one.through <= next.above && one.volume_epoch <= next.volume_epoch
        };
        if ranges.len() > TRUNCATION_RANGES_MAX {
            return Err("more truncation ranges than a volume can have");
        }
        if ranges.iter().any(|range| range.above >= range.through) {
            return Err("a truncation range that annuls nothing");
        }
        if !ranges.iter().zip(ranges.iter().skip(1)).all(ascend) {
            return Err("truncation ranges out of order");
        }
        if ranges.first().is_some_and(|first| first.through <= forgotten) {
            return Err("a truncation range that was forgotten");
        }
        Ok(TruncationList { forgotten, ranges })
    }
}

impl TruncationList {
    /// Whether any range annuls `lsn`.
    pub fn annuls(&self, lsn: Lsn) -> bool {
        self.range_of(lsn).is_some()
    }

    /// The range that annuls `lsn`.
    pub fn range_of(&self, lsn: Lsn) -> Option<&TruncationRange> {
        let after = self.ranges.partition_point(|range| range.above < lsn);
        self.ranges[..after].last().filter(|range| range.annuls(lsn))
    }

    /// Annuls, in `volume_epoch`, everything above the recovered `vdl` that an earlier writer can have allocated
    /// (R-TRUNCATE-4).
    ///
    /// An earlier writer allocated at most `allocation_limit` LSNs above its own VDL or above where it began, whichever
    /// is higher; both are at or below the base taken here. A range that ends above `vdl` gives way to the new one:
    /// either no commit followed it, or it is that of a recovery that never opened.
    pub fn annul_above(&mut self, volume_epoch: VolumeEpoch, vdl: Lsn, allocation_limit: u64) {
        let mut base = vdl;
        while let Some(last) = self.ranges.pop_if(|last| vdl < last.through) {
            base = base.max(last.through);
        }
        self.ranges.push(TruncationRange { volume_epoch, above: vdl, through: Lsn(base.0 + allocation_limit) });
    }

    /// Forgets every range that ends at or below `floor`: the lowest floor of all segments of the volume (R-TRUNCATE-6).
    pub fn forget_through(&mut self, floor: Lsn) {
        let ended = self.ranges.partition_point(|range| range.through <= floor);
        if let Some(last) = self.ranges.drain(..ended).next_back() {
            self.forgotten = last.through;
        }
    }

    /// The end of the last range that was forgotten; zero where none was. A segment whose floor is below it does not
    /// know which of its records are annulled.
    pub fn forgotten(&self) -> Lsn {
        self.forgotten
    }

    /// The ranges, oldest first.
    pub fn ranges(&self) -> &[TruncationRange] {
        &self.ranges
    }

    /// Where a chain that was last truncated at `installed` ends to be valid: the start of the first range newer than
    /// that, or `None` where nothing newer was annulled.
    pub fn cut_after(&self, installed: VolumeEpoch) -> Option<Lsn> {
        self.ranges.iter().find(|range| range.volume_epoch > installed).map(|range| range.above)
    }

    /// The last LSN annulled, below which no new LSN may be allocated; zero where nothing was.
    pub fn through(&self) -> Lsn {
        self.ranges.last().map_or(self.forgotten, |range| range.through)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::WriterId;

    fn epoch(number: u64) -> VolumeEpoch {
        VolumeEpoch::new(number, WriterId(number))
    }

    #[test]
    fn annulled_is_exactly_the_open_closed_range() {
        let mut list = TruncationList::default();
        list.annul_above(epoch(1), Lsn(4), 10);
        list.annul_above(epoch(3), Lsn(17), 10);
        let annulled: Vec<u64> = (0..40).filter(|lsn| list.annuls(Lsn(*lsn))).collect();
        assert_eq!(annulled, (5..=14).chain(18..=27).collect::<Vec<_>>());
        assert_eq!(list.cut_after(epoch(0)), Some(Lsn(4)));
        assert_eq!(list.cut_after(epoch(1)), Some(Lsn(17)));
        assert_eq!(list.cut_after(epoch(3)), None);
    }

    #[test]
    fn a_range_of_a_recovery_that_never_opened_gives_way() {
        let mut list = TruncationList::default();
        list.annul_above(epoch(1), Lsn(4), 10);
        list.annul_above(epoch(2), Lsn(20), 10);
        list.annul_above(epoch(3), Lsn(17), 10);
        let ranges: Vec<_> = list.ranges().iter().map(|range| (range.above.0, range.through.0)).collect();
        assert_eq!(ranges, [(4, 14), (17, 40)]);
    }

    #[test]
    fn ranges_below_every_floor_are_forgotten() {
        let mut list = TruncationList::default();
        list.annul_above(epoch(1), Lsn(4), 10);
        list.annul_above(epoch(2), Lsn(20), 10);
        list.forget_through(Lsn(13));
        assert_eq!((list.ranges().len(), list.forgotten()), (2, Lsn(0)), "the first ends at 14");
        list.forget_through(Lsn(29));
        assert_eq!((list.ranges().len(), list.forgotten()), (1, Lsn(14)));
        list.forget_through(Lsn(30));
        assert_eq!((list.ranges().len(), list.forgotten(), list.through()), (0, Lsn(30), Lsn(30)));
        list.annul_above(epoch(3), Lsn(35), 10);
        assert_eq!((list.forgotten(), list.through()), (Lsn(30), Lsn(45)));
    }

    #[test]
    fn a_recovery_without_new_commits_takes_the_last_range_over() {
        let mut list = TruncationList::default();
        list.annul_above(epoch(1), Lsn(4), 10);
        list.annul_above(epoch(2), Lsn(4), 10);
        assert_eq!(list.ranges().len(), 1);
        assert_eq!(list.through(), Lsn(24), "the second writer may have allocated 15 to 24");
    }
}
