//! Whether the writer is gone.

use super::seen::{RoleSeen, Seen};
use super::{Controller, Millis};

/// There is no writer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Gone {
    /// For a person.
    pub reason: String,
    /// An instance that takes over must have answered since then.
    pub since: Millis,
}

impl Controller {
    /// Judges the writer. `None`: it writes, or it is too early to tell.
    pub(super) fn gone(&self, now: Millis) -> Option<Gone> {
        // After a start, one of those that have yet to answer may be the writer.
        let known = |seen: &Seen| seen.said().is_some() || seen.is_gone(now, &self.limits);
        if !self.seen.values().all(known) || self.is_of_secondary(now) {
            return None;
        }
        let writer = self.kept.writer.as_ref().and_then(|name| Some((name, self.seen.get(name)?)));
        match writer {
            Some((name, seen)) => self.judge(now, name, seen),
            None => self.judge_absence(now),
        }
    }

    fn judge(&self, now: Millis, name: &str, seen: &Seen) -> Option<Gone> {
        let limits = &self.limits;
        if seen.is_gone(now, limits) {
            let (limit, what) = match seen.is_refused(now, limits) {
                true => (limits.refused_ms, "its host refuses connections"),
                false => (limits.silent_ms, "it does not answer"),
            };
            let since = seen.unanswered()?;
            let hears = self.hears(now, name, since, limit)?;
            return Some(Gone { reason: format!("{name}: {what} since {} ms{hears}", now.since(since)), since });
        }
        // What it said last still counts: it has only just become silent.
        let said = seen.said()?;
        if said.role != RoleSeen::Writer {
            let since = seen.not_writing()?;
            // As a reader, it is itself one who may hear a writer.
            self.hears(now, "", since, limits.refused_ms)?;
            // It may be about to write again, or somebody else may be.
            if self.somebody_is(now, RoleSeen::Changing) && now.since(since) < limits.promotion_ms {
                return None;
            }
            return Some(Gone { reason: format!("{name} says that it does not write"), since });
        }
        if now < self.cool_until {
            return None;
        }
        if let Some(since) = seen.unready().filter(|&since| now.since(since) >= limits.unready_ms) {
            let reason = format!("{name} has not let clients in for {} s", now.since(since) / 1000);
            return Some(Gone { reason, since });
        }
        // A writer that storage has only just come back for goes on by itself in a moment.
        let answers = |&(since, last): &(Millis, Millis)| {
            now.since(last) < limits.silent_ms && now.since(since) >= limits.stalled_ms / 2
        };
        match self.storage_reached.filter(answers) {
            Some((_, last)) if said.stalled_ms >= limits.stalled_ms => Some(Gone {
                reason: format!("{name} waits for storage since {} ms, and storage answers others", said.stalled_ms),
                since: Millis(last.0.saturating_sub(limits.silent_ms)),
            }),
            _ => None,
        }
    }

    /// Nobody has ever been seen to write: the cluster is new, or so is what this process knows.
    fn judge_absence(&self, now: Millis) -> Option<Gone> {
        if self.somebody_is(now, RoleSeen::Changing) || self.somebody_is(now, RoleSeen::Writer) {
            return None;
        }
        self.hears(now, "", Millis(0), self.limits.silent_ms)?;
        Some(Gone { reason: "no instance has been seen to write".to_owned(), since: Millis(0) })
    }

    /// Whether nobody is to write: the region is not the primary of its global database, as an instance says that answers.
    fn is_of_secondary(&self, now: Millis) -> bool {
        let answers = || self.seen.values().filter_map(|seen| seen.answer(now, &self.limits));
        answers().any(|said| said.is_of_secondary) && !answers().any(|said| said.role == RoleSeen::Writer)
    }

    fn somebody_is(&self, now: Millis, role: RoleSeen) -> bool {
        self.seen.values().any(|seen| seen.answer(now, &self.limits).is_some_and(|said| said.role == role))
    }

    /// Asks the readers about a writer that has been missed since then. `None`: one of them hears it, or has yet to
    /// say. Otherwise, for a person, how many do not.
    fn hears(&self, now: Millis, writer: &str, since: Millis, limit: u64) -> Option<String> {
        #[cfg(test)]
        if self.defect == Some(super::tests::Defect::IgnoreReaders) {
            return Some(String::new());
        }
        let mut asked = 0;
        for (name, seen) in &self.seen {
            let Some(said) = seen.answer(now, &self.limits) else { continue };
            // One that has only just started and never heard a writer can't say that there is none.
            if name == writer || said.role != RoleSeen::Reader || said.writer_heard_ms.is_none() {
                continue;
            }
            asked += 1;
            let said = seen.answer_since(since)?;
            if said.writer_heard_ms.is_some_and(|ago| ago < limit) {
                return None;
            }
        }
        Some(match asked {
            0 => String::new(),
            1 => ", and the reader that answers does not hear it".to_owned(),
            n => format!(", and the {n} readers that answer do not hear it"),
        })
    }
}
