//! Keeps one `postgres` running until it is told to stop, or the volume is fenced.
//!
//! ```text
//! starting ──► ready ──► stopping ──► (Ended::Stopped)
//!    ▲           │
//!    └─ crashed ◄┘──► fenced ──► (Ended::Fenced)      too many crashes in a row ──► (Ended::GaveUp)
//! ```
//!
//! A postmaster restarts after the crash of one of its backends by itself. What is handled here is the end of the
//! postmaster. It does not retry without end: a server that will not stay up is reported, and the instance ends.
//!
//! The server of a reader is run once ([`supervise_once`]): another one may not use what it has left (R-READER-FS-15).

use crate::health::{Health, Phase};
use crate::postgres::progress::Progress;
use crate::postgres::server::{Server, ServerSpec, Stop};
use auriga_protocol::VolumeEpoch;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// This many ends of the postmaster within [`CRASH_WINDOW`], and we give up.
pub const CRASHES_MAX: usize = 5;
/// See [`CRASHES_MAX`].
pub const CRASH_WINDOW: Duration = Duration::from_secs(60);
/// A fast shutdown that takes longer becomes an immediate one: the volume recovers either way.
const FAST_STOP: Duration = Duration::from_secs(60);
/// An immediate shutdown that takes longer becomes SIGKILL.
const IMMEDIATE_STOP: Duration = Duration::from_secs(2);
/// The same, where another server waits for the place of this one.
const ABANDONED_STOP: Duration = Duration::from_millis(500);
/// How often readiness and fencing are looked at.
const GLANCE: Duration = Duration::from_millis(25);

/// What the supervisor is told.
#[derive(Debug)]
pub enum Event {
    /// The postmaster has ended.
    Exited(io::Result<ExitStatus>),
    /// Stop cleanly (SIGTERM, SIGINT).
    Stop,
    /// Stop at once, without a checkpoint: nothing of this server is needed any more.
    Abandon,
    /// Let PostgreSQL crash. What follows is what follows any end that was not asked for.
    Crash,
}

/// Where events come in. Bounded: there are few, and a full queue means that no thread listens any more.
pub fn events() -> (SyncSender<Event>, Receiver<Event>) {
    sync_channel(64)
}

/// How it all ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// As asked; with a checkpoint written, unless it was to be at once.
    Stopped,
    /// A writer with this higher volume epoch has taken over.
    Fenced(VolumeEpoch),
    /// PostgreSQL does not stay up.
    GaveUp,
    /// PostgreSQL has ended unasked, and whoever ran it starts no other on the same files.
    Crashed,
}

/// Runs `postgres` until it is stopped or fenced. `fenced` answers the newer volume epoch once there is one.
///
/// # Errors
/// `postgres` can't be executed at all.
pub fn supervise(
    spec: &ServerSpec,
    health: &Arc<Health>,
    sender: &SyncSender<Event>,
    receiver: Receiver<Event>,
    fenced: impl Fn() -> Option<VolumeEpoch>,
) -> io::Result<Ended> {
    let mut crashes: Vec<Instant> = Vec::new();
    loop {
        let ended = run_once(spec, health, sender, &receiver, &fenced)?;
        if ended != Ended::Crashed {
            return Ok(ended);
        }
        let now = Instant::now();
        crashes.retain(|&at| now.duration_since(at) < CRASH_WINDOW);
        crashes.push(now);
        if crashes.len() >= CRASHES_MAX {
            tracing::error!(log = %spec.log.display(), "postgres does not stay up: giving up; its log says why");
            return Ok(Ended::GaveUp);
        }
        health.restarted();
        std::thread::sleep(Duration::from_millis(200 << crashes.len().min(4)));
    }
}

/// Runs `postgres` until it is stopped, or has ended by itself: it is not started again.
///
/// # Errors
/// `postgres` can't be executed at all.
pub fn supervise_once(
    spec: &ServerSpec,
    health: &Arc<Health>,
    sender: &SyncSender<Event>,
    receiver: Receiver<Event>,
) -> io::Result<Ended> {
    run_once(spec, health, sender, &receiver, &|| None)
}

