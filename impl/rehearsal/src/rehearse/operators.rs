//! What operators do with directories: they lose them, restore old ones, exchange them, bring in another cluster's, and
//! break them, of up to two storage processes at a time, under load.
//!
//! Each round ends with six whole copies: a process that finds nothing rebuilds itself from its peers; what is refused is
//! refused with a line that says what was found and what to do, and the round then does that (`auriga set-aside`, or the
//! right directory put back). Meanwhile another process may stand still, an instance be killed, a second one take over.
//!
//! In every eighth round three to five processes lose their directories or get another cluster's. Then the volume must
//! not be served, or be served whole; and no command may make anything over what is left. The round ends with the right
//! directories put back.
//!
//! **Not covered.** Power cuts are not combined with this: the disk that forgets does not rename directories.

use super::Rehearsal;
use super::directories::{another_clusters, break_file, copy, remove};
use crate::demo::WRITER;
use crate::demo::control::Action;
use crate::demo::layout::STORAGE;
use crate::tour::TourError;
use auriga_net::admin::{Condition, NodeStatus};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Of so many rounds, one breaks more than can be borne.
const TOO_MANY_EVERY: u32 = 8;
/// A process that was tampered with says what is wrong, or is whole, within this time.
const VERDICT_LIMIT: Duration = Duration::from_secs(120);
/// How long a volume that must not be served is watched.
const WATCHED: Duration = Duration::from_secs(15);

/// What is done to a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Delete,
    Break,
    OldCopy,
    Swap,
    OfAnotherCluster,
}

