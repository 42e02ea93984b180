//! For tests: a disk in memory whose power can be cut, and an owner that remembers what it was told.

use crate::disk::{Directory, File};
use crate::error::Failure;
use crate::store::{Store, StoreEvents};
use crate::{Delta, PAGE_SIZE, StoreOptions};
use auriga_protocol::segment::{Entry, Outcome, Survived};
use auriga_protocol::{
    AppendId, Charter, Geometry, Lsn, MemberId, Membership, PageId, PgId, QuorumSet, Record, SegmentId, Shape, VolumeId,
};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A disk in memory. What a file holds durably and what was written since are kept apart.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: BTreeMap<String, Arc<Mutex<Content>>>,
    /// Writes that may still happen before the power is cut; `None`: no end.
    writes_left: Option<u64>,
    writes: u64,
    free: Option<u64>,
    no_holes: bool,
    punched: u64,
}

#[derive(Clone, Default)]
struct Content {
    durable: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
    now: Vec<u8>,
}

struct MemoryFile {
    disk: MemoryDisk,
    content: Arc<Mutex<Content>>,
}

fn write(into: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if into.len() < end {
        into.resize(end, 0);
    }
    into[offset as usize..end].copy_from_slice(bytes);
}

impl MemoryDisk {
    /// Cuts the power after this many more writes.
    pub fn cut_after(&self, writes: u64) {
        self.0.lock().unwrap().writes_left = Some(writes);
    }

    /// Writes so far.
    pub fn writes(&self) -> u64 {
        self.0.lock().unwrap().writes
    }

    /// From now on, says that this much is left.
    pub fn set_free(&self, bytes: u64) {
        self.0.lock().unwrap().free = Some(bytes);
    }

    /// From now on, can't make holes.
    pub fn without_holes(&self) {
        self.0.lock().unwrap().no_holes = true;
    }

    /// Bytes that holes were made of.
    pub fn punched(&self) -> u64 {
        self.0.lock().unwrap().punched
    }

    /// The disk after the power cut: of each file, what was synchronised, and of each write since then what `survives`
    /// says: how many of its sectors of 512 bytes, from which one on.
    pub fn after_power_cut(&self, mut survives: impl FnMut(usize) -> (usize, usize)) -> MemoryDisk {
        let mut files = BTreeMap::new();
        for (name, content) in &self.0.lock().unwrap().files {
            let content = content.lock().unwrap();
            let mut durable = content.durable.clone();
            for (offset, bytes) in &content.unsynced {
                let sectors = bytes.len().div_ceil(512);
                let (first, count) = survives(sectors);
                let from = (first * 512).min(bytes.len());
                let to = ((first + count) * 512).min(bytes.len());
                if from < to {
                    write(&mut durable, offset + from as u64, &bytes[from..to]);
                }
            }
            let content = Content { now: durable.clone(), durable, unsynced: Vec::new() };
            files.insert(name.clone(), Arc::new(Mutex::new(content)));
        }
        MemoryDisk(Arc::new(Mutex::new(State { files, ..State::default() })))
    }

    /// The disk after the process was killed: everything written is there.
    pub fn copy(&self) -> MemoryDisk {
        self.after_power_cut(|sectors| (0, sectors))
    }

    /// Every file's name and length.
    pub fn files(&self) -> Vec<(String, usize)> {
        let state = self.0.lock().unwrap();
        state.files.iter().map(|(name, content)| (name.clone(), content.lock().unwrap().now.len())).collect()
    }

    /// Changes bits of one byte.
    pub fn flip(&self, name: &str, at: usize, bits: u8) {
        let state = self.0.lock().unwrap();
        let mut content = state.files[name].lock().unwrap();
        content.now[at] ^= bits;
        content.durable = content.now.clone();
    }

    fn may_write(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        match &mut state.writes_left {
            Some(0) => return Err(io::Error::other("the power is cut")),
            Some(left) => *left -= 1,
            None => {}
        }
        state.writes += 1;
        Ok(())
    }

    fn file(&self, content: &Arc<Mutex<Content>>) -> Arc<dyn File> {
        Arc::new(MemoryFile { disk: self.clone(), content: content.clone() })
    }
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content.lock().unwrap();
        let from = (offset as usize).min(content.now.len());
        let count = buffer.len().min(content.now.len() - from);
        buffer[..count].copy_from_slice(&content.now[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // The write during which the power is cut may have reached the disk in part.
        let allowed = self.disk.may_write();
        let mut content = self.content.lock().unwrap();
        content.unsynced.push((offset, bytes.to_vec()));
        write(&mut content.now, offset, bytes);
        allowed
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.may_write()?;
        let mut content = self.content.lock().unwrap();
        content.durable = content.now.clone();
        content.unsynced.clear();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().now.len() as u64)
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<bool> {
        if self.disk.0.lock().unwrap().no_holes {
            return Ok(false);
        }
        self.disk.0.lock().unwrap().punched += length;
        self.write_at(&vec![0; length as usize], offset).map(|()| true)
    }
}

/// Names are durable at once: the store synchronises directories, which this disk does not test.
impl Directory for MemoryDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let content = self.0.lock().unwrap().files.get(name).cloned();
        content.map(|content| self.file(&content)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.may_write()?;
        let content = Arc::default();
        self.0.lock().unwrap().files.insert(name.into(), Arc::clone(&content));
        Ok(self.file(&content))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.may_write()?;
        let mut state = self.0.lock().unwrap();
        let content = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.into(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.may_write()?;
        self.0.lock().unwrap().files.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.0.lock().unwrap();
        let inside = |name: &String| match name.rsplit_once('/') {
            Some((parent, rest)) => (parent == dir).then(|| rest.to_owned()),
            None => dir.is_empty().then(|| name.clone()),
        };
        Ok(state.files.keys().filter_map(inside).collect())
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        self.may_write()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().free.unwrap_or(u64::MAX))
    }
}

