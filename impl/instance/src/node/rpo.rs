//! The bound on what a failover may lose, in a global database: commits wait while every secondary is late by more.
//!
//! When they wait is decided by the protocol's [`RpoGate`]. This thread tells it what it must know (the volume's VDL, and
//! how far the secondaries are, as the region's process says), and has the mount hold the answers to fsync back.
//! PostgreSQL's backends then wait in the fsync of the WAL, as they do for a slow disk; reading goes on.
//!
//! The bound is a setting that PostgreSQL knows nothing of: `rds.global_db_rpo` in seconds, at least 20, as in Aurora. It is
//! changed without a restart by `ALTER ROLE ALL SET`. Rehearsals set `auriga.global_db_rpo_ms` instead.

use crate::health::{Health, Phase};
use crate::postgres::server::ServerSpec;
use crate::postgres::session::Session;
use auriga_pagefs::PageFs;
use auriga_protocol::global::{RegionState, RpoGate};
use auriga_protocol::{Micros, RegionId};
use auriga_region::port::{RegionSaid, ReportedRole};
use auriga_volume::{RemoteVolume, Volume};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it is looked whether commits may pass.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often the bound is asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The least bound, as in Aurora.
const SECONDS_MIN: u64 = 20;
/// What is set for all roles, of both settings: a session that is connected does not see it otherwise.
const QUESTION: &str = "SELECT concat_ws(',', \
    coalesce((SELECT split_part(c, '=', 2) FROM pg_db_role_setting, unnest(setconfig) c \
      WHERE setdatabase = 0 AND setrole = 0 AND c LIKE 'rds.global\\_db\\_rpo=%'), ''), \
    coalesce((SELECT split_part(c, '=', 2) FROM pg_db_role_setting, unnest(setconfig) c \
      WHERE setdatabase = 0 AND setrole = 0 AND c LIKE 'auriga.global\\_db\\_rpo\\_ms=%'), ''))";

/// The bound, and whether it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RpoShown {
    /// The bound, in milliseconds.
    pub bound_ms: u64,
    /// The lag of the secondary that is furthest; `None`: there is none.
    pub least_lag_ms: Option<u64>,
    /// For how long commits have been waiting; `None`: they pass.
    pub waits_ms: Option<u64>,
}

