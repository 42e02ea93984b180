//! The reader's file system over a writer's, without a kernel and without PostgreSQL: each rule, and each planted defect.

mod feed;

use super::*;
use crate::defect::Defect;
use crate::fs::{FsOptions, NewInode, PageFs, RenameMode, mkfs};
use crate::layout::{Kind, ROOT};
use auriga_page::PAGE_SIZE;
use auriga_volume::{MemoryVolume, MemoryVolumeConfig};
use std::sync::mpsc::channel;

const FILE: NewInode<'static> = NewInode { kind: Kind::File, mode: 0o600, uid: 1, gid: 1, rdev: 0, target: b"" };
const DIRECTORY: NewInode<'static> = NewInode { kind: Kind::Directory, ..FILE };

/// A page with this `pd_lsn`, all of its body one byte.
fn page(lsn: u32, fill: u8) -> Vec<u8> {
    let mut bytes = vec![fill; PAGE_SIZE];
    bytes[..4].fill(0);
    bytes[4..8].copy_from_slice(&lsn.to_ne_bytes());
    bytes[8..24].fill(0);
    bytes
}

/// A writer with PGDATA, and how far its WAL is.
struct Writer {
    volume: Arc<MemoryVolume>,
    fs: Arc<PageFs>,
    wal: u64,
}

impl Writer {
    fn new() -> Writer {
        let volume = Arc::new(MemoryVolume::new(MemoryVolumeConfig::default()));
        mkfs(&*volume, 0, 0, Duration::from_secs(60)).expect("an empty volume");
        let fs = PageFs::load(volume.clone(), FsOptions::default(), Box::new(|_| ())).expect("a file system");
        let writer = Writer { volume, fs, wal: 1 };
        for path in ["pgdata", "pgdata/base", "pgdata/base/5", "pgdata/global", "pgdata/pg_wal", "pgdata/pg_replslot"] {
            writer.make(path, &DIRECTORY);
        }
        for path in ["pgdata/base/5/100", "pgdata/base/5/100_vm", "pgdata/global/pg_control"] {
            writer.make(path, &FILE);
            writer.write(path, 0, &page(1, 1));
        }
        writer
    }

    fn find(&self, path: &str) -> u64 {
        path.split('/').fold(ROOT, |at, name| self.fs.lookup(at, name.as_bytes()).expect("there").ino)
    }

    fn above<'a>(&self, path: &'a str) -> (u64, &'a [u8]) {
        match path.rsplit_once('/') {
            Some((above, name)) => (self.find(above), name.as_bytes()),
            None => (ROOT, path.as_bytes()),
        }
    }

    fn make(&self, path: &str, new: &NewInode<'_>) {
        let (parent, name) = self.above(path);
        self.fs.create(parent, name, new, false).expect("made");
    }

    fn write(&self, path: &str, block: u64, data: &[u8]) {
        let (sender, receiver) = channel();
        let done = move |result: Result<_, _>| sender.send(result).expect("the test listens");
        self.fs.write(self.find(path), block * PAGE_SIZE as u64, data, done);
        receiver.recv().expect("answered").expect("written");
    }

    fn truncate(&self, path: &str, size: u64) {
        let (sender, receiver) = channel();
        self.fs.truncate(self.find(path), size, move |result| sender.send(result).expect("the test listens"));
        receiver.recv().expect("answered").expect("cut");
    }

    fn remove(&self, path: &str) {
        let (parent, name) = self.above(path);
        self.fs.unlink(parent, name).expect("removed");
    }

    /// Publishes what is there now, at the next WAL position.
    fn publish(&mut self) -> u64 {
        self.wal += 1;
        self.volume.publish(|| Some(self.wal)).expect("published");
        self.wal
    }
}

/// A reader, driven by hand.
struct Reader {
    fs: Arc<ReaderFs>,
}

