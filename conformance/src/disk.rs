//! A disk in memory, with the failures of a real one: the journal keeps what was pending or not, pages rot.
//!
//! It promises what `impl/store` promises, and no more:
//! - the journal is first in, first out; a crash keeps a prefix of what was pending, and a torn last entry is dropped;
//! - a task is done as a whole or not at all;
//! - entries at or below the floor may be gone after a restart;
//! - a journal that was found damaged stays so until the segment's `Amnesia` entry is durable; lost pages likewise.
//!
//! The simulation gives it time, the scripts drive it by hand.

use auriga_protocol::message::{BasePage, Install};
use auriga_protocol::record::materialise;
use auriga_protocol::segment::{Entry, Outcome, Survived, Task, bases_read};
use auriga_protocol::{AppendId, Lsn, Membership, PageId, Payload};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A segment's disk.
#[derive(Clone, Debug)]
pub struct Disk<P: Payload> {
    durable: Vec<Entry<P>>,
    pending: VecDeque<(AppendId, Entry<P>)>,
    tasks: VecDeque<Task<P>>,
    pages: BTreeMap<PageId, BasePage<P>>,
    floor: Lsn,
    ceiling: Lsn,
    rotten: BTreeSet<PageId>,
    scrubbed: Option<PageId>,
    journal_damaged: bool,
    pages_lost: bool,
    /// Starts so far.
    boots: u64,
}

impl<P: Payload> Disk<P> {
    /// The disk of a segment of a new volume, once it counts.
    pub fn founded(membership: Membership) -> Self {
        Disk::holding(Survived::founded(membership))
    }

    /// The disk of a segment that was just created.
    pub fn created(membership: Membership) -> Self {
        Disk::holding(Survived::created(membership))
    }

    /// The disk of a segment that was just made in a group that holds data: it forgot everything (R-REJOIN-6).
    pub fn joining(membership: Membership) -> Self {
        Disk { journal_damaged: true, ..Disk::created(membership) }
    }

    /// The disk is lost, and the segment is made again on an empty one.
    pub fn remake(&mut self, membership: Membership) {
        let boots = self.boots + 1;
        *self = Disk { boots, ..Disk::created(membership) };
    }

    /// The same, of a member that joined: its process learns from the others that it should have it.
    pub fn remake_joining(&mut self, membership: Membership) {
        let boots = self.boots + 1;
        *self = Disk { boots, ..Disk::joining(membership) };
    }

    /// A copy of the disk as it would be found after a crash now.
    #[must_use]
    pub fn copied(&self) -> Self {
        let mut copy = self.clone();
        copy.crash(0);
        copy
    }

    /// An old copy takes the disk's place.
    pub fn put_back(&mut self, copy: Disk<P>) {
        let boots = self.boots + 1;
        *self = Disk { boots, ..copy };
    }

    fn holding(survived: Survived<P>) -> Self {
        Disk {
            durable: survived.entries,
            pending: VecDeque::new(),
            tasks: VecDeque::new(),
            pages: BTreeMap::new(),
            floor: survived.floor,
            ceiling: survived.ceiling,
            rotten: BTreeSet::new(),
            scrubbed: None,
            journal_damaged: false,
            pages_lost: false,
            boots: 1,
        }
    }

    /// Starts an append.
    pub fn append(&mut self, id: AppendId, entry: Entry<P>) {
        assert!(self.pending.back().is_none_or(|(last, _)| last.0 + 1 == id.0), "append {id:?} out of order");
        self.pending.push_back((id, entry));
    }

