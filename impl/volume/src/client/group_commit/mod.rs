//! Group commit: when what was submitted is sent.
//!
//! - A commit is sent at once when no batch is on its way to storage. Otherwise it waits for the next batch;
//!   [`GroupCommit`] decides when that is sent (`policy.rs` has the algorithm, and why).
//! - What no caller waits for is sent by the next look, at most a millisecond later. The same look finds a batch that is
//!   overdue.

mod policy;

use super::Client;
use auriga_driver::lock;
use auriga_protocol::writer::Request;
use auriga_protocol::{Input, Lsn, Token, Writer};
use policy::GroupCommit;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::sleep;

/// Bytes of records that may gather while no caller waits for them.
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
    /// Everything allocated through here has been handed to the network. Raised under the lock of `policy`.
    through: AtomicU64,
    unsent: AtomicUsize,
    policy: Mutex<GroupCommit>,
    lazily: Notify,
    /// A look is coming anyway: no need to ask for it again.
    scheduled: AtomicBool,
}

impl Client {
    /// Counts a submitted mini-transaction of `weight` bytes, and sends what was submitted if that is much.
    pub(super) fn submitted(&self, weight: usize) {
        let unsent = self.flushing.unsent.fetch_add(weight, SeqCst) + weight;
        if unsent >= UNSENT_MAX {
            self.flush();
        } else {
            self.flushing.schedule();
        }
    }

    /// Sends what was submitted if the commit at `lsn` need not wait for the next batch.
    pub(super) fn flush_through(&self, lsn: Lsn) {
        let is_time = {
            let mut policy = lock(&self.flushing.policy);
            self.flushing.through.load(SeqCst) < lsn.0 && policy.enqueue()
        };
        if is_time {
            self.flush();
        }
    }

    /// Sends the next batch if it is time: VDL has moved, and `released` commits were answered.
    pub(super) fn flush_next_batch(&self, released: usize) {
        let is_time = {
            let mut policy = lock(&self.flushing.policy);
            let is_settled = self.vdl.load(SeqCst) >= self.flushing.through.load(SeqCst);
            is_settled && policy.batch_durable(released, Instant::now())
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
        // Asked again after `busy` is given up: another thread may have wanted a flush just before.
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
            let mut policy = lock(&flushing.policy);
            if flushing.through.fetch_max(allocated, SeqCst) < allocated {
                policy.sent(Instant::now());
            }
            drop(policy);
            let request = Input::Request { token: Token(0), request: Request::Flush };
            self.driver.step_recorded(writer, now, request, effects);
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
        self.wanted.load(SeqCst) || lock(&self.policy).is_overdue(unsent, Instant::now())
    }
}

/// Flushes what no caller waits for, and batches that are overdue.
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
