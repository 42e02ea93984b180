//! One file on storage that takes its time: reads that are under way while what they read is changed, made durable and
//! put out of the cache, and readers who join them. A reader sees what the file held at some moment of the read.

use auriga_page::Delta;
use auriga_pagefs::defect::{Defect, Defects};
use auriga_pagefs::fs::NewInode;
use auriga_pagefs::layout::{Kind, ROOT};
use auriga_pagefs::{FsError, FsOptions, PageFs, mkfs};
use auriga_protocol::{Change, Lsn, PageId};
use auriga_volume::{Callback, PageRead, Volume, VolumeError};
use auriga_volume::{MemoryVolume, MemoryVolumeConfig};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PAGE: u64 = 8192;
const BLOCKS: u64 = 4;

/// An answer that is on its way.
type Answered = (Result<PageRead, VolumeError>, Callback<PageRead>);

/// A volume whose reads are answered as of when they began, but only when they are let go.
struct Slow {
    volume: MemoryVolume,
    /// `None`: reads are answered at once.
    under_way: Mutex<Option<Vec<Answered>>>,
}

impl Slow {
    /// Lets the answers go that are under way.
    fn release(&self) {
        let answered = self.under_way.lock().expect("no holder panics").as_mut().map(std::mem::take);
        answered.unwrap_or_default().into_iter().for_each(|(answer, callback)| callback(answer));
    }
}

impl Volume for Slow {
    fn submit(&self, changes: Vec<Change<Delta>>, deadline: Instant) -> Result<Lsn, VolumeError> {
        self.volume.submit(changes, deadline)
    }

    fn vdl(&self) -> Lsn {
        self.volume.vdl()
    }

    fn when_durable(&self, lsn: Lsn, deadline: Instant, callback: Callback<()>) {
        self.volume.when_durable(lsn, deadline, callback);
    }

    fn read(&self, page: PageId, deadline: Instant, callback: Callback<PageRead>) {
        let (sender, receiver) = channel();
        self.volume.read(page, deadline, Box::new(move |answer| sender.send(answer).expect("it is waited for")));
        let answer = receiver.recv().expect("a volume in memory answers at once");
        let mut under_way = self.under_way.lock().expect("no holder panics");
        match &mut *under_way {
            Some(under_way) => under_way.push((answer, callback)),
            None => {
                drop(under_way);
                callback(answer);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// Fills some bytes.
    Write { at: u64, length: u64, fill: u8 },
    /// Sets the size.
    Truncate(u64),
    /// Makes some bytes zero.
    Punch { at: u64, length: u64 },
    /// Reads, without waiting.
    Begin { at: u64, length: u64 },
    /// Reads, and waits.
    Read { at: u64, length: u64 },
    /// Waits until everything is durable, and forgets it.
    Evict,
    /// Lets storage answer.
    Release,
}

fn op() -> impl Strategy<Value = Op> {
    let places = vec![0, 1, PAGE - 1, PAGE, 2 * PAGE, 3 * PAGE - 1, 3 * PAGE, BLOCKS * PAGE - 1];
    let at = prop::sample::select(places);
    let length = prop::sample::select(vec![1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE]);
    let size = prop::sample::select(vec![0, 1, PAGE, 2 * PAGE + 1, BLOCKS * PAGE]);
    prop_oneof![
        4 => (at.clone(), length.clone(), 1..=u8::MAX).prop_map(|(at, length, fill)| Op::Write { at, length, fill }),
        2 => size.prop_map(Op::Truncate),
        2 => (at.clone(), length.clone()).prop_map(|(at, length)| Op::Punch { at, length }),
        4 => (at.clone(), length.clone()).prop_map(|(at, length)| Op::Begin { at, length }),
        3 => (at, length).prop_map(|(at, length)| Op::Read { at, length }),
        4 => Just(Op::Evict),
        1 => Just(Op::Release),
    ]
}

/// A read that is not waited for yet.
struct Begun {
    answer: Receiver<Result<Vec<u8>, FsError>>,
    /// What it may see: what was there when it began, and after each change since.
    possible: Vec<Vec<u8>>,
    at: usize,
    length: usize,
}

struct Pair {
    volume: Arc<Slow>,
    fs: Arc<PageFs>,
    ino: u64,
    /// What the file holds.
    bytes: Vec<u8>,
    begun: Vec<Begun>,
}

impl Pair {
    fn new(defects: Defects, durable_after: Duration) -> Pair {
        let config = MemoryVolumeConfig { durable_after, ..Default::default() };
        let volume = Arc::new(Slow { volume: MemoryVolume::new(config), under_way: Mutex::new(None) });
        mkfs(&*volume, 0, 0, Duration::from_secs(60)).expect("an empty volume");
        let options = FsOptions { deadline: Duration::from_secs(60), workers: 1, defects, ..Default::default() };
        let fs = PageFs::load(volume.clone(), options, Box::new(|_| ())).expect("a sound file system");
        let new = NewInode { kind: Kind::File, mode: 0o600, uid: 0, gid: 0, rdev: 0, target: b"" };
        let ino = fs.create(ROOT, b"file", &new, false).expect("created").ino;
        *volume.under_way.lock().expect("no holder panics") = Some(Vec::new());
        Pair { volume, fs, ino, bytes: Vec::new(), begun: Vec::new() }
    }

    /// Waits for an answer; storage answers as soon as nothing happens without it.
    fn wait<T>(&self, answer: &Receiver<T>) -> T {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match answer.recv_timeout(Duration::from_millis(1)) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) => self.volume.release(),
                Err(RecvTimeoutError::Disconnected) => panic!("a request was dropped"),
            }
            assert!(Instant::now() < until, "a request was not answered");
        }
    }

