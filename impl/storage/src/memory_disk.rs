//! A disk in memory, for tests of the node without files: what it "keeps" lives as long as its [`MemoryPlatters`].

use super::disk::{Disk, DiskEvents, Opened};
use auriga_driver::lock;
use auriga_net::admin::DiskStatus;
use auriga_page::Delta;
use auriga_protocol::message::BasePage;
use auriga_protocol::record::materialise;
use auriga_protocol::segment::{Entry, EntryKind, Outcome, Survived, Task, bases_read};
use auriga_protocol::{AppendId, Charter, Lsn, Membership, PageId, Record, SegmentId};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What survives the disk's user.
#[derive(Clone, Default)]
pub struct MemoryPlatters(Arc<Mutex<BTreeMap<SegmentId, Kept>>>);

#[derive(Default)]
struct Kept {
    floor: Lsn,
    ceiling: Lsn,
    entries: Vec<Entry<Delta>>,
    bases: BTreeMap<PageId, BasePage<Delta>>,
    /// It was made of a volume that existed.
    joins: bool,
}

enum Job {
    Append(SegmentId, AppendId, Entry<Delta>),
    Task(SegmentId, Task<Delta>),
}

struct MemoryDisk {
    platters: MemoryPlatters,
    jobs: Mutex<Option<Sender<Job>>>,
    /// Until the worker takes it.
    todo: Mutex<Option<Receiver<Job>>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl MemoryPlatters {
    /// Opens a disk on these platters.
    pub fn open(&self) -> Opened {
        let survived = lock(&self.0).iter().map(|(id, kept)| (*id, kept.survived())).collect();
        let (jobs, todo) = channel();
        let (jobs, todo) = (Mutex::new(Some(jobs)), Mutex::new(Some(todo)));
        Opened { disk: Arc::new(MemoryDisk { platters: self.clone(), jobs, todo, worker: Mutex::default() }), survived }
    }

    fn work(&self, todo: &Receiver<Job>, events: &dyn DiskEvents) {
        for job in todo {
            match job {
                Job::Append(segment, append, entry) => {
                    lock(&self.0).entry(segment).or_default().entries.push(entry);
                    events.durable(segment, append);
                }
                Job::Task(segment, task) => {
                    let outcome = lock(&self.0).entry(segment).or_default().run(task);
                    events.task_done(segment, outcome);
                }
            }
        }
    }
}

impl Kept {
    fn survived(&self) -> Survived<Delta> {
        let stands = |entry: &Entry<Delta>| entry.kind() == EntryKind::Standing;
        let damaged = self.joins && !self.entries.iter().any(stands);
        Survived { floor: self.floor, ceiling: self.ceiling, entries: self.entries.clone(), damaged, boot: 0 }
    }

    fn run(&mut self, task: Task<Delta>) -> Outcome<Delta> {
        match task {
            Task::Coalesce { floor, records } => {
                records.iter().for_each(|record| self.apply(record));
                self.floor = floor;
                Outcome::Coalesced { floor }
            }
            Task::ReadBase { token, page } => Outcome::Base { token, page, base: self.bases.get(&page).cloned() },
            Task::ReadBases { token, after, newer_than, limit, look } => {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let following = self.bases.range((from, Bound::Unbounded)).map(|(_, base)| base);
                bases_read(token, following, newer_than, (limit, look))
            }
            Task::PutBases { token, pages, unchanged, replace, floor, ceiling } => {
                if let Some(range) = replace {
                    self.bases.retain(|page, _| !range.contains(*page) || unchanged.contains(page));
                }
                self.ceiling = self.ceiling.max(ceiling);
                self.bases.extend(pages.into_iter().map(|base| (base.page, base)));
                self.floor = floor.unwrap_or(self.floor);
                Outcome::BasesPut { token }
            }
            Task::Scrub { .. } | Task::Retire => Outcome::Scrubbed { damaged: Vec::new() },
        }
    }

    fn apply(&mut self, record: &Record<Delta>) {
        let page = record.page;
        let base = self.bases.entry(page);
        let base = base.or_insert_with(|| BasePage { page, version: Default::default(), content: Default::default() });
        base.version = materialise(&mut base.content, base.version, record.lsn, [record]);
    }
}

impl MemoryDisk {
    fn push(&self, job: Job) {
        if let Some(jobs) = lock(&self.jobs).as_ref() {
            jobs.send(job).expect("the worker ends after its last sender");
        }
    }
}

impl Disk for MemoryDisk {
    fn begin(&self, events: Arc<dyn DiskEvents>) {
        let todo = lock(&self.todo).take().expect("a disk begins once");
        let platters = self.platters.clone();
        *lock(&self.worker) = Some(std::thread::spawn(move || platters.work(&todo, events.as_ref())));
    }

    fn create_segment(
        &self,
        id: SegmentId,
        membership: &Membership,
        charter: &Charter,
        joins: bool,
    ) -> Result<Survived<Delta>, String> {
        let survived = Survived::created(membership.clone()).with_charter(*charter);
        let survived = Survived { damaged: joins, ..survived };
        let kept = Kept { entries: survived.entries.clone(), joins, ..Kept::default() };
        lock(&self.platters.0).insert(id, kept);
        Ok(survived)
    }

    fn append(&self, segment: SegmentId, id: AppendId, entry: Entry<Delta>) {
        self.push(Job::Append(segment, id, entry));
    }

    fn start(&self, segment: SegmentId, task: Task<Delta>) {
        self.push(Job::Task(segment, task));
    }

    fn status(&self) -> DiskStatus {
        DiskStatus::default()
    }

    fn close(&self) {
        drop(lock(&self.jobs).take());
        if let Some(worker) = lock(&self.worker).take() {
            let _ = worker.join();
        }
    }
}
