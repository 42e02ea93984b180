//! What travels between writers, readers and segments.
//!
//! | message | from → to | answered by |
//! |---|---|---|
//! | `Seal` | writer → segment | `Sealed` once the promise is durable, or `Refused` |
//! | `TailPull` | writer → segment | `Tail`, or `Refused` |
//! | `Install` | writer → segment | `Acknowledge` once durable, or `Refused` |
//! | `Write` | writer → segment | `Acknowledge` once durable, or `Refused` |
//! | `ReadPage` | writer → segment | `Page`, or `ReadRefused` |
//! | `GossipPull` | segment → segment | `GossipPush`, `GossipInstall`, `GossipTooFar`, or nothing |
//! | `HydratePull` | segment → segment | `HydratePush`, or nothing |
//! | `FoundPull` | segment → segment | `FoundPush` |
//! | `LifeAsk` | segment → segment | `LifeKnown` once the life is remembered, or nothing |
//! | `RejoinPull` | segment → segment | `RejoinPush` once the loss is remembered, `RejoinKnown`, or nothing |
//! | `ReadPage` | reader → segment | `Page`, or `ReadRefused` |
//! | `Follow` | reader → writer | `Following` and from then on every `Write`, or `NotKept`, or nothing |
//! | `LogPull` | reader → segment | `LogPush`, or `ReadRefused` |
//! | `Feedback` | reader → writer | nothing, or `NotKept` |
//! | `Published` | writer → reader | nothing |
//! | `Membership` | writer → segment | `MembershipInstalled` once durable, or `Refused` |
//! | `Membership` | writer → reader | nothing |
//!
//! Every message may be lost, duplicated, delayed or reordered. A refusal is a message of the protocol, not an error.

use crate::identity::Shape;
use crate::ids::{Birth, Incarnation, Lsn, MemberId, MembershipEpoch, PageId, Party, PgId, VolumeEpoch};
use crate::life::Life;
use crate::machine::Token;
use crate::membership::Step;
use crate::record::{Payload, Record};
use crate::truncation::TruncationList;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The outcome of a recovery, as each segment must know it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Install {
    /// The new writer's volume epoch; it names the writer.
    pub volume_epoch: VolumeEpoch,
    /// Every truncation in force, this recovery's included.
    pub truncations: TruncationList,
    /// The recovered VDL.
    pub vdl: Lsn,
}

/// The sender's incarnation. Receivers ignore messages from older incarnations of it, and of the peers that it lists.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Standing {
    /// The sender's own.
    pub incarnation: Incarnation,
    /// Peers that lost part of their log, as the sender was told.
    pub losses: BTreeMap<MemberId, Incarnation>,
}

/// What a sealed segment reports to the recovering writer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SealReport {
    /// The newest recovery that this segment knows.
    pub install: Install,
    /// Its Segment Complete LSN, durable.
    pub scl: Lsn,
    /// The highest VDL that it was told.
    pub vdl: Lsn,
    /// Its collection floor, durable: it holds no record at or below (R-TRUNCATE-6).
    pub floor: Lsn,
    /// The membership that it knows, durable, and what it is about to be.
    pub membership: Step,
    /// The segment's incarnation, and the losses that it knows.
    pub standing: Standing,
}

/// Names a question of a segment that lost what it knew: only an answer that says it is one to it (R-REJOIN-5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Question {
    /// The asker's life.
    pub life: u64,
    /// Counts the questions of that life.
    pub number: u32,
}

/// What a segment is to a peer that has no journal (R-REJOIN-7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Footing {
    /// It has no journal either.
    Blank {
        /// Its own birth.
        birth: Birth,
    },
    /// It counts, or will once every other one founds with it.
    Founder {
        /// Its own birth; zero where it lost it since.
        birth: Birth,
        /// The asker's birth that it knows for good; `None`: it knows none.
        yours: Option<Birth>,
    },
    /// It lost part of its log, and is a witness for no segment.
    Rejoining,
}

