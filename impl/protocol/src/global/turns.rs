//! Changes of role: fence, renounce, promote. (A secondary's adoption of a newer lineage begins in `stream.rs`.)
//!
//! Every command is idempotent: asked again, it answers again what is durable.

use crate::defect::Defect;
use crate::global::lineage::Branch;
use crate::global::message::{GlobalMessage, GlobalParty, GlobalRefusal, Handover, Plan};
use crate::global::note::GlobalNote;
use crate::global::region::{Next, Out, Region, RegionAnswer, RegionEntry, RegionRole, RegionTask, Turn, Turned};
use crate::ids::{GlobalEpoch, Lsn, RegionId};
use crate::machine::AppendId;
use crate::note::Note;
use core::fmt::Debug;

impl<R: Clone + Debug> Region<R> {
    /// R-GLOBAL-3, R-GLOBAL-4: the grant ends here.
    pub(super) fn on_fence(
        &mut self,
        from: GlobalParty,
        to: GlobalEpoch,
        target: RegionId,
        planned: bool,
        out: &mut Out<R>,
    ) {
        let tip = self.lineage.tip();
        if self.turn.is_some() {
            return;
        }
        match self.handover {
            Some(handover) if handover.to == to => return self.tell_fenced(from, handover, out),
            // A planned fence hands the authority on once, or two regions could each go on without loss (R-GLOBAL-3).
            Some(handover) if planned && !self.config.defects.has(Defect::HandedOnTwice) => {
                return refuse(from, to, GlobalRefusal::HandedOn { handover, tip }, out);
            }
            _ => {}
        }
        let known = self.known();
        if to <= known {
            return refuse(from, to, GlobalRefusal::StaleGlobalEpoch { known, tip }, out);
        }
        if self.role() == RegionRole::Secondary {
            return refuse(from, to, GlobalRefusal::NotPrimary { tip }, out);
        }
        self.take_over(Next::Fence { answer: Some(from), to, target, planned }, out);
    }

    /// R-GLOBAL-12: a primary's log has another writer. A region that ends the grant, or begins another, takes the log
    /// over first.
    pub(super) fn take_over(&mut self, next: Next, out: &mut Out<R>) {
        // No append has this number: it is the task that ends the turn.
        self.turn = Some((AppendId(u64::MAX), Turn::TakeOver(next)));
        out.start(RegionTask::TakeOver);
    }

    pub(super) fn on_took_over(&mut self, end: Lsn, out: &mut Out<R>) {
        let Some((_, Turn::TakeOver(next))) = self.turn.take_if(|(_, turn)| matches!(turn, Turn::TakeOver(_))) else {
            return;
        };
        self.last = self.last.max(end);
        if self.waiting.is_empty() {
            self.durable = self.last;
        }
        match next {
            Next::Fence { answer, to, target, planned } => {
                self.fence(answer, Handover { to, target, planned, final_lsn: self.last }, out);
            }
            Next::Promote { from, global_epoch, plan } => self.promote(from, global_epoch, plan, out),
            Next::Adopt { lineage } => self.adopt(lineage, out),
        }
    }

    /// Fences a region that learns of a higher global epoch from another: it acknowledges nothing more (R-GLOBAL-2).
    pub(super) fn on_hearsay(&mut self, known: GlobalEpoch, out: &mut Out<R>) {
        let superseded = known > self.known() && self.role() == RegionRole::Primary;
        if superseded && self.turn.is_none() {
            self.take_over(Next::Fence { answer: None, to: known, target: self.id, planned: false }, out);
        }
    }

    fn fence(&mut self, to: Option<GlobalParty>, handover: Handover, out: &mut Out<R>) {
        if !handover.planned {
            self.give_commits_up(out);
        }
        if let (Some(to), true) = (to, self.config.defects.has(Defect::SwitchoverFenceNotDurable)) {
            self.tell_fenced(to, handover, out);
        }
        let append = self.append(RegionEntry::Fenced(handover), out);
        self.turn = Some((append, Turn::Fence { to, handover }));
    }

    /// What waits for the disk while the grant ends is not acknowledged any more.
    pub(super) fn give_commits_up(&mut self, out: &mut Out<R>) {
        for token in self.waiting.iter_mut().filter_map(|waiting| waiting.commit.take()) {
            out.answer(token, RegionAnswer::Unknown);
        }
    }

    fn tell_fenced(&self, to: GlobalParty, handover: Handover, out: &mut Out<R>) {
        let parent = self.lineage.tip().global_epoch;
        let Handover { to: global_epoch, final_lsn, .. } = handover;
        out.send(to, GlobalMessage::Fenced { global_epoch, parent, final_lsn });
        out.note(Note::Global(GlobalNote::Fenced { region: self.id, global_epoch: parent, handover }));
    }

    /// R-GLOBAL-8: the target of a switchover promises not to complete it.
    pub(super) fn on_renounce(&mut self, from: GlobalParty, global_epoch: GlobalEpoch, out: &mut Out<R>) {
        let (tip, known) = (self.lineage.tip(), self.known());
        if self.turn.is_some() {
            return;
        }
        if self.renounced == global_epoch {
            return out.send(from, GlobalMessage::Renounced { global_epoch });
        }
        if self.role() != RegionRole::Secondary {
            return refuse(from, global_epoch, GlobalRefusal::AlreadyPrimary { tip }, out);
        }
        if global_epoch <= known {
            return refuse(from, global_epoch, GlobalRefusal::StaleGlobalEpoch { known, tip }, out);
        }
        let append = self.append(RegionEntry::Renounced(global_epoch), out);
        self.turn = Some((append, Turn::Renounce { to: from, global_epoch }));
    }

