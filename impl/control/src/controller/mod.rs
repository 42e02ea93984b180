//! Decides who is to write: a deterministic state machine without I/O.
//!
//! In come observations, each with its time, the outcomes of what was asked for, requests of people, and ticks. Out
//! come [`Action`]s. The same inputs make the same actions.
//!
//! # What it never does
//!
//! **It decides nothing that safety rests on.** Storage refuses the records of every writer but the newest (R-WRITE-1),
//! so a wrong promotion costs time, never an acknowledged commit. For the sake of time these hold, and `tests` checks
//! them over random histories:
//!
//! - A writer that answers and serves is never replaced, unless a person asks for it, or the writer says that storage
//!   stalls for it while this process reaches a write quorum of storage.
//! - A writer that does not answer is not replaced while a reader that answers hears it.
//! - No promotion is asked for while another one is under way.
//! - With no writer, and an instance that can be promoted, one is promoted in the end.
//! - A failover that a person asked for ends: done, or undone.
//!
//! # How it is built
//!
//! [`seen`] holds what is known of each instance, [`judging`] whether the writer is gone, [`choosing`] who is the best
//! to take over, and [`transition`] what is under way.

mod choosing;
mod event;
mod judging;
mod seen;
mod transition;

#[cfg(test)]
mod tests;

pub use event::{Event, EventKind};
pub use seen::{Look, RoleSeen, Said};

use choosing::Candidate;
use seen::Seen;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use transition::Transition;

/// Milliseconds of a clock that never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// How long ago `earlier` was; 0 where it is later.
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A volume epoch: its number, and its writer. They are ordered like volume epochs.
pub type Epoch = (u64, u64);

/// How patient the controller is, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// An instance whose host refuses connections this long does not run.
    pub refused_ms: u64,
    /// An instance that does not answer this long is frozen, cut off, or gone with its host.
    pub silent_ms: u64,
    /// A writer whose oldest write waits this long for storage, while others reach storage, is cut off from storage.
    pub stalled_ms: u64,
    /// A writer that answers and does not serve for this long can't.
    pub unready_ms: u64,
    /// A promotion that has not ended after this long has failed.
    pub promotion_ms: u64,
    /// A demotion that has not ended after this long has failed.
    pub demotion_ms: u64,
    /// After a failover, a writer that answers is left alone for this long, however it is.
    pub cooldown_ms: u64,
    /// The pause after everyone was tried in vain; each further one is twice as long, up to sixteen times.
    pub retry_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            refused_ms: 200,
            silent_ms: 1_000,
            stalled_ms: 5_000,
            unready_ms: 120_000,
            promotion_ms: 60_000,
            demotion_ms: 15_000,
            cooldown_ms: 30_000,
            retry_ms: 1_000,
        }
    }
}

/// What is known beforehand of an instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The larger of two instances of the same tier is promoted.
    pub size: u64,
}

/// What the controller takes in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// An instance was asked how it is.
    Looked {
        /// The instance.
        name: String,
        /// When it was asked.
        asked: Millis,
        /// What came of it.
        look: Look,
    },
    /// Storage processes were asked. See [`Controller::wants_storage`].
    StorageReached {
        /// How many answered.
        answered: usize,
        /// How many a writer needs.
        needed: usize,
    },
    /// A promotion or demotion has ended.
    Ended {
        /// The attempt's number.
        attempt: u64,
        /// How; an error is for a person.
        outcome: Result<(), String>,
    },
    /// Time has passed.
    Tick,
}

/// What the controller wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Ask an instance to become the writer.
    Promote {
        /// The instance.
        name: String,
        /// For [`Input::Ended`].
        attempt: u64,
    },
    /// Ask the writer to become a reader.
    Demote {
        /// The instance.
        name: String,
        /// For [`Input::Ended`].
        attempt: u64,
    },
    /// Keep an event.
    Log(Event),
    /// Keep this for the next start.
    Persist(Kept),
}

/// What outlives the process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// The newest writer that was seen.
    pub writer: Option<String>,
    /// Its volume epoch.
    pub volume_epoch: Epoch,
    /// Its Availability Zone.
    pub az: String,
}

