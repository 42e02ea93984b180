//! Sequences switchover, failover and undo, one at a time, and survives its own crashes.
//!
//! ```text
//!              intent durable          fenced                      promoted
//!   Idle ──► Intending ──► Fencing ─────────────► Promoting ─────────────────► Idle
//!                             │  undo: handed on      ▲
//!                             └──► Renouncing ────────┘
//! ```
//!
//! Before a controller uses a global epoch, its intent is durable: after a crash it goes on with the same epoch and the
//! same target, and never gives one epoch two meanings. Every command that it sends is idempotent, so it begins again
//! at the fence. Other controllers may be at work at the same time: a global epoch carries its controller's number, and
//! the regions decide by it.
//!
//! Invariant: one operation at a time, and none without an intent in the log.

mod interface;

pub use interface::{ControllerAnswer, ControllerConfig, ControllerEntry, ControllerTimer, Operation, Outcome};

use crate::defect::Defect;
use crate::global::lineage::Branch;
use crate::global::message::{GlobalMessage, GlobalParty, GlobalRefusal, Handover, Plan};
use crate::global::note::GlobalNote;
use crate::ids::{ControllerId, GlobalEpoch, Lsn, Micros, RegionId};
use crate::machine::{AppendId, Effects, Input, Machine, Token};
use crate::note::Note;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt::Debug;
use core::marker::PhantomData;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Intending(AppendId),
    Fencing,
    Renouncing(Handover, GlobalEpoch),
    Promoting { to: RegionId, global_epoch: GlobalEpoch, plan: Plan },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Job {
    operation: Operation,
    global_epoch: GlobalEpoch,
    old: RegionId,
    phase: Phase,
    fenced_at: Option<(GlobalEpoch, Lsn)>,
    attempts: u8,
    token: Option<Token>,
}

impl Job {
    /// The epoch that its last command named: its own, or that of the switchover that it finishes for another.
    fn asked(&self) -> GlobalEpoch {
        if let Phase::Promoting { global_epoch, .. } = self.phase { global_epoch } else { self.global_epoch }
    }
}

/// A controller: see the module's header.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct GlobalController<R> {
    id: ControllerId,
    config: ControllerConfig,
    known: GlobalEpoch,
    primary: RegionId,
    job: Option<Job>,
    appended: AppendId,
    records: PhantomData<fn() -> R>,
}

type Out<R> = Effects<GlobalController<R>>;

impl<R: Clone + Debug> Machine for GlobalController<R> {
    type Id = ControllerId;
    type Config = ControllerConfig;
    type Survived = Vec<ControllerEntry>;
    type Party = GlobalParty;
    type Message = GlobalMessage<R>;
    type Entry = ControllerEntry;
    type Task = Infallible;
    type Outcome = Infallible;
    type Timer = ControllerTimer;
    type Request = Operation;
    type Answer = ControllerAnswer;

    fn boot(
        config: &ControllerConfig,
        id: ControllerId,
        survived: Vec<ControllerEntry>,
        _: Micros,
        out: &mut Out<R>,
    ) -> Self {
        let mut controller = GlobalController {
            id,
            config: config.clone(),
            known: GlobalEpoch::FIRST,
            primary: config.first_primary,
            job: None,
            appended: AppendId(0),
            records: PhantomData,
        };
        survived.into_iter().for_each(|entry| controller.replay(entry));
        out.set_timer(ControllerTimer::Retry, config.retry_every);
        controller.begin_fencing(out);
        controller
    }

    fn step(&mut self, _: Micros, input: Input<Self>, out: &mut Out<R>) {
        match input {
            Input::Message { from: GlobalParty::Region(from), message } => self.on_message(from, message, out),
            Input::Message { .. } => {}
            Input::Timer(ControllerTimer::Retry) => {
                out.set_timer(ControllerTimer::Retry, self.config.retry_every);
                self.send_command(out);
            }
            Input::Timer(ControllerTimer::FenceDeadline) => self.promote_unfenced(out),
            Input::Durable(append) => self.on_durable(append, out),
            Input::Request { token, request } => self.on_request(token, request, out),
            Input::Done(never) => match never {},
        }
    }
}

impl<R: Clone + Debug> GlobalController<R> {
    /// Whether no operation is under way.
    pub fn is_idle(&self) -> bool {
        self.job.is_none()
    }

    /// Whether it waits for an old primary's fence and may go on without.
    pub fn may_give_fence_up(&self) -> bool {
        let fencing = |job: Job| job.phase == Phase::Fencing && matches!(job.operation, Operation::Failover { .. });
        self.job.is_some_and(fencing)
    }

    fn replay(&mut self, entry: ControllerEntry) {
        match entry {
            ControllerEntry::Intent { operation, global_epoch, old } => {
                self.known = self.known.max(global_epoch);
                let (phase, fenced_at, attempts, token) = (Phase::Fencing, None, 0, None);
                self.job = Some(Job { operation, global_epoch, old, phase, fenced_at, attempts, token });
            }
            ControllerEntry::Done { known, primary } => {
                self.known = self.known.max(known);
                self.primary = primary;
                self.job = None;
            }
        }
    }

