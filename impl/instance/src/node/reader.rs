//! An instance that reads, whole: it finds its writer, runs a standby on the volume, and begins again when it was dropped.
//!
//! ```text
//! find the volume ─► follow its writer ─► standby ─► stopped
//!        ▲                                   │
//!        └──── dropped, or can't go on ◄─────┘
//! ```
//!
//! A reader has stored nothing, so to begin again costs seconds and loses nothing.

use super::shown::{ReaderParts, Shown, serve_admin};
use super::standby::{self, StandbyConfig};
use super::{InstanceRole, NodeError, io_error};
use crate::health::{Health, Phase};
use crate::supervise::{CRASH_WINDOW, CRASHES_MAX, Ended, Event, events};
use auriga_protocol::{ReaderConfig, VolumeId};
use auriga_volume::{
    FindError, ReaderVolume, RemoteReader, RemoteReaderConfig, VolumeConfig, VolumeError, find_volume,
};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long one attempt to find the volume or its writer may take. Then a line in the log says what is missing.
const FIND_LIMIT: Duration = Duration::from_secs(20);
/// How often it looks whether it was dropped, or asked to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long it waits before it begins again.
const PAUSE: Duration = Duration::from_secs(1);

/// What a reader needs to know.
#[derive(Clone)]
pub struct ReaderNodeConfig {
    /// The volume by its label, and where its storage is. Its name is the instance's name.
    pub volume: VolumeConfig,
    /// The volume's identity, where it is known: no other is opened.
    pub identity: Option<VolumeId>,
    /// Where instances listen for readers, whichever of them writes.
    pub writers: Vec<SocketAddr>,
    /// The admin port.
    pub admin: SocketAddr,
    /// The standby.
    pub standby: StandbyConfig,
}

/// Runs a reader until it is told to stop. To be called on the main thread, in a private mount namespace.
///
/// # Errors
/// Something is missing, or it isn't clear which volume is meant.
pub fn run(config: &ReaderNodeConfig, receiver: Receiver<Event>) -> Result<Ended, NodeError> {
    standby::check(&config.standby)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(io_error("starting tokio"))?;
    let shown = Arc::new(Shown {
        name: config.volume.name.clone(),
        role: InstanceRole::Reader,
        postgres: SocketAddr::new(config.standby.listen, config.standby.port),
        health: Arc::default(),
        volume: OnceLock::new(),
        files: OnceLock::new(),
        reader: Mutex::default(),
        cache_limit_bytes: config.standby.cache_bytes as u64,
    });
    serve_admin(config.admin, &shown)?;
    let stopping = Stopping::hear(receiver).map_err(io_error("starting a thread"))?;
    let mut failures: Vec<Instant> = Vec::new();
    loop {
        shown.health.set_phase(Phase::Connecting);
        let Some(volume) = follow_writer(config, &runtime, &stopping)? else { break };
        let lived = live(config, &volume, &shown, &stopping);
        let is_dropped = volume.is_lost();
        volume.close();
        if stopping.is_asked() {
            if let Err(error) = lived {
                tracing::warn!(%error, "while stopping");
            }
            break;
        }
        match lived {
            _ if is_dropped => tracing::warn!("the writer has dropped this reader: it begins again"),
            Ok(ended) => failed(&mut failures, &format!("the standby has ended ({ended:?})"))?,
            Err(error @ (NodeError::Reader(_) | NodeError::Mount(_))) => failed(&mut failures, &error.to_string())?,
            Err(error) => return Err(error),
        }
        stopping.sleep(PAUSE);
    }
    tracing::info!("the reader has ended");
    Ok(Ended::Stopped)
}

/// Takes note of a failure. It does not try without end: what fails again and again is reported, and the instance ends.
fn failed(failures: &mut Vec<Instant>, why: &str) -> Result<(), NodeError> {
    let now = Instant::now();
    failures.retain(|&at| now.duration_since(at) < CRASH_WINDOW);
    failures.push(now);
    if failures.len() >= CRASHES_MAX {
        return Err(NodeError::ReaderGaveUp(why.to_owned()));
    }
    tracing::warn!(why, "this reader can't go on: it begins again");
    Ok(())
}

/// Finds the volume, and waits for a writer that publishes, as long as it takes. `None`: asked to stop meanwhile.
fn follow_writer(
    config: &ReaderNodeConfig,
    runtime: &Runtime,
    stopping: &Stopping,
) -> Result<Option<Arc<RemoteReader>>, NodeError> {
    loop {
        let opened = runtime.block_on(async {
            tokio::select! {
                opened = find_and_follow(config, Instant::now() + FIND_LIMIT) => Some(opened),
                () = stopping.asked() => None,
            }
        });
        match opened {
            None => return Ok(None),
            Some(Ok(reader)) => return Ok(Some(Arc::new(reader))),
            Some(Err(NodeError::Volume(VolumeError::TimedOut | VolumeError::NotKept))) => {
                let writers: Vec<_> = config.writers.iter().map(SocketAddr::to_string).collect();
                let writers = writers.join(", ");
                tracing::warn!(writers, "no writer publishes at any of these addresses; trying on");
            }
            Some(Err(NodeError::NoVolume(error @ FindError::Unheard { .. }))) => {
                tracing::warn!(%error, "trying on");
            }
            Some(Err(error)) => return Err(error),
        }
    }
}

