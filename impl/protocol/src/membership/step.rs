//! A group's membership, and a step from one to the next.

use super::arrangement::{Arrangement, Replacement};
use crate::defect::{Defect, Defects};
use crate::ids::{MemberId, MembershipEpoch, VolumeEpoch};
use crate::limits::{HOMES_MAX, MEMBER_MAX};
use crate::quorum::{MemberSet, QuorumSet};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};

/// A protection group's members, versioned.
///
/// Invariants, checked by [`Membership::is_sound`] of whatever comes from outside:
/// - the quorum set is that of the base members and the replacements under way;
/// - no member is at or above `next_member`: its number was given once (R-MEMBER-8).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Membership {
    /// Raised by each step of a change.
    pub membership_epoch: MembershipEpoch,
    /// The formula in force.
    pub quorum: QuorumSet,
    /// Under way, oldest first.
    pub replacements: Vec<Replacement>,
    /// Where the members live that joined since the group was made. The first ones are where the configuration says.
    pub homes: BTreeMap<MemberId, SocketAddr>,
    /// Who joins next. Every lower number is a member's, or was one's.
    pub next_member: MemberId,
}

/// Why no replacement is begun, or taken back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ReplaceRefused {
    /// The writer does not serve (yet, or any more).
    NotOpen,
    /// There is no such protection group.
    NoSuchGroup,
    /// A step is on its way, or as many replacements as may be are under way. Ask again.
    Busy,
    /// So few members answer that the group could not write, or could not lose one more (R-MEMBER-11).
    TooFewAnswer,
    /// It is no member that can be replaced: none at all, one that joins, or one that is being replaced.
    NotAMember,
    /// It does not join: it never did, or the replacement is complete, or it was undone.
    NotJoining,
    /// Another member of the group lives there.
    HomeTaken,
    /// No process can be reached at this address.
    InvalidHome,
    /// The group has had as many members as a group can have in its life.
    NoIdsLeft,
    /// Too few of the members with which the group was made would stay: a writer that starts finds the others through them.
    FirstMembersStay,
}

impl fmt::Display for ReplaceRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplaceRefused::NotOpen => "the volume's writer does not serve",
            ReplaceRefused::NoSuchGroup => "the volume has no such protection group",
            ReplaceRefused::Busy => "a change of the group's members is under way: ask again",
            ReplaceRefused::TooFewAnswer => "too few members answer: the group could not bear to lose one more",
            ReplaceRefused::NotAMember => "it is no member that can be replaced",
            ReplaceRefused::NotJoining => "it is not joining",
            ReplaceRefused::HomeTaken => "another member of the group lives there",
            ReplaceRefused::InvalidHome => "no process can be reached at this address",
            ReplaceRefused::FirstMembersStay => {
                "too few of the members with which the group was made would stay: a writer that starts finds the others \
                 through three of them"
            }
            ReplaceRefused::NoIdsLeft => "the group has had as many members as a group can have in its life",
        })
    }
}

impl Membership {
    /// The first membership of a new group.
    pub fn initial(quorum: QuorumSet) -> Membership {
        let next_member = after(quorum.members());
        let (replacements, homes) = (Vec::new(), BTreeMap::new());
        Membership { membership_epoch: MembershipEpoch(1), quorum, replacements, homes, next_member }
    }

    /// Whether it is a group's first: nobody joined it since it was made.
    pub fn is_first(&self) -> bool {
        self.membership_epoch <= MembershipEpoch(1) && self.replacements.is_empty() && self.homes.is_empty()
    }

    /// Everyone who is written to: those who join, too.
    pub fn members(&self) -> MemberSet {
        self.quorum.members()
    }

    /// Those who join.
    pub fn joining(&self) -> MemberSet {
        self.replacements.iter().map(|replacement| replacement.new).collect()
    }

    /// Where a member lives; `None`: where the configuration says, if it is one of the first members.
    pub fn home(&self, member: MemberId) -> Option<SocketAddr> {
        self.homes.get(&member).copied()
    }

    /// Whether the member was one once, and is none any more, for good.
    pub fn has_left(&self, member: MemberId) -> bool {
        member < self.next_member && !self.members().contains(member)
    }

