//! PostgreSQL on a volume as of one point, for reading: beside the running database, on a port of its own.
//!
//! The volume keeps what is written to it to itself, so that PostgreSQL recovers there as after a crash. Everything ends with
//! this process. Clients may not write by default; what one of them writes all the same is thrown away, too.

use super::{Local, NodeError, absolute, io_error};
use crate::health::Health;
use crate::on_mount::Helper;
use crate::on_mount::prepare::{Prepare, prepare};
use crate::postgres::cluster::Cluster;
use crate::postgres::control::at_least;
use crate::postgres::find;
use crate::postgres::server::ServerSpec;
use crate::postgres::user::RunAs;
use crate::supervise::{Ended, Event, supervise};
use auriga_pagefs::{FsOptions, Mount, MountOptions};
use auriga_volume::Volume;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often it is looked whether the point is still kept.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Settings of the server. No other can be given: what the cluster's own files say besides holds.
const SETTINGS: [(&str, &str); 8] = [
    ("default_transaction_read_only", "on"),
    // Nothing goes on by itself: no worker changes what is looked at, and nobody else is told of it.
    ("autovacuum", "off"),
    ("max_logical_replication_workers", "0"),
    ("archive_mode", "off"),
    ("synchronous_standby_names", ""),
    ("shared_preload_libraries", ""),
    // What is written here lives in memory.
    ("max_wal_size", "64MB"),
    ("wal_keep_size", "0"),
];

/// What is needed to open one.
#[derive(Clone, Debug)]
pub struct SnapshotConfig {
    /// Local directory: mount point, sockets, logs. It can be lost.
    pub directory: PathBuf,
    /// Address that PostgreSQL listens on.
    pub listen: IpAddr,
    /// PostgreSQL's port.
    pub port: u16,
    /// Directory of PostgreSQL's programs, where it isn't to be searched for.
    pub pg_bin: Option<PathBuf>,
    /// Whom PostgreSQL runs as.
    pub user: Option<String>,
    /// How to start what uses the mount.
    pub helper: Helper,
    /// Limit of the mount's page cache, in bytes.
    pub cache_bytes: usize,
    /// How long a read may wait for storage before PostgreSQL sees an I/O error.
    pub deadline: Duration,
}

/// Runs PostgreSQL on `volume` until it is told to stop, or `gone` says why the volume is of no use any more. To be called
/// on a thread that lives as long, in a private mount namespace.
///
/// # Errors
/// Something is missing, there is no database cluster on the volume, or the volume is gone.
pub fn run(
    config: &SnapshotConfig,
    volume: Arc<dyn Volume>,
    gone: impl Fn() -> Option<String> + Send + 'static,
    (sender, receiver): (&SyncSender<Event>, Receiver<Event>),
) -> Result<Ended, NodeError> {
    let installations = find::find(config.pg_bin.as_deref())?;
    let user = RunAs::resolve(config.user.as_deref())?;
    let local = Local::make(&config.directory, &user)?;
    let health = Arc::new(Health::default());
    let why = watch(gone, sender)?;
    let ended_because = || why.lock().unwrap_or_else(PoisonError::into_inner).take().map(NodeError::Snapshot);
    let options = MountOptions {
        fs: FsOptions { cache_bytes: config.cache_bytes, deadline: config.deadline, ..FsOptions::default() },
        // The whole process is in a private mount namespace already: see `enter_private_namespace`.
        private: false,
        absolute_links: false,
        local: Some(local.temporary.clone()),
        ..MountOptions::default()
    };
    let mount = Mount::start(volume, &local.mount, &options, |error| tracing::error!(%error, "the snapshot has ended"));
    let mount = mount.map_err(|error| ended_because().unwrap_or(error.into()))?;
    let job = Prepare::existing(local.mount.clone(), installations, user.clone(), config.listen);
    let prepared = prepare(&config.helper, job, &health, &receiver, || None);
    let ended = match prepared.map_err(|error| match ended_because() {
        Some(why) => why,
        None => io_error("looking at the database cluster")(error),
    })? {
        Err(ended) => Ok(ended),
        Ok(prepared) => {
            let given = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let spec = ServerSpec {
                installation: prepared.installation,
                user,
                data: Cluster::in_root(&local.mount).data(),
                sockets: local.sockets.clone(),
                log: absolute(&config.directory.join("postgres.log"))?,
                listen: config.listen.to_string(),
                port: config.port,
                settings: at_least(&given, &prepared.least),
                helper: config.helper.clone(),
            };
            let ended = supervise(&spec, &health, sender, receiver, || None);
            ended.map_err(io_error(format!("running {}", spec.installation.bin.display())))
        }
    };
    drop(mount);
    ended_because().map_or(ended, Err)
}

/// Looks whether the volume is still of use, until it is not. Returns where it then says why.
fn watch(
    gone: impl Fn() -> Option<String> + Send + 'static,
    sender: &SyncSender<Event>,
) -> Result<Arc<Mutex<Option<String>>>, NodeError> {
    let why = Arc::new(Mutex::new(None));
    let (told, sender) = (Arc::downgrade(&why), sender.clone());
    let watching = move || {
        while let Some(told) = told.upgrade() {
            if let Some(text) = gone() {
                tracing::error!(why = text, "the snapshot ends");
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                let _ = sender.send(Event::Abandon); // Where nobody listens, it has ended already.
                return;
            }
            drop(told);
            std::thread::sleep(LOOK_EVERY);
        }
    };
    let started = std::thread::Builder::new().name("watching".to_owned()).spawn(watching);
    started.map(|_| why).map_err(io_error("starting a thread"))
}
