//! `auriga-conformance defects`: plants each defect alone and counts seeds until the simulation finds it.

use crate::sim::campaign::{Campaign, run_campaign};
use crate::sim::{Plan, run_for_notes};
use crate::{table, trace};
use auriga_audit::trace_check::{Coverage, check_folder};
use auriga_protocol::Defect;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What a kill takes of a trace, in virtual microseconds: as much of a run as the real tenth of a second is of minutes.
const LOST: u64 = 2_000;

/// How to hunt.
#[derive(clap::Args)]
pub struct DefectsOptions {
    /// Only this one.
    #[arg(long, value_parser = super::sim::defect)]
    defect: Option<Defect>,
    /// Give up after this many seeds.
    #[arg(long, default_value_t = 5_000)]
    seeds: u64,
    /// Give up after this many seconds for each defect.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Write the columns `simulation` and `trace check` of `specs/defects-by-technique.md`.
    #[arg(long)]
    write: bool,
}

/// What was found.
struct Caught {
    seed: u64,
    rule: String,
    what: String,
    took: Duration,
}

/// Runs it.
///
/// # Errors
/// When the table can't be read or written.
pub fn run(options: &DefectsOptions) -> Result<ExitCode, String> {
    let path = table::defects_by_technique();
    let mut text = table::with_every_defect(&std::fs::read_to_string(&path).unwrap_or_default());
    let mut missed = 0;
    println!("{:<28} {:<12} {:>6} {:>8}  broken", "defect", "its rule", "seeds", "seconds");
    for defect in Defect::ALL
        .iter()
        .copied()
        .filter(|it| is_simulated(*it))
        .filter(|it| options.defect.is_none_or(|only| only == *it))
    {
        let caught = hunt(defect, options);
        let (seeds, seconds, said) = match &caught {
            Some(caught) => {
                let said: String = format!("{}: {}", caught.rule, caught.what).chars().take(110).collect();
                ((caught.seed + 1).to_string(), format!("{:.1}", caught.took.as_secs_f64()), said)
            }
            None => ("-".to_owned(), "-".to_owned(), "NOT FOUND".to_owned()),
        };
        println!("{:<28} {:<12} {seeds:>6} {seconds:>8}  {said}", defect.slug(), defect.rule());
        missed += u32::from(caught.is_none());
        let cell = caught.map_or("not found".to_owned(), |caught| {
            let plural = if caught.seed == 0 { "seed" } else { "seeds" };
            format!("{} {plural}, {}", caught.seed + 1, caught.rule)
        });
        text = table::fill(&text, "simulation", defect.slug(), &cell);
        let cell =
            hunt_in_traces(defect, options)?.map_or("not found".to_owned(), |(run, rule)| format!("run {run}, {rule}"));
        println!("{:<28} {:<12} in traces: {cell}", "", "");
        text = table::fill(&text, "trace", defect.slug(), &cell);
    }
    if options.write {
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The simulated cluster is one region: defects between regions can't show in it. Nor do its users
/// read below a ceiling, as no read point there is in use; `tests/healing.rs` does. It has no readers on other instances. No copy is put back there in the life in
/// which it was made, so no recovery hears one that its peers do not find out. Two that take several
/// losses, and a writer that holds an old report between them, are left to the golden scripts that name them. So is a segment
/// that is made for a step which never comes into force; a step that counts on the new members alone is left to the model.
fn is_simulated(defect: Defect) -> bool {
    !matches!(defect, Defect::RecoveryDoesNotWait | Defect::LossAcceptedWithoutFence)
        && !matches!(defect, Defect::HydrationServesMixed | Defect::LossesForgotten | Defect::StaleAnswerCounts)
        && !matches!(defect, Defect::ReaderAboveVdl | Defect::CollectionIgnoresReaders)
        && !defect.rule().starts_with("R-READER")
        && !defect.rule().starts_with("R-GLOBAL")
        && !matches!(defect, Defect::SegmentMadeBeforeInForce | Defect::MembershipOnNewQuorumOnly)
}

/// Runs whose notes alone, less what kills took with them, show the defect.
fn hunt_in_traces(defect: Defect, options: &DefectsOptions) -> Result<Option<(u64, String)>, String> {
    let began = Instant::now();
    for seed in (0..options.seeds).take_while(|_| began.elapsed().as_secs() < options.seconds) {
        let (_, notes) = run_for_notes(&Plan::from_seed(seed).with_defect(Some(defect)));
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        trace::write_simulated(folder.path(), &notes, LOST).map_err(|error| error.to_string())?;
        let report = check_folder(folder.path(), Coverage::Interrupted).map_err(|error| error.to_string())?;
        if let Some(broken) = report.broken.into_iter().next() {
            return Ok(Some((seed + 1, broken.rule)));
        }
    }
    Ok(None)
}

/// Seeds in order on one thread, so that the count is always the same.
fn hunt(defect: Defect, options: &DefectsOptions) -> Option<Caught> {
    let campaign = Campaign {
        seeds: 0..options.seeds,
        threads: 1,
        defect: Some(defect),
        failures_max: 1,
        time_max: Duration::from_secs(options.seconds),
    };
    let summary = run_campaign(&campaign, |_, _| {});
    let (seed, failure) = summary.failures.into_iter().next()?;
    Some(Caught { seed, rule: failure.rule, what: failure.what, took: summary.took })
}