    fn done(&self, start: impl FnOnce(Box<dyn FnOnce(Result<Lsn, FsError>) + Send>)) {
        let (sender, receiver) = channel();
        start(Box::new(move |result| sender.send(result).expect("it is waited for")));
        self.wait(&receiver).expect("the volume is sound");
    }

    fn changed(&mut self) {
        self.begun.iter_mut().for_each(|begun| begun.possible.push(self.bytes.clone()));
    }

    fn begin(&mut self, at: u64, length: u64) {
        let (sender, answer) = channel();
        self.fs.read(self.ino, at, length as u32, move |result| {
            // The reader that began it may have gone.
            let _ = sender.send(result.map(|read| read.with(<[u8]>::to_vec)));
        });
        let possible = vec![self.bytes.clone()];
        self.begun.push(Begun { answer, possible, at: at as usize, length: length as usize });
    }

    /// Every page that was read must be what it was at some moment since the read began.
    fn check(&self, begun: &Begun) -> Result<(), TestCaseError> {
        let read = self.wait(&begun.answer).expect("the volume is sound");
        for (index, part) in read.chunk_by_page(begun.at) {
            let from = begun.at + index;
            // What was cut off while it was read may be seen as zeros.
            let at = |bytes: &Vec<u8>, index: usize| bytes.get(from + index).copied().unwrap_or(0);
            let held = |bytes: &Vec<u8>| (0..part.len()).all(|index| at(bytes, index) == part[index]);
            prop_assert!(
                begun.possible.iter().any(held),
                "{} bytes at {from} are {} …, and never were",
                part.len(),
                part[0]
            );
        }
        let sizes = begun.possible.iter().map(|bytes| bytes.len().saturating_sub(begun.at).min(begun.length));
        prop_assert!(sizes.clone().any(|size| size == read.len()), "{} bytes", read.len());
        Ok(())
    }

    fn run(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Write { at, length, fill } => {
                let data = vec![fill; length as usize];
                self.done(|done| self.fs.write(self.ino, at, &data, done));
                let end = (at + length) as usize;
                self.bytes.resize(self.bytes.len().max(end), 0);
                self.bytes[at as usize..end].fill(fill);
                self.changed();
            }
            Op::Truncate(size) => {
                self.done(|done| self.fs.truncate(self.ino, size, done));
                self.bytes.resize(size as usize, 0);
                self.changed();
            }
            Op::Punch { at, length } => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                self.done(|done| self.fs.allocate(self.ino, at, length, mode, done));
                let end = ((at + length) as usize).min(self.bytes.len());
                self.bytes[(at as usize).min(end)..end].fill(0);
                self.changed();
            }
            Op::Begin { at, length } => self.begin(at, length),
            Op::Read { at, length } => {
                self.begin(at, length);
                let begun = self.begun.pop().expect("just begun");
                self.check(&begun)?;
            }
            Op::Evict => {
                self.fs.sync_now(None).expect("durable");
                self.fs.drop_caches();
            }
            Op::Release => self.volume.release(),
        }
        Ok(())
    }
}

trait ChunkByPage {
    /// The parts that lie in one page each, with where they begin.
    fn chunk_by_page(&self, at: usize) -> Vec<(usize, &[u8])>;
}

impl ChunkByPage for Vec<u8> {
    fn chunk_by_page(&self, at: usize) -> Vec<(usize, &[u8])> {
        let mut parts = Vec::new();
        let mut from = 0;
        while from < self.len() {
            let to = self.len().min(from + PAGE as usize - (at + from) % PAGE as usize);
            parts.push((from, &self[from..to]));
            from = to;
        }
        parts
    }
}

fn run(defects: Defects, delay: u64, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut pair = Pair::new(defects, Duration::from_micros(delay));
    ops.iter().try_for_each(|op| pair.run(op))?;
    pair.begun.iter().try_for_each(|begun| pair.check(begun))
}

fn cases() -> impl Strategy<Value = (u64, Vec<Op>)> {
    (prop::sample::select(vec![0, 300]), prop::collection::vec(op(), 1..60))
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn whoever_reads_sees_what_was_there((delay, ops) in cases()) {
        run(Defects::default(), delay, &ops)?;
    }
}

#[test]
fn zeros_for_what_was_changed_and_evicted_meanwhile_are_caught() {
    let config = ProptestConfig { cases: 2000, max_shrink_iters: 0, failure_persistence: None, ..Default::default() };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let defects = Defects::planted(Defect::OutdatedFetchIsZero);
    let caught = TestRunner::new_with_rng(config, random).run(&cases(), |(delay, ops)| run(defects, delay, &ops));
    assert!(caught.is_err(), "the defect was not found");
}
