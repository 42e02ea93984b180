//! Feeding a standby that is not connected to the writer's server (R-READER-FS-13): what the volume has of the WAL is put
//! into the reader's own `pg_wal`, where the standby looks for it again and again.
//!
//! It is read as of the newest published point, which is ahead of what the file system shows. So the standby's `pg_wal` is
//! the same own directory whether its WAL is fed or streamed, and the two may follow one another.

use super::ahead::Ahead;
use super::base::Base;
use super::class::Class;
use super::follow::FollowError;
use super::node::Node;
use super::wal::segment_begins;
use super::{ReaderFs, State};
use crate::error::FsError;
use crate::fs::read_pages;
use crate::layout::{InodeRecord, Kind, blocks};
use auriga_page::{PAGE_SIZE, PageImage};
use auriga_protocol::{Lsn, PageId};
use auriga_volume::{Changes, ReaderVolume, VolumeError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PAGE: u64 = PAGE_SIZE as u64;

/// Pages that are read at a time.
const READ_AT_A_TIME: usize = 512;

/// See the module's header.
pub struct Feed {
    ahead: Arc<Ahead>,
    fs: Arc<ReaderFs>,
    /// The volume's tree as of the newest point that was passed; `None`: not known, or nothing is fed.
    base: Option<Base>,
    /// The WAL position that was published last.
    wal: u64,
}

/// A segment of the WAL in the volume.
struct Segment {
    name: Box<[u8]>,
    begins: u64,
    record: InodeRecord,
}

impl Feed {
    /// Feeds the standby on `fs`, whose volume is `ahead`.
    pub fn new(ahead: Arc<Ahead>, fs: Arc<ReaderFs>) -> Feed {
        Feed { ahead, fs, base: None, wal: 0 }
    }

    /// The standby is connected to a server.
    pub fn pause(&mut self) {
        self.base = None;
    }

    /// Passes the newest published point, so that it is judged, and feeds nothing.
    ///
    /// # Errors
    /// The reader can't go on.
    pub fn look(&mut self) -> Result<(), FollowError> {
        self.base = None;
        if let Some(wal) = self.ahead.look(|point, _| point.wal)? {
            self.wal = wal;
        }
        Ok(())
    }

    /// Feeds what the standby, which has replayed the WAL before `replayed`, will need. To be called by the thread that steps
    /// the file system, once the standby accepts connections: until then it would chase the writer.
    ///
    /// # Errors
    /// The reader can't go on.
    pub fn step(&mut self, replayed: u64) -> Result<(), FollowError> {
        let base = &mut self.base;
        let looked = self.ahead.look(|point, changes| (point, touched(base, changes)));
        let (wanted, at) = match looked? {
            Some((point, touched)) => {
                self.wal = point.wal;
                (touched?, point.read_point)
            }
            // All that there is was fed.
            None if self.base.is_some() => return Ok(()),
            None => (None, self.ahead.newest()),
        };
        if wanted.is_none() {
            // The file system may have gone on by itself.
            self.wal = self.wal.max(self.fs.lock().point.wal);
        }
        let base = match &mut self.base {
            Some(base) if wanted.is_some() => base,
            base => base.insert(Base::load(&*self.ahead, at, self.fs.deadline())?),
        };
        let segments = segments(base, &self.fs.options().data);
        // What is before was replayed; as of `at` there is nothing behind.
        let is_needed = |begins: u64, block: u64| {
            let page = begins + block * PAGE;
            page + PAGE > replayed && page <= self.wal
        };
        let pages: Vec<PageId> = match wanted {
            Some(touched) => touched
                .into_iter()
                .filter(|page| segments.get(&page.inode).is_some_and(|segment| is_needed(segment.begins, page.block)))
                .collect(),
            None => {
                let is_there =
                    |segment: &Segment| (segment.begins..=segment.begins + segment.record.size).contains(&replayed);
                if replayed < self.wal && !segments.values().any(is_there) {
                    // R-READER-FS-14: the writer has removed what is needed.
                    return Err(VolumeError::NotKept.into());
                }
                every_page(&segments, is_needed)
            }
        };
        self.put(&segments, &pages, at)
    }

    fn put(&self, segments: &BTreeMap<u64, Segment>, pages: &[PageId], at: Lsn) -> Result<(), FollowError> {
        for some in pages.chunks(READ_AT_A_TIME) {
            let read = |page, callback| self.ahead.read(page, at, self.fs.deadline(), callback);
            let images = read_pages(read, some.iter().copied())?;
            let mut state = self.fs.lock();
            for (page, image) in some.iter().zip(images) {
                if let Some(segment) = segments.get(&page.inode) {
                    state.put_wal(&self.fs.options().data, segment, page.block, image)?;
                }
            }
        }
        Ok(())
    }
}

/// The pages that were touched, and the tree is as of after them; `None`: neither is known.
fn touched(base: &mut Option<Base>, changes: &Changes) -> Result<Option<BTreeSet<PageId>>, FollowError> {
    match (base.as_mut(), changes) {
        (Some(known), Changes::Records(records)) => {
            known.apply(records)?;
            Ok(Some(records.iter().map(|record| record.page).collect()))
        }
        _ => {
            *base = None;
            Ok(None)
        }
    }
}

/// The segments of the WAL in the volume, by their inodes.
fn segments(base: &Base, data: &str) -> BTreeMap<u64, Segment> {
    let path = [data.as_bytes().into(), b"pg_wal"[..].into()];
    let Some(directory) = base.resolve(&path) else { return BTreeMap::new() };
    let segment = |(name, inode): (&[u8], u64)| {
        let record = base.inode(inode).filter(|record| record.kind == Kind::File)?;
        let begins = segment_begins(name, record.size)?;
        Some((inode, Segment { name: name.into(), begins, record: record.clone() }))
    };
    base.names(directory).filter_map(segment).collect()
}

fn every_page(segments: &BTreeMap<u64, Segment>, is_needed: impl Fn(u64, u64) -> bool) -> Vec<PageId> {
    let mut pages = Vec::new();
    for (inode, segment) in segments {
        let needed = (0..blocks(segment.record.size)).filter(|block| is_needed(segment.begins, *block));
        pages.extend(needed.map(|block| PageId { inode: *inode, block }));
    }
    pages
}

impl State {
    /// Puts a page of the WAL into the reader's own segment, which is made if it is not there.
    fn put_wal(&mut self, data: &str, segment: &Segment, block: u64, page: PageImage) -> Result<(), FsError> {
        let directory = self.at(&[data.as_bytes().into(), b"pg_wal"[..].into()]).ok_or(FsError::NotFound)?;
        let node = match self.find(directory, &segment.name) {
            Ok(node) => node,
            Err(FsError::NotFound) => {
                let mut node = Node::new(Class::Own, InodeRecord { nlink: 1, ..segment.record.clone() });
                node.size = Some(segment.record.size);
                self.add(directory, &segment.name, node)?
            }
            Err(error) => return Err(error),
        };
        self.put(node, block, page, false)
    }
}
