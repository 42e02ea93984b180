//! A reader as a user has it: a stock hot standby on a volume that a writer of the same process writes.
//!
//! Needs root and `/dev/fuse`; what is missing is named, and the test is skipped. Where no PostgreSQL is installed, it
//! fails with the line that installs it.

use auriga_instance::health::{Health, Phase};
use auriga_instance::node::standby::{self, StandbyConfig};
use auriga_instance::on_mount::Helper;
use auriga_instance::postgres::cluster::{Authentication, Cluster};
use auriga_instance::postgres::find;
use auriga_instance::postgres::server::ServerSpec;
use auriga_instance::postgres::session::Session;
use auriga_instance::postgres::user::RunAs;
use auriga_instance::supervise::{Ended, Event, events, supervise};
use auriga_pagefs::{Mount, MountOptions, enter_private_namespace, mkfs};
use auriga_volume::{MemoryVolume, MemoryVolumeConfig};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(240);

fn helper() -> Helper {
    Helper { program: env!("CARGO_BIN_EXE_on-mount").into(), arguments: Vec::new() }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A writer's cluster on a mount of the volume, ready to be started.
fn new_writer(dir: &Path, volume: &Arc<MemoryVolume>) -> (Mount, ServerSpec) {
    let user = RunAs::resolve(None).unwrap();
    let installation = find::find(None).unwrap_or_else(|error| panic!("{error}")).remove(0);
    let [root, sockets] = ["mnt", "run"].map(|name| {
        let path = dir.join(name);
        std::fs::create_dir(&path).unwrap();
        user.own(&path).unwrap();
        path
    });
    mkfs(&**volume, user.uid, user.gid, PATIENCE).unwrap();
    let options = MountOptions { private: false, ..MountOptions::default() };
    let mount = Mount::start(volume.clone(), &root, &options, |error| eprintln!("lost: {error}")).unwrap();
    let cluster = Cluster::in_root(&root);
    cluster.create(&installation, &user, &Authentication::TrustLoopback, Some("C")).unwrap();
    cluster.prepare(&user).unwrap();
    let settings = [("shared_buffers", "16MB"), ("max_connections", "30")];
    let spec = ServerSpec {
        installation,
        user,
        data: cluster.data(),
        sockets,
        log: dir.join("postgres.log"),
        listen: "127.0.0.1".to_owned(),
        port: free_port(),
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        helper: helper(),
    };
    (mount, spec)
}

/// Asks over TCP, as a client does.
fn sql(programs: &Path, port: u16, statement: &str) -> Result<String, String> {
    let output = Command::new(programs.join("psql"))
        .args(["-XqAt", "-h", "127.0.0.1", "-U", "postgres", "-c", statement, "-p", &port.to_string(), "postgres"])
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Stops a supervisor when a test fails, or the scope would wait for it indefinitely.
struct StopOnDrop(SyncSender<Event>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Event::Stop);
    }
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_reader_follows_the_writer_and_stores_nothing() {
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse").map(drop);
    if let Err(error) = device.and_then(|()| enter_private_namespace()) {
        eprintln!("SKIPPED: this test mounts a file system, which needs root and /dev/fuse: {error}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let volume = Arc::new(MemoryVolume::new(MemoryVolumeConfig::default()));
    let (mount, spec) = new_writer(dir.path(), &volume);
    let config = StandbyConfig {
        directory: dir.path().join("reader"),
        listen: Ipv4Addr::LOCALHOST.into(),
        port: free_port(),
        writer: format!("host=127.0.0.1 port={} user=postgres", spec.port),
        pg_bin: None,
        user: None,
        log: None,
        settings: vec![
            ("shared_buffers".to_owned(), "2MB".to_owned()),
            ("max_connections".to_owned(), "10".to_owned()),
        ],
        helper: helper(),
        cache_bytes: 64 << 20,
        overlay_bytes: 16 << 20,
        spill_bytes: 1 << 30,
        deadline: PATIENCE,
    };
    let programs = spec.installation.bin.clone();
    let (health, reader_health) = (Arc::new(Health::default()), Arc::new(Health::default()));
    let ((sender, receiver), (reader_sender, reader_receiver)) = (events(), events());
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| supervise(&spec, &health, &sender, receiver, || None).unwrap());
        let _stop_writer = StopOnDrop(sender.clone());
        wait_for("the writer", || health.report().phase == Phase::Ready);
        let write = |statement: &str| sql(&programs, spec.port, statement).unwrap();
        write("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i");
        scope.spawn(|| {
            let mut session = Session::begin(&spec).unwrap();
            while !ended.load(Relaxed) {
                let position = || session.ask_position("SELECT pg_current_wal_insert_lsn()").ok().flatten();
                volume.publish(position);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let _end = EndOnDrop(&ended);
        let reader = scope.spawn(|| {
            let volume = Arc::new(volume.reader());
            standby::run(&config, volume, &reader_health, &reader_sender, reader_receiver).unwrap()
        });
        let _stop_reader = StopOnDrop(reader_sender.clone());
        let read = |statement: &str| sql(&programs, config.port, statement);
        let answers = |statement: &str, answer: &str| {
            wait_for(statement, || {
                assert!(!reader.is_finished(), "the reader has ended");
                read(statement).is_ok_and(|read| read == answer)
            });
        };
        answers("SELECT count(*) FROM t", "1000");
        assert_eq!(read("SHOW max_connections").unwrap(), "30", "as the writer has it");
        assert!(read("CREATE TABLE u ()").unwrap_err().contains("read-only transaction"));
        for round in 0..3 {
            write(&format!("UPDATE t SET i = i + 1000; INSERT INTO t VALUES ({round})"));
            write("VACUUM t");
            write("CHECKPOINT");
            answers("SELECT max(i) FROM t", &format!("{}", 2000 + 1000 * round));
        }
        write("TRUNCATE t");
        answers("SELECT count(*) FROM t", "0");
        reader_sender.send(Event::Stop).unwrap();
        assert_eq!(reader.join().unwrap(), Ended::Stopped);
        assert_eq!(write("SELECT count(*) FROM t"), "0", "the writer goes on");
        ended.store(true, Relaxed);
        sender.send(Event::Stop).unwrap();
        assert_eq!(writer.join().unwrap(), Ended::Stopped);
    });
    mount.unmount().unwrap();
}
