//! Instances that change their roles, in whole demos: promoted while clients write, frozen, without a quorum, demoted.
//!
//! The demo's processes write traces, which are judged at its end.

use crate::common::{Running, wait_until, wait_until_gone};
use auriga_admin::config::TlsConfig;
use auriga_admin::instance::{self, HttpError};
use auriga_admin::trust;
use auriga_instance::node::{InstanceRole, InstanceStatus};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::Duration;

/// The last bytes of the instances' addresses: the first writer, and the readers.
const WRITER: u8 = 11;
const READER_1: u8 = 12;
const READER_2: u8 = 13;
/// How long an instance may take to answer, and to change its role.
const PATIENCE: Duration = Duration::from_secs(100);

fn psql(demo: &Running, host: u8) -> Command {
    // What is asked of a frozen server is not answered.
    let mut command = Command::new("timeout");
    command.args([
        "60",
        "psql",
        "-XqAt",
        "-U",
        "postgres",
        "-v",
        "VERBOSITY=verbose",
        "-h",
        &format!("{}.{host}", demo.network),
    ]);
    command.env("PGCONNECT_TIMEOUT", "5").stdin(Stdio::null());
    command
}

/// Asks an instance by the last byte of its address. Errors name their SQLSTATE.
fn ask(demo: &Running, host: u8, statement: &str) -> Result<String, String> {
    let output = psql(demo, host).args(["-c", statement]).output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A client that stays.
struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    fn begin(demo: &Running, host: u8) -> Session {
        let piped = Stdio::piped;
        let mut child = psql(demo, host).stdin(piped()).stdout(piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Session { child, input, output }
    }

    /// One row of one column; `None`: an error, or the session is over.
    fn ask(&mut self, query: &str) -> Option<String> {
        self.tell(query);
        self.answer()
    }

    fn tell(&mut self, query: &str) {
        let _ = writeln!(self.input, "{query};\n\\echo end");
    }

    fn answer(&mut self) -> Option<String> {
        let mut row = None;
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim() {
                "end" => return row,
                other => row = Some(other.to_owned()),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks and tells the instances of a demo, as its administrator.
struct Admin {
    runtime: tokio::runtime::Runtime,
    access: auriga_net::admin::Access,
    network: &'static str,
}

impl Admin {
    fn of(demo: &Running) -> Admin {
        let file = |name: &str| Path::new(&demo.dir()).join("certificates").join(name);
        let tls = TlsConfig { ca: file("ca.crt"), cert: file("admin.crt"), key: file("admin.key") };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Admin { runtime, access: trust::access("demo", Some(&tls)).unwrap(), network: demo.network }
    }

    fn at(&self, host: u8) -> SocketAddr {
        format!("{}.{host}:7401", self.network).parse().unwrap()
    }

    fn status(&self, host: u8) -> Result<InstanceStatus, HttpError> {
        self.runtime.block_on(instance::status(self.at(host), &self.access, PATIENCE))
    }

    fn promote(&self, host: u8) -> Result<InstanceStatus, HttpError> {
        self.runtime.block_on(instance::promote(self.at(host), &self.access, PATIENCE))
    }

    fn demote(&self, host: u8) -> Result<InstanceStatus, HttpError> {
        self.runtime.block_on(instance::demote(self.at(host), &self.access, PATIENCE))
    }

    fn wait_for(&self, host: u8, what: &str, is_so: impl Fn(&InstanceStatus) -> bool) {
        wait_until(what, || self.status(host).is_ok_and(|status| is_so(&status)));
    }

    fn wait_for_reader(&self, host: u8) {
        self.wait_for(host, "a reader that lets clients in", |status| {
            status.role == InstanceRole::Reader && status.reader.is_some_and(|reader| reader.lets_clients_in)
        });
    }
}

/// Writes rows on whichever instance takes them, until the scope ends.
struct Load {
    stop: AtomicBool,
    acknowledged: Mutex<BTreeSet<i64>>,
    next: AtomicI64,
}

impl Load {
    fn new() -> Load {
        Load { stop: AtomicBool::new(false), acknowledged: Mutex::default(), next: AtomicI64::new(1) }
    }

    fn run(&self, demo: &Running, hosts: &[u8]) {
        let mut at = 0;
        while !self.stop.load(SeqCst) {
            let number = self.next.fetch_add(1, SeqCst);
            let insert = format!("insert into ledger values ({number})");
            // What a client gives up may be committed all the same.
            let output = psql(demo, hosts[at]).args(["-c", &insert]).output().unwrap();
            match output.status.success() {
                true => drop(self.acknowledged.lock().unwrap().insert(number)),
                false => at = (at + 1) % hosts.len(),
            }
        }
    }

    /// Waits for some more commits.
    fn goes_on(&self) {
        let so_far = self.acknowledged.lock().unwrap().len();
        wait_until("commits", || self.acknowledged.lock().unwrap().len() > so_far + 5);
    }

    /// Whether an instance has every row that was acknowledged.
    fn is_whole(&self, demo: &Running, host: u8) -> bool {
        let Ok(rows) = ask(demo, host, "select n from ledger") else { return false };
        let there: BTreeSet<i64> = rows.lines().map(|row| row.parse().unwrap()).collect();
        self.acknowledged.lock().unwrap().is_subset(&there)
    }
}

/// Ends a load when a test fails, or the scope would wait for it.
struct Ending<'a>(&'a Load);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, SeqCst);
    }
}

fn end(mut demo: Running) {
    let dir = demo.dir();
    for name in ["writer", "reader-1"] {
        let log = std::fs::read_to_string(Path::new(&dir).join(format!("logs/{name}.log"))).unwrap();
        assert!(!log.contains("the mount was in use"), "a standby's process was left behind, and waited for: {log}");
    }
    let status = demo.signal(Signal::SIGINT);
    assert!(status.success(), "the traces are judged: {}", demo.output());
    wait_until_gone(&dir);
}

