//! The role of an instance: what it is, what it was, and what it is asked to be.
//!
//! ```text
//!             ask(Promote)          the volume is open            PostgreSQL is ready
//!  Reader ─────────────────► Reader ─────────────────► Switching ─────────────────► Writer
//!    ▲                          │ no quorum                                            │
//!    ├──────────────────────────┘                                                      │
//!    └──────────────── Switching ◄─────────── ask(Demote), or fenced ◄─────────────────┘
//! ```
//!
//! A reader that is asked to be promoted goes on serving until the volume is open in its name: where that fails, nobody has
//! noticed. Nothing here is needed for safety: the storage decides who writes, by volume epochs.

use super::{InstanceRole, Transition};
use crate::health::now_ms;
use crate::supervise::Event;
use auriga_protocol::VolumeEpoch;
use auriga_volume::RemoteVolume;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};
use tokio::sync::watch;

/// How often whoever waits looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Role changes that are remembered.
const TRANSITIONS_MAX: usize = 20;

/// What an instance is asked to become.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// The writer.
    Promote,
    /// A reader.
    Demote,
}

impl fmt::Display for Turn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if *self == Turn::Promote { "promoted" } else { "demoted" })
    }
}

/// Shared by the admin port, which asks, and the instance's lives, which do.
#[derive(Clone)]
pub struct Roles(Arc<Shared>);

struct Shared {
    book: Mutex<Book>,
    changed: Condvar,
    settled: watch::Sender<Settled>,
}

struct Book {
    /// Whether the role may change.
    is_free: bool,
    role: InstanceRole,
    transitions: VecDeque<Transition>,
    /// A person has asked the process to end.
    is_stopping: bool,
    /// Turns that were asked for.
    asked: u64,
    turn: Option<(u64, Turn)>,
    /// Whether the turn has been begun.
    is_begun: bool,
    /// What runs is told to end.
    running: Option<SyncSender<Event>>,
    /// The volume, open in this instance's name: it is to be the writer now.
    opened: Option<Arc<RemoteVolume>>,
}

#[derive(Clone)]
struct Settled {
    number: u64,
    outcome: Result<(), String>,
}

impl Roles {
    /// The role of an instance that has just been started. Whether it `is_free` to change is up to its configuration.
    pub fn new(role: InstanceRole, is_free: bool) -> Roles {
        let book = Book {
            is_free,
            role,
            transitions: VecDeque::new(),
            is_stopping: false,
            asked: 0,
            turn: None,
            is_begun: false,
            running: None,
            opened: None,
        };
        let settled = watch::Sender::new(Settled { number: 0, outcome: Ok(()) });
        Roles(Arc::new(Shared { book: Mutex::new(book), changed: Condvar::new(), settled }))
    }

    /// Hears what comes to the process, as long as it lives.
    ///
    /// # Errors
    /// The operating system has no thread.
    pub fn hear(&self, receiver: Receiver<Event>) -> io::Result<()> {
        let heard = self.clone();
        std::thread::Builder::new().name("stopping".to_owned()).spawn(move || {
            while let Ok(event) = receiver.recv() {
                if matches!(event, Event::Stop) {
                    let mut book = heard.lock();
                    book.is_stopping = true;
                    book.tell(|| Event::Stop);
                    heard.0.changed.notify_all();
                }
            }
        })?;
        Ok(())
    }

    /// What it is.
    pub fn role(&self) -> InstanceRole {
        self.lock().role
    }

    /// What it is about to become, where it was asked.
    pub fn turn(&self) -> Option<Turn> {
        self.lock().turn.map(|(_, turn)| turn)
    }

    /// Its last role changes, the oldest first.
    pub fn transitions(&self) -> Vec<Transition> {
        self.lock().transitions.iter().cloned().collect()
    }

    /// Asks for a turn. Returns its number, for [`Roles::outcome`]; 0: it is that already. Who asks for a turn that is under
    /// way waits for the same one.
    ///
    /// # Errors
    /// Its role is fixed, it turns the other way just now, or the process is ending.
    pub fn ask(&self, turn: Turn) -> Result<u64, String> {
        let mut book = self.lock();
        match book.turn {
            _ if !book.is_free => Err("this instance's role is fixed (role = \"any\" would let it change)".to_owned()),
            _ if book.is_stopping => Err("this instance is stopping".to_owned()),
            Some((number, under_way)) if under_way == turn => Ok(number),
            Some((_, other)) => Err(format!("this instance is being {other} just now")),
            None if book.role == turn.leads_to() => Ok(0),
            // Fenced, and on its way.
            None if turn == Turn::Demote && book.role != InstanceRole::Writer => Ok(0),
            None => {
                book.asked += 1;
                book.turn = Some((book.asked, turn));
                book.is_begun = false;
                if turn == Turn::Demote {
                    book.tell(|| Event::Stop);
                }
                self.0.changed.notify_all();
                Ok(book.asked)
            }
        }
    }

    /// Waits for the end of a turn.
    ///
    /// # Errors
    /// It failed, and why.
    pub async fn outcome(&self, number: u64) -> Result<(), String> {
        if number == 0 {
            return Ok(());
        }
        let mut settled = self.0.settled.subscribe();
        match settled.wait_for(|settled| settled.number >= number).await {
            Ok(settled) => settled.outcome.clone(),
            Err(_) => Err("this instance has ended".to_owned()),
        }
    }

