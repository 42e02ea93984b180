//! A reader: another instance that shows the volume as of a read point, and stores nothing.
//!
//! It follows one writer. It gets the records that the segments get, before they are durable, and VDL; it keeps the
//! records until VDL has passed them and its users are ready to go on. It reads a page from one segment, at a read point
//! that it holds. It tells the writer the lowest read point that it needs, so that this is not collected.
//!
//! ```text
//!        held            read point      base    records of the stream       end           VDL
//!  ───────●────────────────●──────────────●──●──●──●──●──●──●──●──●──●──●──●──┤─ ─ ─ ─ ─ ─ ─●
//!         └► needs         └► shown       └► after a cut: what lies before it is unknown
//! ```
//!
//! It decides nothing that others rest on: a wrong reader shows wrong pages to its own users, and the segments refuse
//! what they no longer have.
//!
//! Invariants (asserted after each step in [`Reader::check`]; the observer judges each read point):
//! - the read point is a VDL of a writer that it followed, and never goes back (R-READER-2, R-READ-4);
//! - it shows a whole number of mini-transactions (R-READER-2);
//! - what it needs is at or below every read point in use (R-COLLECT-2).
//!
//! Where to go next: `stream.rs` (what a writer sends), `reads.rs` (pages), `interface.rs`.

mod interface;
mod reads;
mod stream;

pub use interface::*;

use crate::defect::Defect;
use crate::ids::{Lsn, MemberId, Micros, Party, PgId, SegmentId, VolumeEpoch, WriterId};
use crate::machine::{Effects, Input, Machine, Token};
use crate::membership::Step;
use crate::message::Message;
use crate::note::Note;
use crate::quorum::Membership;
use crate::record::Payload;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::convert::Infallible;
use reads::ReadUnderWay;
use serde::Serialize;
use stream::Stream;

/// Another instance's view of a volume: see the module's header.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Reader<P: Payload> {
    #[serde(skip)]
    id: ReaderIdentity,
    #[serde(skip)]
    config: ReaderConfig,
    /// Of the writer that it follows, or followed last.
    volume_epoch: VolumeEpoch,
    /// Of the last message to a writer.
    number: u64,
    /// The number of the last `Follow`, and whether it waits for its first answer.
    asked: u64,
    waits: bool,
    /// Rounds of the retry timer since the writer was heard; since a hole was seen; since the last `Follow`.
    silent_rounds: u8,
    hole_rounds: u8,
    asked_rounds: u8,
    /// A segment says that there is a newer writer.
    is_overtaken: bool,
    /// What the writer sends; `None` before the first `Following`, and after a cut.
    stream: Option<Stream<P>>,
    cuts: u64,
    read_point: Lsn,
    /// Read points in use, each with the last LSN at or below it of each group.
    held: BTreeMap<Lsn, Vec<Lsn>>,
    published: VecDeque<Point>,
    reads: BTreeMap<Token, ReadUnderWay>,
    #[serde(skip)]
    latencies: BTreeMap<(PgId, MemberId), Micros>,
    /// Of groups whose members were changed, as the writer says.
    memberships: BTreeMap<PgId, Step>,
    /// What it needs is not kept any more.
    lost: bool,
}

type Out<P> = Effects<Reader<P>>;

impl<P: Payload> Machine for Reader<P> {
    type Id = ReaderIdentity;
    type Config = ReaderConfig;
    type Survived = ();
    type Party = Party;
    type Message = Message<P>;
    type Entry = Infallible;
    type Task = Infallible;
    type Outcome = Infallible;
    type Timer = Timer;
    type Request = Request;
    type Answer = Answer<P>;

    fn boot(config: &ReaderConfig, id: ReaderIdentity, (): (), _now: Micros, out: &mut Out<P>) -> Self {
        let mut reader = Reader {
            id,
            config: config.clone(),
            volume_epoch: VolumeEpoch::NONE,
            number: 0,
            asked: 0,
            waits: false,
            silent_rounds: 0,
            hole_rounds: 0,
            asked_rounds: 0,
            is_overtaken: false,
            stream: None,
            cuts: 0,
            read_point: Lsn::ZERO,
            held: BTreeMap::new(),
            published: VecDeque::new(),
            reads: BTreeMap::new(),
            latencies: BTreeMap::new(),
            memberships: BTreeMap::new(),
            lost: false,
        };
        reader.follow(out);
        out.set_timer(Timer::Retry, config.retry_every);
        reader
    }

