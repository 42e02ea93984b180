//! What a reader begins with: the volume's tree as of R0, without what is another server's, and with copies of what will
//! be its own (R-READER-FS-2, 10, 11, 12).

use super::base::Base;
use super::class::{AtStart, Class, at_start};
use super::lag::Lag;
use super::node::{Names, Node};
use super::pages::Pages;
use super::store::Store;
use super::wal::Replayed;
use super::{ReaderFigures, ReaderFs, ReaderOptions, State};
use crate::error::FsError;
use crate::fs::{LoadError, now, read_pages};
use crate::layout::{InodeRecord, Kind, Malformed, ROOT, blocks};
use crate::workers::Workers;
use auriga_page::{PAGE_SIZE, PageImage};
use auriga_protocol::PageId;
use auriga_volume::{Published, ReaderVolume, VolumeError};
use bytes::Bytes;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Threads for what waits.
const WORKERS: usize = 2;
/// How often a reader that is to begin looks whether a point was published.
const GLANCE: Duration = Duration::from_millis(5);
/// Pages that are copied at a time.
const COPIED_AT_A_TIME: u64 = 1024;

/// A file to be copied.
struct Copied {
    node: u64,
    inode: u64,
    size: u64,
}

impl ReaderFs {
    /// Begins at the newest point that the writer publishes, waiting for one if there is none. The standby that is
    /// started on it needs no backup label: PGDATA as of one point is an atomic snapshot.
    ///
    /// # Errors
    /// No point is published in time, the volume fails, or it holds no sound file system with this PGDATA.
    pub fn start(volume: Arc<dyn ReaderVolume>, options: ReaderOptions) -> Result<Arc<ReaderFs>, LoadError> {
        let until = Instant::now() + options.deadline;
        let point = loop {
            if let Some(newest) = volume.published().last() {
                break *newest;
            }
            if Instant::now() > until {
                return Err(VolumeError::TimedOut.into());
            }
            std::thread::sleep(GLANCE);
        };
        volume.advance(point.read_point)?;
        volume.release(point.read_point);
        let base = Base::load(&*volume, point.read_point, until)?;
        let store = Store::new(options.overlay_bytes, options.spill.as_deref(), options.spill_bytes)?;
        let mut state = State {
            point,
            former_wal: 0,
            base,
            pages: Pages::new(options.cache_bytes, options.defects),
            nodes: HashMap::new(),
            last_node: ROOT,
            linked: HashMap::new(),
            kept: HashMap::new(),
            masked: HashSet::new(),
            dropped: HashMap::new(),
            cuts: HashSet::new(),
            store,
            sweep: VecDeque::new(),
            noted: HashSet::new(),
            is_ready: false,
            lag: Lag::default(),
            figures: ReaderFigures::default(),
        };
        let wal = state.replayed_wal(&*volume, &options, until)?;
        let copied = state.take_tree(&options, wal)?;
        state.copy(&*volume, point, copied, until)?;
        state.make_own(&options)?;
        let workers = Workers::start(WORKERS)?;
        Ok(Arc::new(ReaderFs { volume, options, state: Mutex::new(state), workers }))
    }
}

impl State {
    /// Asks the volume's `pg_control` which WAL the standby will replay from the volume; `None`: it does not say.
    fn replayed_wal(
        &self,
        volume: &dyn ReaderVolume,
        options: &ReaderOptions,
        until: Instant,
    ) -> Result<Option<Replayed>, LoadError> {
        let path = [options.data.as_bytes(), b"global", b"pg_control"].map(Box::from);
        let Some(inode) = self.base.resolve(&path) else { return Ok(None) };
        let read = |page, callback| volume.read(page, self.point.read_point, until, callback);
        let control = read_pages(read, std::iter::once(PageId { inode, block: 0 }))?;
        Ok(control.first().and_then(|control| Replayed::from_control(control, self.point.wal)))
    }

