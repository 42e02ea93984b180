//! The reductions change how many states there are, never a verdict: on the protocol, and on each planted defect.

use auriga_model::checking::{CheckOptions, check};
use auriga_model::defects::scope_of;
use auriga_model::log_recovery::{four, node_crash, three, zone_crash};
use auriga_model::reductions::Reductions;
use auriga_model::volume::{Scale, Volume};
use auriga_protocol::{Defect, Defects};

const QUIET: CheckOptions = CheckOptions { threads: 2, progress: false };

fn holds(scale: &Scale) -> (bool, usize) {
    let verdict = check(&|| Volume::new(scale.clone()), "test", &QUIET);
    if let Some(failure) = verdict.failure.as_ref().filter(|_| scale.defects == Defects::NONE) {
        println!("{:?}: {}", scale.reductions, auriga_model::report::render_failure(failure));
    }
    (verdict.failure.is_none(), verdict.unique)
}

#[test]
fn the_protocol_holds_with_each_reduction_switched_off() {
    let on = Reductions::ON;
    let (held, fewest) = holds(&three());
    assert!(held);
    let variants = [
        Reductions { symmetry: false, ..on },
        Reductions { answers_at_once: false, ..on },
        Reductions { drop_spent: false, ..on },
    ];
    for reductions in variants {
        let (held, states) = holds(&Scale { reductions, ..three() });
        assert!(held && states > fewest, "{reductions:?}: {states} states, {fewest} with all reductions");
    }
}

#[test]
fn the_protocol_holds_when_crashes_keep_a_prefix_and_every_disk_is_slow() {
    for reductions in [
        Reductions { crash_keeps_nothing: false, ..Reductions::ON },
        Reductions { only_the_doomed_wait: false, ..Reductions::ON },
    ] {
        assert!(holds(&Scale { reductions, ..node_crash(three()) }).0, "{reductions:?}");
    }
}

#[test]
fn defects_are_caught_without_any_reduction() {
    // Those whose scope is small enough without reductions.
    for defect in [
        Defect::AckBeforeDurable,
        Defect::AckOverHole,
        Defect::WriteQuorumThree,
        Defect::NoFence,
        Defect::TruncationNotApplied,
        Defect::VdlNotAtCpl,
        Defect::VclIsMaxPgcl,
        Defect::VclIsMinPgcl,
        Defect::NoAllocationLimit,
    ] {
        let (_, scale) = scope_of(defect).expect("these have scopes");
        let planted = Scale { defects: Defects::plant(defect), ..scale };
        assert!(!holds(&planted).0, "{} with reductions", defect.slug());
        let off = Scale { reductions: Reductions::OFF, ..planted };
        assert!(!holds(&off).0, "{} without reductions", defect.slug());
    }
}

/// Zones that can't crash any more are no zones (reduction 1), and a writer that needs no more reports seals no
/// segment (reduction 3): both matter where two members share a zone, and a defect must be seen all the same.
#[test]
fn a_zone_that_crashes_shows_what_a_fence_that_is_not_durable_costs() {
    let small = || zone_crash(four());
    assert!(holds(&small()).0);
    for defect in [Defect::SealBeforeDurable, Defect::InstallBeforeDurable, Defect::NoFence] {
        assert!(!holds(&Scale { defects: Defects::plant(defect), ..small() }).0, "{}", defect.slug());
    }
}
