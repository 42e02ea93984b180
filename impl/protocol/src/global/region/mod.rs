//! A region: one durable log, a role, and a stream.
//!
//! ```text
//!              Fence durable                    newer lineage adopted
//!   Primary ─────────────────► HandedOn ───────────────────────────────► Secondary
//!      ▲                          │ (undo)                                    │
//!      └──────────────────────────┴────────── Promote durable ────────────────┘
//! ```
//!
//! A change of role is a *turn*: an entry in the log that takes effect, and is answered, when it is durable. While a
//! turn waits for the disk, the region takes no commit, no record and no other turn; who asked asks again.
//!
//! A primary's log may be written by another machine, the instance: then the region first *takes the log over*
//! ([`RegionTask::TakeOver`]) whenever its grant ends or is renewed, so that no other process writes any more and the
//! end is known (R-GLOBAL-12).
//!
//! Invariants (asserted after each step):
//! - `durable` ≤ `last`;
//! - only the primary of its lineage's last branch has a handover;
//! - the highest global epoch known is at or above that of the last branch.

mod interface;

pub use interface::*;

use crate::global::lineage::Lineage;
use crate::global::message::{GlobalMessage, GlobalParty, GlobalRefusal, Handover, Plan, ShippedRecord};
use crate::global::note::{GlobalNote, LostSuffix};
use crate::ids::{GlobalEpoch, Lsn, Micros, RegionId};
use crate::machine::{AppendId, Effects, Input, Machine, Token};
use crate::note::Note;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt::Debug;
use core::marker::PhantomData;

/// What was appended and is not durable yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Waiting {
    pub append: AppendId,
    pub last: Lsn,
    /// Who waits for a commit; `None` for a streamed record, and for a commit that was given up.
    pub commit: Option<Token>,
}

/// A change of role on its way to the disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Turn {
    /// Before it is known where the log ends.
    TakeOver(Next),
    Fence {
        to: Option<GlobalParty>,
        handover: Handover,
    },
    Renounce {
        to: GlobalParty,
        global_epoch: GlobalEpoch,
    },
    Promote {
        to: GlobalParty,
        lineage: Lineage,
        planned: bool,
    },
    Adopt {
        lineage: Lineage,
        kept: Lsn,
        lost: Option<LostSuffix>,
    },
}

/// What follows once the log is taken over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Next {
    Fence { answer: Option<GlobalParty>, to: GlobalEpoch, target: RegionId, planned: bool },
    Promote { from: GlobalParty, global_epoch: GlobalEpoch, plan: Plan },
    Adopt { lineage: Lineage },
}

/// A stream of several messages at one time.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Ahead {
    /// The last LSN of each message on its way.
    pub sent: VecDeque<Lsn>,
    /// Whether the log is being read for the next one.
    pub reads: bool,
    /// Timers since the last progress.
    pub idle_rounds: u8,
}

/// A region: see the module's header.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Region<R> {
    pub(super) id: RegionId,
    pub(super) config: RegionConfig,
    pub(super) lineage: Lineage,
    pub(super) last: Lsn,
    pub(super) durable: Lsn,
    pub(super) handover: Option<Handover>,
    pub(super) renounced: GlobalEpoch,
    pub(super) appended: AppendId,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) turn: Option<(AppendId, Turn)>,
    /// How far each other region's log is durable, in the branch at the end of ours.
    pub(super) arrived: BTreeMap<RegionId, Lsn>,
    /// What is on its way to each other region; only where several messages may be.
    pub(super) ahead: BTreeMap<RegionId, Ahead>,
    records: PhantomData<fn() -> R>,
}

pub(super) type Out<R> = Effects<Region<R>>;

impl<R: Clone + Debug> Machine for Region<R> {
    type Id = RegionId;
    type Config = RegionConfig;
    type Survived = RegionSurvived;
    type Party = GlobalParty;
    type Message = GlobalMessage<R>;
    type Entry = RegionEntry<R>;
    type Task = RegionTask;
    type Outcome = RegionOutcome<R>;
    type Timer = RegionTimer;
    type Request = RegionRequest<R>;
    type Answer = RegionAnswer;

    fn boot(config: &RegionConfig, id: RegionId, survived: RegionSurvived, _: Micros, out: &mut Out<R>) -> Self {
        out.set_timer(RegionTimer::Ship, config.ship_every);
        let region = Region {
            id,
            config: config.clone(),
            lineage: survived.lineage.unwrap_or_else(|| Lineage::created(config.first_primary)),
            last: survived.last,
            durable: survived.last,
            handover: survived.handover,
            renounced: survived.renounced,
            appended: AppendId(0),
            waiting: VecDeque::new(),
            turn: None,
            arrived: BTreeMap::new(),
            ahead: BTreeMap::new(),
            records: PhantomData,
        };
        survived.turned.into_iter().for_each(|turned| region.tell_turned(turned, out));
        region
    }

    fn step(&mut self, _: Micros, input: Input<Self>, out: &mut Out<R>) {
        match input {
            Input::Message { from, message } => self.on_message(from, message, out),
            Input::Timer(RegionTimer::Ship) => {
                out.set_timer(RegionTimer::Ship, self.config.ship_every);
                self.ship(out);
            }
            Input::Durable(append) => self.on_durable(append, out),
            Input::Done(RegionOutcome::LogRead { to, global_epoch, above, records }) => {
                self.on_log_read(to, global_epoch, above, records, out);
            }
            Input::Done(RegionOutcome::TookOver { end }) => self.on_took_over(end, out),
            Input::Request { token, request: RegionRequest::Commit(record) } => self.on_commit(token, record, out),
        }
        self.check();
    }
}

