//! Advancing: the read point follows the standby's replay (R-READER-FS-3 to 5, 7, 8).

use super::base::{Base, Difference};
use super::{Kept, ReaderFs, State};
use crate::defect::{Defect, Defects};
use crate::error::FsError;
use crate::fs::LoadError;
use crate::layout::Malformed;
use auriga_page::{Delta, PAGE_SIZE};
use auriga_protocol::{Lsn, Record};
use auriga_volume::{Changes, Published, VolumeError};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Things that one step looks at, to see whether they may leave the overlay.
const SWEPT_A_STEP: usize = 4096;

/// Why a reader can't go on. It is thrown away, and another is started.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The volume failed, or has dropped the reader.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The volume's bytes make no file system.
    #[error("the volume's records make no sound file system: {0}")]
    Malformed(#[from] Malformed),
    /// The tree could not be read again.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The reader's own files.
    #[error("putting WAL into pg_wal: {0}")]
    Wal(#[from] FsError),
}

/// What one step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It is not known how far replay is.
    Unknown,
    /// Replay has not passed the read point's WAL position.
    Waiting,
    /// Nothing newer was published that replay has passed.
    Still,
    /// The read point has moved.
    Advanced,
}

impl ReaderFs {
    /// Makes one step: asks how far replay is, advances to the newest point that it has passed, and looks at what may
    /// leave the overlay. To be called from one thread at a time.
    ///
    /// `replayed` answers `pg_last_wal_replay_lsn()`; `None`: the standby does not answer.
    ///
    /// # Errors
    /// The reader can't go on.
    pub fn step(self: &Arc<Self>, replayed: impl FnOnce() -> Option<u64>) -> Result<Step, FollowError> {
        let (dropped, cuts) = self.lock().undated();
        // Everything in these lists was done before the question is asked.
        let Some(replayed) = replayed() else { return Ok(Step::Unknown) };
        let published = self.volume.published();
        let mut state = self.lock();
        state.lag.look(&published, replayed, Instant::now());
        state.date(dropped, cuts, replayed);
        if replayed < state.point.wal {
            // It has just begun. That a position goes back is nobody's promise: then nothing may leave, either.
            state.is_ready = false;
            return Ok(Step::Waiting);
        }
        if !state.is_ready {
            state.is_ready = true;
            state.note_all();
        }
        drop(state);
        let waits = !self.options.defects.has(Defect::ReaderDoesNotWait);
        let passed = |point: &Published| point.wal <= replayed || !waits;
        let newest = published.into_iter().rfind(passed);
        if let Some(to) = newest {
            self.advance(to)?;
        }
        self.sweep(SWEPT_A_STEP);
        Ok(if newest.is_some() { Step::Advanced } else { Step::Still })
    }

    fn advance(&self, to: Published) -> Result<(), FollowError> {
        let defects = self.options.defects;
        let changes = match self.volume.advance(to.read_point) {
            // The stream was cut since the point was published: others will be.
            Err(VolumeError::TimedOut) => return Ok(()),
            changes => changes?,
        };
        let mut state = match changes {
            Changes::Records(records) => {
                let mut state = self.lock();
                state.advance(to, &records, defects)?;
                state
            }
            Changes::Unknown => {
                let base = Base::load(&*self.volume, to.read_point, self.deadline())?;
                let mut state = self.lock();
                state.replace(to, base, defects);
                state
            }
        };
        state.figures.advances += 1;
        let needed = state.oldest_needed();
        drop(state);
        self.volume.release(needed);
        Ok(())
    }

    /// Steps on a thread of its own, `every` so often, until the handle is dropped. `on_lost` is called once when the
    /// reader can't go on.
    ///
    /// # Errors
    /// The operating system has no thread.
    pub fn follow(
        self: &Arc<Self>,
        every: Duration,
        mut replayed: impl FnMut() -> Option<u64> + Send + 'static,
        on_lost: impl FnOnce(FollowError) + Send + 'static,
    ) -> io::Result<Follower> {
        self.follow_fed(every, move || Ok(replayed()), on_lost)
    }

    /// The same, where `replayed` also does what must be done before a step, and may fail.
    ///
    /// # Errors
    /// The operating system has no thread.
    pub fn follow_fed(
        self: &Arc<Self>,
        every: Duration,
        mut replayed: impl FnMut() -> Result<Option<u64>, FollowError> + Send + 'static,
        on_lost: impl FnOnce(FollowError) + Send + 'static,
    ) -> io::Result<Follower> {
        let (fs, ended) = (Arc::clone(self), Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&ended);
        let thread = std::thread::Builder::new().name("reader".to_owned()).spawn(move || {
            while !seen.load(Relaxed) {
                let mut failed = None;
                let stepped = fs.step(|| match replayed() {
                    Ok(replayed) => replayed,
                    Err(error) => {
                        failed = Some(error);
                        None
                    }
                });
                if let Some(error) = failed.or(stepped.err()) {
                    return on_lost(error);
                }
                std::thread::sleep(every);
            }
        })?;
        Ok(Follower { ended, thread: Some(thread) })
    }
}

