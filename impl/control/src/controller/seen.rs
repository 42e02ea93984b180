//! What is known of an instance.

use super::{Epoch, Limits, Millis};
use serde::{Deserialize, Serialize};

/// How many times longer than others an instance may be silent that was asked to become the writer.
const BUSY: u64 = 5;

/// What an instance does, as far as a failover is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleSeen {
    /// It writes the volume.
    Writer,
    /// It follows the writer.
    Reader,
    /// It is between the two, or was asked to become the other.
    Changing,
}

/// What an instance says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Said {
    /// What it does.
    pub role: RoleSeen,
    /// Whether its PostgreSQL lets clients in.
    pub is_ready: bool,
    /// Its Availability Zone.
    pub az: String,
    /// Its promotion tier: the lowest is promoted first.
    pub tier: u8,
    /// Its own volume epoch as a writer; of the one that it follows as a reader.
    pub volume_epoch: Epoch,
    /// How far it is.
    pub read_point: u64,
    /// A reader: how long ago it heard its writer. `None`: it has heard none since it started.
    pub writer_heard_ms: Option<u64>,
    /// A writer: how long its oldest write has waited for storage.
    pub stalled_ms: u64,
    /// Whether its region is not the primary of its global database, so that nobody there may write.
    #[serde(default)]
    pub is_of_secondary: bool,
}

/// What came of a look at an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look {
    /// It answered.
    Said(Said),
    /// Its host refused or reset the connection: nothing runs there.
    Refused,
    /// No answer in time, or none that could be understood.
    Silent,
}

/// The looks at an instance so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The newest answer, and when it was asked for.
    answer: Option<(Millis, Said)>,
    /// When the first of the looks was made that have had no answer since the newest one.
    unanswered: Option<Millis>,
    /// When the first of the refusals came that have come in a row.
    refused: Option<Millis>,
    /// When the first of the answers came that say in a row that it writes and does not serve.
    unready: Option<Millis>,
    /// When the first of the answers came that say in a row that it does not write.
    not_writing: Option<Millis>,
}

impl Seen {
    /// Takes in a look that was made at `asked` and ended `now`.
    pub(super) fn take(&mut self, asked: Millis, now: Millis, look: Look) {
        match look {
            Look::Said(said) => {
                let writes = said.role == RoleSeen::Writer;
                set(&mut self.unready, writes && !said.is_ready, now);
                set(&mut self.not_writing, !writes, now);
                self.answer = Some((asked, said));
                (self.unanswered, self.refused) = (None, None);
            }
            Look::Refused => {
                self.unanswered.get_or_insert(asked);
                self.refused.get_or_insert(asked);
            }
            Look::Silent => {
                self.unanswered.get_or_insert(asked);
                self.refused = None;
            }
        }
    }

    /// The newest answer, however old.
    pub(super) fn said(&self) -> Option<&Said> {
        self.answer.as_ref().map(|(_, said)| said)
    }

    /// The newest answer, where it has not been followed by silence for too long.
    pub(super) fn answer(&self, now: Millis, limits: &Limits) -> Option<&Said> {
        if self.is_gone(now, limits) { None } else { self.said() }
    }

    /// The newest answer, where nothing has followed it and it was asked for since then.
    pub(super) fn answer_since(&self, since: Millis) -> Option<&Said> {
        let (asked, said) = self.answer.as_ref()?;
        (self.unanswered.is_none() && *asked >= since).then_some(said)
    }

    /// Whether it has not answered for too long.
    pub(super) fn is_gone(&self, now: Millis, limits: &Limits) -> bool {
        self.is_refused(now, limits) || self.is_silent(now, limits)
    }

    /// Whether its host has refused connections for too long.
    pub(super) fn is_refused(&self, now: Millis, limits: &Limits) -> bool {
        self.refused.is_some_and(|since| now.since(since) >= limits.refused_ms)
    }

    /// Whether it has been silent for too long.
    pub(super) fn is_silent(&self, now: Millis, limits: &Limits) -> bool {
        self.unanswered.is_some_and(|since| now.since(since) >= limits.silent_ms)
    }

    /// Whether nobody can expect any more that it ends what it was asked to do: such work can make an instance slow to
    /// answer.
    pub(super) fn has_given_up(&self, now: Millis, limits: &Limits) -> bool {
        let silent = self.unanswered.is_some_and(|since| now.since(since) >= BUSY * limits.silent_ms);
        self.is_refused(now, limits) || silent
    }

    /// When the first look without an answer was made.
    pub(super) fn unanswered(&self) -> Option<Millis> {
        self.unanswered
    }

    /// Since when it has written without serving.
    pub(super) fn unready(&self) -> Option<Millis> {
        self.unready
    }

    /// Since when it has said that it does not write.
    pub(super) fn not_writing(&self) -> Option<Millis> {
        self.not_writing
    }
}

/// Begins a time, goes on with it, or ends it.
fn set(since: &mut Option<Millis>, holds: bool, now: Millis) {
    match holds {
        true => drop(since.get_or_insert(now)),
        false => *since = None,
    }
}
