//! What may have been said and was not heard, because the process that said it was killed before it could write it
//! down.
//!
//! The judge must never call a correct run wrong, so a missing note is never evidence. What is left is narrower, and
//! each doubt ends as soon as something later is heard:
//!
//! - a *segment* may have acknowledged anything, until it acknowledges again;
//! - a *writer* may have allocated records above its last known one, and may have called them durable, until the next
//!   writer opens;
//! - a *recovery* that was installed may have opened, and so have annulled what lay above its VDL.

use crate::ids::{Lsn, SegmentId, VolumeEpoch, VolumeId};
use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Bound;
use serde::Serialize;

/// See the module's header. Empty where no note is lost.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize)]
pub(super) struct Unheard {
    pub segments: BTreeSet<SegmentId>,
    /// By writer: the last record that is known of it.
    writers: BTreeMap<(VolumeId, VolumeEpoch), Lsn>,
    /// Volumes of which no writer has opened since one was lost.
    unsure_vdl: BTreeSet<VolumeId>,
    /// Recoveries that perhaps opened, and where.
    recoveries: BTreeMap<(VolumeId, VolumeEpoch), Lsn>,
}

impl Unheard {
    pub fn lose_writer(&mut self, volume: VolumeId, volume_epoch: VolumeEpoch, last: Lsn) {
        self.writers.insert((volume, volume_epoch), last);
        self.unsure_vdl.insert(volume);
    }

    pub fn perhaps_opened(&mut self, volume: VolumeId, volume_epoch: VolumeEpoch, vdl: Lsn) {
        self.recoveries.insert((volume, volume_epoch), vdl);
        self.unsure_vdl.insert(volume);
    }

    pub fn writer_opened(&mut self, volume: VolumeId) {
        self.unsure_vdl.remove(&volume);
    }

    pub fn vdl_is_unsure(&self, volume: VolumeId) -> bool {
        self.unsure_vdl.contains(&volume)
    }

    /// Whether a recovery between the two volume epochs, of which it isn't known whether it opened, annulled `lsn`.
    pub fn may_be_annulled(&self, volume: VolumeId, written: VolumeEpoch, read: VolumeEpoch, lsn: Lsn) -> bool {
        let between = (Bound::Excluded((volume, written)), Bound::Included((volume, read)));
        written < read && self.recoveries.range(between).any(|(_, vdl)| lsn > *vdl)
    }

    /// Returns whether a record that no known writer allocated, at or below `read_point`, may come after those that are
    /// known of the writer of `written`.
    pub fn may_follow(&self, volume: VolumeId, written: VolumeEpoch, read: VolumeEpoch, read_point: Lsn) -> bool {
        let since = (volume, written)..=(volume, read.max(written));
        self.writers.range(since.clone()).any(|(_, last)| *last < read_point)
            || self.recoveries.range(since).any(|(_, vdl)| *vdl < read_point)
    }

    /// Returns whether `lsn`, which no known writer allocated, may be a lost writer's.
    pub fn may_be_allocated(&self, volume: VolumeId, read: VolumeEpoch, lsn: Lsn) -> bool {
        let until = (volume, VolumeEpoch::NONE)..=(volume, read);
        self.writers.range(until.clone()).any(|(_, last)| lsn > *last)
            || self.recoveries.range(until).any(|(_, vdl)| lsn > *vdl)
    }
}
