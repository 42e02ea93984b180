//! The threads that run tasks.

use super::file::PageFile;
use super::tasks::only_reads;
use crate::Delta;
use crate::error::{Failure, IoFailure};
use crate::journal::Journal;
use crate::space::Space;
use crate::store::StoreEvents;
use auriga_protocol::SegmentId;
use auriga_protocol::segment::Task;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long to wait before trying again a commit that found no room.
const ROOM_RETRY: Duration = Duration::from_millis(100);

/// Pages read together: their answers leave together. A commit is visible only after them.
const READS_AT_ONCE: usize = 32;

/// A task of a segment.
type Job = (Arc<PageFile>, Task<Delta>);

/// The threads and their queues.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    queues: Mutex<Queues>,
    read_queued: Condvar,
    commit_queued: Condvar,
    journal: Arc<Journal>,
    space: Arc<Space>,
}

#[derive(Default)]
struct Queues {
    reads: VecDeque<Job>,
    commits: VecDeque<Job>,
    /// Segments with a scrub in `reads`.
    scrubs: HashSet<SegmentId>,
    stop: bool,
}

impl Pool {
    pub(crate) fn new(journal: Arc<Journal>, space: Arc<Space>) -> Pool {
        let (queues, read_queued, commit_queued) = Default::default();
        let shared = Shared { queues, read_queued, commit_queued, journal, space };
        Pool { shared: Arc::new(shared), threads: Mutex::default() }
    }

    /// Starts one thread that commits, and `readers` that read.
    pub(crate) fn start(&self, readers: usize, events: &Arc<dyn StoreEvents>) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for number in 0..=readers {
            let (shared, events) = (self.shared.clone(), events.clone());
            let name = if number == 0 { "commit".into() } else { format!("read-{number}") };
            let work = move || {
                let done = if number == 0 {
                    shared.commit_until_stopped(&*events)
                } else {
                    shared.read_until_stopped(&*events)
                };
                if let Err(failure) = done {
                    events.failed(&Failure::Io(failure));
                }
            };
            let thread = std::thread::Builder::new().name(name).spawn(work);
            threads.push(thread.expect("a thread can be started"));
        }
    }

    /// Queues a task. Never waits.
    pub(crate) fn run(&self, file: Arc<PageFile>, task: Task<Delta>) {
        let mut queues = self.shared.lock();
        if !only_reads(&task) {
            queues.commits.push_back((file, task));
            return self.shared.commit_queued.notify_one();
        }
        // A segment asks on a timer, whether or not it was answered: two scrubs in the queue are one.
        if matches!(task, Task::Scrub { .. }) && !queues.scrubs.insert(file.segment) {
            return;
        }
        queues.reads.push_back((file, task));
        self.shared.read_queued.notify_one();
    }

    /// Ends the threads when they have finished what they are doing. What is queued is dropped.
    pub(crate) fn stop(&self) {
        self.shared.lock().stop = true;
        self.shared.read_queued.notify_all();
        self.shared.commit_queued.notify_all();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the page store panicked");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_until_stopped(&self, events: &dyn StoreEvents) -> Result<(), IoFailure> {
        loop {
            let idle = |queues: &mut Queues| queues.reads.is_empty() && !queues.stop;
            let mut queues = self.read_queued.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            if queues.stop {
                return Ok(());
            }
            let Some((file, task)) = queues.reads.pop_front() else { continue };
            if matches!(task, Task::Scrub { .. }) {
                queues.scrubs.remove(&file.segment);
            }
            let Task::ReadBase { token, page } = task else {
                drop(queues);
                file.run(&task, &|outcome| events.task_done(file.segment, outcome))?;
                continue;
            };
            let mut wanted = vec![(token, page)];
            while wanted.len() < READS_AT_ONCE
                && let Some((next, Task::ReadBase { token, page })) = queues.reads.front()
                && Arc::ptr_eq(next, &file)
            {
                wanted.push((*token, *page));
                queues.reads.pop_front();
            }
            drop(queues);
            file.read_bases(&wanted, |outcomes| events.tasks_done(file.segment, outcomes))?;
        }
    }

    fn commit_until_stopped(&self, events: &dyn StoreEvents) -> Result<(), IoFailure> {
        // Tasks that wait for room, and those behind them of the same segment.
        let mut waiting = BTreeMap::new();
        while let Some(next) = self.next_commit(!waiting.is_empty()) {
            let waited = !waiting.is_empty();
            match next {
                Some(job) => {
                    let segment = job.0.segment;
                    let line: &mut VecDeque<Job> = waiting.entry(segment).or_default();
                    line.push_back(job);
                    if line.len() == 1 {
                        self.commit_in_order(line, events)?;
                    }
                }
                None => waiting.values_mut().try_for_each(|line| self.commit_in_order(line, events))?,
            }
            waiting.retain(|_, line| !line.is_empty());
            if waited == waiting.is_empty() {
                self.space.wait(!waited);
            }
        }
        Ok(())
    }

    /// The next job; `Some(None)`: it is time to try again what found no room. `None`: stop.
    fn next_commit(&self, retry: bool) -> Option<Option<Job>> {
        let idle = |queues: &mut Queues| queues.commits.is_empty() && !queues.stop;
        let queues = self.lock();
        let mut queues = if retry {
            self.commit_queued.wait_timeout_while(queues, ROOM_RETRY, idle).unwrap_or_else(PoisonError::into_inner).0
        } else {
            self.commit_queued.wait_while(queues, idle).unwrap_or_else(PoisonError::into_inner)
        };
        if queues.stop { None } else { Some(queues.commits.pop_front()) }
    }

    /// Runs the jobs of one segment until one finds no room.
    fn commit_in_order(&self, line: &mut VecDeque<Job>, events: &dyn StoreEvents) -> Result<(), IoFailure> {
        while let Some((file, task)) = line.front() {
            match file.run(task, &|outcome| events.task_done(file.segment, outcome)) {
                Err(failure) if failure.is_no_space() => {
                    tracing::debug!(segment = %file.segment, %failure, "a commit waits for room");
                    return Ok(());
                }
                done => done?,
            }
            self.journal.set_floor(file.segment, file.floor());
            line.pop_front();
        }
        Ok(())
    }
}