/// Remembers what it was told.
#[derive(Default)]
pub struct Recorder {
    told: Mutex<Told>,
    changed: Condvar,
}

/// What the store told its owner.
#[derive(Default)]
pub struct Told {
    pub durable: BTreeMap<SegmentId, AppendId>,
    pub outcomes: Vec<(SegmentId, Outcome<Delta>)>,
    pub fatal: Option<String>,
}

impl Recorder {
    /// Waits until `wanted` finds something, or panics after some seconds.
    pub fn wait<T>(&self, what: &str, mut wanted: impl FnMut(&mut Told) -> Option<T>) -> T {
        let mut told = self.told.lock().unwrap();
        for _ in 0..1000 {
            if let Some(found) = wanted(&mut told) {
                return found;
            }
            told = self.changed.wait_timeout(told, Duration::from_millis(20)).unwrap().0;
        }
        panic!("waited in vain for {what}; failure: {:?}", told.fatal);
    }

    /// Waits until the append is durable, or the store has failed. Returns whether it is durable.
    pub fn durable(&self, segment: SegmentId, append: u64) -> bool {
        self.wait("an append", |told| {
            let reached = told.durable.get(&segment).is_some_and(|durable| durable.0 >= append);
            (reached || told.fatal.is_some()).then_some(reached)
        })
    }

    /// Waits for the next outcome.
    pub fn outcome(&self, segment: SegmentId) -> Option<Outcome<Delta>> {
        self.wait("an outcome", |told| {
            let at = told.outcomes.iter().position(|(of, _)| *of == segment);
            match at {
                Some(at) => Some(Some(told.outcomes.remove(at).1)),
                None => told.fatal.is_some().then_some(None),
            }
        })
    }
}

impl StoreEvents for Recorder {
    fn durable(&self, segment: SegmentId, append: AppendId) {
        self.told.lock().unwrap().durable.insert(segment, append);
        self.changed.notify_all();
    }

    fn task_done(&self, segment: SegmentId, outcome: Outcome<Delta>) {
        self.told.lock().unwrap().outcomes.push((segment, outcome));
        self.changed.notify_all();
    }

    fn failed(&self, failure: &Failure) {
        self.told.lock().unwrap().fatal.get_or_insert(failure.to_string());
        self.changed.notify_all();
    }
}

/// A store with small files.
pub fn options() -> StoreOptions {
    StoreOptions {
        journal_file_bytes: 64 << 10,
        reserve_bytes: 0,
        watch_every: Duration::from_millis(10),
        ..StoreOptions::new(1, "node")
    }
}

/// A store on `disk`, started.
pub struct Running {
    pub store: Store,
    pub owner: Arc<Recorder>,
    pub survived: BTreeMap<SegmentId, Survived<Delta>>,
}

impl Running {
    pub fn open(disk: &MemoryDisk, options: StoreOptions) -> Running {
        let (store, survived) = Store::open_on(Arc::new(disk.clone()), options).expect("opens");
        let owner = Arc::new(Recorder::default());
        store.start(owner.clone());
        Running { store, owner, survived: survived.into_iter().collect() }
    }
}

impl Running {
    /// Waits for an outcome of the first segment, and passes over others.
    pub fn wait_for(&self, wanted: impl Fn(&Outcome<Delta>) -> bool) -> Outcome<Delta> {
        self.owner.wait("an outcome", |told| {
            let at = told.outcomes.iter().position(|(of, outcome)| *of == segment(1) && wanted(outcome))?;
            Some(told.outcomes.remove(at).1)
        })
    }
}

pub fn segment(volume: u64) -> SegmentId {
    SegmentId { volume: VolumeId(volume), pg: PgId(0), member: MemberId(1) }
}

/// What the volumes of these tests were made as.
pub fn charter() -> Charter {
    Charter {
        label: 7,
        shape: Shape { geometry: Geometry { groups: 1, extent_blocks: 1024 }, allocation_limit: 1 << 20 },
    }
}

pub fn membership() -> Membership {
    Membership::initial(QuorumSet::aurora())
}

pub fn page(block: u64) -> PageId {
    PageId { inode: 1, block }
}

/// A record that replaces its page by [`content`].
pub fn record(lsn: u64, page: PageId) -> Record<Delta> {
    Record {
        lsn: Lsn(lsn),
        prev_volume: Lsn(lsn - 1),
        prev_segment: Lsn(lsn - 1),
        prev_block: Lsn::ZERO,
        is_cpl: true,
        page,
        payload: Delta::full(&content(lsn)),
    }
}

/// The content that [`record`] makes; now and then the zero page, which is forgotten.
pub fn content(lsn: u64) -> [u8; PAGE_SIZE] {
    let mut content = [0; PAGE_SIZE];
    if matches!(lsn, 20 | 26 | 30) {
        return content;
    }
    content[..8].copy_from_slice(&lsn.to_le_bytes());
    content[4000..4100].fill(lsn as u8 | 1);
    content
}

pub fn records(lsns: impl IntoIterator<Item = u64>) -> Entry<Delta> {
    let records: Vec<_> = lsns.into_iter().map(|lsn| record(lsn, page(lsn % 7))).collect();
    let vdl = records.first().map_or(Lsn::ZERO, |record| record.prev_volume);
    Entry::Records { records, vdl }
}

/// The LSNs of all records that survived, in order.
pub fn lsns(survived: &Survived<Delta>) -> Vec<u64> {
    let mut lsns = Vec::new();
    for entry in &survived.entries {
        if let Entry::Records { records, .. } = entry {
            lsns.extend(records.iter().map(|record| record.lsn.0));
        }
    }
    lsns
}
