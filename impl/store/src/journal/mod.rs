//! The journal: one log on disk for all segments of a node.
//!
//! **What it is for.** A segment acknowledges a record when its entry is durable here. All segments, of all volumes,
//! share one file and one writer thread: it takes everything that was queued while the last batch was being
//! synchronised, writes it at once, and synchronises once (group commit).
//!
//! **What it never does.** It does not interpret entries, but for what each replaces. It never reports an append before
//! the disk has confirmed it; after a failed write or synchronisation it reports nothing ever again.
//!
//! **Bounded.** Memory: what a segment may have queued is bounded by the segment itself, which refuses writes as `Busy`
//! long before ([`SegmentConfig::log_weight_max`](auriga_protocol::SegmentConfig)). So [`Journal::append`] does not
//! wait, and a queue beyond [`Limits::queue_bytes`] is a broken invariant: waiting instead would stop every other
//! segment of the node. Disk: a file is used again when no segment needs it. Entries that pin an old file for long are
//! moved (`files.rs`), so that the journal is never longer than twice what is needed plus some files.
//!
//! **Where to go next.** `format.rs` (bytes), `files.rs` (writing and recycling), `live.rs` (who needs which file),
//! `spares.rs` (preallocated files), `scan.rs` (opening, torn tails and damage), `thread.rs` (the writer thread).

mod files;
mod format;
mod live;
mod scan;
mod spares;
mod thread;

pub(crate) use scan::{Log, Opened, Opening, create, open};

use crate::Delta;
use crate::error::{Failure, IoFailure};
use crate::space::Space;
use crate::store::StoreEvents;
use auriga_protocol::segment::Entry;
use auriga_protocol::{AppendId, Lsn, SegmentId};
use files::{Closed, Files};
use format::Chunk;
use spares::Spares;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Most bytes in a batch, unless a single entry is longer.
const BATCH_MAX: usize = 4 << 20;

/// What the journal holds at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes that one segment may have queued.
    pub queue_bytes: usize,
}

/// What appenders and the writer thread share.
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    limits: Limits,
    batch_max: usize,
    space: Arc<Space>,
}

#[derive(Default)]
struct Queue {
    /// Each becomes one batch.
    chunks: VecDeque<Chunk>,
    /// Emptied, to be filled again.
    emptied: Vec<Chunk>,
    /// Bytes of each segment in `chunks` and in the batch being written.
    queued: HashMap<SegmentId, usize>,
    floors: Vec<(SegmentId, Lsn)>,
    next_sequence: u64,
    files: usize,
    stop: bool,
}

/// The journal of a node.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    spares: Arc<Spares>,
    closed: Arc<Closed>,
    journal: u64,
    not_started: Mutex<Option<Files>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    pub(crate) fn new(opened: Opened, limits: Limits, space: Arc<Space>) -> Journal {
        let Opened { mut files, next_sequence, .. } = opened;
        files.list_closed();
        let queue = Queue { next_sequence, files: files.used.len(), ..Queue::default() };
        let file_bytes = files.spares.file_bytes() as usize;
        let shared = Shared {
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            limits,
            batch_max: BATCH_MAX.min(file_bytes / 2),
            space,
        };
        Journal {
            shared: Arc::new(shared),
            spares: files.spares.clone(),
            closed: files.closed.clone(),
            journal: files.journal,
            not_started: Mutex::new(Some(files)),
            thread: Mutex::default(),
        }
    }

    /// Starts the writer thread.
    ///
    /// # Panics
    /// When called twice.
    pub(crate) fn start(&self, events: Arc<dyn StoreEvents>) {
        let files = lock(&self.not_started).take().expect("a journal is started once");
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("journal".into());
        let thread = thread.spawn(move || thread::run(&shared, files, &*events)).expect("a thread can be started");
        *lock(&self.thread) = Some(thread);
    }

    /// Queues `entry`. Never waits.
    ///
    /// # Panics
    /// When the segment has more queued than it may, or the entry is longer than a journal file.
    pub(crate) fn append(&self, segment: SegmentId, append: AppendId, entry: &Entry<Delta>) {
        let mut queue = lock(&self.shared.queue);
        let queue = &mut *queue;
        let full = |chunk: &Chunk| chunk.len() >= self.shared.batch_max;
        if queue.chunks.back().is_none_or(full) {
            queue.chunks.push_back(queue.emptied.pop().unwrap_or_default());
        }
        let Some(chunk) = queue.chunks.back_mut() else { unreachable!("one was just pushed") };
        let before = chunk.len();
        chunk.push_entry(segment, append, queue.next_sequence, entry);
        queue.next_sequence += 1;
        let queued = queue.queued.entry(segment).or_default();
        *queued += chunk.len() - before;
        let (queued, limit) = (*queued, self.shared.limits.queue_bytes);
        assert!(queued <= limit, "{segment} has {queued} bytes queued, and may have {limit}");
        self.shared.changed.notify_one();
    }

    /// `Records` of `segment` at or below `floor` are durable in its pages.
    pub(crate) fn set_floor(&self, segment: SegmentId, floor: Lsn) {
        lock(&self.shared.queue).floors.push((segment, floor));
        self.shared.changed.notify_one();
    }

    /// Files in use, and empty ones.
    pub(crate) fn files(&self) -> (usize, usize) {
        (lock(&self.shared.queue).files, self.spares.count())
    }

    /// Bytes of each file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.spares.file_bytes()
    }

    /// Makes an empty file ahead of time.
    ///
    /// # Errors
    /// Returns an error if there is no room, or another error of the operating system.
    pub(crate) fn prepare(&self) -> Result<(), IoFailure> {
        self.spares.prepare()
    }

    /// Verifies the next complete file.
    ///
    /// # Errors
    /// Returns an error if the journal is damaged, or an error of the operating system.
    pub(crate) fn scrub(&self) -> Result<(), Failure> {
        let Some((used, end_batch)) = ({
            let mut closed = lock(&self.closed);
            let next = closed.pop_front();
            closed.extend(next.clone());
            next
        }) else {
            return Ok(());
        };
        let checked = files::check(self.journal, &used, end_batch, self.spares.file_bytes());
        // Meanwhile the file may have been recycled.
        let still_closed = lock(&self.closed).iter().any(|(closed, _)| closed.id == used.id);
        if still_closed { checked } else { Ok(()) }
    }

    /// Writes what is queued, and ends the writer thread.
    pub(crate) fn stop(&self) {
        lock(&self.shared.queue).stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread panicked");
        }
    }
}

/// No holder leaves these values half changed, so a panic elsewhere is no reason to panic here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
