//! A region's log as its volume keeps it: what the region makes durable becomes mini-transactions.
//!
//! While the region is secondary or fenced it *owns* the volume: it is the volume's writer, so that no instance writes
//! (R-FENCE-1). While it is primary, an instance does.
//!
//! A shipped mini-transaction and the position that it leads to are one mini-transaction here (R-GLOBAL-13). A newer
//! lineage is adopted without cutting anything: pages that the lost suffix changed are written as they were before it, and
//! the last of these mini-transactions brings the lineage: `adoption.rs`. `pages.rs` reads what a volume says of its region.

mod adoption;
mod pages;

pub use pages::{look, state_at, state_of};

use crate::page::{MalformedState, is_region_page, position_change, state_changes};
use crate::publication::{Covered, publication_page};
use crate::source::{Source, Unread};
use auriga_net::Mtr;
use auriga_page::Delta;
use auriga_protocol::global::{Adopting, KeptSuffix, Position, RegionEntry, RegionState};
use auriga_protocol::{Change, Lsn, RegionId};
use auriga_volume::{RemoteVolume, Volume, VolumeConfig, VolumeError};
use pages::{read, read_pages};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// How long a mini-transaction may wait for its quorum before the region looks at its volume anew.
const PATIENCE: Duration = Duration::from_secs(60);

/// A writer tells storage VDL at least so often, with much to spare.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// Bytes that may be written after a lost suffix before it is not kept any more: well below what a segment's log may hold.
pub const LOST_KEPT_BYTES: u64 = 24 << 20;

