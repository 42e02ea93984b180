//! The file system at its limits: a volume that is slow, gone or taken over, a full cache, a full file system, and
//! many at once.

use auriga_page::Delta;
use auriga_pagefs::fs::{NewInode, RenameMode};
use auriga_pagefs::layout::{FILE_MAX, Kind, ROOT};
use auriga_pagefs::{FsError, FsOptions, LoadError, PageFs, mkfs};
use auriga_protocol::{Change, Lsn, PageId, VolumeEpoch, WriterId};
use auriga_volume::{Callback, PageRead, Volume, VolumeError};
use auriga_volume::{MemoryVolume, MemoryVolumeConfig};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const PAGE: usize = 8192;

fn volume(durable_after: Duration) -> Arc<MemoryVolume> {
    let volume = Arc::new(MemoryVolume::new(MemoryVolumeConfig { durable_after, ..Default::default() }));
    mkfs(&*volume, 0, 0, Duration::from_secs(5)).expect("an empty volume");
    volume
}

fn load(volume: &Arc<MemoryVolume>, options: FsOptions) -> Arc<PageFs> {
    PageFs::load(volume.clone(), options, Box::new(|_| ())).expect("a sound file system")
}

fn patient() -> FsOptions {
    FsOptions { deadline: Duration::from_secs(20), ..FsOptions::default() }
}

fn file(fs: &PageFs, name: &str) -> u64 {
    let new = NewInode { kind: Kind::File, mode: 0o600, uid: 0, gid: 0, rdev: 0, target: b"" };
    fs.create(ROOT, name.as_bytes(), &new, false).expect("created").ino
}

fn wait<T: Send + 'static>(start: impl FnOnce(Box<dyn FnOnce(T) + Send>)) -> T {
    let (sender, receiver) = mpsc::channel();
    start(Box::new(move |result| sender.send(result).expect("the test waits")));
    receiver.recv_timeout(Duration::from_secs(40)).expect("every request is answered")
}

fn write(fs: &Arc<PageFs>, ino: u64, offset: usize, data: &[u8]) -> Result<Lsn, FsError> {
    wait(|done| fs.write(ino, offset as u64, data, done))
}

fn read(fs: &Arc<PageFs>, ino: u64, offset: usize, size: u32) -> Result<Vec<u8>, FsError> {
    wait(|done| fs.read(ino, offset as u64, size, done)).map(|read| read.with(<[u8]>::to_vec))
}

/// Waits, within reason, until `what` holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_volume_is_formatted_once_and_must_be() {
    let empty = Arc::new(MemoryVolume::new(MemoryVolumeConfig::default()));
    let loaded = PageFs::load(empty.clone(), patient(), Box::new(|_| ()));
    assert!(matches!(loaded.err(), Some(LoadError::Empty)));
    mkfs(&*empty, 0, 0, Duration::from_secs(5)).expect("empty");
    assert!(matches!(mkfs(&*empty, 0, 0, Duration::from_secs(5)), Err(LoadError::NotEmpty)));
}

#[test]
fn fsync_waits_for_durability_and_fails_at_the_deadline() {
    let volume = volume(Duration::ZERO);
    let fs = load(&volume, FsOptions { deadline: Duration::from_millis(200), ..FsOptions::default() });
    let ino = file(&fs, "a");
    volume.hold(true);
    let lsn = write(&fs, ino, 0, b"not yet").expect("writing does not wait");
    assert_eq!(fs.sync_now(Some(ino)), Err(FsError::Volume(VolumeError::TimedOut)));
    let synced = wait(|done| fs.when_durable(lsn, done));
    assert_eq!((synced, fs.figures().failed_syncs), (Err(FsError::Volume(VolumeError::TimedOut)), 2));
    volume.hold(false);
    fs.sync_now(None).expect("it was only slow");
    assert!(volume.vdl() >= lsn);
}

#[test]
fn fsync_of_any_file_covers_every_earlier_write() {
    let volume = volume(Duration::from_micros(500));
    let fs = load(&volume, patient());
    let (a, b) = (file(&fs, "a"), file(&fs, "b"));
    write(&fs, a, 0, b"first").expect("written");
    fs.sync_now(Some(b)).expect("durable");
    let after = load(&Arc::new(volume.crash_at(volume.vdl())), patient());
    assert_eq!(read(&after, a, 0, 100), Ok(b"first".to_vec()));
}

