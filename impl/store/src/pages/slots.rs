//! Which slots are free.

/// One bit for each slot. Grows by whole groups.
#[derive(Default)]
pub(super) struct Slots {
    /// Set: free.
    free: Vec<u64>,
    free_count: u32,
    /// Where the search begins: after the last slot taken, so that slots taken together lie together.
    cursor: usize,
}

impl Slots {
    /// Slots that there are.
    pub(super) fn count(&self) -> u32 {
        self.free.len() as u32 * u64::BITS
    }

    /// Free ones.
    pub(super) fn free(&self) -> u32 {
        self.free_count
    }

    /// Adds a group of 64 slots, all free.
    pub(super) fn add_group(&mut self) {
        self.cursor = self.free.len();
        self.free.push(u64::MAX);
        self.free_count += u64::BITS;
    }

    /// Takes a free slot.
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.free_count == 0 {
            return None;
        }
        let words = self.free.len();
        let word = (0..words).map(|step| (self.cursor + step) % words).find(|word| self.free[*word] != 0)?;
        self.cursor = word;
        let slot = word as u32 * u64::BITS + self.free[word].trailing_zeros();
        self.mark_taken(slot);
        Some(slot)
    }

    /// Marks a free slot as taken.
    pub(super) fn mark_taken(&mut self, slot: u32) {
        let bit = 1 << (slot % u64::BITS);
        let word = &mut self.free[(slot / u64::BITS) as usize];
        assert!(*word & bit != 0, "slot {slot} was taken twice");
        *word &= !bit;
        self.free_count -= 1;
    }

    /// Gives a slot back.
    pub(super) fn give(&mut self, slot: u32) {
        let bit = 1 << (slot % u64::BITS);
        let word = &mut self.free[(slot / u64::BITS) as usize];
        assert!(*word & bit == 0, "slot {slot} was given back twice");
        *word |= bit;
        self.free_count += 1;
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
        assert_eq!((slots.free(), slots.take(), slots.take()), (1, Some(70), None));
    }
}
