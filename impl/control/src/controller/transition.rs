//! A failover that is under way.

use super::choosing::Candidate;
use super::event::{Event, EventKind};
use super::seen::RoleSeen;
use super::{Action, Controller, Epoch, Millis};

/// See the [module](self).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Transition {
    /// Who is to write.
    pub to: String,
    to_az: String,
    /// Who wrote before, and its volume epoch.
    from: Option<String>,
    from_epoch: Epoch,
    phase: Phase,
    attempt: u64,
    since: Millis,
    /// A person asked for it.
    is_planned: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The writer is to become a reader.
    Demoting,
    /// The new one is to become the writer.
    Promoting,
}

impl Controller {
    /// Begins to replace a writer that is gone.
    pub(super) fn begin(&mut self, now: Millis, to: Candidate, reason: String, actions: &mut Vec<Action>) {
        self.promote(now, to, false, &reason, actions);
    }

    /// Begins what a person asked for.
    pub(super) fn begin_planned(&mut self, now: Millis, writer: String, to: Candidate, actions: &mut Vec<Action>) {
        let attempt = self.next_attempt();
        self.announce(&to, "asked for", actions);
        actions.push(Action::Demote { name: writer.clone(), attempt });
        self.transition = Some(Transition {
            to: to.name,
            to_az: to.az,
            from: Some(writer),
            from_epoch: self.kept.volume_epoch,
            phase: Phase::Demoting,
            attempt,
            since: now,
            is_planned: true,
        });
    }

    fn promote(&mut self, now: Millis, to: Candidate, is_planned: bool, reason: &str, actions: &mut Vec<Action>) {
        // The one that a person asked for was announced before the writer was asked to stop.
        let announced = self.transition.as_ref().is_some_and(|transition| transition.to == to.name);
        if !announced {
            self.announce(&to, reason, actions);
        }
        let attempt = self.next_attempt();
        actions.push(Action::Promote { name: to.name.clone(), attempt });
        self.transition = Some(Transition {
            to: to.name,
            to_az: to.az,
            from: self.kept.writer.clone(),
            from_epoch: self.kept.volume_epoch,
            phase: Phase::Promoting,
            attempt,
            since: now,
            is_planned,
        });
    }

    fn announce(&self, to: &Candidate, reason: &str, actions: &mut Vec<Action>) {
        // The first writer of a cluster is no failover.
        let Some(writer) = &self.kept.writer else { return };
        let kind = match (*writer == to.name, self.kept.az == to.az) {
            (true, _) => EventKind::PreviousPrimaryAgain(to.name.clone()),
            (false, true) => EventKind::StartedSameAz(to.name.clone()),
            (false, false) => EventKind::StartedCrossAz(to.name.clone()),
        };
        actions.push(Action::Log(Event::new(kind, reason)));
    }

    fn next_attempt(&mut self) -> u64 {
        self.attempts += 1;
        self.attempts
    }

    /// A promotion or demotion has been answered.
    pub(super) fn ended(&mut self, now: Millis, attempt: u64, outcome: Result<(), String>, actions: &mut Vec<Action>) {
        let Some(transition) = self.transition.as_ref().filter(|transition| transition.attempt == attempt) else {
            return;
        };
        match (transition.phase, outcome) {
            (Phase::Demoting, Ok(())) => self.demoted(now, actions),
            // The answer may have been lost with the connection: what the writer says of itself counts.
            (Phase::Demoting, Err(why)) => self.undone(now, &why, actions),
            // It counts when the new one is seen to serve.
            (Phase::Promoting, Ok(())) => {}
            (Phase::Promoting, Err(why)) => self.promotion_failed(&why),
        }
    }

    /// The writer is a reader now: the new one is promoted.
    fn demoted(&mut self, now: Millis, actions: &mut Vec<Action>) {
        let Some(transition) = self.transition.clone() else { return };
        let to = Candidate { name: transition.to, az: transition.to_az };
        self.promote(now, to, true, "asked for", actions);
    }

    /// The writer was not demoted. Where it serves, nothing has changed; where not, it is replaced as one that is gone.
    fn undone(&mut self, now: Millis, why: &str, actions: &mut Vec<Action>) {
        self.transition = None;
        self.cool_until = Millis(now.0 + self.limits.cooldown_ms);
        actions.push(Action::Log(Event::new(EventKind::Failed, why)));
    }

    /// The next one is tried, the one before included.
    fn promotion_failed(&mut self, why: &str) {
        if let Some(transition) = self.transition.take() {
            tracing::warn!(instance = transition.to, why, "a promotion failed");
            self.tried.insert(transition.to);
        }
    }

    /// Looks whether what is under way has ended by itself, or takes too long.
    pub(super) fn watch_transition(&mut self, now: Millis, actions: &mut Vec<Action>) {
        let Some(transition) = self.transition.clone() else { return };
        let limits = self.limits;
        match transition.phase {
            Phase::Demoting => {
                let from = transition.from.as_ref().and_then(|name| self.seen.get(name));
                let is_reader = from
                    .and_then(|seen| seen.answer_since(transition.since))
                    .is_some_and(|said| said.role == RoleSeen::Reader);
                if is_reader || from.is_none_or(|seen| seen.is_gone(now, &limits)) {
                    self.demoted(now, actions);
                } else if now.since(transition.since) >= limits.demotion_ms {
                    self.undone(now, "the writer was not demoted in time", actions);
                }
            }
            Phase::Promoting => {
                let to = self.seen.get(&transition.to);
                if now.since(transition.since) >= limits.promotion_ms {
                    self.promotion_failed("it took too long");
                } else if to.is_none_or(|seen| seen.has_given_up(now, &limits)) {
                    self.promotion_failed("it does not answer any more");
                }
            }
        }
    }

    /// The writer with the highest volume epoch serves. If it is a new one, what was under way is over.
    pub(super) fn writer_serves(&mut self, now: Millis, name: &str, epoch: Epoch, actions: &mut Vec<Action>) {
        match &self.transition {
            // It is being demoted, and has not heard of it yet; or it is the one that is being replaced.
            Some(transition) if epoch <= transition.from_epoch => return,
            Some(transition) => {
                if transition.from.is_some() {
                    let why = if transition.is_planned { "asked for" } else { "" };
                    actions.push(Action::Log(Event::new(EventKind::Completed(name.to_owned()), why)));
                }
                self.cool_until = Millis(now.0 + self.limits.cooldown_ms);
                self.transition = None;
            }
            None => {}
        }
        self.tried.clear();
        (self.vain_rounds, self.told_failed, self.pause_until) = (0, false, now);
    }
}
