//! A real PostgreSQL on a mount, through a power cut.

use super::{Mounted, can_mount, mount, volume};
use auriga_volume::MemoryVolume;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A PostgreSQL installation, and the user that it is to run as.
#[derive(Clone)]
pub(super) struct Installation {
    pub(super) programs: PathBuf,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Installation {
    /// The newest one on this machine; says what is missing.
    pub(super) fn find() -> Option<Installation> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let programs =
            versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max();
        let user = nix::unistd::User::from_name("postgres").ok().flatten();
        match (programs, user) {
            (Some(programs), Some(user)) => {
                Some(Installation { programs, uid: user.uid.as_raw(), gid: user.gid.as_raw() })
            }
            (programs, user) => {
                eprintln!(
                    "SKIPPED: needs PostgreSQL (found {programs:?}) and its user (found {:?})",
                    user.map(|u| u.name)
                );
                None
            }
        }
    }

    pub(super) fn command(&self, program: &str) -> Command {
        self.command_within(50, program)
    }

    pub(super) fn command_within(&self, seconds: u32, program: &str) -> Command {
        let mut command = Command::new("timeout");
        command.arg(seconds.to_string()).arg(self.programs.join(program));
        command.uid(self.uid).gid(self.gid).stdin(Stdio::null()).current_dir("/");
        command
    }
}

pub(super) fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("started");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// A server whose data directory is on a mount; ended, at the latest, when dropped.
struct Server {
    installation: Installation,
    data: PathBuf,
    sockets: TempDir,
    _mounted: Mounted,
}

impl Server {
    fn new(installation: &Installation, volume: &Arc<MemoryVolume>) -> Server {
        let mounted = mount(volume);
        let sockets = tempfile::Builder::new().prefix("pagefs-").tempdir().expect("a temporary directory");
        std::os::unix::fs::chown(sockets.path(), Some(installation.uid), None).expect("given away");
        let data = mounted.path().join("data");
        Server { installation: installation.clone(), data, sockets, _mounted: mounted }
    }

    fn init(&self) {
        std::fs::create_dir(&self.data).expect("made");
        std::os::unix::fs::chown(&self.data, Some(self.installation.uid), None).expect("given away");
        let arguments = ["--auth=trust", "--no-locale", "--encoding=UTF8", "--pgdata"];
        succeed(self.installation.command("initdb").args(arguments).arg(&self.data));
    }

    fn control(&self, action: &str) {
        let settings = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}' -c full_page_writes=off -c wal_recycle=off \
             -c wal_init_zero=off -c shared_buffers=64MB -c max_wal_size=64MB",
            self.sockets.path().display()
        );
        let mut command = self.installation.command("pg_ctl");
        command.args([action, "--wait", "--silent", "--options", &settings, "--pgdata"]).arg(&self.data);
        succeed(command.arg("--log").arg(self.log()).stdout(Stdio::null()));
    }

    fn log(&self) -> PathBuf {
        self.sockets.path().join("log")
    }

    fn client(&self, program: &str) -> Command {
        let mut command = self.installation.command(program);
        command.arg("--host").arg(self.sockets.path()).arg("--username=postgres");
        command
    }

    fn query(&self, sql: &str) -> String {
        let output = succeed(self.client("psql").args(["--no-psqlrc", "-AtX", "--command", sql, "postgres"]));
        output.trim().to_owned()
    }

    /// Runs the TPC-B-like load; answers how many transactions were acknowledged.
    fn load(&self, seconds: u32) -> u64 {
        let seconds = format!("--time={seconds}");
        let report =
            succeed(self.client("pgbench").args(["--client=8", "--jobs=2", &seconds, "--no-vacuum", "postgres"]));
        let line = report.lines().find(|line| line.contains("actually processed")).expect("pgbench counts");
        eprintln!("{}", report.lines().filter(|line| line.contains("tps")).collect::<String>());
        line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number")
    }

    /// Every index agrees with its table, and the four tables with each other; answers the rows of history.
    fn check(&self) -> u64 {
        succeed(self.client("pg_amcheck").args(["--install-missing", "--heapallindexed", "postgres"]));
        let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(tbalance) FROM pgbench_tellers) \
                    AND (SELECT sum(bbalance) FROM pgbench_branches) = coalesce((SELECT sum(delta) FROM pgbench_history), 0) \
                    AND (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)";
        assert_eq!(self.query(sums), "t", "the balances disagree");
        self.query("SELECT count(*) FROM pgbench_history").parse().expect("a count")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.data.join("postmaster.pid").exists() {
            let mut stop = self.installation.command("pg_ctl");
            let stop =
                stop.args(["stop", "--mode=immediate", "--silent", "--wait", "--pgdata"]).arg(&self.data).status();
            eprintln!("stopped a server: {stop:?}");
        }
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.log()).unwrap_or_default());
        }
    }
}

/// What a power cut leaves: a server that recovers from the log as it was at VDL.
fn recovered(installation: &Installation, volume: &MemoryVolume) -> (Server, Arc<MemoryVolume>) {
    use auriga_volume::Volume;
    let volume = Arc::new(volume.crash_at(volume.vdl()));
    let server = Server::new(installation, &volume);
    let _ = std::fs::remove_file(server.data.join("postmaster.pid"));
    server.control("start");
    (server, volume)
}

#[test]
fn postgresql_runs_restarts_and_survives_power_cuts() {
    let Some(installation) = Installation::find().filter(|_| can_mount()) else { return };
    let volume = volume(Duration::from_micros(300));
    let server = Server::new(&installation, &volume);
    server.init();
    server.control("start");
    succeed(server.client("pgbench").args(["--initialize", "--scale=2", "--quiet", "postgres"]));
    let mut acknowledged = server.load(2);
    assert_eq!(server.check(), acknowledged);
    server.control("restart");
    assert_eq!(server.check(), acknowledged, "after a restart");

    // A power cut in the middle of the load, seen by a second server, while the first goes on.
    std::thread::scope(|scope| {
        let load = scope.spawn(|| server.load(3));
        std::thread::sleep(Duration::from_millis(1500));
        let (other, _volume) = recovered(&installation, &volume);
        assert!(other.check() > acknowledged, "it has what was committed by then");
        drop(other);
        acknowledged += load.join().expect("the load ends");
    });

    // And one right after the last acknowledgement: nothing acknowledged is lost.
    let (after, volume) = recovered(&installation, &volume);
    assert_eq!(after.check(), acknowledged);
    drop((after, volume));
}
