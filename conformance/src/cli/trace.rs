//! `auriga-conformance trace`.

use auriga_audit::trace_check::{Coverage, check_folder};
use std::path::PathBuf;
use std::process::ExitCode;

/// What to check.
#[derive(clap::Args)]
pub struct TraceOptions {
    /// The folder with the trace files (`*.jsonl`) of all processes of one run.
    folder: PathBuf,
    /// Nothing that others can have seen is missing: the processes are Auriga's, their host stayed up, and none has logged
    /// that it could not write its trace. A line that is not there is then evidence, too.
    #[arg(long)]
    complete: bool,
    /// For machines: the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// When the trace can't be read.
pub fn run(options: &TraceOptions) -> Result<ExitCode, String> {
    let coverage = if options.complete { Coverage::Complete } else { Coverage::Interrupted };
    let report = check_folder(&options.folder, coverage).map_err(|error| error.to_string())?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?);
    } else {
        print!("{}", report.to_text());
    }
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
