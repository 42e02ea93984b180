//! Whether a reader of a region's volume may go on (R-READER-FS-16): not once the region has lost what the reader may have
//! seen.
//!
//! A region that was primary, and lost a suffix in a failover, says so in pages of its own volume, before the first page is
//! taken back and after the last. So a reader that asks at each point at which those pages were touched never shows the one
//! lineage mixed with the other, nor replays WAL of one over pages of the other. It is thrown away, and begins anew.

use auriga_protocol::global::{KeptSuffix, RegionState};
use auriga_protocol::{Lsn, VolumeEpoch};
use auriga_region::REGION_INODE;
use auriga_region::publication::last_publication;
use auriga_volume::{Changes, RemoteReader, VolumeError};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;

/// Publications whose times are remembered.
const TIMES_MAX: usize = 1024;

/// Judges the points of one reader's life.
pub(super) struct Lineage {
    volume: Arc<RemoteReader>,
    runtime: Handle,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// What the region had lost when the reader began.
    began: Option<Option<KeptSuffix>>,
    /// The writer that was followed when it was last asked, and the same before the last point was judged. A writer's points
    /// are at or behind what it began with, so they show what had become of the region by then.
    followed: VolumeEpoch,
    judged: VolumeEpoch,
    /// Points, and when the primary published what they show, by its clock.
    times: VecDeque<(Lsn, u64)>,
}

impl Lineage {
    pub fn new(volume: Arc<RemoteReader>, runtime: Handle) -> Arc<Lineage> {
        let followed = volume.status().reader.volume_epoch;
        let known = Mutex::new(Known { followed, ..Known::default() });
        Arc::new(Lineage { volume, runtime, known })
    }

    /// Judges the point `to`, which was advanced to.
    ///
    /// # Errors
    /// The reader must begin anew.
    pub fn judge(&self, changes: &Changes, to: Lsn) -> Result<(), VolumeError> {
        // Block 0 is the position, which moves all the time.
        let is_touched = match changes {
            Changes::Unknown => true,
            Changes::Records(records) => {
                records.iter().any(|record| record.page.inode == REGION_INODE && record.page.block > 0)
            }
        };
        if is_touched || self.known().began.is_none() {
            self.look_at_region(to)?;
        }
        if let Changes::Records(records) = changes
            && let Some(publication) = last_publication(records.iter())
        {
            let times = &mut self.known().times;
            times.push_back((to, publication.at_ms));
            if times.len() > TIMES_MAX {
                times.pop_front();
            }
        }
        let mut known = self.known();
        known.judged = known.followed;
        Ok(())
    }

    fn look_at_region(&self, at: Lsn) -> Result<(), VolumeError> {
        let state = self.runtime.block_on(auriga_region::state_at(&*self.volume, at)).map_err(|error| {
            tracing::warn!(%error, "what the volume says of its region can't be read: this reader begins anew");
            // It was passed, and can't be judged.
            VolumeError::NotKept
        })?;
        match state {
            Some(RegionState { adopting: Some(_), .. }) => Err(VolumeError::OtherLineage),
            state => self.began_with(state.and_then(|state| state.lost)),
        }
    }

    fn began_with(&self, lost: Option<KeptSuffix>) -> Result<(), VolumeError> {
        let mut known = self.known();
        if *known.began.get_or_insert(lost) == lost { Ok(()) } else { Err(VolumeError::OtherLineage) }
    }

    /// Whether a point was judged since the writer that is followed now is.
    pub fn is_judged(&self) -> bool {
        let followed = self.volume.status().reader.volume_epoch;
        let mut known = self.known();
        known.followed = followed;
        known.judged == followed
    }

    /// When the primary published what `shown` shows, in milliseconds of Unix time by its clock.
    pub fn published_at(&self, shown: Lsn) -> Option<u64> {
        let mut known = self.known();
        while known.times.get(1).is_some_and(|(point, _)| *point <= shown) {
            known.times.pop_front();
        }
        known.times.front().filter(|(point, _)| *point <= shown).map(|(_, at_ms)| *at_ms)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
