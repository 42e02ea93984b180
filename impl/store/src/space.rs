//! How much room is left.

use crate::disk::Directory;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts what a store's files take, against an optional limit.
#[derive(Debug)]
pub(crate) struct Space {
    capacity: u64,
    used: AtomicU64,
    /// Bytes of `used` that hold nothing at the moment: free page slots and spare journal files.
    reusable: AtomicU64,
    /// Tasks that wait for room.
    waiting: AtomicU64,
}

impl Space {
    pub(crate) fn new(capacity: Option<u64>) -> Space {
        let zero = || AtomicU64::new(0);
        Space { capacity: capacity.unwrap_or(u64::MAX), used: zero(), reusable: zero(), waiting: zero() }
    }

    /// Counts files that are there already.
    pub(crate) fn found(&self, bytes: u64) {
        self.used.fetch_add(bytes, Relaxed);
    }

    /// Takes `bytes` more.
    ///
    /// # Errors
    /// `StorageFull`: the limit would be exceeded; nothing was taken.
    pub(crate) fn take(&self, bytes: u64) -> io::Result<()> {
        let room = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.capacity);
        match self.used.fetch_update(Relaxed, Relaxed, room) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    /// Gives back what was taken.
    pub(crate) fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    pub(crate) fn add_reusable(&self, bytes: u64) {
        self.reusable.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn remove_reusable(&self, bytes: u64) {
        self.reusable.fetch_sub(bytes, Relaxed);
    }

    /// Counts a task that begins (`true`) or ceases (`false`) to wait for room.
    pub(crate) fn wait(&self, begins: bool) {
        if begins {
            self.waiting.fetch_add(1, Relaxed);
        } else {
            self.waiting.fetch_sub(1, Relaxed);
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Whether less than `reserve` is left. Once `full`, an eighth more than that must be left to not be.
    ///
    /// # Errors
    /// The operating system does not say.
    pub(crate) fn is_full(&self, disk: &dyn Directory, reserve: u64, full: bool) -> io::Result<bool> {
        let left = disk.free_bytes()?.min(self.capacity.saturating_sub(self.used()));
        let left = left.saturating_add(self.reusable.load(Relaxed));
        let needed = if full { reserve.saturating_add(reserve / 8) } else { reserve };
        Ok(left < needed || self.waiting.load(Relaxed) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_up_to_the_limit_and_no_byte_more() {
        let space = Space::new(Some(100));
        assert!(space.take(100).is_ok());
        assert_eq!(space.take(1).map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
        space.give(1);
        assert!(space.take(1).is_ok());
        assert!(Space::new(None).take(u64::MAX).is_ok());
    }
}