impl Rehearsal<'_> {
    /// One round.
    pub(super) fn operate(&mut self, round: u32) -> Result<String, TourError> {
        if round == 1 {
            another_clusters(self.demo)?;
        }
        if round.is_multiple_of(TOO_MANY_EVERY) {
            return self.break_too_many();
        }
        let victims = self.victims();
        let mut act = [Act::Delete, Act::Break, Act::OldCopy, Act::Swap, Act::OfAnotherCluster][self.random.usize(..5)];
        if act == Act::Swap && victims.len() < 2 {
            act = Act::OfAnotherCluster;
        }
        self.wait_until_caught_up()?;
        if act == Act::OldCopy {
            self.keep_copies(&victims)?;
            self.work();
        }
        let beside = self.something_else(&victims)?;
        for name in &victims {
            self.demo.cluster().0.kill(name)?;
        }
        let done = self.tamper(act, &victims)?;
        for name in &victims {
            self.demo.start(name)?;
        }
        for name in STORAGE {
            self.demo.cluster().0.process(name)?.resume();
        }
        for name in &victims {
            self.mend(name)?;
        }
        self.wait_for_commits()?;
        self.wait_until_whole()?;
        Ok(format!("{} {done}{beside}", victims.join(" ")))
    }

    /// One, two of an AZ, or one in each of two AZs.
    fn victims(&mut self) -> Vec<&'static str> {
        let first = self.random.usize(..STORAGE.len());
        match self.random.u8(..3) {
            0 => vec![STORAGE[first]],
            1 => vec![STORAGE[first / 2 * 2], STORAGE[first / 2 * 2 + 1]],
            _ => vec![STORAGE[first], STORAGE[(first + 2 + self.random.usize(..2) * 2) % STORAGE.len()]],
        }
    }

    /// A lagging copy, a killed instance, a rival, or nothing.
    fn something_else(&mut self, victims: &[&str]) -> Result<String, TourError> {
        match self.random.u8(..4) {
            0 => {
                let others: Vec<_> = STORAGE.into_iter().filter(|name| !victims.contains(name)).collect();
                let lagging = others[self.random.usize(..others.len())];
                self.inject(Action::Freeze, lagging)?;
                std::thread::sleep(Duration::from_millis(self.random.u64(100..1000)));
                Ok(format!("; {lagging} stood still"))
            }
            1 => {
                let name = self.instance_name();
                self.demo.cluster().0.kill(name)?;
                self.demo.start(name)?;
                Ok("; the instance was killed".to_owned())
            }
            2 => self.take_over().map(|_| "; a rival took over".to_owned()),
            _ => Ok(String::new()),
        }
    }

    fn instance_name(&self) -> &'static str {
        [WRITER, "writer-2"][self.instance]
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.demo.layout().storage().join(name)
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.demo.layout().dir.join(format!("kept-{name}"))
    }

    /// Copies the directories of processes that are stopped for it.
    fn keep_copies(&mut self, names: &[&str]) -> Result<(), TourError> {
        for name in names {
            self.demo.cluster().0.kill(name)?;
            let kept = self.kept(name);
            remove(&kept)?;
            copy(&self.directory(name), &kept)?;
            self.demo.start(name)?;
            self.wait_until_caught_up()?;
        }
        Ok(())
    }

    fn tamper(&mut self, act: Act, victims: &[&str]) -> Result<String, TourError> {
        let mut what = format!("{act:?}");
        for name in victims {
            let directory = self.directory(name);
            match act {
                Act::Delete => remove(&directory)?,
                Act::Break => what = break_file(&directory, &mut self.random)?,
                Act::OldCopy => {
                    remove(&directory)?;
                    copy(&self.kept(name), &directory)?;
                }
                Act::OfAnotherCluster => {
                    let kept = self.kept(name);
                    remove(&kept)?;
                    copy(&directory, &kept)?;
                    remove(&directory)?;
                    copy(&another_clusters(self.demo)?.join(name), &directory)?;
                }
                Act::Swap => {}
            }
        }
        if let (Act::Swap, [first, second]) = (act, victims) {
            let between = self.kept("between");
            remove(&between)?;
            copy(&self.directory(first), &between)?;
            remove(&self.directory(first))?;
            copy(&self.directory(second), &self.directory(first))?;
            remove(&self.directory(second))?;
            copy(&between, &self.directory(second))?;
        }
        Ok(what)
    }

    /// Waits until the process is whole by itself, or refuses; then does as it says.
    fn mend(&mut self, name: &str) -> Result<(), TourError> {
        let deadline = Instant::now() + VERDICT_LIMIT;
        loop {
            let status = self.status_of(name);
            let refused = status.as_ref().and_then(refusal);
            if let Some(said) = refused {
                if !said.contains("set-aside") {
                    return Err(TourError::Unexpected(format!("{name} refuses, and does not say what to do: {said}")));
                }
                return self.set_aside(name);
            }
            if status.as_ref().is_some_and(is_whole) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(TourError::Unexpected(format!("{name} is neither whole nor refused: {status:?}")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn set_aside(&mut self, name: &str) -> Result<(), TourError> {
        self.demo.cluster().0.kill(name)?;
        let config = self.demo.layout().dir.join("config").join(format!("{name}.toml"));
        let (moved, said) = auriga(&["set-aside", "--config", &config.to_string_lossy()])?;
        if !moved || !said.contains("found: ") {
            return Err(TourError::Unexpected(format!("{name} is refused, but set-aside says: {said}")));
        }
        self.demo.start(name)?;
        Ok(())
    }

    fn status_of(&self, name: &str) -> Option<NodeStatus> {
        let layout = self.demo.layout();
        let index = STORAGE.iter().position(|known| *known == name)?;
        let asked = auriga_admin::storage::status(layout.storage_address(index), self.demo.access());
        self.demo.runtime().block_on(asked).ok()
    }

    /// Waits until all six hold a segment that counts, and have caught up.
    fn wait_until_whole(&self) -> Result<(), TourError> {
        let deadline = Instant::now() + VERDICT_LIMIT;
        while !STORAGE.iter().all(|name| self.status_of(name).as_ref().is_some_and(is_whole)) {
            if Instant::now() >= deadline {
                let states: Vec<_> = STORAGE.iter().map(|name| self.status_of(name)).collect();
                return Err(TourError::Unexpected(format!("not all six are whole again: {states:?}")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.wait_until_caught_up()
    }

    /// Three to five lose what they have.
    fn break_too_many(&mut self) -> Result<String, TourError> {
        let mut names = STORAGE.to_vec();
        self.random.shuffle(&mut names);
        let victims = names.split_off(STORAGE.len() - self.random.usize(3..=5));
        let foreign = self.random.bool();
        self.wait_until_caught_up()?;
        self.demo.cluster().0.kill_all();
        for name in &victims {
            let (directory, kept) = (self.directory(name), self.kept(name));
            remove(&kept)?;
            std::fs::rename(&directory, &kept).map_err(|error| TourError::Unexpected(error.to_string()))?;
            if foreign {
                copy(&another_clusters(self.demo)?.join(name), &directory)?;
            }
        }
        for name in STORAGE {
            self.demo.start(name)?;
        }
        let served = self.watch()?;
        let config = self.demo.layout().dir.join("config").join(format!("{}.toml", self.instance_name()));
        let (made, said) = auriga(&["create-volume", "--config", &config.to_string_lossy()])?;
        if made || !said.contains("nothing was made") {
            return Err(TourError::Unexpected(format!("with {} lost, create-volume says: {said}", victims.join(" "))));
        }
        self.demo.cluster().0.kill_all();
        for name in &victims {
            remove(&self.directory(name))?;
            std::fs::rename(self.kept(name), self.directory(name))
                .map_err(|error| TourError::Unexpected(error.to_string()))?;
        }
        for name in STORAGE {
            self.demo.start(name)?;
        }
        self.demo.start(self.instance_name())?;
        self.wait_for_commits()?;
        self.wait_until_whole()?;
        let kind = if foreign { "another cluster's" } else { "lost" };
        Ok(format!("{} {kind}: {served}; whole when put back", victims.join(" ")))
    }

    /// Starts the instance, and looks at what it serves, if it does.
    fn watch(&mut self) -> Result<&'static str, TourError> {
        let name = self.instance_name();
        self.demo.cluster().0.start(name)?;
        let until = Instant::now() + WATCHED;
        while Instant::now() < until {
            if let Ok(verdict) = self.verify() {
                return match verdict.is_clean() {
                    true => Ok("served whole"),
                    false => Err(TourError::Unexpected(format!("an older database is served: {verdict:?}"))),
                };
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok("not served")
    }
}

/// What a process says of a store or a segment that it refuses.
fn refusal(status: &NodeStatus) -> Option<String> {
    match &status.condition {
        Condition::Refused { found, advice } => Some(format!("{found}. {advice}")),
        Condition::Serving | Condition::Blank { .. } => status.warnings.first().cloned(),
    }
}

/// Whether a process holds something that counts.
fn is_whole(status: &NodeStatus) -> bool {
    status.warnings.is_empty()
        && !status.segments.is_empty()
        && status.segments.iter().all(|(_, segment)| !segment.rejoining && !segment.unregistered && !segment.hydrating)
}

/// Runs a command of this program; answers whether it succeeded, and what it said.
fn auriga(arguments: &[&str]) -> Result<(bool, String), TourError> {
    let run = || Command::new(std::env::current_exe()?).args(arguments).output();
    let output = run().map_err(|error| TourError::Unexpected(format!("auriga {}: {error}", arguments[0])))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}
