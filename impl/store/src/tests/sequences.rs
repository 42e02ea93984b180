//! Any sequence of commands against the store and against a plain reference: what it was given, in a list.
//!
//! The reference knows nothing of batches, files, slots or twins. It says what an opening may find: some prefix of what
//! was appended, everything that was confirmed in it, and the pages as of the floor. quickcheck draws the sequences and
//! makes a failing one short.

use crate::tests::testing::*;
use crate::{Delta, PageImage};
use auriga_protocol::message::BasePage;
use auriga_protocol::segment::{Entry, EntryKind, Outcome, PageRange, Survived, Task};
use auriga_protocol::{AppendId, Lsn, MemberId, Token, VolumeEpoch, WriterId};
use quickcheck::{Arbitrary, Gen, QuickCheck};
use std::collections::BTreeMap;

/// Blocks that [`records`] changes.
const BLOCKS: u64 = 7;

/// What can be done to a store.
#[derive(Clone, Debug)]
enum Command {
    /// Appends the next records, this many, without waiting.
    Records(u8),
    /// Appends a promise or the loss of a peer: an entry that replaces the one before.
    Replacing(Option<u8>),
    /// Waits for everything appended.
    Wait,
    /// Coalesces this many more records, of those that are durable.
    Coalesce(u8),
    /// Puts a base page from a peer, and forgets those of a range.
    Put { block: u8, after: u8 },
    /// Gives back room that was not needed since the last time.
    GiveBack,
    /// Stops in good order and opens again.
    Reopen,
    /// The power goes after `writes` more writes, in the middle of an append and a coalescing; of each write that was
    /// not synchronised only some sectors are there. Then opens again.
    PowerCut { writes: u8, sectors: u64 },
}

impl Arbitrary for Command {
    fn arbitrary(g: &mut Gen) -> Self {
        let small = |g: &mut Gen, below: u8| u8::arbitrary(g) % below;
        match small(g, 13) {
            0..=3 => Command::Records(1 + small(g, 30)),
            4 => Command::Replacing((small(g, 2) == 0).then(|| small(g, 6))),
            5 => Command::Wait,
            6 | 7 => Command::Coalesce(1 + small(g, 40)),
            8 => Command::Put { block: small(g, BLOCKS as u8), after: small(g, BLOCKS as u8) },
            9 => Command::Reopen,
            10 => Command::GiveBack,
            _ => Command::PowerCut { writes: small(g, 12), sectors: u64::arbitrary(g) },
        }
    }
}

/// What must be there.
#[derive(Default)]
struct Reference {
    /// Everything appended, in order.
    entries: Vec<Entry<Delta>>,
    /// How many of them had been appended when the store was opened: append 1 is the next.
    before: usize,
    /// How many are confirmed.
    confirmed: usize,
    floor: u64,
    pages: BTreeMap<u64, BasePage<Delta>>,
}

/// What counts of a log: the newest entry of each kind, and the records above the floor.
fn meaning(entries: &[Entry<Delta>], floor: u64) -> (BTreeMap<EntryKind, &Entry<Delta>>, Vec<u64>) {
    let (mut newest, mut above) = (BTreeMap::new(), Vec::new());
    for entry in entries {
        match entry {
            Entry::Records { records, .. } => {
                above.extend(records.iter().map(|record| record.lsn.0).filter(|lsn| *lsn > floor));
            }
            other => drop(newest.insert(other.kind(), other)),
        }
    }
    (newest, above)
}

impl Reference {
    fn last_lsn(entries: &[Entry<Delta>]) -> u64 {
        meaning(entries, 0).1.last().copied().unwrap_or_default()
    }

    fn coalesce(&mut self, through: u64) {
        for lsn in self.floor + 1..=through {
            let (block, content) = (lsn % BLOCKS, PageImage::copy_from(&content(lsn)));
            match content.is_zero() {
                true => drop(self.pages.remove(&block)),
                false => drop(self.pages.insert(block, BasePage { page: page(block), version: Lsn(lsn), content })),
            }
        }
        self.floor = through;
    }

    /// Compares with what an opening found, and takes it over. `floors`: those that may be durable.
    fn adopt(&mut self, survived: &Survived<Delta>, floors: [u64; 2], complete: bool) {
        assert!(!survived.damaged, "nothing was damaged");
        let floor = survived.floor.0;
        assert!(floors.contains(&floor), "floor {floor}, not one of {floors:?}");
        let found = meaning(&survived.entries, floor);
        let least = if complete { self.entries.len() } else { self.confirmed };
        let prefixes = (least..=self.entries.len()).find(|end| meaning(&self.entries[..*end], floor) == found);
        let Some(end) = prefixes else {
            panic!("found {found:?}, no prefix of at least {least} of {:?}", meaning(&self.entries, floor))
        };
        self.entries.truncate(end);
        (self.before, self.confirmed) = (end, end);
        if floor > self.floor {
            self.coalesce(floor);
        }
    }
}

/// A store and its reference.
struct Pair {
    disk: MemoryDisk,
    running: Option<Running>,
    reference: Reference,
    number: u64,
}

impl Pair {
    fn new() -> Pair {
        let disk = MemoryDisk::default();
        let running = Running::open(&disk, options());
        running.store.create_segment(segment(1), membership(), charter(), false).expect("new");
        let entries = vec![Entry::Membership(membership())];
        let reference = Reference { entries, before: 1, confirmed: 1, ..Reference::default() };
        Pair { disk, running: Some(running), reference, number: 0 }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("between two openings nothing is asked")
    }

