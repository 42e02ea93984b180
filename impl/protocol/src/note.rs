//! Notes: the observable facts of a run.
//!
//! In the model they feed a history variable; in production each is a line of JSON in the trace. The same
//! [`Observer`](crate::observer::Observer) judges both.

use crate::global::GlobalNote;
use crate::ids::{Lsn, MemberId, PageId, Party, PgId, ReaderId, SegmentId, VolumeEpoch, VolumeId, WriterId};
use crate::membership::MembershipNote;
use crate::quorum::MemberSet;
use crate::segment::Implausible;
use crate::truncation::TruncationList;
use serde::{Deserialize, Serialize};

/// One observable fact.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Note {
    /// A segment's promise is durable: it refuses every writer below.
    Sealed {
        /// Which segment.
        segment: SegmentId,
        /// The promise.
        volume_epoch: VolumeEpoch,
        /// Its durable SCL then.
        scl: Lsn,
    },
    /// A segment has made a recovery's outcome durable.
    Installed {
        /// Which segment.
        segment: SegmentId,
        /// Whose.
        volume_epoch: VolumeEpoch,
        /// The truncations in force.
        truncations: TruncationList,
    },
    /// A segment acknowledged its chain through `scl` to the writer of `volume_epoch`.
    Acknowledged {
        /// Which segment.
        segment: SegmentId,
        /// The epoch installed.
        volume_epoch: VolumeEpoch,
        /// Inclusive.
        scl: Lsn,
    },
    /// A segment served a page.
    Served {
        /// Which segment.
        segment: SegmentId,
        /// Which page.
        page: PageId,
        /// As of.
        read_point: Lsn,
        /// Last record applied.
        version: Lsn,
    },
    /// A segment will not serve reads below `floor` any more.
    Collected {
        /// Which segment.
        segment: SegmentId,
        /// The new floor.
        floor: Lsn,
    },
    /// A segment that lost part of its log has learnt what its peers know, and takes part again. A promise or an install
    /// that none of them knows is void (R-REJOIN-3).
    Learnt {
        /// Which segment.
        segment: SegmentId,
        /// The promise that it took over.
        promised: VolumeEpoch,
        /// The install that it took over.
        installed: VolumeEpoch,
    },
    /// A segment that lost part of its log may count again.
    Rejoined {
        /// Which segment.
        segment: SegmentId,
        /// The promise that it took over.
        promised: VolumeEpoch,
        /// Its chain.
        scl: Lsn,
    },
    /// A peer knows a later life of a segment than the segment does: its disk is an old copy, or that of another (R-LIFE-2).
    WentBack {
        /// Which segment.
        segment: SegmentId,
        /// Who knows it.
        by: MemberId,
    },
    /// A segment has made durable what follows from a loss that an operator accepts (R-REJOIN-8).
    LossAccepted {
        /// Which segment.
        segment: SegmentId,
        /// Whose journals are lost.
        lost: MemberSet,
        /// What the survivors promised.
        fence: VolumeEpoch,
    },
    /// A writer gave a record its LSN.
    Allocated {
        /// The volume.
        volume: VolumeId,
        /// The writer's epoch.
        volume_epoch: VolumeEpoch,
        /// The LSN.
        lsn: Lsn,
        /// The group it goes to.
        pg: PgId,
        /// The page it changes.
        page: PageId,
        /// Whether it ends its mini-transaction.
        is_cpl: bool,
        /// Whether the page may be as if it was never written after it ([`Payload::may_clear`](crate::Payload)).
        may_clear: bool,
    },
    /// A writer's recovery is complete: it serves.
    Opened {
        /// The volume.
        volume: VolumeId,
        /// The writer.
        writer: WriterId,
        /// Its epoch.
        volume_epoch: VolumeEpoch,
        /// The recovered VDL.
        vdl: Lsn,
    },
    /// Everything through `vdl` is durable: what users wait for is acknowledged, what a recovery found stays found.
    Durable {
        /// The volume.
        volume: VolumeId,
        /// The writer's epoch.
        volume_epoch: VolumeEpoch,
        /// The new VDL.
        vdl: Lsn,
    },
    /// A writer, or a reader that follows it, accepted a page for one of its users.
    Read {
        /// The volume.
        volume: VolumeId,
        /// The reader's epoch.
        volume_epoch: VolumeEpoch,
        /// Which page.
        page: PageId,
        /// As of.
        read_point: Lsn,
        /// Last record applied.
        version: Lsn,
    },
    /// A reader shows its users the volume as of another read point.
    ReadPoint {
        /// The volume.
        volume: VolumeId,
        /// The reader.
        reader: ReaderId,
        /// The epoch of the writer that it follows.
        volume_epoch: VolumeEpoch,
        /// From now on.
        read_point: Lsn,
    },
    /// A writer learnt that a newer one took over, and stopped for good.
    Fenced {
        /// The volume.
        volume: VolumeId,
        /// Its own epoch.
        volume_epoch: VolumeEpoch,
        /// The newer one.
        by: VolumeEpoch,
    },
    /// A segment dropped a message that no sound sender can have sent (R-LIMIT-2).
    Implausible {
        /// Which segment.
        segment: SegmentId,
        /// Who sent it, by its own word.
        from: Party,
        /// What is wrong with it.
        why: Implausible,
    },
    /// A segment was sent a record that contradicts the one that it holds, and stopped (R-LOG-4).
    Contradicted {
        /// Which segment.
        segment: SegmentId,
        /// Who sent the second one, by its own word.
        from: Party,
        /// The LSN that both have.
        lsn: Lsn,
        /// A digest of the record that it holds.
        held: u64,
        /// A digest of the record that came.
        came: u64,
    },
    /// A fact of a global database, judged by [`GlobalObserver`](crate::global::GlobalObserver).
    Global(GlobalNote),
    /// A fact of a group's membership change.
    Membership(MembershipNote),
}
