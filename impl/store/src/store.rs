//! The store of one storage node: all its segments, of all volumes.

use crate::disk::{Directory, RealDirectory};
use crate::error::{CreateError, Failure, IoContext, OpenError};
use crate::journal::{self, Journal, Limits, Opening};
use crate::options::StoreOptions;
use crate::pages::{self, PageFile, Pool};
use crate::space::Space;
use crate::watch::Watch;
use crate::{Delta, identity};
use auriga_protocol::segment::{Entry, EntryKind, Outcome, Survived, Task};
use auriga_protocol::{AppendId, Charter, Lsn, Membership, SegmentId};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// Receives what the store has completed. Called on the store's threads; must not block, and must not call the store's
/// [`stop`](Store::stop).
pub trait StoreEvents: Send + Sync + 'static {
    /// Every append of `segment` up to and including this one is durable.
    fn durable(&self, segment: SegmentId, append: AppendId);

    /// A task has ended, or the store reports something on its own (`DiskFull`, `PagesLost`).
    fn task_done(&self, segment: SegmentId, outcome: Outcome<Delta>);

    /// Several tasks of `segment` have ended, in this order.
    fn tasks_done(&self, segment: SegmentId, outcomes: Vec<Outcome<Delta>>) {
        outcomes.into_iter().for_each(|outcome| self.task_done(segment, outcome));
    }

    /// The store can't go on. What was not reported as durable may or may not be; so the node must stop, and learn at
    /// the next start what it has.
    fn failed(&self, failure: &Failure) {
        tracing::error!(%failure, "the store failed: this node stops");
        let _ = writeln!(std::io::stderr(), "the store failed: {failure}: this node stops");
        std::process::abort();
    }
}

/// Numbers for `auriga status`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StoreStatus {
    /// Journal files with something in them that is needed.
    pub journal_files: usize,
    /// Empty journal files.
    pub journal_spares: usize,
    /// Bytes of all journal files.
    pub journal_bytes: u64,
    /// Bytes of all files.
    pub used_bytes: u64,
    /// Pages stored.
    pub pages: u64,
    /// Whether segments were told that the disk is full.
    pub disk_full: bool,
}

/// The store of one storage node.
pub struct Store {
    disk: Arc<dyn Directory>,
    space: Arc<Space>,
    options: StoreOptions,
    journal: Arc<Journal>,
    segments: Segments,
    pool: Pool,
    watch: Watch,
}

/// The page file of each segment.
pub(crate) type Segments = Arc<RwLock<BTreeMap<SegmentId, Arc<PageFile>>>>;

impl Store {
    /// Opens the store in `dir`, and makes it where there is none. Answers what survived of each segment.
    ///
    /// Nothing is reported before [`Store::start`].
    ///
    /// # Errors
    /// The directory is another node's, in use, or unreadable. Damage that peers can heal is no error: the segments
    /// are told of it.
    #[expect(clippy::type_complexity, reason = "the parts are what the caller takes apart at once")]
    pub fn open(dir: &Path, options: StoreOptions) -> Result<(Store, Vec<(SegmentId, Survived<Delta>)>), OpenError> {
        let disk = RealDirectory::lock(dir).context(|| format!("lock {}", dir.display()))?;
        Store::open_on(Arc::new(disk), options)
    }

    /// [`Store::open`] on another kind of disk.
    ///
    /// # Errors
    /// As [`Store::open`].
    #[expect(clippy::type_complexity, reason = "as above")]
    pub fn open_on(
        disk: Arc<dyn Directory>,
        options: StoreOptions,
    ) -> Result<(Store, Vec<(SegmentId, Survived<Delta>)>), OpenError> {
        let space = Arc::new(Space::new(options.capacity_bytes));
        let found = identity::verify(&*disk, options.cluster, &options.node)?;
        let page_files = pages::find(&*disk)?;
        let floor_of = |file: &pages::FoundFile| file.known().map_or(Lsn::ZERO, |(floor, _)| floor);
        let floors: BTreeMap<_, _> = page_files.iter().map(|file| (file.segment, floor_of(file))).collect();
        let forgetful = page_files.iter().filter(|file| file.known().is_none()).map(|file| file.segment);
        let forgetful: BTreeSet<_> = forgetful.collect();
        let file_bytes = options.journal_file_bytes;
        let opening = |journal| Opening {
            disk: &disk,
            space: &space,
            journal,
            file_bytes,
            floors: &floors,
            forgetful: &forgetful,
        };
        let mut opened = match found {
            Some(identity) => journal::open(&opening(identity.journal))?,
            None => {
                let identity = identity::fresh(options.cluster, &options.node)?;
                let opened = journal::create(&opening(identity.journal))?;
                identity::write(&*disk, &identity)?;
                opened
            }
        };
        let mut segments = BTreeMap::new();
        let mut survivors = Vec::new();
        for file in page_files {
            let log = opened.logs.remove(&file.segment).unwrap_or_default();
            let (file, survived) = revive(file, log, &space)?;
            survivors.push((file.segment(), survived));
            segments.insert(file.segment(), Arc::new(file));
        }
        let limits = Limits { queue_bytes: options.queue_bytes };
        let journal = Arc::new(Journal::new(opened, limits, space.clone()));
        let segments: Segments = Arc::new(RwLock::new(segments));
        let pool = Pool::new(journal.clone(), space.clone());
        let watch = Watch::new(disk.clone(), space.clone(), journal.clone(), segments.clone(), &options);
        Ok((Store { disk, space, options, journal, segments, pool, watch }, survivors))
    }

