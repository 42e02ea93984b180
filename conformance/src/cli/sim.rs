//! `auriga-conformance sim`.

use crate::sim::campaign::{Campaign, Summary, run_campaign};
use crate::sim::seeds::{self, KeptSeed};
use crate::sim::shrink::shrink;
use crate::sim::{Counted, Failure, Plan};
use auriga_protocol::Defect;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How to simulate.
#[derive(clap::Args)]
pub struct SimOptions {
    /// Run this seed only.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// Print every message, append, task and note of the run.
    #[arg(long)]
    trace: bool,
    /// Drop faults that the failure doesn't need, and print the plan that remains.
    #[arg(long)]
    shrink: bool,
    /// Keep the seed's plan (with --shrink: what remains of it) as a regression; the text says what was wrong.
    #[arg(long, requires = "seed")]
    keep: Option<String>,
    /// Run this kept plan (a file of `conformance/seeds/`, or the output of --shrink).
    #[arg(long, conflicts_with = "seed")]
    plan: Option<PathBuf>,
    /// First seed of a campaign.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// Threads; default: as many as there are cores.
    #[arg(long)]
    threads: Option<usize>,
    /// Begin no more seeds after this many seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Plant a defect in every machine (see `defects`).
    #[arg(long, value_parser = defect)]
    defect: Option<Defect>,
    /// Don't fail when something was never exercised.
    #[arg(long)]
    allow_uncovered: bool,
}

/// Reads a defect's name.
pub fn defect(slug: &str) -> Result<Defect, String> {
    Defect::ALL.iter().copied().find(|defect| defect.slug() == slug).ok_or_else(|| {
        let known: Vec<_> = Defect::ALL.iter().map(|defect| defect.slug()).collect();
        format!("no such defect; there are: {}", known.join(", "))
    })
}

/// Runs it.
///
/// # Errors
/// When a file can't be read.
pub fn run(options: &SimOptions) -> Result<ExitCode, String> {
    if let Some(seed) = options.seed {
        return run_one(&Plan::from_seed(seed).with_defect(options.defect), options);
    }
    if let Some(path) = &options.plan {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let plan = serde_json::from_str::<KeptSeed>(&text).map(|kept| kept.plan);
        let plan = plan.or_else(|_| serde_json::from_str(&text));
        let plan: Plan = plan.map_err(|error| format!("{}: {error}", path.display()))?;
        return run_one(&plan, options);
    }
    Ok(run_many(options))
}

fn run_one(plan: &Plan, options: &SimOptions) -> Result<ExitCode, String> {
    let mut print = |at: u64, line: String| println!("{:>9} {line}", at);
    let went = crate::sim::run(plan, options.trace.then_some(&mut print as _));
    println!(
        "seed {} digest {:016x} events {} acknowledged {}",
        plan.seed, went.digest, went.events, went.acknowledged
    );
    let mut kept = plan.clone();
    match &went.failure {
        None => println!("every rule held"),
        Some(failure) => say(plan.seed, failure),
    }
    if let Some(failure) = went.failure.as_ref().filter(|_| options.shrink) {
        let (small, failure) = shrink(plan, failure);
        println!("with {} of {} faults:", small.faults.len(), plan.faults.len());
        say(small.seed, &failure);
        println!("{}", serde_json::to_string_pretty(&small).map_err(|error| error.to_string())?);
        kept = small;
    }
    if let Some(why) = &options.keep {
        println!("kept as {}", seeds::keep(&seeds::folder(), why, kept)?.display());
    }
    Ok(if went.failure.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say(seed: u64, failure: &Failure) {
    println!("FAILED seed {seed} at {} us: {}: {}", failure.at, failure.rule, failure.what);
}

fn run_many(options: &SimOptions) -> ExitCode {
    let campaign = Campaign {
        seeds: options.from..options.from.saturating_add(options.seeds),
        threads: options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        defect: options.defect,
        failures_max: 5,
        time_max: Duration::from_secs(options.seconds),
    };
    let summary = run_campaign(&campaign, |done, took| {
        eprintln!("{done} seeds, {:.0} seeds/s", done as f64 / took.as_secs_f64());
    });
    print_summary(&summary, campaign.threads);
    for (seed, failure) in &summary.failures {
        say(*seed, failure);
        println!("  replay: auriga-conformance sim --seed {seed} --trace");
    }
    let missing = if options.allow_uncovered { Vec::new() } else { summary.coverage.missing() };
    for what in &missing {
        println!("NEVER EXERCISED: {}", what.slug());
    }
    if summary.failures.is_empty() && missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_summary(summary: &Summary, threads: usize) {
    for what in Counted::ALL {
        println!("{:>12}  {}", summary.coverage.of(*what), what.slug());
    }
    println!(
        "{} seeds in {:.1} s: {:.0} seeds/s on {threads} threads; {} events, {} commits acknowledged",
        summary.seeds,
        summary.took.as_secs_f64(),
        summary.rate(),
        summary.events,
        summary.acknowledged
    );
}
