//! What the processes are: a storage node, or an instance, until SIGTERM.

use crate::{log, memory, planted, signals};
use auriga_admin::config::members;
use auriga_admin::config::{ConfiguredRole, InstanceConfig, StorageConfig, TIER_MAX};
use auriga_admin::storage::{VolumeConfig, cluster_id, identity_of, volume_config};
use auriga_admin::{others, trust};
use auriga_audit::trace::Trace;
use auriga_instance::node::reader::{Followed, ReaderNodeConfig};
use auriga_instance::node::standby::StandbyConfig;
use auriga_instance::node::{self, About, EXIT_FENCED, EXIT_GAVE_UP, NodeConfig};
use auriga_instance::on_mount::{self, Helper};
use auriga_instance::sql::Said;
use auriga_instance::supervise::{Ended, Event, events};
use auriga_net::Credentials;
use auriga_net::admin::Access;
use auriga_net::listener::ListenLimits;
use auriga_pagefs::enter_private_namespace;
use auriga_storage::disk::Opened;
use auriga_storage::{Refusal, RefusedNode, Stopped, StorageNode, open_store};
use std::error::Error;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{Receiver, channel};

/// How often a process whose store is refused looks at it again.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// See [`start_again`].
const HEAL_PAUSE: Duration = Duration::from_secs(5);
/// Environment variable with the time of the last healing, in seconds since 1970.
const HEALED_AT: &str = "AURIGA_HEALED_AT";

/// Runs a storage process.
///
/// # Errors
/// It can't listen. A store that can't be opened is no error: the process stays, and says what is wrong with it.
pub fn storage(config: &StorageConfig, file: &Path) -> Result<ExitCode, Box<dyn Error>> {
    log::to_stderr();
    let (sender, mut asked) = channel(1);
    signals::on_stop(move || {
        let _ = sender.try_send(());
    })?;
    let mut node =
        auriga_storage::StorageConfig::new(&config.name, &config.az, cluster_id(&config.cluster), config.listen);
    node.members = members(config.members.iter().copied());
    node.credentials = trust::of_storage(config)?;
    node.allow_fault_injection = config.allow_fault_injection;
    let credentials = node.credentials.clone();
    node.segment.defects = planted::defects()?;
    node.trace = trace(&config.name, config.trace.as_deref(), config.trace_inputs_mib)?;
    // One worker: it only moves bytes and steps segments, and six of these processes may share two cores. A second one
    // would be woken up to look for work that is not there.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut options = auriga_store::StoreOptions::new(cluster_id(&config.cluster).0, &config.name);
        options.scrub_journal_every = Duration::from_secs(config.scrub_journal_s);
        let Some(opened) = open_patiently(config, file, options, credentials, &mut asked).await? else {
            return Ok(ExitCode::SUCCESS);
        };
        let node = StorageNode::start(node, || Ok(opened)).await?;
        let stopped = tokio::select! {
            _ = asked.recv() => Stopped::Asked,
            stopped = node.stopped() => stopped,
        };
        match stopped {
            Stopped::Asked => {
                node.stop().await;
                tracing::info!("stopped");
                Ok(ExitCode::SUCCESS)
            }
            Stopped::DiskFailed(why) => Err(format!("the disk failed: {why}").into()),
            Stopped::Damaged(why) => {
                node.stop().await;
                start_again(&why)
            }
        }
    })
}

