//! The writer: the volume driver of one instance.
//!
//! It recovers the volume (seal, collect, install), allocates LSNs, sends records to the segments of their protection
//! group, and knows from their acknowledgements what is durable: PGCL per group, VCL and VDL for the volume. It reads a
//! page from one segment. It keeps nothing on disk: a crash loses only what was never acknowledged.
//!
//! It never runs consensus, never waits for a particular segment, and never acknowledges by itself: its users compare
//! their LSN with [`Writer::vdl`].
//!
//! ```text
//!            ●───●───●───●───●───●───●───●─ ─ ─ ─ ─ ─ ─ ─ ┤
//!                    VDL     VCL         allocated        VDL + LAL: nothing is allocated beyond
//!    durable, CPL ◄──┘       └► complete: every record at or below is on a write quorum of its group
//! ```
//!
//! Invariants (asserted after each step in [`Writer::check`]):
//! - VDL ≤ VCL ≤ allocated (R-VDL-1, R-VDL-2);
//! - allocated ≤ max(VDL, where it began) + LAL (R-ALLOC-1).
//!
//! Where to go next: `recovery.rs` (how it becomes the writer), `lingering.rs` (whom it waits for), `doubt.rs` (what it does not believe), `volume.rs` (allocation, quorum tracking), `group.rs`
//! (one protection group), `members.rs` (who is in a group), `reads.rs`, `followers.rs`
//! (readers on other instances).

mod doubt;
mod followers;
mod group;
mod interface;
mod lingering;
mod members;
mod reads;
mod recovery;
mod volume;

pub use followers::FollowersConfig;
pub use interface::*;
pub use recovery::effective_scl;

use crate::identity::Shape;
use crate::ids::{Lsn, MemberId, Micros, PageId, Party, PgId, SegmentId, VolumeEpoch};
use crate::machine::{Effects, Input, Machine, Token};
use crate::message::{Install, Message, Refusal, Standing};
use crate::note::Note;
use crate::record::{Change, Payload};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::convert::Infallible;
use followers::Followers;
use group::Group;
use reads::ReadUnderWay;
use recovery::Recovery;
use serde::Serialize;
use volume::Queued;

/// The volume driver: see the module's header.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Writer<P: Payload> {
    id: WriterIdentity,
    #[serde(skip)]
    config: WriterConfig,
    role: WriterRole,
    volume_epoch: VolumeEpoch,
    recovery: Recovery<P>,
    /// What this writer's recovery decided; meaningful from `Installing` on.
    install: Install,
    groups: Vec<Group<P>>,
    /// Records above VDL, in volume order.
    queue: VecDeque<Queued>,
    /// How many of the queue are at or below VCL.
    complete: usize,
    vcl: Lsn,
    vdl: Lsn,
    allocated: Lsn,
    in_flight_weight: usize,
    /// The last record in flight of each page that has one.
    latest: BTreeMap<PageId, Lsn>,
    reads: BTreeMap<Token, ReadUnderWay>,
    read_points: BTreeMap<Lsn, u32>,
    hedged: u64,
    followers: Followers,
    /// A segment says that the volume was made with this shape, which is not this writer's.
    other_shape: Option<Shape>,
}

type Out<P> = Effects<Writer<P>>;

impl<P: Payload> Machine for Writer<P> {
    type Id = WriterIdentity;
    type Config = WriterConfig;
    type Survived = ();
    type Party = Party;
    type Message = Message<P>;
    type Entry = Infallible;
    type Task = Infallible;
    type Outcome = Infallible;
    type Timer = Timer;
    type Request = Request<P>;
    type Answer = Answer<P>;

