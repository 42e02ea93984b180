//! The commands of the demo and of the rehearsals.

use crate::demo::control::{self, Action, Ask, Reply};
use crate::demo::{Demo, DemoError, Options, janitor, layout, state};
use crate::regions::layout::{REGIONS_MAX, REGIONS_USUAL};
use crate::regions::wan::WanOptions;
use crate::regions::{self, GlobalDemo};
use crate::rehearse::{self, Length, Scenario};
use crate::{tour, volatile_disk};
use auriga_admin::config::{self, MountConfig, PostgresConfig};
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::Receiver;
use std::time::Instant;

/// A round trip between regions of a rehearsal, in milliseconds.
const WAN_MS: u32 = 80;
/// Megabits per second between regions of a rehearsal.
const WAN_MBIT: u32 = 1000;

/// Exit code of what was interrupted, as shells have it for SIGINT.
pub const INTERRUPTED: u8 = 130;

type Failure = Box<dyn std::error::Error>;

/// Makes the channel that receives one message for each signal that asks this program to stop.
pub type StopAsked = fn() -> std::io::Result<Receiver<()>>;

/// The commands that start a demo, break it, or rehearse failures.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole region on this machine: six storage processes, a writer and readers
    Demo(DemoArguments),
    /// Break something in a running demo
    Inject {
        /// What to do
        action: Action,
        /// One process (a1 … c2, writer, reader-1 …), an AZ (az-a, az-b, az-c), `instance`, `readers`, `storage`, or `all`; of
        /// several regions, one of them (2, region-2), the network between two (1-2), or a process or AZ of one (2/writer)
        target: String,
        /// Milliseconds, for `slow`, of which 0 ends it, and for `wan`
        #[arg(long, default_value_t = 50)]
        ms: u32,
        /// The demo's directory, where several run
        #[arg(long)]
        dir: Option<PathBuf>,
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
        /// What the demo is made from.
        demo: PlaceArguments,
    },
    #[command(hide = true)]
    /// Deletes what a demo leaves, once the demo has ended.
    Janitor {
        /// A mount to end.
        mount: PathBuf,
        /// What to delete.
        paths: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
/// What `demo` takes.
pub struct DemoArguments {
    /// Walk through failures of everything under load, check every commit, and end
    #[arg(long)]
    tour: bool,
    /// To repeat a tour's choices
    #[arg(long, requires = "tour")]
    seed: Option<u64>,
    /// Instances that read, each a hot standby on the same volume, until one takes over: they are .12 and on. Of several such
    /// options the last one counts
    #[arg(long, default_value_t = layout::READERS_USUAL, conflicts_with = "tour", overrides_with = "readers", value_parser = clap::value_parser!(u8).range(..=i64::from(layout::READERS_MAX)))]
    readers: u8,
    /// Start no controller and no gateway beside readers: nobody takes over when the writer is gone
    #[arg(long, conflicts_with = "tour")]
    unwatched: bool,
    /// Storage processes beside the six, which hold nothing until they take over from one that is lost for 5 s; none without
    /// a controller
    #[arg(long, default_value_t = layout::SPARES_USUAL, conflicts_with = "tour", value_parser = clap::value_parser!(u8).range(..=i64::from(layout::SPARES_MAX)))]
    spares: u8,
    /// Run several regions, one database over them, and a network between them
    #[arg(long, conflicts_with_all = ["readers", "unwatched"])]
    global: bool,
    #[command(flatten)]
    regions: RegionsArguments,
    #[command(flatten)]
    place: PlaceArguments,
}

#[derive(Clone, Copy, Debug, Args)]
/// What several regions are made from.
pub struct RegionsArguments {
    /// How many regions; the third byte of --network counts up by region
    #[arg(long, requires = "global", default_value_t = REGIONS_USUAL, value_parser = clap::value_parser!(u16).range(2..=i64::from(REGIONS_MAX)))]
    regions: u16,
    /// Milliseconds there and back between two regions
    #[arg(long, requires = "global", default_value_t = WAN_MS, value_parser = clap::value_parser!(u32).range(..=10_000))]
    wan_ms: u32,
    /// Megabits per second between two regions, each way
    #[arg(long, requires = "global", default_value_t = WAN_MBIT, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    wan_mbit: u32,
}

#[derive(Debug, Args)]
/// What the demo is made from.
pub struct PlaceArguments {
    /// Keep everything here, and leave it at the end; a demo that was kept goes on where it was
    #[arg(long, visible_alias = "keep")]
    dir: Option<PathBuf>,
    /// PostgreSQL's port
    #[arg(long, default_value_t = 5432, value_parser = clap::value_parser!(u16).range(1..))]
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
    /// Locale of a new database cluster, such as C, en_US.UTF-8 or icu:de-DE [default: the environment's]
    #[arg(long)]
    locale: Option<String>,
    /// PostgreSQL's max_connections
    #[arg(long, default_value_t = 100)]
    max_connections: u16,
    /// Let every process write down each observable fact; judged by the rules at the end of a tour or rehearsal
    #[arg(long)]
    trace: bool,
    /// The same, and let every process record the inputs of its state machines: at the end, each life of each is run
    /// again, and must say and do the same. Large: every redo record once more in each copy's recording. Those of one
    /// process, its restarts included, end at this many MiB
    #[arg(long, value_name = "MIB", num_args = 0..=1, require_equals = true, default_missing_value = "1024")]
    trace_inputs: Option<u64>,
    /// Protection groups of the volume
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    groups: u16,
    /// LAL of the volume, the LSNs that may be allocated above VDL
    #[arg(long, hide = true, value_parser = clap::value_parser!(u64).range(64..))]
    allocation_limit: Option<u64>,
    /// Let the processes speak in the clear, without certificates
    #[arg(long)]
    plaintext: bool,
    /// Limit of the mount's page cache, in MiB
    #[arg(long, default_value_t = 256)]
    cache_mib: usize,
}

/// Runs the command.
///
/// # Errors
/// As the command does; the text is for a person.
pub fn run(command: Command, stop_asked: StopAsked) -> Result<ExitCode, Failure> {
    match command {
        Command::Demo(arguments) => demo(arguments, stop_asked),
        Command::Inject { action, target, ms, dir } => inject(dir, target, action, ms),
        Command::Rehearse { scenario, rounds, minutes, seed, lying_disk, demo } => {
            let volatile = scenario.needs_volatile_disk();
            if volatile {
                volatile_disk::prepare()?;
            }
            let length = minutes.map_or(Length::Rounds(rounds), Length::minutes);
            if scenario == Scenario::Regions {
                return rehearse_regions(demo, length, seed, stop_asked);
            }
            let stop = stop_asked()?;
            let seed = seed.unwrap_or_else(|| fastrand::u64(..));
            let trace = demo.traces();
            let mut options = Options { volatile: volatile.then_some(seed), ..demo.options("64MB") };
            if scenario == Scenario::Failovers {
                (options.readers, options.watched) = (rehearse::failovers::READERS, true);
            }
            if scenario == Scenario::Repair {
                let (readers, spares) = (rehearse::repair::READERS, layout::SPARES_USUAL);
                options = Options { readers, watched: true, spares, heals: true, ..options };
            }
            if scenario == Scenario::ByteFlips {
                options.scrub_journal_s = 1;
            }
            if scenario == Scenario::Readers {
                options = rehearse::readers::options(options);
            }
            let demo = match Demo::bring_up(options, &stop) {
                Err(DemoError::Interrupted) => return Ok(interrupted()),
                demo => demo?,
            };
            let rehearsed = rehearse::run(&demo, scenario, length, seed, lying_disk, &stop);
            judged(&demo, trace, rehearsed)
        }
        Command::Janitor { mount, paths } => {
            janitor::run(&mount, &paths);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn demo(arguments: DemoArguments, stop_asked: StopAsked) -> Result<ExitCode, Failure> {
    if arguments.global {
        return global(arguments, stop_asked);
    }
    let stop = stop_asked()?;
    let begun = Instant::now();
    println!("{}", starting(arguments.readers));
    let (tour, trace, seed) = (arguments.tour, arguments.place.traces(), arguments.seed);
    let options = arguments.place.options(if tour { "16MB" } else { "256MB" });
    // A tour kills storage processes of the AZs b and c, for which nobody is to take over: its spare is in AZ a.
    let (watched, spares) = (!arguments.unwatched, if tour { 1 } else { arguments.spares });
    let heals = spares > 0;
    let options = Options { readers: arguments.readers, watched, spares, heals, ..options };
    let demo = match Demo::bring_up(options, &stop) {
        Err(DemoError::Interrupted) => return Ok(interrupted()),
        demo => demo?,
    };
    if !tour {
        demo.stay(&stop);
        return Ok(ExitCode::SUCCESS);
    }
    end_when_asked(stop);
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let toured = tour::run(&demo, begun.elapsed(), seed);
    judged(&demo, trace, toured)
}

/// The rehearsal of several regions.
fn rehearse_regions(
    place: PlaceArguments,
    length: Length,
    seed: Option<u64>,
    stop_asked: StopAsked,
) -> Result<ExitCode, Failure> {
    let stop = stop_asked()?;
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let trace = place.traces();
    let options = place.options("32MB");
    let wan = WanOptions { round_trip_ms: WAN_MS, megabits: WAN_MBIT };
    let demo = match GlobalDemo::bring_up(&options, REGIONS_USUAL, wan, &stop) {
        Err(DemoError::Interrupted) => return Ok(interrupted()),
        demo => demo?,
    };
    let clean = regions::rehearse::run(&demo, length, seed, &stop);
    let holds = !trace || demo.judge_traces()?;
    Ok(verdict(clean? & holds))
}

/// Ctrl-C ends a tour at once: the kernel ends the processes, and the janitor clears up.
fn end_when_asked(stop: Receiver<()>) {
    std::thread::spawn(move || {
        if stop.recv().is_ok() {
            eprintln!("interrupted");
            std::process::exit(INTERRUPTED.into());
        }
    });
}

/// The demo of several regions.
fn global(arguments: DemoArguments, stop_asked: StopAsked) -> Result<ExitCode, Failure> {
    let stop = stop_asked()?;
    let RegionsArguments { regions: count, wan_ms, wan_mbit } = arguments.regions;
    println!("starting {count} regions, each of six storage processes, a region's process and an instance …");
    let trace = arguments.place.traces();
    let options = arguments.place.options("32MB");
    let wan = WanOptions { round_trip_ms: wan_ms, megabits: wan_mbit };
    let begun = Instant::now();
    let demo = match GlobalDemo::bring_up(&options, count, wan, &stop) {
        Err(DemoError::Interrupted) => return Ok(interrupted()),
        demo => demo?,
    };
    if !arguments.tour {
        demo.stay(&stop);
        return Ok(ExitCode::SUCCESS);
    }
    end_when_asked(stop);
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let toured = regions::tour::run(&demo, begun.elapsed(), seed);
    let holds = !trace || demo.judge_traces()?;
    Ok(verdict(toured? & holds))
}

fn starting(readers: u8) -> String {
    match readers {
        0 => "starting six storage processes and PostgreSQL …".to_owned(),
        1 => "starting six storage processes, a writer and a reader …".to_owned(),
        more => format!("starting six storage processes, a writer and {more} readers …"),
    }
}

/// A person has stopped it before it was up.
fn interrupted() -> ExitCode {
    println!("{}", DemoError::Interrupted);
    ExitCode::from(INTERRUPTED)
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
        Reply::Done(outcome) => {
            for (name, why) in &outcome.not_done {
                eprintln!("nothing done to {name}: {why}");
            }
            if !outcome.done.is_empty() {
                println!("done: {}{}", outcome.done.join(" "), action.effect(ms));
            }
            Ok(verdict(!outcome.done.is_empty()))
        }
        Reply::Refused(why) => Err(why.into()),
        Reply::Described { .. } | Reply::Regions(_) => Err("the demo answered something else".into()),
    }
}

/// Returns the directory of the demo that is meant.
///
/// # Errors
/// None is running, or several are and `dir` names none.
pub fn find_demo(dir: Option<PathBuf>) -> Result<PathBuf, Failure> {
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
            postgres: PostgresConfig { bin: self.pg_bin, settings, locale: self.locale, ..PostgresConfig::default() },
            mount: MountConfig { cache_mib: self.cache_mib, ..MountConfig::default() },
            trace,
            trace_inputs_mib: self.trace_inputs,
            groups: self.groups,
            allocation_limit: self.allocation_limit,
            volatile: None,
            scrub_journal_s: config::scrub_journal_s(),
            plaintext: self.plaintext,
            readers: 0,
            reader_settings: BTreeMap::new(),
            watched: false,
            spares: 0,
            heals: false,
            region: None,
        }
    }
}
