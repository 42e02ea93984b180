//! Whole demos, as a person would start them. They need root, /dev/fuse and PostgreSQL, and say so where one is missing.

use crate::common::{AURIGA, Running, processes, wait_until_gone};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_demo_killed_with_sigkill_leaves_no_process_and_no_file() {
    let mut demo = Running::start("127.0.101", &[]);
    assert_eq!(demo.sql("select 1").unwrap(), "1");
    let dir = demo.dir();
    assert!(processes(&dir).len() >= 8, "six storage processes, an instance, postgres: {:?}", processes(&dir));
    // A frozen process can't react to anything: the kernel must end it.
    assert!(demo.auriga(&["inject", "freeze", "writer"]).status.success());
    demo.signal(Signal::SIGKILL);
    wait_until_gone(&dir);
}

#[test]
fn a_demo_that_is_kept_goes_on_where_it_was() {
    let keep = tempfile::tempdir().unwrap();
    let dir = keep.path().join("demo");
    let arguments = ["--keep", dir.to_str().unwrap()];
    let mut demo = Running::start("127.0.102", &arguments);
    demo.sql("create table t as select 42 as x").unwrap();
    demo.signal(Signal::SIGINT);
    assert!(processes(dir.to_str().unwrap()).is_empty());
    let mut demo = Running::start("127.0.102", &arguments);
    assert_eq!(demo.sql("select x from t").unwrap(), "42");
    demo.signal(Signal::SIGINT);
}

#[test]
fn status_and_inject_reach_a_running_demo() {
    let mut demo = Running::start("127.0.103", &[]);
    let kill = demo.auriga(&["inject", "kill", "az-b"]);
    assert!(kill.status.success(), "{kill:?}");
    demo.sql("create table t as select 1 as x").unwrap();
    let status = demo.auriga(&["status"]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(text.matches("DOWN").count(), 2, "{text}");
    assert!(text.contains("127.0.103.11:5432  ready") && text.contains("volume epoch e1"), "{text}");
    let json = demo.auriga(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["storage"].as_array().unwrap().len(), 6);
    assert!(json["rates"]["transactions"].is_number(), "{json}");

    assert!(demo.auriga(&["inject", "restart", "writer"]).status.success());
    let deadline = Instant::now() + Duration::from_secs(300);
    while demo.sql("select x from t").as_deref() != Ok("1") {
        assert!(Instant::now() < deadline, "the instance never came back");
        std::thread::sleep(Duration::from_millis(100));
    }
    let unknown = demo.auriga(&["inject", "kill", "d1"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there are: a1, a2"), "{unknown:?}");
    demo.signal(Signal::SIGINT);
}

#[test]
fn an_instance_cut_off_from_storage_commits_when_it_is_healed_and_not_before() {
    let mut demo = Running::start("127.0.105", &[]);
    demo.sql("create table t (x int)").unwrap();
    assert!(demo.auriga(&["inject", "partition", "writer"]).status.success());
    let host = format!("{}.11", demo.network);
    let mut waiting = Command::new("psql")
        .args(["-XqAt", "-U", "postgres", "-h", &host, "-c", "insert into t values (1)"])
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(waiting.try_wait().unwrap().is_none(), "no quorum, and yet an answer");
    assert!(demo.auriga(&["inject", "heal", "writer"]).status.success());
    assert!(waiting.wait().unwrap().success());
    assert_eq!(demo.sql("select x from t").unwrap(), "1");
    demo.signal(Signal::SIGINT);
}

#[test]
fn an_instance_that_crashes_comes_back_by_itself() {
    let mut demo = Running::start("127.0.106", &[]);
    demo.sql("create table t as select 7 as x").unwrap();
    let status = demo.auriga(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let pid = status["instances"][0]["member"]["pid"].as_i64().unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(300);
    while !demo.output().contains("starting it again") || demo.sql("select x from t").as_deref() != Ok("7") {
        assert!(Instant::now() < deadline, "{}", demo.output());
        std::thread::sleep(Duration::from_millis(100));
    }
    demo.signal(Signal::SIGINT);
}

#[test]
fn what_is_missing_is_named_before_anything_is_started() {
    let taken = std::net::TcpListener::bind("127.0.104.11:5432").unwrap();
    let output =
        Command::new(AURIGA).args(["demo", "--network", "127.0.104", "--pg-bin", "/nonexistent"]).output().unwrap();
    drop(taken);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(told.contains("no usable PostgreSQL in /nonexistent"), "{told}");
    assert!(told.contains("127.0.104.11:5432 is in use"), "{told}");
}
