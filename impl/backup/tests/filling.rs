//! Volumes with any content and any history, backed up at any points, restored, with crashes anywhere in the middle.

use auriga_backup::format::{Base, BasePart, Head, Identity, Log, Transaction, names, page};
use auriga_backup::{Restore, RestoreError, Store};
use auriga_page::{Delta, PAGE_SIZE, PageImage};
use auriga_pagefs::layout::RESTORING;
use auriga_protocol::{Change, Lsn, PageId, Payload, VolumeId};
use auriga_volume::{MemoryVolume, MemoryVolumeConfig, Volume};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const VOLUME: VolumeId = VolumeId(7);
const SUPERBLOCK: PageId = PageId { inode: 0, block: 0 };

type Pages = BTreeMap<PageId, PageImage>;

/// What a volume was, mini-transaction by mini-transaction.
struct History {
    log: Vec<Transaction>,
    /// The pages before the first of them, and after each.
    states: Vec<Pages>,
}

impl History {
    fn random(rng: &mut Rng) -> History {
        let mut history = History { log: Vec::new(), states: vec![Pages::new()] };
        let mut lsn = 0;
        for _ in 0..rng.usize(2..40) {
            let mut pages = history.states.last().unwrap().clone();
            let changes: Vec<_> = (0..rng.usize(1..4)).map(|_| random_change(rng, &mut pages)).collect();
            // LSNs jump where a recovery annulled some.
            lsn += changes.len() as u64 + if rng.u8(..) < 20 { 1000 } else { 0 };
            history.log.push(Transaction { lsn: Lsn(lsn), changes });
            history.states.push(pages);
        }
        history
    }

    /// Where the first `count` mini-transactions end.
    fn end(&self, count: usize) -> Lsn {
        if count == 0 { Lsn::ZERO } else { self.log[count - 1].lsn }
    }

    /// Backs it up: a base image whose parts are of several points, and the log since it began.
    fn back_up(&self, rng: &mut Rng, store: &Store) {
        store.put(names::IDENTITY, &Identity { volume: VOLUME, began: 0 }).unwrap();
        let first = rng.usize(..self.log.len());
        let begin = self.end(first);
        let ids: Vec<PageId> = (0..9).map(numbered).collect();
        let (mut parts, mut through, mut count) = (Vec::new(), begin, 0);
        for (number, some) in (0..).zip(ids.chunks(rng.usize(1..5))) {
            let at = rng.usize(first..=self.log.len());
            let image =
                |id: &PageId| self.states[at].get(id).filter(|image| !image.is_zero()).map(|image| (*id, image));
            let pages: Vec<_> = some.iter().filter_map(image).map(|(id, image)| page(id, image.content())).collect();
            count += pages.len() as u64;
            let at = self.end(at);
            through = through.max(at);
            let part = BasePart { volume: VOLUME, begin, part: number, at, pages };
            parts.push(store.put(&names::part(begin, number), &part).unwrap());
        }
        let base = Base { volume: VOLUME, begin, through, ended: 1, parts, pages: count };
        store.put(&names::base(begin), &base).unwrap();
        let mut above = begin;
        for some in self.log[first..].chunks(rng.usize(1..6)) {
            let through = some.last().unwrap().lsn;
            let log = Log { volume: VOLUME, above, through, read: 2, transactions: some.to_vec() };
            store.put(&names::log(above, through), &log).unwrap();
            above = through;
        }
        store.put(names::HEAD, &Head { volume: VOLUME, through: above, read: 2 }).unwrap();
    }
}

fn numbered(number: u64) -> PageId {
    if number == 0 { SUPERBLOCK } else { PageId { inode: number / 3, block: number % 3 + 1 } }
}

