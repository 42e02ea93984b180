//! What the admin port shows.

use super::{NodeError, io_error};
use crate::admin::{self, Question};
use crate::health::{Health, HealthReport};
use auriga_net::traffic::MessageTraffic;
use auriga_pagefs::{PageFs, ReaderFs};
use auriga_protocol::{Lsn, ReaderId, VolumeEpoch};
use auriga_volume::{RemoteReader, RemoteVolume, VolumeStatus};
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What an instance does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceRole {
    /// Writes the volume.
    #[default]
    Writer,
    /// Reads it, and follows whoever writes.
    Reader,
}

/// What an instance says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub role: InstanceRole,
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
    /// The readers that follow this writer.
    #[serde(default)]
    pub followers: Vec<FollowerShown>,
    /// The volume as a reader sees it; `None` before it follows, and of a writer.
    #[serde(default)]
    pub reader: Option<ReaderShown>,
    /// Resident memory of the mount process, in bytes (PostgreSQL's not included).
    pub rss_bytes: u64,
}

/// A reader that follows, as its writer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FollowerShown {
    /// Who.
    pub reader: ReaderId,
    /// The lowest read point that it needs.
    pub needs: Lsn,
}

/// A reader's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReaderShown {
    /// The epoch of the writer that it follows.
    pub volume_epoch: VolumeEpoch,
    /// Whether it follows: what it was sent is whole.
    pub follows: bool,
    /// What it shows.
    pub read_point: Lsn,
    /// The writer's VDL, as far as it was told.
    pub vdl: Lsn,
    /// How often the stream of records was cut.
    pub cuts: u64,
    /// Bytes of records that wait for replay.
    pub waiting_bytes: u64,
    /// Whether replay has passed where the reader began, so that clients may come.
    pub lets_clients_in: bool,
    /// Bytes of the overlay in memory.
    pub overlay_bytes: u64,
    /// Bytes of the overlay on the local disk.
    pub spilled_bytes: u64,
    /// Pages that came from storage.
    pub pages_read: u64,
}

impl ReaderShown {
    /// How many LSNs it is behind its writer.
    pub fn behind(&self) -> u64 {
        self.vdl.0.saturating_sub(self.read_point.0)
    }
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
        let of_reader = self.reader.map_or(0, |reader| reader.pages_read);
        of_reader + self.volume.as_ref().map_or(0, |volume| pages_in(&volume.traffic))
    }
}

fn pages_in(traffic: &[MessageTraffic]) -> u64 {
    traffic.iter().filter(|kind| kind.message == "Page").map(|kind| kind.received.frames).sum()
}

/// What the admin port shows, filled in as things come up.
pub(super) struct Shown {
    pub name: String,
    pub role: InstanceRole,
    pub postgres: SocketAddr,
    pub health: Arc<Health>,
    pub volume: OnceLock<Arc<RemoteVolume>>,
    pub files: OnceLock<Arc<PageFs>>,
    /// A reader that begins again has others.
    pub reader: Mutex<Option<ReaderParts>>,
    pub cache_limit_bytes: u64,
}

/// What a reader is made of.
pub(super) struct ReaderParts {
    pub volume: Arc<RemoteReader>,
    pub files: Option<Arc<ReaderFs>>,
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
        role: shown.role,
        pid: std::process::id(),
        postgres: shown.postgres,
        health: shown.health.report(),
        volume: shown.volume.get().map(|volume| volume.status()),
        mount: shown.files.get().map(|files| mount_status(files, shown.cache_limit_bytes)),
        followers: shown.volume.get().map_or_else(Vec::new, |volume| {
            volume.followers().into_iter().map(|(reader, needs)| FollowerShown { reader, needs }).collect()
        }),
        reader: shown.reader.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(reader_status),
        rss_bytes: rss_bytes(),
    }
}

fn reader_status(parts: &ReaderParts) -> ReaderShown {
    let status = parts.volume.status();
    let figures = parts.files.as_ref().map(|files| files.figures()).unwrap_or_default();
    ReaderShown {
        volume_epoch: status.reader.volume_epoch,
        follows: status.reader.follows,
        read_point: status.reader.read_point,
        vdl: status.reader.vdl,
        cuts: status.reader.cuts,
        waiting_bytes: status.reader.waiting_weight,
        lets_clients_in: figures.is_ready,
        overlay_bytes: figures.overlay_bytes as u64,
        spilled_bytes: figures.spilled_bytes,
        pages_read: pages_in(&status.traffic),
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
