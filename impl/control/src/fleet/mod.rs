//! Decides which members of the volume are to be replaced, and where: a deterministic state machine without I/O.
//!
//! In come looks at the storage processes, what the writer sees of the volume's members, and the outcomes of what was
//! asked for. Out come [`Action`]s. The same inputs make the same actions.
//!
//! # What it never does
//!
//! **It decides nothing that safety rests on.** The volume's writer carries a replacement out, by steps that overlap
//! (R-MEMBER-2), and refuses what would not be safe. A replacement that was not needed costs a copy, never a commit. For
//! the sake of that copy these hold, and `tests` checks them over random histories:
//!
//! - A process is replaced only if neither this process nor the writer has had an answer of it for
//!   [`Limits::replace_after_ms`]: the view of one alone never does it.
//! - A member goes to a process of the same Availability Zone on which no other member of its group lives.
//! - At most [`UNDER_WAY_MAX`] members of a group are replaced at one time.
//! - What this machine began is undone when the old process comes back before the end, or the new one is lost. What a
//!   person asked for is left alone.
//! - A process that is lost for good has no member in the end, as long as there is one that can take over.
//!
//! [`Kept`] is what outlives the process. Without it, nothing is undone that was begun before, and all else is as it was.

mod placing;
mod seen;
#[cfg(test)]
mod tests;

pub use seen::{GroupSeen, Look, MemberSeen, View};

use crate::controller::{Event, EventKind, Millis};
use seen::Seen;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Members of a group that are replaced at one time. The writer allows no more.
pub const UNDER_WAY_MAX: usize = 2;
/// What the writer refused is asked again after this many milliseconds.
const AGAIN_AFTER: u64 = 1_000;

/// How patient the machine is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Whether anything is replaced at all.
    pub enabled: bool,
    /// A process that was silent this long is replaced, in milliseconds.
    pub replace_after_ms: u64,
    /// A process that has answered this long is back, in milliseconds.
    pub returned_ms: u64,
    /// When this process has not been stepped for so long, it stood still itself, in milliseconds.
    pub still_ms: u64,
}

/// What is known beforehand of a storage process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Its name.
    pub name: String,
    /// Its Availability Zone.
    pub az: String,
    /// Where it listens: members whose home this is live on it.
    pub address: SocketAddr,
}

/// What the machine takes in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A process was asked how it is.
    Looked {
        /// Its name.
        name: String,
        /// What came of it.
        look: Look,
    },
    /// The volume's writer was asked what it sees.
    Viewed(View),
    /// A request has ended.
    Ended {
        /// The attempt's number.
        attempt: u64,
        /// The new member's number, of a replacement; an error is for a person.
        outcome: Result<Option<u8>, String>,
    },
    /// Time has passed.
    Tick,
}

/// What the machine wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Ask the writer.
    Ask {
        /// What.
        asked: Asked,
        /// For [`Input::Ended`].
        attempt: u64,
    },
    /// Keep an event.
    Log(Event),
    /// Keep this for the next start.
    Persist(Kept),
}

/// What the writer is asked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Asked {
    /// Begin a replacement.
    Replace {
        /// The group.
        pg: u16,
        /// Who goes.
        old: u8,
        /// Where who comes is to live.
        home: SocketAddr,
    },
    /// Undo one.
    Undo {
        /// The group.
        pg: u16,
        /// Who was to come.
        new: u8,
    },
}

/// What outlives the process: the replacements that this machine began, as group and new member.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Those that have not ended.
    pub begun: BTreeSet<(u16, u8)>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Healer {
    limits: Limits,
    processes: Vec<Process>,
    seen: BTreeMap<String, Seen>,
    view: Option<View>,
    kept: Kept,
    /// Requests that have not ended, at most one a group.
    asked: BTreeMap<u64, Asked>,
    /// A group is left alone before.
    pause_until: BTreeMap<u16, Millis>,
    /// A view that was asked for before this says nothing of what was done since.
    stale_until: Millis,
    /// Whom nobody can replace, of which people were told.
    told: BTreeSet<(u16, u8)>,
    attempts: u64,
    stepped: Millis,
}

