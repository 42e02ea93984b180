//! An instance, whole: volume, mount, cluster, `postgres`, admin port.
//!
//! ```text
//! open the volume (recover it: higher volume epoch) ─► mount ─► initdb or prepare ─► supervise postgres ─► unmount
//! ```
//! Each change of role is one line in the log.

mod opening;
mod publishing;
pub mod reader;
mod shown;
pub mod standby;

pub use shown::{FollowerShown, InstanceRole, InstanceStatus, MountStatus, ReaderShown};

use crate::on_mount::Helper;
use crate::on_mount::prepare::{Prepare, Prepared, prepare};
use crate::postgres::cluster::Cluster;
use crate::postgres::find::{self, Installation};
use crate::postgres::server::ServerSpec;
use crate::postgres::settings::{self, SettingsError};
use crate::postgres::user::{RunAs, UserError};
use crate::supervise::{Ended, Event, end_fenced, supervise};
use auriga_pagefs::{LoadError, MountError};
use auriga_protocol::{VolumeEpoch, VolumeId};
use auriga_volume::{FindError, RemoteVolume, VolumeConfig, VolumeError};
use opening::{Opened, RECOVERY_LIMIT, listen_to_readers, mount_unless_stopped, open};
use publishing::Publisher;
use shown::{Shown, serve_admin};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Exit code of an instance that was fenced: starting it again would fence its successor.
pub const EXIT_FENCED: u8 = 3;
/// Exit code of an instance whose PostgreSQL does not stay up.
pub const EXIT_GAVE_UP: u8 = 4;

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
    /// Where it listens for readers, where there may be any.
    pub readers: Option<SocketAddr>,
    /// Directory of PostgreSQL's programs, where it isn't to be searched for.
    pub pg_bin: Option<PathBuf>,
    /// Whom PostgreSQL runs as.
    pub user: Option<String>,
    /// File with the superuser's first password.
    pub password_file: Option<PathBuf>,
    /// PostgreSQL's settings.
    pub settings: Vec<(String, String)>,
    /// The locale of a new cluster; see [`Cluster::create`](crate::postgres::cluster::Cluster::create).
    pub locale: Option<String>,
    /// Where PostgreSQL's log is appended; in `directory` where absent.
    pub log: Option<PathBuf>,
    /// How to start what uses the mount.
    pub helper: Helper,
    /// Limit of the mount's page cache, in bytes.
    pub cache_bytes: usize,
    /// How long a write or read may wait for storage before PostgreSQL sees an I/O error.
    pub deadline: Duration,
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
    /// PostgreSQL won't take a setting.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// It holds no file system, and none can be made.
    #[error("making a file system on the volume: {0}")]
    FileSystem(#[from] LoadError),
    /// It can't be mounted.
    #[error("mounting the volume: {0}")]
    Mount(#[from] MountError),
    /// A reader can't go on.
    #[error("following the volume: {0}")]
    Reader(auriga_pagefs::reader::FollowError),
    /// A reader can't go on, whenever it begins again.
    #[error("this reader fails again and again: {0}")]
    ReaderGaveUp(String),
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

/// Runs an instance until it is told to stop (through `sender`), or is fenced. To be called on the main thread.
///
/// # Errors
/// Something is missing, or the volume can't be opened.
pub fn run(config: &NodeConfig, sender: &SyncSender<Event>, receiver: Receiver<Event>) -> Result<Ended, NodeError> {
    // What can be known to be missing is looked for before another writer is fenced.
    let installations = find::find(config.pg_bin.as_deref())?;
    let user = RunAs::resolve(config.user.as_deref())?;
    settings::check(&installations[0], &user, &config.settings)?;
    let local = Local::make(&config.directory, &user)?;
    let readers = config.readers.map(|at| TcpListener::bind(at).map_err(io_error(format!("listening on {at}"))));
    let readers = readers.transpose()?;
    // One thread: what storage says is short work, and a second one would be woken for every acknowledgement, to find
    // nothing to steal. Whatever waits is on FUSE's threads or the file system's own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(io_error("starting tokio"))?;
    let shown = Arc::new(Shown {
        name: config.volume.name.clone(),
        role: InstanceRole::Writer,
        postgres: SocketAddr::new(config.listen, config.port),
        health: Arc::default(),
        volume: OnceLock::new(),
        files: OnceLock::new(),
        reader: Mutex::default(),
        cache_limit_bytes: config.cache_bytes as u64,
    });
    serve_admin(config.admin, &shown)?;

    let volume = match open(config, &runtime, &receiver, &shown.health)? {
        Opened::Volume(volume) => volume,
        Opened::Not(ended) => return Ok(ended),
    };
    let _ = shown.volume.set(volume.clone());
    if let Some(listener) = readers {
        listen_to_readers(config, &runtime, &volume, listener)?;
    }
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
    let mount = match mount_unless_stopped(config, volume, local, &user, &receiver)? {
        Some(mount) => mount,
        None => return Ok(Ended::Stopped),
    };
    let _ = shown.files.set(mount.fs().clone());
    let prepared = prepare(
        &config.helper,
        Prepare {
            root: local.mount.clone(),
            installations: installations.to_vec(),
            user: user.clone(),
            listen: config.listen,
            password_file: config.password_file.as_deref().map(absolute).transpose()?,
            locale: config.locale.clone(),
            standby: false,
        },
        &shown.health,
        &receiver,
        || fenced(volume),
    );
    let ended = match prepared.map_err(io_error("preparing the database cluster"))? {
        Err(ended) => ended,
        Ok(Prepared { installation, created_ms, .. }) => {
            if let Some(took_ms) = created_ms {
                tracing::info!(took_ms, "the database cluster was created");
            }
            let spec = server(config, installation, user, local)?;
            let publisher = config.readers.map(|_| Publisher::start(volume.clone(), spec.clone())).transpose();
            let _publisher = publisher.map_err(io_error("starting a thread"))?;
            supervise(&spec, &shown.health, sender, receiver, || fenced(volume))
                .map_err(io_error(format!("running {}", spec.installation.bin.display())))?
        }
    };
    if let Err(error) = mount.unmount_within(CLOSE_LIMIT) {
        tracing::warn!(%error, "the mount was given up before everything on it was done");
    }
    Ok(ended)
}

fn absolute(path: &Path) -> Result<PathBuf, NodeError> {
    std::path::absolute(path).map_err(io_error(format!("finding {}", path.display())))
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
const FOR_READERS: [(&str, &str); 3] = [
    ("wal_level", "replica"),
    // As many as there may be readers, and some for those that are gone and not yet known to be.
    ("max_wal_senders", "20"),
    // A standby that was away for some seconds finds what it has missed. Not more, because a reader that begins copies all
    // of it (R-READER-FS-10).
    ("wal_keep_size", "64MB"),
];

/// The instance's local directories.
#[derive(Clone)]
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
        // Helpers have another working directory.
        let directory = directory.canonicalize().map_err(io_error(format!("finding {}", directory.display())))?;
        // PostgreSQL's user must get through.
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o711))
            .map_err(io_error(format!("opening {}", directory.display())))?;
        let [mount, sockets, temporary] = ["mnt", "run", "tmp"].map(|name| make(directory.join(name)));
        let (mount, sockets, temporary) = (mount?, sockets?, temporary?);
        user.own(&sockets).map_err(io_error("giving the socket directory to PostgreSQL's user"))?;
        Ok(Local { mount, sockets, temporary })
    }
}

/// The volume epoch of the writer that has taken over, if one has.
fn fenced(volume: &RemoteVolume) -> Option<VolumeEpoch> {
    match volume.ended()? {
        VolumeError::Fenced { by } => Some(by),
        _ => None,
    }
}
