//! From nothing to a mounted volume: recovery, and the mount. Either may wait for storage; neither makes the instance deaf.

use super::env::Env;
use super::{Local, NodeConfig, NodeError, io_error};
use crate::postgres::user::RunAs;
use crate::supervise::{Ended, Event};
use auriga_pagefs::{FsOptions, LoadError, Mount, MountError, MountOptions, mkfs};
use auriga_protocol::writer::FollowersConfig;
use auriga_region::disk::DiskError;
use auriga_volume::{RemoteVolume, Volume, VolumeConfig, VolumeError, find_volume};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a recovery may wait for a quorum of storage.
pub(super) const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// How often a mount under way looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What has become of an attempt to open the volume.
pub(super) enum Opened {
    Volume(Arc<RemoteVolume>),
    /// Asked to stop, or fenced, meanwhile.
    Not(Ended),
}

/// Recovers the volume, within a limit.
pub(super) fn open(config: &NodeConfig, env: &Env, limit: Duration) -> Result<Opened, NodeError> {
    let begun = Instant::now();
    tracing::info!(volume = config.volume.label, "recovering the volume");
    let opened = env.runtime.block_on(async {
        tokio::select! {
            opened = find_and_open(config, begun + limit) => Some(opened),
            () = env.roles.stopping() => None,
        }
    });
    let volume = match opened {
        Some(Ok(volume)) => volume,
        Some(Err(NodeError::Volume(VolumeError::TimedOut))) => {
            let storage: Vec<_> = config.volume.members.values().map(SocketAddr::to_string).collect();
            return Err(NodeError::NoQuorum { limit, storage: storage.join(", ") });
        }
        Some(Err(NodeError::Volume(VolumeError::Fenced { by }))) => return Ok(Opened::Not(Ended::Fenced(by))),
        Some(Err(error)) => return Err(error),
        None => {
            tracing::info!("asked to stop before the volume was recovered");
            return Ok(Opened::Not(Ended::Stopped));
        }
    };
    let writer = volume.status().writer;
    tracing::info!(
        volume_epoch = %writer.volume_epoch, vdl = %writer.vdl, took_ms = begun.elapsed().as_millis() as u64,
        "WRITER: the volume is open; every earlier writer is fenced"
    );
    Ok(Opened::Volume(volume))
}

/// Finds out which volume is meant, becomes its writer, and looks whether its region lets it write.
async fn find_and_open(config: &NodeConfig, deadline: Instant) -> Result<Arc<RemoteVolume>, NodeError> {
    let volume = find_volume(&config.volume, config.identity, deadline).await?;
    let mut config_of_volume = VolumeConfig { volume, ..config.volume.clone() };
    if config.is_regions {
        super::region::look_first(&config_of_volume).await?;
    }
    if config.readers.is_some() {
        config_of_volume.writer.followers = FollowersConfig::some();
    }
    let volume = Arc::new(RemoteVolume::open(config_of_volume, deadline).await?);
    // After it was opened: whoever is the writer now, and finds that it may write, may (R-GLOBAL-10).
    match auriga_region::state_of(&volume).await {
        Ok(Some(state)) => state.grants().map_err(NodeError::NotPrimary)?,
        Ok(None) => {}
        // Another writer may have taken over already.
        Err(DiskError::Volume(error)) => return Err(error.into()),
        Err(error) => return Err(error.into()),
    }
    Ok(volume)
}

/// Lets readers follow. They were not answered before: only an open volume has something to say.
pub(super) fn listen_to_readers(
    config: &NodeConfig,
    runtime: &tokio::runtime::Runtime,
    volume: &RemoteVolume,
    listener: TcpListener,
) -> Result<(), NodeError> {
    let _within = runtime.enter();
    let listening = listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener));
    volume.serve_readers(listening.map_err(io_error("listening for readers"))?, &config.volume);
    Ok(())
}

/// Mounts the volume; `None`: asked to stop meanwhile. To read what is on it may take as long as storage takes.
pub(super) fn mount_unless_stopped(
    config: &NodeConfig,
    volume: &Arc<RemoteVolume>,
    local: &Local,
    user: &RunAs,
    receiver: &Receiver<Event>,
) -> Result<Option<Mount>, NodeError> {
    let (sender, mounted) = channel();
    let (config, volume, local, user) = (config.clone(), volume.clone(), local.clone(), user.clone());
    std::thread::Builder::new()
        .name("mounting".to_owned())
        .spawn(move || {
            // Nobody waits any more where the process is asked to stop.
            let _ = sender.send(mount(&config, &volume, &local, &user));
        })
        .map_err(io_error("starting a thread"))?;
    loop {
        match mounted.recv_timeout(LOOK_EVERY) {
            Ok(mounted) => return mounted.map(Some),
            Err(RecvTimeoutError::Timeout) if matches!(receiver.try_recv(), Ok(Event::Stop | Event::Abandon)) => {
                tracing::info!("asked to stop before the volume was mounted");
                return Ok(None);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io_error("mounting the volume")(io::Error::other("its thread has panicked")));
            }
        }
    }
}

/// Mounts the volume, with a new file system where it has none.
fn mount(config: &NodeConfig, volume: &Arc<RemoteVolume>, local: &Local, user: &RunAs) -> Result<Mount, NodeError> {
    let at = &local.mount;
    let options = MountOptions {
        fs: FsOptions { cache_bytes: config.cache_bytes, deadline: config.deadline, ..FsOptions::default() },
        // The whole process is in a private mount namespace already: see `enter_private_namespace`.
        private: false,
        // Nothing that must last can be put outside the volume.
        absolute_links: false,
        local: Some(local.temporary.clone()),
        ..MountOptions::default()
    };
    let start = || {
        Mount::start(volume.clone(), at, &options, |error| {
            tracing::error!(%error, "the volume is lost to this instance");
        })
    };
    match start() {
        Err(MountError::Load(LoadError::Empty)) => {
            mkfs(volume.as_ref() as &dyn Volume, user.uid, user.gid, config.deadline)?;
            tracing::info!("a file system was made on the new volume");
            Ok(start()?)
        }
        started => Ok(started?),
    }
}
