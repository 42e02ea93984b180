//! Measures the page store against redb, and ways to make a log durable, on the file system it is run on.
//!
//! `cargo run --release -p auriga-store --example page_store_bench -- [directory]`: some seconds, some hundred MiB in a
//! temporary directory. `specs/decisions/0003-page-store.md` has figures and what was decided.

use auriga_page::{Delta, PAGE_SIZE, PageImage};
use auriga_protocol::record::materialise;
use auriga_protocol::segment::{Outcome, Task};
use auriga_protocol::{
    AppendId, Change, Charter, Geometry, Lsn, MemberId, Membership, PageId, PgId, QuorumSet, Record, SegmentId, Shape,
    Token, VolumeId,
};
use auriga_store::{Store, StoreEvents, StoreOptions};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::error::Error;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const PAGES: u64 = 16_384;
const BATCH: usize = 4096;
const ROUNDS: usize = 6;
const READS: usize = 20_000;
const SEGMENT: SegmentId = SegmentId { volume: VolumeId(1), pg: PgId(0), member: MemberId(0) };

type Failed = Box<dyn Error>;

/// What is measured: something that keeps pages.
trait PageStore {
    fn coalesce(&mut self, through: u64, changes: &[Change<Delta>]) -> Result<(), Failed>;
    fn read(&mut self, page: PageId) -> Result<Option<PageImage>, Failed>;
}

/// Ours.
struct Ours {
    store: Store,
    outcomes: Receiver<Outcome<Delta>>,
}

struct Forward(Sender<Outcome<Delta>>);

impl StoreEvents for Forward {
    fn durable(&self, _: SegmentId, _: AppendId) {}

    fn task_done(&self, _: SegmentId, outcome: Outcome<Delta>) {
        // No thread listens any more when the store is being closed.
        let _ = self.0.send(outcome);
    }
}

impl Ours {
    fn open(dir: &Path) -> Result<Ours, Failed> {
        let (store, survived) = Store::open(dir, StoreOptions::new(1, "bench"))?;
        let (sender, outcomes) = channel();
        store.start(Arc::new(Forward(sender)));
        if survived.is_empty() {
            let geometry = Geometry { groups: 1, extent_blocks: 1024 };
            let charter = Charter { label: 1, shape: Shape { geometry, allocation_limit: 1 << 20 } };
            store.create_segment(SEGMENT, Membership::initial(QuorumSet::aurora()), charter, false)?;
        }
        Ok(Ours { store, outcomes })
    }
}

fn record(lsn: u64, change: &Change<Delta>) -> Record<Delta> {
    Record {
        lsn: Lsn(lsn),
        prev_volume: Lsn::ZERO,
        prev_segment: Lsn::ZERO,
        prev_block: Lsn::ZERO,
        is_cpl: true,
        page: change.page,
        payload: change.payload.clone(),
    }
}

impl PageStore for Ours {
    fn coalesce(&mut self, through: u64, changes: &[Change<Delta>]) -> Result<(), Failed> {
        let first = through - changes.len() as u64 + 1;
        let records = (first..).zip(changes).map(|(lsn, change)| record(lsn, change)).collect();
        let floor = Lsn(through);
        self.store.run(SEGMENT, Task::Coalesce { floor, records });
        match self.outcomes.recv()? {
            Outcome::Coalesced { .. } => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    }

    fn read(&mut self, page: PageId) -> Result<Option<PageImage>, Failed> {
        self.store.run(SEGMENT, Task::ReadBase { token: Token(0), page });
        match self.outcomes.recv()? {
            Outcome::Base { base, .. } => Ok(base.map(|base| base.content)),
            other => Err(format!("{other:?}").into()),
        }
    }
}

const TABLE: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("pages");

/// redb, with the version in front of each page, as ours has it in the slot's header.
struct Redb(Database);

impl PageStore for Redb {
    fn coalesce(&mut self, through: u64, changes: &[Change<Delta>]) -> Result<(), Failed> {
        let first = through - changes.len() as u64 + 1;
        let mut records: Vec<_> = (first..).zip(changes).map(|(lsn, change)| record(lsn, change)).collect();
        records.sort_by_key(|record| (record.page, record.lsn));
        let write = self.0.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            for records in records.chunk_by(|one, next| one.page == next.page) {
                let key = (records[0].page.inode, records[0].page.block);
                let (version, mut page) = match table.get(key)? {
                    Some(value) => parse(value.value())?,
                    None => (Lsn::ZERO, PageImage::default()),
                };
                let version = materialise(&mut page, version, Lsn(through), records);
                let value = [&version.0.to_le_bytes()[..], page.content()].concat();
                table.insert(key, &value[..])?;
            }
        }
        Ok(write.commit()?)
    }

    fn read(&mut self, page: PageId) -> Result<Option<PageImage>, Failed> {
        let read = self.0.begin_read()?;
        let value = read.open_table(TABLE)?.get((page.inode, page.block))?;
        value.map(|value| Ok(parse(value.value())?.1)).transpose()
    }
}

fn parse(value: &[u8]) -> Result<(Lsn, PageImage), Failed> {
    let (version, content) = value.split_first_chunk::<8>().ok_or("a short value")?;
    Ok((Lsn(u64::from_le_bytes(*version)), PageImage::new(bytes::Bytes::copy_from_slice(content))?))
}

/// Deterministic pseudo-random numbers: the same for both.
struct Random(fastrand::Rng);

impl Random {
    fn page(&mut self) -> PageId {
        PageId { inode: 1, block: self.0.u64(..PAGES) }
    }