/// A thread that makes a reader follow. Dropping it ends the thread.
pub struct Follower {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Path = Vec<Box<[u8]>>;

impl State {
    /// Drops and truncations whose replay position is not known.
    fn undated(&self) -> (Vec<Path>, Vec<u64>) {
        let dropped = self.dropped.iter().filter(|(_, at)| at.is_none()).map(|(path, _)| path.clone()).collect();
        let undated =
            |ino: &&u64| self.nodes.get(ino).and_then(|node| node.cut).is_some_and(|cut| cut.replayed.is_none());
        (dropped, self.cuts.iter().filter(undated).copied().collect())
    }

    /// `replayed` is a position after them.
    fn date(&mut self, dropped: Vec<Path>, cuts: Vec<u64>, replayed: u64) {
        for path in dropped {
            if let Some(at) = self.dropped.get_mut(&path) {
                *at = Some(replayed);
            }
        }
        for ino in cuts {
            if let Some(cut) = self.nodes.get_mut(&ino).and_then(|node| node.cut.as_mut()) {
                cut.replayed = Some(replayed);
            }
        }
    }

    fn advance(&mut self, to: Published, records: &[Record<Delta>], defects: Defects) -> Result<(), Malformed> {
        let difference = self.base.apply(records)?;
        self.keep_gone(&difference, defects);
        for record in records {
            let inode = record.page.inode;
            if self.kept.contains_key(&inode) {
                continue;
            }
            self.pages.apply(record.page, &record.payload);
            if let Some(ino) = self.linked.get(&inode).copied()
                && self.nodes.get(&ino).is_some_and(|node| node.pages.contains_key(&record.page.block))
            {
                self.note_page(ino, record.page.block);
            }
        }
        self.move_on(to, &difference, defects);
        Ok(())
    }

    /// The stream was cut: the volume's tree was read again.
    fn replace(&mut self, to: Published, base: Base, defects: Defects) {
        let difference = self.base.difference_to(&base);
        self.keep_gone(&difference, defects);
        self.base = base;
        let kept = &self.kept;
        self.pages.forget(|inode| kept.contains_key(&inode));
        self.move_on(to, &difference, defects);
        self.note_all();
    }

    /// R-READER-FS-8: what the volume has removed stays as it was, as long as the reader has it.
    fn keep_gone(&mut self, difference: &Difference, defects: Defects) {
        let at = self.point.read_point;
        for (inode, record) in &difference.gone {
            self.masked.remove(inode);
            if self.linked.contains_key(inode) && !defects.has(Defect::ReaderLosesRemoved) {
                self.kept.insert(*inode, Kept { at, record: record.clone() });
            }
        }
    }

    /// R is R' from here on.
    fn move_on(&mut self, to: Published, difference: &Difference, defects: Defects) {
        self.former_wal = self.point.wal;
        self.point = to;
        for inode in &difference.changed {
            if let Some(ino) = self.linked.get(inode).copied() {
                self.note_size(ino);
            }
        }
        for (directory, name, inode) in &difference.born {
            if let Some(path) = self.base.path(*directory, name) {
                self.link_born(path, *inode, defects);
            }
        }
        self.forget_cuts();
        self.dropped.retain(|_, at| at.is_none_or(|at| at >= to.wal));
    }

    /// R-READER-FS-6, 7: a file that the volume has now is the reader's file of that path, if the reader has made one and
    /// this is not one that it has dropped before.
    fn link_born(&mut self, path: Path, inode: u64, defects: Defects) {
        if self.dropped.get(&path).is_some_and(|at| at.is_none_or(|at| at >= self.point.wal)) {
            self.masked.insert(inode);
            return;
        }
        match self.at(&path) {
            Some(ino) => self.link_to(ino, inode),
            None if defects.has(Defect::ReaderSharesNames) => self.share(&path, inode),
            None => {}
        }
    }

    /// The defect: the file is there because the volume has it.
    fn share(&mut self, path: &[Box<[u8]>], inode: u64) {
        let Some((name, above)) = path.split_last() else { return };
        let (Some(parent), Some(record)) = (self.at(above), self.base.inode(inode).cloned()) else { return };
        let mut node = super::node::Node::new(super::class::Class::Main, record);
        node.base = Some(inode);
        if let Ok(ino) = self.add(parent, name, node) {
            self.linked.insert(inode, ino);
        }
    }

    /// R-READER-FS-9: a truncation is over when the volume is seen to be that short, as of a point that was chosen after
    /// the record of the truncation was written. What the volume has from there on was written after it.
    fn forget_cuts(&mut self) {
        let is_over = |ino: &u64| {
            let Some(node) = self.nodes.get(ino) else { return true };
            let (Some(cut), Some(inode)) = (node.cut, node.base) else { return node.cut.is_none() };
            let Some(record) = self.base.inode(inode) else { return false };
            record.size <= cut.from * PAGE_SIZE as u64 && cut.replayed.is_some_and(|at| self.former_wal > at)
        };
        let over: Vec<u64> = self.cuts.iter().filter(|ino| is_over(ino)).copied().collect();
        for ino in over {
            self.cuts.remove(&ino);
            if let Some(node) = self.nodes.get_mut(&ino) {
                node.cut = None;
                node.pages.values_mut().for_each(|ours| ours.is_tagged = false);
                self.note_node(ino);
            }
        }
    }

    /// The oldest point that anything may still be read as of (R-READER-FS-5).
    fn oldest_needed(&self) -> Lsn {
        let kept = self.kept.values().map(|kept| kept.at).min();
        [kept, self.pages.oldest()].into_iter().flatten().fold(self.point.read_point, Lsn::min)
    }
}
