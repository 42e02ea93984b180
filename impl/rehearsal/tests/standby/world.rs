//! A writer, a standby on a reader's mount, and a plain standby beside it.

use super::session::Session;
use auriga_instance::postgres::find::Installation;
use auriga_instance::postgres::user::RunAs;
use auriga_pagefs::reader::{Ahead, Feed, Follower, ReaderFs, ReaderOptions};
use auriga_pagefs::{FsOptions, Mount, MountOptions, PageFs, mkfs};
use auriga_rehearsal::standbys::{self, workload};
use auriga_volume::{MemoryVolume, MemoryVolumeConfig, ReaderVolume, VolumeError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// How often the writer publishes, and the reader looks.
const EVERY: Duration = Duration::from_millis(10);

/// A server: its sockets and its log are in a directory of its own.
pub struct Server {
    server: standbys::Server,
    data: PathBuf,
    directory: TempDir,
    settings: String,
}

impl std::ops::Deref for Server {
    type Target = standbys::Server;

    fn deref(&self) -> &standbys::Server {
        &self.server
    }
}

impl Server {
    fn new(name: &str, (installation, user): (&Installation, &RunAs), data: PathBuf, settings: &str) -> Server {
        let directory = open_directory();
        user.own(directory.path()).expect("given away");
        let host = directory.path().display().to_string();
        let settings = format!("-c listen_addresses='' -c unix_socket_directories='{host}' {settings}");
        let (programs, user) = (installation.bin.clone(), user.clone());
        let server = standbys::Server { name: name.to_owned(), programs, user, host, port: 5432 };
        Server { server, data, directory, settings }
    }

    /// Starts it, and waits until it accepts connections.
    pub fn start(&self) {
        let mut command = self.command("pg_ctl");
        command.args(["start", "--wait", "--timeout=240", "--silent", "--options", &self.settings, "--pgdata"]);
        command.arg(&self.data).arg("--log").arg(self.log()).stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status().expect("started");
        assert!(status.success(), "{command:?}:\n{}", self.log_text());
    }

    /// Ends it at once, and starts it again.
    pub fn crash(&self) {
        succeed(
            self.command("pg_ctl").args(["stop", "--mode=immediate", "--silent", "--wait", "--pgdata"]).arg(&self.data),
        );
        self.start();
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn command(&self, program: &str) -> Command {
        standbys::command(&self.programs, &self.user, program)
    }

    /// A session that is opened again when it is over.
    fn session(&self) -> Session {
        let mut psql = Command::new(self.programs.join("psql"));
        self.user.apply(&mut psql).current_dir("/");
        psql.args(["--host", &self.host, "--username=postgres", "--no-psqlrc", "-AtXq", "postgres"]);
        Session::new(psql)
    }
}

fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A temporary directory that PostgreSQL's user gets through.
fn open_directory() -> TempDir {
    let directory = tempfile::Builder::new().prefix("standby-").tempdir().expect("a temporary directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
    directory
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.data.join("postmaster.pid").exists() {
            let mut stop = self.command("pg_ctl");
            let stop = stop.args(["stop", "--mode=immediate", "--silent", "--wait", "--pgdata"]).arg(&self.data);
            eprintln!("stopped a server: {:?}", stop.status());
        }
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.data.display(), self.log_text());
        }
    }
}

