//! What a segment asks of its disk and its driver, and what it is told.

use super::{AcceptedLoss, Founders};
use crate::defect::Defects;
use crate::identity::Charter;
use crate::ids::{Birth, Incarnation, Lsn, MemberId, Micros, PageId, VolumeEpoch};
use crate::life::Life;
use crate::machine::Token;
use crate::membership::Step;
use crate::message::{BasePage, Install};
use crate::quorum::Membership;
use crate::record::{Payload, Record};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a segment makes durable, in order, in its log. Replaying the entries rebuilds the segment.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "P: Serialize", deserialize = "P: serde::de::DeserializeOwned"))]
pub enum Entry<P: Payload> {
    /// The segment of a new volume exists.
    #[serde(with = "crate::membership::as_first")]
    Membership(Membership),
    /// A promise to a candidate (answer to `Seal`).
    Promise {
        /// Refuse everything below.
        volume_epoch: VolumeEpoch,
    },
    /// The outcome of a recovery.
    Install(Install),
    /// Redo records, from the writer or a peer.
    Records {
        /// In LSN order; holes may remain.
        records: Vec<Record<P>>,
        /// The highest VDL known when they were appended.
        vdl: Lsn,
    },
    /// The segment lost part of its log and is learning from peers. Until `Rejoined`, it does not count.
    Amnesia {
        /// Counts its losses.
        incarnation: Incarnation,
        /// Its chain must reach this before it counts; `None` while not enough peers have answered.
        target: Option<Lsn>,
    },
    /// The segment counts again.
    Rejoined {
        /// What it says from now on, it says in this incarnation.
        incarnation: Incarnation,
    },
    /// A peer lost part of its log: what it said in earlier incarnations no longer counts (R-REJOIN-3).
    PeerLoss {
        /// Which peer.
        member: MemberId,
        /// Its new incarnation.
        incarnation: Incarnation,
    },
    /// A life of the segment.
    Life {
        /// The life.
        life: Life,
        /// Whether enough peers are known to remember it.
        registered: bool,
    },
    /// A life of a peer: an earlier one that comes back is found out.
    PeerLife {
        /// Which peer.
        member: MemberId,
        /// Its latest life that this segment was told of.
        life: Life,
    },
    /// Base pages were lost, and which isn't known: none is served until all have come from a peer.
    PagesLost,
    /// They have.
    PagesRestored,
    /// What the segment's volume was made as.
    Charter(Charter),
    /// The segment has no journal yet, and does not count.
    Blank {
        /// Drawn now.
        birth: Birth,
    },
    /// Every other member has no journal either, or founds with this one.
    Founding(Founders),
    /// Every other member founds with this one: it counts.
    Founded(Founders),
    /// The group's membership, and what it is about to be.
    Step(Step),
}

/// Entries of one kind replace each other: only the newest of a kind matters, except for `Records`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EntryKind {
    /// `Entry::Membership` and `Entry::Step`.
    Membership,
    /// `Entry::Promise`.
    Promise,
    /// `Entry::Install`.
    Install,
    /// `Entry::Records`: each counts until the floor has passed it.
    Records,
    /// `Entry::Amnesia`, `Rejoined`, `Blank`, `Founding` and `Founded`. A journal without one is a blank one.
    Standing,
    /// `Entry::PeerLoss`, of this peer.
    PeerLoss(MemberId),
    /// `Entry::Life`.
    Life,
    /// `Entry::PeerLife`, of this peer.
    PeerLife(MemberId),
    /// `Entry::PagesLost` and `Entry::PagesRestored`.
    Pages,
    /// `Entry::Charter`.
    Charter,
}

impl<P: Payload> Entry<P> {
    /// The membership that it says, and what that is about to be.
    pub fn step(&self) -> Option<Step> {
        match self {
            Entry::Membership(membership) => Some(Step::first(membership.clone())),
            Entry::Step(step) => Some(step.clone()),
            _ => None,
        }
    }

    /// What a segment keeps that is made in this membership.
    pub fn of_membership(membership: Membership) -> Self {
        if membership.is_first() { Entry::Membership(membership) } else { Entry::Step(Step::first(membership)) }
    }

