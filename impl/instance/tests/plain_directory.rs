//! The supervisor with real PostgreSQL on a plain directory: no volume, no mount.
//!
//! Where no PostgreSQL is installed, these tests fail with the line that installs it.

use auriga_instance::health::{Health, Phase};
use auriga_instance::on_mount::Helper;
use auriga_instance::postgres::cluster::{Authentication, Cluster};
use auriga_instance::postgres::find;
use auriga_instance::postgres::server::ServerSpec;
use auriga_instance::postgres::user::RunAs;
use auriga_instance::supervise::{CRASHES_MAX, Ended, Event, events, supervise};
use auriga_protocol::{VolumeEpoch, WriterId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// A cluster in a temporary directory, ready to be started.
fn new_cluster(dir: &Path) -> ServerSpec {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let user = RunAs::resolve(None).unwrap();
    let installation = find::find(None).unwrap_or_else(|e| panic!("{e}")).remove(0);
    let [root, sockets] = ["root", "run"].map(|name| {
        let path = dir.join(name);
        std::fs::create_dir(&path).unwrap();
        user.own(&path).unwrap();
        path
    });
    let cluster = Cluster::in_root(&root);
    assert_eq!(cluster.major().unwrap(), None, "nothing there yet");
    // What a crash in the middle of an earlier attempt leaves is no obstacle.
    std::fs::create_dir(root.join("pgdata.new")).unwrap();
    cluster.create(&installation, &user, &Authentication::TrustLoopback, Some("C")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(cluster.major().unwrap(), Some(installation.major));
    cluster.prepare(&user).unwrap();
    cluster.prepare(&user).unwrap(); // as at every later start
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    ServerSpec {
        installation,
        user,
        data: cluster.data(),
        sockets,
        log: dir.join("postgres.log"),
        listen: "127.0.0.1".to_owned(),
        port,
        settings: vec![("shared_buffers".to_owned(), "16MB".to_owned())],
        helper: Helper { program: env!("CARGO_BIN_EXE_on-mount").into(), arguments: Vec::new() },
    }
}

fn sql(spec: &ServerSpec, statement: &str) -> Result<String, String> {
    let output = Command::new(spec.installation.bin.join("psql"))
        .args(["-XqAt", "-h", "127.0.0.1", "-U", "postgres", "-c", statement, "postgres"])
        .args(["-p", &spec.port.to_string()])
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The postmaster of this PGDATA. (`postmaster.pid` may hold its number in a PID namespace.)
fn postmaster(spec: &ServerSpec) -> Pid {
    let program = format!("{}\0-D\0{}\0", spec.installation.bin.join("postgres").display(), spec.data.display());
    let found = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        line.starts_with(&program).then_some(pid)
    });
    Pid::from_raw(found.last().unwrap())
}

/// Stops the supervisor when a test fails, or the scope would wait for it indefinitely.
struct StopOnDrop(SyncSender<Event>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Event::Stop);
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn postgres_is_started_restarted_after_a_kill_and_stopped_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let spec = new_cluster(dir.path());
    let health = Arc::new(Health::default());
    let (sender, receiver) = events();
    std::thread::scope(|scope| {
        let running = scope.spawn({
            let (spec, health, sender) = (&spec, &health, &sender);
            move || supervise(spec, health, sender, receiver, || None).unwrap()
        });
        let _stop = StopOnDrop(sender.clone());
        wait_for("readiness", || health.report().phase == Phase::Ready);
        assert_eq!(sql(&spec, "show full_page_writes").unwrap(), "off");
        // A sort that does not fit in memory makes its directory.
        let sort =
            "set work_mem = '64kB'; select count(*) from (select n from generate_series(1, 100000) n order by -n) s";
        assert_eq!(sql(&spec, sort).unwrap(), "100000");
        let made = std::fs::symlink_metadata(spec.data.join("base/pgsql_tmp")).unwrap();
        assert!(made.is_dir());
        assert_eq!(sql(&spec, "create table t as select 1 as x").unwrap(), "");

        kill(postmaster(&spec), Signal::SIGKILL).unwrap();
        wait_for("the restart", || health.report().restarts == 1 && health.report().phase == Phase::Ready);
        assert_eq!(sql(&spec, "select x from t").unwrap(), "1", "PostgreSQL has recovered");

        sender.send(Event::Stop).unwrap();
        assert_eq!(running.join().unwrap(), Ended::Stopped);
    });
    let log = std::fs::read_to_string(&spec.log).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
}