    /// R-GLOBAL-3, R-GLOBAL-4: the region becomes primary.
    pub(super) fn on_promote(&mut self, from: GlobalParty, global_epoch: GlobalEpoch, plan: Plan, out: &mut Out<R>) {
        let tip = self.lineage.tip();
        let again = tip.global_epoch == global_epoch && tip.primary == self.id;
        if self.turn.is_some() {
            return;
        }
        if again && !self.config.defects.has(Defect::PromoteTwice) {
            return out.send(from, GlobalMessage::Promoted { branch: tip });
        }
        match self.may_promote(global_epoch, plan) {
            Err(refusal) => refuse(from, global_epoch, refusal, out),
            Ok(()) if self.role() == RegionRole::Primary => {
                self.take_over(Next::Promote { from, global_epoch, plan }, out);
            }
            Ok(()) => self.promote(from, global_epoch, plan, out),
        }
    }

    fn promote(&mut self, from: GlobalParty, global_epoch: GlobalEpoch, plan: Plan, out: &mut Out<R>) {
        let tip = self.lineage.tip();
        let reuses = self.config.defects.has(Defect::FailoverWithoutFencingEpoch) && plan == Plan::Unplanned;
        let global_epoch = if reuses { tip.global_epoch } else { global_epoch };
        let lineage = self.lineage.with(Branch { global_epoch, primary: self.id, after: self.last });
        let planned = plan != Plan::Unplanned;
        let append = self.append(RegionEntry::Promoted { lineage: lineage.clone(), planned }, out);
        self.turn = Some((append, Turn::Promote { to: from, lineage, planned }));
    }

    fn may_promote(&self, global_epoch: GlobalEpoch, plan: Plan) -> Result<(), GlobalRefusal> {
        let (tip, known, last) = (self.lineage.tip(), self.known(), self.last);
        let taken = global_epoch == tip.global_epoch && !self.config.defects.has(Defect::PromoteTwice);
        if global_epoch < known || taken {
            return Err(GlobalRefusal::StaleGlobalEpoch { known, tip });
        }
        if self.lineage.is_full() {
            return Err(GlobalRefusal::LineageFull);
        }
        match plan {
            // The branch that ends here has not even begun to arrive.
            Plan::Planned { parent, .. } if parent > tip.global_epoch => Err(GlobalRefusal::NotDrained { last }),
            Plan::Planned { parent, .. } if parent != tip.global_epoch => Err(GlobalRefusal::NotParent { tip }),
            Plan::Planned { at, .. } if at != last && !self.config.defects.has(Defect::SwitchoverBeforeDrain) => {
                Err(GlobalRefusal::NotDrained { last })
            }
            _ => Ok(()),
        }
    }

    /// The turn's entry is durable: it takes effect, and is answered.
    pub(super) fn complete(&mut self, turn: Turn, out: &mut Out<R>) {
        match turn {
            // It ends with its task, see `on_took_over`.
            Turn::TakeOver(_) => {}
            Turn::Fence { to, handover } => {
                self.handover = Some(handover);
                if let Some(to) = to {
                    self.tell_fenced(to, handover, out);
                }
            }
            Turn::Renounce { to, global_epoch } => {
                self.renounced = global_epoch;
                out.send(to, GlobalMessage::Renounced { global_epoch });
            }
            Turn::Promote { to, lineage, planned } => {
                let branch = lineage.tip();
                self.lineage = lineage;
                self.handover = None;
                self.forget_streams();
                out.send(to, GlobalMessage::Promoted { branch });
                self.tell_turned(Turned::Promoted { planned }, out);
            }
            Turn::Adopt { lineage, kept, lost } => {
                self.renounced = self.known();
                self.lineage = lineage;
                self.handover = None;
                self.last = kept;
                self.durable = kept;
                self.forget_streams();
                self.tell_turned(Turned::Adopted { kept, lost }, out);
                self.tell_arrived(out);
            }
        }
    }

    /// Notes how the region came to its lineage.
    pub(super) fn tell_turned(&self, turned: Turned, out: &mut Out<R>) {
        let branch = self.lineage.tip();
        out.note(Note::Global(match turned {
            Turned::Promoted { planned } => {
                let before = self.lineage.branches().iter().rev().nth(1).unwrap_or(&branch);
                GlobalNote::Promoted { parent: before.global_epoch, branch, planned }
            }
            Turned::Adopted { kept, lost } => {
                GlobalNote::Adopted { region: self.id, global_epoch: branch.global_epoch, kept, lost }
            }
        }));
    }
}

fn refuse<R: Clone + Debug>(to: GlobalParty, global_epoch: GlobalEpoch, refusal: GlobalRefusal, out: &mut Out<R>) {
    out.send(to, GlobalMessage::Refused { global_epoch, refusal });
}