impl Reader {
    fn start(writer: &mut Writer, defects: Defects) -> Reader {
        let volume = Arc::new(writer.volume.reader());
        let at = writer.publish();
        let options = ReaderOptions {
            own: vec![("standby.signal".to_owned(), b"x".to_vec())],
            deadline: Duration::from_secs(60),
            defects,
            ..ReaderOptions::default()
        };
        let reader = Reader { fs: ReaderFs::start(volume, options).expect("a reader") };
        reader.replay(at);
        reader
    }

    /// Replay has come this far. Steps until nothing is left to be looked at.
    fn replay(&self, to: u64) {
        for _ in 0..100 {
            self.fs.step(|| Some(to)).expect("it goes on");
            if self.fs.figures().unswept == 0 {
                return;
            }
        }
        panic!("it is never done: {:?}", self.fs.figures());
    }

    fn find(&self, path: &str) -> Option<u64> {
        path.split('/').try_fold(ROOT, |at, name| Some(self.fs.lookup(at, name.as_bytes()).ok()?.ino))
    }

    fn above<'a>(&self, path: &'a str) -> (u64, &'a [u8]) {
        let (above, name) = path.rsplit_once('/').expect("below something");
        (self.find(above).expect("there"), name.as_bytes())
    }

    fn make(&self, path: &str) {
        let (parent, name) = self.above(path);
        self.fs.create(parent, name, &FILE, false).expect("made");
    }

    fn remove(&self, path: &str) {
        let (parent, name) = self.above(path);
        self.fs.unlink(parent, name).expect("removed");
    }

    fn write(&self, path: &str, block: u64, data: &[u8]) {
        self.write_at(path, block * PAGE_SIZE as u64, data);
    }

    fn write_at(&self, path: &str, at: u64, data: &[u8]) {
        let (sender, receiver) = channel();
        let ino = self.find(path).expect("there");
        self.fs.write(ino, at, data, move |result| sender.send(result).expect("the test listens"));
        receiver.recv().expect("answered").expect("written");
    }

    fn truncate(&self, path: &str, size: u64) {
        let (sender, receiver) = channel();
        let ino = self.find(path).expect("there");
        self.fs.truncate(ino, size, move |result| sender.send(result).expect("the test listens"));
        receiver.recv().expect("answered").expect("cut");
    }

    fn content(&self, path: &str) -> Vec<u8> {
        let (sender, receiver) = channel();
        let done = move |result: Result<crate::fs::ReadData, _>| {
            sender.send(result.map(|read| read.with(<[u8]>::to_vec))).expect("the test listens");
        };
        self.fs.read(self.find(path).expect("there"), 0, 1 << 20, done);
        receiver.recv().expect("answered").expect("read")
    }

    /// The first byte of the body of each page.
    fn fills(&self, path: &str) -> Vec<u8> {
        self.content(path).chunks(PAGE_SIZE).map(|page| page.get(24).copied().unwrap_or(0)).collect()
    }
}

fn started(defects: Defects) -> (Writer, Reader) {
    let mut writer = Writer::new();
    let reader = Reader::start(&mut writer, defects);
    (writer, reader)
}

const TABLE: &str = "pgdata/base/5/100";
const NEW: &str = "pgdata/base/5/200";

#[test]
fn it_follows_the_volume_when_replay_has_passed() {
    for (defects, early) in [(Defects::default(), 1), (Defects::planted(Defect::ReaderDoesNotWait), 2)] {
        let (mut writer, reader) = started(defects);
        assert_eq!(reader.fills(TABLE), [1]);
        let before = writer.wal;
        writer.write(TABLE, 0, &page(2, 2));
        writer.write(TABLE, 1, &page(2, 2));
        let at = writer.publish();
        reader.replay(before);
        assert_eq!(reader.fills(TABLE)[0], early, "R-READER-FS-4");
        reader.replay(at);
        assert_eq!(reader.fills(TABLE), [2, 2], "the cached page followed");
        assert_eq!(reader.fs.step(|| None).expect("it goes on"), Step::Unknown);
    }
}

