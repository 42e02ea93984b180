//! Quorum sets: Boolean formulas over the members of a protection group (18 §4.1).
//!
//! Steady state: write 4/6, read 3/6. Through a change F→G: write `4/6 of ABCDEF AND 4/6 of ABCDEG`, read 3/6 of ABCDEF
//! (`membership/` says why not of ABCDEG).
//!
//! Invariants, checked by [`QuorumSet::is_sound`]:
//! - every read quorum meets every write quorum;
//! - any two write quorums meet.

use crate::ids::MemberId;
use crate::limits::{MEMBERS_AT_ONCE_MAX, THRESHOLDS_MAX};
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

pub use crate::membership::Membership;

/// A set of members, as bits. Members 0..=63.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct MemberSet(pub u64);

impl MemberSet {
    /// No member.
    pub const EMPTY: MemberSet = MemberSet(0);

    /// The first `n` members: `A`, `B`, …
    pub fn first(n: u8) -> MemberSet {
        MemberSet(((1u128 << n) - 1) as u64)
    }

    /// Whether `member` is in the set.
    pub fn contains(self, member: MemberId) -> bool {
        self.0 >> member.0 & 1 == 1
    }

    /// The set with `member`.
    #[must_use]
    pub fn with(self, member: MemberId) -> MemberSet {
        MemberSet(self.0 | 1 << member.0)
    }

    /// The set without `member`.
    #[must_use]
    pub fn without(self, member: MemberId) -> MemberSet {
        MemberSet(self.0 & !(1 << member.0))
    }

    /// Members of both.
    #[must_use]
    pub fn and(self, other: MemberSet) -> MemberSet {
        MemberSet(self.0 & other.0)
    }

    /// Members of either.
    #[must_use]
    pub fn or(self, other: MemberSet) -> MemberSet {
        MemberSet(self.0 | other.0)
    }

    /// Members of this one and not of the other.
    #[must_use]
    pub fn minus(self, other: MemberSet) -> MemberSet {
        MemberSet(self.0 & !other.0)
    }

    /// How many.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Every subset, the empty one and itself included.
    pub(crate) fn subsets(self) -> impl Iterator<Item = MemberSet> {
        let next = move |set: &MemberSet| (*set != self).then(|| MemberSet(set.0.wrapping_sub(self.0) & self.0));
        core::iter::successors(Some(MemberSet::EMPTY), next)
    }

    /// Ascending.
    pub fn iter(self) -> impl Iterator<Item = MemberId> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let first = left.trailing_zeros() as u8;
            (left > 0).then(|| {
                left &= left - 1;
                MemberId(first)
            })
        })
    }
}

impl FromIterator<MemberId> for MemberSet {
    fn from_iter<I: IntoIterator<Item = MemberId>>(members: I) -> Self {
        members.into_iter().fold(MemberSet::EMPTY, MemberSet::with)
    }
}

impl fmt::Debug for MemberSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|member| write!(f, "{member}"))
    }
}

/// `needed` of `members`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Threshold {
    /// How many must be there.
    pub needed: u8,
    /// Of whom.
    pub members: MemberSet,
}

impl Threshold {
    fn met(self, present: MemberSet) -> bool {
        present.and(self.members).len() >= u32::from(self.needed)
    }
}

/// Write quorum: *every* threshold of `write`. Read quorum: *any* threshold of `read`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct QuorumSet {
    /// Conjunction.
    pub write: Vec<Threshold>,
    /// Disjunction.
    pub read: Vec<Threshold>,
}

impl QuorumSet {
    /// `write`-of-n and `read`-of-n over `members`.
    pub fn steady(members: MemberSet, write: u8, read: u8) -> QuorumSet {
        let threshold = |needed| Threshold { needed, members };
        QuorumSet { write: [threshold(write)].into(), read: [threshold(read)].into() }
    }

    /// Aurora's quorum over members A to F: write 4/6, read 3/6 (17 §2.1).
    pub fn aurora() -> QuorumSet {
        QuorumSet::steady(MemberSet::first(6), 4, 3)
    }

