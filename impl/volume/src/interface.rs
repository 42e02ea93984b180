//! A volume, as those who write it see it.

use auriga_page::{Delta, PageImage};
use auriga_protocol::{Change, Lsn, PageId, Record, Shape, VolumeEpoch};
use std::time::Instant;

/// Why a volume does not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VolumeError {
    /// A newer writer has taken over. For good.
    #[error("fenced: a writer with volume epoch {by} has taken over this volume")]
    Fenced {
        /// Its epoch.
        by: VolumeEpoch,
    },
    /// The deadline passed: fewer than a write quorum of segments (or, for reads, none that is current) answers.
    #[error("the storage did not answer in time")]
    TimedOut,
    /// The volume was made with another shape than this writer is configured for.
    #[error("the volume was made with another shape: {stored}")]
    OtherShape {
        /// As it was made.
        stored: Shape,
    },
    /// What a reader needs is not kept any more: it was silent, or lagged, for too long. It must begin again, as another.
    #[error("the volume keeps nothing for this reader any more: it was silent or lagged for too long")]
    NotKept,
    /// The volume was taken back to another lineage (R-GLOBAL-5): this reader may have what was lost. It must begin again.
    #[error("the region lost what this reader may have seen: its volume has taken over another lineage")]
    OtherLineage,
    /// The volume has been closed by its user.
    #[error("the volume is closed")]
    Closed,
}

/// A page that was read.
#[derive(Clone, Debug)]
pub struct PageRead {
    /// As of which LSN.
    pub read_point: Lsn,
    /// LSN of the last record applied; zero: never written.
    pub version: Lsn,
    /// Content.
    pub page: PageImage,
}

/// Called once, on any thread, when what was waited for has happened or failed. Must not block.
pub type Callback<T> = Box<dyn FnOnce(Result<T, VolumeError>) + Send>;

/// An open volume. Every method may be called from any thread.
pub trait Volume: Send + Sync + 'static {
    /// Submits one mini-transaction (all or nothing) and answers the LSN at which it is durable. Never waits for
    /// durability; waits (bounded by `deadline`) only for back-pressure to lift.
    ///
    /// # Errors
    /// Fenced, closed, or back-pressure until the deadline: nothing was submitted.
    fn submit(&self, changes: Vec<Change<Delta>>, deadline: Instant) -> Result<Lsn, VolumeError>;

    /// Volume Durable LSN: everything through it survives.
    fn vdl(&self) -> Lsn;

    /// Calls back when VDL ≥ `lsn` (at once where it already is), or with why it never will be by `deadline`.
    fn when_durable(&self, lsn: Lsn, deadline: Instant, callback: Callback<()>);

    /// Reads `page` as of the current VDL.
    fn read(&self, page: PageId, deadline: Instant, callback: Callback<PageRead>);

    /// Reads several pages, each as of VDL at some moment of the call and each with its own callback, asking for them
    /// together where that is cheaper.
    fn read_all(&self, reads: Vec<(PageId, Callback<PageRead>)>, deadline: Instant) {
        reads.into_iter().for_each(|(page, callback)| self.read(page, deadline, callback));
    }
}

/// A point of the volume that its writer published, for readers to advance to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    /// The point: a CPL at or below VDL. The writer chose it first.
    pub read_point: Lsn,
    /// What the writer's PostgreSQL then answered as its WAL insert position. The volume as of the read point holds the
    /// effects of no WAL beyond it.
    pub wal: u64,
}

/// What lies between two read points.
#[derive(Clone, Debug)]
pub enum Changes {
    /// Every record above the old point, up to the new one, in the volume's order.
    Records(Vec<Record<Delta>>),
    /// The stream of records was cut: whatever is known of the volume must be read again.
    Unknown,
}

/// A volume, as one of its readers sees it: at a read point that moves only when the reader says so. A reader can't
/// write: there is no way to submit anything. Every method may be called from any thread.
pub trait ReaderVolume: Send + Sync + 'static {
    /// The read point. It never goes back (R-READ-4). Zero: the reader is new, and has to advance before it reads.
    fn read_point(&self) -> Lsn;

    /// The published points above the read point that can be advanced to, ascending. Their number is bounded.
    fn published(&self) -> Vec<Published>;

    /// Moves the read point to `to`, one of [`ReaderVolume::published`], and answers what lies between.
    ///
    /// # Errors
    /// The reader was dropped, or the volume is closed: the read point is where it was.
    fn advance(&self, to: Lsn) -> Result<Changes, VolumeError>;

    /// Reads `page` as of `at`: the read point, or an older one that was not released.
    fn read(&self, page: PageId, at: Lsn, deadline: Instant, callback: Callback<PageRead>);

    /// Promises that nothing is read as of a point below `below` any more.
    fn release(&self, below: Lsn);
}