#[test]
fn nothing_moves_before_replay_has_passed_where_it_began() {
    let mut writer = Writer::new();
    let volume = Arc::new(writer.volume.reader());
    let began = writer.publish();
    let fs = ReaderFs::start(volume, ReaderOptions::default()).expect("a reader");
    let reader = Reader { fs };
    writer.write(TABLE, 0, &page(2, 2));
    writer.publish();
    reader.write(TABLE, 0, &page(1, 1));
    assert_eq!(reader.fs.step(|| Some(began - 1)).expect("it goes on"), Step::Waiting);
    let figures = reader.fs.figures();
    assert_eq!((figures.is_ready, figures.overlay_pages, figures.advances), (false, 2, 0), "R-READER-FS-3");
    assert_eq!(reader.fs.step(|| Some(began)).expect("it goes on"), Step::Still);
    reader.replay(began);
    assert_eq!(reader.fs.figures().overlay_pages, 1, "what is equal need not be kept; its own pg_control is");
}

#[test]
fn a_replay_position_that_goes_back_has_to_pass_the_read_point_again() {
    let (mut writer, reader) = started(Defects::default());
    writer.write(TABLE, 0, &page(2, 2));
    let at = writer.publish();
    reader.replay(at);
    reader.write(TABLE, 0, &page(1, 1));
    assert_eq!(reader.fs.step(|| Some(at - 1)).expect("it goes on"), Step::Waiting);
    assert!(!reader.fs.figures().is_ready);
    assert_eq!(reader.fills(TABLE), [1], "it is not taken away while it is replayed again");
    reader.replay(at);
    assert_eq!((reader.fs.figures().is_ready, reader.fills(TABLE)), (true, vec![2]));
}

#[test]
fn what_it_writes_stays_here_until_the_volume_has_caught_up() {
    let (mut writer, reader) = started(Defects::default());
    let records = writer.volume.allocated();
    reader.write(TABLE, 0, &page(5, 5));
    reader.write(TABLE, 1, &page(5, 5));
    reader.write_at("pgdata/global/pg_control", 10, b"mine");
    reader.replay(writer.wal);
    assert_eq!((reader.fills(TABLE), writer.volume.allocated()), (vec![5, 5], records));
    writer.write(TABLE, 0, &page(4, 4));
    let at = writer.publish();
    reader.replay(at);
    assert_eq!(reader.fills(TABLE), [5, 5], "the volume is behind");
    writer.write(TABLE, 0, &page(6, 6));
    writer.write(TABLE, 1, &page(5, 5));
    writer.write("pgdata/global/pg_control", 0, &page(9, 9));
    let at = writer.publish();
    reader.replay(at);
    assert_eq!(reader.fills(TABLE), [6, 5]);
    assert_eq!(reader.fs.figures().overlay_pages, 2, "of its own pg_control and its signal");
    assert_eq!(&reader.content("pgdata/global/pg_control")[10..14], b"mine", "R-READER-FS-10");
    writer.write(TABLE, 2, &page(7, 7));
    let at = writer.publish();
    reader.replay(at);
    assert_eq!(reader.fills(TABLE), [6, 5, 7], "the size is the volume's again");
}

#[test]
fn maps_and_sequences_leave_when_they_are_equal() {
    for (defects, seen) in [(Defects::default(), 5), (Defects::planted(Defect::ReaderDropsMapsByLsn), 6)] {
        let (mut writer, reader) = started(defects);
        let map = "pgdata/base/5/100_vm";
        reader.write(map, 0, &page(5, 5));
        writer.write(map, 0, &page(6, 6));
        let at = writer.publish();
        reader.replay(at);
        assert_eq!(reader.fills(map), [seen]);
    }
}