    fn boot(config: &WriterConfig, id: WriterIdentity, (): (), _now: Micros, out: &mut Out<P>) -> Self {
        let groups = config.geometry.group_ids().map(|pg| Group::new(pg, config.membership_of(pg))).collect();
        let mut writer = Writer {
            id,
            config: config.clone(),
            role: WriterRole::Sealing,
            volume_epoch: VolumeEpoch::NONE,
            recovery: Recovery::default(),
            install: Install::default(),
            groups,
            queue: VecDeque::new(),
            complete: 0,
            vcl: Lsn::ZERO,
            vdl: Lsn::ZERO,
            allocated: Lsn::ZERO,
            in_flight_weight: 0,
            latest: BTreeMap::new(),
            reads: BTreeMap::new(),
            read_points: BTreeMap::new(),
            hedged: 0,
            followers: Followers::default(),
            other_shape: None,
        };
        writer.seal_above(VolumeEpoch::NONE, out);
        out.set_timer(Timer::Retry, config.retry_every);
        writer
    }

    fn step(&mut self, now: Micros, input: Input<Self>, out: &mut Out<P>) {
        match input {
            Input::Message { from: Party::Segment(segment), message } if self.knows(segment) => {
                self.on_message(now, segment, message, out);
            }
            Input::Message { from: Party::Reader(volume, reader), message } if volume == self.id.volume => {
                self.on_reader_message(reader, message, out);
            }
            Input::Timer(Timer::Lease(reader)) => self.on_lease_timer(reader),
            Input::Timer(Timer::Grace) => self.end_grace(),
            Input::Timer(Timer::Linger) => self.on_linger_timer(out),
            Input::Timer(Timer::Retry) => self.on_retry_timer(out),
            Input::Timer(Timer::Hedge(token)) => self.on_hedge_timer(now, token, out),
            Input::Request { token, request } => self.on_request(now, token, request, out),
            Input::Message { .. } | Input::Durable(_) => {}
            Input::Done(never) => match never {},
        }
        self.check();
    }
}

impl<P: Payload> Writer<P> {
    /// Where in its life the writer is.
    pub fn role(&self) -> WriterRole {
        self.role
    }

    /// This writer's volume epoch: a candidate's while it recovers.
    pub fn volume_epoch(&self) -> VolumeEpoch {
        self.volume_epoch
    }

    /// Volume Durable LSN: everything through it survives any fault that leaves a read quorum.
    pub fn vdl(&self) -> Lsn {
        self.vdl
    }

    /// Volume Complete LSN: every record at or below it is on a write quorum of its group.
    pub fn vcl(&self) -> Lsn {
        self.vcl
    }

    /// The last LSN allocated.
    pub fn allocated(&self) -> Lsn {
        self.allocated
    }

    /// The volume's shape, where it was refused because its own is another: it will never open (R-VOLUME-5).
    pub fn other_shape(&self) -> Option<Shape> {
        self.other_shape
    }

    /// Whether it serves and everything that it was given is durable.
    pub fn all_is_durable(&self) -> bool {
        self.role == WriterRole::Open && self.queue.is_empty()
    }

    /// Numbers for `auriga status`.
    pub fn status(&self) -> WriterStatus {
        WriterStatus {
            role: self.role,
            volume_epoch: self.volume_epoch,
            allocated: self.allocated,
            vcl: self.vcl,
            vdl: self.vdl,
            pgcl: self.groups.iter().map(|group| (group.pg, group.pgcl)).collect(),
            members: self.groups.iter().flat_map(Group::member_status).collect(),
            in_flight_weight: self.in_flight_weight as u64,
            reads: self.reads.len() as u64,
            hedged: self.hedged,
            groups: self.memberships().map(|(pg, step)| GroupStatus { pg, membership: step.clone() }).collect(),
        }
    }

    /// The invariants in the module's header.
    ///
    /// # Panics
    /// When one is broken.
    pub fn check(&self) {
        if self.role != WriterRole::Open || self.config.defects.any() {
            return;
        }
        let limit = self.vdl.max(self.install.truncations.through()).0 + self.config.allocation_limit;
        assert!(self.vdl <= self.vcl && self.vcl <= self.allocated.max(self.vdl), "R-VDL-1 broken: {self:?}");
        assert!(self.allocated.0 <= limit, "R-ALLOC-1 broken: {} above {limit}", self.allocated);
        self.check_followers();
    }

