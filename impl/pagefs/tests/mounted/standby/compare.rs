//! Comparing two standbys that are paused at the same position.

use super::workload;
use super::world::{Server, World};
use crate::postgres::succeed;
use std::process::Stdio;

/// One round: bursts of work, both standbys paused where it ends, and compared while the writer goes on. Returns what
/// differs.
pub fn round(world: &World, round: u32) -> Vec<String> {
    (3 * round..3 * round + 2).for_each(|burst| workload::burst(&world.writer, burst));
    // To be paused at the same position, both need a moment without WAL. Pages of the bursts are still in the writer's
    // buffers.
    pause(world);
    let mut differences = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            workload::burst(&world.writer, 3 * round + 2);
            world.writer.run("postgres", "CHECKPOINT");
        });
        differences = compare(world);
    });
    eprintln!("round {round}: {:?}", world.fs.figures());
    resume(world);
    differences
}

fn replayed(server: &Server) -> String {
    server.run("postgres", "SELECT pg_last_wal_replay_lsn()").trim().to_owned()
}

fn pause(world: &World) {
    let mut last = (String::new(), String::new());
    world.until("both standbys are where the writer is", || {
        for server in [&world.reader, &world.plain] {
            server.run("postgres", "SELECT pg_wal_replay_resume()");
        }
        let written = world.writer.run("postgres", "SELECT pg_current_wal_lsn()").trim().to_owned();
        world.until("both standbys catch up", || {
            let at = |server| {
                let caught_up = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
                Server::run(server, "postgres", &caught_up).trim() == "t"
            };
            at(&world.reader) && at(&world.plain)
        });
        for server in [&world.reader, &world.plain] {
            server.run("postgres", "SELECT pg_wal_replay_pause()");
            world.until("replay is paused", || {
                server.run("postgres", "SELECT pg_get_wal_replay_pause_state()").trim() == "paused"
            });
        }
        last = (replayed(&world.reader), replayed(&world.plain));
        last.0 == last.1
    });
}

fn resume(world: &World) {
    for server in [&world.reader, &world.plain] {
        server.run("postgres", "SELECT pg_wal_replay_resume()");
    }
}

/// The questions: each relation read through, each index by what it is good for.
const QUESTIONS: &str = "
SELECT format('SELECT %L, count(*), sum(hashtext(t::text)::numeric) FROM %I.%I t;', c.oid::regclass || ' read through', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relkind IN ('r', 'm') AND relpersistence = 'p' ORDER BY c.oid;
SELECT format('SELECT %L, last_value, log_cnt, is_called FROM %I.%I;', c.oid::regclass, n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'S' ORDER BY c.oid;
SELECT 'SET enable_seqscan = off; SET enable_bitmapscan = off;';
SELECT format('SELECT %L, count(%I), sum(hashtext(%I::text)::numeric) FROM %I.%I;', i.indexrelid::regclass || ' by index', a.attname, a.attname, n.nspname, c.relname)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
  WHERE m.amname = 'btree' AND indisvalid AND indpred IS NULL AND c.relpersistence = 'p' ORDER BY i.indexrelid;
SELECT 'SET enable_bitmapscan = on;';
";

/// Of the tables that have them, by the other kinds of index; visibility.
const MORE: &str = "
SELECT 'hash', count(*), sum(id) FROM many WHERE num = 5;
SELECT 'gin', count(*), sum(id) FROM many WHERE tags @> ARRAY[3];
SELECT 'gin of documents', count(*), sum(id) FROM many WHERE doc @> '{\"k\": 5}';
SELECT 'gist', count(*), sum(id) FROM many WHERE pt <@ box '((10,10),(50,50))';
SELECT 'brin', count(*), sum(id) FROM many WHERE id BETWEEN 1000 AND 3300;
SELECT 'visible and not', c.oid::regclass, count(v) FROM pg_class c, pg_check_visible(c.oid) v WHERE relkind = 'r' AND relpersistence = 'p' GROUP BY 2;
SELECT 'frozen and not', c.oid::regclass, count(v) FROM pg_class c, pg_check_frozen(c.oid) v WHERE relkind = 'r' AND relpersistence = 'p' GROUP BY 2;
";

fn compare(world: &World) -> Vec<String> {
    let databases = world.plain.run("postgres", "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1");
    let mut differences = Vec::new();
    for database in databases.lines() {
        let mut questions = world.plain.run(database, QUESTIONS);
        if database == "postgres" {
            questions.push_str(MORE);
        }
        let [ours, theirs] = [&world.reader, &world.plain].map(|server| server.run(database, &questions));
        let (ours, theirs): (Vec<&str>, Vec<&str>) = (ours.lines().collect(), theirs.lines().collect());
        assert!(theirs.len() > 50, "{database}: {theirs:?}");
        let differ = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs);
        differences.extend(differ.map(|(ours, theirs)| format!("{database}: ours {ours}, theirs {theirs}")));
        if ours.len() != theirs.len() {
            differences.push(format!("{database}: {} answers, and {}", ours.len(), theirs.len()));
        }
    }
    let mut check = world.reader.client("pg_amcheck");
    let output = check.args(["--heapallindexed", "postgres"]).stdin(Stdio::null()).output().expect("started");
    if !output.status.success() {
        differences.push(format!("pg_amcheck: {}", String::from_utf8_lossy(&output.stdout)));
    }
    differences
}

/// Says how many reads of single rows each standby answers in a second, in turn, with far smaller buffers than the table.
pub fn reads(world: &World, seconds: u32) {
    let time = format!("--time={seconds}");
    for _ in 0..3 {
        for (name, server) in [("on the volume", &world.reader), ("plain", &world.plain)] {
            let arguments = ["--select-only", "--client=4", "--jobs=1", &time, "--no-vacuum", "postgres"];
            let report = succeed(server.client("pgbench").args(arguments));
            let tps = report.lines().find(|line| line.contains("tps")).unwrap_or("no figure");
            eprintln!("reads, {name}: {tps}");
        }
    }
}