/// Why a failover that a person asked for is not begun.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// No such instance.
    #[error("no instance is called {0:?}; there are: {1}")]
    Unknown(String, String),
    /// One is under way.
    #[error("a failover is under way, to {0}")]
    UnderWay(String),
    /// It writes already.
    #[error("{0} is the writer already")]
    IsWriter(String),
    /// It can't take over now.
    #[error("{0} can't take over: it does not answer as a reader")]
    NotReady(String),
    /// Nobody can.
    #[error("no instance can take over: none answers as a reader")]
    Nobody,
    /// There is nothing to fail over from.
    #[error("there is no writer that answers; one is promoted as soon as an instance can be")]
    NoWriter,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Controller {
    limits: Limits,
    members: Vec<Member>,
    seen: BTreeMap<String, Seen>,
    kept: Kept,
    /// What is under way.
    transition: Option<Transition>,
    /// Those that were tried in vain since there last was a writer.
    tried: BTreeSet<String>,
    /// Rounds in which everyone was tried in vain.
    vain_rounds: u32,
    /// Nobody is promoted before.
    pause_until: Millis,
    /// A writer that answers is left alone before.
    cool_until: Millis,
    /// Whether people were told that the failover fails.
    told_failed: bool,
    /// Since when a write quorum of storage answers whenever it is asked, and when it last did.
    storage_reached: Option<(Millis, Millis)>,
    attempts: u64,
    /// The last step.
    stepped: Millis,
    #[cfg(test)]
    defect: Option<tests::Defect>,
}

impl Controller {
    /// Knows these instances, and what was kept.
    pub fn new(members: Vec<Member>, limits: Limits, kept: Kept) -> Controller {
        let seen = members.iter().map(|member| (member.name.clone(), Seen::default())).collect();
        Controller {
            limits,
            members,
            seen,
            kept,
            transition: None,
            tried: BTreeSet::new(),
            vain_rounds: 0,
            pause_until: Millis(0),
            cool_until: Millis(0),
            told_failed: false,
            storage_reached: None,
            attempts: 0,
            stepped: Millis(u64::MAX),
            #[cfg(test)]
            defect: None,
        }
    }

    /// Takes in one thing that has happened by `now`; returns what is to be done.
    pub fn step(&mut self, now: Millis, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        // This process stood still meanwhile, and is itself the reason why nobody has answered.
        if now.since(self.stepped) >= self.limits.silent_ms.max(2) / 2 {
            tracing::warn!(ms = now.since(self.stepped), "this process stood still: looking at everyone afresh");
            self.seen.values_mut().for_each(|seen| *seen = Seen::default());
        }
        self.stepped = now;
        match input {
            Input::Looked { name, asked, look } => {
                if let Some(seen) = self.seen.get_mut(&name) {
                    seen.take(asked, now, look);
                }
                self.adopt(now, &mut actions);
            }
            Input::StorageReached { answered, needed } => {
                let goes_on = self.storage_reached.filter(|&(_, last)| now.since(last) < self.limits.silent_ms);
                let since = goes_on.map_or(now, |(since, _)| since);
                self.storage_reached = (answered >= needed).then_some((since, now));
            }
            Input::Ended { attempt, outcome } => self.ended(now, attempt, outcome, &mut actions),
            Input::Tick => {}
        }
        self.go_on(now, &mut actions);
        actions
    }

    /// Begins the failover that a person asks for, to the best instance where `to` names none.
    ///
    /// # Errors
    /// It can't be done now, and why.
    pub fn request(&mut self, now: Millis, to: Option<&str>) -> Result<(String, Vec<Action>), Refusal> {
        if let Some(transition) = &self.transition {
            return Err(Refusal::UnderWay(transition.to.clone()));
        }
        let writer = self.serving_writer(now).ok_or(Refusal::NoWriter)?;
        let candidate = match to {
            None => self.candidates(now, Millis(0)).into_iter().next().ok_or(Refusal::Nobody)?,
            Some(to) if to == writer => return Err(Refusal::IsWriter(writer)),
            Some(to) if !self.seen.contains_key(to) => {
                let known: Vec<&str> = self.members.iter().map(|member| member.name.as_str()).collect();
                return Err(Refusal::Unknown(to.to_owned(), known.join(", ")));
            }
            Some(to) => {
                let found = self.candidates(now, Millis(0)).into_iter().find(|candidate| candidate.name == to);
                found.ok_or_else(|| Refusal::NotReady(to.to_owned()))?
            }
        };
        let mut actions = Vec::new();
        let to = candidate.name.clone();
        self.begin_planned(now, writer, candidate, &mut actions);
        Ok((to, actions))
    }