#[test]
fn what_a_backend_leaves_behind_ends_nobodys_session() {
    let dir = tempfile::tempdir().unwrap();
    let spec = new_cluster(dir.path());
    let health = Arc::new(Health::default());
    let (sender, receiver) = events();
    std::thread::scope(|scope| {
        let running = scope.spawn({
            let (spec, health, sender) = (&spec, &health, &sender);
            move || supervise(spec, health, sender, receiver, || None).unwrap()
        });
        let _stop = StopOnDrop(sender.clone());
        wait_for("readiness", || health.report().phase == Phase::Ready);
        let innocent = scope.spawn(|| sql(&spec, "select pg_sleep(6), pg_postmaster_start_time() < now()"));
        // The child outlives the program, and then ends badly.
        let ended = dir.path().join("ended");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let leaves = format!(
            "copy (select 1) to program 'cat >/dev/null; (sleep 1; touch {}; exit 2) & exit 0'",
            ended.display()
        );
        assert_eq!(sql(&spec, &leaves).unwrap(), "");
        wait_for("the orphan's end", || ended.exists());
        assert_eq!(innocent.join().unwrap().unwrap(), "|t");
        assert_eq!(health.report().restarts, 0);
        sender.send(Event::Stop).unwrap();
        assert_eq!(running.join().unwrap(), Ended::Stopped);
    });
    let log = std::fs::read_to_string(&spec.log).unwrap();
    assert!(!log.contains("terminating any other active server processes"), "{log}");
}

#[test]
fn a_fenced_instance_stops_postgres_at_once_and_tells_its_clients() {
    let dir = tempfile::tempdir().unwrap();
    let spec = new_cluster(dir.path());
    let health = Arc::new(Health::default());
    let (sender, receiver) = events();
    let fenced = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn({
            let (spec, health, sender, fenced) = (&spec, &health, &sender, &fenced);
            let by = || fenced.load(Ordering::SeqCst).then_some(VolumeEpoch::new(7, WriterId(7)));
            move || supervise(spec, health, sender, receiver, by).unwrap()
        });
        let _stop = StopOnDrop(sender.clone());
        wait_for("readiness", || health.report().phase == Phase::Ready);
        let client = scope.spawn(|| sql(&spec, "select pg_sleep(30)"));
        wait_for("the client", || {
            sql(&spec, "select 1 from pg_stat_activity where query ~ '^select pg_sleep'") == Ok("1".into())
        });

        let begun = Instant::now();
        fenced.store(true, Ordering::SeqCst);
        assert_eq!(running.join().unwrap(), Ended::Fenced(VolumeEpoch::new(7, WriterId(7))));
        assert!(begun.elapsed() < Duration::from_secs(25), "took {:?}", begun.elapsed());
        let told = client.join().unwrap().unwrap_err();
        assert!(told.contains("terminating connection"), "{told}");
        assert_eq!(health.report().phase, Phase::Fenced);
    });
    assert!(sql(&spec, "select 1").is_err(), "no server answers any more");
}

#[test]
fn a_postgres_that_does_not_stay_up_is_given_up_and_not_retried_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = new_cluster(dir.path());
    spec.settings.push(("shared_buffers".to_owned(), "no such size".to_owned()));
    let health = Arc::new(Health::default());
    let (sender, receiver) = events();
    assert_eq!(supervise(&spec, &health, &sender, receiver, || None).unwrap(), Ended::GaveUp);
    assert_eq!(health.report().restarts, CRASHES_MAX as u64 - 1);
}
