//! A segment: one copy of one protection group.
//!
//! It persists redo records and acknowledges how far its chain is complete (SCL); fills holes from its peers (gossip);
//! promises not to serve older writers (seal) and takes over what a recovery decided (install); makes pages from base
//! pages and records at a read point; coalesces the log into base pages below PGMRPL; heals and verifies them.
//!
//! It never decides what is durable: that is the writer's count of a write quorum. It never acknowledges before its
//! disk has said so: every answer that promises something waits in [`Segment::waiting`] for its append.
//!
//! Invariants (asserted after each step in [`Segment::check`]):
//! - the promise is at or above the installed volume epoch (R-FENCE-1);
//! - floor ≤ the highest VDL known, so nothing that is coalesced can be annulled (R-COLLECT-1);
//! - the chain starts at the floor: SCL ≥ `floor`;
//! - a segment that counts has a floor at or above every truncation range that was forgotten (R-TRUNCATE-6);
//! - each base page is as of a point from the floor to the ceiling (R-HYDRATE-1).
//!
//! Where to go next: `interface.rs` (what it asks of the disk), `log.rs` (the chain), `writes.rs` (seal, install,
//! write), `admission.rs` (what is checked of a message first), `reads.rs`, `coalesce.rs`, `gossip.rs` (holes and
//! missed installs), `hydrate.rs` (pages from a peer), `founding.rs` (without a journal), `rejoin.rs` (after losing
//! part of it), `accepted.rs` (when too many have), `lives.rs` (whether the disk is an old copy), `source.rs` (the
//! durable log, for processes that ship it elsewhere), `members.rs` (who is in its group).

mod accepted;
mod admission;
mod coalesce;
mod founding;
mod gossip;
mod hydrate;
mod interface;
mod lives;
mod log;
mod members;
mod reads;
mod rejoin;
mod source;
mod writes;

pub use accepted::{AcceptedLoss, NotAccepted, NotProposed, Seen, propose};
pub use admission::Implausible;
pub use founding::Founders;
pub use interface::*;
pub use log::HotLog;

use crate::defect::Defect;
use crate::identity::{Charter, Held};
use crate::ids::{Lsn, MemberId, MembershipEpoch, Micros, PageId, Party, SegmentId, VolumeEpoch, WriterId};
use crate::life::Life;
use crate::limits::WAITING_MAX;
use crate::machine::{AppendId, Effects, Input, Machine, Token};
use crate::membership::Step;
use crate::message::{Install, Message, Question, Refusal, SealReport, Standing};
use crate::note::Note;
use crate::quorum::{MemberSet, Membership};
use crate::record::Payload;
use crate::truncation::TruncationList;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::convert::Infallible;
use hydrate::Hydration;
use lives::Lives;
use reads::PendingBase;
use rejoin::Rejoin;
use serde::Serialize;

/// An answer that waits for an append to be durable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
enum Reply {
    Sealed {
        to: Party,
        volume_epoch: VolumeEpoch,
    },
    Installed {
        to: Party,
        volume_epoch: VolumeEpoch,
    },
    Acknowledge {
        to: Party,
        volume_epoch: VolumeEpoch,
    },
    Rejoined,
    LossAccepted,
    Founded,
    /// The segment's new life is durable: tell its peers.
    LifeBegun,
    /// A peer's life is remembered.
    LifeKnown {
        peer: MemberId,
        question: Question,
        life: Life,
    },
    /// A peer that has no journal asks what this segment is.
    Footing {
        peer: MemberId,
        question: Question,
    },
    /// The loss of a peer is remembered: tell it what it may have forgotten.
    Reminded {
        peer: MemberId,
        question: Question,
    },
    /// A step is durable; its membership epochs.
    Membership {
        to: Party,
        volume_epoch: VolumeEpoch,
        epochs: (MembershipEpoch, MembershipEpoch),
    },
    /// It is durable that this member has left.
    Left,
    /// A peer had more than fits in one message: ask it again.
    PullMore {
        peer: MemberId,
    },
}

