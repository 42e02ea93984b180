//! What operators do with directories, on whole demos. They need root, /dev/fuse and PostgreSQL.

use crate::common::{AURIGA, Running, processes};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Polls until `done` answers something.
fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: it never happened");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn status(demo: &Running) -> String {
    String::from_utf8_lossy(&demo.auriga(&["status"]).stdout).into_owned()
}

fn inject(demo: &Running, action: &str, target: &str) {
    let output = demo.auriga(&["inject", action, target]);
    assert!(output.status.success(), "{output:?}");
}

fn storage(demo: &Running, name: &str) -> PathBuf {
    Path::new(&demo.dir()).join("storage").join(name)
}

/// The state of the process in each row of the status that begins with its name.
fn state(status: &str, name: &str) -> Option<String> {
    let words: Vec<Vec<&str>> = status.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = words.iter().find(|words| words.get(2) == Some(&name))?;
    row.get(3).map(|state| (*state).to_owned())
}

fn wait_until_up(demo: &Running, names: &[&str]) {
    wait_for("all are up", || {
        let status = status(demo);
        names.iter().all(|name| state(&status, name).as_deref() == Some("up")).then_some(())
    });
}

#[test]
fn a_lost_directory_comes_back_and_nothing_is_made_over_what_exists() {
    let mut demo = Running::start("127.0.111", &[]);
    demo.sql("create table t as select generate_series(1, 1000) as x").unwrap();
    let config = format!("{}/config/writer.toml", demo.dir());
    let created = Command::new(AURIGA).args(["create-volume", "--config", &config]).output().unwrap();
    let said = String::from_utf8_lossy(&created.stderr).into_owned();
    assert!(!created.status.success() && said.contains("volume 1 exists already"), "{said}");
    // Two of one AZ lose everything.
    inject(&demo, "kill", "az-c");
    for name in ["c1", "c2"] {
        std::fs::remove_dir_all(storage(&demo, name)).unwrap();
    }
    demo.sql("insert into t values (1001)").unwrap();
    inject(&demo, "restart", "az-c");
    wait_until_up(&demo, &["c1", "c2"]);
    // Now the quorum rests on them.
    inject(&demo, "kill", "az-a");
    demo.sql("insert into t values (1002)").unwrap();
    assert_eq!(demo.sql("select count(*) from t").unwrap(), "1002");
    let refused = Command::new(AURIGA).args(["create-volume", "--config", &config]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("nothing was made") && said.contains("127.0.111.1:7400"), "{said}");
    demo.signal(Signal::SIGINT);
}

#[test]
fn a_store_that_is_refused_is_named_set_aside_and_rebuilt() {
    let keep = tempfile::tempdir().unwrap();
    let dir = keep.path().join("demo");
    let arguments = ["--keep", dir.to_str().unwrap()];
    let mut demo = Running::start("127.0.112", &arguments);
    demo.sql("create table t as select 42 as x").unwrap();
    let config = format!("{}/config/b2.toml", demo.dir());
    let set_aside = || {
        let output = Command::new(AURIGA).args(["set-aside", "--config", &config]).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (moved, said) = set_aside();
    assert!(!moved && said.contains("is in use"), "{said}");
    demo.signal(Signal::SIGINT);
    std::fs::remove_dir_all(dir.join("storage/b2/journal")).unwrap();
    // The demo starts with five.
    let mut demo = Running::start("127.0.112", &arguments);
    assert!(demo.output().contains("b2 refuses its store"), "{}", demo.output());
    assert_eq!(demo.sql("select x from t").unwrap(), "42");
    let seen = status(&demo);
    assert_eq!(state(&seen, "b2").as_deref(), Some("refused"), "{seen}");
    assert!(seen.contains("b2: refused: ") && seen.contains("set-aside"), "{seen}");
    // The process that refuses does not hold the store: it finds the empty place by itself.
    let (moved, said) = set_aside();
    assert!(moved && said.contains("moved "), "{said}");
    wait_until_up(&demo, &["b2"]);
    inject(&demo, "kill", "b2");
    let (moved, said) = set_aside();
    assert!(!moved && said.contains("the store is sound"), "{said}");
    demo.signal(Signal::SIGINT);
}

#[test]
fn directories_of_another_cluster_are_refused_by_name_and_ours_are_whole_when_put_back() {
    let keep = tempfile::tempdir().unwrap();
    let (ours, theirs) = (keep.path().join("ours"), keep.path().join("theirs"));
    for (dir, value) in [(&theirs, "2"), (&ours, "1")] {
        let mut demo = Running::start("127.0.113", &["--keep", dir.to_str().unwrap()]);
        demo.sql(&format!("create table t as select {value} as x")).unwrap();
        demo.signal(Signal::SIGINT);
    }
    let mut demo = Running::start("127.0.113", &["--keep", ours.to_str().unwrap()]);
    inject(&demo, "kill", "az-b");
    for name in ["b1", "b2"] {
        std::fs::rename(ours.join("storage").join(name), ours.join(format!("{name}.ours"))).unwrap();
        std::fs::rename(theirs.join("storage").join(name), ours.join("storage").join(name)).unwrap();
    }
    inject(&demo, "restart", "az-b");
    let seen = wait_for("both are named", || {
        let seen = status(&demo);
        (seen.matches("which is another cluster's").count() == 2).then_some(seen)
    });
    assert_eq!(state(&seen, "b1").as_deref(), Some("refused"), "{seen}");
    demo.sql("insert into t values (3)").unwrap();
    // A new instance does not take them for ours either.
    inject(&demo, "restart", "writer");
    wait_for("the instance is back", || demo.sql("select string_agg(x::text, ',' order by x) from t").ok())
        .split(',')
        .zip(["1", "3"])
        .for_each(|(found, expected)| assert_eq!(found, expected));
    inject(&demo, "kill", "az-b");
    for name in ["b1", "b2"] {
        std::fs::rename(ours.join("storage").join(name), theirs.join("storage").join(name)).unwrap();
        std::fs::rename(ours.join(format!("{name}.ours")), ours.join("storage").join(name)).unwrap();
    }
    inject(&demo, "restart", "az-b");
    wait_until_up(&demo, &["b1", "b2"]);
    inject(&demo, "kill", "az-c");
    demo.sql("insert into t values (4)").unwrap();
    assert_eq!(demo.sql("select count(*) from t").unwrap(), "3");
    demo.signal(Signal::SIGINT);
}

#[test]
fn a_kept_demo_starts_again_after_sigkill_also_from_a_relative_path() {
    let keep = tempfile::tempdir().unwrap();
    let mut demo = Running::start_in(keep.path(), "127.0.114", &["--keep", "mydata"]);
    demo.sql("create table t as select 7 as x").unwrap();
    let dir = demo.dir();
    assert!(Path::new(&dir).is_absolute(), "{dir}");
    demo.signal(Signal::SIGKILL);
    wait_for("its processes are gone", || processes(&dir).is_empty().then_some(()));
    let mut demo = Running::start_in(keep.path(), "127.0.114", &["--keep", "mydata"]);
    assert_eq!(demo.sql("select x from t").unwrap(), "7");
    demo.signal(Signal::SIGINT);
}