/// A thread that keeps the bound. Dropping it ends the thread, and what waits.
pub(super) struct RpoKeeper {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread works with.
pub(super) struct Kept {
    pub volume: Arc<RemoteVolume>,
    pub files: Arc<PageFs>,
    pub spec: ServerSpec,
    pub region: Option<RegionState>,
    pub said: RegionSaid,
    pub health: Arc<Health>,
    pub shown: Arc<Mutex<Option<RpoShown>>>,
    /// As the server was started with them.
    pub settings: Vec<(String, String)>,
}

impl RpoKeeper {
    /// Begins to keep the bound.
    ///
    /// # Errors
    /// The operating system has no thread.
    pub fn start(kept: Kept) -> io::Result<RpoKeeper> {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = std::thread::Builder::new().name("rpo".to_owned()).spawn(move || keep(&kept, &seen))?;
        Ok(RpoKeeper { ended, thread: Some(thread) })
    }
}

impl Drop for RpoKeeper {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep(kept: &Kept, ended: &AtomicBool) {
    let (begun, mut gate, mut asked) = (Instant::now(), RpoGate::default(), Asked::new(&kept.settings));
    let mut waits_since: Option<Instant> = None;
    let phase = || kept.health.report().phase;
    // At a planned stop what waits is answered: it is durable here, and its client is told that the server stops.
    while !ended.load(Relaxed) && !matches!(phase(), Phase::Stopping | Phase::Fenced) {
        let now = Micros(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
        gate.set_bound(asked.bound(&kept.spec));
        learn(kept, &mut gate, now);
        let least = gate.lags(now).into_values().min();
        match (gate.is_open(now), waits_since) {
            (false, None) => {
                kept.files.hold_syncs();
                waits_since = Some(Instant::now());
                tracing::warn!(
                    bound_s = gate.bound().map(seconds),
                    least_lag_s = least.map(seconds),
                    "COMMITS WAIT: every secondary region is late by more than rds.global_db_rpo allows"
                );
            }
            (true, Some(since)) => {
                kept.files.release_syncs(false);
                waits_since = None;
                tracing::warn!(
                    after_ms = since.elapsed().as_millis() as u64,
                    "COMMITS PASS: a secondary region is near enough"
                );
            }
            _ => {}
        }
        let shown = gate.bound().map(|bound| RpoShown {
            bound_ms: bound.0 / 1000,
            least_lag_ms: least.map(|lag| lag.0 / 1000),
            waits_ms: waits_since.map(|since| since.elapsed().as_millis() as u64),
        });
        *kept.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        std::thread::sleep(LOOK_EVERY);
    }
    // Of a writer that is fenced it isn't known what its successor has.
    kept.files.release_syncs(phase() == Phase::Fenced);
    *kept.shown.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

fn seconds(time: Micros) -> f64 {
    time.0 as f64 / 1e6
}

/// Tells the gate how far the primary and its secondaries are.
fn learn(kept: &Kept, gate: &mut RpoGate, now: Micros) {
    let vdl = kept.volume.vdl();
    // The first branch of a global database begins with the volume.
    gate.on_written(now, kept.region.as_ref().map_or(vdl, |region| region.global_of(vdl)));
    let Some(heard) = (kept.said)() else { return };
    if heard.report.role == ReportedRole::Primary {
        let secondaries = &heard.report.secondaries;
        gate.retain(|region| secondaries.iter().any(|secondary| secondary.region == region.0));
        secondaries.iter().for_each(|secondary| gate.on_arrived(RegionId(secondary.region), secondary.arrived));
    }
}

/// The bound, as it was set last.
struct Asked {
    session: Option<Session>,
    at: Option<Instant>,
    began_with: Option<Micros>,
    bound: Option<Micros>,
    answer: String,
}

impl Asked {
    fn new(settings: &[(String, String)]) -> Asked {
        let value = |name: &str| settings.iter().rev().find(|(other, _)| other == name).map_or("", |(_, value)| value);
        let began_with = bound(value("rds.global_db_rpo"), value("auriga.global_db_rpo_ms"));
        Asked { session: None, at: None, began_with, bound: began_with, answer: ",".to_owned() }
    }

    fn bound(&mut self, spec: &ServerSpec) -> Option<Micros> {
        if self.at.is_none_or(|at| at.elapsed() >= ASK_EVERY) {
            self.at = Some(Instant::now());
            if self.session.is_none() {
                self.session = Session::begin(spec).ok();
            }
            match self.session.as_mut().map(|session| session.ask(QUESTION)) {
                Some(Ok(Some(answer))) if answer != self.answer => {
                    let (seconds, millis) = answer.split_once(',').unwrap_or_default();
                    self.bound = if answer == "," { self.began_with } else { bound(seconds, millis) };
                    tracing::info!(
                        bound_s = self.bound.map(self::seconds),
                        "the bound on the lag of secondary regions"
                    );
                    self.answer = answer;
                }
                // Where it can't be asked, what was set last stays.
                Some(Ok(_)) | None => {}
                Some(Err(_)) => self.session = None,
            }
        }
        self.bound
    }
}

/// The bound that two settings mean; the second one is for rehearsals.
fn bound(seconds: &str, millis: &str) -> Option<Micros> {
    if let Ok(millis) = millis.parse::<u64>() {
        return Some(Micros(millis.saturating_mul(1000)));
    }
    match seconds {
        "" | "-1" => None,
        set => match set.parse::<u64>() {
            Ok(seconds) if seconds >= SECONDS_MIN => Some(Micros(seconds.saturating_mul(1_000_000))),
            _ => {
                tracing::warn!(set, "rds.global_db_rpo is in seconds, at least {SECONDS_MIN}, or -1: no bound is kept");
                None
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, bound};
    use auriga_protocol::Micros;

    #[test]
    fn a_bound_is_in_seconds_and_below_twenty_there_is_none() {
        assert_eq!(bound("", ""), None);
        assert_eq!(bound("-1", ""), None);
        assert_eq!(bound("20", ""), Some(Micros(20_000_000)));
        assert_eq!(bound("19", ""), None);
        assert_eq!(bound("soon", ""), None);
        assert_eq!(bound("20", "300"), Some(Micros(300_000)), "a rehearsal's");
    }

    #[test]
    fn the_settings_of_the_start_count_until_others_are_made() {
        let settings = [("rds.global_db_rpo", "20"), ("rds.global_db_rpo", "60")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(Asked::new(&settings).bound, Some(Micros(60_000_000)));
        assert_eq!(Asked::new(&[]).bound, None);
    }
}
