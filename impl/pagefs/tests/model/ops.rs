//! Operations at random, and what runs them on the file system and on the reference.

use crate::reference::{Name, Node, Reference, Seen, name_links};
use auriga_pagefs::fs::{Listed, NewInode, RenameMode, SetAttr};
use auriga_pagefs::layout::{Kind, ROOT};
use auriga_pagefs::{FsError, FsOptions, PageFs};
use auriga_protocol::Lsn;
use auriga_volume::{Volume, VolumeError};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

const NAMES: [Name; 4] = ["a", "b", "c", "dd"];
/// Offsets and sizes near page borders, and far enough apart that truncations trim later.
const PLACES: [u64; 12] = [0, 1, 100, 8191, 8192, 8193, 16384, 20000, 81920, 600_000, 1_000_000, 3_000_000];

/// An operation.
#[derive(Clone, Debug)]
pub enum Op {
    Create(Vec<Name>, Name, bool),
    Mkdir(Vec<Name>, Name),
    Symlink(Vec<Name>, Name),
    Link(Vec<Name>, Vec<Name>, Name),
    Unlink(Vec<Name>, Name),
    Rmdir(Vec<Name>, Name),
    Rename(Vec<Name>, Name, Vec<Name>, Name, RenameMode),
    Write(Vec<Name>, u64, usize, u8),
    WriteOpen(usize, u64, usize, u8),
    Truncate(Vec<Name>, u64),
    Zero(Vec<Name>, u64, u64, bool),
    SetMode(Vec<Name>, u16),
    Close(usize),
    Sync,
}

fn path() -> impl Strategy<Value = Vec<Name>> {
    prop::collection::vec(name(), 0..3)
}

fn file() -> impl Strategy<Value = Vec<Name>> {
    prop::collection::vec(name(), 1..3)
}

fn name() -> impl Strategy<Value = Name> {
    prop::sample::select(NAMES.to_vec())
}

fn place() -> impl Strategy<Value = u64> {
    prop::sample::select(PLACES.to_vec())
}

pub fn op() -> impl Strategy<Value = Op> {
    let modes = prop::sample::select(vec![RenameMode::Replace, RenameMode::Keep, RenameMode::Exchange]);
    let length = prop::sample::select(vec![1usize, 50, 8192, 9000, 30_000, 600_000]);
    prop_oneof![
        4 => (path(), name(), any::<bool>()).prop_map(|(p, n, open)| Op::Create(p, n, open)),
        2 => (path(), name()).prop_map(|(p, n)| Op::Mkdir(p, n)),
        1 => (path(), name()).prop_map(|(p, n)| Op::Symlink(p, n)),
        2 => (file(), path(), name()).prop_map(|(f, p, n)| Op::Link(f, p, n)),
        2 => (path(), name()).prop_map(|(p, n)| Op::Unlink(p, n)),
        1 => (path(), name()).prop_map(|(p, n)| Op::Rmdir(p, n)),
        3 => (path(), name(), path(), name(), modes).prop_map(|(p, n, q, m, mode)| Op::Rename(p, n, q, m, mode)),
        8 => (file(), place(), length.clone(), any::<u8>()).prop_map(|(f, at, len, fill)| Op::Write(f, at, len, fill)),
        3 => (0..4usize, place(), length, any::<u8>()).prop_map(|(i, at, len, fill)| Op::WriteOpen(i, at, len, fill)),
        5 => (file(), place()).prop_map(|(f, size)| Op::Truncate(f, size)),
        2 => (file(), place(), place(), any::<bool>()).prop_map(|(f, at, len, keep)| Op::Zero(f, at, len + 1, keep)),
        1 => (file(), 0..=0o777u16).prop_map(|(f, mode)| Op::SetMode(f, mode)),
        2 => (0..4usize).prop_map(Op::Close),
        2 => Just(Op::Sync),
    ]
}