    /// What the entry replaces: a log may drop an entry when a newer one of the same kind is durable. The newest of
    /// each kind may be appended again, in any order among kinds.
    pub fn kind(&self) -> EntryKind {
        match self {
            Entry::Membership(_) | Entry::Step(_) => EntryKind::Membership,
            Entry::Promise { .. } => EntryKind::Promise,
            Entry::Install(_) => EntryKind::Install,
            Entry::Records { .. } => EntryKind::Records,
            Entry::Amnesia { .. } | Entry::Rejoined { .. } => EntryKind::Standing,
            Entry::Blank { .. } | Entry::Founding(_) | Entry::Founded(_) => EntryKind::Standing,
            Entry::PeerLoss { member, .. } => EntryKind::PeerLoss(*member),
            Entry::Life { .. } => EntryKind::Life,
            Entry::PeerLife { member, .. } => EntryKind::PeerLife(*member),
            Entry::PagesLost | Entry::PagesRestored => EntryKind::Pages,
            Entry::Charter(_) => EntryKind::Charter,
        }
    }
}

/// What survived a crash: the page store's floor, and the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "P: Serialize", deserialize = "P: serde::de::DeserializeOwned"))]
pub struct Survived<P: Payload> {
    /// Everything at or below is in base pages; the log below may be gone.
    pub floor: Lsn,
    /// The highest ceiling of a `PutBases`: no base page is newer than this or the floor.
    pub ceiling: Lsn,
    /// Durable entries, oldest first. Records at or below the floor may be missing.
    pub entries: Vec<Entry<P>>,
    /// The log was found damaged somewhere other than in its torn, never acknowledged tail: entries are missing.
    pub damaged: bool,
    /// Differs from that of every earlier start of this segment, by any disk: the driver draws it at random.
    pub boot: u64,
}

impl<P: Payload> Default for Survived<P> {
    fn default() -> Self {
        Survived { floor: Lsn::ZERO, ceiling: Lsn::ZERO, entries: Vec::new(), damaged: false, boot: 0 }
    }
}

impl<P: Payload> Survived<P> {
    /// What the disk of a segment holds directly after it was created. It is *blank*: it does not count before all
    /// members are found to be so, or it has rejoined.
    pub fn created(membership: Membership) -> Self {
        Survived { entries: [Entry::of_membership(membership)].into(), ..Survived::default() }
    }

    /// Returns what the disk of a segment of a new volume holds once the segment counts: where models and tests begin.
    pub fn founded(membership: Membership) -> Self {
        let entries = [Entry::Membership(membership), Entry::Founded(Founders::default())].into();
        Survived { entries, ..Survived::default() }
    }

    /// The same, of a volume that was made as `charter` says.
    #[must_use]
    pub fn with_charter(mut self, charter: Charter) -> Self {
        self.entries.push(Entry::Charter(charter));
        self
    }
}

/// Work on base pages. The driver runs tasks of one segment one after another, in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Task<P: Payload> {
    /// Apply `records` to their base pages, then make pages and floor durable together.
    /// Ends as `Coalesced`, or `Damaged` (then nothing has changed).
    Coalesce {
        /// The new floor.
        floor: Lsn,
        /// Records above the old floor and at or below the new one, in LSN order.
        records: Vec<Record<P>>,
    },
    /// Ends as `Base`, or `Damaged`.
    ReadBase {
        /// Comes back.
        token: Token,
        /// The page.
        page: PageId,
    },
    /// The base pages after `after`, in page order: those newer than `newer_than` with their content, of the others
    /// which there are. Ends as `Bases`, or `Damaged`.
    ReadBases {
        /// Comes back.
        token: Token,
        /// Exclusive; `None` begins.
        after: Option<PageId>,
        /// Exclusive.
        newer_than: Lsn,
        /// Most newer pages, at least 1.
        limit: usize,
        /// Most pages of either kind, at least 1.
        look: usize,
    },
    /// Store base pages that came from a peer, and forget those that never were. Ends as `BasesPut`.
    PutBases {
        /// Comes back.
        token: Token,
        /// Present pages: replace the stored version, whatever it is.
        pages: Vec<BasePage<P>>,
        /// Pages of the range that stay as they are.
        unchanged: Vec<PageId>,
        /// Everything stored in this range and neither in `pages` nor in `unchanged` was never written, or is gone:
        /// forget it.
        replace: Option<PageRange>,
        /// A floor to adopt with them, durably.
        floor: Option<Lsn>,
        /// They are as of here: raise the ceiling to it, durably and with them.
        ceiling: Lsn,
    },
    /// The segment's member has left its group, for good: delete whatever is kept of it (R-MEMBER-10). Has no outcome.
    Retire,
    /// Re-read the next `limit` base pages and verify their checksums. Ends as `Scrubbed`.
    Scrub {
        /// At least 1.
        limit: usize,
    },
}

