//! Those who wait for durability, in LSN order.
//!
//! A waiter is answered exactly once: when VDL reaches its LSN, when its deadline has passed, or when the volume will
//! never be durable again (fenced, closed). This type only keeps the list. A caller that takes callbacks out of it
//! calls them *after* releasing its own locks, because a callback may submit again.

use crate::{Callback, VolumeError};
use auriga_protocol::Lsn;
use std::collections::BTreeMap;
use std::time::Instant;

/// Waiters for durability.
#[derive(Default)]
pub(crate) struct Waiters {
    waiting: BTreeMap<(Lsn, u64), Waiter>,
    inserted: u64,
}

struct Waiter {
    deadline: Instant,
    callback: Callback<()>,
}

/// Callbacks that are ready to be called, each with its result. Call them without holding a lock.
#[must_use = "a waiter that is never called back waits indefinitely"]
#[derive(Default)]
pub(crate) struct Ready(Vec<(Callback<()>, Result<(), VolumeError>)>);

impl Ready {
    /// One callback.
    pub(crate) fn one(callback: Callback<()>, result: Result<(), VolumeError>) -> Ready {
        Ready(vec![(callback, result)])
    }

    /// Calls everyone back.
    pub(crate) fn call(self) {
        for (callback, result) in self.0 {
            callback(result);
        }
    }

    /// How many there are to call.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Waiters {
    /// Waits for `lsn` until `deadline`.
    pub(crate) fn insert(&mut self, lsn: Lsn, deadline: Instant, callback: Callback<()>) {
        self.inserted += 1;
        self.waiting.insert((lsn, self.inserted), Waiter { deadline, callback });
    }

    /// Takes everyone whose LSN is durable.
    pub(crate) fn take_durable(&mut self, vdl: Lsn) -> Ready {
        if self.waiting.first_key_value().is_none_or(|((lsn, _), _)| *lsn > vdl) {
            return Ready::default();
        }
        let later = self.waiting.split_off(&(vdl.next(), 0));
        let durable = std::mem::replace(&mut self.waiting, later);
        Ready(durable.into_values().map(|waiter| (waiter.callback, Ok(()))).collect())
    }

    /// Takes everyone whose deadline has passed.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Ready {
        let expired = self.waiting.iter().filter(|(_, waiter)| waiter.deadline <= now);
        let expired: Vec<(Lsn, u64)> = expired.map(|(key, _)| *key).collect();
        let taken = expired.iter().filter_map(|key| self.waiting.remove(key));
        Ready(taken.map(|waiter| (waiter.callback, Err(VolumeError::TimedOut))).collect())
    }

    /// Takes everyone: nothing more will become durable, and this is why.
    pub(crate) fn take_all(&mut self, error: VolumeError) -> Ready {
        Ready(std::mem::take(&mut self.waiting).into_values().map(|waiter| (waiter.callback, Err(error))).collect())
    }

    /// Whether no one waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    fn waiting(waiters: &mut Waiters, lsn: u64, deadline: Instant) -> Receiver<Result<(), VolumeError>> {
        let (sender, receiver) = channel();
        waiters.insert(Lsn(lsn), deadline, Box::new(move |result| sender.send(result).expect("the test listens")));
        receiver
    }

    #[test]
    fn each_is_answered_once_by_what_comes_first() {
        let now = Instant::now();
        let (soon, late) = (now + Duration::from_millis(1), now + Duration::from_secs(60));
        let mut waiters = Waiters::default();
        let durable = waiting(&mut waiters, 5, late);
        let expired = waiting(&mut waiters, 6, soon);
        let closed = waiting(&mut waiters, 6, late);
        waiters.take_durable(Lsn(4)).call();
        assert!(durable.try_recv().is_err());
        waiters.take_durable(Lsn(5)).call();
        waiters.take_expired(soon).call();
        waiters.take_all(VolumeError::Closed).call();
        assert_eq!(durable.try_iter().collect::<Vec<_>>(), [Ok(())]);
        assert_eq!(expired.try_iter().collect::<Vec<_>>(), [Err(VolumeError::TimedOut)]);
        assert_eq!(closed.try_iter().collect::<Vec<_>>(), [Err(VolumeError::Closed)]);
        assert!(waiters.is_empty() && waiters.take_durable(Lsn(9)).len() == 0);
    }
}
