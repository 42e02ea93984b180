//! `auriga-model`: checks the models, opens them in a browser, proves that planted defects are found.

use auriga_model::checking::{CheckOptions, Failure};
use auriga_model::defects::{Hunt, hunt};
use auriga_model::registry::{self, Scope, Set};
use auriga_model::report::{Table, grouped, render_columns, render_failure};
use auriga_model::{script, specs};
use auriga_protocol::Defect;
use clap::{Parser, Subcommand};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
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
        /// quick, nightly (and quick), or the name of one scope.
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
    /// Plant each defect at its smallest scope, and see that it is caught.
    Defects {
        /// Only this one, with its trace.
        slug: Option<String>,
        /// Write the tables of `specs/` instead of comparing them.
        #[arg(long)]
        write: bool,
        /// Save the counterexample of the one defect here, as a script.
        #[arg(long, requires = "slug")]
        save: Option<PathBuf>,
    },
    /// List the scopes.
    List,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Check { scope, threads, save } => check(&scope, threads.max(1), save),
        Command::Explore { scope, port } => explore(&scope, port),
        Command::Defects { slug, write, save } => hunt_defects(slug.as_deref(), write, save.as_deref()),
        Command::List => list(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("auriga-model: {error}");
        ExitCode::FAILURE
    })
}

fn check(wanted: &str, threads: usize, save: Option<PathBuf>) -> Result<ExitCode, String> {
    let options = CheckOptions { threads, progress: true };
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
                save_script(path, scope.name, failure)?;
            }
        }
    }
    print!("{}", table.render());
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn save_script(path: &Path, what: &str, failure: &Failure) -> Result<(), String> {
    let text = script::render(&format!("{what}: {}", failure.property), &failure.trace.script);
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn explore(name: &str, port: u16) -> Result<ExitCode, String> {
    let scopes = registry::select(name)?;
    let [scope] = scopes.as_slice() else { return Err(String::from("explore takes one scope: see list")) };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    eprintln!("{}: http://{address} (stop with Ctrl-C)", scope.name);
    scope.explore(address);
    Ok(ExitCode::SUCCESS)
}

fn hunt_defects(slug: Option<&str>, write: bool, save: Option<&Path>) -> Result<ExitCode, String> {
    let options = CheckOptions { threads: 2, progress: true };
    let wanted = |defect: &&Defect| slug.is_none_or(|slug| defect.slug() == slug);
    let mut hunts = Vec::new();
    let mut seconds = Vec::new();
    let mut all_caught = true;
    for hunt in Defect::ALL.iter().filter(wanted).filter_map(|defect| hunt(*defect, &options)) {
        all_caught &= hunt.failure.is_some();
        seconds.push([
            hunt.defect.slug().to_owned(),
            hunt.failure.as_ref().map_or(String::from("-"), |failure| failure.trace.lines.len().to_string()),
            grouped(hunt.unique),
            format!("{:.2}", hunt.elapsed.as_secs_f64()),
            hunt.failure.as_ref().map_or(String::from("NOT CAUGHT"), |failure| failure.property.to_owned()),
        ]);
        if let (Some(_), Some(failure)) = (slug, &hunt.failure) {
            eprintln!("{}", render_failure(failure));
            if let Some(path) = save {
                save_script(path, hunt.defect.slug(), failure)?;
            }
        }
        hunts.push(hunt);
    }
    print!("{}", render_columns(&["defect", "steps", "states", "seconds", "caught by"], &seconds));
    if slug.is_none() {
        write_or_compare(&hunts, write)?;
    }
    Ok(if all_caught { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes what `specs/` says of these hunts, or compares it.
fn write_or_compare(hunts: &[Hunt], write: bool) -> Result<(), String> {
    for (path, text) in specs::files(hunts)? {
        let shown = path.display();
        if write {
            std::fs::write(&path, text).map_err(|error| format!("{shown}: {error}"))?;
        } else if !std::fs::read_to_string(&path).is_ok_and(|now| now == text) {
            return Err(format!("{shown} is not what this run found: run `defects --write`"));
        }
    }
    Ok(())
}

fn list() -> Result<ExitCode, String> {
    for Scope { name, set, pinned, about, .. } in registry::all() {
        let set = match set {
            Set::Quick => "quick",
            Set::Nightly => "nightly",
            Set::Unfinished => "unfinished",
        };
        let pinned = pinned.map_or_else(|| String::from("-"), grouped);
        println!("{name:<24} {set:<10} {pinned:>12}  {about}");
    }
    Ok(ExitCode::SUCCESS)
}
