//! The trace check on simulated runs: it accepts every correct one, whatever kills took of its trace, and refuses
//! broken ones by rule number.

use auriga_audit::trace_check::{Coverage, Report, check_folder};
use auriga_conformance::sim::{Plan, run_for_notes};
use auriga_conformance::trace::write_simulated;
use auriga_protocol::Defect;

const SEEDS: u64 = if cfg!(debug_assertions) { 40 } else { 1_000 };

/// The report on a simulated run's trace without what its processes said in the last `lost` µs before each kill.
fn check(seed: u64, defect: Option<Defect>, lost: u64) -> Report {
    let coverage = if lost == 0 { Coverage::Complete } else { Coverage::Interrupted };
    check_as(coverage, seed, defect, lost)
}

fn check_as(coverage: Coverage, seed: u64, defect: Option<Defect>, lost: u64) -> Report {
    let (_, notes) = run_for_notes(&Plan::from_seed(seed).with_defect(defect));
    let folder = tempfile::tempdir().expect("a folder");
    write_simulated(folder.path(), &notes, lost).expect("written");
    check_folder(folder.path(), coverage).expect("a trace")
}

#[test]
fn a_correct_run_is_accepted_whatever_kills_took_of_its_trace() {
    for seed in 0..SEEDS {
        for lost in [0, 500, 3_000, 20_000] {
            let report = check(seed, None, lost);
            assert_eq!(report.broken, [], "seed {seed} with {lost} us lost at each kill");
            assert!(report.lines > 0 && report.recoveries > 0 || lost > 0, "seed {seed}: nothing was judged");
        }
    }
}

#[test]
fn what_was_not_heard_is_evidence_where_nothing_can_be_missing() {
    let refused = (0..SEEDS).filter(|seed| !check_as(Coverage::Complete, *seed, None, 20_000).holds()).count();
    assert!(refused > 0, "no kill took anything that matters");
}

#[test]
fn a_broken_run_is_refused_by_the_rule_that_it_breaks() {
    for (defect, rule) in [
        (Defect::WriteQuorumThree, "R-QUORUM-1"),
        (Defect::NoFence, "R-FENCE-1"),
        (Defect::VdlNotAtCpl, "R-VDL-2"),
        (Defect::LsnReused, "R-ALLOC-2"),
        (Defect::ReadIgnoresReadPoint, "R-READ-3"),
        (Defect::CollectAbovePgmrpl, "R-COLLECT-1"),
    ] {
        let rules = (0..30).flat_map(|seed| check(seed, Some(defect), 500).broken).map(|broken| broken.rule);
        let found: Vec<String> = rules.collect();
        assert!(found.iter().any(|found| found == rule), "{defect:?} broke {found:?}");
    }
}
