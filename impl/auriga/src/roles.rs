//! What the processes are: a storage node, or an instance, until SIGTERM.

use crate::{planted, signals};
use auriga_admin::config::members;
use auriga_admin::config::{InstanceConfig, StorageConfig};
use auriga_admin::storage::{cluster_id, identity_of, volume_config};
use auriga_audit::trace::Trace;
use auriga_instance::node::{self, EXIT_FENCED, EXIT_GAVE_UP, NodeConfig};
use auriga_instance::supervise::{Ended, Event, events};
use auriga_pagefs::enter_private_namespace;
use auriga_storage::StorageNode;
use auriga_storage::{Stopped, open_store};
use std::error::Error;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::channel;

/// See [`start_again`].
const HEAL_PAUSE: Duration = Duration::from_secs(5);
/// Environment variable with the time of the last healing, in seconds since 1970.
const HEALED_AT: &str = "AURIGA_HEALED_AT";

/// Runs a storage process.
///
/// # Errors
/// It can't listen, or its store can't be opened.
pub fn storage(config: &StorageConfig) -> Result<ExitCode, Box<dyn Error>> {
    log_to_stderr();
    let (sender, mut asked) = channel(1);
    signals::on_stop(move || {
        let _ = sender.try_send(());
    })?;
    let mut node =
        auriga_storage::StorageConfig::new(&config.name, &config.az, cluster_id(&config.cluster), config.listen);
    node.members = members(config.members.iter().copied());
    node.segment.defects = planted::defects()?;
    node.trace = trace(&config.name, config.trace.as_deref(), config.trace_inputs_mib)?;
    std::fs::create_dir_all(&config.directory)?;
    // One worker: it only moves bytes and steps segments, and six of these processes may share two cores. A second one
    // would be woken up to look for work that is not there.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut options = auriga_store::Options::new(cluster_id(&config.cluster).0, &config.name);
        options.scrub_journal_every = Duration::from_secs(config.scrub_journal_s);
        let node = StorageNode::start(node, || open_store(&config.directory, options)).await?;
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

/// Replaces this process by a new one of the same number, which finds the damage when it opens its store, and heals from
/// peers. Not twice within [`HEAL_PAUSE`]: a disk that damages so much is none.
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
    log_to_stderr();
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
    let mut volume = volume_config(&config);
    volume.writer.defects = planted::defects()?;
    volume.trace = trace(&config.name, config.trace.as_deref(), config.trace_inputs_mib)?;
    let config = NodeConfig {
        identity: identity_of(&config)?,
        volume,
        directory: config.directory,
        listen: config.listen,
        port: config.port,
        admin: config.admin,
        pg_bin: config.postgres.bin,
        user: config.postgres.user,
        password_file: config.postgres.password_file,
        settings: config.postgres.settings.into_iter().collect(),
        cache_bytes: config.mount.cache_mib << 20,
        deadline: Duration::from_secs(config.mount.deadline_s),
    };
    Ok(match node::run(&config, &sender, receiver)? {
        Ended::Stopped => ExitCode::SUCCESS,
        Ended::Fenced(_) => ExitCode::from(EXIT_FENCED),
        Ended::GaveUp => ExitCode::from(EXIT_GAVE_UP),
    })
}

fn trace(name: &str, file: Option<&Path>, inputs_mib: Option<u64>) -> std::io::Result<Trace> {
    match (file, inputs_mib) {
        (None, _) => Ok(Trace::off()),
        (Some(file), None) => Trace::to_file(name, file),
        (Some(file), Some(mib)) => Trace::with_inputs(name, file, mib << 20),
    }
}

/// `RUST_LOG` chooses what is logged; everything of ours from `info` up where it is absent.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,fuser=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
}
