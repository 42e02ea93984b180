//! `auriga backup`, `auriga restore` and `auriga backups`.

use crate::{log, signals};
use auriga_admin::backup::BackupConfig as File;
use auriga_admin::config::{self, InstanceConfig};
use auriga_admin::storage::{identity_in, identity_of, volume_config, volume_of_backup};
use auriga_admin::trust;
use auriga_backup::format::Base;
use auriga_backup::restore::{Found, found};
use auriga_backup::{BackupConfig, Catalog, Restore, RestoreError, Restored, Store};
use auriga_instance::postgres::find;
use auriga_pagefs::layout::TABLE;
use auriga_points::Stamp;
use auriga_protocol::{Lsn, PageId};
use auriga_region::source::Source;
use auriga_volume::{RemoteVolume, Volume, VolumeConfig, find_volume};
use clap::Args;
use serde_json::json;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::channel;

type Failure = Box<dyn Error>;

/// How long the volume may take to be found and opened, and to be closed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is restored, from where, and into what.
#[derive(Debug, Args)]
pub struct RestoreOptions {
    /// The folder of the backup
    #[arg(long)]
    from: String,
    /// Commits of up to this time are in, and none of later, like "2026-11-26 12:00:00.5": UTC, unless an offset follows.
    /// All that is backed up where absent
    #[arg(long)]
    at: Option<Stamp>,
    /// The configuration of an instance of the new volume (see `auriga create-volume`), which must not run yet
    #[arg(long)]
    config: PathBuf,
    /// Seconds by which the clocks of the backup and of the database may differ
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    clocks_within: u32,
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// Backs a volume up until it is told to stop.
///
/// # Errors
/// The volume is not found, or the place is another volume's.
pub fn take(path: &Path) -> Result<ExitCode, Failure> {
    log::to_stderr();
    let (sender, mut stop) = channel(1);
    signals::on_stop(move || {
        let _ = sender.try_send(());
    })?;
    let file: File = config::read(path)?;
    trust::of_backup(&file)?;
    let mut volume = volume_of_backup(&file)?;
    let identity = identity_in(file.identity.as_deref())?;
    let store = Store::open(&file.to)?;
    let runtime = runtime()?;
    runtime.block_on(async {
        volume.volume = tokio::select! {
            _ = stop.recv() => return Ok(ExitCode::SUCCESS),
            volume = find_volume(&volume, identity, Instant::now() + PATIENCE) => volume?,
        };
        let config = BackupConfig {
            volume,
            writers: file.instances,
            store,
            put_every: Duration::from_millis(file.put_every_ms),
            base_every: Duration::from_secs(file.base_every_h * 3600),
            keep: Duration::from_secs(file.keep_h * 3600),
        };
        // On a task: what it does now and then blocks.
        let mut running = tokio::spawn(auriga_backup::run(config));
        tokio::select! {
            _ = stop.recv() => {
                running.abort();
                Ok(ExitCode::SUCCESS)
            }
            error = &mut running => Err(error?.into()),
        }
    })
}

/// Shows what is in a backup.
///
/// # Errors
/// There is none, or it is damaged.
pub fn show(from: &str, as_json: bool) -> Result<ExitCode, Failure> {
    let catalog = Catalog::read(&Store::open(from)?)?.ok_or(RestoreError::NoBackup)?;
    let end = |base: &Base| catalog.chain(base.begin).1;
    let bases = catalog.bases.iter().filter(|base| end(base) >= base.through);
    if as_json {
        let bases = bases.map(|base| {
            json!({"from": Stamp(base.ended).to_string(), "begin": base.begin.0, "log_through": end(base).0, "pages": base.pages})
        });
        let read = catalog.head.as_ref().map(|head| Stamp(head.read).to_string());
        let report = json!({
            "volume": catalog.identity.volume.to_string(),
            "bases": bases.collect::<Vec<_>>(),
            "log_through": catalog.head.as_ref().map(|head| head.through.0),
            "log_read": read,
        });
        println!("{report}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("a backup of volume {}", catalog.identity.volume);
    for base in bases {
        let (from, pages, through) = (Stamp(base.ended), base.pages, end(base));
        println!("  pages of {from} ({pages}), with the log through LSN {through}");
    }
    if let Some(head) = &catalog.head {
        println!("the log was last read at {}, through LSN {}", Stamp(head.read), head.through);
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a new volume from a backup.
///
/// # Errors
/// The volume was written before, or the backup does not hold what was asked for.
pub fn restore(options: &RestoreOptions) -> Result<ExitCode, Failure> {
    log::to_stderr();
    let instance: InstanceConfig = config::read(&options.config)?;
    trust::of_instance(&instance)?;
    let restore = Restore {
        store: Store::open(&options.from)?,
        at: options.at,
        clocks_within: Duration::from_secs(options.clocks_within.into()),
    };
    let runtime = runtime()?;
    let config = volume_config(&instance)?;
    let identity = identity_of(&instance)?;
    let config = runtime.block_on(async {
        let volume = find_volume(&config, identity, Instant::now() + PATIENCE).await?;
        let config = VolumeConfig { volume, ..config };
        look(&config).await?;
        Ok::<_, Failure>(config)
    })?;
    let volume = Arc::new(runtime.block_on(RemoteVolume::open(config, Instant::now() + PATIENCE))?);
    let as_any: Arc<dyn Volume> = volume.clone();
    let restored = restore.run(&as_any, runtime.handle(), |major| {
        let installations = find::find(instance.postgres.bin.as_deref()).map_err(|error| error.to_string())?;
        Ok(find::choose(&installations, major).map_err(|error| error.to_string())?.bin.clone())
    });
    runtime.block_on(volume.close(Instant::now() + PATIENCE));
    let Restored { of, through, first_out } = restored?;
    println!("volume {} holds what volume {of} held through LSN {through}", instance.volume);
    if let Some(commit) = first_out {
        println!("the first commit that is not in it is xid {}, of {}", commit.xid, commit.at);
    }
    println!("start an instance on it: PostgreSQL recovers as after a crash");
    Ok(ExitCode::SUCCESS)
}

/// Looks at a volume before it is opened, which fences whoever writes it.
async fn look(config: &VolumeConfig) -> Result<(), Failure> {
    let source = Source::start(config);
    let until = Instant::now() + PATIENCE;
    loop {
        let why = match source.newest().await {
            // Nothing was ever durable.
            Ok(point) if point.at == Lsn::ZERO => return Ok(()),
            Ok(point) => match source.page(PageId { inode: TABLE, block: 0 }, &point).await {
                Ok(page) if found(&page, point.at) == Found::Other => return Err(RestoreError::NotEmpty.into()),
                Ok(_) => return Ok(()),
                Err(why) => why,
            },
            Err(why) => why,
        };
        if Instant::now() >= until {
            return Err(why.into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
