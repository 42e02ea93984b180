//! `auriga-conformance trace`.

use auriga_runtime::trace_check::check_folder;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to check.
#[derive(clap::Args)]
pub struct Options {
    /// The folder with the trace files (`*.jsonl`) of all processes of one run.
    folder: PathBuf,
    /// For machines: the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// When the trace can't be read.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let report = check_folder(&options.folder).map_err(|error| error.to_string())?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?);
    } else {
        print!("{}", report.to_text());
    }
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