/// One copy of one protection group: see the module's header.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Segment<P: Payload> {
    id: SegmentId,
    #[serde(skip)]
    config: SegmentConfig,
    membership: Step,
    /// Peers that say that this member has left.
    told_left: MemberSet,
    /// What its volume was made as; `None`: it was not said, and any shape is served.
    charter: Option<Charter>,
    /// Writers below are refused (R-FENCE-1).
    promised: VolumeEpoch,
    install: Install,
    /// Installs that a newer one took the place of before they were durable: they are on disk all the same.
    superseded: Vec<(AppendId, Install)>,
    log: HotLog<P>,
    vdl: Lsn,
    pgmrpl: Lsn,
    appended: AppendId,
    durable: AppendId,
    waiting: Vec<(AppendId, Reply)>,
    bases: BTreeMap<Token, PendingBase>,
    next_token: Token,
    /// The floor that a coalescing under way will bring.
    coalescing: Option<Lsn>,
    gossip_next: MemberId,
    /// No base page is newer than this or the floor, whichever is higher.
    ceiling: Lsn,
    hydration: Option<Hydration>,
    /// `None`: it counts.
    rejoin: Option<Rejoin>,
    /// A loss that an operator accepted since the segment started, until it is made good.
    accepted: Option<AcceptedLoss>,
    /// Of a member that founded its group, and has lost nothing since.
    founders: Option<Founders>,
    /// Tells this life from earlier ones; see [`Survived::boot`].
    boot: u64,
    /// Asked in this life.
    questions: u32,
    standing: Standing,
    lives: Lives,
    pages_lost: bool,
    damaged: BTreeSet<PageId>,
    healed: u64,
    disk_full: bool,
    /// An LSN of which two records are known that differ: nothing is done any more (R-LOG-4).
    contradiction: Option<Lsn>,
}

type Out<P> = Effects<Segment<P>>;

impl<P: Payload> Machine for Segment<P> {
    type Id = SegmentId;
    type Config = SegmentConfig;
    type Survived = Survived<P>;
    type Party = Party;
    type Message = Message<P>;
    type Entry = Entry<P>;
    type Task = Task<P>;
    type Outcome = Outcome<P>;
    type Timer = Timer;
    type Request = Request;
    type Answer = Infallible;

    fn boot(config: &SegmentConfig, id: SegmentId, survived: Survived<P>, _now: Micros, out: &mut Out<P>) -> Self {
        let mut segment = Segment::empty(config.clone(), id, survived.floor, survived.ceiling);
        segment.boot = survived.boot;
        let is_standing = |entry: &Entry<P>| entry.kind() == EntryKind::Standing;
        let blank = !survived.entries.iter().any(is_standing) && !config.defects.has(Defect::BlankCounts);
        for entry in survived.entries {
            segment.replay(entry);
        }
        segment.log.advance(AppendId(0));
        segment.clear_log_below_forgotten();
        let damaged = survived.damaged || (segment.rejoin.is_none() && !segment.knows_what_is_annulled());
        if damaged && !config.defects.has(Defect::AmnesiaCounts) {
            segment.forget_what_was_promised(out);
        } else if blank {
            segment.begin_blank(out);
        }
        if matches!(segment.rejoin, Some(Rejoin::Blank { .. } | Rejoin::Founding { .. })) {
            segment.ask_to_rejoin(out);
        }
        segment.renew_target();
        if segment.has_left() {
            segment.retire(out);
            return segment;
        }
        if !segment.knows_nothing() {
            segment.begin_life(out);
        }
        out.set_timer(Timer::Gossip, config.gossip_every);
        out.set_timer(Timer::Coalesce, config.coalesce_every);
        if config.scrub_every > Micros(0) {
            out.set_timer(Timer::Scrub, config.scrub_every);
        }
        segment.check();
        segment
    }

