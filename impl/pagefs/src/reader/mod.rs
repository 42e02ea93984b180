//! A reader's file system: the volume as of a read point, under an overlay of what the standby writes.
//!
//! An unmodified PostgreSQL hot standby runs on it. Whatever it writes stays on this machine; nothing is ever written to
//! the volume, and there is no way to: [`ReaderVolume`] has none. The rules are `specs/rules-reader-files.md`
//! (R-READER-FS-1 to 15); each is named where it is kept.
//!
//! ```text
//!   read ──► overlay ──► else the volume's page as of R (cached; kept true by the volume's records)
//!   write ─► overlay, and a note to look whether the volume has caught up
//!   follow ─► replay has passed w(R') ─► R becomes R', pages that the volume has caught up with leave the overlay
//! ```
//!
//! **One lock** ([`State`]) is held for each step that reads or changes anything: a read looks at one R, and writes,
//! drops and the change of R are atomic against each other (R-READER-FS-4). The volume is never asked under it.
//!
//! * `base.rs`: the volume's tree. `node.rs`: the reader's own tree. `names.rs`: names. `data.rs`: content.
//! * `start.rs`: what a reader begins with, of the WAL by `wal.rs`. `follow.rs`: advancing. `sweep.rs`: what leaves the overlay, by `rules.rs`.
//! * `ahead.rs` and `feed.rs`: the WAL, where there is no connection to the writer.
//! * `lag.rs`: how late it is. `class.rs`: what a file is. `store.rs`: where the overlay's pages are.

mod ahead;
mod base;
mod class;
mod data;
mod feed;
mod follow;
mod lag;
mod names;
mod node;
mod pages;
mod rules;
mod start;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod wal;

pub use ahead::{Ahead, Judge};
pub use feed::Feed;
pub use follow::{FollowError, Follower, Step};

use crate::defect::Defects;
use crate::error::FsError;
use crate::inode::lock;
use crate::layout::InodeRecord;
use crate::workers::Workers;
use auriga_protocol::Lsn;
use auriga_volume::{Published, ReaderVolume};
use base::Base;
use lag::Lag;
use node::Node;
use pages::Pages;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use store::Store;

/// How a [`ReaderFs`] behaves.
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// PGDATA's name in the volume's root.
    pub data: String,
    /// Files that the reader begins with in PGDATA, by name, in place of any that the volume has: `standby.signal`, its
    /// own settings.
    pub own: Vec<(String, Vec<u8>)>,
    /// Bytes of the volume's pages kept in memory.
    pub cache_bytes: usize,
    /// Bytes of the overlay kept in memory.
    pub overlay_bytes: usize,
    /// A local directory for what does not fit, and for files that are the reader's own. `None`: there is only memory.
    pub spill: Option<PathBuf>,
    /// Most bytes there. Beyond it the standby's writes fail with `ENOSPC`: such a reader is started anew.
    pub spill_bytes: u64,
    /// How long anything may wait for the volume before it is answered `EIO`.
    pub deadline: Duration,
    /// Planted defects. None, but in tests.
    pub defects: Defects,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        ReaderOptions {
            data: "pgdata".to_owned(),
            own: Vec::new(),
            cache_bytes: 256 << 20,
            overlay_bytes: 256 << 20,
            spill: None,
            spill_bytes: 16 << 30,
            deadline: Duration::from_secs(30),
            defects: Defects::default(),
        }
    }
}

/// A reader's file system. Every method may be called from any thread.
pub struct ReaderFs {
    volume: Arc<dyn ReaderVolume>,
    options: ReaderOptions,
    state: Mutex<State>,
    workers: Workers,
}

/// Figures of a [`ReaderFs`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReaderFigures {
    /// The read point.
    pub read_point: Lsn,
    /// The writer's WAL position that was published with it.
    pub wal: u64,
    /// Whether replay has passed the read point's WAL position since the reader began: only now may clients come
    /// (R-READER-FS-3).
    pub is_ready: bool,
    /// Advances.
    pub advances: u64,
    /// Pages in the overlay, those of the reader's own files included.
    pub overlay_pages: u64,
    /// Of those, pages of files that follow the volume.
    pub following_pages: u64,
    /// Of those, pages where a truncation was.
    pub tagged_pages: u64,
    /// Bytes of the overlay in memory.
    pub overlay_bytes: usize,
    /// Bytes of the overlay, and of the reader's own files, on the local disk.
    pub spilled_bytes: u64,
    /// Pages that left the overlay because the volume had caught up.
    pub dropped: u64,
    /// Files that the volume removed, and the reader did not yet.
    pub kept_files: u64,
    /// Pages that may have to leave the overlay and were not looked at yet.
    pub unswept: u64,
    /// Reads that were answered from memory.
    pub hits: u64,
    /// Reads of the volume.
    pub misses: u64,
}