/// Publishes points as the writer's instance does, until dropped.
struct Publisher {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    fn start(volume: &Arc<MemoryVolume>, writer: &Server) -> Publisher {
        let (volume, mut session, ended) = (volume.clone(), writer.session(), Arc::new(AtomicBool::new(false)));
        let seen = ended.clone();
        let thread = std::thread::spawn(move || {
            while !seen.load(Relaxed) {
                volume.publish(|| session.lsn("SELECT pg_current_wal_insert_lsn()"));
                std::thread::sleep(EVERY);
            }
        });
        Publisher { ended, thread: Some(thread) }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// Everything, in the order in which it ends.
pub struct World {
    follower: Option<Follower>,
    publisher: Option<Publisher>,
    pub reader: Server,
    pub plain: Server,
    pub writer: Server,
    pub fs: Arc<ReaderFs>,
    lost: Arc<Mutex<Option<String>>>,
    _reader_mount: Mount<ReaderFs>,
    _writer_mount: Mount<PageFs>,
    _directories: Vec<TempDir>,
}

const WRITER: &str = "-c full_page_writes=off -c wal_recycle=off -c wal_init_zero=off -c shared_buffers=16MB \
                      -c max_wal_size=64MB -c checkpoint_timeout=30s -c wal_keep_size=256MB -c autovacuum_naptime=1s \
                      -c allow_in_place_tablespaces=on -c max_prepared_transactions=10 -c fsync=off";

/// From where the standby on the volume has its WAL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wal {
    /// From the writer's server.
    Streamed,
    /// From the volume, as in a region that has nothing but storage in common with the writer's.
    Fed,
}

impl World {
    /// Starts a writer, fills it, and starts both standbys.
    pub fn start(installation: &Installation, wal: Wal) -> World {
        let user = RunAs::resolve(None).expect("a user for PostgreSQL");
        let postgres = (installation, &user);
        let mut directories = Vec::new();
        let mut directory = || {
            let made = open_directory();
            let path = made.path().to_owned();
            directories.push(made);
            path
        };
        let volume = volume();
        let writer_mount = mount(&volume, &directory());
        let data = writer_mount.path().join("data");
        init(postgres, &data);
        let writer = Server::new("writer", postgres, data, WRITER);
        writer.start();
        workload::prepare(&writer).expect("filled");

        let standby = format!(
            "{WRITER} -c hot_standby=on -c shared_buffers=1MB -c max_standby_streaming_delay=-1 \
             -c max_standby_archive_delay=-1"
        );
        let streamed =
            format!("{standby} -c log_min_messages=warning -c primary_conninfo='host={} user=postgres'", writer.host);
        // What PostgreSQL says each time that it has reached the end of what there is, is a matter of its log.
        let fed = format!("{standby} -c log_min_messages=fatal -c wal_retrieve_retry_interval=20ms");
        let plain = directory().join("data");
        user.own(plain.parent().expect("in one")).expect("given away");
        let mut backup = writer.client("pg_basebackup");
        succeed(backup.args(["--checkpoint=fast", "--no-sync", "-D"]).arg(&plain));
        std::fs::write(plain.join("standby.signal"), "").expect("written");
        let plain = Server::new("plain", postgres, plain, &streamed);
        plain.start();

        let ahead = Arc::new(Ahead::new(Arc::new(volume.reader()), Box::new(|_, _| Ok(()))));
        let reader_volume: Arc<dyn ReaderVolume> = match wal {
            Wal::Streamed => Arc::new(volume.reader()),
            Wal::Fed => ahead.clone(),
        };
        let publisher = Publisher::start(&volume, &writer);
        let options = ReaderOptions {
            data: "data".to_owned(),
            own: vec![("standby.signal".to_owned(), Vec::new())],
            overlay_bytes: 8 << 20,
            spill: Some(directory()),
            deadline: PATIENCE,
            ..ReaderOptions::default()
        };
        let began = Instant::now();
        let fs = ReaderFs::start(reader_volume, options).expect("a reader");
        let at = directory();
        let mount_options = MountOptions { private: false, local: Some(directory()), ..MountOptions::default() };
        let reader_mount = Mount::reader(fs.clone(), &at, &mount_options).expect("mounted");
        let settings = if wal == Wal::Fed { &fed } else { &streamed };
        let reader = Server::new("reader", postgres, at.join("data"), settings);
        reader.start();
        eprintln!("a standby on the volume accepts connections after {:?}", began.elapsed());
        let lost = Arc::new(Mutex::new(None));
        let follower = fs.follow_fed(
            EVERY,
            {
                let (mut session, mut feed) = (reader.session(), Feed::new(ahead, fs.clone()));
                move || {
                    let replayed = session.lsn("SELECT pg_last_wal_replay_lsn()");
                    if let (Wal::Fed, Some(replayed)) = (wal, replayed) {
                        feed.step(replayed)?;
                    }
                    Ok(replayed)
                }
            },
            {
                let lost = lost.clone();
                move |error| *lost.lock().expect("not poisoned") = Some(error.to_string())
            },
        );
        let world = World {
            follower: Some(follower.expect("a thread")),
            publisher: Some(publisher),
            reader,
            plain,
            writer,
            fs,
            lost,
            _reader_mount: reader_mount,
            _writer_mount: writer_mount,
            _directories: directories,
        };
        world.until("replay has passed where the reader began", || world.fs.figures().is_ready);
        world
    }

    /// Fails where the reader could not go on.
    pub fn check(&self) {
        let lost = self.lost.lock().expect("not poisoned").clone();
        assert!(lost.is_none(), "the reader was lost: {lost:?}");
    }

    /// Waits until `is_so`.
    fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            self.check();
            assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}; {:?}", self.fs.figures());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.follower = None;
        self.publisher = None;
    }
}

/// A volume that remembers so few records that readers often miss some, if the environment says so.
fn volume() -> Arc<MemoryVolume> {
    let given = std::env::var("AURIGA_STANDBY_HISTORY").ok().and_then(|bytes| bytes.parse().ok());
    let history_weight_max = given.unwrap_or(MemoryVolumeConfig::default().history_weight_max);
    let durable_after = Duration::from_micros(300);
    let config = MemoryVolumeConfig { durable_after, history_weight_max, ..MemoryVolumeConfig::default() };
    let volume = Arc::new(MemoryVolume::new(config));
    mkfs(&*volume, 0, 0, PATIENCE).expect("an empty volume");
    volume
}

/// The writer's mount.
fn mount(volume: &Arc<MemoryVolume>, at: &Path) -> Mount<PageFs> {
    let fs = FsOptions { deadline: Duration::from_secs(20), ..FsOptions::default() };
    let options = MountOptions { fs, private: false, ..MountOptions::default() };
    let lost = |error: VolumeError| eprintln!("the writer's mount was lost: {error}");
    Mount::start(volume.clone(), at, &options, lost).expect("mounted")
}

fn init((installation, user): (&Installation, &RunAs), data: &Path) {
    std::fs::create_dir(data).expect("made");
    user.own(data).expect("given away");
    let arguments = ["--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync", "--pgdata"];
    succeed(standbys::command(&installation.bin, user, "initdb").args(arguments).arg(data));
}
