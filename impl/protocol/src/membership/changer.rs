//! Takes a group from one arrangement to the next.
//!
//! ```text
//!            replace / undo            installed on both              all hydrated
//!   Settled ───────────────► Installing ───────────────► Settled ───────────────────► Installing ─► …
//!                 (intent durable first)            (replacing: hydrating)   (completed)
//! ```
//!
//! One changer at a time works on a group (its log is the control plane's topology store); after a crash it goes on with
//! the step that its log has, in the same membership epoch.
//!
//! Invariant: a step counts only when it is durable on a write quorum of the quorum sets before and after it.

use crate::defect::{Defect, Defects};
use crate::ids::{MemberId, MembershipEpoch, Micros};
use crate::ids::{PgId, SegmentId, VolumeEpoch, VolumeId};
use crate::machine::{AppendId, Effects, Input, Machine, Token};
use crate::membership::arrangement::{Arrangement, Replacement};
use crate::membership::step::Step;
use crate::note::Note;
use crate::quorum::{MemberSet, Membership};
use alloc::vec::Vec;
use core::convert::Infallible;
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};

/// What a changer makes durable.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ChangerEntry {
    /// The next step: nothing else will ever have this membership epoch.
    Intent(MembershipEpoch, Arrangement),
    /// That step is in force.
    InForce(MembershipEpoch),
}

/// What travels between a changer and a group's members.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ChangerMessage {
    /// "This is your group's membership, and what it is about to be." Answered by `Installed` once durable.
    Install(Step),
    /// The member has made it durable, or a later one.
    Installed(MembershipEpoch),
    /// "Tell me when you are hydrated": to a new member, in a membership in force.
    Hydrate(Membership),
    /// The new member has, durably, what a read quorum of the group had in this membership epoch.
    Hydrated(MembershipEpoch),
}

/// What a changer is asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChangerRequest {
    /// Begin a replacement; completed by itself once the new member is hydrated.
    Replace(Replacement),
    /// Take the replacement by this member back.
    Undo(MemberId),
}

/// What it answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChangerAnswer {
    /// On its way, in this membership epoch.
    Begun(MembershipEpoch),
    /// A step is on its way already: ask again.
    Busy,
    /// The group's arrangement does not allow it.
    Senseless,
}

/// A changer's timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ChangerTimer {
    /// Send again what has not been answered.
    Retry,
}

/// One observable fact of a membership change.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum MembershipNote {
    /// A step is durable on both quorums.
    InForce(Membership),
    /// A writer of this volume epoch knows that a step is durable on both quorums.
    Changed {
        /// The volume.
        volume: VolumeId,
        /// The group.
        pg: PgId,
        /// The writer's epoch.
        volume_epoch: VolumeEpoch,
        /// In force from now on.
        membership: Membership,
    },
    /// A process makes the segment of a new member, because it is the member's home.
    Made {
        /// Which segment.
        segment: SegmentId,
        /// Where.
        home: SocketAddr,
    },
    /// A member has left its group for good.
    Left {
        /// Which segment.
        segment: SegmentId,
    },
}

/// A changer's fixed configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ChangerConfig {
    /// How the group was created.
    pub created: Arrangement,
    /// How often to send again.
    pub retry_every: Micros,
    /// Planted defects.
    pub defects: Defects,
}

/// See the module's header.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Changer {
    config: ChangerConfig,
    /// In force, and its epoch.
    settled: (MembershipEpoch, Arrangement),
    /// The step on its way; durable here once `intent` is.
    next: Option<(MembershipEpoch, Arrangement)>,
    intent: Option<AppendId>,
    installed: MemberSet,
    hydrated: MemberSet,
    appended: AppendId,
}

type Out = Effects<Changer>;

impl Machine for Changer {
    type Id = ();
    type Config = ChangerConfig;
    type Survived = Vec<ChangerEntry>;
    type Party = MemberId;
    type Message = ChangerMessage;
    type Entry = ChangerEntry;
    type Task = Infallible;
    type Outcome = Infallible;
    type Timer = ChangerTimer;
    type Request = ChangerRequest;
    type Answer = ChangerAnswer;

    fn boot(config: &ChangerConfig, (): (), survived: Vec<ChangerEntry>, _: Micros, out: &mut Out) -> Self {
        let mut changer = Changer {
            config: config.clone(),
            settled: (MembershipEpoch(1), config.created.clone()),
            next: None,
            intent: None,
            installed: MemberSet::EMPTY,
            hydrated: MemberSet::EMPTY,
            appended: AppendId(0),
        };
        for entry in survived {
            match entry {
                ChangerEntry::Intent(epoch, arrangement) => changer.next = Some((epoch, arrangement)),
                ChangerEntry::InForce(_) => changer.settled = changer.next.take().unwrap_or(changer.settled),
            }
        }
        out.set_timer(ChangerTimer::Retry, config.retry_every);
        changer.speak(out);
        changer
    }