    /// Starts the store's threads, and reports segments whose pages were lost to `events` at once.
    ///
    /// # Panics
    /// When called twice.
    pub fn start(&self, events: Arc<dyn StoreEvents>) {
        for (segment, file) in &*self.segments.read().unwrap_or_else(PoisonError::into_inner) {
            if file.is_lost() {
                events.task_done(*segment, Outcome::PagesLost);
            }
        }
        self.journal.start(events.clone());
        self.pool.start(self.options.readers, &events);
        self.watch.start(events);
    }

    /// Makes a segment, durably. A segment that was never made does not exist: a lost disk is not an empty segment.
    /// `joins`: its volume exists already, so it is as if its log were damaged, in every life until its log has an entry
    /// that says so.
    ///
    /// # Errors
    /// There is one already, or the disk fails.
    pub fn create_segment(
        &self,
        segment: SegmentId,
        membership: Membership,
        charter: Charter,
        joins: bool,
    ) -> Result<Survived<Delta>, CreateError> {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if segments.contains_key(&segment) {
            return Err(CreateError::Exists(segment));
        }
        let file = pages::create(&*self.disk, &self.space, segment, membership.clone(), charter, joins)?;
        segments.insert(segment, Arc::new(file));
        Ok(Survived { damaged: joins, ..Survived::created(membership) })
    }

    /// What the segment's volume was made as.
    pub fn charter(&self, segment: SegmentId) -> Option<Charter> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).get(&segment).map(|file| file.charter())
    }

    /// Queues an entry for the journal. Never waits: [`StoreEvents::durable`] is called when it is durable.
    ///
    /// # Panics
    /// When there is no such segment, it has more queued than it may, or the entry does not fit into a journal file.
    pub fn append(&self, segment: SegmentId, append: AppendId, entry: &Entry<Delta>) {
        let exists = self.segments.read().unwrap_or_else(PoisonError::into_inner).contains_key(&segment);
        assert!(exists, "an append of {segment}, which does not exist");
        self.journal.append(segment, append, entry);
    }

    /// Queues a task. Never waits: [`StoreEvents::task_done`] is called when it has ended.
    ///
    /// # Panics
    /// When there is no such segment.
    pub fn run(&self, segment: SegmentId, task: Task<Delta>) {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let file = segments.get(&segment).unwrap_or_else(|| panic!("a task for {segment}, which does not exist"));
        self.pool.run(file.clone(), task);
    }

    /// Numbers for `auriga status`.
    pub fn status(&self) -> StoreStatus {
        let (files, spares) = self.journal.files();
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        StoreStatus {
            journal_files: files,
            journal_spares: spares,
            journal_bytes: (files + spares) as u64 * self.journal.file_bytes(),
            used_bytes: self.space.used(),
            pages: segments.values().map(|file| file.page_count()).sum(),
            disk_full: self.watch.is_full(),
        }
    }

    /// The pages of a segment.
    #[cfg(test)]
    pub(crate) fn page_file(&self, segment: SegmentId) -> Arc<PageFile> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)[&segment].clone()
    }

    /// Gives back the room that page files have not needed since the last time, now.
    #[cfg(test)]
    pub(crate) fn give_back_room(&self) -> Result<(), crate::IoFailure> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.values().try_for_each(|file| file.give_back_room())
    }

    /// Writes what is queued for the journal, drops other tasks, and ends the threads. Dropping the store does the same.
    pub fn stop(&self) {
        self.watch.stop();
        self.journal.stop();
        self.pool.stop();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Opens a segment's page file and puts together what survived.
fn revive(
    file: pages::FoundFile,
    log: journal::Log,
    space: &Arc<Space>,
) -> Result<(PageFile, Survived<Delta>), OpenError> {
    let damaged = log.is_damaged();
    let mut entries = log.into_entries();
    let stands = entries.iter().any(|entry| entry.kind() == EntryKind::Standing);
    let damaged = damaged || (file.joins() && !stands);
    let newest = entries.iter().rev().find_map(|entry| match entry {
        Entry::Membership(_) | Entry::Step(_) => entry.step().map(|step| step.next),
        _ => None,
    });
    let charter = entries.iter().rev().find_map(|entry| match entry {
        Entry::Charter(charter) => Some(*charter),
        _ => None,
    });
    let Some((_, created_with)) = file.known() else {
        let name = file.segment.to_string();
        let membership = newest.ok_or(OpenError::SegmentUnreadable(name))?;
        let charter = charter.ok_or_else(|| OpenError::SegmentUnreadable(file.segment.to_string()))?;
        let file = file.reset(space, membership, charter)?;
        let survived = Survived { floor: file.floor(), ceiling: file.ceiling(), entries, damaged, boot: 0 };
        return Ok((file, survived));
    };
    if newest.is_none() {
        entries.insert(0, Entry::of_membership(created_with.clone()));
    }
    let file = file.open(space)?;
    let survived = Survived { floor: file.floor(), ceiling: file.ceiling(), entries, damaged, boot: 0 };
    Ok((file, survived))
}