/// Pages in page order: above `after` (`None`: from the first) and up to `through` (`None`: to the last).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageRange {
    /// Exclusive.
    pub after: Option<PageId>,
    /// Inclusive.
    pub through: Option<PageId>,
}

impl PageRange {
    /// Whether `page` is in the range.
    pub fn contains(&self, page: PageId) -> bool {
        self.after.is_none_or(|after| page > after) && self.through.is_none_or(|through| page <= through)
    }
}

/// Returns the outcome of a `ReadBases`, for a caller that has `following`, the pages after `after`, at hand.
pub fn bases_read<'a, P: Payload + 'a>(
    token: Token,
    following: impl IntoIterator<Item = &'a BasePage<P>>,
    newer_than: Lsn,
    (limit, look): (usize, usize),
) -> Outcome<P> {
    let (mut pages, mut unchanged) = (Vec::new(), Vec::new());
    let mut following = following.into_iter();
    for base in following.by_ref() {
        if base.version > newer_than {
            pages.push(base.clone());
        } else {
            unchanged.push(base.page);
        }
        if pages.len() >= limit || pages.len() + unchanged.len() >= look {
            break;
        }
    }
    Outcome::Bases { token, pages, unchanged, complete: following.next().is_none() }
}

/// How a task ended. I/O errors are no outcome: they stop the node.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(bound(
    serialize = "P: Serialize, P::Page: Serialize",
    deserialize = "P: serde::de::DeserializeOwned, P::Page: serde::de::DeserializeOwned"
))]
pub enum Outcome<P: Payload> {
    /// The floor is durable.
    Coalesced {
        /// The task's floor.
        floor: Lsn,
    },
    /// A base page.
    Base {
        /// The task's token.
        token: Token,
        /// The task's page.
        page: PageId,
        /// `None`: never written.
        base: Option<BasePage<P>>,
    },
    /// Base pages, in page order.
    Bases {
        /// The task's token.
        token: Token,
        /// The newer ones.
        pages: Vec<BasePage<P>>,
        /// The others from `after` to the last of either kind.
        unchanged: Vec<PageId>,
        /// Whether the last one that there is is among them.
        complete: bool,
    },
    /// The pages are durable.
    BasesPut {
        /// The task's token.
        token: Token,
    },
    /// The checksums of these pages were wrong; everything else that was looked at is sound.
    Scrubbed {
        /// Damaged pages.
        damaged: Vec<PageId>,
    },
    /// A base page failed its checksum, so the task was not done.
    Damaged {
        /// The page.
        page: PageId,
        /// The token of a `ReadBase` or `ReadBases`; `None` for a `Coalesce`.
        token: Option<Token>,
    },
    /// Base pages were lost and it isn't known which (their headers are unreadable): all must be fetched again. Said at
    /// every start until they have (a `PutBases` with a floor), whatever the log has of it: that may be damaged, too.
    PagesLost,
    /// The disk is nearly full (`true`), or has space again (`false`). May come at any time.
    DiskFull(bool),
}

/// A segment's timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Timer {
    /// Ask the next peer for what is missing.
    Gossip,
    /// See whether there is something to coalesce.
    Coalesce,
    /// Verify some base pages.
    Scrub,
    /// Go on with the registration of a life, or begin the next.
    Life,
}