#[test]
fn names_are_its_own() {
    for (defects, is_shared) in [(Defects::default(), false), (Defects::planted(Defect::ReaderSharesNames), true)] {
        let (mut writer, reader) = started(defects);
        writer.make(NEW, &FILE);
        writer.write(NEW, 0, &page(3, 3));
        let at = writer.publish();
        reader.replay(at);
        assert_eq!(reader.find(NEW).is_some(), is_shared, "R-READER-FS-6");
        if is_shared {
            continue;
        }
        reader.make(NEW);
        assert_eq!(reader.fills(NEW), [0; 0], "it is empty when it is made");
        reader.write(NEW, 0, &page(3, 3));
        reader.replay(at);
        writer.write(NEW, 0, &page(4, 4));
        let at = writer.publish();
        reader.replay(at);
        assert_eq!((reader.fills(NEW), reader.fs.figures().overlay_pages), (vec![4], 2), "from here on it follows");
    }
}

#[test]
fn a_file_that_it_made_first_follows_when_the_volume_has_it() {
    let (mut writer, reader) = started(Defects::default());
    reader.make(NEW);
    reader.write(NEW, 0, &page(3, 3));
    reader.replay(writer.wal);
    writer.make(NEW, &FILE);
    writer.write(NEW, 0, &page(4, 4));
    let at = writer.publish();
    reader.replay(at);
    assert_eq!(reader.fills(NEW), [4]);
}

#[test]
fn a_path_that_is_used_again_is_another_file() {
    for (defects, seen) in [(Defects::default(), 8), (Defects::planted(Defect::ReaderLinksDropped), 9)] {
        let (mut writer, reader) = started(defects);
        // The standby drops the file and makes it anew, while the volume still has the former one, with a higher LSN.
        writer.write(TABLE, 0, &page(9, 9));
        let at = writer.publish();
        reader.replay(at);
        reader.remove(TABLE);
        reader.make(TABLE);
        reader.write(TABLE, 0, &page(8, 8));
        reader.replay(writer.wal);
        assert_eq!(reader.fills(TABLE), [seen], "R-READER-FS-7");
        if seen == 8 {
            writer.remove(TABLE);
            writer.make(TABLE, &FILE);
            writer.write(TABLE, 0, &page(10, 10));
            let at = writer.publish();
            reader.replay(at);
            assert_eq!(reader.fills(TABLE), [10], "the new one is linked");
        }
    }
}

#[test]
fn what_it_dropped_before_the_volume_showed_it_is_not_linked() {
    let (mut writer, reader) = started(Defects::default());
    let before = writer.wal;
    writer.make(NEW, &FILE);
    writer.write(NEW, 0, &page(9, 9));
    let at = writer.publish();
    // Replay is far ahead of what was advanced to: it has made, dropped and made the file.
    reader.make(NEW);
    reader.remove(NEW);
    reader.fs.step(|| Some(before)).expect("it goes on");
    reader.make(NEW);
    reader.write(NEW, 0, &page(8, 8));
    reader.replay(at);
    // The reader was asked for replay before the drop was over, so the drop counts as at the later position.
    assert!(matches!(reader.fills(NEW)[..], [8] | [9]));
    let dropped = reader.fs.lock().dropped.len();
    assert_eq!(dropped, 0, "nothing is remembered for ever");
}

#[test]
fn what_the_volume_removed_first_stays_as_it_was() {
    for (defects, seen) in [(Defects::default(), vec![1]), (Defects::planted(Defect::ReaderLosesRemoved), vec![])] {
        let (mut writer, reader) = started(defects);
        writer.remove(TABLE);
        let at = writer.publish();
        reader.replay(at);
        writer.write("pgdata/base/5/100_vm", 0, &page(2, 2));
        let at = writer.publish();
        reader.replay(at);
        assert_eq!(reader.fills(TABLE), seen, "R-READER-FS-8");
        reader.remove(TABLE);
        reader.replay(at);
        assert_eq!(reader.fs.figures().kept_files, 0);
    }
}

