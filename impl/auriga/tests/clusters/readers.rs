//! A reader in a whole demo: a hot standby on the writer's volume, over real storage processes.

use crate::common::{Running, ask, children, pids, wait_until, wait_until_gone};
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
    let mut demo = Running::start("127.0.122", &["--readers", "1"]);
    let dir = demo.dir();
    assert!(demo.output().contains("psql -h 127.0.122.12 "), "{}", demo.output());
    demo.sql("create table t as select generate_series(1, 1000) as x").unwrap();
    wait_for_rows(&demo, "1000");
    let refused = ask(&demo, READER, "insert into t values (0)").unwrap_err();
    assert!(refused.contains("25006"), "{refused}");

    let (reader, followers) = status(&demo);
    assert!(followers > 0 && reader["status"]["role"] == "reader", "{followers}, {reader}");
    assert!(reader["status"]["reader"]["lets_clients_in"].as_bool().unwrap(), "{reader}");
    let shown = String::from_utf8_lossy(&demo.auriga(&["status"]).stdout).into_owned();
    assert!(shown.contains("127.0.122.12:5432  ready  follows the writer of volume epoch"), "{shown}");
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
    let mut demo = Running::start("127.0.123", &["--readers", "1"]);
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

/// The postmaster of the first reader.
fn postmaster(dir: &str) -> i32 {
    let found = pids(&format!("/postgres -D {dir}/instances/reader-1"));
    assert_eq!(found.len(), 1, "one postmaster of reader-1: {found:?}");
    found[0]
}

/// What PostgreSQL of the first reader has said that it must never say.
fn panics(dir: &str) -> Vec<String> {
    let log = std::fs::read_to_string(format!("{dir}/logs/reader-1-postgres.log")).unwrap();
    let wrong = ["PANIC", "invalid page", "could not open file", "could not read", "could not access"];
    log.lines().filter(|line| wrong.iter().any(|wrong| line.contains(wrong))).map(str::to_owned).collect()
}

/// R-READER-FS-15: it never replays again over files that are further.
#[test]
fn a_reader_whose_postgresql_alone_is_killed_begins_anew() {
    let mut demo = Running::start("127.0.121", &["--readers", "1"]);
    let dir = demo.dir();
    demo.sql("create table t as select generate_series(1, 1000) as x").unwrap();
    wait_for_rows(&demo, "1000");
    let pid = status(&demo).0["member"]["pid"].as_i64();
    let mut rows = 1000;
    for (round, whole) in [(1, true), (2, false)] {
        // Files that its WAL names and the volume does not have any more, and one restart point at least in between.
        for number in 0..5 {
            let made = format!(
                "create table u as select generate_series(1, 5000) as x; create index on u(x); insert into t values ({number})"
            );
            demo.sql(&made).unwrap();
            demo.sql("checkpoint").unwrap();
            demo.sql("update u set x = -x; truncate u; insert into u values (1); drop table u").unwrap();
            rows += 1;
        }
        demo.sql("checkpoint").unwrap();
        wait_for_rows(&demo, &rows.to_string());
        let server = postmaster(&dir);
        let victim = match whole {
            true => server,
            false => {
                let parts = children(server);
                let part = parts.iter().find(|(_, called)| called.contains("checkpointer"));
                part.unwrap_or_else(|| panic!("no checkpointer: {parts:?}")).0
            }
        };
        kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
        wait_until("it begins anew", || begun_again(&dir) == round);
        demo.sql("insert into t values (-1)").unwrap();
        rows += 1;
        wait_for_rows(&demo, &rows.to_string());
        assert_ne!(postmaster(&dir), server);
        assert_eq!(status(&demo).0["member"]["pid"].as_i64(), pid, "it is the same process");
    }
    assert_eq!(panics(&dir), Vec::<String>::new());
    demo.signal(Signal::SIGINT);
    wait_until_gone(&dir);
}
