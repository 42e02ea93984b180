//! What an instance says of itself: its role, and how it is.

use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where an instance is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A reader that looks for a writer that publishes.
    Connecting,
    /// Recovering the volume: sealing, collecting and installing with a higher volume epoch.
    Recovering,
    /// Creating the database cluster on a new volume.
    CreatingCluster,
    /// `postgres` has been started and does not accept connections yet.
    StartingPostgres,
    /// Serving.
    Ready,
    /// Shutting down as asked.
    Stopping,
    /// A newer writer has taken over. For good, unless the instance's role may change.
    Fenced,
}

/// A snapshot of an instance's health.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HealthReport {
    /// Where in its life.
    pub phase: Phase,
    /// Since when, in milliseconds of Unix time.
    pub since_ms: u64,
    /// Times that the postmaster had to be started again.
    pub restarts: u64,
    /// How far PostgreSQL's recovery is, in its own words; absent while there is none.
    #[serde(default)]
    pub progress: Option<String>,
}

/// Shared by the supervisor, which writes it, and the admin port, which shows it.
pub struct Health {
    report: Mutex<HealthReport>,
    ready: Mutex<Option<WhenReady>>,
}

/// See [`Health::when_ready`].
type WhenReady = Box<dyn FnOnce() + Send>;

impl Default for Health {
    fn default() -> Self {
        let report = HealthReport { phase: Phase::Recovering, since_ms: now_ms(), restarts: 0, progress: None };
        Health { report: Mutex::new(report), ready: Mutex::default() }
    }
}

impl Health {
    /// The instance is now in `phase`.
    pub fn set_phase(&self, phase: Phase) {
        {
            let mut report = self.lock();
            report.phase = phase;
            report.since_ms = now_ms();
            report.progress = None;
        }
        if phase == Phase::Ready {
            let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
            ready.into_iter().for_each(|act| act());
        }
    }

    /// `act` is called once, when the instance is ready the next time. It replaces what was to be called before.
    pub fn when_ready(&self, act: impl FnOnce() + Send + 'static) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(act));
    }

    /// Undoes [`Health::when_ready`].
    pub fn never_mind(&self) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// PostgreSQL's recovery says this.
    pub fn set_progress(&self, progress: String) {
        self.lock().progress = Some(progress);
    }

    /// The postmaster has ended and is being started again.
    pub fn restarted(&self) {
        let mut report = self.lock();
        report.restarts += 1;
        report.phase = Phase::StartingPostgres;
        report.since_ms = now_ms();
        report.progress = None;
    }

    /// As of now.
    pub fn report(&self) -> HealthReport {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, HealthReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
