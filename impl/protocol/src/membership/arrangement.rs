//! A group's members and replacements, and the quorum set that follows.

use crate::defect::{Defect, Defects};
use crate::ids::MemberId;
use crate::limits::MEMBER_MAX;
use crate::quorum::{MemberSet, QuorumSet, Threshold};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Most replacements under way at one time: two faults are what a group of six is built to bear.
pub const REPLACEMENTS_MAX: usize = 2;

/// `new` takes the place of `old`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Replacement {
    /// Who goes.
    pub old: MemberId,
    /// Who comes.
    pub new: MemberId,
}

impl Replacement {
    fn of(self, members: MemberSet) -> MemberSet {
        members.without(self.old).with(self.new)
    }
}

/// Base members, and the replacements under way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Arrangement {
    /// Who is read.
    pub base: MemberSet,
    /// At most [`REPLACEMENTS_MAX`].
    pub replacements: Vec<Replacement>,
    /// Write quorum, of as many as `base` has.
    pub write: u8,
    /// Read quorum.
    pub read: u8,
}

impl Arrangement {
    /// No replacement under way.
    pub fn steady(base: MemberSet, write: u8, read: u8) -> Arrangement {
        Arrangement { base, replacements: Vec::new(), write, read }
    }

    /// The arrangement with one more replacement; `None` where it makes no sense (R-MEMBER-2).
    pub fn replacing(&self, replacement: Replacement) -> Option<Arrangement> {
        let Replacement { old, new } = replacement;
        let used = |other: &Replacement| other.old == old || other.new == new;
        let fits = self.base.contains(old) && !self.base.contains(new) && new.0 <= MEMBER_MAX;
        let free = self.replacements.len() < REPLACEMENTS_MAX && !self.replacements.iter().any(used);
        let replacements = self.replacements.iter().copied().chain([replacement]).collect();
        (fits && free).then(|| Arrangement { replacements, ..self.clone() })
    }

    /// The arrangement without the replacement by `new`: undone.
    pub fn without(&self, new: MemberId) -> Option<Arrangement> {
        let replacements: Vec<_> = self.replacements.iter().copied().filter(|other| other.new != new).collect();
        (replacements.len() < self.replacements.len()).then(|| Arrangement { replacements, ..self.clone() })
    }

    /// The replacement by `new` carried out; the other one goes on.
    pub fn completing(&self, new: MemberId) -> Option<Arrangement> {
        let replacement = self.replacements.iter().find(|replacement| replacement.new == new)?;
        let rest = self.without(new)?;
        Some(Arrangement { base: replacement.of(self.base), ..rest })
    }

    /// Every replacement carried out.
    pub fn completed(&self) -> Arrangement {
        let base = self.replacements.iter().fold(self.base, |base, replacement| replacement.of(base));
        Arrangement { base, replacements: Vec::new(), ..self.clone() }
    }

    /// The quorum set: writes meet a quorum whichever replacements are carried out; reads are by the base members.
    pub fn quorum(&self, defects: Defects) -> QuorumSet {
        let mut write = alloc::vec![self.base];
        for replacement in &self.replacements {
            let replaced: Vec<MemberSet> = write.iter().map(|members| replacement.of(*members)).collect();
            if defects.has(Defect::MembershipWithoutOverlap) {
                write.clear();
            }
            write.extend(replaced);
        }
        let mut read = alloc::vec![self.base];
        if defects.has(Defect::NewMemberReadDuringChange) {
            read.push(self.completed().base);
        }
        let all =
            |sets: Vec<MemberSet>, needed| sets.into_iter().map(|members| Threshold { needed, members }).collect();
        QuorumSet { write: all(write, self.write), read: all(read, self.read) }
    }

    /// The members that must be hydrated before the change can be completed.
    pub fn joining(&self) -> MemberSet {
        self.replacements.iter().map(|replacement| replacement.new).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replacement(old: u8, new: u8) -> Replacement {
        Replacement { old: MemberId(old), new: MemberId(new) }
    }

    /// Every write quorum of `one` meets every read quorum and every write quorum of `other`.
    fn overlap(one: &QuorumSet, other: &QuorumSet) -> bool {
        let subsets = || (0..1u64 << 8).map(MemberSet);
        let rest = |set: MemberSet| MemberSet(!set.0 & 0xff);
        let missed = |set: MemberSet| other.read_met(rest(set)) || other.write_met(rest(set));
        subsets().filter(|set| one.write_met(*set)).all(|set| !missed(set))
    }

    #[test]
    fn every_step_of_one_and_two_replacements_overlaps() {
        let steady = Arrangement::steady(MemberSet::first(6), 4, 3);
        let one = steady.replacing(replacement(5, 6)).expect("F→G makes sense");
        let two = one.replacing(replacement(4, 7)).expect("E→H makes sense");
        let none = Defects::NONE;
        for arrangement in [&steady, &one, &two, &one.completed(), &two.completed()] {
            assert!(arrangement.quorum(none).is_sound(), "{arrangement:?}");
        }
        for (before, after) in [(&steady, &one), (&one, &two), (&two, &one), (&one, &steady)] {
            let (before, after) = (before.quorum(none), after.quorum(none));
            assert!(overlap(&before, &after) && overlap(&after, &before));
        }
        // Completing needs more than overlap: an old write meets the new reads only through the hydrated member.
        assert!(!overlap(&steady.quorum(none), &one.completed().quorum(none)));
        assert!(overlap(&one.quorum(none), &one.completed().quorum(none)));
        assert!(overlap(&two.quorum(none), &two.completed().quorum(none)));
        // One of two is carried out while the other goes on.
        for new in [6, 7].map(MemberId) {
            let one = two.completing(new).expect("it is under way");
            assert!(one.quorum(none).is_sound() && overlap(&two.quorum(none), &one.quorum(none)), "{one:?}");
            let (rest, both) = (one.joining().iter().next().expect("the other one"), two.completed());
            assert_eq!(one.completing(rest), Some(both));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let steady = Arrangement::steady(MemberSet::first(6), 4, 3);
        assert_eq!(steady.replacing(replacement(5, 4)), None, "E is a member");
        assert_eq!(steady.replacing(replacement(6, 7)), None, "G is none");
        let one = steady.replacing(replacement(5, 6)).expect("F→G makes sense");
        assert_eq!(one.replacing(replacement(5, 7)), None, "F is going already");
        assert_eq!(one.replacing(replacement(4, 6)), None, "G is coming already");
        let two = one.replacing(replacement(4, 7)).expect("E→H makes sense");
        assert_eq!(two.replacing(replacement(3, 8)), None, "two at most");
        assert_eq!(two.without(MemberId(7)), Some(one));
    }
}
