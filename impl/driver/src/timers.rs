//! A machine's timers, by name: setting one again replaces it.
//!
//! One tokio task per machine sleeps until the earliest. Setting a timer wakes it only when that timer is the new
//! earliest, so the many timers that are set and never matter (each read has one for its hedge) cost no wake-up.
//! Granularity is tokio's: one millisecond, never early.

use crate::lock;
use auriga_protocol::Micros;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The timers of one machine. How many there can be is bounded by the machine: one for each name.
pub struct Timers<T> {
    queue: Mutex<Queue<T>>,
    earlier: Notify,
}

struct Queue<T> {
    due: BTreeMap<T, Instant>,
    order: BTreeSet<(Instant, T)>,
}

impl<T: Copy + Ord> Default for Timers<T> {
    fn default() -> Self {
        let queue = Queue { due: BTreeMap::new(), order: BTreeSet::new() };
        Timers { queue: Mutex::new(queue), earlier: Notify::new() }
    }
}

impl<T: Copy + Ord> Timers<T> {
    /// Sets `timer` to fire `after` from now, in place of an earlier setting. Callable from any thread.
    pub fn set(&self, timer: T, after: Micros) {
        let at = Instant::now() + Duration::from_micros(after.0);
        let mut queue = lock(&self.queue);
        if let Some(replaced) = queue.due.insert(timer, at) {
            queue.order.remove(&(replaced, timer));
        }
        queue.order.insert((at, timer));
        let is_earliest = queue.order.first() == Some(&(at, timer));
        drop(queue);
        if is_earliest {
            self.earlier.notify_one();
        }
    }

    /// Fires timers as they become due, until the future is dropped.
    pub async fn run(&self, fire: impl Fn(T)) {
        loop {
            let first = lock(&self.queue).order.first().map(|(at, _)| *at);
            match first {
                None => self.earlier.notified().await,
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.earlier.notified() => continue,
                },
            }
            while let Some(timer) = self.take_due() {
                fire(timer);
            }
        }
    }

    fn take_due(&self) -> Option<T> {
        let mut queue = lock(&self.queue);
        let (at, timer) = queue.order.first().copied().filter(|(at, _)| *at <= Instant::now())?;
        queue.order.remove(&(at, timer));
        queue.due.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn fires_in_order_of_time_and_a_second_setting_replaces_the_first() {
        let timers = Arc::new(Timers::default());
        let (fired, mut firing) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn({
            let timers = timers.clone();
            async move { timers.run(|timer: u8| fired.send(timer).expect("the test listens")).await }
        });
        timers.set(1, Micros(5_000));
        timers.set(2, Micros(40_000));
        timers.set(3, Micros(20_000));
        timers.set(1, Micros(60_000));
        let mut order = Vec::new();
        while order.len() < 3 {
            order.push(firing.recv().await.expect("the task runs"));
        }
        assert_eq!(order, [3, 2, 1]);
        task.abort();
    }
}