    /// A change like PostgreSQL's: the page's LSN, and a tuple somewhere.
    fn change(&mut self) -> Change<Delta> {
        let mut new = [0; PAGE_SIZE];
        self.0.fill(&mut new[..8]);
        let at = self.0.usize(24..PAGE_SIZE - 200);
        self.0.fill(&mut new[at..at + 120]);
        let payload = Delta::between(&[], &new).expect("random bytes are not all zero");
        Change { page: self.page(), payload }
    }

    fn full(&mut self, block: u64) -> Change<Delta> {
        let mut new = [0; PAGE_SIZE];
        self.0.fill(&mut new);
        Change { page: PageId { inode: 1, block }, payload: Delta::full(&new) }
    }
}

fn measure(name: &str, store: &mut dyn PageStore, dir: &Path) -> Result<(), Failed> {
    let mut random = Random(fastrand::Rng::with_seed(7));
    let mut lsn = 0;
    for first in (0..PAGES).step_by(BATCH) {
        let changes: Vec<_> = (first..first + BATCH as u64).map(|block| random.full(block)).collect();
        lsn += changes.len() as u64;
        store.coalesce(lsn, &changes)?;
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let changes: Vec<_> = (0..BATCH).map(|_| random.change()).collect();
        lsn += changes.len() as u64;
        let begun = Instant::now();
        store.coalesce(lsn, &changes)?;
        rounds.push(begun.elapsed());
    }
    rounds.sort_unstable();
    let begun = Instant::now();
    for _ in 0..READS {
        store.read(random.page())?.ok_or("a page is missing")?;
    }
    let read = begun.elapsed() / READS as u32;
    println!(
        "{name:<6} coalesce {BATCH} random pages: median {:>5.0} ms, worst {:>5.0} ms; read {:>5.1} µs; {:>4} MiB on disk for {} MiB",
        millis(rounds[ROUNDS / 2]),
        millis(rounds[ROUNDS - 1]),
        read.as_secs_f64() * 1e6,
        size_of(dir)? >> 20,
        (PAGES * PAGE_SIZE as u64) >> 20,
    );
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn size_of(path: &Path) -> Result<u64, Failed> {
    if path.is_file() {
        return Ok(path.metadata()?.len());
    }
    std::fs::read_dir(path)?.map(|entry| size_of(&entry?.path())).sum()
}

/// Flips one byte of a page's content in `file`, and asks whether reading every page notices.
fn flip(name: &str, file: &Path, open: impl Fn() -> Result<Box<dyn PageStore>, Failed>) -> Result<(), Failed> {
    let (mut noticed, mut silent) = (0, 0);
    for step in 1..=8 {
        let before = pages(&mut *open()?)?;
        let at = file.metadata()?.len() * step / 9 + 1234;
        let bytes = std::fs::File::options().read(true).write(true).open(file)?;
        let mut byte = [0];
        bytes.read_exact_at(&mut byte, at)?;
        bytes.write_all_at(&[byte[0] ^ 1], at)?;
        match open().and_then(|mut store| pages(&mut *store)) {
            Err(_) => noticed += 1,
            Ok(after) if after != before => silent += 1,
            Ok(_) => {}
        }
        bytes.write_all_at(&byte, at)?;
    }
    println!(
        "{name:<6} one byte flipped, 8 times: noticed on read {noticed}, wrong data without a word {silent}, unused bytes {}",
        8 - noticed - silent
    );
    Ok(())
}

fn pages(store: &mut dyn PageStore) -> Result<Vec<Option<PageImage>>, Failed> {
    (0..PAGES).map(|block| store.read(PageId { inode: 1, block })).collect()
}

/// One 8 KiB append and `fdatasync` after another.
fn syncs(dir: &Path) -> Result<(), Failed> {
    const APPENDS: u64 = 300;
    let path = dir.join("log");
    let time = |file: &std::fs::File| -> Result<f64, Failed> {
        let mut times = Vec::new();
        for append in 0..APPENDS {
            let begun = Instant::now();
            file.write_all_at(&[append as u8 | 1; PAGE_SIZE], append * PAGE_SIZE as u64)?;
            file.sync_data()?;
            times.push(millis(begun.elapsed()));
        }
        times.sort_by(f64::total_cmp);
        Ok(times[APPENDS as usize / 2])
    };
    for _ in 0..2 {
        let growing = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        let grown = time(&growing)?;
        let zeroed = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        zeroed.write_all_at(&vec![0; (APPENDS as usize) * PAGE_SIZE], 0)?;
        zeroed.sync_all()?;
        let overwritten = time(&zeroed)?;
        println!(
            "append 8 KiB + fdatasync, median: growing file {grown:.2} ms, preallocated by zeros {overwritten:.2} ms"
        );
    }
    Ok(())
}

fn main() -> Result<(), Failed> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(parent)?;
    syncs(dir.path())?;
    let (ours, redb) = (dir.path().join("ours"), dir.path().join("redb"));
    std::fs::create_dir_all(&redb)?;
    let redb_file = redb.join("pages.redb");
    let open_ours = || -> Result<Box<dyn PageStore>, Failed> { Ok(Box::new(Ours::open(&ours)?)) };
    let open_redb = || -> Result<Box<dyn PageStore>, Failed> { Ok(Box::new(Redb(Database::create(&redb_file)?))) };
    measure("ours", &mut *open_ours()?, &ours.join("pages"))?;
    measure("redb", &mut *open_redb()?, &redb)?;
    flip("ours", &ours.join("pages/v1-pg0-A"), open_ours)?;
    flip("redb", &redb_file, open_redb)?;
    Ok(())
}
