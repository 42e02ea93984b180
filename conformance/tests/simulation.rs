//! The simulation as a test: determinism, kept seeds, and a first stretch of fresh ones.

use auriga_conformance::sim::campaign::{Campaign, run_campaign};
use auriga_conformance::sim::{Plan, run, seeds};
use std::time::Duration;

/// Debug builds are slow: a taste here, the campaign of CI runs with `--profile fast`.
const SEEDS: u64 = if cfg!(debug_assertions) { 60 } else { 2_000 };

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..8 {
        let plan = Plan::from_seed(seed);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let mut into_first = |at: u64, line: String| first.push((at, line));
        let one = run(&plan, Some(&mut into_first));
        let mut into_second = |at: u64, line: String| second.push((at, line));
        let other = run(&plan, Some(&mut into_second));
        assert_eq!(first, second, "seed {seed}");
        assert_eq!(one, other, "seed {seed}");
        assert_eq!(one, run(&plan, None), "seed {seed}: tracing changes nothing");
    }
    assert_ne!(run(&Plan::from_seed(1), None).digest, run(&Plan::from_seed(2), None).digest);
}

#[test]
fn kept_seeds_pass() {
    let kept = seeds::read_all(&seeds::folder()).expect("the folder of kept seeds is readable");
    assert!(!kept.is_empty());
    for (name, seed) in kept {
        let went = run(&seed.plan, None);
        assert_eq!(went.failure, None, "{name} fails again ({}); see sim --plan", seed.why);
    }
}

#[test]
fn fresh_seeds_pass() {
    let campaign = Campaign {
        seeds: 1_000_000..1_000_000 + SEEDS,
        threads: 2,
        defect: None,
        failures_max: 1,
        time_max: Duration::from_secs(120),
    };
    let summary = run_campaign(&campaign, |_, _| {});
    let replay = "replay with: auriga-conformance sim --trace --seed";
    assert_eq!(summary.failures.first().map(|(seed, failure)| (replay, seed, failure)), None);
    assert!(summary.acknowledged > 10 * summary.seeds, "a simulation in which nothing is committed proves nothing");
}