impl Healer {
    /// Knows these processes, and what was kept.
    pub fn new(processes: Vec<Process>, limits: Limits, kept: Kept) -> Healer {
        Healer {
            limits,
            seen: processes.iter().map(|process| (process.name.clone(), Seen::default())).collect(),
            processes,
            view: None,
            kept,
            asked: BTreeMap::new(),
            pause_until: BTreeMap::new(),
            stale_until: Millis(0),
            told: BTreeSet::new(),
            attempts: 0,
            stepped: Millis(u64::MAX),
        }
    }

    /// Takes in one thing that has happened by `now`; returns what is to be done.
    pub fn step(&mut self, now: Millis, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        // This process stood still meanwhile, and is itself the reason why nobody has answered.
        if now.since(self.stepped) >= self.limits.still_ms {
            self.seen.values_mut().for_each(|seen| *seen = Seen::default());
            self.view = None;
        }
        self.stepped = now;
        match input {
            Input::Looked { name, look } => {
                self.seen.entry(name).or_default().take(now, look);
            }
            Input::Viewed(view) => {
                if view.asked >= self.stale_until {
                    self.look_for_ends(&view, &mut actions);
                    self.view = Some(view);
                }
            }
            Input::Ended { attempt, outcome } => self.ended(now, attempt, outcome, &mut actions),
            Input::Tick => {}
        }
        if self.limits.enabled {
            self.decide(now, &mut actions);
        }
        actions
    }

    /// Whether the replacement of a lost process was begun here and has not ended.
    pub fn is_healing(&self) -> bool {
        !self.kept.begun.is_empty()
    }

    /// Where members of the volume live, as the writer said last.
    pub fn homes(&self) -> Vec<SocketAddr> {
        let groups = self.view.iter().flat_map(|view| &view.groups);
        let homes: BTreeSet<SocketAddr> = groups.flat_map(|group| &group.members).map(|member| member.home).collect();
        homes.into_iter().collect()
    }

    fn decide(&mut self, now: Millis, actions: &mut Vec<Action>) {
        let fresh = |view: &View| now.since(view.asked) < self.limits.still_ms;
        let Some(view) = self.view.clone().filter(fresh) else { return };
        for group in &view.groups {
            let is_busy = self.asked.values().any(|asked| asked.group() == group.pg);
            let pauses = self.pause_until.get(&group.pg).is_some_and(|until| now < *until);
            if is_busy || pauses {
                continue;
            }
            if let Some((asked, why)) =
                self.next_undo(now, group).or_else(|| self.next_replacement(now, group, actions))
            {
                tracing::info!(?asked, why, "asking the writer");
                self.attempts += 1;
                self.asked.insert(self.attempts, asked.clone());
                actions.push(Action::Ask { asked, attempt: self.attempts });
            }
        }
    }

    /// A replacement that is to be undone, and why.
    fn next_undo(&self, now: Millis, group: &GroupSeen) -> Option<(Asked, String)> {
        group.under_way.iter().find_map(|&(old, new)| {
            let (old, joiner) = (group.member(old)?, group.member(new)?);
            if !self.kept.begun.contains(&(group.pg, new)) {
                return None;
            }
            let why = if self.is_lost(now, joiner) {
                "the new process is lost, too"
            } else if self.is_back(now, old) && !joiner.hydrated {
                "the old process is back"
            } else {
                return None;
            };
            Some((Asked::Undo { pg: group.pg, new }, why.to_owned()))
        })
    }

