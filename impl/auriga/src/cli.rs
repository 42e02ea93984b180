//! The command line.

#[cfg(feature = "rehearsal")]
use crate::signals;
use crate::status::gather::Where;
use crate::{accept_loss, backup, certs, drain, global, roles, set_aside, snapshot, status, watchers};
use auriga_admin::config::{self, InstanceConfig, StorageConfig};
use auriga_admin::member::parse_region;
use auriga_admin::{storage, trust};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
#[cfg(feature = "rehearsal")]
use std::sync::mpsc::{Receiver, sync_channel};

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
    #[cfg(feature = "rehearsal")]
    #[command(flatten)]
    Rehearsal(auriga_rehearsal::cli::Command),
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
        /// Where each region of a global database stands; --config is then a region's
        #[arg(long, conflicts_with = "watch")]
        global: bool,
        /// In a demo of several regions: which one
        #[arg(long, conflicts_with_all = ["config", "global"], value_parser = parse_region)]
        region: Option<u16>,
    },
    /// Run one storage process
    Storage {
        /// Its configuration (see examples/storage.toml)
        #[arg(long)]
        config: PathBuf,
        /// Misbehave when `auriga inject` asks for it
        #[arg(long)]
        allow_fault_injection: bool,
    },
    /// Run one instance: PostgreSQL on a volume
    Instance {
        /// Its configuration (see examples/instance.toml)
        #[arg(long)]
        config: PathBuf,
    },
    /// Run one controller: it has another instance take over when the writer is gone
    Control {
        /// Its configuration (see examples/control.toml)
        #[arg(long)]
        config: PathBuf,
    },
    /// Run one gateway: addresses that stay the same, whoever writes
    Gateway {
        /// Its configuration (see examples/gateway.toml)
        #[arg(long)]
        config: PathBuf,
    },
    /// Make another region of a global database the primary, and lose nothing
    Switchover {
        /// Which region: its number, or its name, such as region-2
        #[arg(long, value_parser = parse_region)]
        to: u16,
        #[command(flatten)]
        place: global::Place,
    },
    /// Have another instance become the writer, and wait for it; with --allow-data-loss, another region the primary
    Failover {
        /// Which one; of instances, the best one where absent
        #[arg(long, required_if_eq("allow_data_loss", "true"))]
        to: Option<String>,
        /// It is a region that is to be the primary: what has not arrived there is lost to it
        #[arg(long)]
        allow_data_loss: bool,
        /// A controller's configuration, or a region's
        #[arg(long, conflicts_with = "dir")]
        config: Option<PathBuf>,
        /// The demo's directory, where several run
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Move every copy off a storage process, healthy or lost, onto others of its Availability Zone, and wait until it holds
    /// none
    Drain {
        /// Which one
        name: String,
        /// Onto this one; the one with the fewest segments where absent
        #[arg(long, conflicts_with = "undo")]
        onto: Option<String>,
        /// Take back what has not ended
        #[arg(long)]
        undo: bool,
        /// A controller's configuration
        #[arg(long, conflicts_with = "dir")]
        config: Option<PathBuf>,
        /// The demo's directory, where several run
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Show what has happened to a cluster: failovers, with their reasons
    Events {
        /// How many of the last ones
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        count: u16,
        /// A line of JSON each
        #[arg(long)]
        json: bool,
        /// A controller's configuration
        #[arg(long, conflicts_with = "dir")]
        config: Option<PathBuf>,
        /// The demo's directory, where several run
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Move the directory of a storage process that is stopped out of the way, where its store is refused: the process then
    /// gets its segments back from its peers
    SetAside {
        /// Its configuration
        #[arg(long)]
        config: PathBuf,
    },
    /// Create the segments of a new volume on its six storage processes
    CreateVolume {
        /// The configuration of the volume's instance
        #[arg(long)]
        config: PathBuf,
    },
    /// A global database: one volume in each of several regions, of which one is the primary
    #[command(subcommand)]
    Global(global::Command),
    /// Open a volume as it was at one point, for reading, beside the running database: PostgreSQL on a port of its own, until
    /// it is told to stop. Nothing that is done there stays
    OpenSnapshot(snapshot::Options),
    /// Back a volume up, all the time: its log and pages, read from storage
    Backup {
        /// Its configuration (see examples/backup.toml)
        #[arg(long)]
        config: PathBuf,
    },
    /// Show what is in a backup
    Backups {
        /// Its folder
        #[arg(long)]
        from: String,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a new volume from a backup, as of an instant
    Restore(backup::RestoreOptions),
    /// Accept that too many storage processes lost their journals for the volume to come back by itself. Looks, and says
    /// what it means; does nothing until the volume's identity is typed
    AcceptLoss {
        /// The configuration of the volume's instance
        #[arg(long)]
        config: PathBuf,
        /// The storage processes whose journals are lost for good
        #[arg(long, value_delimiter = ',', required = true)]
        lost: Vec<String>,
        /// The volume's identity, as the command without it prints it
        #[arg(long)]
        identity: Option<String>,
    },
    /// Make the certificates by which the processes of a cluster know each other
    #[command(subcommand)]
    Certs(certs::Command),
    #[command(hide = true)]
    OnMount { job: String },
}

/// Does what the command line says.
///
/// # Errors
/// As the command does; the text is for a person.
pub fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        #[cfg(feature = "rehearsal")]
        Command::Rehearsal(command) => auriga_rehearsal::cli::run(command, stop_asked),
        Command::Status { json, config, dir, global: true, .. } => {
            global::run(global::Command::Status { json, place: global::Place { config, dir } })
        }
        Command::Status { watch, json, config, dir, region, .. } => match config {
            Some(path) => {
                let place = Where::Config(Box::new(config::read(&path)?));
                Ok(verdict(status::run(&place, watch, json)?))
            }
            None => match demo(dir.clone(), region)? {
                Some(place) => Ok(verdict(status::run(&place, watch, json)?)),
                None => global::run(global::Command::Status { json, place: global::Place { config: None, dir } }),
            },
        },
        Command::Storage { config: file, allow_fault_injection } => {
            let mut config: StorageConfig = config::read(&file)?;
            config.allow_fault_injection |= allow_fault_injection;
            roles::storage(&config, &file)
        }
        Command::Certs(command) => certs::run(command),
        Command::Global(command) => global::run(command),
        Command::OpenSnapshot(options) => snapshot::run(options),
        Command::Backup { config } => backup::take(&config),
        Command::Backups { from, json } => backup::show(&from, json),
        Command::Restore(options) => backup::restore(&options),
        Command::AcceptLoss { config, lost, identity } => {
            accept_loss::run(&config::read(&config)?, &lost, identity.as_deref())
        }
        Command::SetAside { config } => set_aside::run(&config::read(&config)?),
        Command::Instance { config } => roles::instance(config::read(&config)?),
        Command::Control { config } => watchers::control(config::read(&config)?),
        Command::Gateway { config } => watchers::gateway(&config::read(&config)?),
        Command::Switchover { to, place } => global::run(global::Command::Switchover { to, place }),
        Command::Failover { to, allow_data_loss: true, config, dir } => {
            let to = parse_region(&to.unwrap_or_default())?;
            let place = global::Place { config, dir };
            global::run(global::Command::Failover { to, allow_data_loss: true, place })
        }
        Command::Failover { to, config, dir, .. } => {
            watchers::failover(&watchers::find(config.as_deref(), dir)?, to.as_deref())
        }
        Command::Events { count, json, config, dir } => {
            watchers::events(&watchers::find(config.as_deref(), dir)?, count.into(), json)
        }
        Command::Drain { name, onto, undo, config, dir } => {
            let place = drain::Place::find(config.as_deref(), dir)?;
            drain::run(&place, &name, onto.as_deref(), undo)
        }
        Command::CreateVolume { config } => {
            let config: InstanceConfig = config::read(&config)?;
            trust::of_instance(&config)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let identity = storage::identity_text(runtime.block_on(storage::create_volume(&config))?);
            println!("volume {} has its segments on all six storage processes", config.volume);
            println!(
                "so that no instance ever takes another one for it, add to its configuration: identity = \"{identity}\""
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::OnMount { job } => Ok(roles::on_mount(&job)?),
    }
}

fn verdict(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Finds a demo, or one region of a demo of several; `None`: it is one of several, and none is named.
#[cfg(feature = "rehearsal")]
fn demo(dir: Option<PathBuf>, region: Option<u16>) -> Result<Option<Where>, Failure> {
    use auriga_rehearsal::demo::control::{self, Ask, Reply};
    let dir = auriga_rehearsal::cli::find_demo(dir)?;
    match (control::ask(&dir, &Ask::Describe)?, region) {
        (Reply::Regions(_), None) => Ok(None),
        (Reply::Regions(shown), Some(region)) => match shown.layout.region(region) {
            Some(layout) => Ok(Some(Where::Demo(layout.dir.clone()))),
            None => Err(format!("there is no region {region}").into()),
        },
        (_, Some(_)) => Err("this demo is one region: start one of several with `auriga demo --global`".into()),
        (_, None) => Ok(Some(Where::Demo(dir))),
    }
}

#[cfg(not(feature = "rehearsal"))]
fn demo(_: Option<PathBuf>, _: Option<u16>) -> Result<Option<Where>, Failure> {
    Err("this program was built without the demo: name a cluster's instance with --config".into())
}

/// Receives one message for the first signal that asks this program to stop. The second one ends the program at once,
/// whatever it waits for: the kernel then ends its processes, and the janitor clears up.
#[cfg(feature = "rehearsal")]
fn stop_asked() -> std::io::Result<Receiver<()>> {
    let (sender, receiver) = sync_channel(4);
    let mut asked = false;
    signals::on_stop(move || {
        if asked {
            eprintln!("asked to stop again: ending at once");
            std::process::exit(auriga_rehearsal::cli::INTERRUPTED.into());
        }
        asked = true;
        let _ = sender.try_send(());
    })?;
    Ok(receiver)
}

#[cfg(all(test, feature = "rehearsal"))]
mod tests {
    use super::*;
    use auriga_rehearsal::demo::summary::{ALONE, FIRST, STORAGE_LOST, WATCHED};
    use auriga_rehearsal::regions::summary::TO_TRY;
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
        assert!(
            parse("auriga demo --readers 0 --readers 1").is_ok() && parse("auriga demo --tour --readers 1").is_err()
        );
        assert!(parse("auriga rehearse storage-kills --minutes 5 --rounds 5").is_err());
        assert!(
            parse("auriga demo --global --regions 3 --wan-ms 200").is_ok() && parse("auriga demo --regions 3").is_err()
        );
        assert!(parse("auriga failover --allow-data-loss").is_err(), "it must say where to");
    }

    #[test]
    fn what_the_demo_suggests_is_understood() {
        let others = ["inject kill az-b", "inject slow a1 --ms 20", "status --watch", "demo --keep /d --port 6000"];
        let to_try = [&FIRST[..], &WATCHED, &STORAGE_LOST, &ALONE, &TO_TRY].concat();
        for line in to_try.into_iter().map(|(command, _)| command).chain(others) {
            let words = std::iter::once("auriga").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["auriga", "demo", "--network", "10.0.0"]).is_err(), "never beyond loopback");
    }
}
