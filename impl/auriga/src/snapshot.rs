//! `auriga open-snapshot`: a volume as of one point, for reading, beside the running database.

use crate::{log, lost, memory, signals};
use auriga_admin::config::RegionConfig;
use auriga_admin::trust;
use auriga_instance::node::snapshot::{SnapshotConfig, run as run_postgres};
use auriga_instance::on_mount::Helper;
use auriga_instance::supervise::{Ended, Event, events};
use auriga_pagefs::enter_private_namespace;
use auriga_points::Snapshot;
use auriga_protocol::Lsn;
use auriga_volume::VolumeError;
use clap::Args;
use std::error::Error;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Pages that the mount keeps in memory.
const CACHE_BYTES: usize = 128 << 20;
/// How long a read may wait for storage.
const DEADLINE: Duration = Duration::from_secs(30);

/// Which point is opened, and where.
#[derive(Debug, Args)]
pub struct Options {
    /// The end of what the last failover lost of a region
    #[arg(long, required = true)]
    lost: bool,
    /// That region's configuration
    #[arg(long)]
    config: PathBuf,
    /// A local directory for its mount point, sockets and log; it can be removed afterwards
    #[arg(long)]
    directory: PathBuf,
    /// Address that PostgreSQL listens on
    #[arg(long, default_value = "127.0.0.1")]
    listen: IpAddr,
    /// PostgreSQL's port
    #[arg(long, default_value_t = 5433)]
    port: u16,
    /// Directory of PostgreSQL's programs, where it isn't to be searched for
    #[arg(long)]
    pg_bin: Option<PathBuf>,
    /// Whom PostgreSQL runs as
    #[arg(long)]
    user: Option<String>,
    /// MiB of memory for what PostgreSQL writes; where more is needed, it ends
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(64..))]
    overlay_mib: u32,
}

/// Runs until it is told to stop.
///
/// # Errors
/// There is no such point, or it is not kept any more.
pub fn run(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    log::to_stderr();
    memory::use_one_heap();
    // Before any other thread exists, so that all of them are in it: the mount ends with the last of our processes.
    enter_private_namespace()
        .map_err(|error| format!("a mount namespace of its own was refused ({error}): run it as root"))?;
    let (sender, receiver) = events();
    let stop = sender.clone();
    signals::on_stop(move || {
        let _ = stop.try_send(Event::Stop);
    })?;
    let config: RegionConfig = auriga_admin::config::read(&options.config)?;
    trust::of_region(&config)?;
    let looked = lost::look(&config)?;
    let Some(lost) = &looked.lost else { return Err("this region has lost nothing: there is no snapshot".into()) };
    let (name, at) = (lost.suffix.suffix, lost.suffix.through);
    if lost.amount.is_none() {
        return Err(format!("{name} is not kept any more").into());
    }
    let volume = {
        let _within = looked.runtime.enter();
        Arc::new(Snapshot::open(looked.source.clone(), at, (options.overlay_mib as usize) << 20))
    };
    tracing::info!(snapshot = %name, %at, "opening it, read-only");
    let (watched, runtime) = (volume.clone(), looked.runtime.handle().clone());
    let gone = move || {
        runtime.block_on(watched.probe());
        watched.ended().map(|error| why(error, at))
    };
    let postgres = SnapshotConfig {
        directory: options.directory,
        listen: options.listen,
        port: options.port,
        pg_bin: options.pg_bin,
        user: options.user,
        helper: Helper::this_program(&["on-mount"]),
        cache_bytes: CACHE_BYTES,
        deadline: DEADLINE,
    };
    let ended = run_postgres(&postgres, volume, gone, (&sender, receiver))?;
    Ok(if ended == Ended::Stopped { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn why(error: VolumeError, at: Lsn) -> String {
    match error {
        VolumeError::NotKept => format!("storage does not keep the volume as of LSN {at} any more"),
        VolumeError::Closed => "PostgreSQL has written more than --overlay-mib".to_owned(),
        error => error.to_string(),
    }
}
