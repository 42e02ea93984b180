//! What a reader asks of its driver, and what its users ask of it.

use crate::defect::Defects;
use crate::ids::{Lsn, Micros, PageId, ReaderId, VolumeEpoch, VolumeId};
use crate::machine::Token;
use crate::quorum::Membership;
use crate::record::{Geometry, Payload, Record};
use alloc::vec::Vec;

/// Who a reader is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReaderIdentity {
    /// The volume that it reads.
    pub volume: VolumeId,
    /// Fresh for every start.
    pub reader: ReaderId,
}

/// What a local user asks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    /// The page as of a read point that is held.
    Read {
        /// Which page.
        page: PageId,
        /// As of: the read point, or an older one that was not released.
        at: Lsn,
    },
    /// The user of the read with this token no longer waits. Not answered.
    Cancel,
}

/// What it is answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer<P: Payload> {
    /// A page.
    Page {
        /// The read point that was asked for.
        read_point: Lsn,
        /// Last record applied; zero: never written.
        version: Lsn,
        /// Content.
        page: P::Page,
    },
    /// Not read, and why.
    NotRead(ReaderRefused),
}

/// Why a reader does not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ReaderRefused {
    /// The point is none that the reader can go to, or one that was released.
    NotHeld,
    /// Too much is under way. Try again.
    Busy,
    /// What the reader needs is not kept any more (R-READER-4). For good: begin again, as another.
    NotKept,
}

/// What lies between two read points.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Passed<P: Payload> {
    /// Every record, in volume order.
    Records(Vec<Record<P>>),
    /// Not known: the stream was cut (R-READER-3).
    Unknown,
}

/// A VDL of the writer, and what it tells of the database's own log (R-READER-6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
pub struct Point {
    /// The read point.
    pub read_point: Lsn,
    /// A page as of it holds nothing above this position.
    pub wal: u64,
}

/// A reader's timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Say that it is there; look whether the writer is, and whether the stream has a hole.
    Retry,
    /// A read is late: ask another segment as well.
    Hedge(Token),
}

/// A reader's fixed configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReaderConfig {
    /// Which group keeps which page.
    pub geometry: Geometry,
    /// The groups' membership.
    pub membership: Membership,
    /// Bytes of records that may wait for the users to advance; beyond it the stream is cut.
    pub stream_weight_max: usize,
    /// Points published and not reached that are kept.
    pub published_max: usize,
    /// Read points that may be held at one time.
    pub held_max: usize,
    /// How often to tell the writer what is needed.
    pub retry_every: Micros,
    /// Rounds of that after which a writer that was not heard, or a hole, is not waited for.
    pub patience_rounds: u8,
    /// Rounds after which it asks to follow again in any case: there may be a newer writer than the one that it hears.
    pub ask_again_rounds: u8,
    /// Reads that may be under way at one time.
    pub reads_max: usize,
    /// Planted defects.
    pub defects: Defects,
}

impl Default for ReaderConfig {
    fn default() -> Self {
        ReaderConfig {
            geometry: Geometry { groups: 1, extent_blocks: 1024 },
            membership: Membership::initial(crate::quorum::QuorumSet::aurora()),
            stream_weight_max: 32 << 20,
            published_max: 256,
            held_max: 256,
            retry_every: Micros(100_000),
            patience_rounds: 10,
            ask_again_rounds: 20,
            reads_max: 4096,
            defects: Defects::NONE,
        }
    }
}

/// Numbers for `auriga status`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReaderStatus {
    /// The epoch of the writer that it follows.
    pub volume_epoch: VolumeEpoch,
    /// Whether it follows: what it was sent is whole.
    pub follows: bool,
    /// What it shows.
    pub read_point: Lsn,
    /// The writer's VDL, as far as it was told.
    pub vdl: Lsn,
    /// The lowest read point that it needs.
    pub needs: Option<Lsn>,
    /// How often the stream was cut.
    pub cuts: u64,
    /// Bytes of records that wait for the users to advance.
    pub waiting_weight: u64,
    /// Whether what it needs is not kept any more.
    pub lost: bool,
}