/// Both file systems, and the handles that are open in both.
pub struct Pair {
    pub fs: Arc<PageFs>,
    pub reference: Reference,
    open: Vec<(u64, usize)>,
}

fn wait<T: Send + 'static>(start: impl FnOnce(Box<dyn FnOnce(T) + Send>)) -> T {
    let (sender, receiver) = mpsc::channel();
    start(Box::new(move |result| sender.send(result).expect("the test waits")));
    receiver.recv_timeout(Duration::from_secs(30)).expect("every request is answered")
}

pub fn write(fs: &Arc<PageFs>, ino: u64, offset: u64, data: &[u8]) -> Result<(), FsError> {
    wait(|done| fs.write(ino, offset, data, done)).map(|_: Lsn| ())
}

fn resolve(fs: &PageFs, path: &[Name]) -> Result<u64, FsError> {
    path.iter().try_fold(ROOT, |at, name| Ok(fs.lookup(at, name.as_bytes())?.ino))
}

pub fn new_inode(kind: Kind, target: &[u8]) -> NewInode<'_> {
    NewInode { kind, mode: 0o644, uid: 7, gid: 8, rdev: 0, target }
}

impl Pair {
    /// Both, with nothing open.
    pub fn new(fs: Arc<PageFs>, reference: Reference) -> Pair {
        Pair { fs, reference, open: Vec::new() }
    }

    /// Runs an operation on both; answers what each says.
    pub fn run(&mut self, op: &Op) -> (Result<(), FsError>, Result<(), FsError>) {
        let Pair { fs, reference, open } = self;
        let fs = &*fs;
        let at = |parent: &[Name]| resolve(fs, parent);
        match op {
            Op::Create(parent, name, keep_open) => {
                let made = reference.create(parent, name, Node::File { bytes: Vec::new(), mode: 0o644 });
                let keep_open = *keep_open && open.len() < 4;
                let done =
                    at(parent).and_then(|p| fs.create(p, name.as_bytes(), &new_inode(Kind::File, b""), keep_open));
                if keep_open && let (Ok(record), Ok(index)) = (&done, &made) {
                    open.push((record.ino, *index));
                }
                (done.map(|_| ()), made.map(|_| ()))
            }
            Op::Mkdir(parent, name) => {
                let node = Node::Directory { entries: BTreeMap::new(), mode: 0o644 };
                let done =
                    at(parent).and_then(|p| fs.create(p, name.as_bytes(), &new_inode(Kind::Directory, b""), false));
                (done.map(|_| ()), reference.create(parent, name, node).map(|_| ()))
            }
            Op::Symlink(parent, name) => {
                let node = Node::Symlink { target: b"../somewhere".to_vec() };
                let new = new_inode(Kind::Symlink, b"../somewhere");
                let done = at(parent).and_then(|p| fs.create(p, name.as_bytes(), &new, false));
                (done.map(|_| ()), reference.create(parent, name, node).map(|_| ()))
            }
            Op::Link(file, parent, name) => {
                let done = at(file).and_then(|f| fs.link(f, at(parent)?, name.as_bytes()));
                let known = reference.resolve(file).and_then(|f| reference.link(f, parent, name));
                (done.map(|_| ()), known)
            }
            Op::Unlink(parent, name) => {
                (at(parent).and_then(|p| fs.unlink(p, name.as_bytes())), reference.unlink(parent, name))
            }
            Op::Rmdir(parent, name) => {
                (at(parent).and_then(|p| fs.rmdir(p, name.as_bytes())), reference.rmdir(parent, name))
            }
            Op::Rename(parent, name, new_parent, new_name, mode) => {
                let ends = at(parent).and_then(|p| Ok((p, at(new_parent)?)));
                let done = ends.and_then(|(p, q)| fs.rename(p, name.as_bytes(), q, new_name.as_bytes(), *mode));
                (done, reference.rename((parent, name), (new_parent, new_name), *mode))
            }
            Op::Write(file, offset, len, fill) => {
                let data = vec![*fill; *len];
                let done = at(file).and_then(|f| write(fs, f, *offset, &data));
                (done, reference.resolve(file).and_then(|f| reference.write(f, *offset as usize, &data)))
            }
            Op::WriteOpen(index, offset, len, fill) => {
                let Some((ino, known)) = open.get(*index).copied() else { return (Ok(()), Ok(())) };
                let data = vec![*fill; *len];
                (write(fs, ino, *offset, &data), reference.write(known, *offset as usize, &data))
            }
            Op::Truncate(file, size) => {
                let done = at(file).and_then(|f| wait(|done| fs.truncate(f, *size, done)));
                (done.map(|_| ()), reference.resolve(file).and_then(|f| reference.truncate(f, *size as usize)))
            }
            Op::Zero(file, offset, length, keep) => {
                let mode = match keep {
                    true => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                    false => libc::FALLOC_FL_ZERO_RANGE,
                };
                let done = at(file).and_then(|f| wait(|done| fs.allocate(f, *offset, *length, mode, done)));
                let known = reference.resolve(file);
                let known = known.and_then(|f| reference.zero(f, *offset as usize, *length as usize, *keep));
                (done.map(|_| ()), known)
            }
            Op::SetMode(file, mode) => {
                let set = SetAttr { mode: Some(*mode), ..SetAttr::default() };
                let done = at(file).and_then(|f| fs.set_attributes(f, &set)).map(|_| ());
                (done, reference.resolve(file).and_then(|f| reference.set_mode(f, *mode)))
            }
            Op::Close(index) => {
                if *index < open.len() {
                    fs.close(open.remove(*index).0);
                }
                (Ok(()), Ok(()))
            }
            Op::Sync => (fs.sync_now(None), Ok(())),
        }
    }

