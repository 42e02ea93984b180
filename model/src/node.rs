//! A storage node of the model: one segment, its log disk and its page store.
//!
//! The log disk is a party of its own. What the machine *starts* to append is pending; an `Fsync` step makes the oldest
//! pending append durable and tells the machine; a `Crash` drops the machine and what is pending, and boots the machine
//! from what survived. The journal may lose its last entries (`Lose`): then it is found damaged, until the machine's
//! `Amnesia` is durable; and it may be cleaned of what was replaced (`Clean`). The page store runs the machine's tasks
//! one after another, each in a step of its own that is atomic, as the production store makes it.

use crate::canon;
use crate::payload::Mark;
use auriga_protocol::message::BasePage;
use auriga_protocol::segment::{Entry, EntryKind, Outcome, Survived, Task, bases_read};
use auriga_protocol::{
    AppendId, Effects, Lsn, Machine, Membership, Micros, PageId, Payload, Segment, SegmentConfig, SegmentId,
    VolumeEpoch,
};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// A segment and its disks.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// The production state machine.
    pub machine: Segment<Mark>,
    /// Appends that were started and are not durable, oldest first.
    pub pending: VecDeque<(AppendId, Entry<Mark>)>,
    /// Tasks of the page store that were started and not done, oldest first.
    pub tasks: VecDeque<Task<Mark>>,
    entries: Arc<Vec<Entry<Mark>>>,
    durable: AppendId,
    /// Entries were lost, and the segment has not yet written down that it knows.
    damaged: bool,
    /// Whether the journal may be damaged or cleaned: then disks that boot to the same machine may yet differ.
    every_entry_counts: bool,
    /// Starts so far. No part of what the state is told apart by: a start's questions are new, whatever their number.
    boots: u64,
    pages: Arc<Pages>,
    /// What a crash now would leave.
    pub kept: Arc<Kept>,
    /// Stands for everything above, with the own name left out; kept up to date by [`Node::seal_digest`].
    pub digest: u128,
    /// Whether the state names other segments, so that the digest alone does not tell it.
    pub names_peers: bool,
}

/// The page store.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Pages {
    floor: Lsn,
    ceiling: Lsn,
    bases: BTreeMap<PageId, (Lsn, Vec<Mark>)>,
}

/// What a machine booted from the disk would be: two disks that boot to the same machine are the same disk.
#[derive(Clone, PartialEq, Debug)]
pub struct Kept {
    /// Its promise.
    pub promised: VolumeEpoch,
    /// Its installed epoch.
    pub installed: VolumeEpoch,
    /// Its floor.
    pub floor: Lsn,
    /// The records above the floor.
    pub records: Vec<Lsn>,
    /// The booted machine.
    bytes: Vec<u8>,
}

impl Node {
    /// A segment of a new volume, once it counts.
    pub fn created(config: &SegmentConfig, id: SegmentId, membership: Membership, every_entry_counts: bool) -> Node {
        let survived: Survived<Mark> = Survived::founded(membership);
        let machine = Segment::boot(config, id, survived.clone(), Micros(0), &mut Effects::default());
        let kept = Arc::new(Kept::of(&machine));
        Node {
            machine,
            pending: VecDeque::new(),
            tasks: VecDeque::new(),
            entries: Arc::new(survived.entries),
            durable: AppendId(0),
            damaged: false,
            every_entry_counts,
            boots: 1,
            pages: Arc::default(),
            kept,
            digest: 0,
            names_peers: false,
        }
    }

    /// Makes the oldest pending append durable; answers its number.
    pub fn fsync(&mut self, config: &SegmentConfig) -> Option<AppendId> {
        let (id, entry) = self.pending.pop_front()?;
        self.keep(entry);
        self.durable = id;
        self.reckon_kept(config);
        Some(id)
    }

    /// Loses the machine and all but the oldest `keep` pending appends, and boots again.
    pub fn crash(&mut self, config: &SegmentConfig, keep: usize, effects: &mut Effects<Segment<Mark>>) {
        let survivors = self.pending.drain(..).take(keep).map(|(_, entry)| entry).collect::<Vec<_>>();
        if !survivors.is_empty() {
            survivors.into_iter().for_each(|entry| self.keep(entry));
            self.reckon_kept(config);
        }
        self.boots += 1;
        self.reboot(config, effects);
    }

    /// Loses the machine, what is pending and all but the first `first` entries of the journal, and boots again.
    pub fn lose(&mut self, config: &SegmentConfig, first: usize, effects: &mut Effects<Segment<Mark>>) {
        self.pending.clear();
        Arc::make_mut(&mut self.entries).truncate(first);
        self.damaged = true;
        self.boots += 1;
        self.reckon_kept(config);
        self.reboot(config, effects);
    }

    /// Rewrites the journal: the newest entry of each kind, then all records.
    pub fn clean(&mut self, config: &SegmentConfig) {
        self.entries = Arc::new(cleaned(&self.entries));
        self.reckon_kept(config);
    }

    /// The durable entries.
    pub fn journal(&self) -> &[Entry<Mark>] {
        &self.entries
    }

    /// Whether cleaning would change the journal.
    pub fn can_be_cleaned(&self) -> bool {
        cleaned(&self.entries) != *self.entries
    }

    fn keep(&mut self, entry: Entry<Mark>) {
        if matches!(entry, Entry::Amnesia { .. }) {
            self.damaged = false;
        }
        Arc::make_mut(&mut self.entries).push(entry);
    }

