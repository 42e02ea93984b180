//! An instance that reads, whole: it finds its writer, runs a standby on the volume, and begins again when it was dropped.
//!
//! ```text
//! find the volume ─► follow its writer ─► standby ─► stopped
//!        ▲                                   │
//!        └ dropped, crashed, can't go on ◄───┘
//! ```
//!
//! A reader has stored nothing, so to begin again costs seconds and loses nothing.

use super::env::{About, Env, Reports};
use super::lineage::Lineage;
use super::standby::{self, StandbyConfig};
use super::{InstanceRole, NodeError, io_error};
use crate::health::Phase;
use crate::sql::Said;
use crate::supervise::{CRASH_WINDOW, CRASHES_MAX, Ended, Event, events};
use auriga_pagefs::reader::Ahead;
use auriga_protocol::{ReaderConfig, VolumeId};
use auriga_volume::{
    Changes, FindError, ReaderVolume, RemoteReader, RemoteReaderConfig, VolumeConfig, VolumeError, find_volume,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one attempt to find the volume or its writer may take. Then a line in the log says what is missing.
const FIND_LIMIT: Duration = Duration::from_secs(20);
/// How often it looks whether it was dropped, or asked to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long one that was dropped waits before it begins again, and the most that any does.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one that has failed waits before it begins again, for each time that it has failed lately.
const PAUSE_A_FAILURE: Duration = Duration::from_millis(100);

/// An instance that may write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Followed {
    /// Where it listens for readers.
    pub readers: SocketAddr,
    /// How to reach its PostgreSQL, as `primary_conninfo` has it; [`StandbyConfig::writer`] where absent. Empty: it has none,
    /// it is a region's process, and the WAL is in the volume.
    pub postgres: Option<String>,
}

/// What a reader needs to know.
#[derive(Clone)]
pub struct ReaderNodeConfig {
    /// The volume by its label, and where its storage is. Its name is the instance's name.
    pub volume: VolumeConfig,
    /// The volume's identity, where it is known: no other is opened.
    pub identity: Option<VolumeId>,
    /// The instances that may write, and the region's process: whichever does is followed.
    pub writers: Vec<Followed>,
    /// Whether the volume is a region's of a global database.
    pub is_regions: bool,
    /// What the instance is, whatever its role.
    pub about: About,
    /// The standby.
    pub standby: StandbyConfig,
    /// What other processes have said last.
    pub said: Said,
}

/// Runs a reader until it is told to stop. To be called on the main thread, in a private mount namespace.
///
/// # Errors
/// Something is missing, or it isn't clear which volume is meant.
pub fn run(config: &ReaderNodeConfig, receiver: Receiver<Event>) -> Result<Ended, NodeError> {
    standby::check(&config.standby)?;
    let postgres = SocketAddr::new(config.standby.listen, config.standby.port);
    let role = (InstanceRole::Reader, false);
    let (directory, user) = (config.standby.directory.as_path(), config.standby.user.as_deref());
    let sql = Reports { directory, user, said: &config.said };
    let env = Env::start(&config.about, &config.volume, postgres, config.standby.cache_bytes, role, receiver, sql)?;
    if config.is_regions {
        super::region::watch(&env, config.volume.clone(), config.identity);
    }
    live(config, &env)?;
    tracing::info!("the reader has ended");
    Ok(Ended::Stopped)
}