    fn on_message(&mut self, now: Micros, segment: SegmentId, message: Message<P>, out: &mut Out<P>) {
        if self.role == WriterRole::Fenced {
            return;
        }
        match message {
            Message::Sealed { volume_epoch, report } => self.on_sealed(segment, volume_epoch, report, out),
            Message::Tail { volume_epoch, above, base, records, complete } if volume_epoch == self.volume_epoch => {
                self.on_tail(segment, recovery::TailPart { above, base, records, complete }, out);
            }
            Message::Acknowledge { volume_epoch, scl, standing } if volume_epoch == self.volume_epoch => {
                self.on_acknowledge(segment, scl, &standing, out);
            }
            Message::MembershipInstalled { volume_epoch, epochs, counts, standing }
                if volume_epoch == self.volume_epoch =>
            {
                self.on_membership_installed(segment, epochs, counts, &standing, out);
            }
            Message::Refused(refusal) => self.on_refused(segment, refusal, out),
            Message::Page { read, version, page } => self.on_page(now, segment.member, read, version, page, out),
            Message::ReadRefused { read, refusal } => self.on_read_refused(now, segment, read, refusal, out),
            _ => {}
        }
    }

    fn on_request(&mut self, now: Micros, token: Token, request: Request<P>, out: &mut Out<P>) {
        match request {
            Request::Submit(changes) => {
                let answer = match self.submit(changes, out) {
                    Ok(lsn) => Answer::Submitted(lsn),
                    Err(refused) => Answer::NotSubmitted(refused),
                };
                out.answer(token, answer);
            }
            Request::Flush => self.flush(out),
            Request::Read(page) => self.start_read(now, token, page, out),
            Request::Cancel => self.cancel_read(token),
            Request::Publish { read_point, wal } => self.on_publish(token, read_point, wal, out),
            Request::Replace { pg, old, home } => {
                let answer = self.replace(pg, old, home, out);
                out.answer(token, answer.map_or_else(Answer::NotReplaced, |new| Answer::Replacing { new }));
            }
            Request::UndoReplace { pg, new } => {
                let answer = self.undo_replace(pg, new, out);
                out.answer(token, answer.map_or_else(Answer::NotReplaced, |()| Answer::Undoing));
            }
        }
    }

    fn on_refused(&mut self, segment: SegmentId, refusal: Refusal, out: &mut Out<P>) {
        match refusal {
            Refusal::StaleVolumeEpoch { current } if !self.believes(current) => self.doubt(segment, current, out),
            Refusal::StaleVolumeEpoch { current } if current > self.volume_epoch => self.on_overtaken(current, out),
            Refusal::NotInstalled { installed } if installed < self.volume_epoch => self.send_install(segment, out),
            Refusal::StaleMembership { current } => self.on_stale_membership(segment, &current, out),
            Refusal::OtherShape { shape } if self.role == WriterRole::Sealing => self.other_shape = Some(shape),
            // Writers that follow each other faster than their graces end keep the log growing: a full one ends the grace.
            Refusal::Busy => self.end_grace(),
            // Busy, full or rejoining segments are tried again by the retry timer.
            _ => {}
        }
    }

    /// Gives way to another writer. A candidate begins again above it, because the other one may be dead; an open writer
    /// stops.
    fn on_overtaken(&mut self, by: VolumeEpoch, out: &mut Out<P>) {
        if self.role != WriterRole::Open {
            return self.seal_above(by, out);
        }
        self.role = WriterRole::Fenced;
        out.note(Note::Fenced { volume: self.id.volume, volume_epoch: self.volume_epoch, by });
        for (token, _) in core::mem::take(&mut self.reads) {
            out.answer(token, Answer::NotRead(SubmitRefused::Fenced { by }));
        }
        self.read_points.clear();
        self.forget_records();
        self.forget_followers();
        self.install.volume_epoch = by;
    }