/// Changes one of a few pages in any of the ways that there are.
fn random_change(rng: &mut Rng, pages: &mut Pages) -> Change<Delta> {
    let id = numbered(rng.u64(..9));
    let image = pages.entry(id).or_default();
    let mut new = image.content().to_vec();
    let (at, length) = (rng.usize(..PAGE_SIZE - 64), rng.usize(1..64));
    let payload = match rng.u8(..10) {
        0 => Delta::zero(),
        1 => Delta::full(&vec![rng.u8(..); PAGE_SIZE]),
        2..5 => {
            let (old, byte) = (new[at..at + length].to_vec(), rng.u8(..));
            let written = vec![byte; length];
            Delta::within(at, &old, &written).unwrap_or_else(Delta::zero)
        }
        _ => {
            new[at..at + length].fill(rng.u8(..));
            Delta::between(image.content(), &new).unwrap_or_else(Delta::zero)
        }
    };
    payload.apply(image);
    Change { page: id, payload }
}

fn read(volume: &MemoryVolume, page: PageId) -> PageImage {
    let (sender, receiver) = mpsc::channel();
    let tell = move |read: Result<auriga_volume::PageRead, _>| sender.send(read.unwrap().page).unwrap();
    volume.read(page, Instant::now() + Duration::from_secs(60), Box::new(tell));
    receiver.recv().unwrap()
}

fn restore(store: &Store, volume: &Arc<MemoryVolume>, runtime: &tokio::runtime::Runtime) -> Result<(), RestoreError> {
    let all = Restore { store: store.clone(), at: None, clocks_within: Duration::from_secs(1) };
    let volume: Arc<dyn Volume> = volume.clone();
    all.run(&volume, runtime.handle(), |_| Err("not asked for".to_owned())).map(drop)
}

#[test]
fn a_restored_volume_is_the_one_that_was_backed_up_whatever_was_interrupted() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_str().unwrap()).unwrap();
        let history = History::random(&mut rng);
        history.back_up(&mut rng, &store);
        let mut volume = Arc::new(MemoryVolume::new(MemoryVolumeConfig::default()));
        for _ in 0..rng.usize(..4) {
            restore(&store, &volume, &runtime).unwrap();
            let points = volume.consistency_points();
            let unfinished = &points[..points.len() - 1];
            assert!(!unfinished.is_empty(), "seed {seed}: the superblock is written last");
            volume = Arc::new(volume.crash_at(unfinished[rng.usize(..unfinished.len())]));
            assert_eq!(read(&volume, SUPERBLOCK).content()[..8], RESTORING, "seed {seed}: nobody can open it");
        }
        restore(&store, &volume, &runtime).unwrap();
        for (id, image) in history.states.last().unwrap() {
            assert_eq!(read(&volume, *id), *image, "seed {seed}: {id:?}");
        }
        if !read(&volume, SUPERBLOCK).is_zero() {
            let again = restore(&store, &volume, &runtime);
            assert!(matches!(again, Err(RestoreError::NotEmpty)), "seed {seed}: {again:?}");
        }
    }
}

#[test]
fn whatever_is_missing_or_damaged_ends_a_restore() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_str().unwrap()).unwrap();
        History::random(&mut rng).back_up(&mut rng, &store);
        let names =
            [vec![names::IDENTITY.to_owned()], store.list("base/").unwrap(), store.list("log/").unwrap()].concat();
        let name = rng.choice(&names).unwrap();
        let path = dir.path().join(name);
        if rng.bool() {
            std::fs::remove_file(&path).unwrap();
        } else {
            let mut bytes = std::fs::read(&path).unwrap();
            let at = rng.usize(..bytes.len());
            bytes[at] ^= 1 << rng.u8(..8);
            std::fs::write(&path, bytes).unwrap();
        }
        let volume = Arc::new(MemoryVolume::new(MemoryVolumeConfig::default()));
        let ended = restore(&store, &volume, &runtime);
        assert!(ended.is_err(), "seed {seed}, {name}: it was restored");
        let mark = read(&volume, SUPERBLOCK);
        assert!(volume.vdl() == Lsn::ZERO || mark.content()[..8] == RESTORING, "seed {seed}, {name}");
    }
}