    /// Waits for a promotion to be asked for; `None`: the process ends.
    pub(super) fn next_promotion(&self) -> Option<()> {
        let mut book = self.lock();
        loop {
            match book.turn {
                _ if book.is_stopping => return None,
                Some((_, Turn::Promote)) if !book.is_begun => {
                    book.is_begun = true;
                    return Some(());
                }
                _ => book = self.0.changed.wait(book).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// The volume is open in this instance's name: whatever runs ends, and it becomes the writer.
    pub(super) fn hand_over(&self, volume: Arc<RemoteVolume>) {
        let mut book = self.lock();
        book.opened = Some(volume);
        book.tell(|| Event::Abandon);
    }

    /// The volume, where it was opened.
    pub(super) fn take_opened(&self) -> Option<Arc<RemoteVolume>> {
        self.lock().opened.take()
    }

    /// Ends the turn that is under way, if there is one.
    pub(super) fn settle(&self, outcome: Result<(), String>) {
        let mut book = self.lock();
        if let Some((number, turn)) = book.turn.take() {
            if let Err(why) = &outcome {
                tracing::warn!(why, "this instance could not be {turn}");
            }
            self.0.settled.send_replace(Settled { number, outcome });
        }
    }

    /// It has this role from now on.
    pub(super) fn becomes(&self, role: InstanceRole, volume_epoch: Option<VolumeEpoch>, why: &str) {
        let mut book = self.lock();
        if book.role == role {
            return;
        }
        book.role = role;
        book.transitions.push_back(Transition { at_ms: now_ms(), role, volume_epoch, why: why.to_owned() });
        while book.transitions.len() > TRANSITIONS_MAX {
            book.transitions.pop_front();
        }
        tracing::info!(?role, volume_epoch = volume_epoch.map(|epoch| epoch.to_string()), why, "ROLE");
    }

    /// What runs from now on is told when it is to end.
    pub(super) fn pass_on_to(&self, running: &SyncSender<Event>) {
        let mut book = self.lock();
        book.running = Some(running.clone());
        if book.is_stopping {
            book.tell(|| Event::Stop);
        } else if book.opened.is_some() {
            book.tell(|| Event::Abandon);
        }
    }

    /// What runs is to crash.
    pub(super) fn crash(&self) {
        self.lock().tell(|| Event::Crash);
    }

    /// Whether the process is to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.lock().is_stopping
    }

    /// Whether a reader is to end: with the process, or to become the writer.
    pub(super) fn is_interrupted(&self) -> bool {
        let book = self.lock();
        book.is_stopping || book.opened.is_some()
    }

    /// Returns once the process is to end.
    pub(super) async fn stopping(&self) {
        while !self.is_stopping() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Returns once a reader is to end.
    pub(super) async fn interrupted(&self) {
        while !self.is_interrupted() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Sleeps, unless a reader is to end.
    pub(super) fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_interrupted() && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn tell(&self, event: fn() -> Event) {
        // A queue that is full is that of a life that has ended.
        self.running.iter().for_each(|running| drop(running.try_send(event())));
    }
}

impl Turn {
    fn leads_to(self) -> InstanceRole {
        if self == Turn::Promote { InstanceRole::Writer } else { InstanceRole::Reader }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::events;

    fn outcome(roles: &Roles, number: u64) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(roles.outcome(number))
    }

    #[test]
    fn a_wish_to_stop_reaches_what_runs_and_what_runs_later() {
        let (sender, receiver) = events();
        let roles = Roles::new(InstanceRole::Reader, false);
        roles.hear(receiver).unwrap();
        let (first, told) = events();
        roles.pass_on_to(&first);
        assert!(!roles.is_stopping());
        sender.send(Event::Stop).unwrap();
        assert!(matches!(told.recv_timeout(Duration::from_secs(60)), Ok(Event::Stop)));
        assert!(roles.is_stopping());
        let (second, told) = events();
        roles.pass_on_to(&second);
        assert!(matches!(told.try_recv(), Ok(Event::Stop)));
        assert_eq!(roles.next_promotion(), None);
    }

    #[test]
    fn one_turn_at_a_time_and_who_asks_for_the_same_waits_for_the_same() {
        let roles = Roles::new(InstanceRole::Reader, true);
        assert_eq!(
            (roles.ask(Turn::Demote), roles.ask(Turn::Promote), roles.ask(Turn::Promote)),
            (Ok(0), Ok(1), Ok(1))
        );
        assert!(roles.ask(Turn::Demote).unwrap_err().contains("being promoted"));
        assert_eq!(roles.next_promotion(), Some(()));
        roles.settle(Err("no quorum".to_owned()));
        assert_eq!((outcome(&roles, 1), roles.turn()), (Err("no quorum".to_owned()), None));
        assert_eq!(roles.ask(Turn::Promote), Ok(2));
        assert_eq!(roles.next_promotion(), Some(()));
        roles.becomes(InstanceRole::Writer, None, "promoted");
        roles.settle(Ok(()));
        assert_eq!((outcome(&roles, 2), roles.ask(Turn::Promote)), (Ok(()), Ok(0)));
        let (running, told) = events();
        roles.pass_on_to(&running);
        assert_eq!(roles.ask(Turn::Demote), Ok(3));
        assert!(matches!(told.try_recv(), Ok(Event::Stop)), "a fast shutdown");
        for round in 0..50 {
            roles.becomes([InstanceRole::Reader, InstanceRole::Writer][round % 2], None, "again");
        }
        assert_eq!(roles.transitions().len(), TRANSITIONS_MAX);
    }

    #[test]
    fn a_fixed_role_stays() {
        let roles = Roles::new(InstanceRole::Writer, false);
        assert!(roles.ask(Turn::Demote).unwrap_err().contains("fixed"));
    }
}