#[test]
fn what_was_cut_off_does_not_come_back() {
    for (defects, seen) in [(Defects::default(), 5), (Defects::planted(Defect::ReaderForgetsTruncations), 9)] {
        let (mut writer, reader) = started(defects);
        writer.write(TABLE, 1, &page(9, 9));
        let at = writer.publish();
        reader.replay(at);
        reader.truncate(TABLE, PAGE_SIZE as u64);
        assert_eq!(reader.fills(TABLE), [1]);
        reader.write(TABLE, 1, &page(5, 5));
        reader.replay(at);
        assert_eq!(reader.fills(TABLE), [1, seen], "R-READER-FS-9");
        if seen == 9 {
            continue;
        }
        // The volume is cut, too; two points later that is certain, and the file follows again.
        writer.truncate(TABLE, PAGE_SIZE as u64);
        for fill in 2..4 {
            writer.write("pgdata/base/5/100_vm", 0, &page(2, fill));
            let at = writer.publish();
            reader.replay(at);
        }
        assert!(reader.fs.lock().cuts.is_empty());
        writer.write(TABLE, 1, &page(6, 6));
        let at = writer.publish();
        reader.replay(at);
        assert_eq!(reader.fills(TABLE), [1, 6]);
    }
}

#[test]
fn what_another_server_needs_is_not_there() {
    let mut writer = Writer::new();
    for path in ["pgdata/postmaster.pid", "pgdata/base/5/pg_internal.init", "pgdata/base/5/t3_16384"] {
        writer.make(path, &FILE);
    }
    writer.make("pgdata/pg_replslot/slot", &DIRECTORY);
    writer.make("pgdata/pg_wal/000000010000000000000001", &FILE);
    writer.write("pgdata/pg_wal/000000010000000000000001", 0, &page(1, 3));
    let reader = Reader::start(&mut writer, Defects::default());
    for path in ["postmaster.pid", "base/5/pg_internal.init", "base/5/t3_16384", "pg_replslot/slot"] {
        assert_eq!(reader.find(&format!("pgdata/{path}")), None, "R-READER-FS-11, 12: {path}");
    }
    assert_eq!(reader.content("pgdata/standby.signal"), b"x");
    writer.remove("pgdata/pg_wal/000000010000000000000001");
    let at = writer.publish();
    reader.replay(at);
    assert_eq!(reader.fills("pgdata/pg_wal/000000010000000000000001"), [3], "R-READER-FS-10");
    let data = reader.find("pgdata").expect("there");
    reader.fs.rename(data, b"standby.signal", data, b"other", RenameMode::Replace).expect("renamed");
    let names: Vec<_> = reader.fs.list(data, 2, 100).expect("listed").into_iter().map(|line| line.name).collect();
    assert!(names.contains(&b"other"[..].into()) && !names.contains(&b"standby.signal"[..].into()));
}

#[test]
fn a_stream_that_was_cut_is_read_again() {
    let config = MemoryVolumeConfig { history_weight_max: 1, ..MemoryVolumeConfig::default() };
    let volume = Arc::new(MemoryVolume::new(config));
    mkfs(&*volume, 0, 0, Duration::from_secs(60)).expect("an empty volume");
    let fs = PageFs::load(volume.clone(), FsOptions::default(), Box::new(|_| ())).expect("a file system");
    let mut writer = Writer { volume, fs, wal: 1 };
    for path in ["pgdata", "pgdata/base", "pgdata/base/5"] {
        writer.make(path, &DIRECTORY);
    }
    for path in [TABLE, "pgdata/base/5/101"] {
        writer.make(path, &FILE);
        writer.write(path, 0, &page(1, 1));
    }
    let reader = Reader::start(&mut writer, Defects::default());
    assert_eq!((reader.fills(TABLE), reader.fills("pgdata/base/5/101")), (vec![1], vec![1]));
    reader.make(NEW);
    writer.write(TABLE, 0, &page(2, 2));
    writer.remove("pgdata/base/5/101");
    writer.make(NEW, &FILE);
    let at = writer.publish();
    reader.replay(at);
    assert_eq!((reader.fills(TABLE), reader.fills("pgdata/base/5/101")), (vec![2], vec![1]));
    writer.write(NEW, 0, &page(3, 3));
    reader.write(NEW, 0, &page(2, 2));
    let at = writer.publish();
    reader.replay(at);
    assert_eq!(reader.fills(NEW), [3]);
}
