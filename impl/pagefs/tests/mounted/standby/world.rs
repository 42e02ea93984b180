//! A writer, a standby on a reader's mount, and a plain standby beside it.

use super::session::Session;
use crate::postgres::{Installation, succeed};
use crate::{Mounted, mount, open_to_all};
use auriga_pagefs::defect::Defects;
use auriga_pagefs::reader::{Follower, ReaderFs, ReaderOptions};
use auriga_pagefs::{Mount, MountOptions, mkfs};
use auriga_volume::{MemoryVolume, MemoryVolumeConfig};
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
    installation: Installation,
    data: PathBuf,
    pub directory: TempDir,
    settings: String,
}

impl Server {
    fn new(installation: &Installation, data: PathBuf, settings: &str) -> Server {
        let directory = tempfile::Builder::new().prefix("pagefs-").tempdir().expect("a temporary directory");
        open_to_all(directory.path());
        std::os::unix::fs::chown(directory.path(), Some(installation.uid), None).expect("given away");
        let settings =
            format!("-c listen_addresses='' -c unix_socket_directories='{}' {settings}", directory.path().display());
        Server { installation: installation.clone(), data, directory, settings }
    }

    /// Starts it, and waits until it accepts connections.
    pub fn start(&self) {
        let mut command = self.command("pg_ctl");
        command.args(["start", "--wait", "--timeout=240", "--silent", "--options", &self.settings, "--pgdata"]);
        command.arg(&self.data).arg("--log").arg(self.log()).stdout(Stdio::null());
        let status = command.status().expect("started");
        assert!(status.success(), "{command:?}:\n{}", self.log_text());
    }

    /// Ends it at once, and starts it again.
    pub fn crash(&self) {
        let mut stop = self.command("pg_ctl");
        succeed(stop.args(["stop", "--mode=immediate", "--silent", "--wait", "--pgdata"]).arg(&self.data));
        self.start();
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// A program of the installation; it ends even where the machine is very busy.
    fn command(&self, program: &str) -> Command {
        self.installation.command_within(300, program)
    }

    pub fn client(&self, program: &str) -> Command {
        let mut command = self.command(program);
        command.arg("--host").arg(self.directory.path()).arg("--username=postgres");
        command
    }

    /// Runs SQL, one transaction for each statement.
    pub fn run(&self, database: &str, sql: &str) -> String {
        let file = self.directory.path().join(format!("{:x}.sql", number()));
        std::fs::write(&file, sql).expect("written");
        let mut psql = self.client("psql");
        psql.args(["--no-psqlrc", "-AtXq", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&file).arg(database);
        let output = succeed(&mut psql);
        std::fs::remove_file(&file).expect("removed");
        output
    }

    /// A session that is opened again when it is over.
    pub fn session(&self) -> Session {
        let mut psql = self.installation.command_within(7200, "psql");
        psql.arg("--host").arg(self.directory.path()).arg("--username=postgres");
        psql.args(["--no-psqlrc", "-AtXq", "postgres"]);
        Session::new(psql)
    }
}

/// A number that no other call in this process gets.
fn number() -> u64 {
    use std::sync::atomic::AtomicU64;
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Relaxed)
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
    _writer_mount: Mounted,
    _directories: Vec<TempDir>,
}

const WRITER: &str = "-c full_page_writes=off -c wal_recycle=off -c wal_init_zero=off -c shared_buffers=16MB \
                      -c max_wal_size=64MB -c checkpoint_timeout=30s -c wal_keep_size=256MB -c autovacuum_naptime=1s \
                      -c allow_in_place_tablespaces=on -c max_prepared_transactions=10 -c fsync=off";

impl World {
    /// Starts a writer, lets `prepare` fill it, and starts both standbys.
    pub fn start(installation: &Installation, defects: Defects, prepare: impl FnOnce(&Server)) -> World {
        let volume = volume();
        let writer_mount = mount(&volume);
        let data = writer_mount.path().join("data");
        init(installation, &data);
        let writer = Server::new(installation, data, WRITER);
        writer.start();
        prepare(&writer);

        let mut directories = Vec::new();
        let mut directory = || {
            let made = tempfile::Builder::new().prefix("pagefs-").tempdir().expect("a temporary directory");
            open_to_all(made.path());
            let path = made.path().to_owned();
            directories.push(made);
            path
        };
        let standby = format!(
            "{WRITER} -c hot_standby=on -c shared_buffers=1MB -c max_standby_streaming_delay=-1 \
             -c log_min_messages=warning -c primary_conninfo='host={} user=postgres' ",
            writer.directory.path().display()
        );
        let plain = directory().join("data");
        std::os::unix::fs::chown(plain.parent().expect("in one"), Some(installation.uid), None).expect("given away");
        let mut backup = writer.client("pg_basebackup");
        succeed(backup.args(["--checkpoint=fast", "--no-sync", "-D"]).arg(&plain));
        std::fs::write(plain.join("standby.signal"), "").expect("written");
        let plain = Server::new(installation, plain, &standby);
        plain.start();

        let reader_volume = Arc::new(volume.reader());
        let publisher = Publisher::start(&volume, &writer);
        let options = ReaderOptions {
            data: "data".to_owned(),
            own: vec![("standby.signal".to_owned(), Vec::new())],
            overlay_bytes: 8 << 20,
            spill: Some(directory()),
            deadline: PATIENCE,
            defects,
            ..ReaderOptions::default()
        };
        let began = Instant::now();
        let fs = ReaderFs::start(reader_volume, options).expect("a reader");
        let at = directory();
        let mount_options = MountOptions { private: false, local: Some(directory()), ..MountOptions::default() };
        let reader_mount = Mount::reader(fs.clone(), &at, &mount_options).expect("mounted");
        let reader = Server::new(installation, at.join("data"), &standby);
        reader.start();
        eprintln!("a standby on the volume accepts connections after {:?}", began.elapsed());
        let lost = Arc::new(Mutex::new(None));
        let follower = fs.follow(
            EVERY,
            {
                let mut session = reader.session();
                move || session.lsn("SELECT pg_last_wal_replay_lsn()")
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

    /// Waits until `is_so`.
    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            let lost = self.lost.lock().expect("not poisoned").clone();
            assert!(lost.is_none(), "the reader was lost: {lost:?}");
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

fn init(installation: &Installation, data: &Path) {
    std::fs::create_dir(data).expect("made");
    std::os::unix::fs::chown(data, Some(installation.uid), None).expect("given away");
    let arguments = ["--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync", "--pgdata"];
    succeed(installation.command("initdb").args(arguments).arg(data));
}