/// What is asked often of a [`ReaderFs`]: nothing has to be counted for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReaderVitals {
    /// See [`ReaderFigures::is_ready`].
    pub is_ready: bool,
    /// How late the standby is, by this machine's clock: since when it has been told of WAL that it has not replayed.
    pub lag: Duration,
    /// Bytes of the overlay in memory.
    pub overlay_bytes: usize,
    /// Bytes of the overlay, and of the reader's own files, on the local disk.
    pub spilled_bytes: u64,
}

/// Everything that changes.
struct State {
    /// R, and w(R).
    point: Published,
    /// w of the point before.
    former_wal: u64,
    base: Base,
    /// The volume's pages.
    pages: Pages,
    /// The reader's files and directories.
    nodes: HashMap<u64, Node>,
    last_node: u64,
    /// Which node follows an inode of the volume. At most one does.
    linked: HashMap<u64, u64>,
    /// Inodes that the volume has removed while a node still follows them: they are as of this point (R-READER-FS-8).
    kept: HashMap<u64, Kept>,
    /// Inodes that the reader has dropped (R-READER-FS-7).
    masked: HashSet<u64>,
    /// Paths of files that the reader has dropped before the volume showed them, with a replay position after that.
    dropped: HashMap<Vec<Box<[u8]>>, Option<u64>>,
    /// Nodes that have a [`node::Cut`].
    cuts: HashSet<u64>,
    store: Store,
    sweep: VecDeque<sweep::Item>,
    /// Pages and sizes in `sweep`.
    noted: HashSet<sweep::Item>,
    is_ready: bool,
    lag: Lag,
    figures: ReaderFigures,
}

/// An inode that the volume has removed.
struct Kept {
    /// The last point at which it was there.
    at: Lsn,
    record: InodeRecord,
}

impl ReaderFs {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.options.deadline
    }

    /// The options in effect.
    pub fn options(&self) -> &ReaderOptions {
        &self.options
    }

    /// The point that is shown.
    pub fn read_point(&self) -> Lsn {
        self.lock().point.read_point
    }

    /// Whether clients may come, replay being at least here (R-READER-FS-3).
    pub fn is_ready_at(&self, replayed: u64) -> bool {
        let state = self.lock();
        state.is_ready && replayed >= state.point.wal
    }

    /// What is asked often.
    pub fn vitals(&self) -> ReaderVitals {
        let state = self.lock();
        let (overlay_bytes, spilled_bytes) = state.store.bytes();
        ReaderVitals { is_ready: state.is_ready, lag: state.lag.now(Instant::now()), overlay_bytes, spilled_bytes }
    }

    /// Figures. All pages of the overlay are counted for them.
    pub fn figures(&self) -> ReaderFigures {
        let state = self.lock();
        let (overlay_bytes, spilled_bytes) = state.store.bytes();
        let following = || state.nodes.values().filter(|node| node.class.follows());
        let tagged = |node: &Node| node.pages.values().filter(|ours| ours.is_tagged).count() as u64;
        ReaderFigures {
            read_point: state.point.read_point,
            wal: state.point.wal,
            is_ready: state.is_ready,
            overlay_pages: state.nodes.values().map(|node| node.pages.len() as u64).sum(),
            following_pages: following().map(|node| node.pages.len() as u64).sum(),
            tagged_pages: following().map(tagged).sum(),
            overlay_bytes,
            spilled_bytes,
            kept_files: state.kept.len() as u64,
            unswept: state.sweep.len() as u64,
            hits: state.pages.hits,
            misses: state.pages.misses,
            ..state.figures
        }
    }

    /// Has `job` done by one of the file system's own threads, which may wait.
    pub fn run_later(self: &Arc<Self>, job: impl FnOnce(&Arc<ReaderFs>) + Send + 'static) {
        let fs = Arc::clone(self);
        self.workers.run(move || job(&fs));
    }
}

impl State {
    fn node(&self, ino: u64) -> Result<&Node, FsError> {
        self.nodes.get(&ino).ok_or(FsError::NotFound)
    }

    fn node_mut(&mut self, ino: u64) -> Result<&mut Node, FsError> {
        self.nodes.get_mut(&ino).ok_or(FsError::NotFound)
    }

    /// The volume's record of an inode that a node follows: as of R, or as of the last point at which it was there.
    fn record_of(&self, inode: u64) -> Option<&InodeRecord> {
        match self.kept.get(&inode) {
            Some(kept) => Some(&kept.record),
            None => self.base.inode(inode),
        }
    }

    /// The point as of which an inode is read.
    fn point_of(&self, inode: u64) -> Lsn {
        self.kept.get(&inode).map_or(self.point.read_point, |kept| kept.at)
    }

    /// A file's size.
    fn size_of(&self, node: &Node) -> u64 {
        let base = || node.base.and_then(|inode| self.record_of(inode)).map_or(0, |record| record.size);
        node.size.unwrap_or_else(base)
    }
}

impl Drop for ReaderFs {
    fn drop(&mut self) {
        self.workers.close();
    }
}