    /// Base members and replacements.
    pub fn arrangement(&self) -> Arrangement {
        let needed = |thresholds: &[crate::quorum::Threshold]| thresholds.first().map_or(0, |first| first.needed);
        let base = self.quorum.read.first().map_or(MemberSet::EMPTY, |first| first.members);
        let (write, read) = (needed(&self.quorum.write), needed(&self.quorum.read));
        Arrangement { base, replacements: self.replacements.clone(), write, read }
    }

    fn next(&self, arrangement: &Arrangement, defects: Defects) -> Membership {
        let quorum = arrangement.quorum(defects);
        let members = quorum.members();
        let homes = self.homes.iter().filter(|(member, _)| members.contains(**member));
        Membership {
            membership_epoch: MembershipEpoch(self.membership_epoch.0 + 1),
            replacements: arrangement.replacements.clone(),
            homes: homes.map(|(member, home)| (*member, *home)).collect(),
            next_member: self.next_member.max(after(members)),
            quorum,
        }
    }

    /// The membership in which a new member, at `home`, takes the place of `old`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn replacing(
        &self,
        old: MemberId,
        home: SocketAddr,
        defects: Defects,
    ) -> Result<(Membership, MemberId), ReplaceRefused> {
        let new = self.next_member;
        if home.port() == 0 || home.ip().is_unspecified() || home.ip().is_multicast() {
            return Err(ReplaceRefused::InvalidHome);
        }
        if self.homes.iter().any(|(member, other)| *other == home && *member != old) {
            return Err(ReplaceRefused::HomeTaken);
        }
        if new.0 > MEMBER_MAX {
            return Err(ReplaceRefused::NoIdsLeft);
        }
        let arrangement = self.arrangement();
        if arrangement.replacements.len() >= super::REPLACEMENTS_MAX {
            return Err(ReplaceRefused::Busy);
        }
        let next = arrangement.replacing(Replacement { old, new }).ok_or(ReplaceRefused::NotAMember)?;
        let mut next = self.next(&next, defects);
        next.homes.insert(new, home);
        Ok((next, new))
    }

    /// The membership without the replacement by `new`. The number of `new` is not given again.
    ///
    /// # Errors
    /// There is no such replacement.
    pub fn undoing(&self, new: MemberId, defects: Defects) -> Result<Membership, ReplaceRefused> {
        let next = self.arrangement().without(new).ok_or(ReplaceRefused::NotJoining)?;
        Ok(self.next(&next, defects))
    }

    /// The membership in which the replacement by `new` is complete.
    pub fn completing(&self, new: MemberId, defects: Defects) -> Option<Membership> {
        Some(self.next(&self.arrangement().completing(new)?, defects))
    }

    /// The invariants in the type's description, and those of the quorum set. False for what no writer can have meant.
    pub fn is_sound(&self) -> bool {
        let members = self.members();
        let short = self.replacements.len() <= super::REPLACEMENTS_MAX && self.homes.len() <= HOMES_MAX;
        let known = |member: &MemberId| members.contains(*member);
        short
            && !members.is_empty()
            && self.quorum.is_sound()
            && after(members) <= self.next_member
            && self.homes.keys().all(known)
            && self.arrangement().quorum(Defects::NONE) == self.quorum
    }
}

/// The number after the highest.
fn after(members: MemberSet) -> MemberId {
    MemberId((u64::BITS - members.0.leading_zeros()) as u8)
}

/// A step from the membership in force to the next one. Equal where no step is on its way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Of the writer that installed it last (R-MEMBER-7).
    pub volume_epoch: VolumeEpoch,
    /// In force.
    pub before: Membership,
    /// In force as soon as it is durable on a write quorum of both.
    pub next: Membership,
}

impl Step {
    /// No step on its way, in the membership with which a group is made.
    pub fn first(membership: Membership) -> Step {
        Step::settled(VolumeEpoch::NONE, membership)
    }

    /// No step on its way.
    pub fn settled(volume_epoch: VolumeEpoch, membership: Membership) -> Step {
        Step { volume_epoch, before: membership.clone(), next: membership }
    }

    /// Whether no step is on its way: this membership is in force.
    pub fn is_settled(&self) -> bool {
        self.before == self.next
    }

    /// Whether this step is later than `other`, of the same volume epoch.
    pub fn is_after(&self, other: &Step) -> bool {
        self.epochs() > other.epochs()
    }