/// Why a segment does not do what it was asked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// The sender is fenced: a recovery with a higher volume epoch has been here.
    StaleVolumeEpoch {
        /// The epoch promised or installed here.
        current: VolumeEpoch,
    },
    /// This segment has not yet seen the sender's `Install`.
    NotInstalled {
        /// The epoch installed here.
        installed: VolumeEpoch,
    },
    /// The sender's quorum set is old.
    StaleMembership {
        /// The newest that is known here.
        current: Box<Step>,
    },
    /// A read point beyond this segment's chain.
    AboveScl {
        /// Its SCL.
        scl: Lsn,
    },
    /// A read point whose versions have been collected.
    BelowFloor {
        /// The lowest read point that it can still serve.
        floor: Lsn,
    },
    /// Too much is waiting to be coalesced; try again later.
    Busy,
    /// The disk is (nearly) full; lifts by itself when space returns.
    DiskFull,
    /// The page failed its checksum here and is being healed from a peer.
    PageDamaged,
    /// The segment lost part of its log and is learning from its peers what it promised.
    Rejoining,
    /// The volume was made with another shape than the writer's (R-VOLUME-5). For good.
    OtherShape {
        /// With which.
        shape: Shape,
    },
}

/// What travels. `P` is the records' payload.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(bound(
    serialize = "P: Serialize, P::Page: Serialize",
    deserialize = "P: serde::de::DeserializeOwned, P::Page: serde::de::DeserializeOwned"
))]
pub enum Message<P: Payload> {
    /// "Promise to refuse every writer below `volume_epoch`."
    Seal {
        /// The candidate's epoch.
        volume_epoch: VolumeEpoch,
        /// What it takes the volume for.
        shape: Shape,
    },
    /// The promise is durable.
    Sealed {
        /// Which promise.
        volume_epoch: VolumeEpoch,
        /// What the segment has.
        report: SealReport,
    },
    /// "Send me your chain above `above`", in a sealed volume epoch.
    TailPull {
        /// The sealed epoch.
        volume_epoch: VolumeEpoch,
        /// Exclusive.
        above: Lsn,
        /// The truncations in force, which the segment may not have seen: what they annul is not part of its chain.
        truncations: TruncationList,
    },
    /// Part of a chain, in order.
    Tail {
        /// The sealed epoch.
        volume_epoch: VolumeEpoch,
        /// The request's `above`.
        above: Lsn,
        /// The chain's last LSN at or below `above`.
        base: Lsn,
        /// The next records of the chain.
        records: Vec<Record<P>>,
        /// Whether the chain ends here.
        complete: bool,
    },
    /// The recovery's outcome, to every segment.
    Install {
        /// The outcome.
        install: Install,
        /// The group's membership, and what it is about to be: installed with it (R-MEMBER-7).
        membership: Step,
    },
    /// Records of one protection group, and what the segments should know of the whole.
    Write {
        /// The writer's epoch.
        volume_epoch: VolumeEpoch,
        /// The group's membership, as the writer knows it.
        membership_epoch: MembershipEpoch,
        /// In chain order. May be empty: then this carries `vdl` and `pgmrpl` only.
        records: Vec<Record<P>>,
        /// The writer's VDL.
        vdl: Lsn,
        /// Protection Group Minimum Read Point: no read below it will be asked for.
        pgmrpl: Lsn,
    },
    /// "My chain is complete, and durable, through `scl`."
    Acknowledge {
        /// The epoch installed here.
        volume_epoch: VolumeEpoch,
        /// Inclusive.
        scl: Lsn,
        /// The segment's incarnation, and the losses that it knows.
        standing: Standing,
    },
    /// A request was refused.
    Refused(Refusal),
    /// "The page as of `read_point`."
    ReadPage {
        /// Comes back.
        read: Token,
        /// The reader's epoch.
        volume_epoch: VolumeEpoch,
        /// Which page.
        page: PageId,
        /// As of which volume LSN.
        read_point: Lsn,
        /// The group's last LSN at or below `read_point`: what SCL must have reached.
        group_point: Lsn,
    },
    /// The page.
    Page {
        /// The request's token.
        read: Token,
        /// LSN of the last record applied.
        version: Lsn,
        /// Content.
        page: P::Page,
    },
    /// A read was refused.
    ReadRefused {
        /// The request's token.
        read: Token,
        /// The reason, with what the reader must learn.
        refusal: Refusal,
    },
    /// "I have `installed` and a chain through `scl`: what do I miss?"
    GossipPull {
        /// The asker's installed epoch.
        installed: VolumeEpoch,
        /// The asker's SCL.
        scl: Lsn,
        /// The membership that the asker knows.
        membership: Step,
    },
    /// Records that follow the asker's SCL, in chain order.
    GossipPush {
        /// Epoch installed at both.
        installed: VolumeEpoch,
        /// The records.
        records: Vec<Record<P>>,
    },
    /// A recovery that the asker has missed.
    GossipInstall {
        /// Its outcome.
        install: Install,
        /// The membership that the sender knows.
        membership: Step,
    },
    /// What the asker misses was coalesced away: it must hydrate.
    GossipTooFar {
        /// The sender's collection floor.
        floor: Lsn,
    },
    /// "Send me your base pages after `after`, in page order, as far as they are newer than mine."
    HydratePull {
        /// Epoch installed at the asker.
        installed: VolumeEpoch,
        /// Exclusive; `None` begins.
        after: Option<PageId>,
        /// The asker's pages have everything through here.
        newer_than: Lsn,
        /// No page of the asker is newer than this: the sender's floor must have reached it.
        at_least: Lsn,
    },
    /// Base pages.
    HydratePush {
        /// Epoch installed at the sender.
        installed: VolumeEpoch,
        /// The request's `after`.
        after: Option<PageId>,
        /// The request's `newer_than`.
        newer_than: Lsn,
        /// The sender's floor now: these pages are as of here.
        floor: Lsn,
        /// The newer pages with their versions, in page order.
        pages: Vec<BasePage<P>>,
        /// The others from `after` to the last of either kind, in page order. What is in neither is no more.
        unchanged: Vec<PageId>,
        /// Whether these are the last.
        complete: bool,
    },
    /// "Send me this base page: mine is damaged."
    HealPull {
        /// Which page.
        page: PageId,
        /// The asker's floor: the copy must be at least as new.
        floor: Lsn,
    },
    /// A sound copy of a base page (`None`: never written).
    HealPush {
        /// Which page.
        page: PageId,
        /// The version and content.
        base: Option<BasePage<P>>,
        /// The copy holds every record of the page at or below this.
        through: Lsn,
    },
    /// "I lost part of my log. What did you promise, and what do you have? And forget what I said before."
    RejoinPull {
        /// The answer repeats it.
        question: Question,
        /// The asker's new incarnation; zero: "which of mine do you know?"
        incarnation: Incarnation,
        /// The membership that the asker knows.
        membership: Step,
    },
    /// "This is your highest incarnation that I know: choose a higher one."
    RejoinKnown {
        /// The request's question.
        question: Question,
        /// Zero: none.
        known: Incarnation,
    },
    /// The answer, once the sender will remember the loss in all that it says.
    RejoinPush {
        /// The request's question.
        question: Question,
        /// The sender's promise.
        promised: VolumeEpoch,
        /// What it has.
        report: SealReport,
        /// Its peers' lives, as it remembers them.
        lives: BTreeMap<MemberId, Life>,
    },
    /// "I have no journal. What are you, and what do you know of me?"
    FoundPull {
        /// The answer repeats it.
        question: Question,
    },
    /// The answer.
    FoundPush {
        /// The request's question.
        question: Question,
        /// What the sender is.
        footing: Footing,
    },
    /// "This is the life that I begin. Do you know a later one of mine?"
    LifeAsk {
        /// The answer repeats it.
        question: Question,
        /// The asker's.
        life: Life,
        /// The membership that the asker knows.
        membership: Step,
    },
    /// The answer, once the life is remembered.
    LifeKnown {
        /// The request's question.
        question: Question,
        /// A later life is known, or another of the same number.
        later: bool,
        /// Whether the sender itself counts.
        sure: bool,
        /// Whose word this is (R-REJOIN-3).
        standing: Standing,
    },
    /// "Show me what you write, and keep what I need."
    Follow {
        /// Counts the reader's messages to writers: a late one has a lower number. The answer repeats it.
        number: u64,
        /// The lowest read point that the reader still needs; `None`: it has none yet.
        floor: Option<Lsn>,
        /// Whether it needs no records: it is told VDL, and what it needs is kept.
        quiet: bool,
    },
    /// "You follow: you are shown every record above `start`, in `Write`."
    Following {
        /// The request's number.
        number: u64,
        /// The writer's epoch.
        volume_epoch: VolumeEpoch,
        /// The writer's VDL: a read point that is kept for the reader from now on.
        start: Lsn,
        /// The last LSN at or below `start` of each group, in order of the groups.
        points: Vec<Lsn>,
    },
    /// "I am here, and need no read point below `floor`."
    Feedback {
        /// Counts on from `Follow`.
        number: u64,
        /// The epoch of the writer that it follows.
        volume_epoch: VolumeEpoch,
        /// The lowest read point that the reader still needs.
        floor: Lsn,
    },
    /// "What you need is not kept any more: begin again, as another."
    NotKept {
        /// The writer's epoch.
        volume_epoch: VolumeEpoch,
        /// No read point below is kept.
        floor: Lsn,
    },
    /// "A page as of `read_point` holds nothing whose place in the database's own log is above `wal`."
    Published {
        /// The writer's epoch.
        volume_epoch: VolumeEpoch,
        /// A VDL of this writer.
        read_point: Lsn,
        /// A position of the database's own log, asked after `read_point` was chosen (R-READER-6).
        wal: u64,
    },
    /// "Send me your chain above `above`, as far as it is durable in the volume."
    LogPull {
        /// The answer repeats it.
        pull: Token,
        /// Exclusive.
        above: Lsn,
    },
    /// Part of a chain, none of it above a VDL (R-GLOBAL-11).
    LogPush {
        /// The request's token.
        pull: Token,
        /// Epoch installed at the sender.
        installed: VolumeEpoch,
        /// The chain's last LSN at or below `above`.
        base: Lsn,
        /// The next records of the chain, in order.
        records: Vec<Record<P>>,
        /// The chain's last LSN at or below `vdl`, as far as it is here: whatever lies between the last of `records`
        /// and here did not fit.
        through: Lsn,
        /// The highest VDL that the sender was told.
        vdl: Lsn,
    },
    /// "This is the group's membership, and what it is about to be."
    Membership {
        /// Which group: a reader must be told.
        pg: PgId,
        /// The writer's epoch.
        volume_epoch: VolumeEpoch,
        /// The step; settled where none is on its way.
        membership: Step,
    },
    /// "I have that step durably, or a later one."
    MembershipInstalled {
        /// The epoch installed here.
        volume_epoch: VolumeEpoch,
        /// [`Step::epochs`] of the step that is durable here.
        epochs: (MembershipEpoch, MembershipEpoch),
        /// Whether the sender counts: of one that joins, whether it is hydrated (R-MEMBER-3).
        counts: bool,
        /// The segment's incarnation, and the losses that it knows.
        standing: Standing,
    },
}