    fn step(&mut self, _now: Micros, input: Input<Self>, out: &mut Out<P>) {
        if self.contradiction.is_some() {
            return;
        }
        if self.has_left() && !matches!(input, Input::Message { .. } | Input::Durable(_)) {
            return;
        }
        match input {
            Input::Message { from, message } => self.on_message(from, message, out),
            Input::Timer(Timer::Gossip) => self.on_gossip_timer(out),
            Input::Timer(Timer::Coalesce) => self.on_coalesce_timer(out),
            Input::Timer(Timer::Scrub) => self.on_scrub_timer(out),
            Input::Timer(Timer::Life) => self.on_life_timer(out),
            Input::Durable(append) => self.on_durable(append, out),
            Input::Done(outcome) => self.on_outcome(outcome, out),
            Input::Request { request: Request::CoalesceNow, .. } => self.coalesce(out),
            Input::Request { request: Request::AcceptLoss(loss), .. } => self.on_accept_loss(loss, out),
        }
        self.check();
    }
}

impl<P: Payload> Segment<P> {
    /// Who this is.
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// Its group's membership, as it knows it: the newer side.
    pub fn membership(&self) -> &Membership {
        &self.membership.next
    }

    /// Both sides of the step that it knows.
    pub fn membership_step(&self) -> &Step {
        &self.membership
    }

    /// The hot log, for observers.
    pub fn log(&self) -> &HotLog<P> {
        &self.log
    }

    /// The newest recovery known here, for observers.
    pub fn install(&self) -> &Install {
        &self.install
    }

    /// The promise: writers below this volume epoch are refused.
    pub fn promised(&self) -> VolumeEpoch {
        self.promised
    }

    /// What it says when its process is asked what it holds. `None`: what its volume was made as is not known.
    pub fn held(&self) -> Option<Held> {
        let charter = self.charter?;
        let written =
            self.promised > VolumeEpoch::NONE || self.install != Install::default() || self.log.scl() > Lsn::ZERO;
        Some(Held { id: self.id, charter, membership: self.membership.clone(), written })
    }

    /// Numbers for `auriga status`.
    pub fn status(&self) -> SegmentStatus {
        SegmentStatus {
            promised: self.promised,
            installed: self.install.volume_epoch,
            scl: self.log.scl(),
            vdl: self.vdl,
            floor: self.log.floor(),
            log_weight: self.log.weight() as u64,
            log_records: self.log.record_count() as u64,
            hydrating: self.hydration.is_some() || self.pages_lost,
            rejoining: self.rejoin.is_some(),
            unregistered: !self.knows_nothing() && !self.is_vouched(),
            disk_full: self.disk_full,
            contradiction: self.contradiction,
            damaged_pages: self.damaged.len() as u64,
            healed_pages: self.healed,
            retired: self.has_left(),
        }
    }

    /// The invariants in the module's header.
    ///
    /// # Panics
    /// When one is broken.
    pub fn check(&self) {
        let (floor, planted) = (self.log.floor(), self.config.defects.any());
        assert!(self.promised >= self.install.volume_epoch || planted, "R-FENCE-1 broken: {self:?}");
        assert!(floor <= self.vdl || planted, "R-COLLECT-1 broken: floor {floor:?} above VDL {}", self.vdl);
        assert!(self.log.scl() >= floor, "SCL {} below the floor {floor:?}", self.log.scl());
        let knows = self.knows_what_is_annulled() || !self.counts();
        assert!(knows || planted, "R-TRUNCATE-6 broken: floor {floor:?} under {:?}", self.install.truncations);
    }

