//! What clients of Aurora ask in SQL, on the writer and on a reader, and right after a failover.

use crate::common::{Running, ask, ask_as, wait_until, wait_until_gone};
use nix::sys::signal::Signal;
use std::process::Command;

const NETWORK: &str = "127.0.124";
const WRITER: u8 = 11;
const READER: u8 = 12;

/// By which AWS's drivers know that they speak to Aurora, and who writes.
const IS_AURORA: &str = "SELECT (setting LIKE '%aurora_stat_utils%') AS aurora_stat_utils FROM pg_catalog.pg_settings \
                         WHERE name OPERATOR(pg_catalog.=) 'rds.extensions'";
const TOPOLOGY: &str = "SELECT SERVER_ID, CASE WHEN SESSION_ID OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID' THEN TRUE ELSE \
                        FALSE END, CPU, COALESCE(REPLICA_LAG_IN_MSEC, 0), LAST_UPDATE_TIMESTAMP \
                        FROM pg_catalog.aurora_replica_status() \
                        WHERE EXTRACT(EPOCH FROM(pg_catalog.NOW() OPERATOR(pg_catalog.-) LAST_UPDATE_TIMESTAMP)) \
                        OPERATOR(pg_catalog.<=) 300 OR SESSION_ID OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID' \
                        OR LAST_UPDATE_TIMESTAMP IS NULL";

/// The names of the instances, the writer's with a star.
fn topology(demo: &Running, host: u8) -> String {
    let names = format!(
        "SELECT string_agg(server_id || CASE WHEN \"case\" THEN '*' ELSE '' END, ' ' ORDER BY server_id) FROM ({TOPOLOGY}) t"
    );
    ask(demo, host, &names).unwrap_or_default()
}

#[test]
fn clients_of_aurora_find_what_they_ask_for() {
    let mut demo = Running::start(NETWORK, &["--readers", "1"]);
    let dir = demo.dir();
    for host in [WRITER, READER] {
        wait_until("the functions", || ask(&demo, host, IS_AURORA).as_deref() == Ok("t"));
        wait_until("all instances, and who writes", || topology(&demo, host) == "reader-1 writer*");
    }
    for host in [WRITER, READER] {
        let shown = ask(&demo, host, "show rds.extensions").unwrap();
        assert!(shown.starts_with("aurora_stat_utils") && shown.contains("plpgsql"), "{shown}");
    }
    assert_eq!(ask(&demo, WRITER, "select aurora_db_instance_identifier()").unwrap(), "writer");
    assert_eq!(ask(&demo, READER, "select aurora_db_instance_identifier()").unwrap(), "reader-1");
    let version = ask(&demo, READER, "select aurora_version()").unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    // Of the instance that one is connected to, no time is shown; and a reader's lag is a number.
    let own = "select count(*) from aurora_replica_status() where last_update_timestamp is null \
               and server_id = aurora_db_instance_identifier()";
    assert_eq!(ask(&demo, READER, own).unwrap(), "1");
    let lags = "select count(replica_lag_in_msec) filter (where session_id <> 'MASTER_SESSION_ID'), \
                count(replica_lag_in_msec), count(durable_lsn), count(cpu) from aurora_replica_status()";
    wait_until("a lag of the reader alone", || ask(&demo, WRITER, lags).as_deref() == Ok("1|1|2|2"));
    assert_eq!(ask(&demo, READER, "select \"Disks\", \"Nodes\" from aurora_show_volume_status()").unwrap(), "6|6");
    for host in [WRITER, READER] {
        let latency = "select aurora_stat_get_db_commit_latency(oid) >= 0 from pg_database where datname = 'postgres'";
        assert_eq!(ask(&demo, host, latency).unwrap(), "t");
        ask(&demo, host, "select * from aurora_wait_report(1)").unwrap();
    }

    // Anyone may ask, in any database, also one that is made from the template that has nothing; but break nothing.
    demo.sql("create role guest login").unwrap();
    for statement in ["create database made", "create database bare template template0"] {
        demo.sql(statement).unwrap();
    }
    for database in ["made", "bare"] {
        wait_until(database, || {
            ask_as(&demo, READER, "guest", database, "select aurora_db_instance_identifier()").as_deref()
                == Ok("reader-1")
        });
    }
    for host in [WRITER, READER] {
        let refused = ask_as(&demo, host, "guest", "postgres", "select aurora_inject_crash('instance')").unwrap_err();
        assert!(refused.contains("42501"), "{refused}");
    }
    let refused = ask_as(&demo, WRITER, "guest", "postgres", "select pg_read_file('postgresql.conf')").unwrap_err();
    assert!(refused.contains("42501"), "{refused}");

    // Settings are shown and changed as ever, and a dump holds nothing of this.
    let settings = "update pg_settings set setting = '7MB' where name = 'work_mem'; show work_mem";
    assert!(ask(&demo, WRITER, settings).unwrap().ends_with("7MB"));
    let host = format!("{NETWORK}.11");
    let dump = Command::new("pg_dump").args(["-U", "postgres", "-h", &host, "made"]).output().unwrap();
    let text = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(dump.status.success() && text.contains("dump complete"), "{}", String::from_utf8_lossy(&dump.stderr));
    assert!(!text.contains("aurora") && !text.contains("pg_settings"), "{text}");

    // A crash of the reader's PostgreSQL, then of the writer's whole process.
    let start = "select pg_postmaster_start_time()";
    let began = ask(&demo, READER, start).unwrap();
    ask(&demo, READER, "select aurora_inject_crash('instance')").unwrap_err();
    wait_until("the reader's new server", || ask(&demo, READER, start).is_ok_and(|now| now != began));
    let began = ask(&demo, WRITER, start).unwrap();
    ask(&demo, WRITER, "select aurora_inject_crash('node')").unwrap_err();
    wait_until("the writer's new process", || ask(&demo, WRITER, start).is_ok_and(|now| now != began));
    // A controller may have made the reader the writer meanwhile: both say the same.
    wait_until("who writes, after it", || {
        let told = topology(&demo, WRITER);
        ["reader-1 writer*", "reader-1* writer"].contains(&told.as_str()) && topology(&demo, READER) == told
    });
    demo.signal(Signal::SIGINT);
    wait_until_gone(&dir);
}

/// psycopg makes a named prepared statement of what it is asked again and again.
#[test]
fn probes_can_be_prepared() {
    let mut demo = Running::start("127.0.125", &[]);
    wait_until("the functions", || ask(&demo, WRITER, IS_AURORA).as_deref() == Ok("t"));
    let asked = format!(
        "prepare probe as {IS_AURORA}; execute probe; prepare who as {TOPOLOGY}; execute who; execute probe; execute who"
    );
    let answered = ask(&demo, WRITER, &asked).unwrap();
    let lines: Vec<&str> = answered.lines().collect();
    assert!(lines.len() == 4 && lines[0] == "t" && lines[1].starts_with("writer|t|"), "{answered}");
    let dir = demo.dir();
    demo.signal(Signal::SIGINT);
    wait_until_gone(&dir);
}
