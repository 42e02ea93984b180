//! How many frames and bytes went which way, by kind of message.

use auriga_driver::lock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one process.
#[derive(Default)]
pub struct Traffic {
    /// There are about two dozen names, all of them ours: the map is bounded.
    by_name: Mutex<BTreeMap<&'static str, Kind>>,
    dropped: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct Kind {
    sent: Volume,
    received: Volume,
}

/// Frames and their bytes, headers included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Volume {
    /// Frames.
    pub frames: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One kind of message's counters.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MessageTraffic {
    /// The message's name.
    pub message: String,
    /// From this process.
    pub sent: Volume,
    /// To this process.
    pub received: Volume,
}

impl Volume {
    fn add(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
    }
}

impl Traffic {
    /// A frame was put in an outbox.
    pub fn count_sent(&self, name: &'static str, bytes: usize) {
        lock(&self.by_name).entry(name).or_default().sent.add(bytes);
    }

    /// A frame arrived.
    pub fn count_received(&self, name: &'static str, bytes: usize) {
        lock(&self.by_name).entry(name).or_default().received.add(bytes);
    }

    /// A frame was not sent: its peer is not connected, or too slow.
    pub fn count_dropped(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    /// Frames that were not sent.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Counters by name.
    pub fn by_name(&self) -> Vec<MessageTraffic> {
        let by_name = lock(&self.by_name);
        let each = by_name.iter();
        each.map(|(name, kind)| MessageTraffic {
            message: (*name).to_owned(),
            sent: kind.sent,
            received: kind.received,
        })
        .collect()
    }
}