#[test]
fn a_fenced_volume_answers_eio_and_tells_its_owner_once() {
    let volume = volume(Duration::ZERO);
    let told: Arc<Mutex<Vec<VolumeError>>> = Arc::default();
    let listener = Arc::clone(&told);
    let on_lost = Box::new(move |error| listener.lock().expect("unpoisoned").push(error));
    let fs = PageFs::load(volume.clone(), patient(), on_lost).expect("a sound file system");
    let ino = file(&fs, "a");
    write(&fs, ino, 0, b"before").expect("written");
    let by = VolumeEpoch::new(7, WriterId(7));
    volume.fence(by);
    let begun = Instant::now();
    assert_eq!(write(&fs, ino, 0, b"after"), Err(FsError::Volume(VolumeError::Fenced { by })));
    assert_eq!(write(&fs, ino, 0, b"after").map_err(FsError::errno), Err(libc::EIO));
    assert_eq!(fs.sync_now(None).map_err(FsError::errno), Err(libc::EIO));
    assert_eq!(fs.unlink(ROOT, b"a").map_err(FsError::errno), Err(libc::EIO));
    assert_eq!(wait(|done| fs.truncate(ino, 0, done)).map_err(FsError::errno), Err(libc::EIO));
    assert!(fs.is_lost() && begun.elapsed() < Duration::from_secs(5), "at once");
    assert_eq!(*told.lock().expect("unpoisoned"), [VolumeError::Fenced { by }]);
    assert_eq!(read(&fs, ino, 0, 9), Ok(b"before".to_vec()), "nothing that failed is visible");
}

#[test]
fn a_fence_is_noticed_by_whoever_waits_for_durability() {
    let volume = volume(Duration::ZERO);
    let told = Arc::new(AtomicU64::new(0));
    let listener = Arc::clone(&told);
    let on_lost = Box::new(move |_| {
        listener.fetch_add(1, SeqCst);
    });
    let fs = PageFs::load(volume.clone(), patient(), on_lost).expect("a sound file system");
    volume.hold(true);
    let ino = file(&fs, "a");
    let waiting = wait(|done| {
        fs.sync(Some(ino), done);
        volume.fence(VolumeEpoch::new(9, WriterId(9)));
    });
    assert_eq!(waiting.map_err(FsError::errno), Err(libc::EIO));
    eventually("the owner is told", || told.load(SeqCst) == 1);
}

#[test]
fn the_cache_keeps_its_limit_and_writers_wait_for_durability() {
    let limit = 2 << 20;
    let volume = volume(Duration::from_millis(2));
    let fs = load(&volume, FsOptions { cache_bytes: limit, ..patient() });
    let ino = file(&fs, "a");
    let noise: Vec<u8> = (0..64 * PAGE).map(|at| (at % 251) as u8 + 1).collect();
    for turn in 0..40 {
        write(&fs, ino, turn * noise.len(), &noise).expect("written");
        assert!(fs.figures().cache.bytes <= limit, "{:?}", fs.figures().cache);
    }
    volume.hold(true);
    let (sender, receiver) = mpsc::channel();
    for turn in 0..4 {
        let sender = sender.clone();
        fs.write(ino, turn * noise.len() as u64, &noise.repeat(2)[1..], move |result| {
            sender.send(result).expect("the test listens");
        });
    }
    std::thread::sleep(Duration::from_millis(50));
    assert!(receiver.try_iter().count() < 4, "4 MiB can't be pinned in 2 MiB");
    assert!(fs.figures().cache.bytes <= limit);
    volume.hold(false);
    drop(sender);
    assert!(receiver.iter().all(|result| result.is_ok()));
    assert_eq!(read(&fs, ino, 10 * noise.len(), noise.len() as u32), Ok(noise), "from storage");
    assert!(fs.figures().cache.evictions > 0);
}