    /// Whether `present` holds a write quorum.
    pub fn write_met(&self, present: MemberSet) -> bool {
        self.write.iter().all(|threshold| threshold.met(present))
    }

    /// Whether `present` holds a read quorum: enough for repair and recovery.
    pub fn read_met(&self, present: MemberSet) -> bool {
        self.read.iter().any(|threshold| threshold.met(present))
    }

    /// Everyone named.
    pub fn members(&self) -> MemberSet {
        self.write.iter().chain(&self.read).fold(MemberSet::EMPTY, |all, threshold| all.or(threshold.members))
    }

    /// Whether knowing what `present` knows is enough to stand in for a member that forgot: no read quorum can be
    /// formed from those who were not asked (R-REJOIN-1).
    pub fn rejoin_met(&self, forgetful: MemberId, present: MemberSet) -> bool {
        let unasked = self.members().minus(present).with(forgetful);
        !self.read_met(unasked)
    }

    /// Whether any two askings that have met this share someone who was asked, other than `asker`: more than half of
    /// the others (R-LIFE-3). Of six: three of the other five.
    pub fn life_met(&self, asker: MemberId, heard: MemberSet) -> bool {
        self.write.iter().all(|threshold| {
            let others = threshold.members.without(asker);
            2 * heard.and(others).len() > others.len()
        })
    }

    /// The greatest value that a write quorum of members has reached, given each member's own.
    ///
    /// With values = SCLs this is PGCL (18 §2.3).
    pub fn write_point<V: Copy + Ord + Default>(&self, value_of: impl Fn(MemberId) -> V) -> V {
        let mut values: Vec<(V, MemberId)> = self.members().iter().map(|member| (value_of(member), member)).collect();
        values.sort_unstable_by(|one, other| other.cmp(one));
        let mut reached = MemberSet::EMPTY;
        let met = values.into_iter().find(|(_, member)| {
            reached = reached.with(*member);
            self.write_met(reached)
        });
        met.map_or(V::default(), |(value, _)| value)
    }

    /// Whether the formula is short enough and its quorums overlap as they must, by enumeration of its members' subsets
    /// (2^8 at most in practice; 2^[`MEMBERS_AT_ONCE_MAX`] of a formula from a stranger, [`THRESHOLDS_MAX`] each).
    pub fn is_sound(&self) -> bool {
        let all = self.members();
        let is_long = self.write.len() > THRESHOLDS_MAX || self.read.len() > THRESHOLDS_MAX;
        if is_long || all.len() > MEMBERS_AT_ONCE_MAX {
            return false;
        }
        let disjoint_from_write = |set: MemberSet| self.write_met(all.minus(set));
        all.subsets().filter(|set| self.write_met(*set) || self.read_met(*set)).all(|set| !disjoint_from_write(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aurora_is_sound_and_weaker_formulas_are_not() {
        assert!(QuorumSet::aurora().is_sound());
        assert!(!QuorumSet::steady(MemberSet::first(6), 3, 3).is_sound(), "two write quorums of three can be disjoint");
        assert!(!QuorumSet::steady(MemberSet::first(6), 4, 2).is_sound(), "a read quorum of two can miss four writes");
    }

    #[test]
    fn write_point_is_the_fourth_highest() {
        let scl = [9u64, 7, 7, 5, 3, 0];
        assert_eq!(QuorumSet::aurora().write_point(|member| scl[member.0 as usize]), 5);
    }

    #[test]
    fn a_life_is_known_when_three_of_the_other_five_know_it() {
        let met = |members: &[u8]| {
            QuorumSet::aurora().life_met(MemberId(0), members.iter().map(|member| MemberId(*member)).collect())
        };
        assert!(!met(&[1, 2]) && met(&[1, 2, 3]) && !met(&[0, 1, 2]));
    }

    #[test]
    fn who_forgot_must_ask_four_of_the_other_five() {
        let quorum = QuorumSet::aurora();
        let forgetful = MemberId(0);
        assert!(!quorum.rejoin_met(forgetful, [1, 2, 3].map(MemberId).into_iter().collect()));
        assert!(quorum.rejoin_met(forgetful, [1, 2, 3, 4].map(MemberId).into_iter().collect()));
    }
}
