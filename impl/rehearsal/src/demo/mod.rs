//! A whole region on one machine: six storage processes in three Availability Zones, a writer and readers, a controller and
//! a gateway, each a real process on a loopback address of its own.
//!
//! - [`layout`]: who is where.
//! - [`preflight`]: what is missing on this machine.
//! - [`certificates`]: by which its processes know each other.
//! - [`cluster`]: the processes, and what can be done to them.
//! - [`promotion`](self): who writes first.
//! - [`watchers`]: the controller and the gateway.
//! - [`region`]: where it is one of several regions.
//! - [`place`](self): its directory, held as long as it runs.
//! - [`waiting`](self): until a member is ready, as long as it gets on.
//! - [`faults`], [`control`]: what `auriga inject` asks for.
//! - [`state`]: how it finds us.
//! - [`janitor`]: how nothing is left behind.

pub mod certificates;
pub mod cluster;
pub mod control;
mod directory;
pub mod faults;
pub mod janitor;
pub mod layout;
pub(crate) mod place;
pub mod preflight;
mod promotion;
pub mod region;
pub mod state;
pub mod summary;
mod waiting;
pub mod watchers;

use crate::volatile_disk::VolatileDisk;
use auriga_admin::config::{MountConfig, PostgresConfig};
use auriga_admin::member::Described;
use auriga_admin::{storage, terminal};
use auriga_audit::trace_check::{Coverage, TraceError, check_folder};
use auriga_instance::node::{EXIT_FENCED, EXIT_GAVE_UP};
use auriga_net::admin::{Access, Condition};
use cluster::{Cluster, ClusterError};
use control::{Action, Ask, Reply};
use faults::{Faults, Outcome};
use layout::Layout;
pub(crate) use place::Place;
use promotion::promote_unless_written;
use region::RegionLayout;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Runtime};
use waiting::asked_to_stop;
use watchers::{CONTROL, GATEWAY};

/// The name of the first instance.
pub const WRITER: &str = "writer";
/// Copies that commits need.
const WRITE_QUORUM: usize = 4;

/// An instance that ends like this was stopped, was fenced, or can't run: starting it again would do harm, or no good.
const ENDS_FOR_GOOD: [Option<i32>; 3] = [Some(0), Some(EXIT_FENCED as i32), Some(EXIT_GAVE_UP as i32)];
/// After this many crashes within [`CRASH_WINDOW`], nothing is started again by itself.
const CRASHES_MAX: usize = 5;
/// See [`CRASHES_MAX`].
const CRASH_WINDOW: Duration = Duration::from_secs(60);

