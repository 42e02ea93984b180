//! Answers to waits for durability that are held back although everything is durable: while a bound on what a failover
//! may lose is exceeded, a commit must not be known to its client.

use super::PageFs;
use crate::error::FsError;
use auriga_volume::VolumeError;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Answer = Box<dyn FnOnce(Result<(), FsError>) + Send>;

/// Answers that wait. There are as many as requests of the kernel wait, at most.
#[derive(Default)]
pub(super) struct Held {
    answers: Mutex<Option<Vec<Answer>>>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Answer>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an answer, now or once it is not held back any more. A failure is told at once.
    pub(super) fn answer(&self, result: Result<(), FsError>, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        if result.is_ok()
            && let Some(held) = self.lock().as_mut()
        {
            return held.push(Box::new(done));
        }
        done(result);
    }
}

impl PageFs {
    /// Holds back every answer that something is durable, from now on. Reads go on.
    pub fn hold_syncs(&self) {
        self.held.lock().get_or_insert_default();
    }

    /// Gives the answers that are held back, and holds none back any more. `lost`: whoever waited is told that the volume
    /// is lost, as it may be for what was written.
    pub fn release_syncs(&self, lost: bool) {
        let answers = self.held.lock().take();
        for answer in answers.into_iter().flatten() {
            answer(if lost || self.is_lost() { Err(FsError::Volume(VolumeError::Closed)) } else { Ok(()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn answers_wait_while_they_are_held_and_failures_do_not() {
        let held = Held::default();
        let (sender, receiver) = mpsc::channel();
        let ask = |result| {
            let sender = sender.clone();
            held.answer(result, move |result| sender.send(result.is_ok()).unwrap());
        };
        ask(Ok(()));
        assert_eq!(receiver.try_recv(), Ok(true));
        *held.lock() = Some(Vec::new());
        ask(Ok(()));
        assert!(receiver.try_recv().is_err(), "held back");
        ask(Err(FsError::ReadOnly));
        assert_eq!(receiver.try_recv(), Ok(false));
        let answers = held.lock().take().unwrap();
        assert_eq!(answers.len(), 1);
        answers.into_iter().for_each(|answer| answer(Ok(())));
        assert_eq!(receiver.try_recv(), Ok(true));
        ask(Ok(()));
        assert_eq!(receiver.try_recv(), Ok(true));
    }
}