    /// Makes the reader's tree. Returns the files to be copied.
    fn take_tree(&mut self, options: &ReaderOptions, wal: Option<Replayed>) -> Result<Vec<Copied>, LoadError> {
        let root = self.base.inode(ROOT).cloned().ok_or(LoadError::Dangling(ROOT))?;
        let mut root = Node::new(Class::Own, InodeRecord { nlink: 2, ..root });
        root.directory = Some(Names::new(ROOT, Box::default()));
        self.nodes.insert(ROOT, root);
        let data = self.base.resolve(&[options.data.as_bytes().into()]).ok_or(LoadError::Empty)?;
        let record = self.base.inode(data).cloned().ok_or(LoadError::Dangling(data))?;
        let top = self.add_loaded(ROOT, options.data.as_bytes(), Node::new(Class::Own, directory(record)))?;
        let mut copied = Vec::new();
        let mut directories = vec![(data, top, Vec::<Box<[u8]>>::new())];
        while let Some((inode, node, path)) = directories.pop() {
            let listed: Vec<(Box<[u8]>, u64)> = self.base.names(inode).map(|(name, ino)| (name.into(), ino)).collect();
            for (name, ino) in listed {
                let record = self.base.inode(ino).cloned().ok_or(LoadError::Dangling(ino))?;
                let mut path = path.clone();
                path.push(name.clone());
                if wal.is_some_and(|wal| !wal.needs(&path, record.size)) {
                    continue;
                }
                if let Some(made) = self.take(node, &name, &path, record, &mut copied)? {
                    directories.push((ino, made, path));
                }
            }
        }
        Ok(copied)
    }

    /// Takes one file or directory over. Returns a directory's node.
    fn take(
        &mut self,
        parent: u64,
        name: &[u8],
        path: &[Box<[u8]>],
        record: InodeRecord,
        copied: &mut Vec<Copied>,
    ) -> Result<Option<u64>, LoadError> {
        let names: Vec<&[u8]> = path.iter().map(|name| &**name).collect();
        let (inode, size, kind) = (record.ino, record.size, record.kind);
        let becomes = at_start(&names, kind == Kind::Directory);
        match (kind, becomes) {
            (_, AtStart::Left) => Ok(None),
            (Kind::Directory, _) => self.add_loaded(parent, name, Node::new(Class::Own, directory(record))).map(Some),
            (Kind::File, AtStart::Shown) if !self.linked.contains_key(&inode) => {
                let mut node = Node::new(super::class::class_of(&names), InodeRecord { nlink: 1, ..record });
                node.base = Some(inode);
                let node = self.add_loaded(parent, name, node)?;
                self.linked.insert(inode, node);
                Ok(None)
            }
            (Kind::File, _) => {
                let mut node = Node::new(Class::Own, InodeRecord { nlink: 1, ..record });
                node.size = Some(size);
                let node = self.add_loaded(parent, name, node)?;
                copied.push(Copied { node, inode, size });
                Ok(None)
            }
            (Kind::Symlink, _) => {
                self.add_loaded(parent, name, Node::new(Class::Own, InodeRecord { nlink: 1, ..record }))?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn add_loaded(&mut self, parent: u64, name: &[u8], node: Node) -> Result<u64, LoadError> {
        let slot = node.record.ino;
        self.add(parent, name, node)
            .map_err(|_| Malformed::Slot { slot, what: "a name in what is no directory" }.into())
    }

    fn copy(
        &mut self,
        volume: &dyn ReaderVolume,
        point: Published,
        copied: Vec<Copied>,
        until: Instant,
    ) -> Result<(), LoadError> {
        for Copied { node, inode, size } in copied {
            for first in (0..blocks(size)).step_by(COPIED_AT_A_TIME as usize) {
                let wanted = first..blocks(size).min(first + COPIED_AT_A_TIME);
                let pages = wanted.clone().map(|block| PageId { inode, block });
                let read = |page, callback| volume.read(page, point.read_point, until, callback);
                for (block, page) in wanted.zip(read_pages(read, pages)?) {
                    if !page.is_zero() {
                        self.put(node, block, page, false).map_err(no_room)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the files that the reader is given.
    fn make_own(&mut self, options: &ReaderOptions) -> Result<(), LoadError> {
        let data = self.find(ROOT, options.data.as_bytes()).map_err(no_room)?;
        let owner = self.node(data).map_err(no_room)?.record.clone();
        for (name, content) in &options.own {
            let record = InodeRecord {
                kind: Kind::File,
                mode: 0o600,
                nlink: 1,
                size: 0,
                mtime: now(),
                ctime: now(),
                ..owner.clone()
            };
            let mut node = Node::new(Class::Own, record);
            node.size = Some(content.len() as u64);
            let node = self.add_loaded(data, name.as_bytes(), node)?;
            for (block, part) in (0..).zip(content.chunks(PAGE_SIZE)) {
                let mut bytes = part.to_vec();
                bytes.resize(PAGE_SIZE, 0);
                let page = PageImage::new(Bytes::from(bytes)).expect("made with the length of a page");
                self.put(node, block, page, false).map_err(no_room)?;
            }
        }
        Ok(())
    }
}

fn directory(record: InodeRecord) -> InodeRecord {
    InodeRecord { nlink: 2, ..record }
}

fn no_room(error: FsError) -> LoadError {
    LoadError::Threads(std::io::Error::from_raw_os_error(error.errno()))
}
