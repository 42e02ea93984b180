//! The global database: a region's process, and what people ask the regions.

mod demo;

use crate::{log, lost, roles, signals};
use auriga_admin::config::RegionConfig as File;
use auriga_admin::member::parse_region;
use auriga_admin::storage::{cluster_id, identity_in, volume_of_region};
use auriga_admin::trust;
use auriga_net::tls::CertifiedRole;
use auriga_protocol::RegionId;
use auriga_protocol::global::{Operation, Outcome, RegionRole};
use auriga_region::controller::{self, Standing};
use auriga_region::{LinkConfig, RegionConfig, RegionProcess};
use auriga_volume::find_volume;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::mpsc::channel;
use tokio::time::Instant;

type Failure = Box<dyn Error>;

/// How long the volume may take to be found, and a change of roles to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long regions may take to say where they stand.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// What is asked of a global database.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one region's process: it ships the log of its storage to other regions, or takes theirs
    Region {
        /// Its configuration (see examples/region.toml)
        #[arg(long)]
        config: PathBuf,
    },
    /// Make another region the primary, and lose nothing
    Switchover {
        /// Which region: its number, or its name, such as region-2
        #[arg(long, value_parser = parse_region)]
        to: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Make another region the primary although the one before can't be reached: what has not arrived there is lost to it
    Failover {
        /// Which region: its number, or its name, such as region-2
        #[arg(long, value_parser = parse_region)]
        to: u16,
        /// Said so that nobody loses data by mistake
        #[arg(long, required = true)]
        allow_data_loss: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Take back a switchover that has not ended: the region that was fenced for it goes on
    Undo {
        /// The region that goes on
        #[arg(long, value_parser = parse_region)]
        primary: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Name what the last failover lost of a region, with its commits: asked of that region's storage
    Lost {
        /// In a demo: which region; each that has lost something where absent
        #[arg(long, conflicts_with = "config", value_parser = parse_region)]
        region: Option<u16>,
        #[command(flatten)]
        place: Place,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Show where each region stands
    Status {
        /// JSON instead of a table: of a demo
        #[arg(long, conflicts_with = "config")]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// Where a global database is.
#[derive(Debug, Args)]
pub struct Place {
    /// The configuration of a region; without one, a demo is looked for
    #[arg(long, conflicts_with = "dir")]
    pub config: Option<PathBuf>,
    /// The demo's directory, where several run
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// Does what is asked.
///
/// # Errors
/// As the command does; the text is for a person.
pub fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Region { config } => region(&auriga_admin::config::read(&config)?),
        Command::Switchover { to, place } => {
            change(&asking(&place, to)?, Operation::Switchover { target: RegionId(to) })
        }
        Command::Failover { to, place, .. } => {
            change(&asking(&place, to)?, Operation::Failover { target: RegionId(to) })
        }
        Command::Undo { primary, place } => {
            change(&asking(&place, primary)?, Operation::Undo { primary: RegionId(primary) })
        }
        Command::Lost { region, json, place } => match &place.config {
            Some(config) => lost::run(&auriga_admin::config::read(config)?, json),
            None => demo::configs(place.dir, region)?
                .iter()
                .try_fold(ExitCode::SUCCESS, |_, config| lost::run(&auriga_admin::config::read(config)?, json)),
        },
        Command::Status { json, place } => match &place.config {
            Some(config) => status(&through(config)?),
            None => demo::status(place.dir, json),
        },
    }
}

fn link(config: &File) -> Result<LinkConfig, Failure> {
    let regions = config.regions.iter().map(|region| (RegionId(region.region), region.address)).collect();
    let credentials = trust::credentials(config.tls.as_ref())?;
    Ok(LinkConfig { name: config.name.clone(), global: cluster_id(&config.global), credentials, regions })
}

fn region(config: &File) -> Result<ExitCode, Failure> {
    log::to_stderr();
    let (sender, mut stop) = channel(1);
    signals::on_stop(move || {
        let _ = sender.try_send(());
    })?;
    trust::of_region(config)?;
    let (own, link) = (RegionId(config.region), link(config)?);
    let listen = *link.regions.get(&own).ok_or("regions: this region is not among them")?;
    if !link.regions.contains_key(&RegionId(config.first_primary)) {
        return Err("first_primary: there is no such region".into());
    }
    let mut volume = volume_of_region(config)?;
    volume.trace = roles::trace(&config.name, config.trace.as_deref(), None)?;
    let identity = identity_in(config.identity.as_deref())?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let found = tokio::select! {
            found = find_volume(&volume, identity, std::time::Instant::now() + PATIENCE) => found?,
            _ = stop.recv() => return Ok(ExitCode::SUCCESS),
        };
        volume.volume = found;
        let listener = tokio::net::TcpListener::bind(listen).await;
        let listener = listener.map_err(|error| format!("listening on {listen}: {error}"))?;
        let first_primary = RegionId(config.first_primary);
        let (readers, admin) = (config.readers.as_ref().map(|readers| readers.listen), config.admin);
        let config =
            RegionConfig { region: own, first_primary, link, volume, writers: config.instances.clone(), readers };
        let credentials = config.link.credentials.clone();
        let process = Arc::new(RegionProcess::start(config, listener));
        if let Some(at) = admin {
            let listener = tokio::net::TcpListener::bind(at).await;
            let listener = listener.map_err(|error| format!("listening on {at}: {error}"))?;
            let routes = auriga_region::port::router(own, process.clone());
            tokio::spawn(auriga_http::serve(listener, credentials, auriga_http::Limits::default(), routes));
        }
        stop.recv().await;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

/// Who may ask the regions of a global database, and from where: in a demo, from the region that is named.
fn asking(place: &Place, within: u16) -> Result<LinkConfig, Failure> {
    match &place.config {
        Some(path) => through(path),
        None => demo::link(place.dir.clone(), within),
    }
}

/// Asks through the regions that a configuration names, as a controller.
fn through(path: &std::path::Path) -> Result<LinkConfig, Failure> {
    let config: File = auriga_admin::config::read(path)?;
    let link = link(&config)?;
    let name = match &link.credentials {
        Some(credentials) if !matches!(credentials.own().role, CertifiedRole::Admin | CertifiedRole::Control) => {
            let role = credentials.own().role;
            return Err(format!(
                "[tls]: a certificate of the role {role} may not ask regions or move the primary: give a copy of the file \
                 with one of the role admin"
            )
            .into());
        }
        Some(credentials) => credentials.own().name.clone(),
        None => format!("{}-asks", config.name),
    };
    Ok(LinkConfig { name, ..link })
}

fn change(link: &LinkConfig, operation: Operation) -> Result<ExitCode, Failure> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let outcome = runtime.block_on(controller::run(link, operation, Instant::now() + PATIENCE))?;
    let (text, is_good) = told(outcome);
    println!("{text}");
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What an outcome means, for a person, and whether it is what was asked for.
fn told(outcome: Outcome) -> (String, bool) {
    match outcome {
        Outcome::Moved { branch, fenced_at: Some(end) } if end == branch.after => {
            (format!("region {} is the primary, after global LSN {}; nothing is lost", branch.primary.0, end), true)
        }
        Outcome::Moved { branch, fenced_at: Some(end) } => {
            let text = format!(
                "region {} is the primary, after global LSN {}; the one before it is fenced at {end}, so what lies between \
                 is lost to it",
                branch.primary.0, branch.after
            );
            (text, true)
        }
        Outcome::Moved { branch, fenced_at: None } => {
            let text = format!(
                "region {} is the primary, after global LSN {}; the one before it could not be fenced. It may go on, in a \
                 lineage of its own, until it hears of this; what it has beyond this point is named then",
                branch.primary.0, branch.after
            );
            (text, true)
        }
        Outcome::AlreadyPrimary(branch) => (format!("region {} is the primary already", branch.primary.0), true),
        Outcome::HandedOn(handover) => {
            let to = handover.target.0;
            (format!("a switchover to region {to} is under way: finish it, undo it, or fail over"), false)
        }
        Outcome::NothingToUndo => ("there is no switchover to undo, or it has ended".to_owned(), false),
        Outcome::Overtaken(by) => (format!("another operation, in global epoch {by}, has overtaken this one"), false),
    }
}

fn status(link: &LinkConfig) -> Result<ExitCode, Failure> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let heard = runtime.block_on(controller::ask(link, Instant::now() + ASK_LIMIT));
    for region in link.regions.keys() {
        println!("{}", line(*region, heard.get(region), &heard));
    }
    Ok(if heard.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn line(region: RegionId, standing: Option<&Standing>, all: &BTreeMap<RegionId, Standing>) -> String {
    let Some(standing) = standing else { return format!("region {}  does not answer", region.0) };
    let role = match standing.role {
        RegionRole::Primary => "primary",
        RegionRole::HandedOn => "fenced",
        RegionRole::Secondary => "secondary",
    };
    let primary = all.values().filter(|other| other.role == RegionRole::Primary);
    let newest = primary.max_by_key(|other| other.tip.global_epoch);
    let is_old = newest.is_some_and(|newest| newest.tip.global_epoch > standing.tip.global_epoch);
    let other = match newest {
        _ if is_old => "  of a lineage that has been left".to_owned(),
        Some(newest) if standing.role == RegionRole::Secondary && newest.tip == standing.tip => {
            format!("  {} behind the primary", newest.durable.0.saturating_sub(standing.durable.0))
        }
        _ => String::new(),
    };
    let (number, epoch, durable) = (region.0, standing.tip.global_epoch, standing.durable);
    format!("region {number}  {role}  global epoch {epoch}  durable through global LSN {durable}{other}")
}
