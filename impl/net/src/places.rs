//! Places for connections: how many there are, who holds them, and how much memory unfinished frames may take.
//!
//! Any host that reaches the port can hold a place. So places are limited for each address and for the process, and
//! where there is none left, the connection that was silent longest makes room: peers and writers speak several times a
//! second, so those who are silent for [`ListenLimits::silent_after`] hold a place for nothing.

use crate::listener::ListenLimits;
use auriga_driver::lock;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;
use tokio::task::AbortHandle;

/// Bytes of frames that have begun and not ended, in all connections of a process. A frame is counted at its whole
/// length as soon as that is known.
pub const UNFINISHED_BYTES_MAX: usize = 128 << 20;

/// The same, of one address.
pub const UNFINISHED_BYTES_PER_ADDRESS_MAX: usize = 32 << 20;

/// All places of a process.
pub struct Places {
    limits: ListenLimits,
    began: Instant,
    held: Mutex<(u64, BTreeMap<u64, Arc<Held>>)>,
}

struct Held {
    address: IpAddr,
    /// Milliseconds from `Places::began` to the last frame.
    spoke: AtomicU64,
    /// Bytes of the frame that has begun.
    unfinished: AtomicUsize,
    connection: OnceLock<AbortHandle>,
}

/// One connection's place, until it is dropped.
pub struct Place {
    places: Arc<Places>,
    number: u64,
    held: Arc<Held>,
}

impl Places {
    /// No connection is there yet.
    pub fn new(limits: ListenLimits) -> Arc<Places> {
        Arc::new(Places { limits, began: Instant::now(), held: Mutex::default() })
    }

    /// A place for a connection from `address`, if need be that of a connection that is silent.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut held = lock(&self.held);
        let of_address = held.1.values().filter(|other| other.address == address).count();
        if of_address >= self.limits.connections_per_address_max {
            self.make_room(&mut held.1, |other| other.address == address)?;
        }
        if held.1.len() >= self.limits.connections_max {
            self.make_room(&mut held.1, |_| true)?;
        }
        held.0 += 1;
        let number = held.0;
        let (spoke, unfinished, connection) = (self.now().into(), AtomicUsize::new(0), OnceLock::new());
        let place = Arc::new(Held { address, spoke, unfinished, connection });
        held.1.insert(number, place.clone());
        Some(Place { places: self.clone(), number, held: place })
    }

    /// Ends the connection among these that has been silent longest, if it was for long.
    fn make_room(&self, held: &mut BTreeMap<u64, Arc<Held>>, among: impl Fn(&Held) -> bool) -> Option<()> {
        let candidates = held.iter().filter(|(_, other)| among(other));
        let (number, other) = candidates.min_by_key(|(_, other)| other.spoke.load(Relaxed))?;
        let silent = self.now().saturating_sub(other.spoke.load(Relaxed));
        if u128::from(silent) < self.limits.silent_after.as_millis() {
            return None;
        }
        // One whose task has not begun yet is gone as soon as it does: its place is.
        other.connection.get().inspect(|connection| connection.abort());
        let number = *number;
        held.remove(&number);
        Some(())
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

impl Place {
    /// The task that is to be ended when the place is needed.
    pub fn is_of(&self, connection: AbortHandle) {
        let _ = self.held.connection.set(connection);
    }

    /// A whole frame has come.
    pub fn spoke(&self) {
        self.held.spoke.store(self.places.now(), Relaxed);
        self.held.unfinished.store(0, Relaxed);
    }

    /// Counts a frame of `bytes` that has begun. Returns whether there is room for it.
    pub fn expects(&self, bytes: usize) -> bool {
        if self.held.unfinished.load(Relaxed) == bytes {
            return true;
        }
        let held = lock(&self.places.held);
        let of = |other: &&Arc<Held>| !Arc::ptr_eq(other, &self.held);
        let bytes_of = |other: &Arc<Held>| other.unfinished.load(Relaxed);
        let all: usize = held.1.values().filter(of).map(bytes_of).sum();
        let same = |other: &&Arc<Held>| other.address == self.held.address;
        let of_address: usize = held.1.values().filter(of).filter(same).map(bytes_of).sum();
        let fits = all + bytes <= UNFINISHED_BYTES_MAX && of_address + bytes <= UNFINISHED_BYTES_PER_ADDRESS_MAX;
        if fits {
            self.held.unfinished.store(bytes, Relaxed);
        }
        fits
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places.held).1.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn places(connections_max: usize, silent_after: Duration) -> Arc<Places> {
        let limits =
            ListenLimits { connections_max, connections_per_address_max: 2, silent_after, ..Default::default() };
        Places::new(limits)
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn places_are_limited_for_each_address_and_in_all() {
        let places = places(3, Duration::from_secs(3600));
        let first = places.enter(address(1)).expect("room");
        let _second = places.enter(address(1)).expect("room");
        assert!(places.enter(address(1)).is_none(), "two of one address");
        let _third = places.enter(address(2)).expect("room");
        assert!(places.enter(address(3)).is_none(), "three in all");
        drop(first);
        assert!(places.enter(address(3)).is_some());
    }

    #[test]
    fn the_silent_make_room() {
        let places = places(2, Duration::ZERO);
        let first = places.enter(address(1)).expect("room");
        std::thread::sleep(Duration::from_millis(5));
        let second = places.enter(address(2)).expect("room");
        let third = places.enter(address(3)).expect("the first makes room");
        let held: Vec<u64> = lock(&places.held).1.keys().copied().collect();
        assert_eq!(held, [second.number, third.number]);
        drop(first);
        assert_eq!(lock(&places.held).1.len(), 2);
    }

    #[test]
    fn unfinished_frames_are_limited_for_each_address_and_in_all() {
        let places = Places::new(ListenLimits::default());
        let each = UNFINISHED_BYTES_PER_ADDRESS_MAX;
        let places: Vec<Place> = (0..6).map(|last| places.enter(address(last)).expect("room")).collect();
        assert!(!places[0].expects(each + 1));
        assert!(places[..4].iter().all(|place| place.expects(each) && place.expects(each)));
        assert!(!places[4].expects(1), "the process has no more");
        places[0].spoke();
        assert!(places[4].expects(each));
        assert!(!places[5].expects(1));
    }
}
