//! `auriga-model`: checks the models, opens them in a browser, proves that planted defects are found.

use auriga_model::checking::Options;
use auriga_model::registry::{self, Scope, Set};
use auriga_model::report::{Table, render_failure};
use clap::{Parser, Subcommand};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "auriga-model", about = "Model checking of Auriga's production state machines.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check scopes completely.
    Check {
        /// quick, nightly (all), or the name of one scope.
        #[arg(long, default_value = "quick")]
        scope: String,
        /// Threads of the checker.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Save a counterexample here, as a script.
        #[arg(long)]
        save: Option<PathBuf>,
    },
    /// Walk through a scope's states in a browser.
    Explore {
        /// The scope.
        scope: String,
        /// The port on 127.0.0.1.
        #[arg(long, default_value_t = 3000)]
        port: u16,
    },
    /// List the scopes.
    List,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Check { scope, threads, save } => check(&scope, threads.max(1), save),
        Command::Explore { scope, port } => explore(&scope, port),
        Command::List => list(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("auriga-model: {error}");
        ExitCode::FAILURE
    })
}

fn check(wanted: &str, threads: usize, save: Option<PathBuf>) -> Result<ExitCode, String> {
    let options = Options { threads, progress: true };
    let mut table = Table::default();
    let mut all_hold = true;
    for scope in registry::select(wanted)? {
        let verdict = scope.check(&options);
        let judged = scope.judge(&verdict);
        all_hold &= judged.is_ok();
        table.add(scope.name, &verdict, &judged.map_or_else(|wrong| wrong, str::to_owned));
        if let Some(failure) = &verdict.failure {
            eprintln!("{}: {}", scope.name, render_failure(failure));
            if let Some(path) = &save {
                let header = format!("# scope {}: {}\n", scope.name, failure.property);
                let lines = failure.trace.commands.iter().map(|command| format!("{command}\n"));
                let text = lines.fold(header, |text, line| text + &line);
                std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
    }
    print!("{}", table.render());
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn explore(name: &str, port: u16) -> Result<ExitCode, String> {
    let scopes = registry::select(name)?;
    let [scope] = scopes.as_slice() else { return Err(String::from("explore takes one scope: see list")) };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    eprintln!("{}: http://{address} (stop with Ctrl-C)", scope.name);
    scope.explore(address);
    Ok(ExitCode::SUCCESS)
}

fn list() -> Result<ExitCode, String> {
    for Scope { name, set, pinned, about, .. } in registry::all() {
        let set = if set == Set::Quick { "quick" } else { "nightly" };
        let pinned = pinned.map_or_else(|| String::from("-"), auriga_model::report::grouped);
        println!("{name:<24} {set:<8} {pinned:>12}  {about}");
    }
    Ok(ExitCode::SUCCESS)
}
