//! Who is in each group, as writers say, and whether that can be (R-MEMBER).

use super::{Verdict, require};
use crate::ids::{Lsn, MemberId, MembershipEpoch, PgId, SegmentId, VolumeEpoch, VolumeId};
use crate::membership::MembershipNote;
use crate::quorum::{Membership, QuorumSet};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use core::net::SocketAddr;
use serde::Serialize;

/// Empty where no group's members were ever changed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize)]
pub(super) struct Members {
    groups: BTreeMap<(VolumeId, PgId), Changes>,
    left: BTreeSet<SegmentId>,
    made: BTreeMap<SegmentId, SocketAddr>,
    /// How far a group was complete when a writer changed its members.
    complete: BTreeMap<(VolumeId, PgId, VolumeEpoch), Lsn>,
}

/// What was said to be in force, by the volume epoch of the writer that said it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize)]
struct Changes(BTreeMap<(VolumeEpoch, MembershipEpoch), Membership>);

impl Members {
    /// What a writer of this volume epoch counts by; `None`: as the group was founded.
    pub fn quorum(&self, volume: VolumeId, pg: PgId, volume_epoch: VolumeEpoch) -> Option<&QuorumSet> {
        let changes = &self.groups.get(&(volume, pg))?.0;
        let known = changes.range(..=(volume_epoch, MembershipEpoch(u64::MAX))).next_back();
        known.map(|(_, membership)| &membership.quorum)
    }

    /// Through here the writer had counted by an earlier membership.
    pub fn complete(&self, volume: VolumeId, pg: PgId, volume_epoch: VolumeEpoch) -> Lsn {
        self.complete.get(&(volume, pg, volume_epoch)).copied().unwrap_or_default()
    }

    /// The writer counted by what was in force until now.
    pub fn completes(&mut self, volume: VolumeId, pg: PgId, volume_epoch: VolumeEpoch, point: Lsn) {
        let complete = self.complete.entry((volume, pg, volume_epoch)).or_default();
        *complete = point.max(*complete);
    }

    pub fn has_left(&self, segment: SegmentId) -> bool {
        self.left.contains(&segment)
    }

    pub fn observe(&mut self, note: &MembershipNote) -> Verdict {
        match note {
            MembershipNote::Changed { volume, pg, volume_epoch, membership } => {
                self.on_changed(*volume, *pg, *volume_epoch, membership)
            }
            MembershipNote::Left { segment } => {
                self.left.insert(*segment);
                let changes = self.groups.get(&(segment.volume, segment.pg));
                let is_out = |membership: &Membership| membership.has_left(segment.member);
                let told = changes.is_some_and(|changes| changes.0.values().any(is_out));
                require(told, "R-MEMBER-10", || format!("{segment} left, and no membership in force is without it"))
            }
            MembershipNote::Made { segment, home } => {
                self.made.insert(*segment, *home);
                Ok(())
            }
            MembershipNote::InForce(_) => Ok(()),
        }
    }

    fn on_changed(&mut self, volume: VolumeId, pg: PgId, by: VolumeEpoch, now: &Membership) -> Verdict {
        let changes = &mut self.groups.entry((volume, pg)).or_default().0;
        let epoch = now.membership_epoch;
        let same = changes.iter().find(|((_, other), known)| *other == epoch && *known != now);
        require(same.is_none(), "R-MEMBER-7", || {
            format!("{volume}/{pg} has {now:?} in force by {by}, after {same:?} of the same membership epoch")
        })?;
        let back = changes.values().find_map(|known| {
            let gone = now.members().iter().find(|member| known.has_left(*member))?;
            (known.membership_epoch < epoch).then_some(gone)
        });
        require(back.is_none(), "R-MEMBER-8", || format!("{volume}/{pg} has {back:?} again, who had left"))?;
        let before = changes.values().filter(|known| known.membership_epoch < epoch);
        let before = before.max_by_key(|known| known.membership_epoch);
        let meets = before.is_none_or(|before| writes_meet_reads(&before.quorum, &now.quorum));
        require(meets && now.quorum.is_sound(), "R-MEMBER-2", || {
            format!("{volume}/{pg} has {now:?} in force after {before:?}: quorums need not meet")
        })?;
        let elsewhere = |member: &MemberId| {
            let made = self.made.get(&SegmentId { volume, pg, member: *member });
            made.is_some_and(|home| now.home(*member) != Some(*home))
        };
        let elsewhere = now.members().iter().find(elsewhere);
        require(elsewhere.is_none(), "R-MEMBER-9", || {
            format!("{volume}/{pg}/{elsewhere:?} was made where {now:?}, which is in force, does not have it")
        })?;
        changes.insert((by, epoch), now.clone());
        Ok(())
    }
}

/// Whether each write quorum of the one meets each read quorum of the other, of the membership after it.
fn writes_meet_reads(before: &QuorumSet, after: &QuorumSet) -> bool {
    let all = before.members().or(after.members());
    all.subsets().filter(|set| after.read_met(*set)).all(|set| !before.write_met(all.minus(set)))
}