impl<R: Clone + Debug> Region<R> {
    /// Where the region stands, as its durable log has it.
    pub fn role(&self) -> RegionRole {
        match self.handover {
            _ if self.lineage.tip().primary != self.id => RegionRole::Secondary,
            Some(_) => RegionRole::HandedOn,
            None => RegionRole::Primary,
        }
    }

    /// The branches that lead to the end of its log.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The last LSN that is durable here.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// How far each other region is durable, as far as this primary has heard: its lag.
    pub fn arrived(&self) -> &BTreeMap<RegionId, Lsn> {
        &self.arrived
    }

    /// Whether a change of role is on its way to the disk.
    pub fn is_turning(&self) -> bool {
        self.turn.is_some()
    }

    /// Whether a commit would be taken now.
    pub fn takes_commits(&self) -> bool {
        self.role() == RegionRole::Primary && self.turn.is_none() && self.waiting.len() < self.config.waiting_max
    }

    /// The highest global epoch known here.
    pub fn known(&self) -> GlobalEpoch {
        let handed_on = self.handover.map_or(GlobalEpoch::default(), |handover| handover.to);
        self.lineage.tip().global_epoch.max(handed_on).max(self.renounced)
    }

    fn on_message(&mut self, from: GlobalParty, message: GlobalMessage<R>, out: &mut Out<R>) {
        match message {
            GlobalMessage::Fence { global_epoch, target, planned } => {
                self.on_fence(from, global_epoch, target, planned, out);
            }
            GlobalMessage::Renounce { global_epoch } => self.on_renounce(from, global_epoch, out),
            GlobalMessage::Promote { global_epoch, plan } => self.on_promote(from, global_epoch, plan, out),
            GlobalMessage::Ship { lineage, above, records } => self.on_ship(from, lineage, above, records, out),
            GlobalMessage::Arrived { global_epoch, through } => self.on_arrived(from, global_epoch, through, out),
            GlobalMessage::Refused { refusal: GlobalRefusal::StaleGlobalEpoch { known, .. }, .. } => {
                self.on_hearsay(known, out);
            }
            GlobalMessage::Ask => {
                let (tip, role, durable) = (self.lineage.tip(), self.role(), self.durable);
                out.send(from, GlobalMessage::Standing { tip, role, durable, arrived: self.arrived.clone() });
            }
            // Answers to a controller; a region asks for none.
            GlobalMessage::Refused { .. }
            | GlobalMessage::Standing { .. }
            | GlobalMessage::Fenced { .. }
            | GlobalMessage::Renounced { .. }
            | GlobalMessage::Promoted { .. } => {}
        }
    }

    fn on_commit(&mut self, token: Token, record: R, out: &mut Out<R>) {
        if self.role() != RegionRole::Primary {
            out.answer(token, RegionAnswer::NotPrimary(self.lineage.tip()));
        } else if !self.takes_commits() {
            out.answer(token, RegionAnswer::Busy);
        } else {
            let lsn = self.last.next();
            self.append_records([ShippedRecord { lsn, record }].into(), Some(token), out);
        }
    }

    pub(super) fn append_records(&mut self, records: Vec<ShippedRecord<R>>, commit: Option<Token>, out: &mut Out<R>) {
        self.last = records.last().map_or(self.last, |record| record.lsn);
        let append = self.append(RegionEntry::Records(records), out);
        self.waiting.push_back(Waiting { append, last: self.last, commit });
    }

    pub(super) fn append(&mut self, entry: RegionEntry<R>, out: &mut Out<R>) -> AppendId {
        self.appended.0 += 1;
        out.append(self.appended, entry);
        self.appended
    }

    fn on_durable(&mut self, append: AppendId, out: &mut Out<R>) {
        let mut arrived = false;
        while let Some(done) = self.waiting.front().copied().filter(|waiting| waiting.append <= append) {
            self.waiting.pop_front();
            self.durable = done.last;
            if let Some(token) = done.commit {
                self.acknowledge(token, done.last, out);
            }
            arrived = true;
        }
        if let Some((_, turn)) = self.turn.take_if(|(at, _)| *at <= append) {
            self.complete(turn, out);
        } else if arrived && self.role() == RegionRole::Secondary {
            self.tell_arrived(out);
        }
    }

    fn acknowledge(&self, token: Token, lsn: Lsn, out: &mut Out<R>) {
        let global_epoch = self.lineage.written_in(lsn);
        out.answer(token, RegionAnswer::Committed(lsn));
        out.note(Note::Global(GlobalNote::Committed { region: self.id, global_epoch, lsn }));
    }

    fn check(&self) {
        if self.config.defects.any() {
            return;
        }
        assert!(self.durable <= self.last, "{}: durable {} beyond the end {}", self.id, self.durable, self.last);
        let primary = self.lineage.tip().primary;
        assert!(self.handover.is_none() || primary == self.id, "{} is fenced, but {primary} is primary", self.id);
    }
}