/// Any instance says what a gateway needs that forwards writes of a user with a password.
fn verifiers_are_told(demo: &Running, admin: &Admin) {
    ask(demo, WRITER, "create user \"o'neil\" password 'secret'").unwrap();
    let told = |host, user: &str| {
        let asked = instance::verifier(admin.at(host), &admin.access, user.as_bytes(), PATIENCE);
        admin.runtime.block_on(asked).unwrap()
    };
    let verifier = told(WRITER, "o'neil").expect("a verifier");
    assert!(verifier.starts_with("SCRAM-SHA-256$"), "{verifier}");
    wait_until("the user on a reader", || told(READER_1, "o'neil").as_ref() == Some(&verifier));
    assert_eq!((told(WRITER, "postgres"), told(WRITER, "nobody")), (None, None));
}

#[test]
fn a_reader_takes_over_while_clients_write_and_the_others_go_on() {
    let demo = Running::start("127.0.81", &["--readers", "2", "--trace"]);
    let admin = Admin::of(&demo);
    ask(&demo, WRITER, "create table ledger (n bigint primary key)").unwrap();
    let first = admin.status(WRITER).unwrap();
    assert_eq!((first.role, first.az.as_str(), first.tier), (InstanceRole::Writer, "a", 1));
    verifiers_are_told(&demo, &admin);
    let mut reading = Session::begin(&demo, READER_2);
    let pid = reading.ask("select pg_backend_pid()").expect("a session");
    let load = Load::new();
    std::thread::scope(|scope| {
        let _ending = Ending(&load);
        scope.spawn(|| load.run(&demo, &[WRITER, READER_1, READER_2]));
        load.goes_on();
        let promoted = admin.promote(READER_1).unwrap();
        assert_eq!((promoted.role, promoted.turn), (InstanceRole::Writer, None));
        assert!(promoted.volume_epoch > first.volume_epoch);
        assert_eq!(promoted.transitions.last().unwrap().role, InstanceRole::Writer);
        load.goes_on();
        // To ask for what is so already changes nothing.
        assert_eq!(admin.promote(READER_1).unwrap().volume_epoch, promoted.volume_epoch);
        admin.wait_for_reader(WRITER);
        assert!(ask(&demo, WRITER, "insert into ledger values (0)").unwrap_err().contains("25006"));
        assert_eq!(admin.status(WRITER).unwrap().volume_epoch, promoted.volume_epoch);
        assert!(admin.status(READER_2).unwrap().writer_heard_ms.is_some());
        load.goes_on();

        // A planned change: the writer ends in order, and nobody writes until another one is told to.
        let demoted = admin.demote(READER_1).unwrap();
        assert_eq!(demoted.role, InstanceRole::Reader);
        assert_eq!(admin.demote(READER_1).unwrap().role, InstanceRole::Reader, "again");
        admin.promote(WRITER).unwrap();
        load.goes_on();
        admin.wait_for_reader(READER_1);
    });
    for host in [WRITER, READER_1, READER_2] {
        wait_until("the whole ledger", || load.is_whole(&demo, host));
    }
    assert_eq!(reading.ask("select pg_backend_pid()"), Some(pid), "the session has lived on");
    drop(reading);
    end(demo);
}

#[test]
fn a_frozen_writer_comes_back_as_a_reader_and_without_a_quorum_nobody_is_promoted() {
    let demo = Running::start("127.0.82", &["--readers", "1", "--trace"]);
    let admin = Admin::of(&demo);
    let inject = |words: &[&str]| assert!(demo.auriga(&[&["inject"], words].concat()).status.success(), "{words:?}");
    ask(&demo, WRITER, "create table ledger (n bigint primary key)").unwrap();
    let load = Load::new();
    std::thread::scope(|scope| {
        let _ending = Ending(&load);
        scope.spawn(|| load.run(&demo, &[WRITER, READER_1]));
        load.goes_on();
        let mut writing = Session::begin(&demo, WRITER);
        assert_eq!(writing.ask("select 1").as_deref(), Some("1"));
        inject(&["freeze", "writer"]);
        writing.tell("insert into ledger values (-1) returning n");
        admin.promote(READER_1).unwrap();
        load.goes_on();
        inject(&["resume", "writer"]);
        assert_eq!(writing.answer(), None, "the client of the old writer is told an error");
        admin.wait_for_reader(WRITER);
        load.goes_on();
    });
    for host in [WRITER, READER_1] {
        wait_until("the whole ledger", || load.is_whole(&demo, host));
        assert_eq!(ask(&demo, host, "select count(*) from ledger where n < 0").unwrap(), "0");
    }

    let pid = ask(&demo, WRITER, "select pg_postmaster_start_time()").unwrap();
    ["a1", "b1", "c1"].iter().for_each(|name| inject(&["kill", name]));
    let refused = admin.promote(WRITER).unwrap_err();
    assert!(refused.to_string().contains("could not be recovered within"), "{refused}");
    let status = admin.status(WRITER).unwrap();
    assert_eq!((status.role, status.turn), (InstanceRole::Reader, None));
    assert_eq!(ask(&demo, WRITER, "select pg_postmaster_start_time()").unwrap(), pid, "it was not disturbed");
    ["a1", "b1", "c1"].iter().for_each(|name| inject(&["restart", name]));
    admin.promote(WRITER).unwrap();
    ask(&demo, WRITER, "insert into ledger values (-2)").unwrap();
    assert!(load.is_whole(&demo, WRITER));
    end(demo);
}
