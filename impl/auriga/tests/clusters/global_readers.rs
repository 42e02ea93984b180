//! Readers in every region: PostgreSQL standbys on the region's own volume, with nothing but storage between the regions.

use crate::common::regions::{Kind, World};
use crate::common::wait_until;

const NETWORKS: [&str; 2] = ["127.0.131", "127.0.132"];

impl World {
    /// Waits until an instance answers so.
    fn until(&self, region: usize, host: u8, statement: &str, answer: &str) {
        let mut last = String::new();
        let mut tries = 0;
        wait_until(&format!("{answer:?} from {statement:?} in region {region}"), || {
            let now = self.sql_at(region, host, statement).unwrap_or_else(|error| error);
            tries += 1;
            if now != last && tries % 50 == 0 {
                eprintln!("region {region}, host {host}: {now}");
            }
            last = now;
            last == answer
        });
    }

    /// Waits until a region's instance writes, and says so by doing it.
    fn until_written(&self, region: usize, statement: &str) {
        wait_until(&format!("{statement:?} in region {region}"), || self.sql(region, statement).is_ok());
    }
}

/// Looks at every table and index of an instance.
fn amcheck(world: &World, region: usize, host: u8) {
    let heap = "select count(*) from pg_class c, lateral verify_heapam(c.oid) where relkind in ('r', 't', 'm')";
    assert_eq!(world.sql_at(region, host, heap).unwrap(), "0");
    let indexes = "select count(bt_index_check(c.oid, true)::text) >= 100 from pg_class c join pg_am a on a.oid = c.relam \
                   where amname = 'btree' and relkind = 'i'";
    assert_eq!(world.sql_at(region, host, indexes).unwrap(), "t");
}

#[test]
fn a_secondary_is_read_and_takes_the_role_over_and_what_is_lost_is_seen_nowhere() {
    let mut world = World::start(NETWORKS, Kind::Any);
    world.run(1, "control", "control");
    world.run_any(1);
    world.until_written(1, "create table t(id int primary key, said text)");
    world.sql(1, "insert into t select i, 'one' from generate_series(1, 500) i").unwrap();
    world.run(2, "control", "control");
    world.run_any(2);
    world.run(2, "instance", "reader");
    let rows = "select count(*) from t";
    world.until(2, 11, rows, "500");
    world.until(2, 12, rows, "500");
    assert_eq!(world.sql(2, "select pg_is_in_recovery()").unwrap(), "t");
    let written = world.sql(2, "insert into t values (0, 'no')").unwrap_err();
    assert!(written.contains("read-only"), "{written}");

    // Whatever changes files reaches it.
    world.sql(1, "create extension amcheck; create index said on t(said); create table u as select * from t").unwrap();
    world.sql(1, "delete from t where id % 2 = 0").unwrap();
    world.sql(1, "vacuum (freeze) t").unwrap();
    world.sql(1, "truncate u; insert into u values (1, 'after'); alter table t add column more int default 7").unwrap();
    for host in [11, 12] {
        world.until(2, host, "select sum(more) from t", "1750");
        world.until(2, host, "select count(*) || min(said) from u", "1after");
        amcheck(&world, 2, host);
    }
    let began = "select pg_postmaster_start_time()";
    let standby = world.sql_at(2, 12, began).unwrap();

    // The role moves: the same process writes, and the old primary's reads.
    let moved = world.global(&["switchover", "--to", "2"]);
    assert!(moved.contains("region 2 is the primary") && moved.contains("nothing is lost"), "{moved}");
    world.until_written(2, "insert into t values (1000, 'two')");
    for (region, host) in [(2, 11), (2, 12), (1, 11)] {
        world.until(region, host, rows, "251");
    }
    assert_eq!(world.sql(1, "select pg_is_in_recovery()").unwrap(), "t");
    assert_eq!(world.sql_at(2, 12, began).unwrap(), standby, "this reader went on in the same server");
    amcheck(&world, 1, 11);

    // Region 2 is cut off, and goes on: its own reader shows what will be lost.
    world.regions[1] = None;
    world
        .sql(2, "insert into t values (2000, 'lost'); update t set said = 'lost' where id < 10; create table w(a int)")
        .unwrap();
    world.until(2, 12, "select count(*) from t where said = 'lost'", "6");
    let failed = world.global(&["failover", "--to", "1", "--allow-data-loss"]);
    assert!(failed.contains("region 1 is the primary"), "{failed}");
    world.until_written(1, "insert into t values (3000, 'three')");
    world.sql(2, "insert into t values (2001, 'lost')").unwrap();

    // It is heard of again: the lost rows are gone everywhere, and the new ones are there.
    world.run_region(2);
    for host in [11, 12] {
        world.until(2, host, "select count(*), count(*) filter (where said = 'lost'), max(id) from t", "252|0|3000");
        assert_eq!(world.sql_at(2, host, "select to_regclass('w')").unwrap(), "");
        amcheck(&world, 2, host);
    }
    let back = world.global(&["switchover", "--to", "2"]);
    assert!(back.contains("region 2 is the primary") && back.contains("nothing is lost"), "{back}");
    world.until_written(2, "insert into t values (4000, 'four')");
    for (region, host) in [(1, 11), (2, 12)] {
        world.until(region, host, rows, "253");
    }
}
