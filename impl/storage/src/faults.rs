//! Faults that a node was asked to show, for rehearsals and tests. None can make it break a promise: messages are late
//! or lost, the disk is slow or refuses, as happens without being asked.

use auriga_net::admin::Fault;
use std::collections::BTreeSet;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// The faults in force.
#[derive(Default)]
pub(super) struct Faults {
    incoming_ms: AtomicU32,
    outgoing_ms: AtomicU32,
    append_ms: AtomicU32,
    disk_full: AtomicBool,
    partitioned: AtomicBool,
    partitioned_from: RwLock<BTreeSet<String>>,
}

impl Faults {
    /// Puts `fault` in force.
    pub fn inject(&self, fault: &Fault) {
        match fault {
            Fault::Delay { incoming_ms, outgoing_ms } => {
                self.incoming_ms.store(*incoming_ms, Relaxed);
                self.outgoing_ms.store(*outgoing_ms, Relaxed);
            }
            Fault::Partition { from } => {
                *self.partitioned_from.write().expect("no holder panics") = from.iter().cloned().collect();
                self.partitioned.store(!from.is_empty(), Relaxed);
            }
            Fault::SlowDisk { append_ms } => self.append_ms.store(*append_ms, Relaxed),
            Fault::DiskFull(full) => self.disk_full.store(*full, Relaxed),
            Fault::Clear => {
                self.inject(&Fault::Delay { incoming_ms: 0, outgoing_ms: 0 });
                self.inject(&Fault::Partition { from: Vec::new() });
                self.inject(&Fault::SlowDisk { append_ms: 0 });
                self.inject(&Fault::DiskFull(false));
            }
        }
    }

    /// How late incoming messages are.
    pub fn incoming_delay(&self) -> Option<Duration> {
        delay(&self.incoming_ms)
    }

    /// How late outgoing messages are.
    pub fn outgoing_delay(&self) -> Option<Duration> {
        delay(&self.outgoing_ms)
    }

    /// How much longer appends take.
    pub fn append_delay(&self) -> Option<Duration> {
        delay(&self.append_ms)
    }

    /// Whether the disk acts as nearly full.
    pub fn disk_full(&self) -> bool {
        self.disk_full.load(Relaxed)
    }

    /// Whether nothing passes between this node and the one named `peer`.
    pub fn is_partitioned_from(&self, peer: &str) -> bool {
        self.partitioned.load(Relaxed) && self.partitioned_from.read().expect("no holder panics").contains(peer)
    }
}

fn delay(millis: &AtomicU32) -> Option<Duration> {
    match millis.load(Relaxed) {
        0 => None,
        millis => Some(Duration::from_millis(millis.into())),
    }
}
