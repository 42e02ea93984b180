//! Processes that work on, or stand still, while others take their place.

use super::Rehearsal;
use crate::demo::WRITER;
use crate::demo::control::Action;
use crate::demo::layout::{Layout, STORAGE};
use crate::tour::TourError;
use auriga_instance::node::EXIT_FENCED;
use std::time::{Duration, Instant};

/// The two instances that take over from each other, by their numbers.
const INSTANCES: [&str; 2] = [WRITER, "writer-2"];
/// How late each message of slow storage is, in milliseconds.
const SLOW_MS: u32 = 10;
/// An overtaken instance has found out and ended within this time.
const FENCED_LIMIT: Duration = Duration::from_secs(20);

impl Rehearsal<'_> {
    /// The clients stay with the old instance as long as it serves them, so that its records meet the promises that the
    /// new one collects.
    pub(super) fn take_over(&mut self) -> Result<String, TourError> {
        let (old, new) = (INSTANCES[self.instance], INSTANCES[1 - self.instance]);
        if self.demo.cluster().0.address(new).is_err() {
            self.demo.cluster().0.add_instance(new, 1);
        }
        self.inject(Action::Slow, "storage")?;
        let begun = Instant::now();
        self.demo.start(new)?;
        let ready = begun.elapsed();
        self.instance = 1 - self.instance;
        self.server = self.demo.postgres(self.instance as u8);
        self.bank.set_servers(vec![self.server]);
        let status = self.demo.cluster().0.process(old)?.wait(FENCED_LIMIT);
        self.demo.cluster().0.kill(old)?;
        if status.and_then(|status| status.code()) != Some(EXIT_FENCED.into()) {
            return Err(TourError::Unexpected(format!("{old} was overtaken, and ended with {status:?}")));
        }
        self.inject(Action::Heal, "storage")?;
        self.wait_for_commits()?;
        Ok(format!("{new} took over from {old}; ready after {} ms", ready.as_millis()))
    }

    /// Two copies are no write quorum, so nothing of the tail was acknowledged; a recovery that does not see them annuls
    /// it, and they must drop it when they are back.
    pub(super) fn lose_tail(&mut self) -> Result<String, TourError> {
        let alone = ["az-a", "az-b", "az-c"][self.random.usize(..3)];
        let lost = STORAGE.into_iter().filter(|name| !alone.ends_with(&Layout::az(name)));
        // At one moment: a copy that lives a little longer gets everything that anybody waits for.
        for name in lost.clone() {
            self.demo.cluster().0.process(name)?.kill_soon();
        }
        std::thread::sleep(Duration::from_millis(self.random.u64(300..800)));
        self.inject(Action::Freeze, alone)?;
        self.demo.cluster().0.kill(WRITER)?;
        for name in lost {
            self.demo.cluster().0.kill(name)?;
            self.demo.start(name)?;
        }
        self.demo.start(WRITER)?;
        self.wait_for_commits()?;
        self.work();
        self.inject(Action::Resume, alone)?;
        self.wait_until_caught_up()?;
        Ok(format!("{WRITER} killed when it reached {alone} only"))
    }

    /// What waits for a process that stands still reaches it all at once, and in any order between its connections.
    pub(super) fn stall(&mut self) -> Result<String, TourError> {
        let mut names = STORAGE.to_vec();
        self.random.shuffle(&mut names);
        let stalled = &names[..self.random.usize(1..=2)];
        for name in stalled {
            self.inject(Action::Freeze, name)?;
        }
        std::thread::sleep(Duration::from_millis(self.random.u64(100..1000)));
        for name in stalled {
            self.inject(Action::Resume, name)?;
        }
        self.wait_for_commits()?;
        Ok(format!("{} stood still", stalled.join(" ")))
    }

    pub(super) fn inject(&self, action: Action, target: &str) -> Result<(), TourError> {
        let mut members = self.demo.cluster();
        let (cluster, faults) = &mut *members;
        let outcome = faults.apply(cluster, self.demo.runtime().handle(), target, action, SLOW_MS)?;
        match outcome.not_done.first() {
            None => Ok(()),
            Some((name, why)) => Err(TourError::Unexpected(format!("{action:?} of {name}: {why}"))),
        }
    }
}
