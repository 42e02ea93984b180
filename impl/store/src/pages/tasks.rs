//! What each [`Task`] does to a page file.

use super::file::PageFile;
use super::read::ReadFailure;
use crate::Delta;
use crate::error::IoFailure;
use auriga_protocol::message::BasePage;
use auriga_protocol::record::materialise;
use auriga_protocol::segment::{Outcome, Task};
use auriga_protocol::{Lsn, PageId, Record, Token};
use std::collections::HashSet;
use std::ops::Bound;
use std::sync::PoisonError;

/// Whether the task only reads.
pub(super) fn only_reads(task: &Task<Delta>) -> bool {
    matches!(task, Task::ReadBase { .. } | Task::ReadBases { .. } | Task::Scrub { .. })
}

impl PageFile {
    /// Runs a task and delivers its outcome, in the order in which outcomes took effect: what a read saw is delivered
    /// before any commit that it did not see.
    ///
    /// # Errors
    /// Returns an error if there is no room: then nothing has changed, and the task may run again. Or another error of
    /// the operating system.
    pub(super) fn run(&self, task: &Task<Delta>, deliver: &dyn Fn(Outcome<Delta>)) -> Result<(), IoFailure> {
        match task {
            Task::Coalesce { floor, records } => self.coalesce(*floor, records, deliver),
            Task::PutBases { token, .. } => self.put_bases(task, || deliver(Outcome::BasesPut { token: *token })),
            Task::ReadBase { token, page } => {
                self.read_bases(&[(*token, *page)], |outcomes| outcomes.into_iter().for_each(deliver))
            }
            Task::ReadBases { token, after, newer_than, limit, look } => {
                let index = self.index();
                deliver(match self.read_after(&index, *token, *after, *newer_than, (*limit, *look)) {
                    Ok(bases) => bases,
                    Err(ReadFailure::Damaged(page)) => Outcome::Damaged { page, token: Some(*token) },
                    Err(ReadFailure::Io(failure)) => return Err(failure),
                });
                Ok(())
            }
            Task::Scrub { limit } => self.scrub(*limit, deliver),
            // Its driver deletes the file.
            Task::Retire => Ok(()),
        }
    }

    /// Reads pages for those who asked by these tokens, and delivers their outcomes together.
    ///
    /// # Errors
    /// Returns the operating system's error.
    pub(crate) fn read_bases(
        &self,
        wanted: &[(Token, PageId)],
        deliver: impl FnOnce(Vec<Outcome<Delta>>),
    ) -> Result<(), IoFailure> {
        let index = self.index();
        let pages: Vec<PageId> = wanted.iter().map(|(_, page)| *page).collect();
        let read = self.read_all(&index, &pages).into_iter().zip(wanted);
        let outcome = |(read, (token, page)): (Result<_, ReadFailure>, &(Token, PageId))| match read {
            Ok(base) => Ok(Outcome::Base { token: *token, page: *page, base }),
            Err(ReadFailure::Damaged(page)) => Ok(Outcome::Damaged { page, token: Some(*token) }),
            Err(ReadFailure::Io(failure)) => Err(failure),
        };
        deliver(read.map(outcome).collect::<Result<_, _>>()?);
        Ok(())
    }

    fn coalesce(
        &self,
        floor: Lsn,
        records: &[Record<Delta>],
        deliver: &dyn Fn(Outcome<Delta>),
    ) -> Result<(), IoFailure> {
        let mut by_page: Vec<&Record<Delta>> = records.iter().collect();
        by_page.sort_by_key(|record| (record.page, record.lsn));
        let mut commit = self.begin();
        for records in by_page.chunk_by(|one, next| one.page == next.page) {
            let page = records[0].page;
            let read = self.read(&self.index(), page);
            let base = match read {
                Ok(base) => base,
                Err(ReadFailure::Io(failure)) => return Err(failure),
                Err(ReadFailure::Damaged(page)) => {
                    drop(commit);
                    deliver(Outcome::Damaged { page, token: None });
                    return Ok(());
                }
            };
            let (before, mut content) = base.map_or_else(Default::default, |base| (base.version, base.content));
            let version = materialise(&mut content, before, floor, records.iter().copied());
            if version > before {
                commit.put(&BasePage { page, version, content })?;
            }
        }
        commit.finish(Some(floor), Lsn::ZERO, false, || deliver(Outcome::Coalesced { floor }))
    }

    fn put_bases(&self, task: &Task<Delta>, visible: impl FnOnce()) -> Result<(), IoFailure> {
        let Task::PutBases { pages, unchanged, replace, floor, ceiling, .. } = task else { return Ok(()) };
        let stays: HashSet<PageId> = pages.iter().map(|base| base.page).chain(unchanged.iter().copied()).collect();
        let mut gone = replace.as_ref().map(|range| self.pages_in(range)).unwrap_or_default();
        gone.retain(|page| !stays.contains(page));
        // A pass over pages that did not change writes nothing.
        if gone.is_empty() && pages.is_empty() && floor.is_none() {
            visible();
            return Ok(());
        }
        let mut commit = self.begin();
        for page in gone {
            commit.remove(page);
        }
        for base in pages {
            commit.put(base)?;
        }
        commit.finish(*floor, *ceiling, floor.is_some(), visible)
    }

    fn read_after(
        &self,
        index: &super::file::Index,
        token: Token,
        after: Option<PageId>,
        newer_than: Lsn,
        (limit, look): (usize, usize),
    ) -> Result<Outcome<Delta>, ReadFailure> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut following = index.range((after, Bound::Unbounded));
        let (mut pages, mut unchanged) = (Vec::new(), Vec::new());
        for (page, place) in following.by_ref() {
            if self.version(place, *page)? > newer_than {
                pages.extend(self.read(index, *page)?);
            } else {
                unchanged.push(*page);
            }
            if pages.len() >= limit || pages.len() + unchanged.len() >= look {
                break;
            }
        }
        Ok(Outcome::Bases { token, pages, unchanged, complete: following.next().is_none() })
    }

    /// Verifies the next `limit` pages after those of the last time, and begins again after the last page.
    fn scrub(&self, limit: usize, deliver: &dyn Fn(Outcome<Delta>)) -> Result<(), IoFailure> {
        let mut scrubbed = self.scrubbed.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.index();
        let after = scrubbed.map_or(Bound::Unbounded, Bound::Excluded);
        let following = index.range((after, Bound::Unbounded)).chain(index.iter()).take(limit.min(index.len()));
        let mut damaged = Vec::new();
        for (page, _) in following {
            match self.read(&index, *page) {
                Ok(_) => {}
                Err(ReadFailure::Damaged(page)) => damaged.push(page),
                Err(ReadFailure::Io(failure)) => return Err(failure),
            }
            *scrubbed = Some(*page);
        }
        deliver(Outcome::Scrubbed { damaged });
        Ok(())
    }
}