    fn step(&mut self, _: Micros, input: Input<Self>, out: &mut Out) {
        match input {
            Input::Message { from, message } => self.on_message(from, message, out),
            Input::Timer(ChangerTimer::Retry) => {
                out.set_timer(ChangerTimer::Retry, self.config.retry_every);
                self.speak(out);
            }
            Input::Durable(append) => {
                if self.intent.take_if(|intent| *intent <= append).is_some() {
                    self.speak(out);
                }
            }
            Input::Request { token, request } => self.on_request(token, request, out),
            Input::Done(never) => match never {},
        }
    }
}

impl Changer {
    /// The arrangement in force.
    pub fn settled(&self) -> &Arrangement {
        &self.settled.1
    }

    /// Whether no step is on its way and no replacement under way.
    pub fn is_steady(&self) -> bool {
        self.next.is_none() && self.settled.1.replacements.is_empty()
    }

    fn membership(&self, (membership_epoch, arrangement): &(MembershipEpoch, Arrangement)) -> Membership {
        let quorum = arrangement.quorum(self.config.defects);
        let replacements = arrangement.replacements.clone();
        Membership { membership_epoch: *membership_epoch, replacements, ..Membership::initial(quorum) }
    }

    fn append(&mut self, entry: ChangerEntry, out: &mut Out) -> AppendId {
        self.appended.0 += 1;
        out.append(self.appended, entry);
        self.appended
    }

    fn on_request(&mut self, token: Token, request: ChangerRequest, out: &mut Out) {
        let next = match request {
            _ if self.next.is_some() => return out.answer(token, ChangerAnswer::Busy),
            ChangerRequest::Replace(replacement) => self.settled.1.replacing(replacement),
            ChangerRequest::Undo(new) => self.settled.1.without(new),
        };
        let Some(next) = next else { return out.answer(token, ChangerAnswer::Senseless) };
        let epoch = self.begin(next, out);
        out.answer(token, ChangerAnswer::Begun(epoch));
    }

    fn begin(&mut self, next: Arrangement, out: &mut Out) -> MembershipEpoch {
        let epoch = MembershipEpoch(self.settled.0.0 + 1);
        self.installed = MemberSet::EMPTY;
        self.intent = Some(self.append(ChangerEntry::Intent(epoch, next.clone()), out));
        self.next = Some((epoch, next));
        epoch
    }

    /// Says, again if need be, what is not answered yet.
    fn speak(&mut self, out: &mut Out) {
        if self.intent.is_some() {
            return;
        }
        if let Some(next) = &self.next {
            let step = Step {
                volume_epoch: VolumeEpoch::NONE,
                before: self.membership(&self.settled),
                next: self.membership(next),
            };
            let members = step.before.quorum.members().or(step.next.quorum.members());
            let silent = members.iter().filter(|member| !self.installed.contains(*member)).collect();
            return out.multicast(silent, ChangerMessage::Install(step));
        }
        let settled = self.membership(&self.settled);
        let joining = self.settled.1.joining();
        if joining.is_empty() {
            // From now on writers may count by this quorum set alone.
            let members = settled.quorum.members().iter().collect();
            return out.multicast(members, ChangerMessage::Install(Step::first(settled)));
        }
        if self.config.defects.has(Defect::MemberCountedBeforeHydration) || self.hydrated.and(joining) == joining {
            self.begin(self.settled.1.completed(), out);
        } else {
            let silent = joining.iter().filter(|member| !self.hydrated.contains(*member)).collect();
            out.multicast(silent, ChangerMessage::Hydrate(self.membership(&self.settled)));
        }
    }

    fn on_message(&mut self, from: MemberId, message: ChangerMessage, out: &mut Out) {
        match message {
            ChangerMessage::Installed(epoch) => {
                let expected = self.next.as_ref().is_some_and(|next| next.0 == epoch) && self.intent.is_none();
                if expected {
                    self.installed = self.installed.with(from);
                    self.settle(out);
                }
            }
            // Hydrated in an earlier step is hydrated: what came since was written to it as well.
            ChangerMessage::Hydrated(epoch) if epoch <= self.settled.0 && self.next.is_none() => {
                self.hydrated = self.hydrated.with(from);
                self.speak(out);
            }
            _ => {}
        }
    }

    /// R-MEMBER-1: the step counts once a write quorum of both quorum sets has it.
    fn settle(&mut self, out: &mut Out) {
        let Some(next) = self.next.clone() else { return };
        let (before, after) = (self.membership(&self.settled), self.membership(&next));
        let old = before.quorum.write_met(self.installed) || self.config.defects.has(Defect::MembershipOnNewQuorumOnly);
        if old && after.quorum.write_met(self.installed) {
            self.append(ChangerEntry::InForce(next.0), out);
            self.settled = next;
            self.next = None;
            self.hydrated = self.hydrated.and(self.settled.1.joining());
            out.note(Note::Membership(MembershipNote::InForce(after)));
            self.speak(out);
        }
    }
}
