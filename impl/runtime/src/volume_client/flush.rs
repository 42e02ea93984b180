//! When what was submitted is sent.
//!
//! A flush leaves at once when none is under way to storage. While one is, what is submitted gathers, and leaves when VDL
//! moves (or, if it does not, within two milliseconds). Each batch costs every node some wake-ups and a sync, so under
//! load fewer and larger ones serve everybody better: with 32 writers, six storage processes and two cores, a commit
//! took a third less processor time than when every flush left at once.

use super::Client;
use auriga_protocol::writer::Request;
use auriga_protocol::{Input, Lsn, Token, Writer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Bytes of records that may gather while nobody waits for them.
const UNSENT_MAX: usize = 256 << 10;

/// How long they may gather.
const LAZY_DELAY: Duration = Duration::from_millis(1);

/// Flushes that one thread does for others before it hands over.
const TURNS_MAX: usize = 16;

/// Who flushes, and what is left to flush.
#[derive(Default)]
pub(super) struct Flushing {
    wanted: AtomicBool,
    /// Some thread flushes, and will see `wanted`.
    busy: AtomicBool,
    /// Everything allocated through here has been handed to the network.
    through: AtomicU64,
    unsent: AtomicUsize,
    lazily: Notify,
    /// The background flush is coming anyway: no need to wake it again.
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
        if self.flushing.through.load(SeqCst) < lsn.0 {
            self.flush_unless_under_way();
        }
    }

    /// VDL has moved: what gathered meanwhile may leave.
    pub(super) fn flush_what_gathered(&self) {
        if self.flushing.wanted.load(SeqCst) {
            self.flush_unless_under_way();
        }
    }

    fn flush_unless_under_way(&self) {
        // First wanted, then looked: whoever moves VDL in between looks the other way round.
        self.flushing.wanted.store(true, SeqCst);
        if self.flushing.through.load(SeqCst) <= self.vdl.load(SeqCst) {
            self.flush();
        } else {
            self.flushing.schedule(); // In case VDL does not move.
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
        self.flushing.unsent.store(0, SeqCst);
        let allocated = self.step(|writer, now, effects| {
            let request = Input::Request { token: Token(0), request: Request::Flush };
            auriga_protocol::Machine::step(writer, now, request, effects);
            Writer::allocated(writer)
        });
        self.flushing.through.fetch_max(allocated.0, SeqCst);
    }
}

impl Flushing {
    fn schedule(&self) {
        if !self.scheduled.swap(true, SeqCst) {
            self.lazily.notify_one();
        }
    }
}

/// Flushes what nobody waits for.
pub(super) async fn flush_lazily(client: Arc<Client>) {
    loop {
        client.flushing.lazily.notified().await;
        sleep(LAZY_DELAY).await;
        client.flushing.scheduled.store(false, SeqCst);
        if client.flushing.unsent.load(SeqCst) > 0 || client.flushing.wanted.load(SeqCst) {
            client.flush();
        }
    }
}