/// Why a region can't go on with its volume as it is. It looks again.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// What it keeps of its own.
    #[error(transparent)]
    Malformed(#[from] MalformedState),
    /// The log, or a page as of a point.
    #[error("the volume's log: {0}")]
    Unread(#[from] Unread),
    /// The volume was never this region's.
    #[error("the volume holds data, and nothing says of which region: a secondary begins with an empty volume")]
    OwnData,
    /// Where its log parts from the new lineage can't be found any more.
    #[error("the log parts from the new lineage at {0}, before this region's own branch: it has to be made anew")]
    PartsEarlier(Lsn),
}

/// A region's volume: see the module's header.
pub struct Disk {
    region: RegionId,
    config: VolumeConfig,
    source: Arc<Source>,
    /// As it is durable or on its way there. Shared with who maps positions.
    state: Arc<Mutex<RegionState>>,
    /// Whether it was ever written.
    is_written: bool,
    position: Option<Position>,
    volume: Option<Arc<RemoteVolume>>,
    /// The last volume LSN, while it owns the volume.
    last: Lsn,
    /// Written since the lost suffix that is kept.
    written: u64,
    /// What readers may be told, while it is a secondary.
    covered: Covered,
    /// The last point that they were told.
    told: Lsn,
    /// Whether readers may follow.
    serves: bool,
}

impl Disk {
    /// Looks at a volume without becoming its writer.
    ///
    /// # Errors
    /// Too few segments answer, or what is there is no region's.
    pub async fn look(
        region: RegionId,
        first: RegionId,
        config: &VolumeConfig,
        source: Arc<Source>,
    ) -> Result<Disk, DiskError> {
        let mut disk = Disk::unread(region, first, config, source);
        let point = disk.source.newest().await?;
        let (state, position) = read_pages(|page| disk.source.page(page, &point)).await?;
        disk.is_written = state.is_some();
        if let Some(state) = state {
            disk.state = Arc::new(Mutex::new(state));
        }
        (disk.position, disk.last) = (position, point.at);
        Ok(disk)
    }

    /// A volume that can't be looked at before somebody has recovered it. [`Disk::take_over`] finds out what it says.
    pub fn unread(region: RegionId, first: RegionId, config: &VolumeConfig, source: Arc<Source>) -> Disk {
        let state = Arc::new(Mutex::new(RegionState::created(region, first)));
        Disk {
            region,
            config: config.clone(),
            source,
            state,
            is_written: false,
            position: None,
            volume: None,
            last: Lsn::ZERO,
            written: 0,
            covered: Covered::default(),
            told: Lsn::ZERO,
            serves: false,
        }
    }

    /// What it keeps of its own.
    pub fn state(&self) -> RegionState {
        auriga_driver::lock(&self.state).clone()
    }

    /// The same, as it becomes.
    pub fn shared_state(&self) -> Arc<Mutex<RegionState>> {
        self.state.clone()
    }

    /// How far it is as a secondary.
    pub fn position(&self) -> Position {
        self.position.unwrap_or_default()
    }

    /// The end of its log as a global LSN, while it owns the volume and its own branch is the last.
    pub fn end(&self) -> Lsn {
        self.state().global_of(self.last)
    }

    /// Whether the volume is its own, and nobody has taken it over since.
    pub fn is_owner(&self) -> bool {
        self.volume.as_ref().is_some_and(|volume| volume.ended().is_none())
    }

    /// Becomes the volume's writer, which fences whoever was, and finishes an adoption that was cut short.
    ///
    /// # Errors
    /// As the volume says; the region looks anew.
    pub async fn take_over(&mut self) -> Result<(), DiskError> {
        if self.is_owner() {
            return Ok(());
        }
        let mut config = self.config.clone();
        // What secondaries or a lost suffix need is not known yet. Nothing is told that could have it collected.
        config.writer.hold = Some(Lsn::ZERO);
        let volume = Arc::new(RemoteVolume::open(config, Instant::now() + PATIENCE).await?);
        self.last = volume.vdl();
        let (state, position) = read_pages(|page| read(&volume, page)).await?;
        self.is_written = state.is_some();
        if let Some(state) = state {
            *auriga_driver::lock(&self.state) = state;
        }
        self.position = position;
        (self.volume, self.told, self.serves) = (Some(volume), Lsn::ZERO, false);
        let state = self.state();
        if !self.is_written && state.lineage.tip().primary != self.region {
            if self.last > Lsn::ZERO {
                return Err(DiskError::OwnData);
            }
            let position = Position { global_epoch: state.lineage.tip().global_epoch, lsn: Lsn::ZERO };
            self.write(state.clone(), Some(position), Vec::new()).await?;
        }
        if let Some(adopting) = state.adopting {
            self.finish_adoption(adopting).await?;
        }
        self.renew_hold();
        self.begin_publishing().await
    }

    /// Leaves the volume to instances. What it wrote last is durable; that storage knows it, too, takes the writer a moment
    /// more: whoever looks without becoming the writer sees it only then. An instance need not wait for that.
    pub fn give_up(&mut self) {
        let volume = self.volume.take();
        self.serves = false;
        tokio::spawn(async move {
            sleep(TOLD_WITHIN).await;
            drop(volume);
        });
    }

    /// Lets readers follow while the volume is its own, unless they may already. The port may be taken for a moment by the
    /// one before: then it is to be called again.
    pub async fn serve_readers(&mut self, at: SocketAddr) {
        let Some(volume) = self.volume.as_ref().filter(|volume| !self.serves && volume.ended().is_none()) else {
            return;
        };
        match TcpListener::bind(at).await {
            Ok(listener) => {
                volume.serve_readers(listener, &self.config);
                self.serves = true;
            }
            Err(error) => tracing::debug!(%at, %error, "readers can't follow yet"),
        }
    }

    /// Tells the readers the newest point that is durable, and whose WAL is known (R-GLOBAL-14).
    pub fn publish(&mut self) {
        let Some(volume) = &self.volume else { return };
        if let Some((point, wal)) = self.covered.newest(volume.vdl()).filter(|(point, _)| *point > self.told) {
            volume.publish_at(point, wal);
            self.told = point;
        }
    }

    /// What the volume holds was made by other ways than by shipping: begins with it as it is. While the last branch is this
    /// region's own, its instance publishes.
    async fn begin_publishing(&mut self) -> Result<(), DiskError> {
        self.covered = Covered::default();
        let state = self.state();
        if let (Some(volume), Some(position)) = (&self.volume, self.position)
            && state.lineage.tip().primary != self.region
            && state.adopting.is_none()
        {
            let page = read(volume, publication_page()).await?;
            self.covered = Covered::begin(position.lsn, self.last, page)?;
        }
        Ok(())
    }

    /// Makes an entry of the region's log durable; `durable` is called when it is, where that is later.
    ///
    /// # Errors
    /// It may not have become durable: the region looks anew.
    pub async fn append(
        &mut self,
        entry: &RegionEntry<Mtr>,
        durable: impl FnOnce() + Send + 'static,
    ) -> Result<(), DiskError> {
        match entry {
            RegionEntry::Records(records) => {
                for shipped in records {
                    self.submit_shipped(shipped.lsn, &shipped.record)?;
                }
                self.when_durable(durable)?;
                return Ok(());
            }
            RegionEntry::Adopted { lineage, kept, lost: Some(suffix) } => {
                let state = self.state();
                let is_own = state.lineage.tip().primary == self.region;
                let above = state.volume_of(*kept).filter(|_| is_own).ok_or(DiskError::PartsEarlier(*kept))?;
                let lost = KeptSuffix { suffix: *suffix, above, through: self.last };
                let adopting = Adopting { lineage: lineage.clone(), kept: *kept, lost };
                let marked = RegionState { adopting: Some(adopting.clone()), ..state };
                self.write(marked, None, Vec::new()).await?;
                self.finish_adoption(adopting).await?;
            }
            RegionEntry::Adopted { lineage, kept, lost: None } => {
                let position = Position { global_epoch: lineage.tip().global_epoch, lsn: *kept };
                let state = self.after(entry, None);
                self.write(state, Some(position), Vec::new()).await?;
            }
            RegionEntry::Fenced(_) | RegionEntry::Renounced(_) | RegionEntry::Promoted { .. } => {
                let state = self.after(entry, None);
                self.write(state, None, Vec::new()).await?;
            }
        }
        self.renew_hold();
        self.begin_publishing().await?;
        durable();
        Ok(())
    }

    fn after(&self, entry: &RegionEntry<Mtr>, lost: Option<KeptSuffix>) -> RegionState {
        let mut state = self.state();
        state.apply(entry, self.last, lost);
        state
    }

    /// R-GLOBAL-13: content and position move together.
    fn submit_shipped(&mut self, lsn: Lsn, changes: &Mtr) -> Result<(), DiskError> {
        let global_epoch = auriga_driver::lock(&self.state).lineage.tip().global_epoch;
        let position = Position { global_epoch, lsn };
        let foreign = || changes.iter().filter(|change| !is_region_page(change.page));
        let submitted: Vec<Change<Delta>> =
            foreign().cloned().chain(position_change(self.position, position)).collect();
        self.submit(submitted)?;
        self.position = Some(position);
        self.covered.shipped(lsn, self.last, foreign())?;
        Ok(())
    }

    /// Writes state and position, with other changes, as one mini-transaction, and waits until it is durable.
    async fn write(
        &mut self,
        state: RegionState,
        position: Option<Position>,
        mut changes: Vec<Change<Delta>>,
    ) -> Result<(), DiskError> {
        let before = self.state();
        changes.extend(state_changes(self.is_written.then_some(&before), &state));
        if let Some(position) = position {
            changes.extend(position_change(self.position, position));
        }
        self.submit(changes)?;
        self.until_durable().await?;
        self.position = position.or(self.position);
        self.is_written = true;
        *auriga_driver::lock(&self.state) = state;
        Ok(())
    }

    fn submit(&mut self, changes: Vec<Change<Delta>>) -> Result<(), DiskError> {
        let volume = self.volume.clone().ok_or(VolumeError::Closed)?;
        let kept_before = self.written <= LOST_KEPT_BYTES;
        self.written += changes.iter().map(|change| change.weight() as u64).sum::<u64>();
        // It waits only where more is on its way than may be.
        let submitted = tokio::task::block_in_place(|| volume.submit(changes, Instant::now() + PATIENCE));
        self.last = self.last.max(submitted?);
        if kept_before && self.written > LOST_KEPT_BYTES {
            self.renew_hold();
        }
        Ok(())
    }

    fn when_durable(&self, durable: impl FnOnce() + Send + 'static) -> Result<(), DiskError> {
        let volume = self.volume.clone().ok_or(VolumeError::Closed)?;
        // Where it fails the volume has ended, which is noticed by whoever looks next.
        let callback = move |result: Result<(), VolumeError>| {
            if result.is_ok() {
                durable();
            }
        };
        volume.when_durable(self.last, Instant::now() + PATIENCE, Box::new(callback));
        Ok(())
    }

    async fn until_durable(&self) -> Result<(), DiskError> {
        let volume = self.volume.clone().ok_or(VolumeError::Closed)?;
        let (done, waiting) = oneshot::channel();
        let tell = move |result| {
            let _ = done.send(result); // It waits, unless this life has ended.
        };
        volume.when_durable(self.last, Instant::now() + PATIENCE, Box::new(tell));
        Ok(waiting.await.unwrap_or(Err(VolumeError::Closed))?)
    }

    /// Keeps what is still needed. While the last branch is this region's own, that is all of it: a secondary may lack it, and
    /// where this log parts from another lineage is not known yet. After that, a lost suffix for a while.
    fn renew_hold(&self) {
        let Some(volume) = &self.volume else { return };
        let state = self.state();
        let is_kept = |lost: &KeptSuffix| (self.written <= LOST_KEPT_BYTES).then_some(lost.above);
        let is_own = state.lineage.tip().primary == self.region || state.adopting.is_some();
        volume.hold(if is_own { Some(Lsn::ZERO) } else { state.lost.as_ref().and_then(is_kept) });
    }
}
