//! A loss that an operator accepts (R-REJOIN-8, decision 0068): the way out where too many journals were lost at once.
//!
//! A segment that lost its journal asks others until no read quorum is left unasked. With three of six lost, none can.
//! Every acknowledged record is on one of the other three, because a write quorum has four. What may be missing is
//! promises: a candidate that was promised by the lost three alone may still install. And lives: who starts needs three
//! witnesses. No machine can know that such a candidate is gone, and that none of the survivors is an old copy. A
//! person says so.
//!
//! ```text
//!   survivors   remember the loss, and promise the *fence*, a volume epoch of no writer, above all that may be under way ─►
//!               register lives with each other ─► count
//!   the lost    ask again ─► all survivors have answered, each with the fence promised ─► catch up ─► count
//! ```
//!
//! It is refused wherever it is not needed or would not be safe ([`Segment::may_accept`]), whatever an operator asks.

use super::rejoin::Rejoin;
use super::{Entry, Out, Reply, Segment};
use crate::defect::Defect;
use crate::ids::{Incarnation, MemberId, VolumeEpoch, WriterId};
use crate::limits::{EPOCH_NUMBER_MAX, EPOCH_STEP_MAX};
use crate::membership::Step;
use crate::note::Note;
use crate::quorum::MemberSet;
use crate::record::Payload;
use core::fmt;
use serde::{Deserialize, Serialize};

/// How far the fence is above the highest promise of the survivors: more candidates than can have been refused without
/// one of the survivors hearing of them.
const FENCE_STEP: u64 = 1 << 20;

/// What the operator says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct AcceptedLoss {
    /// Whose journals are lost, for good.
    pub lost: MemberSet,
    /// Every survivor promises it, so that no earlier candidate can install any more. It is of no writer.
    pub fence: VolumeEpoch,
}

/// Why a segment does not accept a loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAccepted {
    /// No member is named, or one that does not exist.
    NoMembers,
    /// No read quorum would be left: what was acknowledged may be lost.
    TooMany,
    /// This segment is named as lost, and is not.
    NotLost,
    /// This segment is not named as lost, and has itself lost what it promised.
    LostToo,
    /// The fence is below what this segment has promised.
    FenceTooLow {
        /// The promise.
        promised: VolumeEpoch,
    },
    /// The fence is a writer's volume epoch, or implausibly far above.
    NoFence,
}

impl fmt::Display for NotAccepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAccepted::NoMembers => f.write_str("it names no member as lost, or one that is no member"),
            NotAccepted::TooMany => f.write_str("no read quorum would be left: what was acknowledged may be lost"),
            NotAccepted::NotLost => f.write_str("this segment is named as lost, and it is not"),
            NotAccepted::LostToo => f.write_str("this segment is not named as lost, and lost its journal, too"),
            NotAccepted::FenceTooLow { promised } => write!(f, "the fence is below {promised}, which is promised here"),
            NotAccepted::NoFence => f.write_str("the fence is no such volume epoch as a loss is accepted with"),
        }
    }
}

impl AcceptedLoss {
    /// The loss of `lost`, where `promised` is the highest promise of all others.
    pub fn new(lost: MemberSet, promised: VolumeEpoch) -> AcceptedLoss {
        AcceptedLoss { lost, fence: VolumeEpoch::new(promised.number + FENCE_STEP, WriterId(0)) }
    }

    /// Those that have not lost their journals.
    pub fn survivors(&self, members: MemberSet) -> MemberSet {
        members.minus(self.lost)
    }

    /// Whether the loss can be accepted in a group, whatever its segments know.
    ///
    /// # Errors
    /// Why not.
    pub fn is_sound(&self, membership: &Step) -> Result<(), NotAccepted> {
        let members = membership.members();
        let ours = !self.lost.is_empty() && self.lost.and(members) == self.lost;
        let of_nobody = self.fence.writer == WriterId(0) && self.fence.number <= EPOCH_NUMBER_MAX - EPOCH_STEP_MAX;
        match () {
            () if !ours => Err(NotAccepted::NoMembers),
            () if !membership.read_met(self.survivors(members)) => Err(NotAccepted::TooMany),
            () if !of_nobody => Err(NotAccepted::NoFence),
            () => Ok(()),
        }
    }

