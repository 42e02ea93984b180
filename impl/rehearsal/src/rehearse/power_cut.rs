//! Power cuts: processes are killed, and their disks forget what was not synchronised.

use super::{Rehearsal, disk};
use crate::demo::Demo;
use crate::demo::layout::{Layout, STORAGE};
use crate::tour::TourError;
use crate::volatile_disk::Cut;
use std::time::Duration;

/// What a storage process logs when it takes its files for damaged. After an honest power cut, none may.
const TAKEN_FOR_DAMAGE: [&str; 2] = ["the journal is damaged", "base pages were lost"];

/// From now on, the disks keep nothing.
///
/// # Errors
/// They are not volatile disks.
pub fn lie(demo: &Demo) -> Result<(), TourError> {
    println!("the disks lie: nothing that is synchronised from now on is kept");
    disk(demo)?.lie();
    Ok(())
}

impl Rehearsal<'_> {
    /// Cuts the power of everything, or of one AZ.
    pub(super) fn cut_power(&mut self) -> Result<String, TourError> {
        let logged = self.taken_for_damage()?;
        let what = match self.random.u8(0..3) {
            0 => self.cut_az()?,
            _ => self.cut_everything()?,
        };
        match self.taken_for_damage()? - logged {
            0 => Ok(what),
            more => Err(TourError::Unexpected(format!("{what}: {more} times, a power cut was taken for damage"))),
        }
    }

    fn cut_everything(&mut self) -> Result<String, TourError> {
        let disk = disk(self.demo)?;
        disk.power_off(&STORAGE);
        self.demo.cluster().0.kill_all();
        let cut = disk.power_on(&STORAGE).map_err(volatile)?;
        let ready = self.start_everything()?;
        Ok(format!("all, {}; ready after {} ms", text(cut), ready.as_millis()))
    }

    /// The other two AZs go on.
    fn cut_az(&mut self) -> Result<String, TourError> {
        let disk = disk(self.demo)?;
        let az = Layout::az(STORAGE[self.random.usize(0..STORAGE.len())]);
        let names: Vec<&str> = STORAGE.into_iter().filter(|name| Layout::az(name) == az).collect();
        disk.power_off(&names);
        for name in &names {
            self.demo.cluster().0.kill(name)?;
        }
        let cut = disk.power_on(&names).map_err(volatile)?;
        self.wait_for_commits()?;
        self.work();
        for name in &names {
            self.demo.start(name)?;
            std::thread::sleep(Duration::from_millis(self.random.u64(0..300)));
        }
        self.wait_for_commits()?;
        self.wait_until_caught_up()?;
        Ok(format!("az-{az}, {}", text(cut)))
    }

    /// How often storage processes have logged that their files are damaged.
    fn taken_for_damage(&self) -> Result<usize, TourError> {
        let mut count = 0;
        for name in STORAGE {
            let text = self.log(name)?;
            count += text.lines().filter(|line| TAKEN_FOR_DAMAGE.iter().any(|said| line.contains(said))).count();
        }
        Ok(count)
    }
}

fn text(cut: Cut) -> String {
    format!("writes kept {} dropped {} torn {}", cut.kept, cut.dropped, cut.torn)
}

fn volatile(error: std::io::Error) -> TourError {
    TourError::Unexpected(format!("the volatile disk: {error}"))
}
