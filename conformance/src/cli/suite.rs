//! `auriga-conformance suite`.

use crate::suite;
use auriga_net::handshake::ClusterId;
use std::net::SocketAddr;
use std::process::ExitCode;

/// Whom to test.
#[derive(clap::Args)]
pub struct SuiteOptions {
    /// Storage nodes, as `host:port`, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    address: Vec<SocketAddr>,
    /// The cluster that they belong to, 32 hexadecimal digits.
    #[arg(long, value_parser = cluster)]
    cluster: ClusterId,
    /// For machines: the verdicts as JSON.
    #[arg(long)]
    json: bool,
}

fn cluster(text: &str) -> Result<ClusterId, String> {
    u128::from_str_radix(text, 16).map(ClusterId).map_err(|error| error.to_string())
}

/// Runs it.
///
/// # Errors
/// When there is no runtime to run on.
pub fn run(options: &SuiteOptions) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let judged = suite::by_invariant(runtime.block_on(suite::run(&options.address, options.cluster)));
    if options.json {
        println!("{}", serde_json::to_string_pretty(&judged).map_err(|error| error.to_string())?);
    } else {
        print!("{}", suite::to_text(&judged));
    }
    let failed = judged.iter().filter(|judged| !judged.holds).count();
    eprintln!(
        "{} of {} invariants hold, as far as {} scenarios show",
        judged.len() - failed,
        judged.len(),
        judged.iter().map(|judged| judged.verdicts.len()).sum::<usize>()
    );
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
