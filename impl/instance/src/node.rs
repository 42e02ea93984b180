//! An instance, whole: volume, mount, cluster, `postgres`, admin port.
//!
//! ```text
//! open the volume (recover it: higher volume epoch) ─► mount ─► initdb or prepare ─► supervise postgres ─► unmount
//! ```
//! Each change of role is one line in the log.

use crate::admin::{self, Question};
use crate::health::{Health, HealthReport, Phase};
use crate::postgres::cluster::{Authentication, Cluster, ClusterError};
use crate::postgres::find::{self, Installation};
use crate::postgres::server::ServerSpec;
use crate::postgres::user::{RunAs, UserError};
use crate::supervise::{Ended, Event, end_fenced, supervise};
use auriga_pagefs::{FsOptions, LoadError, Mount, MountError, MountOptions, PageFs, mkfs};
use auriga_protocol::{VolumeEpoch, VolumeId};
use auriga_volume::{FindError, RemoteVolume, VolumeConfig, VolumeStatus, find_volume};
use auriga_volume::{Volume, VolumeError};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Exit code of an instance that was fenced: starting it again would fence its successor.
pub const EXIT_FENCED: u8 = 3;
/// Exit code of an instance whose PostgreSQL does not stay up.
pub const EXIT_GAVE_UP: u8 = 4;

/// How long a recovery may wait for a quorum of storage.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// How often a recovery looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the last writes may take to be durable when stopping.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// What an instance needs to know.
#[derive(Clone)]
pub struct NodeConfig {
    /// The volume by its label, and where its storage is. Its name is the instance's name.
    pub volume: VolumeConfig,
    /// The volume's identity, where it is known: no other is opened.
    pub identity: Option<VolumeId>,
    /// Local directory: mount point, sockets, logs. It can be lost.
    pub directory: PathBuf,
    /// Address that PostgreSQL listens on.
    pub listen: IpAddr,
    /// PostgreSQL's port.
    pub port: u16,
    /// The admin port.
    pub admin: SocketAddr,
    /// Directory of PostgreSQL's programs, where it isn't to be searched for.
    pub pg_bin: Option<PathBuf>,
    /// Whom PostgreSQL runs as.
    pub user: Option<String>,
    /// File with the superuser's first password.
    pub password_file: Option<PathBuf>,
    /// PostgreSQL's settings.
    pub settings: Vec<(String, String)>,
    /// Limit of the mount's page cache, in bytes.
    pub cache_bytes: usize,
    /// How long a write or read may wait for storage before PostgreSQL sees an I/O error.
    pub deadline: Duration,
}

/// What an instance says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Where PostgreSQL listens.
    pub postgres: SocketAddr,
    /// How it is.
    pub health: HealthReport,
    /// The volume as its writer sees it; `None` during recovery.
    pub volume: Option<VolumeStatus>,
    /// The mount; `None` before there is one.
    pub mount: Option<MountStatus>,
    /// Resident memory of the mount process, in bytes (PostgreSQL's not included).
    pub rss_bytes: u64,
}

/// The mount's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountStatus {
    /// Bytes of pages in its cache.
    pub cached_bytes: u64,
    /// Of those, bytes of pages that are not durable yet.
    pub pinned_bytes: u64,
    /// The cache's limit.
    pub cache_limit_bytes: u64,
    /// Waits for durability (fsync and the like) that succeeded.
    pub syncs: u64,
    /// Their median, in microseconds, rounded up to a power of two.
    pub sync_p50_micros: u64,
    /// Their 99th percentile, likewise.
    pub sync_p99_micros: u64,
    /// Redo records made.
    pub records: u64,
}

impl InstanceStatus {
    /// Pages that came from storage since the volume was opened.
    pub fn pages_read(&self) -> u64 {
        let traffic = self.volume.iter().flat_map(|volume| &volume.traffic);
        traffic.filter(|kind| kind.message == "Page").map(|kind| kind.received.frames).sum()
    }
}

