//! A volume in memory, for tests of what stands on a volume.
//!
//! It keeps the promises of [`Volume`] and has no storage behind it: durability arrives after a configurable delay, can
//! be held back (as when fewer than four segments answer), and [`MemoryVolume::crash_at`] gives the volume that a
//! recovery would find after a crash: the log up to a chosen LSN, whole mini-transactions only, and nothing above.
//!
//! [`MemoryVolume::reader`] gives readers of it ([`ReaderVolume`](crate::ReaderVolume)), and [`MemoryVolume::publish`]
//! gives them points to advance to.
//!
//! It never loses what it called durable unless asked to crash below its VDL, which no real crash does.

use crate::waiters::{Ready, Waiters};
use crate::{Callback, PageRead, Volume, VolumeError};
use auriga_page::{Delta, PageImage};
use auriga_protocol::{Change, Lsn, PageId, Payload, VolumeEpoch};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

mod readers;

pub use readers::MemoryReader;

/// How a [`MemoryVolume`] behaves.
#[derive(Clone, Debug)]
pub struct MemoryVolumeConfig {
    /// How long a mini-transaction takes to become durable. Zero: durable when `submit` returns.
    pub durable_after: Duration,
    /// LAL: records that may be allocated above VDL; beyond it `submit` waits.
    pub allocation_limit: u64,
    /// Bytes of records kept for [`MemoryVolume::crash_at`]; older ones are folded into pages.
    pub history_weight_max: usize,
}

impl Default for MemoryVolumeConfig {
    fn default() -> Self {
        MemoryVolumeConfig { durable_after: Duration::ZERO, allocation_limit: 1 << 20, history_weight_max: 256 << 20 }
    }
}

/// How often deadlines are looked at.
const SWEEP_EVERY: Duration = Duration::from_millis(5);

/// A volume in memory. Dropping it closes it.
pub struct MemoryVolume {
    shared: Arc<Shared>,
    clock: Option<JoinHandle<()>>,
}

struct Shared {
    config: MemoryVolumeConfig,
    state: Mutex<State>,
    /// Signalled when VDL moves, or anything else that a waiting `submit` or the clock must see.
    changed: Condvar,
}

type Pages = HashMap<PageId, (Lsn, PageImage)>;

struct State {
    /// The volume as of `floor`.
    floor_pages: Pages,
    floor: Lsn,
    /// The volume as of `vdl`.
    pages: Pages,
    vdl: Lsn,
    /// Every record above `floor`, in LSN order.
    log: VecDeque<Logged>,
    log_weight: usize,
    allocated: Lsn,
    /// When which CPL becomes durable.
    due: VecDeque<(Instant, Lsn)>,
    held: bool,
    ended: Option<VolumeError>,
    waiters: Waiters,
    readers: readers::Readers,
}

struct Logged {
    lsn: Lsn,
    is_cpl: bool,
    change: Change<Delta>,
}

impl MemoryVolume {
    /// An empty volume.
    pub fn new(config: MemoryVolumeConfig) -> MemoryVolume {
        MemoryVolume::with_pages(config, Pages::new(), Lsn::ZERO, Lsn::ZERO)
    }

    fn with_pages(config: MemoryVolumeConfig, pages: Pages, vdl: Lsn, allocated: Lsn) -> MemoryVolume {
        let state = State {
            floor_pages: pages.clone(),
            floor: vdl,
            pages,
            vdl,
            log: VecDeque::new(),
            log_weight: 0,
            allocated,
            due: VecDeque::new(),
            held: false,
            ended: None,
            waiters: Waiters::default(),
            readers: readers::Readers::default(),
        };
        let shared = Arc::new(Shared { config, state: Mutex::new(state), changed: Condvar::new() });
        let clock = std::thread::spawn({
            let shared = shared.clone();
            move || shared.run_clock()
        });
        MemoryVolume { shared, clock: Some(clock) }
    }

    /// The last LSN allocated: the highest that [`MemoryVolume::crash_at`] can keep.
    pub fn allocated(&self) -> Lsn {
        self.shared.lock().allocated
    }