    /// Returns whether a lost segment has heard enough: all survivors.
    pub(super) fn is_answered(&self, by: MemberId, members: MemberSet, heard: MemberSet) -> bool {
        self.lost.contains(by) && self.survivors(members).minus(heard).is_empty()
    }
}

impl<P: Payload> Segment<P> {
    /// Whether this segment accepts the loss.
    ///
    /// # Errors
    /// Why not.
    pub fn may_accept(&self, loss: &AcceptedLoss) -> Result<(), NotAccepted> {
        loss.is_sound(&self.membership)?;
        let promised = self.promised;
        let is_near = loss.fence.number <= promised.number.saturating_add(EPOCH_STEP_MAX);
        let asks = matches!(self.rejoin, Some(Rejoin::Blank { .. } | Rejoin::Numbering { .. } | Rejoin::Asking { .. }));
        match loss.lost.contains(self.id.member) {
            true if !asks => Err(NotAccepted::NotLost),
            true => Ok(()),
            false if self.rejoin.is_some() => Err(NotAccepted::LostToo),
            false if loss.fence < promised => Err(NotAccepted::FenceTooLow { promised }),
            false if !is_near => Err(NotAccepted::NoFence),
            false => Ok(()),
        }
    }

    /// R-REJOIN-8. Saying it again changes nothing. It is kept for this start alone: on disk it would be part of
    /// copies, and one that came back long after would count with fewer answers than it needs.
    pub(super) fn on_accept_loss(&mut self, loss: AcceptedLoss, out: &mut Out<P>) {
        if self.accepted == Some(loss) || self.may_accept(&loss).is_err() {
            return;
        }
        self.accepted = Some(loss);
        if loss.lost.contains(self.id.member) {
            self.ask_anew(out);
        } else {
            self.outlive(loss, out);
        }
        self.answer(Reply::LossAccepted, out);
        self.register_if_remembered(out);
    }

    /// Of one that is lost: whatever it was told before the survivors knew of the acceptance is of no use.
    fn ask_anew(&mut self, out: &mut Out<P>) {
        if !matches!(self.rejoin, Some(Rejoin::Blank { .. })) {
            self.resume_rejoining(None);
            self.append(Entry::Amnesia { incarnation: self.standing.incarnation, target: None }, out);
        }
        self.ask_to_rejoin(out);
    }

    /// Of a survivor: what the lost said before does not count any more, and no writer but a new one is served.
    fn outlive(&mut self, loss: AcceptedLoss, out: &mut Out<P>) {
        for member in loss.lost.iter() {
            let known = self.standing.losses.get(&member).copied().unwrap_or_default();
            let incarnation = Incarnation(known.0 + 1);
            self.remember_loss(member, incarnation);
            self.append(Entry::PeerLoss { member, incarnation }, out);
        }
        if loss.fence > self.promised && !self.config.defects.has(Defect::LossAcceptedWithoutFence) {
            self.promised = loss.fence;
            self.append(Entry::Promise { volume_epoch: loss.fence }, out);
        }
    }

    /// Whether an answer to one that is lost was given before its sender had promised the fence.
    pub(super) fn is_before_the_fence(&self, promised: VolumeEpoch) -> bool {
        let fence = self.accepted.filter(|loss| loss.lost.contains(self.id.member)).map(|loss| loss.fence);
        fence.is_some_and(|fence| promised < fence) && !self.config.defects.has(Defect::LossAcceptedWithoutFence)
    }

    /// Whether `heard` are all other survivors, where a loss was accepted: then no more can witness a life.
    pub(super) fn survivors_remember(&self, heard: MemberSet) -> bool {
        self.accepted.filter(|loss| !loss.lost.contains(self.id.member)).is_some_and(|loss| {
            let others = loss.survivors(self.membership.members()).without(self.id.member);
            others.and(heard) == others
        })
    }

    pub(super) fn tell_of_acceptance(&self, out: &mut Out<P>) {
        if let Some(AcceptedLoss { lost, fence }) = self.accepted {
            out.note(Note::LossAccepted { segment: self.id, lost, fence });
        }
    }
}

/// What is seen of the members of a group from outside; `None`: the member does not answer.
pub type Seen = alloc::collections::BTreeMap<MemberId, Option<super::SegmentStatus>>;

/// Why no loss is proposed to a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotProposed {
    /// It can't be accepted in this group.
    Unsound(NotAccepted),
    /// This member is named as lost, and counts or will count again.
    NotLost(MemberId),
    /// This member is not named as lost, and does not answer.
    Silent(MemberId),
    /// This member is not named as lost, and lost its journal.
    LostToo(MemberId),
    /// The lost come back by themselves.
    NotNeeded,
}