    fn step(&mut self, now: Micros, input: Input<Self>, out: &mut Out<P>) {
        match input {
            Input::Message { from: Party::Writer(volume, writer), message } if volume == self.id.volume => {
                self.on_writer_message(writer, message, out);
            }
            Input::Message { from: Party::Segment(segment), message } if self.knows(segment) => match message {
                Message::Page { read, version, page } => self.on_page(now, segment, read, version, page, out),
                Message::ReadRefused { read, refusal } => self.on_read_refused(now, segment, read, &refusal, out),
                _ => {}
            },
            Input::Timer(Timer::Retry) => self.on_retry_timer(out),
            Input::Timer(Timer::Hedge(token)) => self.on_hedge_timer(now, token, out),
            Input::Request { token, request: Request::Read { page, at } } => {
                self.start_read(now, token, page, at, out);
            }
            Input::Request { token, request: Request::Cancel } => self.end_read(token),
            Input::Message { .. } | Input::Durable(_) => {}
            Input::Done(never) => match never {},
        }
        self.check();
    }
}

impl<P: Payload> Reader<P> {
    /// What its users are shown. Zero: nothing yet.
    pub fn read_point(&self) -> Lsn {
        self.read_point
    }

    /// Returns the epoch of the writer that it follows, or followed last.
    pub fn volume_epoch(&self) -> VolumeEpoch {
        self.volume_epoch
    }

    /// Returns who this is.
    pub fn id(&self) -> ReaderIdentity {
        self.id
    }

