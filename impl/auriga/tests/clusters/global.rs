//! The global database with PostgreSQL on the primary: the role moves, and what is lost is named, and opened.

use crate::common::regions::{Kind, Process, World, auriga, text};
use crate::common::wait_until;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

/// Each region's loopback network.
const NETWORKS: [&str; 2] = ["127.0.133", "127.0.134"];
/// Where a snapshot is opened.
const SNAPSHOT: &str = "127.0.134.31";
/// Sessions that write what is lost.
const CLIENTS: usize = 3;
/// Transactions that are in a database.
const LEDGER: &str = "select xid from ledger";

impl World {
    /// Opens what a region has lost, and waits until PostgreSQL answers there.
    fn open_snapshot(&self, region: usize) -> Process {
        let (file, directory) = (self.file(region, "region.toml"), self.file(region, "snapshot"));
        let options = ["--lost", "--config", &file, "--directory", &directory, "--listen", SNAPSHOT, "--port", "5432"];
        let process = Process::start(&[&["open-snapshot"][..], &options].concat(), &self.path(region, "snapshot.log"));
        wait_until("PostgreSQL on the snapshot", || ask(SNAPSHOT, "select 1").is_ok());
        process
    }
}

fn sql(region: usize, statement: &str) -> Result<String, String> {
    ask(&format!("{}.11", NETWORKS[region - 1]), statement)
}

fn ask(host: &str, statement: &str) -> Result<String, String> {
    let mut command = Command::new("psql");
    command.args(["-XqAt", "-U", "postgres", "-h", host, "-c", statement]).env("PGCONNECT_TIMEOUT", "5");
    let output = command.stdin(Stdio::null()).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(text(&output))
    }
}

/// A session that commits to region 2's ledger, one transaction after the other, until it fails.
struct Client(JoinHandle<Vec<u64>>);

impl Client {
    fn start(_: usize) -> Client {
        Client(std::thread::spawn(|| {
            let insert = "insert into ledger values (pg_current_xact_id()) returning xid";
            std::iter::from_fn(|| sql(2, insert).ok()?.parse().ok()).collect()
        }))
    }

    /// Waits until it has failed. Returns what was acknowledged to it.
    fn end(self) -> Vec<u64> {
        self.0.join().unwrap()
    }
}

fn xids(rows: &str) -> BTreeSet<u64> {
    rows.lines().map(|row| row.parse().unwrap()).collect()
}

/// The transactions of a report that touched a table.
fn xids_of(report: &Value, table: &str) -> BTreeSet<u64> {
    let commits = report["commits"].as_array().unwrap().iter();
    let of_table = commits.filter(|commit| {
        let tables = commit["tables"].as_array().unwrap();
        tables.iter().any(|it| it["name"] == table && it["database"] == "postgres")
    });
    of_table.map(|commit| commit["xid"].as_u64().unwrap()).collect()
}

/// What was acknowledged and has not survived is listed. What else is listed was on its way when its session was cut: one
/// transaction of each.
fn is_what_was_lost(report: &Value, acknowledged: &BTreeSet<u64>, survived: &BTreeSet<u64>) {
    let listed = xids_of(report, "public.ledger");
    let lost = acknowledged - survived;
    assert!(!lost.is_empty() && lost.is_subset(&listed), "acknowledged and lost {lost:?}, listed {listed:?}");
    assert!(listed.is_disjoint(survived), "listed {listed:?}, survived {survived:?}");
    let unacknowledged = &listed - acknowledged;
    assert!(unacknowledged.len() <= CLIENTS, "never acknowledged {unacknowledged:?}");
    let times = report["commits"].as_array().unwrap().iter().map(|commit| commit["at"].as_str().unwrap());
    assert!(times.clone().all(|at| at.starts_with("20") && at.ends_with("+00")), "{:?}", times.collect::<Vec<_>>());
}