    fn on_request(&mut self, token: Token, operation: Operation, out: &mut Out<R>) {
        let (Operation::Switchover { target } | Operation::Failover { target } | Operation::Undo { primary: target }) =
            operation;
        if self.job.is_some() {
            out.answer(token, ControllerAnswer::Busy);
        } else if !self.config.regions.contains(&target) {
            out.answer(token, ControllerAnswer::UnknownRegion);
        } else {
            self.intend(operation, 0, Some(token), out);
        }
    }

    /// R-GLOBAL-7: a fresh epoch, and what it is for, before anything is said.
    fn intend(&mut self, operation: Operation, attempts: u8, token: Option<Token>, out: &mut Out<R>) {
        let global_epoch = self.known.next(self.id);
        let old = if let Operation::Undo { primary } = operation { primary } else { self.primary };
        self.known = global_epoch;
        let append = self.append(ControllerEntry::Intent { operation, global_epoch, old }, out);
        let early = self.config.defects.has(Defect::EpochBeforeIntent);
        let phase = if early { Phase::Fencing } else { Phase::Intending(append) };
        self.job = Some(Job { operation, global_epoch, old, phase, fenced_at: None, attempts, token });
        if early {
            self.begin_fencing(out);
        }
    }

    fn append(&mut self, entry: ControllerEntry, out: &mut Out<R>) -> AppendId {
        self.appended.0 += 1;
        out.append(self.appended, entry);
        self.appended
    }

    fn on_durable(&mut self, append: AppendId, out: &mut Out<R>) {
        let Some(job) = &mut self.job else { return };
        if matches!(job.phase, Phase::Intending(at) if at <= append) {
            job.phase = Phase::Fencing;
            self.begin_fencing(out);
        }
    }

    /// The first command of an operation. A failover's wait for the fence begins here, and only here: a retry that set
    /// the timer again would put the deadline off indefinitely.
    fn begin_fencing(&mut self, out: &mut Out<R>) {
        if self.may_give_fence_up() {
            out.set_timer(ControllerTimer::FenceDeadline, self.config.fence_within);
        }
        self.send_command(out);
    }

    /// Says what the phase needs to be said; again, on a timer, until it is answered.
    fn send_command(&mut self, out: &mut Out<R>) {
        let Some(job) = self.job else { return };
        let Job { global_epoch, old, .. } = job;
        match (job.phase, job.operation) {
            (Phase::Intending(_), _) => {}
            (Phase::Fencing, Operation::Failover { target }) if target == old => self.promote_unfenced(out),
            (Phase::Fencing, Operation::Failover { target }) => {
                out.send(GlobalParty::Region(old), GlobalMessage::Fence { global_epoch, target, planned: false });
            }
            (Phase::Fencing, Operation::Switchover { target }) => {
                out.send(GlobalParty::Region(old), GlobalMessage::Fence { global_epoch, target, planned: true });
            }
            // Asks for a handover that is there already; where there is none, this one is the region's to itself.
            (Phase::Fencing, Operation::Undo { .. }) => {
                out.send(GlobalParty::Region(old), GlobalMessage::Fence { global_epoch, target: old, planned: true });
            }
            (Phase::Renouncing(handover, _), _) => {
                out.send(GlobalParty::Region(handover.target), GlobalMessage::Renounce { global_epoch });
            }
            (Phase::Promoting { to, global_epoch, plan }, _) => {
                out.send(GlobalParty::Region(to), GlobalMessage::Promote { global_epoch, plan });
            }
        }
    }

    /// R-GLOBAL-4: the old primary did not answer in time; the failover goes on.
    fn promote_unfenced(&mut self, out: &mut Out<R>) {
        let Some(job) = self.job else { return };
        if let (Phase::Fencing, Operation::Failover { target }) = (job.phase, job.operation) {
            self.promote(target, job.global_epoch, Plan::Unplanned, out);
        }
    }

    fn promote(&mut self, to: RegionId, global_epoch: GlobalEpoch, plan: Plan, out: &mut Out<R>) {
        if let Some(job) = &mut self.job {
            job.phase = Phase::Promoting { to, global_epoch, plan };
            self.send_command(out);
        }
    }

    fn on_message(&mut self, from: RegionId, message: GlobalMessage<R>, out: &mut Out<R>) {
        let Some(job) = self.job else { return };
        match (message, job.phase) {
            (GlobalMessage::Fenced { global_epoch, parent, final_lsn }, Phase::Fencing)
                if global_epoch == job.global_epoch && from == job.old =>
            {
                self.on_fenced(job, parent, final_lsn, out);
            }
            (GlobalMessage::Renounced { global_epoch }, Phase::Renouncing(handover, parent))
                if global_epoch == job.global_epoch && from == handover.target =>
            {
                self.promote(job.old, global_epoch, Plan::Planned { parent, at: handover.final_lsn }, out);
            }
            (GlobalMessage::Promoted { branch }, Phase::Promoting { global_epoch, .. })
                if branch.global_epoch == global_epoch =>
            {
                self.moved(job, branch, out);
            }
            (GlobalMessage::Refused { global_epoch, refusal }, _) if global_epoch == job.asked() => {
                self.on_refused(job, refusal, out);
            }
            _ => {}
        }
    }