    /// A member that is to be replaced, where, and why.
    fn next_replacement(
        &mut self,
        now: Millis,
        group: &GroupSeen,
        actions: &mut Vec<Action>,
    ) -> Option<(Asked, String)> {
        if group.under_way.len() >= UNDER_WAY_MAX {
            return None;
        }
        for member in group.members.iter().filter(|member| !group.is_changing(member.member)) {
            if !self.is_lost(now, member) {
                self.told.remove(&(group.pg, member.member));
                continue;
            }
            let Some(lost) = self.process_at(member.home).cloned() else { continue };
            match self.best(now, group, &lost) {
                Some(home) => {
                    let asked = Asked::Replace { pg: group.pg, old: member.member, home };
                    return Some((asked, format!("{} is lost", lost.name)));
                }
                None if self.told.insert((group.pg, member.member)) => {
                    let reason =
                        format!("no other process of AZ {} answers and has no member of group {}", lost.az, group.pg);
                    actions.push(Action::Log(Event::new(EventKind::StorageNotReplaced(lost.name), &reason)));
                }
                None => {}
            }
        }
        None
    }

    /// Whether nobody has had an answer of the process where this member lives for long enough.
    fn is_lost(&self, now: Millis, member: &MemberSeen) -> bool {
        let limit = self.limits.replace_after_ms;
        let gone = |process: &Process| self.seen.get(&process.name).and_then(|seen| seen.gone_since());
        let since = self.process_at(member.home).and_then(gone);
        since.is_some_and(|since| now.since(since) >= limit) && member.silent_ms >= limit
    }

    /// Whether the process where this member lives answers again, this process and the writer.
    fn is_back(&self, now: Millis, member: &MemberSeen) -> bool {
        let serves = |process: &Process| self.seen.get(&process.name).and_then(|seen| seen.serves_since());
        let since = self.process_at(member.home).and_then(serves);
        since.is_some_and(|since| now.since(since) >= self.limits.returned_ms) && member.silent_ms == 0
    }

    fn process_at(&self, home: SocketAddr) -> Option<&Process> {
        self.processes.iter().find(|process| process.address == home)
    }

    fn ended(&mut self, now: Millis, attempt: u64, outcome: Result<Option<u8>, String>, actions: &mut Vec<Action>) {
        let Some(asked) = self.asked.remove(&attempt) else { return };
        self.stale_until = Millis(now.0 + 1);
        self.view = None;
        let pg = asked.group();
        match (asked, outcome) {
            (Asked::Replace { old, home, .. }, Ok(Some(new))) => {
                self.kept.begun.insert((pg, new));
                actions.push(Action::Persist(self.kept.clone()));
                let on = self.process_at(home).map_or_else(|| home.to_string(), |process| process.name.clone());
                let reason = format!("member {old} of group {pg} is replaced by member {new}");
                actions.push(Action::Log(Event::new(EventKind::StorageReplacing(on), &reason)));
            }
            (_, Ok(_)) => {}
            (asked, Err(why)) => {
                tracing::warn!(?asked, why, "the writer has not done it");
                self.pause_until.insert(pg, Millis(now.0 + AGAIN_AFTER));
            }
        }
    }

    /// Sees which of the replacements that were begun here have ended.
    fn look_for_ends(&mut self, view: &View, actions: &mut Vec<Action>) {
        let mut ended = false;
        for (pg, new) in self.kept.begun.clone() {
            let Some(group) = view.groups.iter().find(|group| group.pg == pg) else { continue };
            if group.under_way.iter().any(|(_, joiner)| *joiner == new) {
                continue;
            }
            ended = self.kept.begun.remove(&(pg, new));
            let event = match group.member(new) {
                Some(member) => {
                    let on = self.process_at(member.home).map_or_else(|| member.home.to_string(), |it| it.name.clone());
                    Event::new(EventKind::StorageReplaced(on), &format!("it holds member {new} of group {pg}"))
                }
                None => {
                    Event::new(EventKind::StorageKept(format!("group {pg}")), &format!("member {new} did not come"))
                }
            };
            actions.push(Action::Log(event));
        }
        if ended {
            actions.push(Action::Persist(self.kept.clone()));
        }
    }
}

impl Asked {
    /// The group that it is about.
    pub fn group(&self) -> u16 {
        match self {
            Asked::Replace { pg, .. } | Asked::Undo { pg, .. } => *pg,
        }
    }
}