    /// Appends that are not durable yet, oldest first.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = AppendId> + '_ {
        self.pending.iter().map(|(id, _)| *id)
    }

    /// The installs among the oldest `count` pending appends.
    pub fn pending_installs(&self, count: usize) -> impl Iterator<Item = &Install> + '_ {
        self.pending.iter().take(count).filter_map(|(_, entry)| match entry {
            Entry::Install(install) => Some(install),
            _ => None,
        })
    }

    /// Makes the oldest `count` pending appends durable; answers the last one's number.
    pub fn sync(&mut self, count: usize) -> Option<AppendId> {
        let mut last = None;
        for _ in 0..count {
            let Some((id, entry)) = self.pending.pop_front() else { break };
            last = Some(id);
            self.keep(entry);
        }
        last
    }

    fn keep(&mut self, entry: Entry<P>) {
        if matches!(entry, Entry::Amnesia { .. }) {
            self.journal_damaged = false;
        }
        self.durable.push(entry);
    }

    /// Queues a task.
    pub fn start(&mut self, task: Task<P>) {
        self.tasks.push_back(task);
    }

    /// Tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Does the oldest task.
    pub fn do_task(&mut self) -> Option<Outcome<P>> {
        let task = self.tasks.pop_front()?;
        Some(match task {
            Task::Coalesce { floor, records } => self.coalesce(floor, records),
            Task::ReadBase { token, page } if self.rotten.contains(&page) => {
                Outcome::Damaged { page, token: Some(token) }
            }
            Task::ReadBase { token, page } => Outcome::Base { token, page, base: self.pages.get(&page).cloned() },
            Task::ReadBases { token, after, newer_than, limit, look } => {
                let following = self.pages.values().filter(|base| after.is_none_or(|after| base.page > after));
                let read = bases_read(token, following, newer_than, (limit, look));
                let Outcome::Bases { pages, .. } = &read else { return Some(read) };
                match pages.iter().find(|base| self.rotten.contains(&base.page)) {
                    Some(base) => Outcome::Damaged { page: base.page, token: Some(token) },
                    None => read,
                }
            }
            Task::PutBases { token, pages, unchanged, replace, floor, ceiling } => {
                if let Some(range) = replace {
                    let goes = |page: &PageId| range.contains(*page) && !unchanged.contains(page);
                    self.pages.retain(|page, _| !goes(page));
                    self.rotten.retain(|page| !goes(page));
                }
                self.ceiling = self.ceiling.max(ceiling);
                for base in pages {
                    self.rotten.remove(&base.page);
                    self.pages.insert(base.page, base);
                }
                self.pages.retain(|_, base| base.content != P::Page::default());
                // The last of a hydration's pages: only now has what was lost come back.
                self.pages_lost &= floor.is_none();
                self.floor = floor.unwrap_or(self.floor);
                Outcome::BasesPut { token }
            }
            Task::Scrub { limit } => self.scrub(limit),
            Task::Retire => return None,
        })
    }

    fn coalesce(&mut self, floor: Lsn, records: Vec<auriga_protocol::Record<P>>) -> Outcome<P> {
        if let Some(record) = records.iter().find(|record| self.rotten.contains(&record.page)) {
            return Outcome::Damaged { page: record.page, token: None };
        }
        let changed: BTreeSet<PageId> = records.iter().map(|record| record.page).collect();
        for record in records {
            let page = record.page;
            let base =
                self.pages.entry(page).or_insert(BasePage { page, version: Lsn::ZERO, content: P::Page::default() });
            base.version = materialise(&mut base.content, base.version, record.lsn, [&record]);
        }
        // As the page store does: a cleared page is forgotten, and its version with it.
        self.pages.retain(|page, base| !changed.contains(page) || base.content != P::Page::default());
        self.floor = floor;
        Outcome::Coalesced { floor }
    }

    fn scrub(&mut self, limit: usize) -> Outcome<P> {
        let above = |page: &&PageId| self.scrubbed.is_none_or(|after| **page > after);
        let looked: Vec<PageId> = self.pages.keys().filter(above).take(limit).copied().collect();
        self.scrubbed = looked.last().copied();
        Outcome::Scrubbed { damaged: looked.into_iter().filter(|page| self.rotten.contains(page)).collect() }
    }

    /// The machine stops. Of the pending appends the oldest `keep` survive; tasks that have not ended never happened.
    pub fn crash(&mut self, keep: usize) {
        self.sync(keep);
        self.boots += 1;
        self.pending.clear();
        self.tasks.clear();
    }

    /// What a restart finds.
    pub fn survived(&self) -> Survived<P> {
        let (entries, damaged) = (self.durable.clone(), self.journal_damaged);
        Survived { floor: self.floor, ceiling: self.ceiling, entries, damaged, boot: self.boots }
    }

    /// The journal is cleaned: of each kind only the newest entry stays, and records at or below the floor go. Kinds
    /// may then stand in any order, which `salt` decides.
    pub fn clean_journal(&mut self, salt: u64) {
        self.clean_journal_as(|kinds| {
            if salt & 1 == 1 {
                kinds.reverse();
            }
            (salt >> 1) as usize % (kinds.len() + 1)
        });
    }

    /// The same; `arrange` orders the kinds, and says how many of them stand before the records.
    pub fn clean_journal_as(&mut self, arrange: impl FnOnce(&mut Vec<Entry<P>>) -> usize) {
        let (mut newest, mut records) = (BTreeMap::new(), Vec::new());
        for entry in std::mem::take(&mut self.durable) {
            match entry {
                Entry::Records { records: mut kept, vdl } => {
                    kept.retain(|record| record.lsn > self.floor);
                    records.push(Entry::Records { records: kept, vdl });
                }
                other => drop(newest.insert(other.kind(), other)),
            }
        }
        // A cleaned journal may keep what it could have dropped; it never loses the highest VDL it was told.
        let mut kinds: Vec<_> = newest.into_values().collect();
        let first = arrange(&mut kinds);
        let rest = kinds.split_off(first);
        self.durable = kinds.into_iter().chain(records).chain(rest).collect();
    }

    /// Entries of the journal that are durable.
    pub fn durable(&self) -> &[Entry<P>] {
        &self.durable
    }

    /// Returns whether the next boot must be told [`Outcome::PagesLost`].
    pub fn pages_lost(&self) -> bool {
        self.pages_lost
    }

    /// The journal loses the durable entries that `lose` picks by index, and is found damaged.
    pub fn damage_journal(&mut self, mut lose: impl FnMut(usize) -> bool) {
        let mut index = 0;
        self.durable.retain(|_| {
            index += 1;
            !lose(index - 1)
        });
        self.journal_damaged = true;
    }

    /// The `nth` base page (counted around) fails its checksum from now on; answers which.
    pub fn rot_page(&mut self, nth: usize) -> Option<PageId> {
        let page = self.pages.keys().nth(nth % self.pages.len().max(1)).copied()?;
        self.rotten.insert(page);
        Some(page)
    }

    /// Whether any base page is rotten or was lost.
    pub fn unsound(&self) -> bool {
        self.pages_lost || !self.rotten.is_empty()
    }

    /// All base pages are gone, and which they were isn't known.
    pub fn lose_pages(&mut self) {
        self.pages.clear();
        self.rotten.clear();
        let pages = |entry: &&Entry<P>| matches!(entry, Entry::PagesLost | Entry::PagesRestored);
        let known = matches!(self.durable.iter().rev().find(pages), Some(Entry::PagesLost));
        self.pages_lost = !known;
    }

    /// A base page as it is stored.
    pub fn page(&self, page: PageId) -> Option<&BasePage<P>> {
        self.pages.get(&page)
    }
}