    fn empty(config: SegmentConfig, id: SegmentId, floor: Lsn, ceiling: Lsn) -> Self {
        Segment {
            id,
            config,
            membership: Step::first(Membership::initial(crate::quorum::QuorumSet::aurora())),
            told_left: MemberSet::EMPTY,
            charter: None,
            promised: VolumeEpoch::NONE,
            install: Install::default(),
            superseded: Vec::new(),
            log: HotLog::new(floor),
            vdl: floor.max(ceiling),
            pgmrpl: floor.max(ceiling),
            appended: AppendId(0),
            durable: AppendId(0),
            waiting: Vec::new(),
            bases: BTreeMap::new(),
            next_token: Token(0),
            coalescing: None,
            gossip_next: MemberId(0),
            ceiling,
            hydration: None,
            rejoin: None,
            accepted: None,
            founders: None,
            boot: 0,
            questions: 0,
            standing: Standing::default(),
            lives: Lives::default(),
            pages_lost: false,
            damaged: BTreeSet::new(),
            healed: 0,
            disk_full: false,
            contradiction: None,
        }
    }

    fn replay(&mut self, entry: Entry<P>) {
        match entry {
            Entry::Membership(membership) => self.replay_membership(Step::first(membership)),
            Entry::Step(step) => self.replay_membership(step),
            // A log that was compacted may repeat an older promise after a newer install.
            Entry::Promise { volume_epoch } if volume_epoch >= self.promised => {
                self.promised = volume_epoch;
            }
            Entry::Promise { .. } => {}
            Entry::Install(mut install) => {
                if self.config.defects.has(Defect::TruncationForgotten) {
                    install.truncations = TruncationList::default();
                }
                self.adopt_install(install);
            }
            Entry::Records { records, vdl } => {
                self.vdl = self.vdl.max(vdl);
                for record in records {
                    let annulled = self.install.truncations.annuls(record.lsn);
                    let wanted = !annulled || self.config.defects.has(Defect::GossipResurrects);
                    if wanted && matches!(self.log.compare(&record), log::Held::Nothing) {
                        self.log.insert(record, AppendId(0));
                    }
                }
                self.log.advance(AppendId(0));
            }
            Entry::Blank { birth } => self.resume_blank(birth),
            Entry::Founding(founders) => self.resume_founding(founders),
            Entry::Founded(founders) => {
                self.founders = Some(founders);
                self.rejoin = None;
            }
            Entry::Amnesia { incarnation, target } => {
                self.founders = None;
                self.standing.incarnation = incarnation;
                self.resume_rejoining(target);
            }
            Entry::Rejoined { incarnation } => {
                self.standing.incarnation = incarnation;
                self.rejoin = None;
            }
            Entry::PeerLoss { member, incarnation } => self.remember_loss(member, incarnation),
            Entry::Life { life, registered } => self.lives.replay(life, registered),
            Entry::PeerLife { member, life } => self.lives.remember(member, life),
            Entry::PagesLost => self.pages_lost = true,
            Entry::PagesRestored => self.pages_lost = false,
            Entry::Charter(charter) => self.charter = Some(charter),
        }
    }

    fn on_message(&mut self, from: Party, message: Message<P>, out: &mut Out<P>) {
        let is_of_ours = match from {
            Party::Writer(volume, _) | Party::Reader(volume, _) => volume == self.id.volume,
            Party::Segment(peer) => self.is_peer(peer),
        };
        if !is_of_ours || self.waiting.len() >= WAITING_MAX {
            return self.tell_who_left(from, &message, out);
        }
        if self.has_left() && !self.config.defects.has(Defect::RetiredMemberAnswers) {
            return self.refuse_as_left(from, &message, out);
        }
        if let Err(why) = self.plausible(from, &message) {
            return out.note(Note::Implausible { segment: self.id, from, why });
        }
        match from {
            Party::Writer(_, writer) => self.on_writer_message(from, writer, message, out),
            Party::Segment(peer) => self.on_peer_message(peer, message, out),
            Party::Reader(..) => self.on_reader_message(from, message, out),
        }
    }

    /// A reader may ask for pages, in the volume epoch of the writer that it follows, and for the durable log.
    fn on_reader_message(&mut self, from: Party, message: Message<P>, out: &mut Out<P>) {
        match message {
            Message::ReadPage { read, .. } if self.knows_nothing() => {
                out.send(from, Message::ReadRefused { read, refusal: Refusal::Rejoining });
            }
            Message::ReadPage { read, volume_epoch, page, read_point, group_point } => {
                self.on_read_page(from, reads::Wanted { read, volume_epoch, page, read_point, group_point }, out);
            }
            Message::LogPull { pull, above } => self.on_log_pull(from, pull, above, out),
            _ => {}
        }
    }