impl fmt::Display for NotProposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotProposed::Unsound(why) => write!(f, "{why}"),
            NotProposed::NotLost(member) => write!(f, "{member} is named as lost, and it is not"),
            NotProposed::Silent(member) => write!(f, "{member} does not answer: start its process, or name it as lost"),
            NotProposed::LostToo(member) => write!(f, "{member} lost its journal, too, and is not named"),
            NotProposed::NotNeeded => f.write_str("enough others are left: the lost come back by themselves"),
        }
    }
}

/// What an operator may say to the segments of a group, where these are lost (R-REJOIN-8). Each segment judges by
/// itself.
///
/// # Errors
/// Why there is nothing to say.
pub fn propose(membership: &Step, lost: MemberSet, seen: &Seen) -> Result<AcceptedLoss, NotProposed> {
    let mut promised = VolumeEpoch::NONE;
    for member in membership.members().iter() {
        match (lost.contains(member), seen.get(&member).and_then(Option::as_ref)) {
            (true, None) => {}
            (true, Some(status)) if status.rejoining => {}
            (true, Some(_)) => return Err(NotProposed::NotLost(member)),
            (false, None) => return Err(NotProposed::Silent(member)),
            (false, Some(status)) if status.rejoining => return Err(NotProposed::LostToo(member)),
            (false, Some(status)) => promised = promised.max(status.promised),
        }
    }
    let loss = AcceptedLoss::new(lost, promised);
    loss.is_sound(membership).map_err(NotProposed::Unsound)?;
    let survivors = loss.survivors(membership.members());
    let needed = lost.iter().any(|member| !membership.rejoin_met(member, survivors));
    if needed { Ok(loss) } else { Err(NotProposed::NotNeeded) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::{Membership, QuorumSet};
    use crate::segment::SegmentStatus;

    fn set(members: &[u8]) -> MemberSet {
        members.iter().map(|member| MemberId(*member)).collect()
    }

    /// Six members of which `rejoining` lost their journals, and `silent` do not answer.
    fn seen(rejoining: &[u8], silent: &[u8]) -> Seen {
        let promised = VolumeEpoch::new(7, WriterId(3));
        let status =
            |member| SegmentStatus { promised, rejoining: rejoining.contains(&member), ..SegmentStatus::default() };
        (0..6).map(|member| (MemberId(member), (!silent.contains(&member)).then(|| status(member)))).collect()
    }

    fn proposed(lost: &[u8], seen: &Seen) -> Result<AcceptedLoss, NotProposed> {
        propose(&Step::first(Membership::initial(QuorumSet::aurora())), set(lost), seen)
    }

    #[test]
    fn three_of_six_may_be_accepted_as_lost_and_the_fence_is_far_above() {
        let loss = proposed(&[0, 1, 2], &seen(&[0, 1], &[2])).expect("A and B lost theirs, and C is gone");
        assert_eq!(loss, AcceptedLoss { lost: set(&[0, 1, 2]), fence: VolumeEpoch::new(7 + (1 << 20), WriterId(0)) });
    }

    #[test]
    fn nothing_else_is_proposed() {
        let lost = seen(&[0, 1, 2], &[]);
        assert_eq!(proposed(&[0, 1], &lost), Err(NotProposed::LostToo(MemberId(2))));
        assert_eq!(proposed(&[0, 1, 2, 3], &lost), Err(NotProposed::NotLost(MemberId(3))));
        assert_eq!(proposed(&[0, 1], &seen(&[0, 1], &[])), Err(NotProposed::NotNeeded));
        assert_eq!(proposed(&[0, 1, 2], &seen(&[0, 1, 2], &[5])), Err(NotProposed::Silent(MemberId(5))));
        let four = seen(&[0, 1, 2, 3], &[]);
        assert_eq!(proposed(&[0, 1, 2, 3], &four), Err(NotProposed::Unsound(NotAccepted::TooMany)));
        assert_eq!(proposed(&[], &seen(&[], &[])), Err(NotProposed::Unsound(NotAccepted::NoMembers)));
        assert_eq!(proposed(&[9], &seen(&[], &[])), Err(NotProposed::Unsound(NotAccepted::NoMembers)));
    }
}
