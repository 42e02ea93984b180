//! What a writer asks of its driver, and what its users ask of it.

use super::followers::FollowersConfig;
use crate::defect::Defects;
use crate::identity::Shape;
use crate::ids::{Lsn, MemberId, Micros, PageId, PgId, ReaderId, VolumeEpoch, VolumeId, WriterId};
use crate::machine::Token;
use crate::membership::{ReplaceRefused, Step};
use crate::quorum::Membership;
use crate::record::{Change, Geometry, Payload};
use alloc::vec::Vec;
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};

/// Who a writer is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct WriterIdentity {
    /// The volume that it writes.
    pub volume: VolumeId,
    /// Fresh for every start.
    pub writer: WriterId,
}

/// What a local user asks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Request<P: Payload> {
    /// One mini-transaction: its changes become durable all or none. See [`super::Writer::submit`].
    Submit(Vec<Change<P>>),
    /// Send what has been submitted. The driver asks for it when no more input waits: that is the batching.
    Flush,
    /// The page as of the current VDL.
    Read(PageId),
    /// The user of the read with this token no longer waits: its read point need not be held. Not answered.
    Cancel,
    /// Tell the readers on other instances that a page as of this VDL holds nothing above this position of the database's
    /// own log. See [`super::Writer::publish`].
    Publish {
        /// A VDL of this writer, chosen before the position was asked.
        read_point: Lsn,
        /// The position.
        wal: u64,
    },
    /// Replace a member of a group by a new one. It is completed by itself once the new one is hydrated.
    Replace {
        /// The group.
        pg: PgId,
        /// Who goes.
        old: MemberId,
        /// Where the new member is to live: another process, which makes the segment as soon as the step is in force.
        home: SocketAddr,
    },
    /// Take the replacement by this member back, as long as it joins.
    UndoReplace {
        /// The group.
        pg: PgId,
        /// Who was to come.
        new: MemberId,
    },
}

/// What it is answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer<P: Payload> {
    /// The LSN of the mini-transaction's last record (its CPL): durable once VDL has reached it.
    Submitted(Lsn),
    /// Nothing was allocated.
    NotSubmitted(SubmitRefused),
    /// A page.
    Page {
        /// As of which LSN.
        read_point: Lsn,
        /// Last record applied; zero: never written.
        version: Lsn,
        /// Content.
        page: P::Page,
    },
    /// The writer is not open.
    NotRead(SubmitRefused),
    /// The readers are being told, if there was news.
    Published,
    /// The replacement is on its way.
    Replacing {
        /// Who comes.
        new: MemberId,
    },
    /// It is being taken back.
    Undoing,
    /// Nothing is done.
    NotReplaced(ReplaceRefused),
}

/// Why nothing was allocated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum SubmitRefused {
    /// VDL + LAL is reached, or too many bytes wait for a quorum. Try again when VDL has moved.
    BackPressure,
    /// Recovery is not complete.
    NotOpen,
    /// A newer writer has taken over. For good.
    Fenced {
        /// Its epoch.
        by: VolumeEpoch,
    },
}

/// A writer's timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Timer {
    /// Send again what has not been answered; tell VDL and PGMRPL.
    Retry,
    /// A read is late: ask another segment as well.
    Hedge(Token),
    /// A reader on another instance was silent for its lease.
    Lease(ReaderId),
    /// No reader of the writer before this one comes any more.
    Grace,
    /// Those whose promises are late had their time (R-RECOVER-6).
    Linger,
}

/// A writer's fixed configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct WriterConfig {
    /// Which group keeps which page.
    pub geometry: Geometry,
    /// The groups' membership as the topology says; sealed segments may know better.
    pub membership: Membership,
    /// Later memberships of some groups, as processes said that were asked: for whom to ask, and nothing more.
    #[serde(default)]
    pub hints: Vec<(PgId, Membership)>,
    /// LAL: no LSN is allocated more than this above VDL (17 §4.2.1). The same for every writer of a volume, ever.
    pub allocation_limit: u64,
    /// Bytes that may wait for their quorum at one time.
    pub in_flight_weight_max: usize,
    /// Most bytes of records in one `Write` message.
    pub batch_weight_max: usize,
    /// How often to send again.
    pub retry_every: Micros,
    /// How long a recovery that has a read quorum waits for the promises of all others; zero: not at all.
    pub linger: Micros,
    /// Reads that may be under way at one time.
    pub reads_max: usize,
    /// Readers on other instances.
    pub followers: FollowersConfig,
    /// PGMRPL does not pass this, if it is anything. See [`super::Writer::hold`].
    pub hold: Option<Lsn>,
    /// Planted defects. Not written down: a recording is judged by the protocol as it is meant.
    #[serde(skip)]
    pub defects: Defects,
}