/// A segment has no local users; what others ask comes in messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    /// Coalesce now, whatever the thresholds say (tests, graceful stop). Not answered.
    CoalesceNow,
    /// An operator accepts that journals are lost (R-REJOIN-8). Not answered: see [`super::Segment::may_accept`].
    AcceptLoss(AcceptedLoss),
}

/// A segment's fixed configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SegmentConfig {
    /// Bytes of records kept in memory above the floor; beyond it, writes are refused as `Busy`.
    pub log_weight_max: usize,
    /// Coalesce as soon as this many bytes are above the floor …
    pub coalesce_weight: usize,
    /// … or this often, whichever is first.
    pub coalesce_every: Micros,
    /// Most bytes of records that one coalescing takes.
    pub coalesce_weight_max: usize,
    /// Bytes of records that stay when the log is coalesced because of its weight: for peers that lag a little.
    pub coalesce_leaves: usize,
    /// How often to ask a peer.
    pub gossip_every: Micros,
    /// Most bytes of records in one gossip or tail message.
    pub push_weight_max: usize,
    /// Most pages in one hydration message.
    pub hydrate_pages_max: usize,
    /// Most pages that are looked at for one hydration message.
    pub hydrate_look_max: usize,
    /// How often to scrub; zero: never.
    pub scrub_every: Micros,
    /// Pages verified each time.
    pub scrub_pages: usize,
    /// How often to begin a new life while the segment runs; zero: there are no lives, and a store that went back in
    /// time is not found out. (Models that have no such store leave them away.)
    #[serde(default)]
    pub renew_life_every: Micros,
    /// Page reads that may wait for the page store at one time.
    pub reads_max: usize,
    /// Planted defects. Not written down: a recording is judged by the protocol as it is meant.
    #[serde(skip)]
    pub defects: Defects,
}

impl Default for SegmentConfig {
    fn default() -> Self {
        SegmentConfig {
            log_weight_max: 64 << 20,
            coalesce_weight: 32 << 20,
            coalesce_every: Micros(5_000_000),
            coalesce_weight_max: 48 << 20,
            coalesce_leaves: 16 << 20,
            gossip_every: Micros(200_000),
            push_weight_max: 1 << 20,
            hydrate_pages_max: 64,
            hydrate_look_max: 4096,
            scrub_every: Micros(1_000_000),
            scrub_pages: 256,
            renew_life_every: Micros(2_000_000),
            reads_max: 1024,
            defects: Defects::NONE,
        }
    }
}

impl SegmentConfig {
    /// Limits so small that a model or a test reaches each of them, no scrubbing, and no lives.
    pub fn tiny() -> Self {
        SegmentConfig {
            coalesce_weight: 0,
            hydrate_pages_max: 1,
            scrub_every: Micros(0),
            renew_life_every: Micros(0),
            ..SegmentConfig::default()
        }
    }
}

/// Numbers for `auriga status`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct SegmentStatus {
    /// Highest promise.
    pub promised: VolumeEpoch,
    /// Newest recovery known.
    pub installed: VolumeEpoch,
    /// Segment Complete LSN.
    pub scl: Lsn,
    /// Highest VDL known.
    pub vdl: Lsn,
    /// Collection floor.
    pub floor: Lsn,
    /// Bytes of records above the floor.
    pub log_weight: u64,
    /// Records above the floor.
    pub log_records: u64,
    /// Whether the segment is fetching pages from a peer.
    pub hydrating: bool,
    /// Whether the segment lost part of its log and does not count yet.
    pub rejoining: bool,
    /// Whether the segment waits for its peers to remember its life, and does not count until they do (R-LIFE-1).
    pub unregistered: bool,
    /// Whether the disk is nearly full.
    pub disk_full: bool,
    /// An LSN of which two records are known that differ: the segment has stopped.
    pub contradiction: Option<Lsn>,
    /// Damaged pages being healed now.
    pub damaged_pages: u64,
    /// Pages healed since the start.
    pub healed_pages: u64,
    /// Whether its member has left the group, and its process is to delete it.
    #[serde(default)]
    pub retired: bool,
}