#[test]
fn a_removed_file_is_usable_while_open_and_then_leaves_nothing() {
    let volume = volume(Duration::ZERO);
    let fs = load(&volume, patient());
    let ino = file(&fs, "a");
    write(&fs, ino, 0, &vec![3; 700 * PAGE]).expect("written");
    fs.open(ino).expect("it is there");
    let used = fs.used_blocks();
    fs.unlink(ROOT, b"a").expect("removed");
    assert_eq!(fs.lookup(ROOT, b"a"), Err(FsError::NotFound));
    assert_eq!(read(&fs, ino, 699 * PAGE, 10), Ok(vec![3; 10]));
    write(&fs, ino, 5, b"still").expect("written");
    // A crash now leaves an orphan, which the next mount removes.
    let crashed = Arc::new(volume.crash_at(volume.allocated()));
    let after = load(&crashed, patient());
    for (fs, volume) in [(fs, volume), (after, crashed)] {
        fs.close(ino);
        eventually("the orphan is gone", || fs.figures().inodes == 1);
        assert!(fs.used_blocks() <= used - 700, "{} blocks used", fs.used_blocks());
        fs.sync_now(None).expect("durable");
        for block in [0, 1, 300, 699] {
            let page =
                wait(|done| volume.read(PageId { inode: ino, block }, Instant::now() + Duration::from_secs(5), done));
            assert!(page.expect("readable").page.is_zero(), "block {block} is still there");
        }
        assert_ne!(file(&fs, "b"), ino, "a number is used once");
    }
}

#[test]
fn a_long_truncation_survives_a_crash_in_its_middle() {
    let volume = volume(Duration::ZERO);
    let fs = load(&volume, patient());
    let ino = file(&fs, "a");
    write(&fs, ino, 0, &vec![9; 1000 * PAGE]).expect("written");
    let before = volume.allocated();
    wait(|done| fs.truncate(ino, 100, done)).expect("truncated");
    eventually("it is trimmed", || fs.figures().transactions > 0 && volume.allocated().0 > before.0 + 1000);
    let points = volume.consistency_points().into_iter().filter(|point| *point > before);
    for point in points.collect::<Vec<_>>() {
        let crashed = Arc::new(volume.crash_at(point));
        let after = load(&crashed, patient());
        wait(|done| after.truncate(ino, 1000 * PAGE as u64, done)).expect("grown");
        let content = read(&after, ino, 0, 1000 * PAGE as u32).expect("readable");
        assert!(content[..100] == [9; 100] && content[100..].iter().all(|byte| *byte == 0), "crashed at {point}");
    }
}

#[test]
fn refusals_have_their_own_numbers() {
    let volume = volume(Duration::ZERO);
    let fs = load(&volume, FsOptions { capacity: Some(4 * PAGE as u64), inodes_max: 2, ..patient() });
    let ino = file(&fs, "a");
    assert_eq!(write(&fs, ino, 3 * PAGE, b"x"), Err(FsError::NoSpace), "the directory has one of the four pages");
    write(&fs, ino, 2 * PAGE, b"x").expect("written");
    assert_eq!(wait(|done| fs.truncate(ino, 4 * PAGE as u64, done)), Err(FsError::NoSpace));
    wait(|done| fs.truncate(ino, 0, done)).expect("truncated");
    write(&fs, ino, 0, &[1; 3 * PAGE]).expect("the space was given back");
    let new = NewInode { kind: Kind::File, mode: 0, uid: 0, gid: 0, rdev: 0, target: b"" };
    assert_eq!(fs.create(ROOT, b"b", &new, false), Err(FsError::NoSpace), "no more inodes");
    assert_eq!(fs.lookup(ROOT, &[b'x'; 256]), Err(FsError::NameTooLong));
    assert_eq!(write(&fs, ino, FILE_MAX as usize, b"x"), Err(FsError::TooLarge));
    fs.sync_now(None).expect("durable");

    let read_only = load(&volume, FsOptions { read_only: true, ..patient() });
    assert_eq!(write(&read_only, ino, 0, b"x").map_err(FsError::errno), Err(libc::EROFS));
    assert_eq!(read_only.rename(ROOT, b"a", ROOT, b"b", RenameMode::Replace), Err(FsError::ReadOnly));
    assert_eq!(read(&read_only, ino, 0, 3), Ok(vec![1; 3]));
}

