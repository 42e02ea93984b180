//! Lives: by what a store that went back in time is found out (R-LIFE-1 to 5; `segment/lives.rs`).

use crate::ids::Incarnation;
use crate::limits::LIFE_NUMBER_MAX;
use serde::{Deserialize, Deserializer, Serialize};

/// One life of a segment. A life begins at each boot, and again while the segment runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Life {
    /// Lives of an earlier incarnation are over.
    pub incarnation: Incarnation,
    /// 1, 2, … in an incarnation; zero: the first, which no peer was told of.
    #[serde(deserialize_with = "number")]
    pub number: u64,
    /// Drawn at random at the boot that began the life: two lives of one number are not the same life.
    pub nonce: u64,
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    crate::ids::at_most(from, LIFE_NUMBER_MAX)
}

impl Life {
    /// The first life of an incarnation.
    pub fn first(incarnation: Incarnation) -> Life {
        Life { incarnation, number: 0, nonce: 0 }
    }

    /// The life after this one.
    #[must_use]
    pub fn next(self, nonce: u64) -> Life {
        Life { number: self.number + 1, nonce, ..self }
    }

    /// Whether it is later than `other`, whatever their nonces.
    pub fn is_above(self, other: Life) -> bool {
        (self.incarnation, self.number) > (other.incarnation, other.number)
    }

    /// Whether a peer that remembers this life holds it against one that says that it lives `claimed`: it is later,
    /// or another of the same number.
    pub fn contradicts(self, claimed: Life) -> bool {
        self.is_above(claimed) || (!claimed.is_above(self) && self.nonce != claimed.nonce)
    }

    /// What follows from two memories of one segment. Of two lives of one number neither is known to be the last:
    /// the result contradicts both.
    #[must_use]
    pub fn merged(self, other: Life) -> Life {
        match () {
            () if self.is_above(other) || self == other => self,
            () if other.is_above(self) => other,
            () => self.next(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(incarnation: u32, number: u64, nonce: u64) -> Life {
        Life { incarnation: Incarnation(incarnation), number, nonce }
    }

    #[test]
    fn a_later_life_and_another_of_the_same_number_contradict() {
        assert!(life(0, 2, 7).contradicts(life(0, 1, 7)));
        assert!(life(1, 0, 0).contradicts(life(0, 9, 7)), "an incarnation ends every life of an earlier one");
        assert!(life(0, 2, 7).contradicts(life(0, 2, 8)));
        assert!(!life(0, 2, 7).contradicts(life(0, 2, 7)));
        assert!(!life(0, 2, 7).contradicts(life(0, 3, 1)));
    }

    #[test]
    fn merging_two_of_one_number_contradicts_both() {
        let merged = life(0, 2, 7).merged(life(0, 2, 8));
        assert!(merged.contradicts(life(0, 2, 7)) && merged.contradicts(life(0, 2, 8)));
        assert_eq!(life(0, 2, 7).merged(life(0, 3, 8)), life(0, 3, 8));
    }
}
