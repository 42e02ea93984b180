//! Durability: fsync, what a failed volume means, and figures.
//!
//! fsync of anything waits until VDL reaches the last mini-transaction of the whole file system. That may be more than
//! was asked for, but it costs nothing: the log is one order, and everything before was sent when it was written.

use super::{Forget, PageFs};
use crate::cache::CacheFigures;
use crate::error::FsError;
use crate::inode::Inode;
use crate::layout::InodeRecord;
use auriga_protocol::Lsn;
use auriga_volume::VolumeError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, mpsc};
use std::time::Instant;

/// Buckets of the latency histogram: below 1 µs, 2 µs, 4 µs … 2^31 µs.
const BUCKETS: usize = 32;

/// What is counted while the file system runs.
#[derive(Default)]
pub(super) struct Counters {
    transactions: AtomicU64,
    records: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    syncs: AtomicU64,
    failed_syncs: AtomicU64,
    sync_micros: AtomicU64,
    sync_latency: [AtomicU64; BUCKETS],
}

impl Counters {
    pub fn submitted(&self, records: u64) {
        self.transactions.fetch_add(1, Relaxed);
        self.records.fetch_add(records, Relaxed);
    }

    pub fn read(&self) {
        self.reads.fetch_add(1, Relaxed);
    }

    pub fn wrote(&self) {
        self.writes.fetch_add(1, Relaxed);
    }

    fn synced(&self, began: Instant, ok: bool) {
        if !ok {
            self.failed_syncs.fetch_add(1, Relaxed);
            return;
        }
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.syncs.fetch_add(1, Relaxed);
        self.sync_micros.fetch_add(micros, Relaxed);
        self.sync_latency[bucket.min(BUCKETS - 1)].fetch_add(1, Relaxed);
    }
}

/// Figures of a running file system; all since it was loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// The page cache.
    pub cache: CacheFigures,
    /// Mini-transactions submitted.
    pub transactions: u64,
    /// Records in them.
    pub records: u64,
    /// Read requests.
    pub reads: u64,
    /// Write requests.
    pub writes: u64,
    /// Waits for durability that succeeded: fsync, fdatasync, and writes with `O_SYNC` or `O_DSYNC`.
    pub syncs: u64,
    /// Waits for durability that failed.
    pub failed_syncs: u64,
    /// Time that the successful ones took together, in microseconds.
    pub sync_micros: u64,
    /// Median of that time, in microseconds, rounded up to a power of two.
    pub sync_p50_micros: u64,
    /// 99th percentile, likewise.
    pub sync_p99_micros: u64,
    /// Records allocated but not durable yet.
    pub lag: u64,
    /// Inodes.
    pub inodes: u64,
}

impl PageFs {
    /// Forgets every cached page that is durable, the kernel's copies too, so that the next reads come from storage (for
    /// rehearsals). Not to be called by a thread that answers the kernel.
    pub fn drop_caches(&self) {
        self.cache.drop_clean(self.volume.vdl());
        let inodes: Vec<u64> = self.inodes.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        inodes.into_iter().for_each(|ino| self.forget_copies(ino));
    }

    /// Makes the kernel forget its copies of a file's content.
    pub(super) fn forget_copies(&self, ino: u64) {
        if let Some(forget) = self.forget_in_kernel.get() {
            forget(ino);
        }
    }

    /// Says how the kernel is made to forget its copies of a file.
    pub(crate) fn is_mounted(&self, forget: Forget) {
        // A file system is mounted once; a second mount would have copies of its own, which stay until they are replaced.
        let _ = self.forget_in_kernel.set(forget);
    }

    /// Figures now.
    pub fn figures(&self) -> Figures {
        let counters = &*self.counters;
        let latency: Vec<u64> = counters.sync_latency.iter().map(|bucket| bucket.load(Relaxed)).collect();
        Figures {
            cache: self.cache.figures(),
            transactions: counters.transactions.load(Relaxed),
            records: counters.records.load(Relaxed),
            reads: counters.reads.load(Relaxed),
            writes: counters.writes.load(Relaxed),
            syncs: counters.syncs.load(Relaxed),
            failed_syncs: counters.failed_syncs.load(Relaxed),
            sync_micros: counters.sync_micros.load(Relaxed),
            sync_p50_micros: percentile(&latency, 50),
            sync_p99_micros: percentile(&latency, 99),
            lag: self.lag(),
            inodes: self.inodes.read().unwrap_or_else(PoisonError::into_inner).len() as u64,
        }
    }