    fn on_writer_message(&mut self, from: Party, writer: WriterId, message: Message<P>, out: &mut Out<P>) {
        if self.knows_nothing() {
            self.hear_of_membership(&message, out);
            return out.send(from, Message::Refused(Refusal::Rejoining));
        }
        // R-FENCE-3: a volume epoch is its writer's alone. A sender that uses another's does not follow the protocol.
        if used_epoch(&message).is_some_and(|volume_epoch| volume_epoch.writer != writer) {
            return;
        }
        // Its chain is what it is, so it may serve reads before it is known not to have gone back in time.
        if !self.is_vouched() && !matches!(message, Message::ReadPage { .. }) {
            return out.send(from, Message::Refused(Refusal::Rejoining));
        }
        match message {
            Message::Seal { volume_epoch, shape } => self.on_seal(from, volume_epoch, shape, out),
            Message::TailPull { volume_epoch, above, truncations } => {
                self.on_tail_pull(from, volume_epoch, above, &truncations, out);
            }
            Message::Install { install, membership } => self.on_install(from, install, membership, out),
            Message::Write { volume_epoch, membership_epoch, records, vdl, pgmrpl } => {
                if let Err(refusal) = self.admit_write(volume_epoch, membership_epoch) {
                    return out.send(from, Message::Refused(refusal));
                }
                self.vdl = self.vdl.max(vdl);
                self.pgmrpl = self.pgmrpl.max(pgmrpl);
                self.on_write(from, records, out);
            }
            Message::Membership { pg, volume_epoch, membership } if pg == self.id.pg => {
                self.on_membership(from, volume_epoch, membership, out);
            }
            Message::ReadPage { read, volume_epoch, page, read_point, group_point } => {
                let wanted = reads::Wanted { read, volume_epoch, page, read_point, group_point };
                self.on_read_page(from, wanted, out);
            }
            _ => {}
        }
    }

    fn on_peer_message(&mut self, peer: SegmentId, message: Message<P>, out: &mut Out<P>) {
        if let Message::Refused(Refusal::StaleMembership { current }) = message {
            return self.on_stale_membership(peer, *current, out);
        }
        if !self.agrees_on_members(peer, &message, out) {
            return;
        }
        // Taking records or installs could acknowledge to a writer that a forgotten promise has fenced.
        let forgetful = self.knows_nothing();
        let of_rejoining = matches!(
            message,
            Message::RejoinPush { .. }
                | Message::RejoinKnown { .. }
                | Message::FoundPull { .. }
                | Message::FoundPush { .. }
        );
        let of_lives = matches!(message, Message::LifeAsk { .. } | Message::LifeKnown { .. });
        // Who founds its group never counted, so it has forgotten no peer's life.
        let founds = matches!(self.rejoin, Some(Rejoin::Founding { .. })) && of_lives;
        if forgetful && !of_rejoining && !founds {
            return;
        }
        if !self.is_vouched() && !of_rejoining && !of_lives {
            return;
        }
        match message {
            Message::GossipPull { installed, scl, .. } => self.on_gossip_pull(peer, installed, scl, out),
            Message::GossipPush { installed, records } => self.on_gossip_push(peer, installed, records, out),
            Message::GossipInstall { install, membership } => self.on_gossip_install(install, membership, out),
            Message::GossipTooFar { floor } => self.on_gossip_too_far(peer, floor, out),
            Message::HydratePull { installed, after, newer_than, at_least } => {
                self.on_hydrate_pull(peer, hydrate::Asked { installed, after, newer_than, at_least }, out);
            }
            Message::HydratePush { installed, after, newer_than, floor, pages, unchanged, complete } => {
                let chunk = hydrate::Chunk { installed, after, newer_than, floor, pages, unchanged, complete };
                self.on_hydrate_push(peer, chunk, out);
            }
            Message::HealPull { page, floor } => self.on_heal_pull(peer, page, floor, out),
            Message::HealPush { page, base, through } => self.on_heal_push(page, base, through, out),
            Message::FoundPull { question } => self.on_found_pull(peer, question, out),
            Message::FoundPush { question, footing } => self.on_found_push(peer, question, footing, out),
            Message::RejoinPull { question, incarnation, .. } => self.on_rejoin_pull(peer, question, incarnation, out),
            Message::RejoinKnown { question, known } => self.on_rejoin_known(peer, question, known, out),
            Message::RejoinPush { question, promised, report, lives } => {
                self.on_rejoin_push(peer, question, (promised, report, lives), out);
            }
            Message::LifeAsk { question, life, .. } => self.on_life_ask(peer, question, life, out),
            Message::LifeKnown { question, later, sure, standing } => {
                self.on_life_known(peer, question, later, (sure, standing), out);
            }
            _ => {}
        }
    }