    /// Returns the read points that are in use, ascending.
    pub fn held(&self) -> impl Iterator<Item = Lsn> + '_ {
        self.held.keys().copied()
    }

    /// Whether what it needs is not kept any more. For good.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Read points to which it can advance, ascending: ends of mini-transactions at or below VDL.
    pub fn points(&self) -> Vec<Lsn> {
        let lowest = if self.config.defects.has(Defect::ReaderGoesBack) { Lsn::ZERO } else { self.read_point };
        let points = self.stream.iter().flat_map(|stream| stream.points(self.config.defects));
        points.filter(|point| *point != self.read_point && *point >= lowest).collect()
    }

    /// Points that the writer has published, above the read point, to which it can advance. Ascending. Before the first
    /// one was reached also the point from which it follows.
    pub fn published(&self) -> Vec<Point> {
        let Some(stream) = &self.stream else { return Vec::new() };
        let (above, through) = (self.read_point, stream.available());
        let is_there = |point: &&Point| point.read_point > above && point.read_point <= through;
        self.published.iter().filter(is_there).copied().collect()
    }

    /// Numbers for `auriga status`.
    pub fn status(&self) -> ReaderStatus {
        ReaderStatus {
            volume_epoch: self.volume_epoch,
            follows: self.stream.is_some(),
            read_point: self.read_point,
            vdl: self.stream.as_ref().map_or(self.read_point, Stream::vdl),
            needs: self.needs(),
            cuts: self.cuts,
            waiting_weight: self.stream.as_ref().map_or(0, |stream| stream.weight() as u64),
            lost: self.lost,
        }
    }

    /// The lowest read point that must not be collected; `None` while it knows of none.
    pub fn needs(&self) -> Option<Lsn> {
        let read = self.reads.values().map(|read| read.read_point).min();
        let held = self.held.keys().next().copied();
        let base = self.stream.as_ref().map(Stream::base);
        [read, held, base].into_iter().flatten().min()
    }

    /// Shows the volume as of `to` from now on, and says what lies between. `to` is held until it is released.
    ///
    /// # Errors
    /// `to` is not one of [`Reader::points`], or too many read points are held.
    pub fn advance(&mut self, to: Lsn, out: &mut Out<P>) -> Result<Passed<P>, ReaderRefused> {
        if self.lost {
            return Err(ReaderRefused::NotKept);
        }
        if self.held.len() >= self.config.held_max {
            return Err(ReaderRefused::Busy);
        }
        let needed = self.needs();
        let goes_back = to <= self.read_point && !self.config.defects.has(Defect::ReaderGoesBack);
        let (defects, shown) = (self.config.defects, self.read_point);
        let Some(stream) = self.stream.as_mut().filter(|stream| !goes_back && stream.has_point(to, defects)) else {
            return Err(ReaderRefused::NotHeld);
        };
        let is_known = stream.base() == shown;
        let records = stream.pass(to, &self.config.geometry);
        self.held.insert(to, stream.group_points().to_vec());
        self.read_point = to;
        self.published.retain(|point| point.read_point > to);
        let (volume, reader, volume_epoch) = (self.id.volume, self.id.reader, self.volume_epoch);
        out.note(Note::ReadPoint { volume, reader, volume_epoch, read_point: to });
        if self.needs() != needed {
            self.send_feedback(out);
        }
        self.check();
        Ok(if is_known { Passed::Records(records) } else { Passed::Unknown })
    }

    /// No read point below `below` is asked for any more. The read point itself stays held.
    pub fn release(&mut self, below: Lsn, out: &mut Out<P>) {
        let before = self.needs();
        let kept = self.held.split_off(&below.min(self.read_point));
        self.held = kept;
        if self.needs() != before {
            self.send_feedback(out);
        }
    }

    /// The invariants in the module's header.
    ///
    /// # Panics
    /// When one is broken.
    pub fn check(&self) {
        if self.config.defects.any() {
            return;
        }
        let highest = self.held.keys().next_back().copied().unwrap_or_default();
        assert!(highest == self.read_point, "R-READER-2 broken: shows {}, holds {highest}", self.read_point);
        if let Some(stream) = &self.stream {
            assert!(stream.base() >= self.read_point, "R-READER-2 broken: {} after {stream:?}", self.read_point);
            stream.check();
        }
    }

    fn on_writer_message(&mut self, writer: WriterId, message: Message<P>, out: &mut Out<P>) {
        // R-FENCE-3: a volume epoch is its writer's alone.
        let follows = |volume_epoch: VolumeEpoch| volume_epoch == self.volume_epoch && volume_epoch.writer == writer;
        match message {
            Message::Following { number, volume_epoch, start, points } if volume_epoch.writer == writer => {
                self.on_following(number, volume_epoch, start, points);
            }
            Message::Write { volume_epoch, records, vdl, .. } if follows(volume_epoch) => {
                self.on_stream(records, vdl, out);
            }
            Message::Published { volume_epoch, read_point, wal } if follows(volume_epoch) => {
                self.on_published(Point { read_point, wal });
            }
            Message::Membership { pg, volume_epoch, membership } if follows(volume_epoch) => {
                self.on_membership(pg, membership);
            }
            Message::NotKept { volume_epoch, floor } if volume_epoch.writer == writer => {
                let needed = self.needs().is_some_and(|needs| needs < floor);
                if volume_epoch >= self.volume_epoch && needed {
                    self.lose(out);
                }
            }
            _ => {}
        }
    }

    /// The writer counts by it from now on, so pages are asked of its members.
    fn on_membership(&mut self, pg: PgId, told: Step) {
        let order = |step: &Step| (step.volume_epoch, step.epochs());
        let is_news = self.memberships.get(&pg).is_none_or(|known| order(known) < order(&told));
        if pg.0 < self.config.geometry.groups && is_news && told.is_sound() {
            self.memberships.insert(pg, told);
        }
    }

    /// Who is in the groups whose members were changed since the volume was made, as the writer says.
    pub fn memberships(&self) -> impl Iterator<Item = (PgId, &Step)> {
        self.memberships.iter().map(|(pg, step)| (*pg, step))
    }

    fn membership(&self, pg: PgId) -> &Membership {
        self.memberships.get(&pg).map_or(&self.config.membership, |step| &step.next)
    }

    /// R-READER-4: what is needed is not kept any more.
    fn lose(&mut self, out: &mut Out<P>) {
        self.lost = true;
        self.stream = None;
        self.published.clear();
        for (token, _) in core::mem::take(&mut self.reads) {
            out.answer(token, Answer::NotRead(ReaderRefused::NotKept));
        }
    }

    fn knows(&self, segment: SegmentId) -> bool {
        segment.volume == self.id.volume && segment.pg.0 < self.config.geometry.groups
    }
}
