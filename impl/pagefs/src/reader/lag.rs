//! How late a reader is, by its own clock: since when it has been told of WAL that its standby has not replayed.
//!
//! What the way from the writer takes is not in it, nor the writer's pause between two publications: both are a few
//! milliseconds. No two clocks are compared.

use auriga_volume::Published;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Positions that are remembered. Of more, the newest are left out: what counts is the oldest.
const WAITING_MAX: usize = 1024;

/// What has been told, and not replayed.
#[derive(Default)]
pub(super) struct Lag {
    /// Ascending positions, and when each was seen first.
    waiting: VecDeque<(u64, Instant)>,
    /// The highest position that was.
    newest: u64,
}

impl Lag {
    /// Takes note of what is published, and of how far replay is.
    pub fn look(&mut self, published: &[Published], replayed: u64, now: Instant) {
        for point in published {
            if point.wal > self.newest && self.waiting.len() < WAITING_MAX {
                self.newest = point.wal;
                self.waiting.push_back((point.wal, now));
            }
        }
        while self.waiting.front().is_some_and(|(wal, _)| *wal <= replayed) {
            self.waiting.pop_front();
        }
    }

    /// How late the reader is; zero: it has replayed all that it was told of.
    pub fn now(&self, now: Instant) -> Duration {
        self.waiting.front().map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(*since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_protocol::Lsn;

    fn published(wal: u64) -> Published {
        Published { read_point: Lsn(wal), wal }
    }

    #[test]
    fn it_lasts_from_the_first_word_until_the_replay() {
        let (mut lag, began) = (Lag::default(), Instant::now());
        let at = |ms| began + Duration::from_millis(ms);
        lag.look(&[published(10)], 10, at(0));
        assert_eq!(lag.now(at(5)), Duration::ZERO);
        lag.look(&[published(10), published(20)], 10, at(5));
        lag.look(&[published(20), published(30)], 15, at(9));
        assert_eq!(lag.now(at(12)), Duration::from_millis(7), "since 20 was heard of");
        lag.look(&[published(30)], 20, at(13));
        assert_eq!(lag.now(at(13)), Duration::from_millis(4), "since 30 was");
        // The stream was cut: what it told is still to be replayed.
        lag.look(&[], 25, at(14));
        assert_eq!(lag.now(at(14)), Duration::from_millis(5));
        lag.look(&[], 30, at(15));
        assert_eq!(lag.now(at(99)), Duration::ZERO);
    }

    #[test]
    fn it_is_bounded() {
        let (mut lag, now) = (Lag::default(), Instant::now());
        for wal in 1..2 * WAITING_MAX as u64 {
            lag.look(&[published(wal)], 0, now);
        }
        assert_eq!(lag.waiting.len(), WAITING_MAX);
    }
}