/// A page as the page store keeps it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "P::Page: Serialize", deserialize = "P::Page: serde::de::DeserializeOwned"))]
pub struct BasePage<P: Payload> {
    /// Which page.
    pub page: PageId,
    /// LSN of the last record applied.
    pub version: Lsn,
    /// Content.
    pub content: P::Page,
}

impl<P: Payload> Message<P> {
    /// The message's name, for traces and counters.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Seal { .. } => "Seal",
            Message::Sealed { .. } => "Sealed",
            Message::TailPull { .. } => "TailPull",
            Message::Tail { .. } => "Tail",
            Message::Install { .. } => "Install",
            Message::Write { .. } => "Write",
            Message::Acknowledge { .. } => "Acknowledge",
            Message::Refused(_) => "Refused",
            Message::ReadPage { .. } => "ReadPage",
            Message::Page { .. } => "Page",
            Message::ReadRefused { .. } => "ReadRefused",
            Message::GossipPull { .. } => "GossipPull",
            Message::GossipPush { .. } => "GossipPush",
            Message::GossipInstall { .. } => "GossipInstall",
            Message::GossipTooFar { .. } => "GossipTooFar",
            Message::HydratePull { .. } => "HydratePull",
            Message::HydratePush { .. } => "HydratePush",
            Message::HealPull { .. } => "HealPull",
            Message::HealPush { .. } => "HealPush",
            Message::RejoinPull { .. } => "RejoinPull",
            Message::RejoinKnown { .. } => "RejoinKnown",
            Message::RejoinPush { .. } => "RejoinPush",
            Message::FoundPull { .. } => "FoundPull",
            Message::FoundPush { .. } => "FoundPush",
            Message::LifeAsk { .. } => "LifeAsk",
            Message::LifeKnown { .. } => "LifeKnown",
            Message::Follow { .. } => "Follow",
            Message::Following { .. } => "Following",
            Message::Feedback { .. } => "Feedback",
            Message::NotKept { .. } => "NotKept",
            Message::Published { .. } => "Published",
            Message::LogPull { .. } => "LogPull",
            Message::LogPush { .. } => "LogPush",
            Message::Membership { .. } => "Membership",
            Message::MembershipInstalled { .. } => "MembershipInstalled",
        }
    }
}

/// A message with its addresses: what a frame on the network holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(bound(
    serialize = "P: Serialize, P::Page: Serialize",
    deserialize = "P: serde::de::DeserializeOwned, P::Page: serde::de::DeserializeOwned"
))]
pub struct Envelope<P: Payload> {
    /// Who sends.
    pub from: Party,
    /// Who receives.
    pub to: Party,
    /// The content.
    pub message: Message<P>,
}