    /// What is still open reads as the reference says, with or without a name.
    pub fn check_open(&self) {
        for (ino, index) in &self.open {
            let Node::File { bytes, .. } = self.reference.node(*index) else { unreachable!("only files are opened") };
            assert!(content(&self.fs, *ino) == *bytes, "an open file differs");
        }
    }
}

fn content(fs: &Arc<PageFs>, ino: u64) -> Vec<u8> {
    let size = fs.attributes(ino).expect("exists").size;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let read = wait(|done| fs.read(ino, bytes.len() as u64, 100_000, done)).expect("readable");
        read.with(|part| bytes.extend_from_slice(part));
        assert!(!read.is_empty(), "nothing to read before the end");
    }
    bytes
}

pub fn snapshot(fs: &Arc<PageFs>) -> BTreeMap<String, Seen> {
    let mut seen = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut waiting = vec![(String::new(), ROOT)];
    while let Some((path, ino)) = waiting.pop() {
        let record = fs.attributes(ino).expect("it was listed");
        let (mode, nlink) = (record.mode, record.nlink);
        let what = match record.kind {
            Kind::File => Seen::File { bytes: content(fs, ino), mode, nlink },
            Kind::Symlink => Seen::Symlink { target: fs.read_link(ino).expect("a link").to_vec(), nlink },
            _ => {
                for Listed { ino, name, .. } in fs.list(ino, 0, usize::MAX).expect("a directory").into_iter().skip(2) {
                    waiting.push((format!("{path}/{}", String::from_utf8_lossy(&name)), ino));
                }
                Seen::Directory { mode, nlink }
            }
        };
        inodes.insert(path.clone(), ino);
        seen.insert(path, what);
    }
    name_links(seen, &inodes)
}

pub fn load(volume: Arc<impl Volume>, on_lost: impl Fn(VolumeError) + Send + Sync + 'static) -> Arc<PageFs> {
    let options =
        FsOptions { cache_bytes: 2 << 20, workers: 1, deadline: Duration::from_secs(20), ..Default::default() };
    PageFs::load(volume, options, Box::new(on_lost)).expect("a sound file system")
}

pub fn settle(fs: &Arc<PageFs>) {
    fs.sync_now(None).expect("durable");
}
