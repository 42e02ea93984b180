//! The command line.

mod defects;
mod replay;
mod sim;
mod suite;
mod trace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Judges Auriga from outside its state machines.
#[derive(Parser)]
#[command(name = "auriga-conformance", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Simulate whole clusters: many seeds, or one of them with its trace.
    Sim(sim::SimOptions),
    /// Plant each defect alone, and count the seeds until the simulation finds it.
    Defects(defects::DefectsOptions),
    /// Run a script, such as a counterexample of the model, over the real state machines, and judge it.
    Replay(replay::ReplayOptions),
    /// Test storage nodes, anybody's, over the network.
    Suite(suite::SuiteOptions),
    /// Judge the traces of a real cluster's run.
    Trace(trace::TraceOptions),
}

/// Runs the command line; the exit code is 1 where something was found, 2 where something could not be done.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Sim(options) => sim::run(&options),
        Command::Defects(options) => defects::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Suite(options) => suite::run(&options),
        Command::Trace(options) => trace::run(&options),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("auriga-conformance: {error}");
            ExitCode::from(2)
        }
    }
}
