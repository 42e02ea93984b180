//! The shared trait: what every state machine of the protocol looks like to its driver.
//!
//! ```text
//!            ┌───────────── driver (tokio, simulation) or model (stateright) ─────────────┐
//!            │                                                                            │
//!  message ──►        ┌─────────────────────────┐  Send, Multicast      ──► network      │
//!  timer   ──► Input ─►  Machine::step          ├─ Effect ─► Append     ──► log on disk   │
//!  durable ──►        │  (deterministic)        │  Start                ──► pages on disk │
//!  request ──►        └─────────────────────────┘  SetTimer, Answer, Note                 │
//!            └────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! **Effects are unordered.** A machine may not rely on one effect of a step happening before another of the same step.
//! In particular, whatever must follow a write is emitted only when the write's durability arrives as an *input*
//! ([`Input::Durable`]). So "acknowledged before it was durable" is a behaviour that the model checker can express,
//! and find. (An API in which saving and sending are one atomic step can't express it.)
//!
//! **A crash is dropping the value.** [`Machine::boot`] is the only constructor; it gets what survived on disk.

use crate::ids::Micros;
use crate::note::Note;
use alloc::vec::Vec;
use core::fmt::Debug;
use serde::{Deserialize, Serialize};

/// Numbers a machine's appends: 1, 2, … since its boot. The log is first in, first out: when append `n` is durable,
/// so is every earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct AppendId(pub u64);

/// Ties an answer to a request, or an outcome to a task. Chosen by the asker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Token(pub u64);

/// A deterministic state machine: no clock, no randomness, no I/O.
pub trait Machine: Sized {
    /// Who this is.
    type Id: Copy + Debug;
    /// What is fixed for its life.
    type Config;
    /// What a crash leaves on disk. `Default` is an empty disk.
    type Survived: Default;
    /// Who sends and receives.
    type Party: Copy + Debug;
    /// What travels between machines.
    type Message;
    /// What is made durable, in order, in the log.
    type Entry;
    /// Work for the disk that isn't an append (reading and writing pages).
    type Task;
    /// How a task ended.
    type Outcome;
    /// Timers, by name: setting one again replaces it.
    type Timer: Copy + Ord + Debug;
    /// What a local user asks.
    type Request;
    /// What a local user is answered.
    type Answer;

    /// Starts the machine from what survived on disk, and asks for its first timers.
    fn boot(
        config: &Self::Config,
        id: Self::Id,
        survived: Self::Survived,
        now: Micros,
        effects: &mut Effects<Self>,
    ) -> Self;

    /// Takes one input. `now` is the driver's monotonic clock; it may steer speed (which copy to read from), never
    /// safety. The model always says zero.
    ///
    /// # Panics
    /// When an invariant is broken. Never because of what a message holds: those are refused.
    fn step(&mut self, now: Micros, input: Input<Self>, effects: &mut Effects<Self>);
}

/// What can happen to a machine.
pub enum Input<M: Machine> {
    /// A message arrived.
    Message {
        /// Who sent it.
        from: M::Party,
        /// What it says.
        message: M::Message,
    },
    /// A timer is due.
    Timer(M::Timer),
    /// Every append up to and including this one is durable.
    Durable(AppendId),
    /// A task that the machine started has ended.
    Done(M::Outcome),
    /// A local user asks.
    Request {
        /// Comes back with the answer.
        token: Token,
        /// What is asked.
        request: M::Request,
    },
}

/// What a machine wants done.
pub enum Effect<M: Machine> {
    /// Send to one. May be lost, duplicated, late.
    Send {
        /// The receiver.
        to: M::Party,
        /// The content.
        message: M::Message,
    },
    /// Send the same to several (encoded once).
    Multicast {
        /// The receivers.
        to: Vec<M::Party>,
        /// The content, the same for all.
        message: M::Message,
    },
    /// *Start* an append to the machine's log; [`Input::Durable`] says when it is done. A failed append stops the
    /// node: no input reports it.
    Append {
        /// Its number.
        id: AppendId,
        /// What to keep.
        entry: M::Entry,
    },
    /// Start a task; [`Input::Done`] says how it ended.
    Start(M::Task),
    /// Ask for [`Input::Timer`] after a delay.
    SetTimer {
        /// The timer's name.
        timer: M::Timer,
        /// How long from now, in microseconds.
        after: Micros,
    },
    /// Answer a local request.
    Answer {
        /// The request's token.
        token: Token,
        /// The answer.
        answer: M::Answer,
    },
    /// One observable fact: a history variable in the model, a trace line in production.
    Note(Note),
}

/// The effects of one step, in no promised order.
pub struct Effects<M: Machine>(Vec<Effect<M>>);

impl<M: Machine> Default for Effects<M> {
    fn default() -> Self {
        Effects(Vec::new())
    }
}

impl<M: Machine> Effects<M> {
    /// Asks for `message` to be sent.
    pub fn send(&mut self, to: M::Party, message: M::Message) {
        self.0.push(Effect::Send { to, message });
    }

    /// Asks for `message` to be sent to each of `to`.
    pub fn multicast(&mut self, to: Vec<M::Party>, message: M::Message) {
        self.0.push(Effect::Multicast { to, message });
    }

    /// Starts an append.
    pub fn append(&mut self, id: AppendId, entry: M::Entry) {
        self.0.push(Effect::Append { id, entry });
    }

    /// Starts a task.
    pub fn start(&mut self, task: M::Task) {
        self.0.push(Effect::Start(task));
    }

    /// Sets a timer.
    pub fn set_timer(&mut self, timer: M::Timer, after: Micros) {
        self.0.push(Effect::SetTimer { timer, after });
    }

    /// Answers a request.
    pub fn answer(&mut self, token: Token, answer: M::Answer) {
        self.0.push(Effect::Answer { token, answer });
    }

    /// Tells the observer.
    pub fn note(&mut self, note: Note) {
        self.0.push(Effect::Note(note));
    }

    /// Takes everything, leaving the list empty (its memory is kept).
    pub fn drain(&mut self) -> impl Iterator<Item = Effect<M>> + '_ {
        self.0.drain(..)
    }

    /// What there is to do.
    pub fn as_slice(&self) -> &[Effect<M>] {
        &self.0
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
