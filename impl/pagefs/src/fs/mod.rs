//! The file system itself, without a kernel.
//!
//! One operation that changes something is one mini-transaction, so it is atomic; the log is one order, so a crash
//! leaves a prefix of the operations. The exceptions are documented where they are: zeroing many blocks takes several
//! mini-transactions, and modification times are submitted late.
//!
//! * [`tree`](self) (`tree.rs`, `rename.rs`): names. `data.rs`: reading and writing. `resize.rs`: truncating, punching,
//!   giving back.
//! * `load.rs`: making and opening a file system. `durable.rs`: fsync, and what happens when the volume fails. `held.rs`:
//!   answers to fsync that are held back.
//! * `transaction.rs`: inodes and entries that change together.
//!
//! Methods that may have to wait for storage take a callback, which is called on the caller's thread when everything is
//! at hand, else on one of the file system's own threads. All others answer at once, but for back-pressure in
//! [`Volume::submit`].

mod attempt;
mod data;
mod durable;
mod held;
mod load;
mod rename;
mod resize;
mod transaction;
mod tree;
mod whole;

pub use attempt::Answer;
pub(crate) use attempt::FetchDone;
pub use data::ReadData;
pub(crate) use data::gathering;
pub use durable::Figures;
pub(crate) use load::read_pages;
pub use load::{LoadError, mkfs};
pub use rename::RenameMode;
pub use tree::{Listed, NewInode, SetAttr};
pub(crate) use whole::Part;

use crate::cache::Cache;
use crate::defect::Defects;
use crate::error::FsError;
use crate::inode::Inode;
use crate::layout::{InodeRecord, Superblock};
use crate::workers::Workers;
use auriga_page::Delta;
use auriga_protocol::{Change, Lsn};
use auriga_volume::{Volume, VolumeError};
use durable::Counters;
use held::Held;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Called once when the volume can't be written any more, for good. Must not block.
pub type OnLost = Box<dyn Fn(VolumeError) + Send + Sync>;

/// How a [`PageFs`] behaves.
#[derive(Clone, Debug)]
pub struct FsOptions {
    /// Bytes of pages kept in memory. At least 2 MiB are used.
    pub cache_bytes: usize,
    /// How long anything may wait for the volume before it is answered `EIO`.
    pub deadline: Duration,
    /// Bytes that files may occupy together; beyond it `ENOSPC`. `None`: as far as storage goes.
    pub capacity: Option<u64>,
    /// Most inodes; beyond it `ENOSPC`. All of them are in memory (about 500 bytes each, with their names).
    pub inodes_max: u64,
    /// Refuse every change (`EROFS`), and leave orphans and unfinished trims alone. Names and sizes are those of the
    /// moment of loading: what another writer does later is not followed.
    pub read_only: bool,
    /// Threads for what waits. At least 1.
    pub workers: usize,
    /// Above this many records that are not durable, changes are made by the workers, so that back-pressure does not
    /// stop the threads that answer reads.
    pub inline_lag_max: u64,
    /// Planted defects. None, but in tests.
    pub defects: Defects,
}

impl Default for FsOptions {
    fn default() -> Self {
        FsOptions {
            cache_bytes: 256 << 20,
            deadline: Duration::from_secs(30),
            capacity: None,
            inodes_max: 4 << 20,
            read_only: false,
            workers: 4,
            inline_lag_max: 4096,
            defects: Defects::default(),
        }
    }
}

const CACHE_BYTES_MIN: usize = 2 << 20;

/// A file system on a volume. Every method may be called from any thread.
pub struct PageFs {
    volume: Arc<dyn Volume>,
    options: FsOptions,
    cache: Arc<Cache>,
    inodes: RwLock<HashMap<u64, Arc<Inode>>>,
    /// Held by every operation that changes names. Taken before any inode's lock.
    tree: Mutex<Places>,
    /// LSN of the last mini-transaction submitted.
    last: AtomicU64,
    /// Blocks that files' sizes cover.
    used_blocks: AtomicU64,
    lost: AtomicBool,
    on_lost: OnLost,
    counters: Arc<Counters>,
    held: Held,
    workers: Workers,
    /// Makes the kernel forget its copies of a file's content, where it may have some.
    forget_in_kernel: OnceLock<Forget>,
}

