//! Bounds what a successor has to redo: in time, not in bytes.
//!
//! Whoever takes over replays the WAL since the last checkpoint, and then writes the pages that it changed. Both grow with
//! the rate of writing. A checkpoint writes the same pages, so its own duration says how long a successor would take. This
//! thread asks for checkpoints so often that each takes about [`GOAL`]. On this storage a checkpoint writes differences, and
//! no page image follows it, so many small ones cost little more than a few large ones.

use crate::postgres::server::ServerSpec;
use crate::postgres::session::Session;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a checkpoint should take.
const GOAL: Duration = Duration::from_millis(250);
/// Shortest and longest time from one checkpoint to the next. The longest is PostgreSQL's own, see
/// [`SETTINGS`](crate::postgres::cluster::SETTINGS).
const INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// At most this part of the time is spent with checkpoints: one that was slow because the machine is busy must not make it
/// busier.
const PAUSE_FACTOR: u32 = 4;
/// WAL that is redone in a moment: no checkpoint for it.
const LITTLE_WAL: u64 = 1 << 20;
/// How often it looks whether it is time.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A thread that asks for checkpoints. Dropping it ends the thread.
pub(super) struct Checkpointer {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Asks the server of `spec`.
    ///
    /// # Errors
    /// The operating system has no thread.
    pub fn start(spec: ServerSpec) -> io::Result<Checkpointer> {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        // The session ends with the thread that began it.
        let thread = std::thread::Builder::new().name("checkpointing".to_owned()).spawn(move || {
            let mut rhythm = Rhythm::new(Instant::now());
            let mut session = None;
            while !seen.load(Relaxed) {
                std::thread::sleep(LOOK_EVERY);
                if rhythm.is_time(Instant::now()) && look(&mut session, &spec, &mut rhythm).is_err() {
                    // It has just been started, or has ended.
                    session = None;
                    rhythm.postpone(Instant::now());
                }
            }
        })?;
        Ok(Checkpointer { ended, thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(session: &mut Option<Session>, spec: &ServerSpec, rhythm: &mut Rhythm) -> io::Result<()> {
    let session = match session {
        Some(session) => session,
        None => session.insert(Session::begin(spec)?),
    };
    let Some(position) = session.ask_position("SELECT pg_current_wal_insert_lsn()")? else {
        rhythm.postpone(Instant::now());
        return Ok(());
    };
    if rhythm.is_worth_it(position) {
        let begun = Instant::now();
        session.ask("CHECKPOINT")?;
        rhythm.took(position, begun, Instant::now());
        tracing::debug!(took_ms = begun.elapsed().as_millis() as u64, interval = ?rhythm.interval, "checkpoint");
    } else {
        rhythm.postpone(Instant::now());
    }
    Ok(())
}

/// When the next checkpoint is due.
struct Rhythm {
    /// Where the WAL was when the last one began.
    position: u64,
    interval: Duration,
    due: Instant,
}

impl Rhythm {
    fn new(now: Instant) -> Rhythm {
        let interval = INTERVAL.0 * 4;
        Rhythm { position: 0, interval, due: now + interval }
    }

    fn is_time(&self, now: Instant) -> bool {
        now >= self.due
    }

    fn is_worth_it(&self, position: u64) -> bool {
        position.saturating_sub(self.position) >= LITTLE_WAL
    }

    /// Nothing to be done: it looks again soon.
    fn postpone(&mut self, now: Instant) {
        self.due = now + INTERVAL.0;
    }

    /// A checkpoint was made. The next interval is as much longer or shorter as this one was too short or too long for the
    /// goal, but at most by half or double.
    fn took(&mut self, position: u64, begun: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(begun);
        let ratio = GOAL.as_secs_f64() / took.as_secs_f64().max(0.001);
        let wanted = self.interval.mul_f64(ratio.clamp(0.5, 2.0));
        self.interval = wanted.clamp(INTERVAL.0, INTERVAL.1);
        self.position = position;
        self.due = ended + self.interval.max(took * PAUSE_FACTOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(rhythm: &mut Rhythm, checkpoints: u64, took: Duration) -> Duration {
        for number in 1..=checkpoints {
            let begun = rhythm.due;
            rhythm.took(number, begun, begun + took);
        }
        rhythm.interval
    }

    #[test]
    fn checkpoints_come_as_often_as_they_are_short() {
        let mut rhythm = Rhythm::new(Instant::now());
        assert_eq!(after(&mut rhythm, 9, Duration::from_millis(5)), INTERVAL.1, "quick ones are rare");
        assert_eq!(after(&mut rhythm, 9, Duration::from_secs(9)), INTERVAL.0, "slow ones are frequent");
        let (due, ended) = (rhythm.due, Instant::now() + Duration::from_secs(1000));
        rhythm.took(1, ended - Duration::from_secs(9), ended);
        assert!(due < rhythm.due && rhythm.due >= ended + Duration::from_secs(36), "but leave time for others");
        let before = rhythm.interval;
        assert_eq!(after(&mut rhythm, 1, GOAL), before, "as they should be");
    }

    #[test]
    fn without_wal_there_is_none() {
        let mut rhythm = Rhythm::new(Instant::now());
        assert!(rhythm.is_worth_it(16 << 20));
        rhythm.took(16 << 20, rhythm.due, rhythm.due + GOAL);
        assert!(!rhythm.is_worth_it((16 << 20) + LITTLE_WAL - 1) && rhythm.is_worth_it((16 << 20) + LITTLE_WAL));
    }
}
