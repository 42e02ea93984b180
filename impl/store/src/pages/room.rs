//! Giving room back to the file system: holes where pages were that are no longer needed.
//!
//! A page that is written again goes to another slot, so a file under updates always has free slots, and the next
//! commit takes them: to give their room back and to ask for it again at once would cost both times. So a file keeps a
//! part of them, and gives back only what no commit has needed since it was looked at the last time. A file whose pages
//! were dropped is small after two looks; one under steady updates makes no holes at all.
//!
//! It is safe whenever the power is cut: a slot becomes free only when the commit that frees it is durable, and from then
//! on no opening looks at its content.

use super::file::PageFile;
use super::format::content_at;
use crate::PAGE_SIZE;
use crate::error::{IoContext, IoFailure};
use std::sync::atomic::Ordering::Relaxed;

/// Free slots that are kept for the next commits: one for this many pages.
const KEEP_ONE_IN: u64 = 8;

/// Most slots whose room is given back while a commit waits.
const AT_A_TIME: u32 = 1024;

impl PageFile {
    /// Gives back the room of free slots that were not needed since the last time.
    ///
    /// # Errors
    /// Returns the operating system's error, unless it is that holes can't be made, or not now.
    pub(crate) fn give_back_room(&self) -> Result<(), IoFailure> {
        let keep = u32::try_from(self.page_count() / KEEP_ONE_IN).unwrap_or(u32::MAX);
        let mut surplus = self.writer().slots.surplus(keep);
        while surplus > 0 && self.keeps_holes.load(Relaxed) {
            let given = self.make_holes(surplus.min(AT_A_TIME), keep)?;
            if given == 0 {
                return Ok(());
            }
            surplus -= given;
        }
        Ok(())
    }

    /// Makes at most `most` free slots holes, and leaves `keep` as they are; answers how many were made.
    fn make_holes(&self, most: u32, keep: u32) -> Result<u32, IoFailure> {
        let slots = &mut self.writer().slots;
        let most = most.min(slots.warm().saturating_sub(keep));
        let mut made = 0;
        while made < most
            && let Some(run) = slots.last_warm_run(most - made)
        {
            let count = run.end - run.start;
            let bytes = u64::from(count) * PAGE_SIZE as u64;
            match self.file.punch(content_at(run.start), bytes).context(|| format!("make a hole in {}", self.name)) {
                Ok(true) => {}
                Ok(false) => {
                    tracing::info!(name = self.name, "the file system can't give back room in the middle of a file");
                    self.keeps_holes.store(false, Relaxed);
                    return Ok(made);
                }
                // A hole may need room for what describes the file.
                Err(failure) if failure.is_no_space() => return Ok(made),
                Err(failure) => return Err(failure),
            }
            slots.now_holes(run);
            self.space.remove_reusable(bytes);
            self.space.give(bytes);
            made += count;
        }
        Ok(made)
    }
}
