//! The one driver: runs any [`Machine`] and hands its effects to [`Ports`].
//!
//! There is no task and no queue between an input and its step. The thread that has an input (a FUSE thread, the
//! journal's thread, a tokio task that read a frame) takes the machine's lock and steps it: on the write path each hop
//! to another thread would cost more than the step itself.
//!
//! Four promises to ports:
//! - effects arrive in the order of the steps that caused them (the machine promises no order *within* a step);
//! - the notes of a step come before its other effects, so that what others saw can have been written down;
//! - the machine's lock is free while effects are handed over, so others can step meanwhile;
//! - answers are given with no lock held: the receiver of an answer may ask again at once.
//!
//! The driver decides nothing. What the protocol decides is in `auriga-protocol`; how bytes travel is in `auriga-net`.
//!
//! **Where to go next.** [`timers`] (a machine's timers, by name), [`clock`] (the time of one host), [`random`]
//! (identities that are never given twice).

pub mod clock;
pub mod random;
pub mod timers;

use auriga_protocol::{AppendId, Effect, Effects, Input, Machine, Micros, Note, Token};
use std::io::Write;
use std::mem::swap;
use std::sync::{Mutex, MutexGuard};

/// Where a machine's effects go. Nothing here may block, and nothing but [`Ports::answer`] may step the machine.
pub trait Ports<M: Machine>: Send + Sync + 'static {
    /// Sends to one; may lose it.
    fn send(&self, to: M::Party, message: M::Message);
    /// Sends the same to several; may lose it for each.
    fn multicast(&self, to: Vec<M::Party>, message: M::Message);
    /// Starts an append; [`Input::Durable`] follows on another thread.
    fn append(&self, id: AppendId, entry: M::Entry);
    /// Starts a task; [`Input::Done`] follows on another thread.
    fn start(&self, task: M::Task);
    /// Sets a timer, in place of an earlier one of that name.
    fn set_timer(&self, timer: M::Timer, after: Micros);
    /// Records an input that the machine takes next, at this time. Called in the order of the steps: it must be quick.
    fn record_input(&self, _now: Micros, _input: &Input<M>) {}
    /// Records the effects of the last input, at this time. Called in the order of the steps: it must be quick.
    fn record_effects(&self, _now: Micros, _effects: &[Effect<M>]) {}
    /// Passes a note to the observer. `at` is when the step began: before its effects, after its causes.
    fn observe(&self, at: Micros, note: &Note);
    /// Writes down the notes of this step. Called before any other process can see an effect of the step.
    fn flush_observations(&self) {}
    /// Puts on the wire what this step has sent.
    fn flush_outboxes(&self);
    /// Answers a local request.
    fn answer(&self, token: Token, answer: M::Answer);
}

/// A running machine.
pub struct Driver<M: Machine, P: Ports<M>> {
    id: M::Id,
    ports: P,
    running: Mutex<Running<M>>,
    /// Effects being handed over. Locked after `running`, and kept when that is released.
    outgoing: Mutex<Effects<M>>,
}

struct Running<M: Machine> {
    machine: M,
    effects: Effects<M>,
}

impl<M: Machine, P: Ports<M>> Driver<M, P> {
    /// Boots the machine. Its first effects are handed over by [`Driver::release_boot_effects`], or by the first step, so
    /// that the caller can first make the machine reachable.
    pub fn boot(config: &M::Config, id: M::Id, survived: M::Survived, ports: P) -> Self {
        let _guard = StopOnPanic(id);
        let mut effects = Effects::default();
        let now = clock::now();
        let machine = M::boot(config, id, survived, now, &mut effects);
        ports.record_effects(now, effects.as_slice());
        Driver { id, ports, running: Mutex::new(Running { machine, effects }), outgoing: Mutex::default() }
    }

    /// Gives the machine one input.
    pub fn input(&self, input: Input<M>) {
        self.step(|machine, now, effects| self.step_recorded(machine, now, input, effects));
    }

    /// Gives the machine several inputs, one after the other, and hands over all their effects together: what is sent
    /// leaves in as few writes as possible.
    pub fn inputs(&self, inputs: impl IntoIterator<Item = Input<M>>) {
        self.step(|machine, now, effects| {
            for input in inputs {
                self.step_recorded(machine, now, input, effects);
            }
        });
    }

    /// Within a [`Driver::step`]: records one input, and steps the machine with it.
    pub fn step_recorded(&self, machine: &mut M, now: Micros, input: Input<M>, effects: &mut Effects<M>) {
        self.ports.record_input(now, &input);
        machine.step(now, input, effects);
    }

    /// Hands over the effects of the machine's boot.
    pub fn release_boot_effects(&self) {
        self.step(|_, _, _| ());
    }

    /// Lets `act` step the machine, then hands over the effects.
    pub fn step<R>(&self, act: impl FnOnce(&mut M, Micros, &mut Effects<M>) -> R) -> R {
        let guard = StopOnPanic(self.id);
        let mut running = lock(&self.running);
        let now = clock::now(); // Under the lock, so that the steps' times have the steps' order.
        let Running { machine, effects } = &mut *running;
        let before = effects.as_slice().len();
        let result = act(machine, now, effects);
        self.ports.record_effects(now, &effects.as_slice()[before..]);
        if effects.is_empty() {
            return result;
        }
        let mut outgoing = lock(&self.outgoing);
        swap(effects, &mut *outgoing);
        drop(running);
        let others = self.tell(now, outgoing.as_slice());
        if others {
            self.ports.flush_observations();
        }
        let mut answers = Vec::new();
        for effect in outgoing.drain() {
            match effect {
                Effect::Send { to, message } => self.ports.send(to, message),
                Effect::Multicast { to, message } => self.ports.multicast(to, message),
                Effect::Append { id, entry } => self.ports.append(id, entry),
                Effect::Start(task) => self.ports.start(task),
                Effect::SetTimer { timer, after } => self.ports.set_timer(timer, after),
                Effect::Answer { token, answer } => answers.push((token, answer)),
                Effect::Note(_) => {}
            }
        }
        drop(outgoing);
        self.ports.flush_outboxes();
        drop(guard);
        answers.into_iter().for_each(|(token, answer)| self.ports.answer(token, answer));
        result
    }

    /// Hands the notes among `effects` to the ports. Returns whether there is any other effect.
    fn tell(&self, now: Micros, effects: &[Effect<M>]) -> bool {
        let mut others = false;
        for effect in effects {
            match effect {
                Effect::Note(note) => self.ports.observe(now, note),
                _ => others = true,
            }
        }
        others
    }

    /// Returns what `at` reads of the machine.
    pub fn inspect<R>(&self, at: impl FnOnce(&M) -> R) -> R {
        at(&lock(&self.running).machine)
    }

    /// The ports given at boot.
    pub fn ports(&self) -> &P {
        &self.ports
    }
}

/// Locks. No holder of a lock in this crate survives a panic, so none is ever found poisoned by a live process.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a thread panicked while it held this lock")
}

/// Ends the process when a machine panics: a broken invariant must not be swallowed by whatever runs the thread (tokio
/// would), because the machine's state can't be trusted any more and its promises must not be answered from it.
struct StopOnPanic<I: std::fmt::Debug>(I);

impl<I: std::fmt::Debug> Drop for StopOnPanic<I> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(
                std::io::stderr(),
                "broken invariant in {:?} (see the panic above): this process stops so that it does no harm",
                self.0
            );
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests;
