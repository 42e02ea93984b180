//! What the processes are: a storage node, or an instance, until SIGTERM.

use crate::config::{InstanceConfig, StorageConfig};
use crate::signals;
use crate::storage::{cluster_id, volume_config};
use auriga_instance::node::{self, EXIT_FENCED, EXIT_GAVE_UP, NodeConfig};
use auriga_instance::supervise::{Ended, Event, events};
use auriga_pagefs::enter_private_namespace;
use auriga_protocol::MemberId;
use auriga_runtime::StorageNode;
use auriga_runtime::storage::{Stopped, open_store};
use auriga_runtime::trace::Trace;
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc::channel;

/// Members by name, from addresses in order.
pub fn members(addresses: impl IntoIterator<Item = SocketAddr>) -> BTreeMap<MemberId, SocketAddr> {
    addresses.into_iter().enumerate().map(|(index, address)| (MemberId(index as u8), address)).collect()
}

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
        auriga_runtime::StorageConfig::new(&config.name, &config.az, cluster_id(&config.cluster), config.listen);
    node.members = members(config.members.iter().copied());
    node.trace = trace(&config.name, config.trace.as_deref())?;
    std::fs::create_dir_all(&config.directory)?;
    // One worker: it only moves bytes and steps segments, and six of these processes may share two cores. A second one
    // would be woken up to look for work that is not there.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = auriga_store::Options::new(cluster_id(&config.cluster).0, &config.name);
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
        }
    })
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
    volume.trace = trace(&config.name, config.trace.as_deref())?;
    let config = NodeConfig {
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

fn trace(name: &str, file: Option<&Path>) -> std::io::Result<Trace> {
    file.map_or(Ok(Trace::off()), |file| Trace::to_file(name, file))
}

/// `RUST_LOG` chooses what is logged; everything of ours from `info` up where it is absent.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,fuser=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
}
