//! Full disks: of one storage process, of as many as make commits wait, of all six.

use super::{Rehearsal, disk};
use crate::demo::layout::STORAGE;
use crate::tour::TourError;
use std::time::{Duration, Instant};

/// What a storage process logs when its disk is full, and when it is not any more.
const SAID: [&str; 2] = ["the disk is full", "the disk has room again"];
/// Room that is left on a disk that is filled: not even a journal file's.
const LEFT_MAX: u64 = 4 << 20;
/// Every full disk is noticed within this time, and every one that has room again.
const NOTICE_LIMIT: Duration = Duration::from_secs(20);
/// What was under way when the disk was found to be full has been answered.
const SETTLE: Duration = Duration::from_millis(500);
/// Commits are looked at for this long to see that they wait.
const WAIT: Duration = Duration::from_secs(2);
/// With this many full, four others are left.
const BEARABLE: usize = 2;

impl Rehearsal<'_> {
    /// Fills the disks of one, two, three or six processes, and frees them.
    pub(super) fn fill_disks(&mut self) -> Result<String, TourError> {
        let mut names = STORAGE.to_vec();
        self.random.shuffle(&mut names);
        names.truncate([1, BEARABLE, BEARABLE + 1, STORAGE.len()][self.random.usize(0..4)]);
        names.sort_unstable();
        let said = self.said(&names)?;
        self.bank.ledger().take_observations();

        let begun = Instant::now();
        disk(self.demo)?.fill(&names, self.random.u64(..LEFT_MAX));
        self.wait_until_full(&names, true)?;
        let noticed = begun.elapsed();
        let meanwhile = match names.len() <= BEARABLE {
            true => self.commits_go_on()?,
            false => self.commits_wait()?,
        };
        let restarted = self.random.u8(0..3) == 0;
        if restarted {
            self.demo.cluster().0.kill(names[0])?;
            self.demo.start(names[0])?;
            self.wait_until_full(&names, true)?;
        }

        let begun = Instant::now();
        disk(self.demo)?.make_room(&names);
        self.wait_until_full(&names, false)?;
        let lifted = begun.elapsed();
        self.wait_for_commits()?;
        self.wait_until_caught_up()?;
        self.no_client_was_told()?;
        self.each_said_it_once(&names, &said, usize::from(restarted))?;
        Ok(format!(
            "{} full, noticed after {} ms: {meanwhile}{}; room noticed after {} ms",
            names.join(" "),
            noticed.as_millis(),
            if restarted { format!("; {} killed and restarted", names[0]) } else { String::new() },
            lifted.as_millis()
        ))
    }

    fn commits_go_on(&mut self) -> Result<String, TourError> {
        let before = self.bank.ledger().acknowledged();
        self.work();
        self.wait_for_commits()?;
        Ok(format!("{} commits", self.bank.ledger().acknowledged() - before))
    }

    fn commits_wait(&self) -> Result<String, TourError> {
        std::thread::sleep(SETTLE);
        let before = self.bank.ledger().acknowledged();
        std::thread::sleep(WAIT);
        match self.bank.ledger().acknowledged() - before {
            0 => Ok("commits wait".to_owned()),
            more => Err(TourError::Unexpected(format!("{more} commits, with too few disks that have room"))),
        }
    }

    /// Waits until the status of each of them says that its disk is full, or is not.
    fn wait_until_full(&self, names: &[&str], full: bool) -> Result<(), TourError> {
        let layout = self.demo.layout();
        let deadline = Instant::now() + NOTICE_LIMIT;
        for (index, name) in STORAGE.iter().enumerate().filter(|(_, name)| names.contains(name)) {
            loop {
                let asked = auriga_admin::storage::status(layout.storage_address(index), self.demo.access());
                let status = self.demo.runtime().block_on(asked);
                if status.is_ok_and(|status| status.segments.iter().all(|(_, segment)| segment.disk_full == full)) {
                    break;
                }
                if Instant::now() >= deadline {
                    let what = if full { "full" } else { "free again" };
                    return Err(TourError::Unexpected(format!("the disk of {name} is {what}, and it does not say so")));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// A commit that waited is none that failed.
    fn no_client_was_told(&self) -> Result<(), TourError> {
        let (_, told) = self.bank.ledger().take_observations();
        match told.is_empty() {
            true => Ok(()),
            false => Err(TourError::Unexpected(format!("disks were full, and clients were told: {told:?}"))),
        }
    }

    fn each_said_it_once(&self, names: &[&str], before: &[[usize; 2]], restarts: usize) -> Result<(), TourError> {
        for ((name, before), after) in names.iter().zip(before).zip(self.said(names)?) {
            let full = 1 + if *name == names[0] { restarts } else { 0 };
            let more = [after[0] - before[0], after[1] - before[1]];
            if more != [full, 1] {
                return Err(TourError::Unexpected(format!("the log of {name} says {SAID:?} {more:?} times")));
            }
        }
        Ok(())
    }

    /// How often each of them has logged [`SAID`].
    fn said(&self, names: &[&str]) -> Result<Vec<[usize; 2]>, TourError> {
        let count = |name: &&str| {
            let text = self.log(name)?;
            Ok(SAID.map(|said| text.lines().filter(|line| line.contains(said)).count()))
        };
        names.iter().map(count).collect()
    }
}