    /// Calls back when everything that was done before is durable, with [`FsError::Volume`] when that can't be told by
    /// the deadline. `ino`: whose modification time is submitted first, if it is ahead; `None` for fdatasync.
    pub fn sync(self: &Arc<Self>, ino: Option<u64>, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        let inode = ino.and_then(|ino| self.inode(ino).ok());
        match inode.map_or(Ok(()), |inode| self.submit_times(&inode)) {
            Ok(()) => self.when_durable(self.last(), done),
            Err(error) => {
                self.counters.synced(Instant::now(), false);
                done(Err(error));
            }
        }
    }

    /// As [`PageFs::sync`], waiting for it.
    ///
    /// # Errors
    /// [`FsError::Volume`].
    pub fn sync_now(self: &Arc<Self>, ino: Option<u64>) -> Result<(), FsError> {
        let (sender, receiver) = mpsc::channel();
        self.sync(ino, move |result| {
            let _ = sender.send(result);
        });
        receiver.recv().unwrap_or(Err(FsError::Volume(VolumeError::Closed)))
    }

    /// Calls back when `lsn` is durable, and such answers are not held back ([`PageFs::hold_syncs`]).
    pub fn when_durable(self: &Arc<Self>, lsn: Lsn, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        if self.is_lost() {
            self.counters.synced(Instant::now(), false);
            return done(Err(FsError::Volume(VolumeError::Closed)));
        }
        let (began, fs) = (Instant::now(), Arc::clone(self));
        let callback = Box::new(move |result: Result<(), VolumeError>| {
            fs.counters.synced(began, result.is_ok());
            let result = result.map_err(|error| fs.failed(error));
            fs.held.answer(result, done);
        });
        self.volume.when_durable(lsn, self.deadline(), callback);
    }

    /// Waits until everything submitted is durable: for threads that may wait.
    pub(super) fn wait_until_durable(&self) -> Result<(), FsError> {
        let (sender, receiver) = mpsc::channel();
        let callback = Box::new(move |result| {
            let _ = sender.send(result);
        });
        self.volume.when_durable(self.last(), self.deadline(), callback);
        let result = receiver.recv().unwrap_or(Err(VolumeError::Closed));
        result.map_err(|error| self.failed(error))
    }

    /// Submits the inode's times if they are ahead of what was submitted.
    pub(super) fn submit_times(&self, inode: &Inode) -> Result<(), FsError> {
        let mut order = inode.lock_order();
        let view = inode.lock_view();
        let ahead = (view.record.mtime, view.record.ctime) != (order.mtime, order.ctime) && !view.gone;
        let times = (view.record.mtime, view.record.ctime);
        drop(view);
        if !ahead || self.options.read_only {
            return Ok(());
        }
        let record = InodeRecord { mtime: times.0, ctime: times.1, ..order.clone() };
        self.submit(InodeRecord::change(inode.slot, Some(&order), Some(&record)).into_iter().collect())?;
        *order = record;
        Ok(())
    }

    /// Records that are allocated but not durable.
    pub fn lag(&self) -> u64 {
        self.last().0.saturating_sub(self.volume.vdl().0)
    }

    /// Whether changes should be left to the workers, because submitting one may have to wait.
    pub fn is_lagging(&self) -> bool {
        self.lag() > self.options.inline_lag_max
    }

    /// Whether the volume can't be written any more, for good.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Relaxed)
    }

    pub(super) fn check_writable(&self) -> Result<(), FsError> {
        if self.options.read_only {
            return Err(FsError::ReadOnly);
        }
        if self.is_lost() {
            return Err(FsError::Volume(VolumeError::Closed));
        }
        Ok(())
    }

    /// The volume answered `error`: when that is for good, nothing is tried any more and the owner is told, once.
    pub(super) fn failed(&self, error: VolumeError) -> FsError {
        let for_good = matches!(error, VolumeError::Fenced { .. } | VolumeError::Closed);
        if for_good && !self.lost.swap(true, Relaxed) {
            tracing::error!(%error, "the volume is lost to this file system: every change is answered EIO from now on");
            (self.on_lost)(error);
            self.release_syncs(true);
        }
        FsError::Volume(error)
    }
}

/// The least bucket end below which `percent` of the counted lie, in microseconds.
fn percentile(latency: &[u64], percent: u64) -> u64 {
    let wanted = (latency.iter().sum::<u64>() * percent).div_ceil(100);
    let mut seen = 0;
    let bucket = latency.iter().position(|count| {
        seen += count;
        seen >= wanted && wanted > 0
    });
    bucket.map_or(0, |bucket| 1 << bucket)
}