    fn on_fenced(&mut self, job: Job, parent: GlobalEpoch, final_lsn: Lsn, out: &mut Out<R>) {
        let planned = Plan::Planned { parent, at: final_lsn };
        let (to, plan) = match job.operation {
            Operation::Switchover { target } => (target, planned),
            Operation::Failover { target } => (target, Plan::Unplanned),
            Operation::Undo { primary } => (primary, planned),
        };
        self.job = Some(Job { fenced_at: Some((parent, final_lsn)), ..job });
        self.promote(to, job.global_epoch, plan, out);
    }

    fn on_refused(&mut self, job: Job, refusal: GlobalRefusal, out: &mut Out<R>) {
        match (refusal, job.operation) {
            // Not there yet: the primary goes on shipping, and the retry asks again.
            (GlobalRefusal::NotDrained { .. }, _) => {}
            (GlobalRefusal::HandedOn { handover, tip }, operation) => {
                self.on_handed_on(job, operation, handover, tip, out)
            }
            (GlobalRefusal::AlreadyPrimary { .. }, _) => self.end(job, Outcome::NothingToUndo, out),
            (GlobalRefusal::StaleGlobalEpoch { known, tip }, _) => self.on_overtaken(job, known, tip, out),
            (GlobalRefusal::NotPrimary { tip }, _) => self.on_overtaken(job, tip.global_epoch, tip, out),
            (GlobalRefusal::NotParent { tip }, _) => self.end(job, Outcome::Overtaken(tip.global_epoch), out),
            (GlobalRefusal::LineageFull, _) => self.end(job, Outcome::Overtaken(job.global_epoch), out),
        }
    }

    /// The primary's authority is on its way already: finish that switchover if it goes where ours would.
    fn on_handed_on(&mut self, job: Job, operation: Operation, handover: Handover, tip: Branch, out: &mut Out<R>) {
        let Handover { to, target, planned, final_lsn } = handover;
        let plan = Plan::Planned { parent: tip.global_epoch, at: final_lsn };
        self.known = self.known.max(to);
        match operation {
            Operation::Switchover { target: ours } if planned && ours == target => self.promote(target, to, plan, out),
            Operation::Undo { .. } if planned && target == job.old => self.promote(target, to, plan, out),
            Operation::Undo { .. } if planned && self.config.defects.has(Defect::UndoWithoutRenounce) => {
                self.promote(job.old, job.global_epoch, plan, out);
            }
            Operation::Undo { .. } if planned => {
                self.job = Some(Job { phase: Phase::Renouncing(handover, tip.global_epoch), ..job });
                self.send_command(out);
            }
            _ => self.end(job, Outcome::HandedOn(handover), out),
        }
    }

    /// Begins again with what was learnt: a region knows a higher epoch, or another primary.
    fn on_overtaken(&mut self, job: Job, known: GlobalEpoch, tip: Branch, out: &mut Out<R>) {
        self.known = self.known.max(known);
        if tip.global_epoch == job.asked() {
            return self.moved(job, tip, out);
        }
        if let Phase::Promoting { plan: Plan::Planned { .. }, .. } = job.phase {
            return self.end(job, Outcome::Overtaken(known), out);
        }
        self.primary = tip.primary;
        match job.operation {
            Operation::Switchover { target } if tip.primary == target => {
                return self.end(job, Outcome::AlreadyPrimary(tip), out);
            }
            Operation::Undo { primary } if tip.primary != primary => {
                return self.end(job, Outcome::NothingToUndo, out);
            }
            _ => {}
        }
        if job.attempts + 1 >= self.config.attempts_max {
            return self.end(job, Outcome::Overtaken(known), out);
        }
        self.intend(job.operation, job.attempts + 1, job.token, out);
    }

    fn moved(&mut self, job: Job, branch: Branch, out: &mut Out<R>) {
        self.primary = branch.primary;
        if matches!(job.operation, Operation::Failover { .. }) {
            out.note(Note::Global(GlobalNote::FailedOver { branch, fenced_at: job.fenced_at }));
        }
        let fenced_at = job.fenced_at.map(|(_, final_lsn)| final_lsn);
        self.end(job, Outcome::Moved { branch, fenced_at }, out);
    }

    fn end(&mut self, job: Job, outcome: Outcome, out: &mut Out<R>) {
        self.append(ControllerEntry::Done { known: self.known, primary: self.primary }, out);
        self.job = None;
        if let Some(token) = job.token {
            out.answer(token, ControllerAnswer::Ended(outcome));
        }
    }
}