fn run_once(
    spec: &ServerSpec,
    health: &Arc<Health>,
    sender: &SyncSender<Event>,
    receiver: &Receiver<Event>,
    fenced: &impl Fn() -> Option<VolumeEpoch>,
) -> io::Result<Ended> {
    let progress = Progress::after_now(&spec.log);
    let server = start(spec, health, sender)?;
    match watch(&server, progress, health, receiver, fenced) {
        Watched::Crashed(status) => {
            // Fencing often shows itself first as a PostgreSQL that panics over a failed fsync.
            if let Some(by) = fenced() {
                return Ok(end_fenced(health, by));
            }
            tracing::warn!(status, "postgres has ended unexpectedly");
            Ok(Ended::Crashed)
        }
        Watched::StopAsked => {
            health.set_phase(Phase::Stopping);
            tracing::info!("stopping postgres: clients are disconnected and a checkpoint is written");
            stop(&server, receiver, fenced);
            Ok(match fenced() {
                Some(by) => end_fenced(health, by),
                None => Ended::Stopped,
            })
        }
        Watched::Abandoned => {
            health.set_phase(Phase::Stopping);
            end(&server, receiver, ABANDONED_STOP);
            Ok(Ended::Stopped)
        }
        Watched::Fenced(by) => {
            end(&server, receiver, IMMEDIATE_STOP);
            Ok(end_fenced(health, by))
        }
    }
}

fn start(spec: &ServerSpec, health: &Health, sender: &SyncSender<Event>) -> io::Result<Server> {
    health.set_phase(Phase::StartingPostgres);
    let sender = sender.clone();
    let server = Server::start(spec, move |status| {
        let _ = sender.send(Event::Exited(status));
    })?;
    tracing::info!(pid = server.pid(), version = spec.installation.version, "postgres is starting");
    Ok(server)
}

enum Watched {
    Crashed(String),
    StopAsked,
    Abandoned,
    Fenced(VolumeEpoch),
}

fn watch(
    server: &Server,
    mut progress: Progress,
    health: &Health,
    receiver: &Receiver<Event>,
    fenced: &impl Fn() -> Option<VolumeEpoch>,
) -> Watched {
    let mut ready = false;
    loop {
        if let Some(by) = fenced() {
            return Watched::Fenced(by);
        }
        if !ready && server.is_ready() {
            ready = true;
            health.set_phase(Phase::Ready);
            tracing::info!("postgres accepts connections");
        }
        if !ready && let Some(text) = progress.look() {
            health.set_progress(text);
        }
        match receiver.recv_timeout(GLANCE) {
            Ok(Event::Exited(status)) => {
                return Watched::Crashed(status.map_or_else(|e| e.to_string(), |s| s.to_string()));
            }
            Ok(Event::Stop) => return Watched::StopAsked,
            Ok(Event::Abandon) => return Watched::Abandoned,
            Ok(Event::Crash) => server.stop(Stop::Kill),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

/// Fast, then immediate, then SIGKILL.
fn stop(server: &Server, receiver: &Receiver<Event>, fenced: &impl Fn() -> Option<VolumeEpoch>) {
    server.stop(Stop::Fast);
    let begun = Instant::now();
    while begun.elapsed() < FAST_STOP && fenced().is_none() {
        if exited_within(receiver, Duration::from_millis(100)) {
            return;
        }
    }
    tracing::warn!("postgres did not finish its shutdown in time: stopping it at once; the next start recovers");
    end(server, receiver, IMMEDIATE_STOP);
}

/// Immediate; SIGKILL where that takes longer than `patience`.
fn end(server: &Server, receiver: &Receiver<Event>, patience: Duration) {
    server.stop(Stop::Immediate);
    if !exited_within(receiver, patience) {
        server.stop(Stop::Kill);
        exited_within(receiver, IMMEDIATE_STOP);
    }
}

fn exited_within(receiver: &Receiver<Event>, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Exited(_)) => return true,
            Ok(Event::Stop | Event::Abandon | Event::Crash) => {}
            Err(_) => return false,
        }
    }
}

/// Says everywhere that a writer with the volume epoch `by` has taken over. PostgreSQL does not run any more, or never did.
pub fn end_fenced(health: &Health, by: VolumeEpoch) -> Ended {
    health.set_phase(Phase::Fenced);
    tracing::error!(%by, "FENCED: another writer has taken over this volume");
    Ended::Fenced(by)
}