    fn on_outcome(&mut self, outcome: Outcome<P>, out: &mut Out<P>) {
        match outcome {
            Outcome::Coalesced { floor } => self.on_coalesced(floor, out),
            Outcome::Base { token, base, .. } => self.on_base(token, base, out),
            Outcome::Bases { token, pages, unchanged, complete } => {
                self.on_bases(token, pages, unchanged, complete, out);
            }
            Outcome::BasesPut { token } => self.on_bases_put(token, out),
            Outcome::Scrubbed { damaged } => damaged.into_iter().for_each(|page| self.heal(page, out)),
            Outcome::Damaged { page, token } => self.on_damaged(page, token, out),
            Outcome::PagesLost => self.on_pages_lost(out),
            Outcome::DiskFull(full) => self.disk_full = full,
        }
    }

    /// Starts an append. A caller that must answer when it is durable adds a [`Reply`] for its number.
    fn append(&mut self, entry: Entry<P>, out: &mut Out<P>) -> AppendId {
        self.appended.0 += 1;
        self.move_on(entry.kind());
        out.append(self.appended, entry);
        self.appended
    }

    fn report(&self) -> SealReport {
        SealReport {
            install: self.install.clone(),
            scl: self.log.scl(),
            vdl: self.vdl,
            floor: self.log.floor(),
            membership: self.membership.clone(),
            standing: self.standing.clone(),
        }
    }

    /// Whether what this segment says may be counted: it lacks nothing that it ever promised or acknowledged.
    fn counts(&self) -> bool {
        self.rejoin.is_none() && self.is_vouched()
    }

    /// Whether promises may be missing: then nothing may be answered at all.
    fn knows_nothing(&self) -> bool {
        self.rejoin.as_ref().is_some_and(Rejoin::knows_nothing)
    }

    fn is_peer(&self, peer: SegmentId) -> bool {
        peer.volume == self.id.volume && peer.pg == self.id.pg && self.peers().contains(peer.member)
    }

    fn peers(&self) -> MemberSet {
        self.membership.members().without(self.id.member)
    }

    fn peer(&self, member: MemberId) -> Party {
        Party::Segment(SegmentId { member, ..self.id })
    }

    fn new_token(&mut self) -> Token {
        self.next_token.0 += 1;
        self.next_token
    }
}

/// The volume epoch in whose name something is to be changed, or a chain fetched.
fn used_epoch<P: Payload>(message: &Message<P>) -> Option<VolumeEpoch> {
    match message {
        Message::Seal { volume_epoch, .. }
        | Message::TailPull { volume_epoch, .. }
        | Message::Membership { volume_epoch, .. }
        | Message::Write { volume_epoch, .. } => Some(*volume_epoch),
        Message::Install { install, .. } => Some(install.volume_epoch),
        _ => None,
    }
}
