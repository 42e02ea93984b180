//! `auriga-conformance replay`.

use crate::script::{self, Broken};
use auriga_protocol::Defect;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to replay.
#[derive(clap::Args)]
pub struct ReplayOptions {
    /// The script. What the model saves (`auriga-model defects NAME --save FILE`) names its planted defect itself.
    file: PathBuf,
    /// Plant this defect, whatever the script says.
    #[arg(long, value_parser = super::sim::defect)]
    defect: Option<Defect>,
    /// Plant none, whatever the script says: the protocol as it is meant.
    #[arg(long, conflicts_with = "defect")]
    no_defect: bool,
    /// For machines: the verdict as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// When the file is no script.
pub fn run(options: &ReplayOptions) -> Result<ExitCode, String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", options.file.display());
    let text = std::fs::read_to_string(&options.file).map_err(|error| said(&error))?;
    let planted = (options.defect.is_some() || options.no_defect).then_some(options.defect);
    let judged = script::judge(&text, planted).map_err(|error| said(&error))?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&judged).map_err(|error| error.to_string())?);
    } else {
        for line in &judged.idle {
            println!("line {line}: no such message was in flight");
        }
        match &judged.broken {
            None => println!("{} commands: every rule held", judged.commands),
            Some(Broken { line, command, rule, what }) => println!("line {line}: {command}\nBROKEN {rule}: {what}"),
        }
    }
    Ok(if judged.broken.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
