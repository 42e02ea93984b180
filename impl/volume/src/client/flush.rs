//! When what was submitted is sent.
//!
//! What somebody waits for leaves at once when nothing is under way to storage; else it gathers, and [`Gather`] says when
//! it leaves: at the latest, a look once in a millisecond finds it overdue. What nobody waits for leaves with one of those
//! looks.

use super::Client;
use super::gather::Gather;
use auriga_driver::lock;
use auriga_protocol::writer::Request;
use auriga_protocol::{Input, Lsn, Token, Writer};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::sleep;

/// Bytes of records that may gather while nobody waits for them.
const UNSENT_MAX: usize = 256 << 10;

/// How long until a look at what has gathered.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Flushes that one thread does for others before it hands over.
const TURNS_MAX: usize = 16;

/// Who flushes, and what is left to flush.
#[derive(Default)]
pub(super) struct Flushing {
    wanted: AtomicBool,
    /// Some thread flushes, and will see `wanted`.
    busy: AtomicBool,
    /// Everything allocated through here has been handed to the network. Raised under the lock of `gather`.
    through: AtomicU64,
    unsent: AtomicUsize,
    gather: Mutex<Gather>,
    lazily: Notify,
    /// A look is coming anyway: no need to ask for it again.
    scheduled: AtomicBool,
}

impl Client {
    /// A mini-transaction of `weight` bytes was submitted.
    pub(super) fn submitted(&self, weight: usize) {
        let unsent = self.flushing.unsent.fetch_add(weight, SeqCst) + weight;
        if unsent >= UNSENT_MAX {
            self.flush();
        } else {
            self.flushing.schedule();
        }
    }

    /// Somebody waits for `lsn`.
    pub(super) fn flush_through(&self, lsn: Lsn) {
        let is_time = {
            let mut gather = lock(&self.flushing.gather);
            self.flushing.through.load(SeqCst) < lsn.0 && gather.wait()
        };
        if is_time {
            self.flush();
        }
    }

    /// VDL has moved, and so many who waited for it were told.
    pub(super) fn flush_what_gathered(&self, released: usize) {
        let is_time = {
            let mut gather = lock(&self.flushing.gather);
            let is_settled = self.vdl.load(SeqCst) >= self.flushing.through.load(SeqCst);
            is_settled && gather.settled(released, Instant::now())
        };
        if is_time {
            self.flush();
        }
    }

    /// Sends what was submitted: on this thread, or on the one that is already flushing.
    pub(super) fn flush(&self) {
        let flushing = &self.flushing;
        flushing.wanted.store(true, SeqCst);
        let mut turns = 0;
        // Asked again after `busy` is given up: someone may have wanted a flush just before.
        while flushing.wanted.load(SeqCst) && !flushing.busy.swap(true, SeqCst) {
            while turns < TURNS_MAX && flushing.wanted.swap(false, SeqCst) {
                self.flush_now();
                turns += 1;
            }
            flushing.busy.store(false, SeqCst);
            if turns >= TURNS_MAX {
                return flushing.schedule();
            }
        }
    }

    fn flush_now(&self) {
        let flushing = &self.flushing;
        flushing.unsent.store(0, SeqCst);
        self.step(|writer, now, effects| {
            // Before anything leaves, so that no answer to it comes too early.
            let allocated = Writer::allocated(writer).0;
            let mut gather = lock(&flushing.gather);
            if flushing.through.fetch_max(allocated, SeqCst) < allocated {
                gather.sent(Instant::now());
            }
            drop(gather);
            let request = Input::Request { token: Token(0), request: Request::Flush };
            self.take(writer, now, request, effects);
        });
    }
}

impl Flushing {
    fn schedule(&self) {
        if !self.scheduled.swap(true, SeqCst) {
            self.lazily.notify_one();
        }
    }

    fn is_overdue(&self) -> bool {
        let unsent = self.unsent.load(SeqCst) > 0;
        self.wanted.load(SeqCst) || lock(&self.gather).is_overdue(unsent, Instant::now())
    }
}

/// Flushes what nobody waits for, and what has gathered for long.
pub(super) async fn flush_lazily(client: Arc<Client>) {
    loop {
        client.flushing.lazily.notified().await;
        while {
            sleep(LOOK_EVERY).await;
            client.flushing.scheduled.store(false, SeqCst);
            if client.flushing.is_overdue() {
                client.flush();
            }
            client.flushing.unsent.load(SeqCst) > 0
        } {}
    }
}
