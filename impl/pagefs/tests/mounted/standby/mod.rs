//! A stock hot standby on a reader's mount, beside a plain streaming one: at equal positions they have the same rows.
//!
//! `AURIGA_STANDBY_ROUNDS` says how many rounds; a round takes about 20 s on an idle machine. Before every second one the
//! standby is crashed. `AURIGA_STANDBY_HISTORY` says how many bytes of records the volume remembers: with few, the reader
//! often has to read its tree again. `AURIGA_STANDBY_READS` says for how many seconds reads are measured afterwards.

mod compare;
mod session;
mod workload;
mod world;

use crate::can_mount;
use crate::postgres::Installation;
use auriga_pagefs::defect::Defects;
use world::World;

#[test]
fn a_standby_on_a_shared_volume_has_what_a_plain_one_has() {
    let Some(installation) = Installation::find().filter(|_| can_mount()) else { return };
    let rounds = std::env::var("AURIGA_STANDBY_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let world = World::start(&installation, Defects::default(), workload::prepare);
    for round in 0..rounds {
        if round % 2 == 1 {
            world.reader.crash();
        }
        let differences = compare::round(&world, round);
        assert!(differences.is_empty(), "round {round}:\n{}", differences.join("\n"));
    }
    eprintln!("{:#?}", world.fs.figures());
    if let Some(seconds) = std::env::var("AURIGA_STANDBY_READS").ok().and_then(|seconds| seconds.parse().ok()) {
        compare::reads(&world, seconds);
    }
}