    /// The membership epochs of both sides: of the steps of one volume epoch the later has the higher.
    pub fn epochs(&self) -> (MembershipEpoch, MembershipEpoch) {
        (self.next.membership_epoch, self.before.membership_epoch)
    }

    /// Everyone of either side.
    pub fn members(&self) -> MemberSet {
        self.before.members().or(self.next.members())
    }

    /// Where a member of either side lives.
    pub fn home(&self, member: MemberId) -> Option<SocketAddr> {
        self.next.home(member).or_else(|| self.before.home(member))
    }

    /// Whether `present` is a write quorum for a writer that knows of this step: of both sides, since others may still
    /// read by the one before (R-MEMBER-5).
    pub fn write_met(&self, present: MemberSet, defects: Defects) -> bool {
        let before = self.before.quorum.write_met(present) || defects.has(Defect::StepCountedBeforeInForce);
        before && self.next.quorum.write_met(present)
    }

    /// Whether `present` is a read quorum of both sides: it meets whatever was acknowledged, and the step after this one
    /// if there is any (R-MEMBER-6).
    pub fn read_met(&self, present: MemberSet) -> bool {
        self.before.quorum.read_met(present) && self.next.quorum.read_met(present)
    }

    /// [`QuorumSet::rejoin_met`] of both sides.
    pub fn rejoin_met(&self, forgetful: MemberId, present: MemberSet) -> bool {
        self.both(|quorum| quorum.rejoin_met(forgetful, present))
    }

    /// [`QuorumSet::life_met`] of both sides.
    pub fn life_met(&self, asker: MemberId, heard: MemberSet) -> bool {
        self.both(|quorum| quorum.life_met(asker, heard))
    }

    /// The lower of both sides' [`QuorumSet::write_point`].
    pub fn write_point<V: Copy + Ord + Default>(&self, value_of: impl Fn(MemberId) -> V, defects: Defects) -> V {
        let next = self.next.quorum.write_point(&value_of);
        if self.is_settled() || defects.has(Defect::StepCountedBeforeInForce) {
            return next;
        }
        next.min(self.before.quorum.write_point(&value_of))
    }

    /// Whether both sides are sound, and the second follows the first.
    pub fn is_sound(&self) -> bool {
        let follows = self.next.membership_epoch.0 == self.before.membership_epoch.0 + 1;
        let keeps_ids = self.next.next_member >= self.before.next_member;
        (self.is_settled() || (follows && keeps_ids && self.before.is_sound())) && self.next.is_sound()
    }

    fn both(&self, met: impl Fn(&QuorumSet) -> bool) -> bool {
        met(&self.next.quorum) && (self.is_settled() || met(&self.before.quorum))
    }
}

/// Whether a member at `own` takes a write of a writer at `writers` (R-MEMBER-1).
pub fn admits(own: MembershipEpoch, writers: MembershipEpoch, defects: Defects) -> bool {
    writers >= own || defects.has(Defect::MembershipStaleAccepted)
}

/// The membership in force, as a recovery finds it that begins with `known` and is answered by `present`, each with the
/// membership that it has (R-MEMBER-6). `None`: too few have answered.
///
/// Each step was made durable on a write quorum of the quorum set before it, so a read quorum of any set that was ever in
/// force meets it or a later one: a reader that follows the highest among the answers ends at the one in force.
pub fn in_force(known: &Membership, present: &[(MemberId, Membership)]) -> Option<Membership> {
    let asked: MemberSet = present.iter().map(|(member, _)| *member).collect();
    let heard = present.iter().map(|(_, membership)| membership);
    let highest = heard.chain([known]).max_by_key(|membership| membership.membership_epoch)?;
    highest.quorum.read_met(asked).then(|| highest.clone())
}

