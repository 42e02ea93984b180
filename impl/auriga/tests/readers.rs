//! A reader in a whole demo: a hot standby on the writer's volume, over real storage processes.

mod common;

use common::{Running, ask, wait_until, wait_until_gone};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where the first reader is.
const READER: u8 = 12;

/// Waits until the reader shows this many rows.
fn wait_for_rows(demo: &Running, rows: &str) {
    wait_until(&format!("{rows} rows on the reader"), || {
        ask(demo, READER, "select count(*) from t").as_deref() == Ok(rows)
    });
}

/// What `status` says of the reader, and how many readers the writer has.
fn status(demo: &Running) -> (serde_json::Value, usize) {
    let output = demo.auriga(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let instances = status["instances"].as_array().unwrap();
    let named = |name: &str| instances.iter().find(|instance| instance["member"]["name"] == name).unwrap();
    let followers = named("writer")["status"]["followers"].as_array().map_or(0, Vec::len);
    (named("reader-1").clone(), followers)
}

#[test]
fn a_reader_shows_what_the_writer_commits_whichever_of_them_is_killed() {
    let mut demo = Running::start("127.0.119", &["--readers", "1"]);
    let dir = demo.dir();
    assert!(demo.output().contains("psql -h 127.0.119.12 "), "{}", demo.output());
    demo.sql("create table t as select generate_series(1, 1000) as x").unwrap();
    wait_for_rows(&demo, "1000");
    let refused = ask(&demo, READER, "insert into t values (0)").unwrap_err();
    assert!(refused.contains("25006"), "{refused}");

    let (reader, followers) = status(&demo);
    assert!(followers > 0 && reader["status"]["role"] == "reader", "{followers}, {reader}");
    assert!(reader["status"]["reader"]["lets_clients_in"].as_bool().unwrap(), "{reader}");
    let shown = String::from_utf8_lossy(&demo.auriga(&["status"]).stdout).into_owned();
    assert!(shown.contains("127.0.119.12:5432  ready  follows the writer of volume epoch"), "{shown}");
    assert!(shown.contains("is kept)"), "{shown}");

    // A crash of the reader: the demo starts it again.
    let pid = reader["member"]["pid"].as_i64().unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    demo.sql("insert into t values (1001)").unwrap();
    wait_until("the reader's new process", || {
        let now = status(&demo).0["member"]["pid"].as_i64();
        now.is_some_and(|now| now != pid)
    });
    wait_for_rows(&demo, "1001");

    // A crash of the writer: the reader's process goes on.
    let pid = status(&demo).0["member"]["pid"].as_i64();
    assert!(demo.auriga(&["inject", "restart", "writer"]).status.success());
    wait_for_rows(&demo, "1001");
    wait_until("the writer", || demo.sql("insert into t values (1002)").is_ok());
    wait_for_rows(&demo, "1002");
    assert_eq!(status(&demo).0["member"]["pid"].as_i64(), pid);
    demo.sql("truncate t").unwrap();
    wait_for_rows(&demo, "0");
    demo.signal(Signal::SIGINT);
    wait_until_gone(&dir);
}

/// The number of times that the reader has begun again.
fn begun_again(dir: &str) -> usize {
    let log = std::fs::read_to_string(format!("{dir}/logs/reader-1.log")).unwrap();
    log.lines().filter(|line| line.contains("it begins again")).count()
}

#[test]
fn a_reader_that_was_silent_too_long_is_dropped_and_begins_again_by_itself() {
    let mut demo = Running::start("127.0.101", &["--readers", "1"]);
    let dir = demo.dir();
    demo.sql("create table t as select generate_series(1, 1000) as x").unwrap();
    wait_for_rows(&demo, "1000");
    let pid = status(&demo).0["member"]["pid"].as_i64();
    assert!(demo.auriga(&["inject", "freeze", "reader-1"]).status.success());
    wait_until("the writer drops it", || status(&demo).1 == 0);
    demo.sql("insert into t values (1001)").unwrap();
    assert!(demo.auriga(&["inject", "resume", "reader-1"]).status.success());
    wait_until("it finds out", || begun_again(&dir) == 1);
    wait_for_rows(&demo, "1001");
    let (reader, followers) = status(&demo);
    assert_eq!((reader["member"]["pid"].as_i64(), followers), (pid, 1), "it is the same process");
    assert!(reader["status"]["lag_ms"].is_u64(), "{reader}");
    demo.signal(Signal::SIGINT);
    wait_until_gone(&dir);
}