    fn reboot(&mut self, config: &SegmentConfig, effects: &mut Effects<Segment<Mark>>) {
        self.tasks.clear();
        self.durable = AppendId(0);
        self.machine = self.boot(config, effects);
    }

    /// Runs the oldest task.
    pub fn run_task(&mut self, config: &SegmentConfig) -> Option<Outcome<Mark>> {
        let task = self.tasks.pop_front()?;
        let floor_before = self.pages.floor;
        let outcome = Arc::make_mut(&mut self.pages).run(task);
        if self.pages.floor != floor_before {
            self.reckon_kept(config);
        }
        outcome
    }

    /// Brings the digest up to date; to be called when a step is over.
    pub fn seal_digest(&mut self, scratch: &mut Vec<u8>) {
        scratch.clear();
        let own = self.machine.id().member.0;
        let mut names_peers = false;
        let mut label = |member: u8| {
            names_peers |= member != own;
            u64::from(member != own)
        };
        self.write(scratch, &mut label);
        self.names_peers = names_peers;
        self.digest = canon::digest(scratch);
    }

    /// The node's canonical bytes.
    pub fn write(&self, out: &mut Vec<u8>, labels: &mut dyn canon::Labels) {
        canon::write(out, &self.machine, self.durable.0, labels);
        if self.every_entry_counts {
            canon::write(out, &*self.entries, 0, labels);
        } else {
            out.extend_from_slice(&self.kept.bytes);
        }
        for (id, entry) in &self.pending {
            canon::write(out, &(*id, entry), self.durable.0, labels);
        }
        if !self.tasks.is_empty() || !self.pages.bases.is_empty() {
            let mut hasher = DefaultHasher::new();
            (&self.tasks, &self.pages).hash(&mut hasher);
            out.extend_from_slice(&hasher.finish().to_le_bytes());
        }
    }

    fn boot(&self, config: &SegmentConfig, effects: &mut Effects<Segment<Mark>>) -> Segment<Mark> {
        let entries = (*self.entries).clone();
        let survived = Survived {
            floor: self.pages.floor,
            ceiling: self.pages.ceiling,
            entries,
            damaged: self.damaged,
            boot: self.boots,
        };
        Segment::boot(config, self.machine.id(), survived, Micros(0), effects)
    }

    fn reckon_kept(&mut self, config: &SegmentConfig) {
        self.kept = Arc::new(Kept::of(&self.boot(config, &mut Effects::default())));
    }
}

/// The newest entry of each kind, then all records: a journal that was cleaned. (Kinds may stand in any order; this is
/// the one that puts an install before records that it annuls.)
fn cleaned(journal: &[Entry<Mark>]) -> Vec<Entry<Mark>> {
    let (records, others): (Vec<_>, Vec<_>) =
        journal.iter().cloned().partition(|entry| entry.kind() == EntryKind::Records);
    let newest: BTreeMap<EntryKind, Entry<Mark>> = others.into_iter().map(|entry| (entry.kind(), entry)).collect();
    newest.into_values().chain(records).collect()
}

impl Kept {
    fn of(machine: &Segment<Mark>) -> Kept {
        let own = machine.id().member.0;
        let mut bytes = Vec::with_capacity(64);
        canon::write(&mut bytes, machine, 0, &mut |member: u8| u64::from(member != own));
        Kept {
            promised: machine.promised(),
            installed: machine.install().volume_epoch,
            floor: machine.log().floor(),
            records: machine.log().records().map(|record| record.lsn).collect(),
            bytes,
        }
    }

    /// Whether the record at `lsn` would be there after a crash.
    pub fn holds(&self, lsn: Lsn) -> bool {
        lsn <= self.floor || self.records.contains(&lsn)
    }
}

impl Pages {
    fn run(&mut self, task: Task<Mark>) -> Option<Outcome<Mark>> {
        Some(match task {
            Task::Coalesce { floor, records } => {
                for record in records {
                    let (version, content) = self.bases.entry(record.page).or_default();
                    if record.lsn > *version {
                        record.payload.apply(content);
                        *version = record.lsn;
                    }
                }
                self.floor = floor;
                Outcome::Coalesced { floor }
            }
            Task::ReadBase { token, page } => Outcome::Base { token, page, base: self.base(page) },
            Task::ReadBases { token, after, newer_than, limit, look } => {
                let beyond = self.bases.keys().copied().filter(|page| after.is_none_or(|after| *page > after));
                let following: Vec<BasePage<Mark>> = beyond.filter_map(|page| self.base(page)).collect();
                bases_read(token, &following, newer_than, (limit, look))
            }
            Task::PutBases { token, pages, unchanged, replace, floor, ceiling } => {
                if let Some(range) = replace {
                    self.bases.retain(|page, _| !range.contains(*page) || unchanged.contains(page));
                }
                self.ceiling = self.ceiling.max(ceiling);
                self.bases.extend(pages.into_iter().map(|base| (base.page, (base.version, base.content))));
                self.floor = floor.unwrap_or(self.floor);
                Outcome::BasesPut { token }
            }
            // The models' configuration never scrubs.
            Task::Scrub { .. } | Task::Retire => return None,
        })
    }

    fn base(&self, page: PageId) -> Option<BasePage<Mark>> {
        let (version, content) = self.bases.get(&page)?;
        Some(BasePage { page, version: *version, content: content.clone() })
    }
}
