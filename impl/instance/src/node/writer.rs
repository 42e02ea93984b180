//! A life as the writer: a mount of the open volume, and PostgreSQL on it.

use super::checkpointing::Checkpointer;
use super::env::Env;
use super::opening::{listen_to_readers, mount_unless_stopped};
use super::publishing::Publisher;
use super::rpo::{Kept, RpoKeeper};
use super::{Local, NodeConfig, NodeError, absolute, fenced, io_error};
use crate::on_mount::prepare::{Prepare, Prepared, prepare};
use crate::postgres::cluster::Cluster;
use crate::postgres::find::{self, Installation};
use crate::postgres::server::ServerSpec;
use crate::postgres::settings;
use crate::postgres::user::RunAs;
use crate::sql::install::Installer;
use crate::supervise::{Ended, Event, end_fenced, events, supervise};
use auriga_volume::RemoteVolume;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

/// How long the last writes may take to be durable when stopping.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// What a writer needs of this machine.
pub(super) struct Machine {
    installations: Vec<Installation>,
    user: RunAs,
    local: Local,
}

impl Machine {
    /// Looks whether everything is there.
    pub fn look(config: &NodeConfig) -> Result<Machine, NodeError> {
        let installations = find::find(config.pg_bin.as_deref())?;
        let user = RunAs::resolve(config.user.as_deref())?;
        settings::check(&installations[0], &user, &config.settings)?;
        if let Some(at) = config.readers {
            TcpListener::bind(at).map_err(io_error(format!("listening on {at}")))?;
        }
        Ok(Machine { installations, local: Local::make(&config.directory, &user)?, user })
    }
}

/// Lives as the writer of `volume` until it is told to stop, or is fenced. The volume is closed then.
pub(super) fn live(
    config: &NodeConfig,
    env: &Env,
    machine: &Machine,
    volume: &Arc<RemoteVolume>,
) -> Result<Ended, NodeError> {
    let (sender, receiver) = events();
    env.roles.pass_on_to(&sender);
    env.shown.parts().volume = Some(volume.clone());
    // Bound for this life only: readers that dial a port where nobody listens are told so at once, and try on.
    let listening = config.readers.map_or(Ok(()), |at| {
        let listener = TcpListener::bind(at).map_err(io_error(format!("listening on {at}")))?;
        listen_to_readers(config, &env.runtime, volume, listener)
    });
    let served = listening.and_then(|()| serve(config, env, machine, volume, (&sender, receiver)));
    let ended = match (served, fenced(volume)) {
        // Whatever failed, failed because a newer writer has taken over: to start again would fence that one.
        (Err(error), Some(by)) => {
            tracing::warn!(%error, "what follows from being fenced");
            Ok(end_fenced(&env.shown.health, by))
        }
        (served, _) => served,
    };
    let is_whole = env.runtime.block_on(volume.close(Instant::now() + CLOSE_LIMIT));
    if !is_whole && matches!(ended, Ok(Ended::Stopped)) {
        tracing::warn!("the last writes are not known to be durable; the next start recovers");
    }
    let mut parts = env.shown.parts();
    (parts.volume, parts.files, parts.server) = (None, None, None);
    ended
}

/// Mounts the open volume and runs PostgreSQL on it.
fn serve(
    config: &NodeConfig,
    env: &Env,
    Machine { installations, user, local }: &Machine,
    volume: &Arc<RemoteVolume>,
    (sender, receiver): (&SyncSender<Event>, Receiver<Event>),
) -> Result<Ended, NodeError> {
    let (health, begun) = (&env.shown.health, Instant::now());
    let mount = match mount_unless_stopped(config, volume, local, user, &receiver)? {
        Some(mount) => mount,
        None => return Ok(Ended::Stopped),
    };
    env.shown.parts().files = Some(mount.fs().clone());
    tracing::info!(after_ms = begun.elapsed().as_millis() as u64, "the volume is mounted");
    let prepared = prepare(
        &config.helper,
        Prepare {
            root: local.mount.clone(),
            installations: installations.clone(),
            user: user.clone(),
            listen: config.listen,
            password_file: config.password_file.as_deref().map(absolute).transpose()?,
            locale: config.locale.clone(),
            standby: false,
        },
        health,
        &receiver,
        || fenced(volume),
    );
    let ended = match prepared.map_err(io_error("preparing the database cluster"))? {
        Err(ended) => ended,
        Ok(Prepared { installation, created_ms, .. }) => {
            let after_ms = begun.elapsed().as_millis() as u64;
            tracing::info!(after_ms, created_ms, "the database cluster is prepared");
            let spec = server(config, installation, user.clone(), local)?;
            env.shown.parts().server = Some(spec.clone());
            let region = env.runtime.block_on(auriga_region::state_of(volume))?;
            let rpo = Kept {
                volume: volume.clone(),
                files: mount.fs().clone(),
                spec: spec.clone(),
                region: region.clone(),
                said: config.said.region.clone(),
                health: health.clone(),
                shown: env.shown.rpo.clone(),
                settings: config.settings.clone(),
            };
            let rpo = config.is_regions.then(|| RpoKeeper::start(rpo)).transpose();
            let _rpo = rpo.map_err(io_error("starting a thread"))?;
            let publisher = config.readers.map(|_| Publisher::start(volume.clone(), spec.clone(), region)).transpose();
            let _publisher = publisher.map_err(io_error("starting a thread"))?;
            let installer = config.aurora_functions.then(|| Installer::start(spec.clone())).transpose();
            let _installer = installer.map_err(io_error("starting a thread"))?;
            // Where there are readers, one of them may have to take over.
            let checkpointer = config.readers.map(|_| Checkpointer::start(spec.clone())).transpose();
            let _checkpointer = checkpointer.map_err(io_error("starting a thread"))?;
            supervise(&spec, health, sender, receiver, || fenced(volume))
                .map_err(io_error(format!("running {}", spec.installation.bin.display())))?
        }
    };
    if let Err(error) = mount.unmount_within(CLOSE_LIMIT) {
        tracing::warn!(%error, "the mount was given up before everything on it was done");
    }
    Ok(ended)
}

fn server(
    config: &NodeConfig,
    installation: Installation,
    user: RunAs,
    local: &Local,
) -> Result<ServerSpec, NodeError> {
    let log = config.log.clone().unwrap_or_else(|| config.directory.join("postgres.log"));
    let for_readers = config.readers.iter().flat_map(|_| FOR_READERS);
    let for_readers = for_readers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(ServerSpec {
        installation,
        user,
        data: Cluster::in_root(&local.mount).data(),
        sockets: local.sockets.clone(),
        log: absolute(&log)?,
        listen: config.listen.to_string(),
        port: config.port,
        settings: for_readers.chain(config.settings.iter().cloned()).collect(),
        helper: config.helper.clone(),
    })
}

/// Settings of a writer that has readers: each is a standby, which streams its WAL. The instance's own settings win.
const FOR_READERS: [(&str, &str); 4] = [
    ("wal_level", "replica"),
    // As many as there may be readers, and some for those that are gone and not yet known to be.
    ("max_wal_senders", "20"),
    // A standby that was away for some seconds finds what it has missed; one that was away for longer begins anew anyway.
    ("wal_keep_size", "64MB"),
    // There are many, see `checkpointing.rs`.
    ("log_checkpoints", "off"),
];