    /// Holds durability back (`true`), or lets it go on (`false`).
    pub fn hold(&self, held: bool) {
        self.shared.lock().held = held;
        self.shared.changed.notify_all();
    }

    /// A newer writer takes over: everything from now on is answered as fenced.
    pub fn fence(&self, by: VolumeEpoch) {
        self.end(VolumeError::Fenced { by });
    }

    /// Ends the volume as its user would; waiters are answered `Closed`.
    pub fn close(&self) {
        self.end(VolumeError::Closed);
    }

    fn end(&self, error: VolumeError) {
        let mut state = self.shared.lock();
        state.ended.get_or_insert(error);
        let ready = state.waiters.take_all(error);
        drop(state);
        self.shared.changed.notify_all();
        ready.call();
    }

    /// The volume that a recovery finds when the writer died with the log intact up to `lsn`: every mini-transaction
    /// whose CPL is at or below `lsn`, and no other. This volume goes on unharmed. As after a real recovery, the new
    /// volume's LSNs begin above everything that this one can have allocated.
    ///
    /// # Panics
    /// When `lsn` lies below what `history_weight_max` lets the volume remember.
    pub fn crash_at(&self, lsn: Lsn) -> MemoryVolume {
        let state = self.shared.lock();
        assert!(lsn >= state.floor, "LSN {lsn} was forgotten: history begins at {}", state.floor);
        let kept =
            state.log.iter().filter(|logged| logged.is_cpl && logged.lsn <= lsn).map(|logged| logged.lsn).next_back();
        let vdl = kept.unwrap_or(state.floor);
        let mut pages = state.floor_pages.clone();
        state.log.iter().take_while(|logged| logged.lsn <= vdl).for_each(|logged| logged.apply(&mut pages));
        let config = self.shared.config.clone();
        let annulled_through = Lsn(state.allocated.0 + config.allocation_limit);
        MemoryVolume::with_pages(config, pages, vdl, annulled_through)
    }

    /// The CPLs that are remembered, ascending: the places where a crash makes a difference.
    pub fn consistency_points(&self) -> Vec<Lsn> {
        self.shared.lock().log.iter().filter(|logged| logged.is_cpl).map(|logged| logged.lsn).collect()
    }
}

impl Drop for MemoryVolume {
    fn drop(&mut self) {
        self.close();
        if let Some(clock) = self.clock.take()
            && clock.thread().id() != std::thread::current().id()
        {
            let _ = clock.join();
        }
    }
}

impl Volume for MemoryVolume {
    fn submit(&self, changes: Vec<Change<Delta>>, deadline: Instant) -> Result<Lsn, VolumeError> {
        let mut state = self.shared.lock();
        loop {
            if let Some(error) = state.ended {
                return Err(error);
            }
            if state.unacknowledged() + changes.len() as u64 <= self.shared.config.allocation_limit {
                break;
            }
            let left = deadline.checked_duration_since(Instant::now()).ok_or(VolumeError::TimedOut)?;
            state = self.shared.changed.wait_timeout(state, left).expect("no holder panics").0;
        }
        let lsn = state.allocate(changes);
        if !self.shared.config.durable_after.is_zero() || state.held {
            let due = Instant::now() + self.shared.config.durable_after;
            state.due.push_back((due, lsn));
            drop(state);
            self.shared.changed.notify_all();
            return Ok(lsn);
        }
        let ready = state.advance(lsn, self.shared.config.history_weight_max);
        drop(state);
        ready.call();
        Ok(lsn)
    }

    fn vdl(&self) -> Lsn {
        self.shared.lock().vdl
    }

    fn when_durable(&self, lsn: Lsn, deadline: Instant, callback: Callback<()>) {
        let mut state = self.shared.lock();
        let ready = if lsn <= state.vdl {
            Ready::one(callback, Ok(()))
        } else if let Some(error) = state.ended {
            Ready::one(callback, Err(error))
        } else {
            state.waiters.insert(lsn, deadline, callback);
            Ready::default()
        };
        drop(state);
        self.shared.changed.notify_all();
        ready.call();
    }

