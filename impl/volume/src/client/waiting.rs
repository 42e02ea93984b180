//! Who waits for VDL to move: durability waiters by callback, submitters that are held back on their own thread.

use crate::waiters::{Ready, Waiters};
use crate::{Callback, VolumeError};
use auriga_driver::lock;
use auriga_protocol::Lsn;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Longest sleep of a submitter before it looks for itself.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Those who wait.
#[derive(Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
    progress: Condvar,
}

#[derive(Default)]
struct State {
    waiters: Waiters,
    ended: Option<VolumeError>,
    submitters: u32,
}

impl Waiting {
    /// Why the volume has ended, if it has.
    pub fn ended(&self) -> Option<VolumeError> {
        lock(&self.state).ended
    }

    /// VDL has moved.
    pub fn durable(&self, vdl: Lsn) -> Ready {
        let mut state = lock(&self.state);
        if state.submitters > 0 {
            self.progress.notify_all();
        }
        state.waiters.take_durable(vdl)
    }

    /// Nothing more will become durable. The first reason counts.
    pub fn end(&self, error: VolumeError) -> Ready {
        let mut state = lock(&self.state);
        let error = *state.ended.get_or_insert(error);
        self.progress.notify_all();
        state.waiters.take_all(error)
    }

    /// Deadlines up to `now` have passed.
    pub fn expire(&self, now: Instant) -> Ready {
        lock(&self.state).waiters.take_expired(now)
    }

    /// Waits for `lsn`. `vdl` is asked under the lock, so that no move of VDL falls between.
    pub fn when_durable(&self, lsn: Lsn, vdl: impl Fn() -> Lsn, deadline: Instant, callback: Callback<()>) -> Ready {
        let mut state = lock(&self.state);
        if vdl() >= lsn {
            return Ready::one(callback, Ok(()));
        }
        if let Some(error) = state.ended {
            return Ready::one(callback, Err(error));
        }
        state.waiters.insert(lsn, deadline, callback);
        Ready::default()
    }

    /// Holds a submitter back until `has_moved`, or for a short while.
    ///
    /// # Errors
    /// When `deadline` has passed, or the volume has ended.
    pub fn wait_for_progress(&self, has_moved: impl Fn() -> bool, deadline: Instant) -> Result<(), VolumeError> {
        let mut state = lock(&self.state);
        if let Some(error) = state.ended {
            return Err(error);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(VolumeError::TimedOut);
        }
        if !has_moved() {
            state.submitters += 1;
            state = self.progress.wait_timeout(state, left.min(LOOK_EVERY)).expect("no holder panics").0;
            state.submitters -= 1;
        }
        Ok(())
    }
}
