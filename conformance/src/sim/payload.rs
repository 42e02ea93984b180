//! The simulation's payload: a number, and a page that remembers exactly which numbers were applied in which order.

use auriga_protocol::Payload;
use serde::{Deserialize, Serialize};

/// One change. Each has its own number, so that no two histories of a page look alike. Every eighth clears its page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Mark(pub u32);

/// A page: how many marks were applied, and a digest of which ones, in order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Marked {
    /// Marks applied.
    pub count: u32,
    /// Digest of the sequence: differs when a mark is missing, doubled or out of order.
    pub digest: u64,
}

impl Payload for Mark {
    type Page = Marked;

    fn apply(&self, page: &mut Marked) {
        if self.may_clear() {
            *page = Marked::default();
            return;
        }
        page.count += 1;
        page.digest = mix(page.digest ^ u64::from(self.0));
    }

    fn weight(&self) -> usize {
        8
    }

    fn may_clear(&self) -> bool {
        self.0.is_multiple_of(8)
    }
}

/// A bijection that spreads every input bit over the word (the finaliser of SplitMix64).
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(marks: &[u32]) -> Marked {
        let mut page = Marked::default();
        marks.iter().for_each(|mark| Mark(*mark).apply(&mut page));
        page
    }

    #[test]
    fn a_page_tells_missing_doubled_and_swapped_marks_apart() {
        let right = page(&[1, 2, 3]);
        for wrong in [&[1, 3][..], &[1, 2, 2, 3], &[2, 1, 3], &[1, 2, 3, 3], &[]] {
            assert_ne!(page(wrong), right, "{wrong:?}");
        }
        assert_eq!(page(&[1, 2, 3]), right);
    }
}