/// Why an instance did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No PostgreSQL.
    #[error(transparent)]
    Find(#[from] find::FindError),
    /// There is no user to run it as.
    #[error(transparent)]
    User(#[from] UserError),
    /// The volume can't be opened.
    #[error("opening the volume: {0}")]
    Volume(#[from] VolumeError),
    /// There is no such volume, or it isn't clear which it is.
    #[error(transparent)]
    NoVolume(#[from] FindError),
    /// Too few storage processes answer.
    #[error(
        "the volume could not be recovered within {RECOVERY_LIMIT:?}: that takes three of six copies of each protection \
         group to read and four to write. Are the storage processes running ({0})? `auriga status` shows which answer"
    )]
    NoQuorum(String),
    /// It holds no file system, and none can be made.
    #[error("making a file system on the volume: {0}")]
    FileSystem(#[from] LoadError),
    /// It can't be mounted.
    #[error("mounting the volume: {0}")]
    Mount(#[from] MountError),
    /// The database cluster can't be created or read.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A new volume, open to everyone.
    #[error("{0} is not a loopback address: a new volume needs a password_file for the user `postgres`")]
    NoPassword(IpAddr),
    /// Something local.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// How it failed.
        source: io::Error,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> NodeError {
    let what = what.into();
    move |source| NodeError::Io { what, source }
}

/// What the admin port shows, filled in as things come up.
struct Shown {
    name: String,
    postgres: SocketAddr,
    health: Arc<Health>,
    volume: OnceLock<Arc<RemoteVolume>>,
    files: OnceLock<Arc<PageFs>>,
    cache_limit_bytes: u64,
}

/// Runs an instance until it is told to stop (through `sender`), or is fenced. To be called on the main thread.
///
/// # Errors
/// Something is missing, or the volume can't be opened.
pub fn run(config: &NodeConfig, sender: &SyncSender<Event>, receiver: Receiver<Event>) -> Result<Ended, NodeError> {
    // What can be known to be missing is looked for before another writer is fenced.
    let installations = find::find(config.pg_bin.as_deref())?;
    let user = RunAs::resolve(config.user.as_deref())?;
    let local = Local::make(&config.directory, &user)?;
    // One thread: what storage says is short work, and a second one would be woken for every acknowledgement, to find
    // nothing to steal. Whatever waits is on FUSE's threads or the file system's own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(io_error("starting tokio"))?;
    let shown = Arc::new(Shown {
        name: config.volume.name.clone(),
        postgres: SocketAddr::new(config.listen, config.port),
        health: Arc::default(),
        volume: OnceLock::new(),
        files: OnceLock::new(),
        cache_limit_bytes: config.cache_bytes as u64,
    });
    serve_admin(config.admin, &shown)?;

    let volume = match open(config, &runtime, &receiver, &shown.health)? {
        Opened::Volume(volume) => volume,
        Opened::Not(ended) => return Ok(ended),
    };
    let _ = shown.volume.set(volume.clone());
    let served = serve(config, sender, receiver, (&installations, user, &local), (&shown, &volume));
    let ended = match (served, fenced(&volume)) {
        // Whatever failed, failed because a newer writer has taken over: to start again would fence that one.
        (Err(error), Some(by)) => {
            tracing::warn!(%error, "what follows from being fenced");
            end_fenced(&shown.health, by)
        }
        (served, _) => served?,
    };
    if !runtime.block_on(volume.close(Instant::now() + CLOSE_LIMIT)) && ended == Ended::Stopped {
        tracing::warn!("the last writes are not known to be durable; the next start recovers");
    }
    tracing::info!(?ended, "the instance has ended");
    Ok(ended)
}

/// Mounts the open volume and runs PostgreSQL on it.
fn serve(
    config: &NodeConfig,
    sender: &SyncSender<Event>,
    receiver: Receiver<Event>,
    (installations, user, local): (&[Installation], RunAs, &Local),
    (shown, volume): (&Shown, &Arc<RemoteVolume>),
) -> Result<Ended, NodeError> {
    let mount = mount(config, volume, local, &user)?;
    let _ = shown.files.set(mount.fs().clone());
    let spec = prepare(config, installations, user, local, &shown.health)?;
    let ended = supervise(&spec, &shown.health, sender, receiver, || fenced(volume));
    let ended = ended.map_err(io_error(format!("running {}", spec.installation.bin.display())))?;
    if let Err(error) = mount.unmount() {
        tracing::warn!(%error, "the mount was still in use");
    }
    Ok(ended)
}

/// What has become of an attempt to open the volume.
enum Opened {
    Volume(Arc<RemoteVolume>),
    /// Asked to stop, or fenced, meanwhile.
    Not(Ended),
}

/// Recovers the volume.
fn open(
    config: &NodeConfig,
    runtime: &tokio::runtime::Runtime,
    receiver: &Receiver<Event>,
    health: &Health,
) -> Result<Opened, NodeError> {
    let begun = Instant::now();
    tracing::info!(volume = config.volume.label, "recovering the volume");
    let opened = runtime.block_on(async {
        tokio::select! {
            opened = find_and_open(config, begun + RECOVERY_LIMIT) => Some(opened),
            () = asked_to_stop(receiver) => None,
        }
    });
    let volume = match opened {
        Some(Ok(volume)) => volume,
        Some(Err(NodeError::Volume(VolumeError::TimedOut))) => {
            let storage: Vec<_> = config.volume.members.values().map(SocketAddr::to_string).collect();
            return Err(NodeError::NoQuorum(storage.join(", ")));
        }
        Some(Err(NodeError::Volume(VolumeError::Fenced { by }))) => return Ok(Opened::Not(end_fenced(health, by))),
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
    Ok(Opened::Volume(Arc::new(volume)))
}

/// Finds out which volume is meant, and becomes its writer.
async fn find_and_open(config: &NodeConfig, deadline: Instant) -> Result<RemoteVolume, NodeError> {
    let volume = find_volume(&config.volume, config.identity, deadline).await?;
    Ok(RemoteVolume::open(VolumeConfig { volume, ..config.volume.clone() }, deadline).await?)
}

/// Returns once somebody wants the instance to stop. Nothing else is reported before PostgreSQL runs.
async fn asked_to_stop(receiver: &Receiver<Event>) {
    while !matches!(receiver.try_recv(), Ok(Event::Stop)) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Mounts the volume, with a new file system where it has none.
fn mount(config: &NodeConfig, volume: &Arc<RemoteVolume>, local: &Local, user: &RunAs) -> Result<Mount, NodeError> {
    let options = MountOptions {
        fs: FsOptions { cache_bytes: config.cache_bytes, deadline: config.deadline, ..FsOptions::default() },
        // The whole process is in a private mount namespace already: see `enter_private_namespace`.
        private: false,
        local: Some(local.temporary.clone()),
        ..MountOptions::default()
    };
    let start = || {
        Mount::start(volume.clone(), &local.mount, &options, |error| {
            tracing::error!(%error, "the volume is lost to this instance");
        })
    };
    match start() {
        Err(MountError::Load(LoadError::Empty)) => {
            mkfs(volume.as_ref() as &dyn Volume, user.uid.as_raw(), user.gid.as_raw(), config.deadline)?;
            tracing::info!("a file system was made on the new volume");
            Ok(start()?)
        }
        started => Ok(started?),
    }
}

/// The cluster: created on a new volume, readied on an existing one.
fn prepare(
    config: &NodeConfig,
    installations: &[Installation],
    user: RunAs,
    local: &Local,
    health: &Health,
) -> Result<ServerSpec, NodeError> {
    let cluster = Cluster::in_root(&local.mount);
    let major = cluster.major()?;
    let installation = find::choose(installations, major)?.clone();
    if major.is_none() {
        let auth = match &config.password_file {
            Some(file) => Authentication::Password(file.clone()),
            None if config.listen.is_loopback() => Authentication::TrustLoopback,
            None => return Err(NodeError::NoPassword(config.listen)),
        };
        health.set_phase(Phase::CreatingCluster);
        let begun = Instant::now();
        cluster.create(&installation, &user, &auth)?;
        tracing::info!(took_ms = begun.elapsed().as_millis() as u64, "the database cluster was created");
    }
    cluster.prepare(&user)?;
    Ok(ServerSpec {
        installation,
        user,
        data: cluster.data(),
        sockets: local.sockets.clone(),
        log: config.directory.join("postgres.log"),
        listen: config.listen.to_string(),
        port: config.port,
        settings: config.settings.clone(),
    })
}

/// The instance's local directories.
struct Local {
    mount: PathBuf,
    sockets: PathBuf,
    temporary: PathBuf,
}

impl Local {
    fn make(directory: &Path, user: &RunAs) -> Result<Local, NodeError> {
        let make = |path: PathBuf| {
            std::fs::create_dir_all(&path).map_err(io_error(format!("making {}", path.display())))?;
            Ok::<_, NodeError>(path)
        };
        let directory = make(directory.to_owned())?;
        // PostgreSQL's user must get through.
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o711))
            .map_err(io_error(format!("opening {}", directory.display())))?;
        let [mount, sockets, temporary] = ["mnt", "run", "tmp"].map(|name| make(directory.join(name)));
        let (mount, sockets, temporary) = (mount?, sockets?, temporary?);
        user.own(&sockets).map_err(io_error("giving the socket directory to PostgreSQL's user"))?;
        Ok(Local { mount, sockets, temporary })
    }
}

fn serve_admin(address: SocketAddr, shown: &Arc<Shown>) -> Result<(), NodeError> {
    let listener = TcpListener::bind(address).map_err(io_error(format!("listening on {address}")))?;
    let shown = shown.clone();
    let answer = move |question| {
        if let (Question::DropCaches, Some(files)) = (question, shown.files.get()) {
            files.drop_caches();
        }
        status(&shown)
    };
    admin::serve(listener, answer).map_err(io_error("serving the admin port"))
}

fn status(shown: &Shown) -> InstanceStatus {
    InstanceStatus {
        name: shown.name.clone(),
        pid: std::process::id(),
        postgres: shown.postgres,
        health: shown.health.report(),
        volume: shown.volume.get().map(|volume| volume.status()),
        mount: shown.files.get().map(|files| mount_status(files, shown.cache_limit_bytes)),
        rss_bytes: rss_bytes(),
    }
}

fn mount_status(files: &PageFs, cache_limit_bytes: u64) -> MountStatus {
    let figures = files.figures();
    MountStatus {
        cached_bytes: figures.cache.bytes as u64,
        pinned_bytes: figures.cache.pinned_bytes as u64,
        cache_limit_bytes,
        syncs: figures.syncs,
        sync_p50_micros: figures.sync_p50_micros,
        sync_p99_micros: figures.sync_p99_micros,
        records: figures.records,
    }
}

/// The volume epoch of the writer that has taken over, if one has.
fn fenced(volume: &RemoteVolume) -> Option<VolumeEpoch> {
    match volume.ended()? {
        VolumeError::Fenced { by } => Some(by),
        _ => None,
    }
}

/// Resident memory, from `/proc/self/statm`; 0 where there is none.
fn rss_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| pages * PAGE_BYTES)
}
