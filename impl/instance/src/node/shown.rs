//! What the admin port shows.

use super::env::About;
use super::lineage::Lineage;
use super::roles::{Roles, Turn};
use super::rpo::RpoShown;
use crate::health::{Health, HealthReport};
use crate::postgres::server::ServerSpec;
use auriga_net::traffic::MessageTraffic;
use auriga_pagefs::{PageFs, ReaderFs};
use auriga_protocol::{Lsn, ReaderId, VolumeEpoch};
use auriga_volume::{RemoteReader, RemoteVolume, VolumeStatus};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an instance does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceRole {
    /// Writes the volume.
    #[default]
    Writer,
    /// Reads it, and follows whoever writes.
    Reader,
    /// Neither, for a moment: it is becoming one of them.
    Switching,
}

/// A change of role.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Transition {
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// What it was from then on.
    pub role: InstanceRole,
    /// The volume epoch in which it writes, or by which it was fenced.
    pub volume_epoch: Option<VolumeEpoch>,
    /// Why, for a person to read.
    pub why: String,
}

/// What an instance says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub role: InstanceRole,
    /// What it was asked to become, as long as that is under way.
    #[serde(default)]
    pub turn: Option<Turn>,
    /// Its Availability Zone.
    #[serde(default)]
    pub az: String,
    /// Its promotion tier, 0 to 15: of the instances that could be promoted, one of the lowest tier is.
    #[serde(default)]
    pub tier: u8,
    /// As the writer: its own. As a reader: that of the writer that it follows, or followed last.
    #[serde(default)]
    pub volume_epoch: Option<VolumeEpoch>,
    /// As a reader: milliseconds since it heard its writer; `None` if it has never heard one.
    #[serde(default)]
    pub writer_heard_ms: Option<u64>,
    /// As the writer: milliseconds since anything became durable, while something waits for it; 0 while nothing waits.
    #[serde(default)]
    pub stalled_ms: u64,
    /// As a reader that lets clients in: replica lag in milliseconds, by its own clock: since when it has been told of WAL
    /// that it has not replayed.
    #[serde(default)]
    pub lag_ms: Option<u64>,
    /// In a global database: what its volume says of its region.
    #[serde(default)]
    pub region: Option<RegionShown>,
    /// As a writer whose commits are bound by the lag of secondary regions: the bound, and whether they wait.
    #[serde(default)]
    pub rpo: Option<RpoShown>,
    /// Its last role changes, the oldest first.
    #[serde(default)]
    pub transitions: Vec<Transition>,
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
    /// How busy its machine is: processes that run or want to, averaged over a minute, in percent of the processors.
    #[serde(default)]
    pub load_percent: u32,
    /// Resident memory of the mount process, in bytes (PostgreSQL's not included).
    pub rss_bytes: u64,
}

/// A region of a global database, as an instance of it sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RegionShown {
    /// Which.
    pub region: u16,
    /// The primary of the last branch that it knows.
    pub primary: u16,
    /// Whether its instances may write.
    pub may_write: bool,
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
    /// In a global database: when the primary published what is shown, in milliseconds of Unix time by its clock. An idle
    /// primary publishes nothing.
    #[serde(default)]
    pub published_at_ms: Option<u64>,
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

/// What the admin port shows, filled in as things come up, and emptied when they end.
pub(super) struct Shown {
    name: String,
    about: About,
    postgres: SocketAddr,
    cache_limit_bytes: u64,
    pub health: Arc<Health>,
    pub roles: Roles,
    /// Set by the thread that keeps the bound.
    pub rpo: Arc<Mutex<Option<RpoShown>>>,
    parts: Mutex<Parts>,
}

/// What an instance is made of just now.
#[derive(Clone, Default)]
pub(super) struct Parts {
    pub volume: Option<Arc<RemoteVolume>>,
    pub files: Option<Arc<PageFs>>,
    pub reader: Option<Arc<RemoteReader>>,
    pub reader_files: Option<Arc<ReaderFs>>,
    pub lineage: Option<Arc<Lineage>>,
    pub region: Option<RegionShown>,
    /// PostgreSQL, while it runs or is about to.
    pub server: Option<ServerSpec>,
}

