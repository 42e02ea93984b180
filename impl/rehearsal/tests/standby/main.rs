//! A stock hot standby on a reader's mount, beside a plain streaming one: at equal positions they have the same rows. Once
//! with WAL that is streamed, and once with WAL that is taken from the volume, as in another region.
//!
//! `AURIGA_STANDBY_ROUNDS` says how many rounds; a round takes about 20 s on an idle machine. Before every second one the
//! standby is crashed. `AURIGA_STANDBY_HISTORY` says how many bytes of records the volume remembers: with few, the reader
//! often has to read its tree again. `AURIGA_STANDBY_READS` says for how many seconds reads are measured afterwards.

mod session;
mod world;

use auriga_instance::postgres::find::{self, Installation};
use auriga_pagefs::enter_private_namespace;
use auriga_rehearsal::standbys::{compare, workload};
use std::sync::Mutex;
use world::{Wal, World};

/// One at a time: each has three servers.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// PostgreSQL, if this test can mount and there is one; says what is missing. Enters a private mount namespace.
fn installation() -> Option<Installation> {
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse").map(drop);
    if let Err(error) = device.and_then(|()| enter_private_namespace()) {
        eprintln!("SKIPPED: this test mounts a file system, which needs root and /dev/fuse: {error}");
        return None;
    }
    match find::find(None) {
        Ok(mut found) => Some(found.remove(0)),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

/// One round: bursts of work, both standbys paused where it ends, and compared while the writer goes on. Returns what
/// differs.
fn round(world: &World, round: u32) -> Vec<String> {
    let burst = |number| workload::burst(&world.writer, number, || ()).expect("a burst");
    (3 * round..3 * round + 2).for_each(burst);
    // To be paused at the same position, both need a moment without WAL. Pages of the bursts are still in the writer's
    // buffers.
    let standbys = [&*world.reader, &*world.plain];
    compare::pause(&world.writer, &standbys).expect("paused");
    let compared = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            burst(3 * round + 2);
            world.writer.run("postgres", "CHECKPOINT").expect("a checkpoint");
        });
        let compared = compare::compare(&world.reader, &world.plain);
        work.join().expect("the work");
        compared.expect("compared")
    });
    eprintln!("round {round}: {:?}", world.fs.figures());
    world.check();
    compare::resume(&standbys).expect("resumed");
    compared.differences
}

/// Says how many reads of single rows each standby answers in a second, in turn, with far smaller buffers than the table.
fn reads(world: &World, seconds: u32) {
    let time = format!("--time={seconds}");
    for _ in 0..3 {
        for (name, server) in [("on the volume", &world.reader), ("plain", &world.plain)] {
            let arguments = ["--select-only", "--client=4", "--jobs=1", &time, "--no-vacuum", "postgres"];
            let report = server.succeed("pgbench", &arguments).expect("reads");
            let tps = report.lines().find(|line| line.contains("tps")).unwrap_or("no figure");
            eprintln!("reads, {name}: {tps}");
        }
    }
}

#[test]
fn a_standby_on_a_shared_volume_has_what_a_plain_one_has() {
    has_what_a_plain_one_has(Wal::Streamed);
}

#[test]
fn a_standby_that_finds_its_wal_in_the_volume_has_what_a_plain_one_has() {
    has_what_a_plain_one_has(Wal::Fed);
}

fn has_what_a_plain_one_has(wal: Wal) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(installation) = installation() else { return };
    let rounds = std::env::var("AURIGA_STANDBY_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let world = World::start(&installation, wal);
    for round in 0..rounds {
        if round % 2 == 1 {
            world.reader.crash();
        }
        let differences = self::round(&world, round);
        assert!(differences.is_empty(), "round {round}:\n{}", differences.join("\n"));
    }
    eprintln!("{:#?}", world.fs.figures());
    if let Some(seconds) = std::env::var("AURIGA_STANDBY_READS").ok().and_then(|seconds| seconds.parse().ok()) {
        reads(&world, seconds);
    }
}