/// Makes the kernel forget its copies of the content of the file with an inode number.
pub(crate) type Forget = Box<dyn Fn(u64) + Send + Sync>;

/// Free places in the table.
struct Places {
    superblock: Superblock,
    next_inode: u64,
    free_slots: Vec<u64>,
}

impl PageFs {
    fn new(
        volume: Arc<dyn Volume>,
        mut options: FsOptions,
        superblock: Superblock,
        on_lost: OnLost,
    ) -> std::io::Result<PageFs> {
        options.cache_bytes = options.cache_bytes.max(CACHE_BYTES_MIN);
        Ok(PageFs {
            cache: Arc::new(Cache::new(options.cache_bytes, options.defects)),
            inodes: RwLock::new(HashMap::new()),
            tree: Mutex::new(Places { superblock, next_inode: superblock.inode_bound, free_slots: Vec::new() }),
            last: AtomicU64::new(volume.vdl().0),
            used_blocks: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            on_lost,
            counters: Arc::default(),
            held: Held::default(),
            workers: Workers::start(options.workers.max(1))?,
            forget_in_kernel: OnceLock::new(),
            volume,
            options,
        })
    }

    /// The options in effect.
    pub fn options(&self) -> &FsOptions {
        &self.options
    }

    /// The inode, if it exists or is still open.
    fn inode(&self, ino: u64) -> Result<Arc<Inode>, FsError> {
        let inodes = self.inodes.read().unwrap_or_else(PoisonError::into_inner);
        inodes.get(&ino).cloned().ok_or(FsError::NotFound)
    }

    fn add_inode(&self, inode: Arc<Inode>) {
        self.inodes.write().unwrap_or_else(PoisonError::into_inner).insert(inode.ino, inode);
    }

    fn remove_inode(&self, ino: u64) {
        self.inodes.write().unwrap_or_else(PoisonError::into_inner).remove(&ino);
    }

    /// The attributes of an inode.
    ///
    /// # Errors
    /// [`FsError::NotFound`].
    pub fn attributes(&self, ino: u64) -> Result<InodeRecord, FsError> {
        Ok(self.inode(ino)?.lock_view().record.clone())
    }

    /// Counts one more open handle of the inode, which stays usable through it even without a name.
    ///
    /// # Errors
    /// [`FsError::NotFound`] when it is gone.
    pub fn open(&self, ino: u64) -> Result<(), FsError> {
        let inode = self.inode(ino)?;
        let mut view = inode.lock_view();
        if view.gone {
            return Err(FsError::NotFound);
        }
        view.opens += 1;
        Ok(())
    }

    /// Counts one open handle less. The last one of an inode without names gives its space back.
    pub fn close(self: &Arc<Self>, ino: u64) {
        let Ok(inode) = self.inode(ino) else { return };
        let mut view = inode.lock_view();
        view.opens = view.opens.saturating_sub(1);
        let orphaned = view.opens == 0 && view.record.nlink == 0;
        drop(view);
        if orphaned {
            self.give_back_later(inode);
        } else if let Err(error) = self.submit_times(&inode) {
            tracing::debug!(ino, %error, "the modification time of a closed file was not submitted");
        }
    }

    /// Has `job` done by one of the file system's own threads, which may wait.
    pub fn run_later(self: &Arc<Self>, job: impl FnOnce(&Arc<PageFs>) + Send + 'static) {
        let fs = Arc::clone(self);
        self.workers.run(move || job(&fs));
    }

    /// Submits `changes` as one mini-transaction; without any, answers the last one's LSN.
    fn submit(&self, changes: Vec<Change<Delta>>) -> Result<Lsn, FsError> {
        self.check_writable()?;
        if changes.is_empty() {
            return Ok(self.last());
        }
        let count = changes.len() as u64;
        let lsn = self.volume.submit(changes, self.deadline()).map_err(|error| self.failed(error))?;
        self.last.fetch_max(lsn.0, Relaxed);
        self.counters.submitted(count);
        Ok(lsn)
    }

    fn last(&self) -> Lsn {
        Lsn(self.last.load(Relaxed))
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.options.deadline
    }
}

impl Drop for PageFs {
    fn drop(&mut self) {
        self.workers.close();
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