#[test]
fn a_role_moves_between_regions_and_what_is_lost_is_named() {
    let mut world = World::start(NETWORKS, Kind::Writers);
    world.run_instance(1);
    sql(
        1,
        "create table t(id int primary key, said text); create table ledger(xid xid8); insert into t select i, 'one' from generate_series(1, 500) i",
    )
    .unwrap();
    let moved = world.global(&["switchover", "--to", "2"]);
    assert!(moved.contains("region 2 is the primary") && moved.contains("nothing is lost"), "{moved}");
    world.until_fenced(1);
    world.run_instance(2);
    assert_eq!(sql(2, "select count(*) from t").unwrap(), "500");

    // Region 1 lets nobody write.
    let refused = auriga(&["instance", "--config", &world.file(1, "writer.toml")]);
    let why = text(&refused);
    assert!(!refused.status.success() && why.contains("region 2 is the primary of this global database"), "{why}");
    // The region takes its volume back, and goes on to follow.
    sql(2, "insert into t select i, 'two' from generate_series(501, 600) i").unwrap();
    wait_until("region 1 follows", || {
        let status = world.global(&["status"]);
        let through = |region: &str| {
            let line = status.lines().find(|line| line.starts_with(region))?;
            line.split_whitespace().find_map(|word| word.parse::<u64>().ok().filter(|lsn| *lsn > 2))
        };
        through("region 1").is_some() && through("region 1") == through("region 2")
    });

    // Region 2 is cut off, and goes on.
    let lost = |region: usize| {
        let file = world.file(region, "region.toml");
        auriga(&["global", "lost", "--json", "--config", &file])
    };
    assert_eq!(lost(2).stdout, b"null\n");
    let nothing =
        auriga(&["open-snapshot", "--lost", "--config", &world.file(2, "region.toml"), "--directory", "/none"]);
    assert!(text(&nothing).contains("has lost nothing"), "{}", text(&nothing));
    let clients: Vec<_> = (0..CLIENTS).map(Client::start).collect();
    wait_until("some commits", || sql(2, "select count(*) > 20 from ledger").unwrap() == "t");
    world.regions[1] = None;
    sql(2, "insert into t values (9000, 'lost'); update t set said = 'lost' where id <= 10").unwrap();
    let failed = world.global(&["failover", "--to", "1"]);
    assert!(failed.contains("--allow-data-loss"), "it is not done by mistake: {failed}");
    let failed = world.global(&["failover", "--to", "1", "--allow-data-loss"]);
    assert!(failed.contains("region 1 is the primary") && failed.contains("could not be fenced"), "{failed}");
    sql(2, "insert into t values (9001, 'lost')").unwrap();
    world.run_instance(1);
    // The second hundred has arrived, or is lost with the rest: one transaction, whole.
    let arrived: u64 = sql(1, "select count(*) from t").unwrap().parse().unwrap();
    assert!(arrived == 500 || arrived == 600, "{arrived}");
    assert_eq!(sql(1, "select count(*) from t where said = 'lost'").unwrap(), "0");
    sql(1, "insert into t values (601, 'three')").unwrap();

    // It is heard of again: it names what it lost, and follows.
    world.run_region(2);
    world.until_fenced(2);
    let acknowledged: BTreeSet<u64> = clients.into_iter().flat_map(Client::end).collect();
    let report = || text(&auriga(&["global", "lost", "--json", "--config", &world.file(2, "region.toml")]));
    wait_until("the named loss", || report().contains("lost-r2-"));
    let named: Value = serde_json::from_str(&report()).unwrap();
    assert_eq!((&named["region"], &named["kept"]), (&2.into(), &true.into()), "{named}");
    assert!(named["amount"]["mini_transactions"].as_u64() > Some(0), "{named}");
    let survived = xids(&sql(1, LEDGER).unwrap());
    is_what_was_lost(&named, &acknowledged, &survived);
    let mut snapshot = world.open_snapshot(2);
    let in_snapshot = xids(&ask(SNAPSHOT, LEDGER).unwrap());
    let listed = xids_of(&named, "public.ledger");
    assert_eq!(in_snapshot, &listed | &survived, "the snapshot holds what was lost, whole");
    assert_eq!(ask(SNAPSHOT, "select count(*) from t where said = 'lost'").unwrap(), "12");
    let refused = ask(SNAPSHOT, "delete from t").unwrap_err();
    assert!(refused.contains("read-only transaction"), "{refused}");
    let back = world.global(&["switchover", "--to", "2"]);
    assert!(back.contains("region 2 is the primary") && back.contains("nothing is lost"), "{back}");
    world.until_fenced(1);
    world.run_instance(2);
    // Nobody holds the snapshot any more. It says so, or answers as before: it never shows anything else.
    wait_until("the end of the snapshot", || {
        sql(2, "update t set said = said where id <= 500; checkpoint").unwrap();
        let answer = ask(SNAPSHOT, LEDGER);
        assert!(answer.as_ref().map_or(true, |rows| xids(rows) == in_snapshot), "{answer:?}");
        snapshot.0.try_wait().unwrap().is_some()
    });
    assert_eq!(snapshot.end(), Some(1));
    let log = std::fs::read_to_string(world.path(2, "snapshot.log")).unwrap();
    assert!(log.contains("does not keep the volume as of LSN"), "{log}");
    let rows = "select count(*), count(*) filter (where said = 'lost'), max(id) from t";
    assert_eq!(sql(2, rows).unwrap(), format!("{}|0|601", arrived + 1));
}
