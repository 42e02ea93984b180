//! The command line.

use crate::config::{self, InstanceConfig, MountConfig, PostgresConfig};
use crate::demo::control::{self, Action, Ask, Reply};
use crate::demo::{Demo, Options, janitor, layout, state};
use crate::rehearse::{self, Length, Scenario};
use crate::status::gather::Where;
use crate::{roles, signals, status, storage, tour, volatile_disk};
use clap::{Args, Parser, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

/// Unmodified PostgreSQL on a volume that keeps six copies in three Availability Zones
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole region on this machine: six storage processes and PostgreSQL
    Demo(DemoArguments),
    /// Show a running demo, or a cluster that was started by hand
    Status {
        /// Refresh every second
        #[arg(long)]
        watch: bool,
        /// One line of JSON instead of a table
        #[arg(long)]
        json: bool,
        /// A cluster started by hand: its instance's configuration
        #[arg(long, conflicts_with = "dir")]
        config: Option<PathBuf>,
        /// The demo's directory, where several run
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Break something in a running demo
    Inject {
        /// What to do
        action: Action,
        /// One process (a1 … c2, writer), an AZ (az-a, az-b, az-c), `instance`, `storage`, or `all`
        target: String,
        /// Milliseconds, for `slow`; 0 ends it
        #[arg(long, default_value_t = 50)]
        ms: u32,
        /// The demo's directory, where several run
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Run one storage process
    Storage {
        /// Its configuration (see examples/storage.toml)
        #[arg(long)]
        config: PathBuf,
    },
    /// Run one instance: PostgreSQL on a volume
    Instance {
        /// Its configuration (see examples/instance.toml)
        #[arg(long)]
        config: PathBuf,
    },
    /// Create the segments of a new volume on its six storage processes
    CreateVolume {
        /// The configuration of the volume's instance
        #[arg(long)]
        config: PathBuf,
    },
    /// Crash things again and again under load, and check every acknowledged commit
    Rehearse {
        /// What to crash
        scenario: Scenario,
        /// How often
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Go on for this long instead
        #[arg(long, conflicts_with = "rounds", value_parser = clap::value_parser!(u32).range(1..))]
        minutes: Option<u32>,
        /// To repeat a run's choices
        #[arg(long)]
        seed: Option<u64>,
        /// For `power-cut`: from the first round on, the disk keeps nothing of what it is asked to synchronise, so
        /// that commits must be reported as lost
        #[arg(long)]
        lying_disk: bool,
        #[command(flatten)]
        demo: PlaceArguments,
    },
    #[command(hide = true)]
    Janitor { mount: PathBuf, paths: Vec<PathBuf> },
}

#[derive(Debug, Args)]
struct DemoArguments {
    /// Walk through six failures under load, check everything, and end
    #[arg(long)]
    tour: bool,
    /// To repeat a tour's choices
    #[arg(long, requires = "tour")]
    seed: Option<u64>,
    #[command(flatten)]
    place: PlaceArguments,
}

#[derive(Debug, Args)]
struct PlaceArguments {
    /// Keep everything here, and leave it at the end; a demo that was kept goes on where it was
    #[arg(long, visible_alias = "keep")]
    dir: Option<PathBuf>,
    /// PostgreSQL's port
    #[arg(long, default_value_t = 5432)]
    port: u16,
    /// First three bytes of the loopback addresses: storage is .1 to .6, instances are .11 and on
    #[arg(long, default_value = "127.0.1", value_parser = layout::parse_network)]
    network: [u8; 3],
    /// Directory of PostgreSQL's programs
    #[arg(long)]
    pg_bin: Option<PathBuf>,
    /// PostgreSQL's shared_buffers [default: 256MB, or 16MB on a tour, to read past it]
    #[arg(long)]
    shared_buffers: Option<String>,
    /// PostgreSQL's max_connections
    #[arg(long, default_value_t = 100)]
    max_connections: u16,
    /// Let every process write down each observable fact; judged by the rules at the end of a tour or rehearsal
    #[arg(long)]
    trace: bool,
    /// The same, and let every process record the inputs of its state machines: at the end, each life of each is run
    /// again, and must say and do the same. Large: every redo record once more in each copy's recording. Those of one
    /// process, its restarts included, end at so many MiB
    #[arg(long, value_name = "MIB", num_args = 0..=1, require_equals = true, default_missing_value = "1024")]
    trace_inputs: Option<u64>,
    /// Protection groups of the volume
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    groups: u16,
    /// LAL of the volume, the LSNs that may be allocated above VDL
    #[arg(long, hide = true, value_parser = clap::value_parser!(u64).range(64..))]
    allocation_limit: Option<u64>,
    /// Limit of the mount's page cache, in MiB
    #[arg(long, default_value_t = 256)]
    cache_mib: usize,
}

/// Does what the command line says.
///
/// # Errors
/// As the command does; the text is for a person.
pub fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Demo(arguments) => demo(arguments),
        Command::Status { watch, json, config, dir } => {
            let place = match config {
                Some(path) => Where::Config(Box::new(config::read(&path)?)),
                None => Where::Demo(find_demo(dir)?),
            };
            status::run(&place, watch, json)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Inject { action, target, ms, dir } => inject(dir, target, action, ms),
        Command::Storage { config } => roles::storage(&config::read(&config)?),
        Command::Instance { config } => roles::instance(config::read(&config)?),
        Command::CreateVolume { config } => {
            let config: InstanceConfig = config::read(&config)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(storage::create_volume(&config))?;
            println!("volume {} has its segments on all six storage processes", config.volume);
            Ok(ExitCode::SUCCESS)
        }
        Command::Rehearse { scenario, rounds, minutes, seed, lying_disk, demo } => {
            let volatile = scenario.needs_volatile_disk();
            if volatile {
                volatile_disk::prepare()?;
            }
            let stop = stop_asked()?;
            let seed = seed.unwrap_or_else(|| fastrand::u64(..));
            let trace = demo.traces();
            let mut options = Options { volatile: volatile.then_some(seed), ..demo.options("64MB") };
            if scenario == Scenario::ByteFlips {
                options.scrub_journal_s = 1;
            }
            let demo = Demo::bring_up(options)?;
            let length = minutes.map_or(Length::Rounds(rounds), Length::minutes);
            let rehearsed = rehearse::run(&demo, scenario, length, seed, lying_disk, &stop);
            judged(&demo, trace, rehearsed)
        }
        Command::Janitor { mount, paths } => {
            janitor::run(&mount, &paths);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn demo(arguments: DemoArguments) -> Result<ExitCode, Failure> {
    let stop = stop_asked()?;
    let begun = Instant::now();
    println!("starting six storage processes and PostgreSQL …");
    if !arguments.tour {
        Demo::bring_up(arguments.place.options("256MB"))?.stay(&stop);
        return Ok(ExitCode::SUCCESS);
    }
    let trace = arguments.place.traces();
    let demo = Demo::bring_up(arguments.place.options("16MB"))?;
    // Ctrl-C ends a tour at once: the kernel ends the processes, and the janitor clears up.
    std::thread::spawn(move || {
        if stop.recv().is_ok() {
            eprintln!("interrupted");
            std::process::exit(130);
        }
    });
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let toured = tour::run(&demo, begun.elapsed(), seed);
    judged(&demo, trace, toured)
}

/// Whether a run was clean and its traces, if any, keep the rules. Those of a run that failed say more than its error.
fn judged<E: Into<Failure>>(demo: &Demo, trace: bool, clean: Result<bool, E>) -> Result<ExitCode, Failure> {
    let holds = !trace || demo.judge_traces()?;
    Ok(verdict(clean.map_err(Into::into)? & holds))
}

fn verdict(clean: bool) -> ExitCode {
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn inject(dir: Option<PathBuf>, target: String, action: Action, ms: u32) -> Result<ExitCode, Failure> {
    match control::ask(&find_demo(dir)?, &Ask::Inject { target, action, ms })? {
        Reply::Done(names) => {
            println!("done: {}{}", names.join(" "), action.effect(ms));
            Ok(ExitCode::SUCCESS)
        }
        Reply::Refused(why) => Err(why.into()),
        Reply::Described { .. } => Err("the demo answered something else".into()),
    }
}

/// The directory of the demo that is meant.
fn find_demo(dir: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(dir) = dir {
        return Ok(dir);
    }
    let running = state::running();
    match &running[..] {
        [] => Err("no demo is running: start one with `auriga demo`".into()),
        [one] => Ok(one.dir.clone()),
        several => {
            let dirs: Vec<String> = several.iter().map(|r| r.dir.display().to_string()).collect();
            Err(format!("several demos are running: choose one with --dir: {}", dirs.join(", ")).into())
        }
    }
}

/// Receives one message for each signal that asks us to stop.
fn stop_asked() -> std::io::Result<Receiver<()>> {
    let (sender, receiver) = sync_channel(4);
    signals::on_stop(move || {
        let _ = sender.try_send(());
    })?;
    Ok(receiver)
}

impl PlaceArguments {
    fn traces(&self) -> bool {
        self.trace || self.trace_inputs.is_some()
    }

    fn options(self, shared_buffers: &str) -> Options {
        let trace = self.traces();
        let shared_buffers = self.shared_buffers.unwrap_or_else(|| shared_buffers.to_owned());
        let settings = BTreeMap::from([
            ("shared_buffers".to_owned(), shared_buffers),
            ("max_connections".to_owned(), self.max_connections.to_string()),
        ]);
        Options {
            dir: self.dir,
            network: self.network,
            port: self.port,
            postgres: PostgresConfig { bin: self.pg_bin, settings, ..PostgresConfig::default() },
            mount: MountConfig { cache_mib: self.cache_mib, ..MountConfig::default() },
            trace,
            trace_inputs_mib: self.trace_inputs,
            groups: self.groups,
            allocation_limit: self.allocation_limit,
            volatile: None,
            scrub_journal_s: config::scrub_journal_s(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::summary::TO_TRY;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_rehearsal_is_as_long_as_asked_in_one_unit() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("auriga rehearse storage-kills --minutes 5 --trace").is_ok());
        assert!(parse("auriga rehearse storage-kills --trace-inputs --rounds 5").is_ok());
        assert!(parse("auriga demo --tour --trace-inputs=64").is_ok());
        assert!(parse("auriga rehearse storage-kills --minutes 5 --rounds 5").is_err());
    }

    #[test]
    fn what_the_demo_suggests_is_understood() {
        let others = ["inject kill az-b", "inject slow a1 --ms 20", "status --watch", "demo --keep /d --port 6000"];
        for line in TO_TRY.map(|(command, _)| command).into_iter().chain(others) {
            let words = std::iter::once("auriga").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["auriga", "demo", "--network", "10.0.0"]).is_err(), "never beyond loopback");
    }
}