async fn find_and_follow(config: &ReaderNodeConfig, deadline: Instant) -> Result<RemoteReader, NodeError> {
    let volume = find_volume(&config.volume, config.identity, deadline).await?;
    let writer = &config.volume.writer;
    let reader = ReaderConfig {
        geometry: writer.geometry,
        membership: writer.membership.clone(),
        defects: writer.defects,
        ..ReaderConfig::default()
    };
    let config = RemoteReaderConfig {
        name: config.volume.name.clone(),
        cluster: config.volume.cluster,
        credentials: config.volume.credentials.clone(),
        volume,
        members: config.volume.members.clone(),
        writers: config.writers.clone(),
        reader,
        trace: config.volume.trace.clone(),
    };
    Ok(RemoteReader::open(config, deadline).await?)
}

/// Runs a standby until it can't go on, the writer has dropped this reader, or it is asked to stop.
fn live(
    config: &ReaderNodeConfig,
    volume: &Arc<RemoteReader>,
    shown: &Shown,
    stopping: &Stopping,
) -> Result<Ended, NodeError> {
    let (sender, receiver) = events();
    stopping.pass_on_to(&sender);
    let watcher = Watcher::start(volume.clone(), sender.clone()).map_err(io_error("starting a thread"))?;
    *lock(&shown.reader) = Some(ReaderParts { volume: volume.clone(), files: None });
    let health: &Arc<Health> = &shown.health;
    let volume: Arc<dyn ReaderVolume> = volume.clone();
    let ended = standby::run_shown(&config.standby, volume, health, &sender, receiver, |files| {
        if let Some(parts) = &mut *lock(&shown.reader) {
            parts.files = Some(files.clone());
        }
    });
    *lock(&shown.reader) = None;
    drop(watcher);
    ended
}

/// Stops the standby when the writer has dropped the reader: a standby whose replay stands still would not find out.
struct Watcher {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    fn start(volume: Arc<RemoteReader>, sender: SyncSender<Event>) -> io::Result<Watcher> {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let thread = std::thread::Builder::new().name("watching".to_owned()).spawn(move || {
            while !seen.load(Relaxed) {
                if volume.is_lost() {
                    let _ = sender.try_send(Event::Stop);
                    return;
                }
                std::thread::sleep(LOOK_EVERY);
            }
        })?;
        Ok(Watcher { ended, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether a person has asked it to stop, and who is to be told.
#[derive(Clone, Default)]
struct Stopping(Arc<Mutex<Wish>>);

#[derive(Default)]
struct Wish {
    asked: bool,
    running: Option<SyncSender<Event>>,
}

impl Stopping {
    /// Hears what comes to the instance, as long as the process lives.
    fn hear(receiver: Receiver<Event>) -> io::Result<Stopping> {
        let stopping = Stopping::default();
        let heard = stopping.clone();
        std::thread::Builder::new().name("stopping".to_owned()).spawn(move || {
            while let Ok(event) = receiver.recv() {
                if matches!(event, Event::Stop) {
                    let mut wish = lock(&heard.0);
                    wish.asked = true;
                    wish.running.iter().for_each(|running| drop(running.try_send(Event::Stop)));
                }
            }
        })?;
        Ok(stopping)
    }

    /// What runs from now on is told.
    fn pass_on_to(&self, running: &SyncSender<Event>) {
        let mut wish = lock(&self.0);
        if wish.asked {
            let _ = running.try_send(Event::Stop);
        }
        wish.running = Some(running.clone());
    }

    fn is_asked(&self) -> bool {
        lock(&self.0).asked
    }

    /// Returns once it is asked.
    async fn asked(&self) {
        while !self.is_asked() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Sleeps, unless it is asked.
    fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_asked() && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_stop_reaches_what_runs_and_what_runs_later() {
        let (sender, receiver) = events();
        let stopping = Stopping::hear(receiver).unwrap();
        let (first, told) = events();
        stopping.pass_on_to(&first);
        assert!(!stopping.is_asked());
        sender.send(Event::Stop).unwrap();
        assert!(matches!(told.recv_timeout(Duration::from_secs(60)), Ok(Event::Stop)));
        assert!(stopping.is_asked());
        let (second, told) = events();
        stopping.pass_on_to(&second);
        assert!(matches!(told.try_recv(), Ok(Event::Stop)));
    }

    #[test]
    fn a_reader_that_fails_again_and_again_gives_up() {
        let mut failures = Vec::new();
        for _ in 1..CRASHES_MAX {
            failed(&mut failures, "no room").unwrap();
        }
        assert!(failed(&mut failures, "no room").unwrap_err().to_string().contains("no room"));
    }
}