#[test]
fn writers_of_many_files_and_of_one_agree_with_the_log() {
    const WRITERS: usize = 6;
    const TURNS: usize = 60;
    let volume = volume(Duration::from_micros(200));
    let fs = load(&volume, FsOptions { cache_bytes: 2 << 20, inline_lag_max: 64, ..patient() });
    let shared = file(&fs, "shared");
    let inodes: Vec<u64> = (0..WRITERS).map(|writer| file(&fs, &format!("own {writer}"))).collect();
    std::thread::scope(|scope| {
        for (writer, ino) in inodes.iter().enumerate() {
            let fs = &fs;
            scope.spawn(move || {
                for turn in 0..TURNS {
                    let fill = [(turn * WRITERS + writer) as u8; 3000];
                    write(fs, *ino, (turn % 50) * 3000, &fill).expect("written");
                    // Everyone writes parts of the same pages, never the same bytes.
                    write(fs, shared, (turn % 20) * WRITERS * 3000 + writer * 3000, &fill).expect("written");
                    if turn % 7 == writer {
                        let name = format!("new {writer} {turn}");
                        write(fs, file(fs, &name), 0, b"new").expect("written");
                        fs.rename(
                            ROOT,
                            name.as_bytes(),
                            ROOT,
                            format!("moved {writer}").as_bytes(),
                            RenameMode::Replace,
                        )
                        .expect("renamed");
                    }
                }
            });
        }
    });
    fs.sync_now(None).expect("durable");
    let after = load(&Arc::new(volume.crash_at(volume.vdl())), patient());
    for ino in inodes.iter().chain([&shared]) {
        let size = fs.attributes(*ino).expect("exists").size;
        let (seen, stored) = (read(&fs, *ino, 0, size as u32), read(&after, *ino, 0, size as u32));
        assert!(seen == stored && seen.is_ok(), "the cache and the log differ");
    }
    let shared = read(&fs, shared, 0, u32::MAX).expect("readable");
    for (at, part) in shared.chunks(3000).enumerate() {
        let (turn, writer) = (40 + at / WRITERS, at % WRITERS);
        assert!(part.iter().all(|byte| *byte == (turn * WRITERS + writer) as u8), "part {at} was lost");
    }
    let names = |fs: &PageFs| fs.list(ROOT, 0, 1000).expect("listed").len();
    assert_eq!((names(&fs), names(&after)), (2 + 1 + 2 * WRITERS, 2 + 1 + 2 * WRITERS));
}

/// A volume that remembers which pages were read from it.
struct Watched {
    volume: Arc<MemoryVolume>,
    asked: Mutex<Vec<PageId>>,
}

impl Volume for Watched {
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
        self.asked.lock().expect("no holder panics").push(page);
        self.volume.read(page, deadline, callback);
    }
}

/// A process that goes through a file from front to back, reading or writing, finds the pages ahead on their way: each
/// is asked for once, and none that does not exist. One that jumps about costs no page more than it reads.
#[test]
fn a_sequence_is_read_ahead_once_and_anything_else_is_not() {
    const PAGES: usize = 300;
    let watched = Arc::new(Watched { volume: volume(Duration::ZERO), asked: Mutex::default() });
    let fs = PageFs::load(watched.clone(), patient(), Box::new(|_| ())).expect("a sound file system");
    let ino = file(&fs, "table");
    let content = |page: usize, version: u8| vec![(page % 251) as u8 ^ version; PAGE];
    for page in 0..PAGES {
        write(&fs, ino, page * PAGE, &content(page, 1)).expect("written");
    }
    let asked = || {
        let mut asked = std::mem::take(&mut *watched.asked.lock().expect("no holder panics"));
        let count = asked.len();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len(), count, "a page was asked for twice");
        assert!(asked.iter().all(|page| page.inode == ino && page.block < PAGES as u64), "{asked:?}");
        count
    };
    let forget = || {
        fs.sync_now(None).expect("durable");
        fs.drop_caches();
        watched.asked.lock().expect("no holder panics").clear();
    };
    forget();
    for page in 0..PAGES {
        assert_eq!(read(&fs, ino, page * PAGE, PAGE as u32), Ok(content(page, 1)));
        let ahead = watched.asked.lock().expect("no holder panics").len();
        assert!(page == 0 || ahead == PAGES || ahead > page + 3, "{ahead} pages asked for after reading page {page}");
    }
    assert_eq!(asked(), PAGES);
    forget();
    for page in 0..PAGES {
        let half = PAGE / 2;
        write(&fs, ino, page * PAGE, &content(page, 2)[..half]).expect("written");
        let ahead = watched.asked.lock().expect("no holder panics").len();
        assert!(page == 0 || ahead == PAGES || ahead > page + 3, "{ahead} pages asked for after writing page {page}");
    }
    assert_eq!(asked(), PAGES);
    forget();
    for turn in 0..50 {
        let page = turn * 97 % PAGES;
        assert_eq!(read(&fs, ino, page * PAGE + PAGE / 2, 1), Ok(content(page, 1)[..1].to_vec()));
    }
    assert_eq!(asked(), 50);
}
