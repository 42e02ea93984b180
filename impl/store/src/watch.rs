//! The thread that watches the room left, gives back what is not needed, makes journal files ahead of time, and verifies
//! old ones.

use crate::disk::Directory;
use crate::error::{Failure, IoContext, IoFailure};
use crate::journal::Journal;
use crate::options::StoreOptions;
use crate::space::Space;
use crate::store::{Segments, StoreEvents};
use auriga_protocol::SegmentId;
use auriga_protocol::segment::Outcome;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The watching thread.
pub(crate) struct Watch {
    watched: Arc<Watched>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Watched {
    disk: Arc<dyn Directory>,
    space: Arc<Space>,
    journal: Arc<Journal>,
    segments: Segments,
    reserve: u64,
    every: Duration,
    scrub_every: Duration,
    give_back_every: Duration,
    full: AtomicBool,
    stop: Mutex<bool>,
    stopped: Condvar,
}

impl Watch {
    pub(crate) fn new(
        disk: Arc<dyn Directory>,
        space: Arc<Space>,
        journal: Arc<Journal>,
        segments: Segments,
        options: &StoreOptions,
    ) -> Watch {
        let (full, stop, stopped) = Default::default();
        let watched = Watched {
            disk,
            space,
            journal,
            segments,
            reserve: options.reserve_bytes,
            every: options.watch_every,
            scrub_every: options.scrub_journal_every,
            give_back_every: options.give_back_every,
            full,
            stop,
            stopped,
        };
        Watch { watched: Arc::new(watched), thread: Mutex::default() }
    }

    /// Whether segments were told that the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        self.watched.full.load(Relaxed)
    }

    pub(crate) fn start(&self, events: Arc<dyn StoreEvents>) {
        let watched = self.watched.clone();
        let thread = std::thread::Builder::new().name("watch".into());
        let thread = thread.spawn(move || {
            if let Err(failure) = watched.until_stopped(&*events) {
                events.failed(&failure);
            }
        });
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread.expect("a thread can be started"));
    }

    pub(crate) fn stop(&self) {
        *self.watched.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.watched.stopped.notify_all();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
            && thread.join().is_err()
        {
            tracing::error!("the watching thread panicked");
        }
    }
}

impl Watched {
    fn until_stopped(&self, events: &dyn StoreEvents) -> Result<(), Failure> {
        let mut told = BTreeSet::new();
        let (mut scrubbed, mut given_back) = (Instant::now(), Instant::now());
        loop {
            self.look(&mut told, events)?;
            match self.journal.prepare() {
                Err(failure) if failure.is_no_space() => {}
                done => done?,
            }
            if !self.scrub_every.is_zero() && scrubbed.elapsed() >= self.scrub_every {
                self.journal.scrub()?;
                scrubbed = Instant::now();
            }
            if !self.give_back_every.is_zero() && given_back.elapsed() >= self.give_back_every {
                self.give_back()?;
                given_back = Instant::now();
            }
            let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.stopped.wait_timeout_while(stop, self.every, |stop| !*stop);
            if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                return Ok(());
            }
        }
    }

    /// Gives back the room that page files have not needed for a while.
    fn give_back(&self) -> Result<(), IoFailure> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let files: Vec<_> = segments.values().cloned().collect();
        drop(segments);
        files.iter().try_for_each(|file| file.give_back_room())
    }

    /// Tells every segment that does not know it yet whether the disk is full. `told`: those that know it is.
    fn look(&self, told: &mut BTreeSet<SegmentId>, events: &dyn StoreEvents) -> Result<(), IoFailure> {
        let was_full = self.full.load(Relaxed);
        let full =
            self.space.is_full(&*self.disk, self.reserve, was_full).context(|| "ask for the room left".into())?;
        if full != was_full {
            let used_bytes = self.space.used();
            match full {
                true => tracing::warn!(used_bytes, "the disk is full: new records are refused until there is room"),
                false => tracing::warn!(used_bytes, "the disk has room again"),
            }
            self.full.store(full, Relaxed);
        }
        let segments: Vec<SegmentId> =
            self.segments.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        for segment in segments {
            let changed = if full { told.insert(segment) } else { told.remove(&segment) };
            if changed {
                events.task_done(segment, Outcome::DiskFull(full));
            }
        }
        Ok(())
    }
}