impl Default for WriterConfig {
    fn default() -> Self {
        WriterConfig {
            geometry: Geometry { groups: 1, extent_blocks: 1024 },
            membership: Membership::initial(crate::quorum::QuorumSet::aurora()),
            hints: Vec::new(),
            allocation_limit: 1 << 20,
            in_flight_weight_max: 64 << 20,
            batch_weight_max: 1 << 20,
            retry_every: Micros(100_000),
            linger: Micros(20_000),
            reads_max: 4096,
            followers: FollowersConfig::default(),
            hold: None,
            defects: Defects::NONE,
        }
    }
}

impl WriterConfig {
    /// Whom a recovery asks first in a group.
    pub(super) fn membership_of(&self, pg: PgId) -> Membership {
        let hints = self.hints.iter().filter(|(of, hint)| *of == pg && hint.is_sound()).map(|(_, hint)| hint);
        hints
            .chain([&self.membership])
            .max_by_key(|hint| hint.membership_epoch)
            .cloned()
            .unwrap_or_else(|| self.membership.clone())
    }

    /// What of it every writer of the volume must have alike.
    pub fn shape(&self) -> Shape {
        Shape { geometry: self.geometry, allocation_limit: self.allocation_limit }
    }
}

/// A writer's life.
///
/// ```text
/// Sealing ──► Collecting ──► Installing ──► Open ──► Fenced
///    ▲             │              │
///    └─────────────┴──────────────┘  refused for a higher volume epoch, before it is open
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum WriterRole {
    /// Asking a read quorum of each group to refuse older writers.
    Sealing,
    /// Fetching the chains above the highest known VDL.
    Collecting,
    /// Making the outcome durable on a write quorum, and bringing the tail to four copies.
    Installing,
    /// Serving.
    Open,
    /// A newer writer took over. For good.
    Fenced,
}

/// Numbers for `auriga status`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct WriterStatus {
    /// Where in its life.
    pub role: WriterRole,
    /// Its epoch.
    pub volume_epoch: VolumeEpoch,
    /// The last LSN allocated.
    pub allocated: Lsn,
    /// Volume Complete LSN.
    pub vcl: Lsn,
    /// Volume Durable LSN.
    pub vdl: Lsn,
    /// PGCL of each group.
    pub pgcl: Vec<(PgId, Lsn)>,
    /// Each member as the writer sees it.
    pub members: Vec<MemberStatus>,
    /// Bytes that wait for their quorum.
    pub in_flight_weight: u64,
    /// Reads under way.
    pub reads: u64,
    /// Reads that were sent to a second segment because the first was late.
    pub hedged: u64,
    /// Who is in each group, in order of the groups.
    #[serde(default)]
    pub groups: Vec<GroupStatus>,
}

/// The members of a group as the writer knows them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group.
    pub pg: PgId,
    /// Settled, or a step on its way. Who joins is in `next.replacements`, and whether it is hydrated in its
    /// [`MemberStatus`].
    pub membership: Step,
}

/// One segment as the writer sees it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its group.
    pub pg: PgId,
    /// Which member.
    pub member: MemberId,
    /// Its last acknowledged SCL.
    pub scl: Lsn,
    /// Whether it has installed this writer's epoch.
    pub installed: bool,
    /// Moving mean of its read latency.
    pub read_latency: Micros,
    /// Whether it joins: it takes another one's place, and is not read yet.
    #[serde(default)]
    pub joining: bool,
    /// Whether it said that it counts: of one that joins, that it is hydrated.
    #[serde(default)]
    pub counts: bool,
}