    /// Forgets what is in flight, and which segments have installed.
    fn forget_records(&mut self) {
        self.queue.clear();
        self.complete = 0;
        self.in_flight_weight = 0;
        self.latest.clear();
        self.groups.iter_mut().for_each(Group::forget_records);
    }

    fn on_retry_timer(&mut self, out: &mut Out<P>) {
        match self.role {
            WriterRole::Sealing => self.send_seals(out),
            WriterRole::Collecting => self.retry_collecting(out),
            WriterRole::Installing => {
                self.send_installs(out);
                self.send_memberships(out);
                self.resend_records(out);
            }
            WriterRole::Open => {
                self.groups.iter_mut().for_each(Group::count_silence);
                self.send_memberships(out);
                self.resend_records(out);
                self.send_progress(out);
            }
            WriterRole::Fenced => return,
        }
        out.set_timer(Timer::Retry, self.config.retry_every);
    }

    /// Why nothing can be submitted or read now, if so.
    fn refusal(&self) -> Option<SubmitRefused> {
        match self.role {
            WriterRole::Open => None,
            WriterRole::Fenced => Some(SubmitRefused::Fenced { by: self.install.volume_epoch }),
            WriterRole::Sealing | WriterRole::Collecting | WriterRole::Installing => Some(SubmitRefused::NotOpen),
        }
    }

    /// Drops what segments said before they lost part of their log. Returns whether the sender's message counts.
    fn hear_losses(&mut self, from: SegmentId, standing: &Standing) -> bool {
        let (lost, counts) = self.group(from.pg).hear_losses(from.member, standing);
        for member in lost {
            self.recovery.forget_report(from.pg, member);
        }
        counts
    }

    fn knows(&self, segment: SegmentId) -> bool {
        segment.volume == self.id.volume && usize::from(segment.pg.0) < self.groups.len()
    }

    fn group(&mut self, pg: PgId) -> &mut Group<P> {
        &mut self.groups[usize::from(pg.0)]
    }

    fn segment(&self, pg: PgId, member: MemberId) -> Party {
        Party::Segment(SegmentId { volume: self.id.volume, pg, member })
    }

    /// Every segment of the group.
    fn all_of(&self, pg: PgId) -> Vec<Party> {
        let members = self.groups[usize::from(pg.0)].membership.members();
        members.iter().map(|member| self.segment(pg, member)).collect()
    }
}

impl<P: Payload> Writer<P> {
    /// From now on PGMRPL does not pass `lsn`, if it is anything: what is above it stays readable. What was told before stays
    /// told, so who must hold from the start begins with [`WriterConfig::hold`].
    pub fn hold(&mut self, lsn: Option<Lsn>) {
        self.config.hold = lsn;
    }

    /// Allocates one mini-transaction; the same as `Request::Submit` without the detour over an answer. Nothing is
    /// sent before the next `Request::Flush`.
    ///
    /// # Errors
    /// When nothing was allocated, and why.
    ///
    /// # Panics
    /// When `changes` is empty, longer than LAL, or heavier than what may be in flight: such a mini-transaction can never
    /// be allocated, or never become durable.
    pub fn submit(&mut self, changes: Vec<Change<P>>, out: &mut Out<P>) -> Result<Lsn, SubmitRefused> {
        let allocation_limit = self.config.allocation_limit;
        assert!(!changes.is_empty() && changes.len() as u64 <= allocation_limit, "{} changes in an MTR", changes.len());
        let (weight, most) = (changes.iter().map(Change::weight).sum::<usize>(), self.config.in_flight_weight_max);
        assert!(weight <= most, "{weight} bytes in an MTR: no segment could hold it");
        if let Some(refused) = self.refusal() {
            return Err(refused);
        }
        if !self.may_allocate(&changes) {
            return Err(SubmitRefused::BackPressure);
        }
        Ok(self.allocate(changes, out))
    }
}