/// Lives as a reader, as many times as it takes, until the process is to end or the instance is to write.
pub(super) fn live(config: &ReaderNodeConfig, env: &Env) -> Result<(), NodeError> {
    let mut failures: Vec<Instant> = Vec::new();
    loop {
        env.shown.health.set_phase(Phase::Connecting);
        let Some(volume) = follow_writer(config, env)? else { return Ok(()) };
        let lived = live_once(config, &volume, env);
        let is_dropped = volume.is_lost();
        volume.close();
        if env.roles.is_interrupted() {
            if let Err(error) = lived {
                tracing::warn!(%error, "while stopping");
            }
            return Ok(());
        }
        let why = match lived {
            _ if is_dropped => {
                tracing::warn!("the writer has dropped this reader: it begins again");
                env.roles.sleep(PAUSE);
                continue;
            }
            Ok(Ended::Crashed) => {
                env.shown.health.restarted();
                "its PostgreSQL has ended unexpectedly".to_owned()
            }
            Ok(ended) => format!("the standby has ended ({ended:?})"),
            Err(error @ (NodeError::Reader(_) | NodeError::Mount(_))) => error.to_string(),
            Err(error) => return Err(error),
        };
        failed(&mut failures, &why)?;
        env.roles.sleep((PAUSE_A_FAILURE * failures.len() as u32).min(PAUSE));
    }
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

/// Finds the volume, and waits for a writer that publishes, as long as it takes. `None`: it is to end meanwhile.
fn follow_writer(config: &ReaderNodeConfig, env: &Env) -> Result<Option<Arc<RemoteReader>>, NodeError> {
    loop {
        let opened = env.runtime.block_on(async {
            tokio::select! {
                opened = find_and_follow(config, Instant::now() + FIND_LIMIT) => Some(opened),
                () = env.roles.interrupted() => None,
            }
        });
        match opened {
            None => return Ok(None),
            Some(Ok(reader)) => return Ok(Some(Arc::new(reader))),
            Some(Err(NodeError::Volume(VolumeError::TimedOut | VolumeError::NotKept))) => {
                let writers: Vec<_> = config.writers.iter().map(|writer| writer.readers.to_string()).collect();
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
        writers: config.writers.iter().map(|writer| writer.readers).collect(),
        reader,
        trace: config.volume.trace.clone(),
    };
    Ok(RemoteReader::open(config, deadline).await?)
}

/// Runs a standby until it can't go on, the writer has dropped this reader, or it is to end.
fn live_once(config: &ReaderNodeConfig, volume: &Arc<RemoteReader>, env: &Env) -> Result<Ended, NodeError> {
    let (sender, receiver) = events();
    env.roles.pass_on_to(&sender);
    let watcher = Watcher::start(volume.clone(), sender.clone()).map_err(io_error("starting a thread"))?;
    env.shown.parts().reader = Some(volume.clone());
    let (writers, followed) = (config.writers.clone(), volume.clone());
    let lineage = config.is_regions.then(|| Lineage::new(volume.clone(), env.runtime.handle().clone()));
    env.shown.parts().lineage.clone_from(&lineage);
    let ahead = lineage.clone().map(|lineage| {
        let judge = Box::new(move |changes: &Changes, to| lineage.judge(changes, to));
        Arc::new(Ahead::new(volume.clone(), judge))
    });
    let surroundings = standby::Surroundings {
        begun: Box::new(|files| env.shown.parts().reader_files = Some(files.clone())),
        serves: Box::new(|spec| env.shown.parts().server = Some(spec.clone())),
        conninfo: Box::new(move || {
            let at = followed.heard()?.writer;
            writers.iter().find(|writer| writer.readers == at)?.postgres.clone()
        }),
        is_judged: Box::new(move || lineage.as_ref().is_none_or(|lineage| lineage.is_judged())),
        ahead: ahead.clone(),
    };
    let volume: Arc<dyn ReaderVolume> = match ahead {
        Some(ahead) => ahead,
        None => volume.clone(),
    };
    let ended = standby::run_within(&config.standby, volume, &env.shown.health, &sender, receiver, surroundings);
    let mut parts = env.shown.parts();
    (parts.reader, parts.reader_files, parts.lineage, parts.server) = (None, None, None, None);
    drop(parts);
    drop(watcher);
    ended
}

/// Ends the standby when the writer has dropped the reader: a standby whose replay stands still would not find out. What it
/// waits for will not come any more.
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
                    let _ = sender.try_send(Event::Abandon);
                    volume.close();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_fails_again_and_again_gives_up() {
        let mut failures = Vec::new();
        for _ in 1..CRASHES_MAX {
            failed(&mut failures, "no room").unwrap();
        }
        assert!(failed(&mut failures, "no room").unwrap_err().to_string().contains("no room"));
    }
}