/// What a demo is made from.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to keep everything, and leave it at the end; a temporary directory, deleted at the end, where absent.
    pub dir: Option<PathBuf>,
    /// First three bytes of its addresses.
    pub network: [u8; 3],
    /// PostgreSQL's port.
    pub port: u16,
    /// PostgreSQL's settings.
    pub postgres: PostgresConfig,
    /// The mount's settings.
    pub mount: MountConfig,
    /// Whether every process writes a trace.
    pub trace: bool,
    /// See [`StorageConfig::trace_inputs_mib`](auriga_admin::config::StorageConfig::trace_inputs_mib).
    pub trace_inputs_mib: Option<u64>,
    /// Protection groups of the volume.
    pub groups: u16,
    /// See [`InstanceConfig::allocation_limit`](auriga_admin::config::InstanceConfig::allocation_limit).
    pub allocation_limit: Option<u64>,
    /// Whether storage is on a disk that forgets when its power is cut, and the seed of what it forgets. The caller has
    /// called [`volatile_disk::prepare`](crate::volatile_disk::prepare).
    pub volatile: Option<u64>,
    /// See [`StorageConfig::scrub_journal_s`](auriga_admin::config::StorageConfig::scrub_journal_s).
    pub scrub_journal_s: u64,
    /// Whether the processes speak in the clear, without certificates.
    pub plaintext: bool,
    /// How many readers there are.
    pub readers: u8,
    /// PostgreSQL's settings of readers, where they differ from the writer's.
    pub reader_settings: BTreeMap<String, String>,
    /// Whether there are a controller and a gateway, where there are readers.
    pub watched: bool,
    /// Storage processes beside the six, where there is a controller.
    pub spares: u8,
    /// Whether the controller replaces storage processes that are lost, from the beginning.
    pub heals: bool,
    /// Which region of a global database it is, where it is one.
    pub region: Option<RegionLayout>,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Something is missing here.
    #[error("the demo can't start:\n  - {}", .0.join("\n  - "))]
    Missing(Vec<String>),
    /// The directory is used by another demo.
    #[error("{} is in use by another demo", .0.display())]
    InUse(PathBuf),
    /// A file or directory.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// A process.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// It was begun, and did not get up; its logs have been put aside.
    #[error("{source}\nall logs of this attempt are kept in {}", logs.display())]
    Begun {
        /// Why not.
        source: Box<DemoError>,
        /// Where the logs are now.
        logs: PathBuf,
    },
    /// Asked to stop.
    #[error("stopped before everything was up")]
    Interrupted,
    /// The volume could not be created.
    #[error("creating the volume: {0}")]
    Volume(#[from] auriga_admin::storage::MakeError),
    /// The demo's own certificates.
    #[error("the demo's certificates: {0}")]
    Certificates(#[from] auriga_certs::CertsError),
    /// The same, when they are used.
    #[error("the demo's certificates: {0}")]
    Credentials(#[from] auriga_net::tls::CredentialError),
}

pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DemoError {
    let path = path.to_owned();
    move |source| DemoError::Io { path, source }
}

/// A running demo. Dropping it stops everything.
pub struct Demo {
    members: Arc<Mutex<(Cluster, Faults)>>,
    runtime: Runtime,
    layout: Layout,
    access: Access,
    disk: Option<VolatileDisk>,
    /// Whether its directory outlives it.
    is_kept: bool,
    /// Its directory; that of a region is in the hands of the global database's demo.
    place: Option<Place>,
}

impl Demo {
    /// Starts one: returns when PostgreSQL accepts connections.
    ///
    /// # Errors
    /// Something is missing, or does not start, or `stop` says that a person has lost patience. Nothing is left behind
    /// but the logs of what did not start.
    pub fn bring_up(options: Options, stop: &Receiver<()>) -> Result<Demo, DemoError> {
        let (volatile, keeps) = (options.volatile, options.dir.is_some());
        let layout = place::layout(options)?;
        place::check([&layout])?;
        let place = Place::take(&layout.dir, keeps, &layout.storage())?;
        let demo = Demo::assemble(layout, volatile, keeps, Some(place))?;
        match demo.begin(stop) {
            Ok(()) => Ok(demo),
            Err(DemoError::Interrupted) => Err(DemoError::Interrupted),
            Err(source) if keeps => Err(source),
            Err(source) => {
                demo.cluster().0.stop_all();
                Err(place::put_logs_aside(&demo.layout.dir, &["logs"], source))
            }
        }
    }

    /// Makes one of which nothing runs yet.
    pub(crate) fn assemble(
        layout: Layout,
        volatile: Option<u64>,
        is_kept: bool,
        place: Option<Place>,
    ) -> Result<Demo, DemoError> {
        if let Some(dir) = &layout.certificates {
            certificates::prepare(dir, &layout.storage_names(), WRITER)?;
        }
        let disk = volatile.map(|seed| mount_volatile(&layout, seed)).transpose()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(io_error(&layout.dir))?;
        let mut cluster = Cluster::new(layout.clone())?;
        cluster.add_instance(WRITER, 0);
        layout.readers().for_each(|number| cluster.add_instance(&Layout::reader_name(number), number));
        if layout.watched {
            cluster.add_watchers();
        }
        if let Some(region) = &layout.region {
            cluster.add_region(&region::name(region.number));
        }
        let members = Arc::new(Mutex::new((cluster, Faults::default())));
        let access = layout.access()?;
        let demo = Demo { members, runtime, layout, access, disk, is_kept, place };
        demo.listen()?;
        Ok(demo)
    }

    fn begin(&self, stop: &Receiver<()>) -> Result<(), DemoError> {
        self.begin_storage(stop)?;
        if self.layout.watched {
            self.cluster().0.start(CONTROL)?;
            self.cluster().0.start(GATEWAY)?;
        }
        self.launch(WRITER)?;
        self.wait_for_instance(WRITER, Some(stop))?;
        let readers: Vec<String> = self.layout.readers().map(Layout::reader_name).collect();
        readers.iter().try_for_each(|name| self.cluster().0.start(name))?;
        readers.iter().try_for_each(|name| self.wait_for_instance(name, Some(stop)))
    }

    /// Starts storage, and makes the volume where there is none.
    pub(crate) fn begin_storage(&self, stop: &Receiver<()>) -> Result<(), DemoError> {
        for name in self.layout.storage_names() {
            self.cluster().0.start(&name)?;
        }
        // A kept directory may hold the volume already.
        let mark = self.layout.identity_file();
        let exists = mark.exists();
        let mut absent = Vec::new();
        for name in self.layout.storage_names() {
            match self.wait_for_storage(&name, Some(stop)) {
                // A volume that exists needs no more than a write quorum.
                Err(DemoError::Cluster(error)) if exists && absent.len() < layout::STORAGE.len() - WRITE_QUORUM => {
                    println!("{error}\n{name} is missing: going on without it");
                    absent.push(name);
                }
                waited => waited?,
            }
        }
        self.show_refused();
        if !exists {
            let config = self.layout.instance_config(WRITER, 0, Path::new("/"));
            let identity = self.runtime.block_on(async {
                tokio::select! {
                    created = storage::create_volume(&config) => created.map_err(DemoError::from),
                    () = asked_to_stop(stop) => Err(DemoError::Interrupted),
                }
            })?;
            keep(&mark, &storage::identity_text(identity)).map_err(io_error(&mark))?;
        }
        Ok(())
    }

    /// Says which storage processes refuse their stores. The demo starts with the others; the volume says whether they are
    /// enough.
    fn show_refused(&self) {
        for (name, index) in self.layout.storage_names().iter().zip(0..) {
            let asked = storage::status(self.layout.storage_address(index), &self.access);
            let Ok(status) = self.runtime.block_on(asked) else { continue };
            if let Condition::Refused { found, advice } = status.condition {
                println!("{name} refuses its store, so the demo starts without it: {found}. {advice}");
            }
        }
    }

    /// Serves `auriga status` and `auriga inject`.
    fn listen(&self) -> Result<(), DemoError> {
        let path = control::socket(&self.layout.dir);
        let listener = control::listener(&path).map_err(io_error(&path))?;
        let members = self.members();
        // The thread lives as long as the program, so that what it starts does, too.
        let serve = move || {
            control::serve(&listener, |ask| match ask {
                Ask::Describe => {
                    Reply::Described { layout: Box::new(members.layout.clone()), members: members.describe() }
                }
                Ask::Inject { target, action, ms } => match members.inject(&target, action, ms) {
                    Ok(outcome) => {
                        if !outcome.done.is_empty() {
                            println!("inject {action:?} {}", outcome.done.join(" "));
                        }
                        Reply::Done(outcome)
                    }
                    Err(error) => Reply::Refused(error.to_string()),
                },
            });
        };
        std::thread::Builder::new().name("control".to_owned()).spawn(serve).map_err(io_error(&path))?;
        Ok(())
    }

    /// The processes, for a thread that may outlive the demo.
    pub(crate) fn members(&self) -> Members {
        let (members, layout) = (self.members.clone(), self.layout.clone());
        Members { members, layout, runtime: self.runtime.handle().clone() }
    }

    /// Locks the processes. No other thread can do anything to them meanwhile.
    pub fn cluster(&self) -> MutexGuard<'_, (Cluster, Faults)> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The demo's fixed facts.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What is needed to ask the storage processes.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The disk of the storage processes, where it is one that forgets.
    pub fn disk(&self) -> Option<&VolatileDisk> {
        self.disk.as_ref()
    }

    /// For asking over the network.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Where PostgreSQL of the instance with this number listens.
    pub fn postgres(&self, number: u8) -> SocketAddr {
        SocketAddr::new(self.layout.instance_host(number), self.layout.port)
    }

    /// Starts a member and waits until it serves.
    ///
    /// # Errors
    /// It does not start, ends, or is not ready in time.
    pub fn start(&self, name: &str) -> Result<(), DemoError> {
        self.launch(name)?;
        match self.layout.is_storage(name) {
            true => self.wait_for_storage(name, None),
            false => self.wait_for_instance(name, None),
        }
    }

    /// Starts a member. An instance is promoted where no other one writes.
    pub(crate) fn launch(&self, name: &str) -> Result<(), ClusterError> {
        let mut members = self.cluster();
        members.0.start(name)?;
        if let Some(number) = members.0.instance_number(name) {
            promote_unless_written(self.runtime.handle(), &self.layout, number);
        }
        Ok(())
    }

    /// Stops every process, then judges their traces by the observer that also judges the model: whether it holds.
    ///
    /// # Errors
    /// The traces can't be read.
    pub fn judge_traces(&self) -> Result<bool, TraceError> {
        self.cluster().0.stop_all();
        let report = check_folder(&self.layout.traces(), Coverage::Complete)?;
        let bytes = bytes_in(&self.layout.traces());
        println!("\nthe traces of all processes ({:.1} MB), judged by the rules (specs/rules.md):", bytes as f64 / 1e6);
        print!("{}", report.to_text());
        Ok(report.holds())
    }

    /// Shows what happens until asked to stop. An instance whose process crashed is started again; what was killed on
    /// purpose stays down.
    pub fn stay(&self, stop: &Receiver<()>) {
        println!("{}", summary::boxed(&self.layout, self.is_kept, terminal::width()));
        let mut crashes = Vec::new();
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(Duration::from_millis(200)) {
            self.look_after(&mut crashes, "");
        }
        println!("stopping …");
    }

    /// Says which processes have ended unasked, each with `whose` before its name, and starts an instance again that has
    /// crashed.
    pub(crate) fn look_after(&self, crashes: &mut Vec<Instant>, whose: &str) {
        let ended = self.cluster().0.take_ended();
        for (name, status) in ended {
            crashes.retain(|at: &Instant| at.elapsed() < CRASH_WINDOW);
            crashes.push(Instant::now());
            let crashed = !self.layout.is_storage(&name) && !ENDS_FOR_GOOD.contains(&status.code());
            if crashed && crashes.len() <= CRASHES_MAX {
                println!("{whose}{name} has crashed ({status}): starting it again on an empty directory");
                if let Err(error) = self.launch(&name) {
                    println!("{error}");
                }
            } else if status.code() == Some(EXIT_FENCED.into()) {
                println!("{whose}{name} was fenced: another writer has taken over its volume");
            } else {
                println!(
                    "{whose}{name} has ended ({status}); start it again with: auriga inject restart {whose}{name}"
                );
            }
        }
    }
}

/// The processes of a demo, to look at and to break.
pub(crate) struct Members {
    members: Arc<Mutex<(Cluster, Faults)>>,
    /// The demo's fixed facts.
    pub(crate) layout: Layout,
    runtime: Handle,
}

impl Members {
    /// Everyone, each with the faults that are in force.
    pub(crate) fn describe(&self) -> Vec<Described> {
        let mut members = self.lock();
        let (cluster, faults) = &mut *members;
        let mut described = cluster.describe();
        described.iter_mut().for_each(|member| member.faults = faults.in_force(&member.name));
        described
    }

    /// Does `action` to everyone that `target` stands for.
    pub(crate) fn inject(&self, target: &str, action: Action, ms: u32) -> Result<Outcome, ClusterError> {
        let mut members = self.lock();
        let (cluster, faults) = &mut *members;
        faults.apply(cluster, &self.runtime, target, action, ms)
    }

    /// SIGKILL to every process, as near to one moment as signals are.
    pub(crate) fn kill_all(&self) {
        self.lock().0.kill_all();
    }

    fn lock(&self) -> MutexGuard<'_, (Cluster, Faults)> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.cluster().0.stop_all();
        drop(self.disk.take());
        drop(self.place.take());
    }
}

/// Writes a small file that appears whole or not at all, also after a power cut.
fn keep(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    File::open(&new)?.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn mount_volatile(layout: &Layout, seed: u64) -> Result<VolatileDisk, DemoError> {
    let path = layout.storage();
    std::fs::create_dir_all(&path).map_err(io_error(&path))?;
    VolatileDisk::mount(&path, seed).map_err(io_error(&path))
}

/// Bytes of the files in a folder, as far as they can be seen.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}
