//! What a writer does not believe of a segment.
//!
//! A segment's word can't end a writer whatever it says: volume epochs are promised in steps of at most
//! [`EPOCH_STEP_MAX`] (R-LIMIT-2), so a claim beyond that of one segment alone is false, or of one that an attacker has
//! driven there alone. Either way the others do without it (R-LIMIT-3).

use super::{Out, Writer, WriterRole};
use crate::ids::{Lsn, SegmentId, VolumeEpoch};
use crate::limits::{EPOCH_STEP_MAX, EPOCH_STRIDE_MAX};
use crate::message::SealReport;
use crate::quorum::MemberSet;
use crate::record::Payload;

/// Bytes of records that a recovery takes from one segment: several times what a segment keeps above its floor.
pub(super) const TAIL_WEIGHT_MAX: usize = 256 << 20;

impl<P: Payload> Writer<P> {
    /// The number of the next volume epoch of a candidate that must be above `above`: not farther at one time than
    /// every segment finds plausible. Where that is not enough the candidate is refused, and goes on from there.
    pub(super) fn number_above(&self, above: VolumeEpoch) -> u64 {
        (above.number + 1).min(self.volume_epoch.number + EPOCH_STRIDE_MAX)
    }

    /// Whether a segment that claims to have promised `current` is believed.
    pub(super) fn believes(&self, current: VolumeEpoch) -> bool {
        current.number <= self.volume_epoch.number.saturating_add(EPOCH_STEP_MAX)
    }

    /// A segment claims to have promised an implausible volume epoch. It is passed over, unless too many do for a read
    /// quorum to be left: then they were driven there, and the candidate must follow.
    pub(super) fn doubt(&mut self, from: SegmentId, current: VolumeEpoch, out: &mut Out<P>) {
        if self.role != WriterRole::Sealing {
            return;
        }
        self.recovery.doubted.insert((from.pg, from.member));
        let doubted: MemberSet =
            self.recovery.doubted.iter().filter(|(pg, _)| *pg == from.pg).map(|(_, member)| *member).collect();
        let membership = &self.group(from.pg).membership;
        if !membership.read_met(membership.members().minus(doubted)) {
            self.seal_above(current, out);
        }
    }

    /// Whether a report can be the answer to this candidate's `Seal`: a segment that installed a newer recovery, or
    /// this one, has no promise to give.
    pub(super) fn is_plausible_report(&self, report: &SealReport) -> bool {
        let told = report.install.volume_epoch.max(report.membership.volume_epoch);
        told < self.volume_epoch && (report.membership.is_sound() || self.config.defects.any())
    }

    /// Whether a segment can hold a chain through `scl`: not one that was never sent to it.
    pub(super) fn was_sent(&self, to: SegmentId, scl: Lsn) -> bool {
        self.config.defects.any() || scl <= self.groups[usize::from(to.pg.0)].last
    }
}