/// Opens the store. As long as it can't be opened, the process refuses in its place, and looks again now and then: a person
/// may have put the right directory there. `None`: asked to stop meanwhile.
async fn open_patiently(
    config: &StorageConfig,
    file: &Path,
    options: auriga_store::StoreOptions,
    credentials: Option<Credentials>,
    asked: &mut Receiver<()>,
) -> Result<Option<Opened>, Box<dyn Error>> {
    let mut refusing: Option<(String, RefusedNode)> = None;
    loop {
        let opened = std::fs::create_dir_all(&config.directory).map_err(|error| error.to_string());
        let found = match opened.and_then(|()| open_store(&config.directory, options.clone())) {
            Ok(opened) => {
                if let Some((_, node)) = refusing.take() {
                    node.end().await;
                }
                return Ok(Some(opened));
            }
            Err(found) => found,
        };
        if refusing.as_ref().is_none_or(|(known, _)| *known != found) {
            let (directory, file) = (config.directory.display(), file.display());
            let advice = format!(
                "{directory} was left as it is. If another process has it open, stop that. If it is the wrong directory, put \
                 the right one back. If what was in it is lost, move it out of the way with `auriga set-aside --config \
                 {file}`: then this process gets its segments back from its peers. It looks again every {} s",
                REFUSED_PAUSE.as_secs()
            );
            tracing::error!(found, advice, "refused: the store can't be opened, so this process serves nothing");
            if let Some((_, node)) = refusing.take() {
                node.end().await;
            }
            let refusal = Refusal { name: config.name.clone(), az: config.az.clone(), found: found.clone(), advice };
            let access = Access { cluster: cluster_id(&config.cluster), credentials: credentials.clone() };
            let limits = ListenLimits::default();
            refusing = Some((found, RefusedNode::start(config.listen, access, limits, refusal).await?));
        }
        let Some((_, node)) = &refusing else { continue };
        tokio::select! {
            _ = asked.recv() => return Ok(None),
            () = node.stopped() => return Ok(None),
            () = tokio::time::sleep(REFUSED_PAUSE) => {}
        }
    }
}

/// Replaces this process by a new one of the same number, which finds the damage when it opens its store, and heals from
/// peers. Not twice within [`HEAL_PAUSE`]: a disk that corrupts data this often
/// should be replaced, so we do not retry.
fn start_again(why: &str) -> Result<ExitCode, Box<dyn Error>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let last =
        std::env::var(HEALED_AT).ok().and_then(|text| text.parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
    if now.saturating_sub(last) < HEAL_PAUSE {
        return Err(format!("damaged again within {} s: {why}", HEAL_PAUSE.as_secs()).into());
    }
    tracing::warn!(why, "starting again, to heal from peers");
    let mut again = Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1)).env(HEALED_AT, now.as_secs().to_string());
    Err(again.exec().into())
}

/// Runs an instance.
///
/// # Errors
/// Something is missing, or the volume can't be opened.
pub fn instance(config: InstanceConfig) -> Result<ExitCode, Box<dyn Error>> {
    log::to_stderr();
    memory::use_one_heap();
    // Before any other thread exists, so that all of them are in it: the mount ends with the last of our processes.
    enter_private_namespace().map_err(|error| {
        format!(
            "a mount namespace of its own was refused ({error}): run it as root, or allow users their own namespaces \
             (Ubuntu: `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`)"
        )
    })?;
    let (sender, receiver) = events();
    let stop = sender.clone();
    signals::on_stop(move || {
        let _ = stop.try_send(Event::Stop);
    })?;
    trust::of_instance(&config)?;
    let mut volume = volume_config(&config)?;
    volume.writer.defects = planted::defects()?;
    volume.trace = trace(&config.name, config.trace.as_deref(), config.trace_inputs_mib)?;
    let access = trust::access(&config.cluster, config.tls.as_ref())?;
    let said = Said {
        others: others::watch(config.instances.clone(), access.clone())?,
        region: auriga_region::port::watch(config.region_admin, access)?,
    };
    let ended = match config.role {
        ConfiguredRole::Writer => node::run(&writer(&config, volume, said)?, receiver)?,
        ConfiguredRole::Reader => node::reader::run(&reader(&config, volume, said)?, receiver)?,
        ConfiguredRole::Any => {
            let as_reader = reader(&config, volume.clone(), said.clone())?;
            node::any::run(&writer(&config, volume, said)?, &as_reader, receiver)?
        }
    };
    Ok(match ended {
        Ended::Stopped => ExitCode::SUCCESS,
        Ended::Fenced(_) => ExitCode::from(EXIT_FENCED),
        // A reader begins anew by itself after a crash: this is the end of one that won't do so again.
        Ended::GaveUp | Ended::Crashed => ExitCode::from(EXIT_GAVE_UP),
    })
}

fn about(config: &InstanceConfig) -> Result<About, String> {
    if config.tier > TIER_MAX {
        return Err(format!("tier = {}: promotion tiers are 0 to {TIER_MAX}", config.tier));
    }
    Ok(About { az: config.az.clone(), tier: config.tier, admin: config.admin })
}