/// A group's first membership as journals and page files have always kept it: membership epoch and quorum set. For
/// `#[serde(with)]`, and for first memberships only.
pub mod as_first {
    use super::Membership;
    use crate::ids::MembershipEpoch;
    use crate::quorum::QuorumSet;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    #[serde(rename = "Membership")]
    struct Shown<'a> {
        membership_epoch: MembershipEpoch,
        quorum: &'a QuorumSet,
    }

    #[derive(Deserialize)]
    #[serde(rename = "Membership")]
    struct Kept {
        membership_epoch: MembershipEpoch,
        quorum: QuorumSet,
    }

    /// Writes the two fields.
    ///
    /// # Errors
    /// The serialiser's.
    pub fn serialize<S: Serializer>(membership: &Membership, to: S) -> Result<S::Ok, S::Error> {
        let Membership { membership_epoch, quorum, .. } = membership;
        Shown { membership_epoch: *membership_epoch, quorum }.serialize(to)
    }

    /// Reads them.
    ///
    /// # Errors
    /// The deserialiser's.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Membership, D::Error> {
        let Kept { membership_epoch, quorum } = Kept::deserialize(from)?;
        Ok(Membership { membership_epoch, ..Membership::initial(quorum) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn steady() -> Membership {
        Membership::initial(QuorumSet::aurora())
    }

    #[test]
    fn a_number_is_given_once() {
        let none = Defects::NONE;
        let (one, new) = steady().replacing(MemberId(5), home(7), none).expect("F→G makes sense");
        assert_eq!((new, one.home(new), one.next_member), (MemberId(6), Some(home(7)), MemberId(7)));
        let undone = one.undoing(new, none).expect("G joins");
        assert!(undone.has_left(new) && undone.homes.is_empty() && undone.is_sound() && one.is_sound());
        let (two, new) = undone.replacing(MemberId(5), home(7), none).expect("F→H makes sense");
        assert_eq!(new, MemberId(7));
        let done = two.completing(new, none).expect("H joins");
        assert!(done.has_left(MemberId(5)) && done.has_left(MemberId(6)) && !done.has_left(MemberId(8)));
        assert_eq!((done.home(new), done.membership_epoch), (Some(home(7)), MembershipEpoch(5)));
        assert!(done.is_sound());
    }

    #[test]
    fn a_group_of_six_can_have_58_members_replaced() {
        let mut membership = steady();
        for number in 6..64 {
            let old = membership.members().iter().next().expect("six members");
            let (begun, new) = membership.replacing(old, home(number.into()), Defects::NONE).expect("a number is left");
            assert_eq!(new, MemberId(number));
            membership = begun.completing(new, Defects::NONE).expect("it joins");
            assert!(membership.is_sound());
        }
        let refused = membership.replacing(MemberId(63), home(99), Defects::NONE);
        assert_eq!(refused.expect_err("none is left"), ReplaceRefused::NoIdsLeft);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |membership: &Membership, old, at| membership.replacing(MemberId(old), at, Defects::NONE).err();
        let (one, _) = steady().replacing(MemberId(5), home(7), Defects::NONE).expect("F→G makes sense");
        assert_eq!(refused(&one, 4, home(7)), Some(ReplaceRefused::HomeTaken));
        assert_eq!(refused(&one, 5, home(8)), Some(ReplaceRefused::NotAMember), "F is going already");
        assert_eq!(refused(&one, 6, home(8)), Some(ReplaceRefused::NotAMember), "G joins");
        assert_eq!(refused(&one, 4, home(0)), Some(ReplaceRefused::InvalidHome));
        let (two, _) = one.replacing(MemberId(4), home(8), Defects::NONE).expect("E→H makes sense");
        assert_eq!(refused(&two, 3, home(9)), Some(ReplaceRefused::Busy));
        assert_eq!(two.undoing(MemberId(3), Defects::NONE).err(), Some(ReplaceRefused::NotJoining));
    }

    #[test]
    fn a_formula_that_does_not_follow_from_its_members_is_unsound() {
        let (one, new) = steady().replacing(MemberId(5), home(7), Defects::NONE).expect("F→G makes sense");
        let other = |quorum| Membership { quorum, ..one.clone() };
        assert!(!other(QuorumSet::aurora()).is_sound(), "the replacement is missing in it");
        assert!(!Membership { next_member: new, ..one.clone() }.is_sound(), "G could be given again");
        assert!(!Membership { replacements: Vec::new(), ..one.clone() }.is_sound());
        assert!(Step { volume_epoch: VolumeEpoch::NONE, before: steady(), next: one.clone() }.is_sound());
        let skips = one.completing(new, Defects::NONE).expect("G joins");
        assert!(!Step { volume_epoch: VolumeEpoch::NONE, before: steady(), next: skips }.is_sound());
    }
}