    /// Whether the writer says that storage stalls for it, so that others should ask storage.
    pub fn wants_storage(&self) -> bool {
        let said = self.kept.writer.as_ref().and_then(|name| self.seen.get(name)?.said());
        said.is_some_and(|said| said.role == RoleSeen::Writer && said.stalled_ms > self.limits.stalled_ms / 2)
    }

    /// The newest writer that was seen, whether or not it still is one.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Whom a failover that is under way goes to.
    pub fn under_way(&self) -> Option<&str> {
        self.transition.as_ref().map(|transition| transition.to.as_str())
    }

    /// The instance that writes with the highest volume epoch is the writer, whatever promoted it.
    fn adopt(&mut self, now: Millis, actions: &mut Vec<Action>) {
        let writers = self.seen.iter().filter_map(|(name, seen)| {
            let said = seen.said().filter(|said| said.role == RoleSeen::Writer && said.volume_epoch > (0, 0))?;
            // What was said before it became silent shows no more that it serves.
            let serves = seen.answer_since(Millis(0)).is_some() && said.is_ready;
            Some((said.volume_epoch, name.clone(), said.az.clone(), serves))
        });
        let Some((epoch, name, az, serves)) = writers.max() else { return };
        if epoch < self.kept.volume_epoch {
            return;
        }
        let kept = Kept { writer: Some(name.clone()), volume_epoch: epoch, az };
        if kept != self.kept {
            self.kept = kept.clone();
            actions.push(Action::Persist(kept));
        }
        if serves {
            self.writer_serves(now, &name, epoch, actions);
        }
    }

    /// The writer that answers and serves.
    fn serving_writer(&self, now: Millis) -> Option<String> {
        let name = self.kept.writer.clone()?;
        let seen = self.seen.get(&name)?;
        let said = seen.answer(now, &self.limits)?;
        (said.role == RoleSeen::Writer && said.is_ready && said.volume_epoch == self.kept.volume_epoch).then_some(name)
    }

    /// Goes on with what is under way, or begins what is necessary.
    fn go_on(&mut self, now: Millis, actions: &mut Vec<Action>) {
        if self.transition.is_some() {
            self.watch_transition(now, actions);
        }
        if self.transition.is_some() || now < self.pause_until {
            return;
        }
        let Some(gone) = self.gone(now) else { return };
        match self.candidates(now, gone.since).into_iter().find(|candidate| !self.tried.contains(&candidate.name)) {
            Some(candidate) => self.begin(now, candidate, gone.reason, actions),
            None => self.in_vain(now, &gone.reason, actions),
        }
    }

    /// Nobody is left to be promoted.
    fn in_vain(&mut self, now: Millis, reason: &str, actions: &mut Vec<Action>) {
        // A new cluster whose instances have yet to start is no failover.
        if !self.told_failed && self.kept.writer.is_some() {
            self.told_failed = true;
            actions.push(Action::Log(Event::new(EventKind::Failed, reason)));
        }
        #[cfg(test)]
        if self.defect == Some(tests::Defect::TryOnce) {
            return;
        }
        // An instance that was tried is tried again after a pause, and so is one that comes back meanwhile.
        if !self.tried.is_empty() {
            self.pause_until = Millis(now.0 + (self.limits.retry_ms << self.vain_rounds.min(4)));
            self.vain_rounds += 1;
            self.tried.clear();
        }
    }

    /// Those who can be promoted, the best one first.
    fn candidates(&self, now: Millis, since: Millis) -> Vec<Candidate> {
        choosing::candidates(&self.members, &self.seen, &self.limits, now, since)
    }
}
