//! What the admin port shows.

use super::{NodeError, io_error};
use crate::admin::{self, Question};
use crate::health::{Health, HealthReport};
use auriga_pagefs::PageFs;
use auriga_volume::{RemoteVolume, VolumeStatus};
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};

/// What an instance says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Where PostgreSQL listens.
    pub postgres: SocketAddr,
    /// How it is.
    pub health: HealthReport,
    /// The volume as its writer sees it; `None` during recovery.
    pub volume: Option<VolumeStatus>,
    /// The mount; `None` before there is one.
    pub mount: Option<MountStatus>,
    /// Resident memory of the mount process, in bytes (PostgreSQL's not included).
    pub rss_bytes: u64,
}

/// The mount's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountStatus {
    /// Bytes of pages in its cache.
    pub cached_bytes: u64,
    /// Of those, bytes of pages that are not durable yet.
    pub pinned_bytes: u64,
    /// The cache's limit.
    pub cache_limit_bytes: u64,
    /// Waits for durability (fsync and the like) that succeeded.
    pub syncs: u64,
    /// Their median, in microseconds, rounded up to a power of two.
    pub sync_p50_micros: u64,
    /// Their 99th percentile, likewise.
    pub sync_p99_micros: u64,
    /// Redo records made.
    pub records: u64,
}

impl InstanceStatus {
    /// Pages that came from storage since the volume was opened.
    pub fn pages_read(&self) -> u64 {
        let traffic = self.volume.iter().flat_map(|volume| &volume.traffic);
        traffic.filter(|kind| kind.message == "Page").map(|kind| kind.received.frames).sum()
    }
}

/// What the admin port shows, filled in as things come up.
pub(super) struct Shown {
    pub name: String,
    pub postgres: SocketAddr,
    pub health: Arc<Health>,
    pub volume: OnceLock<Arc<RemoteVolume>>,
    pub files: OnceLock<Arc<PageFs>>,
    pub cache_limit_bytes: u64,
}

pub(super) fn serve_admin(address: SocketAddr, shown: &Arc<Shown>) -> Result<(), NodeError> {
    let listener = TcpListener::bind(address).map_err(io_error(format!("listening on {address}")))?;
    let shown = shown.clone();
    let answer = move |question| {
        if let (Question::DropCaches, Some(files)) = (question, shown.files.get()) {
            files.drop_caches();
        }
        status(&shown)
    };
    admin::serve(listener, answer).map_err(io_error("serving the admin port"))
}

fn status(shown: &Shown) -> InstanceStatus {
    InstanceStatus {
        name: shown.name.clone(),
        pid: std::process::id(),
        postgres: shown.postgres,
        health: shown.health.report(),
        volume: shown.volume.get().map(|volume| volume.status()),
        mount: shown.files.get().map(|files| mount_status(files, shown.cache_limit_bytes)),
        rss_bytes: rss_bytes(),
    }
}

fn mount_status(files: &PageFs, cache_limit_bytes: u64) -> MountStatus {
    let figures = files.figures();
    MountStatus {
        cached_bytes: figures.cache.bytes as u64,
        pinned_bytes: figures.cache.pinned_bytes as u64,
        cache_limit_bytes,
        syncs: figures.syncs,
        sync_p50_micros: figures.sync_p50_micros,
        sync_p99_micros: figures.sync_p99_micros,
        records: figures.records,
    }
}

/// Resident memory, from `/proc/self/statm`; 0 where there is none.
fn rss_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| pages * PAGE_BYTES)
}