    fn read(&self, page: PageId, _deadline: Instant, callback: Callback<PageRead>) {
        let state = self.shared.lock();
        let result = match state.ended {
            Some(error) => Err(error),
            None => {
                let (version, content) = state.pages.get(&page).cloned().unwrap_or_default();
                Ok(PageRead { read_point: state.vdl, version, page: content })
            }
        };
        drop(state);
        callback(result);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Moves VDL when its time has come, and answers whose deadline has passed, until the volume ends.
    fn run_clock(&self) {
        let mut state = self.lock();
        while state.ended.is_none() {
            let now = Instant::now();
            let expired = state.waiters.take_expired(now);
            let mut durable = Ready::default();
            let due = state.due.iter().take_while(|(due, _)| *due <= now).map(|(_, lsn)| *lsn).last();
            if let Some(lsn) = due.filter(|_| !state.held) {
                durable = state.advance(lsn, self.config.history_weight_max);
            }
            drop(state);
            self.changed.notify_all();
            durable.call();
            expired.call();
            state = self.lock();
            if state.ended.is_none() {
                state = self.nap(state);
            }
        }
    }

    /// Waits until something can be due.
    fn nap<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let next_due = state.due.front().filter(|_| !state.held).map(|(due, _)| *due);
        let next_sweep = (!state.waiters.is_empty()).then(|| Instant::now() + SWEEP_EVERY);
        match next_due.into_iter().chain(next_sweep).min() {
            Some(at) => {
                let nap = at.saturating_duration_since(Instant::now());
                self.changed.wait_timeout(state, nap).expect("no holder panics").0
            }
            None => self.changed.wait(state).expect("no holder panics"),
        }
    }
}

impl State {
    fn unacknowledged(&self) -> u64 {
        self.log.len() as u64 - self.log.partition_point(|logged| logged.lsn <= self.vdl) as u64
    }

    /// Gives one mini-transaction its LSNs; answers its CPL. (An empty one answers the last LSN allocated.)
    fn allocate(&mut self, changes: Vec<Change<Delta>>) -> Lsn {
        let last = changes.len().saturating_sub(1);
        for (index, change) in changes.into_iter().enumerate() {
            self.allocated = self.allocated.next();
            self.log_weight += change.payload.weight();
            self.log.push_back(Logged { lsn: self.allocated, is_cpl: index == last, change });
        }
        self.allocated
    }

    /// VDL reaches `lsn`.
    fn advance(&mut self, lsn: Lsn, history_weight_max: usize) -> Ready {
        let first = self.log.partition_point(|logged| logged.lsn <= self.vdl);
        let until = self.log.partition_point(|logged| logged.lsn <= lsn);
        for logged in self.log.range(first..until) {
            self.readers.keep(logged.change.page, logged.lsn, &self.pages);
            logged.apply(&mut self.pages);
        }
        self.vdl = self.vdl.max(lsn);
        while self.due.front().is_some_and(|(_, due)| *due <= self.vdl) {
            self.due.pop_front();
        }
        self.forget(history_weight_max);
        self.waiters.take_durable(self.vdl)
    }

    /// Folds whole durable mini-transactions into the floor while the history is too heavy.
    fn forget(&mut self, history_weight_max: usize) {
        while self.log_weight > history_weight_max && self.log.front().is_some_and(|first| first.lsn <= self.vdl) {
            while let Some(logged) = self.log.pop_front() {
                logged.apply(&mut self.floor_pages);
                self.log_weight -= logged.change.payload.weight();
                self.floor = logged.lsn;
                if logged.is_cpl {
                    break;
                }
            }
        }
    }
}

impl Logged {
    fn apply(&self, pages: &mut Pages) {
        let (version, content) = pages.entry(self.change.page).or_default();
        self.change.payload.apply(content);
        *version = self.lsn;
    }
}

#[cfg(test)]
mod tests;