impl Shown {
    pub fn new(name: String, about: &About, postgres: SocketAddr, cache_limit_bytes: u64, roles: Roles) -> Shown {
        let (health, parts) = (Arc::default(), Mutex::default());
        let rpo = Arc::default();
        Shown { name, about: about.clone(), postgres, cache_limit_bytes, health, roles, rpo, parts }
    }

    pub fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets every page that the mount has cached and that is durable.
    pub fn drop_caches(&self) {
        let files = self.parts().files.clone();
        if let Some(files) = files {
            files.drop_caches();
        }
    }

    pub fn status(&self) -> InstanceStatus {
        let Parts { volume, files, reader, reader_files, lineage, region, server: _ } = self.parts().clone();
        let reader_shown = reader.as_ref().map(|reader| ReaderShown {
            published_at_ms: lineage
                .as_ref()
                .and_then(|lineage| lineage.published_at(shown_by(reader_files.as_deref()))),
            ..reader_status(reader, reader_files.as_deref())
        });
        let writer = volume.as_ref().map(|volume| volume.status());
        let own_epoch = writer.as_ref().map(|volume| volume.writer.volume_epoch);
        let followed_epoch = reader_shown.map(|reader| reader.volume_epoch).filter(|epoch| *epoch != VolumeEpoch::NONE);
        let millis = |time: std::time::Duration| time.as_millis() as u64;
        InstanceStatus {
            name: self.name.clone(),
            role: self.roles.role(),
            turn: self.roles.turn(),
            az: self.about.az.clone(),
            tier: self.about.tier,
            volume_epoch: own_epoch.or(followed_epoch),
            writer_heard_ms: reader.as_ref().and_then(|reader| reader.heard()).map(|heard| millis(heard.at.elapsed())),
            stalled_ms: volume.as_ref().map_or(0, |volume| millis(volume.stalled())),
            lag_ms: reader_files.as_ref().and_then(|files| lag_ms(files)),
            region,
            rpo: *self.rpo.lock().unwrap_or_else(PoisonError::into_inner),
            transitions: self.roles.transitions(),
            pid: std::process::id(),
            postgres: self.postgres,
            health: self.health.report(),
            mount: files.as_ref().map(|files| mount_status(files, self.cache_limit_bytes)),
            followers: volume.as_ref().map_or_else(Vec::new, |volume| {
                volume.followers().into_iter().map(|(reader, needs)| FollowerShown { reader, needs }).collect()
            }),
            volume: writer,
            reader: reader_shown,
            load_percent: load_percent(),
            rss_bytes: rss_bytes(),
        }
    }
}

fn lag_ms(files: &ReaderFs) -> Option<u64> {
    let vitals = files.vitals();
    vitals.is_ready.then_some(vitals.lag.as_millis() as u64)
}

/// The point that a reader's file system shows.
fn shown_by(files: Option<&ReaderFs>) -> Lsn {
    files.map_or(Lsn::ZERO, ReaderFs::read_point)
}

fn reader_status(reader: &RemoteReader, files: Option<&ReaderFs>) -> ReaderShown {
    let status = reader.status();
    let vitals = files.map(ReaderFs::vitals).unwrap_or_default();
    ReaderShown {
        volume_epoch: status.reader.volume_epoch,
        follows: status.reader.follows,
        read_point: files.map_or(status.reader.read_point, ReaderFs::read_point),
        vdl: status.reader.vdl,
        cuts: status.reader.cuts,
        waiting_bytes: status.reader.waiting_weight,
        lets_clients_in: vitals.is_ready,
        overlay_bytes: vitals.overlay_bytes as u64,
        spilled_bytes: vitals.spilled_bytes,
        pages_read: pages_in(&status.traffic),
        published_at_ms: None,
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

/// See [`InstanceStatus::load_percent`]; 0 where it can't be known.
fn load_percent() -> u32 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split_whitespace().next().and_then(|load| load.parse::<f64>().ok()).unwrap_or(0.0);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (100.0 * load / processors as f64).clamp(0.0, 100.0) as u32
}
