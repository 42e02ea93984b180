//! A volume, as those who write it see it.

use auriga_page::{Delta, PageImage};
use auriga_protocol::{Change, Lsn, PageId, Shape, VolumeEpoch};
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