    fn append(&mut self, entry: Entry<Delta>) {
        let append = AppendId((self.reference.entries.len() - self.reference.before) as u64 + 1);
        self.running().store.append(segment(1), append, &entry);
        self.reference.entries.push(entry);
    }

    fn append_records(&mut self, count: u8) {
        let first = Reference::last_lsn(&self.reference.entries).max(self.reference.floor) + 1;
        self.append(records(first..first + u64::from(count)));
    }

    fn wait(&mut self) {
        let appended = self.reference.entries.len() - self.reference.before;
        assert!(appended == 0 || self.running().owner.durable(segment(1), appended as u64), "the disk is sound");
        self.reference.confirmed = self.reference.entries.len();
    }

    fn task(&self, task: Task<Delta>) -> Outcome<Delta> {
        self.running().store.run(segment(1), task);
        self.running().owner.outcome(segment(1)).expect("the disk is sound")
    }

    /// A coalescing of at most `count` more records that are durable; `None`: there are none.
    fn coalescing(&self, count: u8) -> Option<(u64, Task<Delta>)> {
        let floor = self.reference.floor;
        let durable = Reference::last_lsn(&self.reference.entries[..self.reference.confirmed]);
        let through = durable.min(floor + u64::from(count));
        let records = (floor + 1..=through).map(|lsn| record(lsn, page(lsn % BLOCKS))).collect();
        (through > floor).then_some((through, Task::Coalesce { floor: Lsn(through), records }))
    }

    fn put(&mut self, block: u8, after: u8) {
        let (block, after) = (u64::from(block), u64::from(after));
        let content = PageImage::copy_from(&content(100 + block));
        let base = BasePage { page: page(block), version: Lsn(self.reference.floor), content };
        let replace = (after < block).then(|| PageRange { after: Some(page(after)), through: Some(page(block)) });
        let put = Task::PutBases {
            token: Token(1),
            pages: vec![base.clone()],
            unchanged: Vec::new(),
            replace,
            floor: None,
            ceiling: Lsn::ZERO,
        };
        assert_eq!(self.task(put), Outcome::BasesPut { token: Token(1) });
        self.reference.pages.retain(|other, _| replace.is_none_or(|range| !range.contains(page(*other))));
        self.reference.pages.insert(block, base);
    }

    fn check_pages(&self) {
        for block in 0..BLOCKS {
            let wanted = self.reference.pages.get(&block).cloned();
            let read = self.task(Task::ReadBase { token: Token(block), page: page(block) });
            assert_eq!(read, Outcome::Base { token: Token(block), page: page(block), base: wanted });
        }
    }

    fn open(&mut self, floors: [u64; 2], complete: bool) {
        let running = Running::open(&self.disk, options());
        self.reference.adopt(&running.survived[&segment(1)], floors, complete);
        self.running = Some(running);
        self.check_pages();
    }

    fn power_cut(&mut self, writes: u8, sectors: u64) {
        self.disk.cut_after(writes.into());
        self.append_records(3);
        let coalescing = self.coalescing(9);
        let asked = coalescing.as_ref().map_or(self.reference.floor, |(through, _)| *through);
        let running = self.running.take().expect("it runs");
        coalescing.into_iter().for_each(|(_, task)| running.store.run(segment(1), task));
        running.store.stop();
        let confirmed = running.owner.wait("nothing", |told| Some(told.durable.get(&segment(1)).copied()));
        let confirmed = self.reference.before + confirmed.unwrap_or_default().0 as usize;
        self.reference.confirmed = self.reference.confirmed.max(confirmed);
        let done = running.owner.wait("nothing", |told| Some(!told.outcomes.is_empty()));
        drop(running);
        let mut rng = fastrand::Rng::with_seed(sectors);
        let survives = |sectors: usize| (rng.usize(..=sectors), rng.usize(..=sectors));
        self.disk = self.disk.after_power_cut(survives);
        self.open(if done { [asked; 2] } else { [self.reference.floor, asked] }, false);
    }

    fn run(&mut self, command: &Command) {
        self.number += 1;
        match *command {
            Command::Records(count) => self.append_records(count),
            Command::Replacing(None) => {
                let volume_epoch = VolumeEpoch::new(self.number, WriterId(self.number));
                self.append(Entry::Promise { volume_epoch });
            }
            Command::Replacing(Some(member)) => {
                let incarnation = auriga_protocol::ids::Incarnation(self.number as u32);
                self.append(Entry::PeerLoss { member: MemberId(member), incarnation });
            }
            Command::Wait => self.wait(),
            Command::Coalesce(count) => {
                if let Some((through, task)) = self.coalescing(count) {
                    assert_eq!(self.task(task), Outcome::Coalesced { floor: Lsn(through) });
                    self.reference.coalesce(through);
                }
            }
            Command::Put { block, after } => self.put(block, after),
            Command::GiveBack => self.running().store.give_back_room().expect("the disk is sound"),
            Command::Reopen => {
                drop(self.running.take());
                self.open([self.reference.floor; 2], true);
            }
            Command::PowerCut { writes, sectors } => self.power_cut(writes, sectors),
        }
    }
}

#[test]
fn any_sequence_of_commands_leaves_what_the_reference_says() {
    fn holds(commands: Vec<Command>) -> bool {
        let mut pair = Pair::new();
        commands.iter().for_each(|command| pair.run(command));
        pair.run(&Command::Reopen);
        true
    }
    QuickCheck::new().quickcheck(holds as fn(Vec<Command>) -> bool);
}