/// What it is as the writer.
fn writer(config: &InstanceConfig, volume: VolumeConfig, said: Said) -> Result<NodeConfig, String> {
    if config.follow.is_some() && config.role == ConfiguredRole::Writer {
        return Err("[follow]: an instance with role = \"writer\" follows nobody".to_owned());
    }
    if config.readers.is_none() && config.role == ConfiguredRole::Any {
        return Err("role = \"any\": [readers] must say where it listens for readers while it writes".to_owned());
    }
    let postgres = &config.postgres;
    Ok(NodeConfig {
        identity: identity_of(config)?,
        about: about(config)?,
        volume,
        readers: config.readers.as_ref().map(|readers| readers.listen),
        directory: config.directory.clone(),
        listen: config.listen,
        port: config.port,
        pg_bin: postgres.bin.clone(),
        user: postgres.user.clone(),
        password_file: postgres.password_file.clone(),
        settings: postgres.settings.clone().into_iter().collect(),
        locale: postgres.locale.clone(),
        log: postgres.log.clone(),
        helper: Helper::this_program(&["on-mount"]),
        cache_bytes: config.mount.cache_mib << 20,
        deadline: Duration::from_secs(config.mount.deadline_s),
        said,
        aurora_functions: !config.postgres.plain_catalog,
        is_regions: config.region_admin.is_some()
            || config.follow.as_ref().is_some_and(|follow| follow.region.is_some()),
    })
}

/// What it is as a reader.
fn reader(config: &InstanceConfig, volume: VolumeConfig, said: Said) -> Result<ReaderNodeConfig, String> {
    let identity = identity_of(config)?;
    let Some(follow) = &config.follow else {
        return Err("role = \"reader\" or \"any\": [follow] must say whom it follows".to_owned());
    };
    if config.readers.is_some() && config.role == ConfiguredRole::Reader {
        return Err("[readers]: an instance with role = \"reader\" has no readers of its own".to_owned());
    }
    if !follow.writers.is_empty() && follow.postgres.is_empty() {
        return Err("[follow]: postgres must say how the PostgreSQL of the writers is reached".to_owned());
    }
    let instances = follow.instances.iter();
    let writers = follow.writers.iter().map(|at| Followed { readers: *at, postgres: None });
    let region = follow.region.map(|at| Followed { readers: at, postgres: Some(String::new()) });
    let writers: Vec<Followed> = writers
        .chain(instances.map(|it| Followed { readers: it.readers, postgres: Some(it.postgres.clone()) }))
        .chain(region)
        .collect();
    let Some(first) = writers.first() else {
        return Err("[follow]: writers, [[follow.instances]], or region must say who may write".to_owned());
    };
    let postgres = &config.postgres;
    let standby = StandbyConfig {
        directory: config.directory.clone(),
        listen: config.listen,
        port: config.port,
        writer: first.postgres.clone().unwrap_or_else(|| follow.postgres.clone()),
        pg_bin: postgres.bin.clone(),
        user: postgres.user.clone(),
        log: postgres.log.clone(),
        settings: postgres.settings.clone().into_iter().collect(),
        helper: Helper::this_program(&["on-mount"]),
        cache_bytes: config.mount.cache_mib << 20,
        overlay_bytes: follow.overlay_mib << 20,
        spill_bytes: follow.spill_mib << 20,
        deadline: Duration::from_secs(config.mount.deadline_s),
    };
    let is_regions = follow.region.is_some();
    Ok(ReaderNodeConfig { volume, identity, writers, is_regions, about: about(config)?, standby, said })
}

/// Runs a helper of an instance.
///
/// # Errors
/// `job` is none.
pub fn on_mount(job: &str) -> std::io::Result<ExitCode> {
    log::to_stderr();
    on_mount::run(job)
}

pub(crate) fn trace(name: &str, file: Option<&Path>, inputs_mib: Option<u64>) -> std::io::Result<Trace> {
    match (file, inputs_mib) {
        (None, _) => Ok(Trace::off()),
        (Some(file), None) => Trace::to_file(name, file),
        (Some(file), Some(mib)) => Trace::with_inputs(name, file, mib << 20),
    }
}
