//! An instance, whole: volume, mount, cluster, `postgres`, admin port.
//!
//! ```text
//! open the volume (recover it: higher volume epoch) ─► mount ─► initdb or prepare ─► supervise postgres ─► unmount
//! ```
//! Each change of role is one line in the log. A *life* is what an instance does in one role: [`run`] lives one as the
//! writer, [`reader`] as many as it takes as a reader, and [`any`] whatever it is asked to.

pub mod any;
mod checkpointing;
mod env;
mod lineage;
pub mod membership;
mod opening;
mod port;
mod publishing;
pub mod reader;
mod region;
mod roles;
mod rpo;
mod shown;
pub mod snapshot;
pub mod standby;
mod verifier;
mod writer;

pub use env::About;
pub use roles::Turn;
pub use rpo::RpoShown;
pub use shown::{FollowerShown, InstanceRole, InstanceStatus, MountStatus, ReaderShown, RegionShown, Transition};
pub use verifier::Verifier;

use crate::on_mount::Helper;
use crate::postgres::find;
use crate::postgres::settings::SettingsError;
use crate::postgres::user::{RunAs, UserError};
use crate::sql::Said;
use crate::supervise::{Ended, Event, end_fenced};
use auriga_pagefs::{LoadError, MountError};
use auriga_protocol::global::MayNotWrite;
use auriga_protocol::{VolumeEpoch, VolumeId};
use auriga_volume::{FindError, RemoteVolume, VolumeConfig, VolumeError};
use env::{Env, Reports};
use opening::{Opened, RECOVERY_LIMIT};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::Duration;
use writer::Machine;

/// Exit code of an instance that was fenced: starting it again would fence its successor.
pub const EXIT_FENCED: u8 = 3;
/// Exit code of an instance whose PostgreSQL does not stay up.
pub const EXIT_GAVE_UP: u8 = 4;

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
    /// What the instance is, whatever its role.
    pub about: About,
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
    /// What other processes have said last.
    pub said: Said,
    /// Whether the databases get the functions that clients of Aurora call.
    pub aurora_functions: bool,
    /// Whether the volume is a region's of a global database: then it is looked whether it may be written before anybody is
    /// fenced.
    pub is_regions: bool,
}

impl NodeConfig {
    fn reports(&self) -> Reports<'_> {
        Reports { directory: &self.directory, user: self.user.as_deref(), said: &self.said }
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
    /// The region's volume may not be written by its instances (R-GLOBAL-10).
    #[error("this instance may not write: {}", may_not_write(.0))]
    NotPrimary(MayNotWrite),
    /// What the volume says of its region can't be read.
    #[error("reading what the volume says of its region: {0}")]
    Region(#[from] auriga_region::disk::DiskError),
    /// Too few storage processes answer.
    #[error(
        "the volume could not be recovered within {limit:?}: that takes three of six copies of each protection group to \
         read and four to write. Are the storage processes running ({storage})? `auriga status` shows which answer"
    )]
    NoQuorum {
        /// The time that it had.
        limit: Duration,
        /// Where they should be.
        storage: String,
    },
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
    /// A snapshot can't go on.
    #[error("the snapshot ends: {0}")]
    Snapshot(String),
    /// Something local.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// How it failed.
        source: io::Error,
    },
}

fn may_not_write(why: &MayNotWrite) -> String {
    match why {
        MayNotWrite::Secondary(tip) => format!("region {} is the primary of this global database", tip.primary.0),
        MayNotWrite::Fenced(handover) => {
            format!("its region is fenced: the role of the primary goes to region {}", handover.target.0)
        }
        MayNotWrite::Adopting(tip) => format!("its region is taking over the lineage of region {}", tip.primary.0),
    }
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> NodeError {
    let what = what.into();
    move |source| NodeError::Io { what, source }
}

/// Runs an instance that writes until it is told to stop (through `receiver`), or is fenced. To be called on the main thread.
///
/// # Errors
/// Something is missing, or the volume can't be opened.
pub fn run(config: &NodeConfig, receiver: Receiver<Event>) -> Result<Ended, NodeError> {
    // What can be known to be missing is looked for before another writer is fenced.
    let machine = Machine::look(config)?;
    let postgres = SocketAddr::new(config.listen, config.port);
    let role = (InstanceRole::Writer, false);
    let sql = config.reports();
    let env = Env::start(&config.about, &config.volume, postgres, config.cache_bytes, role, receiver, sql)?;
    if config.is_regions {
        region::watch(&env, config.volume.clone(), config.identity);
    }
    let volume = match opening::open(config, &env, RECOVERY_LIMIT)? {
        Opened::Volume(volume) => volume,
        Opened::Not(Ended::Fenced(by)) => return Ok(end_fenced(&env.shown.health, by)),
        Opened::Not(ended) => return Ok(ended),
    };
    let ended = writer::live(config, &env, &machine, &volume)?;
    tracing::info!(?ended, "the instance has ended");
    Ok(ended)
}

fn absolute(path: &Path) -> Result<PathBuf, NodeError> {
    std::path::absolute(path).map_err(io_error(format!("finding {}", path.display())))
}

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
