//! Which slots are free, and which of those have room on the disk.
//!
//! A free slot is *warm* when the disk still keeps room for it, and a *hole* when it was never written, or its room was
//! given back. Warm ones are taken first. What was warm and not needed for a while is [surplus](Slots::surplus).

use std::ops::Range;

/// Two bits for each slot. Grows by whole groups.
#[derive(Default)]
pub(super) struct Slots {
    /// Set: free and warm.
    warm: Vec<u64>,
    /// Set: free and a hole.
    holes: Vec<u64>,
    warm_count: u32,
    hole_count: u32,
    /// The lowest `warm_count` since the surplus was last asked for.
    warm_least: u32,
    /// Where the search begins: after the last slot taken, so that slots taken together lie together.
    cursor: usize,
}

const GROUP: u32 = u64::BITS;

fn word_of(slot: u32) -> usize {
    (slot / GROUP) as usize
}

fn bit_of(slot: u32) -> u64 {
    1 << (slot % GROUP)
}

impl Slots {
    /// Slots that there are.
    pub(super) fn count(&self) -> u32 {
        self.warm.len() as u32 * GROUP
    }

    /// Free ones with room on the disk.
    pub(super) fn warm(&self) -> u32 {
        self.warm_count
    }

    /// Free ones without.
    pub(super) fn holes(&self) -> u32 {
        self.hole_count
    }

    /// Adds a group of slots that were never written.
    pub(super) fn add_group(&mut self) {
        self.cursor = self.warm.len();
        self.warm.push(0);
        self.holes.push(u64::MAX);
        self.hole_count += GROUP;
    }

    /// Adds a group that was found, free as far as is known. The disk may have room for each of its slots.
    pub(super) fn add_found_group(&mut self) {
        self.warm.push(u64::MAX);
        self.holes.push(0);
        self.warm_count += GROUP;
        self.warm_least = self.warm_count;
    }

    /// Takes a free slot, a warm one where there is one.
    pub(super) fn take(&mut self) -> Option<u32> {
        let from = if self.warm_count > 0 { &self.warm } else { &self.holes };
        let words = from.len();
        let word = (0..words).map(|step| (self.cursor + step) % words).find(|word| from[*word] != 0)?;
        let slot = word as u32 * GROUP + from[word].trailing_zeros();
        self.cursor = word;
        self.mark_taken(slot);
        Some(slot)
    }

    /// Marks a free slot as taken.
    pub(super) fn mark_taken(&mut self, slot: u32) {
        let (word, bit) = (word_of(slot), bit_of(slot));
        assert!((self.warm[word] | self.holes[word]) & bit != 0, "slot {slot} was taken twice");
        if self.warm[word] & bit != 0 {
            self.warm_count -= 1;
        } else {
            self.hole_count -= 1;
        }
        self.warm[word] &= !bit;
        self.holes[word] &= !bit;
        self.warm_least = self.warm_least.min(self.warm_count);
    }

    /// Gives a slot back. It is warm.
    pub(super) fn give(&mut self, slot: u32) {
        let (word, bit) = (word_of(slot), bit_of(slot));
        assert!((self.warm[word] | self.holes[word]) & bit == 0, "slot {slot} was given back twice");
        self.warm[word] |= bit;
        self.warm_count += 1;
    }

    /// Warm slots beyond `keep` that no commit has needed since the last call.
    pub(super) fn surplus(&mut self, keep: u32) -> u32 {
        std::mem::replace(&mut self.warm_least, self.warm_count).saturating_sub(keep)
    }

    /// Returns the last run of warm slots that lie in one group, at most `most` of them.
    pub(super) fn last_warm_run(&self, most: u32) -> Option<Range<u32>> {
        let word = self.warm.iter().rposition(|warm| *warm != 0)?;
        let end = GROUP - self.warm[word].leading_zeros();
        let below = !self.warm[word] & (bit_of(end - 1) - 1);
        let start = (GROUP - below.leading_zeros()).max(end.saturating_sub(most));
        (start < end).then(|| word as u32 * GROUP + start..word as u32 * GROUP + end)
    }

    /// The room of these warm slots was given back.
    pub(super) fn now_holes(&mut self, run: Range<u32>) {
        for slot in run {
            let (word, bit) = (word_of(slot), bit_of(slot));
            assert!(self.warm[word] & bit != 0, "slot {slot} had no room to give back");
            self.warm[word] &= !bit;
            self.holes[word] |= bit;
            self.warm_count -= 1;
            self.hole_count += 1;
        }
        self.warm_least = self.warm_least.min(self.warm_count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_each_slot_once_and_neighbours_in_turn() {
        let mut slots = Slots::default();
        assert_eq!(slots.take(), None);
        slots.add_group();
        slots.add_group();
        let mut taken: Vec<u32> = std::iter::from_fn(|| slots.take()).collect();
        taken.sort_unstable();
        assert_eq!(taken, (0..128).collect::<Vec<_>>());
        slots.give(70);
        assert_eq!((slots.warm(), slots.holes(), slots.take(), slots.take()), (1, 0, Some(70), None));
    }

    #[test]
    fn warm_ones_are_taken_before_holes() {
        let mut slots = Slots::default();
        slots.add_group();
        assert_eq!((slots.take(), slots.take(), slots.holes()), (Some(0), Some(1), 62));
        slots.give(1);
        slots.add_group();
        assert_eq!((slots.take(), slots.take()), (Some(1), Some(2)));
    }

    #[test]
    fn surplus_is_what_nobody_needed() {
        let mut slots = Slots::default();
        slots.add_found_group();
        assert_eq!((slots.surplus(4), slots.surplus(100)), (60, 0));
        let taken: Vec<u32> = (0..20).filter_map(|_| slots.take()).collect();
        taken.into_iter().for_each(|slot| slots.give(slot));
        assert_eq!((slots.surplus(4), slots.surplus(4)), (40, 60), "20 were needed the first time");
    }

    #[test]
    fn runs_are_found_from_the_end_and_do_not_cross_groups() {
        let mut slots = Slots::default();
        (0..3).for_each(|_| slots.add_found_group());
        [63, 127, 129, 130, 190].into_iter().for_each(|slot| slots.mark_taken(slot));
        let mut runs = Vec::new();
        while let Some(run) = slots.last_warm_run(50) {
            slots.now_holes(run.clone());
            runs.push(run);
        }
        assert_eq!(runs, [191..192, 140..190, 131..140, 128..129, 77..127, 64..77, 13..63, 0..13]);
        assert_eq!((slots.warm(), slots.holes(), slots.take()), (0, 187, Some(0)));
    }
}
