//! Demos of several regions, as a person would start them and move the role.

use crate::common::{Running, processes, wait_until, wait_until_gone};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Asks PostgreSQL of a region of a demo whose regions have these networks.
fn sql(networks: [&str; 2], region: usize, statement: &str) -> Result<String, String> {
    ask(&format!("{}.11", networks[region - 1]), &[statement])
}

/// Runs statements in one session.
fn ask(host: &str, statements: &[&str]) -> Result<String, String> {
    let mut command = Command::new("psql");
    command.args(["-XqAt", "-U", "postgres", "-h", host]).env("PGCONNECT_TIMEOUT", "5");
    for statement in statements {
        command.args(["-c", statement]);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// What a command says, which must succeed.
fn said(demo: &Running, arguments: &[&str]) -> String {
    let output = demo.auriga(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}\n{}", demo.output());
    text
}

/// The roles of both regions, as `status --global --json` has them; empty where one does not answer.
fn roles(demo: &Running) -> [String; 2] {
    let text = said(demo, &["status", "--global", "--json"]);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    [0, 1].map(|index| report["regions"][index]["standing"]["role"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn the_role_moves_between_the_regions_of_a_demo_and_nothing_is_left_behind() {
    let networks = ["127.0.135", "127.0.136"];
    let mut demo = Running::start(networks[0], &["--global", "--wan-ms", "20"]);
    let table = said(&demo, &["status", "--global"]);
    assert!(table.contains("region-1") && table.contains("primary") && table.contains("secondary"), "{table}");
    assert!(table.contains("region-1 – region-2  whole, 20 ms there and back"), "{table}");
    assert!(said(&demo, &["status", "--region", "2"]).contains("region-2"));
    sql(networks, 1, "create table t as select n from generate_series(1, 100) n").unwrap();
    wait_until("the row in the other region", || sql(networks, 2, "select count(*) from t").as_deref() == Ok("100"));
    // Written in the secondary: done in the primary, and seen there and here.
    let written =
        ["insert into t values (0)", "select count(*), pg_is_in_recovery() from t", "delete from t where n = 0"];
    wait_until("a forwarded write", || ask(&format!("{}.34", networks[1]), &written).as_deref() == Ok("101|t"));
    assert_eq!(sql(networks, 1, "select count(*) from t").unwrap(), "100");

    let moved = said(&demo, &["switchover", "--to", "region-2"]);
    assert!(moved.contains("region 2 is the primary") && moved.contains("nothing is lost"), "{moved}");
    wait_until("the new primary's PostgreSQL", || sql(networks, 2, "insert into t values (101)").is_ok());
    assert_eq!(sql(networks, 2, "select count(*) from t").unwrap(), "101");
    wait_until("the row in the first region", || sql(networks, 1, "select max(n) from t").as_deref() == Ok("101"));
    wait_until("both roles", || roles(&demo) == ["Secondary", "Primary"]);
    let done = said(&demo, &["inject", "kill", "2"]);
    assert!(done.contains("done: region-2"), "{done}");

    let failed = said(&demo, &["failover", "--to", "1", "--allow-data-loss"]);
    assert!(failed.contains("region 1 is the primary"), "{failed}");
    wait_until("the first region's PostgreSQL", || sql(networks, 1, "insert into t values (102)").is_ok());
    said(&demo, &["inject", "restart", "region-2"]);
    wait_until("both roles, again", || roles(&demo) == ["Primary", "Secondary"]);
    let lost = said(&demo, &["global", "lost", "--json", "--region", "2"]);
    serde_json::from_str::<Value>(&lost).unwrap_or_else(|error| panic!("{error}: {lost}"));

    a_bound_on_the_lag_makes_commits_wait(&demo, networks);
    let dir = demo.dir();
    assert!(processes(&dir).len() >= 15, "two regions: {:?}", processes(&dir));
    demo.signal(Signal::SIGINT);
    wait_until_gone(&dir);
}

/// With region 1 as the primary: what SQL is told of the secondary, and what `rds.global_db_rpo` does while it is cut off.
fn a_bound_on_the_lag_makes_commits_wait(demo: &Running, networks: [&'static str; 2]) {
    let regions = "select string_agg(aws_region || ' ' || (rpo_lag_in_msec < 0), ', ' order by aws_region) \
                   from aurora_global_db_status()";
    wait_until("both regions in SQL", || sql(networks, 1, regions).as_deref() == Ok("region-1 true, region-2 false"));
    let readers = "select bool_and(visibility_lag_in_msec >= 0) from aurora_global_db_instance_status()";
    wait_until("the reader's lag in SQL", || sql(networks, 2, readers).as_deref() == Ok("t"));
    sql(networks, 1, "alter role all set auriga.global_db_rpo_ms = 500").unwrap();
    let bound = || said(demo, &["status", "--region", "1"]);
    wait_until("the bound", || bound().contains("commits pass: a secondary region must be within 0.5 s"));

    let cut = said(demo, &["inject", "partition", "1-2"]);
    assert!(cut.contains("done: 1-2"), "{cut}");
    assert!(said(demo, &["status"]).contains("region-1 – region-2  CUT"));
    let inserts = Arc::new(AtomicU64::new(0));
    // It ends with this function, however that ends.
    let writing = Arc::downgrade(&inserts);
    std::thread::spawn(move || {
        while writing.strong_count() > 0 {
            let done = sql(networks, 1, "insert into t values (103)");
            if let Some(inserts) = writing.upgrade() {
                inserts.fetch_add(u64::from(done.is_ok()), Relaxed);
            }
        }
    });
    wait_until("commits that wait", || bound().contains("COMMITS WAIT"));
    // One may have been on its way.
    let before = inserts.load(Relaxed);
    assert!(sql(networks, 1, "select count(*) from t").is_ok(), "reads go on");
    let late = "select max(rpo_lag_in_msec) >= 500 from aurora_global_db_status()";
    wait_until("the lag in SQL", || sql(networks, 1, late).as_deref() == Ok("t"));
    std::thread::sleep(Duration::from_secs(2));
    assert!(inserts.load(Relaxed) <= before + 1, "{} commits passed", inserts.load(Relaxed) - before);
    said(demo, &["inject", "heal", "1-2"]);
    wait_until("commits that pass", || inserts.load(Relaxed) > before + 3);
    drop(inserts);
    sql(networks, 1, "alter role all reset auriga.global_db_rpo_ms").unwrap();
    wait_until("no bound", || !bound().contains("rds.global_db_rpo"));
}

#[test]
fn a_demo_of_regions_that_is_kept_goes_on_where_the_role_was() {
    let networks = ["127.0.137", "127.0.138"];
    let keep = tempfile::tempdir().unwrap();
    let dir = keep.path().join("demo");
    let arguments = ["--global", "--wan-ms", "20", "--keep", dir.to_str().unwrap()];
    let mut demo = Running::start(networks[0], &arguments);
    sql(networks, 1, "create table t as select 42 as x").unwrap();
    said(&demo, &["switchover", "--to", "2"]);
    demo.signal(Signal::SIGINT);
    assert!(processes(dir.to_str().unwrap()).is_empty());
    let mut demo = Running::start(networks[0], &arguments);
    assert_eq!(sql(networks, 2, "select x from t").unwrap(), "42");
    assert_eq!(roles(&demo), ["Secondary", "Primary"]);
    demo.signal(Signal::SIGINT);
}
