//! Identities and positions. Each is its own type, so that one can't be taken for another.

use crate::limits;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, de};

/// Reads a number that another party wrote: it is at most `max`, or there is none (R-LIMIT-1).
pub(crate) fn at_most<'de, D: Deserializer<'de>, N>(from: D, max: N) -> Result<N, D::Error>
where
    N: Deserialize<'de> + PartialOrd + fmt::Display,
{
    let number = N::deserialize(from)?;
    if number <= max {
        Ok(number)
    } else {
        Err(de::Error::custom(format_args!("{number} is beyond the limit of {max}")))
    }
}

fn epoch_number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    at_most(from, limits::EPOCH_NUMBER_MAX)
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty) up to $max:expr, $prefix:literal) => {
        number! { @ [Serialize] $(#[$doc])* $name($inner), $prefix }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                at_most(from, $max).map($name)
            }
        }
    };
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        number! { @ [Serialize, Deserialize] $(#[$doc])* $name($inner), $prefix }
    };
    (@ [$($serde:ident),*] $(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, $($serde),*)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

number! {
    /// Log sequence number: a position in the volume's one log (18 §2.1). Allocated by the writer, consecutive within
    /// one volume epoch; zero is "before the first record".
    Lsn(u64) up to limits::LSN_MAX, ""
}
number! {
    /// A volume: one database's storage, a row of protection groups.
    VolumeId(u64), "v"
}
number! {
    /// A protection group: six segments that keep the same part of the volume.
    PgId(u16), "pg"
}
number! {
    /// One process's claim to be a volume's writer. Fresh (random) for every start, so two writers never share one.
    WriterId(u64), "w"
}
number! {
    /// One process's life as a reader of a volume. Fresh (random) for every start: a process that comes back is another
    /// reader.
    ReaderId(u64), "reader"
}
number! {
    /// Version of one protection group's quorum set: raised by each step of a membership change (18 §4.1).
    MembershipEpoch(u64) up to limits::EPOCH_NUMBER_MAX, "m"
}
number! {
    /// How often a segment has lost part of its log. What it said in an earlier incarnation no longer counts
    /// (R-REJOIN-3).
    Incarnation(u32) up to limits::INCARNATION_MAX, "i"
}
number! {
    /// Tells a segment from others that are made in its place: drawn at random by each segment that has no journal, and
    /// kept.
    Birth(u64), "b"
}
number! {
    /// A region of a global database. One region holds one whole volume.
    RegionId(u16), "r"
}
number! {
    /// A process that sequences switchovers and failovers between regions. Keeps its own log; never shares its number.
    ControllerId(u64), "gc"
}
number! {
    /// Microseconds on the driver's monotonic clock. Machines never read a clock: they are told. The model says zero.
    Micros(u64), "t"
}

/// A member of a protection group: `A` to `F` at first, `G` and on for replacements, `a` to `z` after
/// `Z`. Range 0..=63.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct MemberId(pub u8);

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        at_most(from, limits::MEMBER_MAX).map(MemberId)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..26 => write!(f, "{}", (b'A' + self.0) as char),
            26..52 => write!(f, "{}", (b'a' + self.0 - 26) as char),
            number => write!(f, "M{number}"),
        }
    }
}

impl MemberId {
    /// The greatest.
    pub const MAX: MemberId = MemberId(limits::MEMBER_MAX);

    /// Returns the member of this name.
    pub fn of_name(name: &str) -> Option<MemberId> {
        (0..=limits::MEMBER_MAX).map(MemberId).find(|member| alloc::format!("{member}") == name)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Lsn {
    /// Before the first record of every volume.
    pub const ZERO: Lsn = Lsn(0);

    /// The LSN directly after this one.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

/// Fences old writers: raised by every recovery, on a write quorum of each protection group (18 §2.4). A ballot.
///
/// Ordered by number, then by writer: two candidates may choose the same number at one time, and still never the same
/// volume epoch. So the writer of `e2.w7` is known to be writer 7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct VolumeEpoch {
    /// Raised by each recovery.
    #[serde(deserialize_with = "epoch_number")]
    pub number: u64,
    /// Its writer: no other may use it (R-FENCE-3).
    pub writer: WriterId,
}

impl VolumeEpoch {
    /// No writer has been installed yet.
    pub const NONE: VolumeEpoch = VolumeEpoch { number: 0, writer: WriterId(0) };

    /// The volume epoch of this number and writer.
    #[must_use]
    pub const fn new(number: u64, writer: WriterId) -> VolumeEpoch {
        VolumeEpoch { number, writer }
    }

    /// The next volume epoch that `writer` may choose.
    #[must_use]
    pub fn next(self, writer: WriterId) -> VolumeEpoch {
        VolumeEpoch { number: self.number + 1, writer }
    }
}

impl fmt::Debug for VolumeEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            VolumeEpoch::NONE => f.write_str("e0"),
            VolumeEpoch { number, writer } => write!(f, "e{number}.{writer}"),
        }
    }
}

impl fmt::Display for VolumeEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Names the primary region, and fences the regions that were primary before (R-GLOBAL-1).
///
/// Ordered by number, then by controller: two controllers may choose the same number at one time, and still never the
/// same global epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct GlobalEpoch {
    /// Raised by each switchover, failover or undo.
    pub number: u64,
    /// Who chose it. Zero: the creation of the global database.
    pub controller: ControllerId,
}

impl GlobalEpoch {
    /// In which a global database is created.
    pub const FIRST: GlobalEpoch = GlobalEpoch { number: 1, controller: ControllerId(0) };

    /// The next global epoch that `controller` may choose.
    #[must_use]
    pub fn next(self, controller: ControllerId) -> GlobalEpoch {
        GlobalEpoch { number: self.number + 1, controller }
    }
}

impl fmt::Debug for GlobalEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}.{}", self.number, self.controller.0)
    }
}

impl fmt::Display for GlobalEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A segment: one copy of one protection group of one volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentId {
    /// The volume.
    pub volume: VolumeId,
    /// The protection group within the volume.
    pub pg: PgId,
    /// Which of the group's members.
    pub member: MemberId,
}

impl fmt::Debug for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.volume, self.pg, self.member)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A page of the volume's sparse space: `block` is in units of the page size (8 KiB in production).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct PageId {
    /// The file; what a file is, is the file system's business (`impl/pagefs`).
    pub inode: u64,
    /// The block within the file.
    pub block: u64,
}

impl fmt::Debug for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.inode, self.block)
    }
}

/// Who sends or receives a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Party {
    /// A segment.
    Segment(SegmentId),
    /// A writer of a volume.
    Writer(VolumeId, WriterId),
    /// A reader of a volume.
    Reader(VolumeId, ReaderId),
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Segment(id) => write!(f, "{id}"),
            Party::Writer(volume, id) => write!(f, "{volume}/{id}"),
            Party::Reader(volume, id) => write!(f, "{volume}/{id}"),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
