//! Making a file system on an empty volume, and opening one.
//!
//! Opening reads the whole namespace into memory: the table, then every directory, many pages at a time. Then it picks
//! up what the last mount left unfinished: orphans are given back and trims finished, in the background.

use super::{FsOptions, OnLost, PageFs, now};
use crate::inode::{Directory, Inode, lock};
use crate::layout::{
    ENTRIES_PER_PAGE, Entry, InodeRecord, Kind, Malformed, ROOT, SLOTS_PER_PAGE, Superblock, TABLE, blocks,
};
use auriga_page::PageImage;
use auriga_protocol::{Lsn, PageId};
use auriga_volume::{Callback, PageRead, Volume, VolumeError};
use std::sync::{Arc, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Page reads under way at a time while loading.
const READS_AT_A_TIME: usize = 128;

/// Why a volume can't be formatted or opened.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Nothing was ever written to the volume.
    #[error("the volume has no file system yet")]
    Empty,
    /// The volume has something on it.
    #[error(
        "the volume has content, but no file system where one begins: nothing is made over what may be data. Is it the right \
         volume?"
    )]
    NotEmpty,
    /// The volume's bytes make no file system.
    #[error("the volume holds no sound file system: {0}")]
    Malformed(#[from] Malformed),
    /// An entry or a root that leads nowhere.
    #[error("the volume holds no sound file system: inode {0} is named, but there is none")]
    Dangling(u64),
    /// The volume failed.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The operating system has no thread for us.
    #[error("a thread could not be started: {0}")]
    Threads(#[from] std::io::Error),
}

/// Makes a file system on an empty volume: a root directory that belongs to `uid` and `gid`. Waits until it is durable.
///
/// # Errors
/// When the volume has content, or fails within `deadline`.
pub fn mkfs(volume: &dyn Volume, uid: u32, gid: u32, deadline: Duration) -> Result<(), LoadError> {
    let until = Instant::now() + deadline;
    let superblock_page = read_newest(volume, std::iter::once(PageId { inode: TABLE, block: 0 }), until)?;
    // Whatever was ever durable on the volume may be needed: a page that reads as zeros is no proof that it is empty.
    if volume.vdl() > Lsn::ZERO || superblock_page.iter().any(|page| !page.is_zero()) {
        return Err(LoadError::NotEmpty);
    }
    let now = now();
    let root = InodeRecord {
        ino: ROOT,
        kind: Kind::Directory,
        mode: 0o755,
        uid,
        gid,
        nlink: 2,
        rdev: 0,
        size: 0,
        trim_end: 0,
        mtime: now,
        ctime: now,
        atime: now,
        target: Box::default(),
    };
    let superblock = Superblock { inode_bound: ROOT + 1, table_pages: 1 };
    let changes = [Superblock::change(None, &superblock), InodeRecord::change(0, None, Some(&root))];
    let lsn = volume.submit(changes.into_iter().flatten().collect(), until)?;
    let (sender, receiver) = mpsc::channel();
    volume.when_durable(
        lsn,
        until,
        Box::new(move |result| {
            let _ = sender.send(result);
        }),
    );
    Ok(receiver.recv().unwrap_or(Err(VolumeError::Closed))?)
}

impl PageFs {
    /// Opens the file system on `volume`. `on_lost` is called once when it can't be written any more, for good.
    ///
    /// # Errors
    /// When there is none, it is not sound, or the volume fails.
    pub fn load(volume: Arc<dyn Volume>, options: FsOptions, on_lost: OnLost) -> Result<Arc<PageFs>, LoadError> {
        let until = Instant::now() + options.deadline;
        let page = read_newest(&*volume, std::iter::once(PageId { inode: TABLE, block: 0 }), until)?;
        let superblock = Superblock::decode(&page[0])?.ok_or(LoadError::Empty)?;
        let fs = Arc::new(PageFs::new(volume, options, superblock, on_lost)?);
        let records = fs.load_table(superblock)?;
        fs.load_directories(records)?;
        fs.check_entries()?;
        if !fs.options.read_only {
            fs.resume_unfinished();
        }
        Ok(fs)
    }

    /// Reads every inode slot; remembers which are free.
    fn load_table(&self, superblock: Superblock) -> Result<Vec<(u64, InodeRecord)>, LoadError> {
        let pages = (1..=superblock.table_pages).map(|block| PageId { inode: TABLE, block });
        let pages = read_newest(&*self.volume, pages, self.deadline())?;
        let mut records = Vec::new();
        let mut free = Vec::new();
        for (page, first) in pages.iter().zip((0..).step_by(SLOTS_PER_PAGE as usize)) {
            for slot in first..first + SLOTS_PER_PAGE {
                match InodeRecord::decode(page, slot)? {
                    Some(record) => records.push((slot, record)),
                    None => free.push(slot),
                }
            }
        }
        free.reverse();
        lock(&self.tree).free_slots = free;
        Ok(records)
    }

    /// Reads every directory's entries, and makes the inodes.
    fn load_directories(&self, records: Vec<(u64, InodeRecord)>) -> Result<(), LoadError> {
        let has_entries = |record: &InodeRecord| record.kind == Kind::Directory && record.nlink > 0;
        let listed = records.iter().filter(|(_, record)| has_entries(record));
        let pages =
            listed.flat_map(|(_, record)| (0..blocks(record.size)).map(|block| PageId { inode: record.ino, block }));
        let mut pages = read_newest(&*self.volume, pages, self.deadline())?.into_iter();
        let mut parents = Vec::new();
        for (slot, record) in records {
            let mut directory = (record.kind == Kind::Directory).then(|| Directory::new(ROOT));
            if let Some(directory) = directory.as_mut().filter(|_| has_entries(&record)) {
                for (page, block) in pages.by_ref().take(blocks(record.size) as usize).zip(0..) {
                    for slot in block * ENTRIES_PER_PAGE..(block + 1) * ENTRIES_PER_PAGE {
                        if let Some(entry) = Entry::decode(record.ino, &page, slot)? {
                            parents.push((entry.ino, record.ino));
                            directory.set(slot, Some(entry));
                        }
                    }
                }
            }
            self.reserve_loaded(&record);
            self.add_inode(Arc::new(Inode::new(slot, record, directory)));
        }
        for (child, parent) in parents {
            let child = self.inode(child).map_err(|_| LoadError::Dangling(child))?;
            if let Some(mut entries) = child.entries_mut() {
                entries.parent = parent;
            }
        }
        Ok(())
    }

    fn reserve_loaded(&self, record: &InodeRecord) {
        self.used_blocks.fetch_add(blocks(record.size), std::sync::atomic::Ordering::Relaxed);
    }

    fn check_entries(&self) -> Result<(), LoadError> {
        match self.inode(ROOT) {
            Ok(root) if root.kind == Kind::Directory => Ok(()),
            _ => Err(LoadError::Dangling(ROOT)),
        }
    }

    /// Goes on with what the last mount did not finish.
    fn resume_unfinished(self: &Arc<Self>) {
        let inodes: Vec<Arc<Inode>> =
            self.inodes.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for inode in inodes {
            let record = inode.lock_order().clone();
            if record.nlink == 0 {
                self.give_back_later(inode);
            } else if record.trim_end > blocks(record.size) {
                self.trim_later(inode);
            }
        }
    }
}

/// Reads pages through `read`, several at a time, and answers them in the order asked for.
pub(crate) fn read_pages(
    read: impl Fn(PageId, Callback<PageRead>),
    pages: impl Iterator<Item = PageId>,
) -> Result<Vec<PageImage>, VolumeError> {
    type Numbered = (usize, Result<PageRead, VolumeError>);
    let (sender, receiver) = mpsc::channel::<Numbered>();
    let mut images = Vec::new();
    let mut pages = pages.enumerate();
    let mut under_way = 0;
    loop {
        for (index, page) in pages.by_ref().take(READS_AT_A_TIME - under_way) {
            let sender = sender.clone();
            read(page, Box::new(move |answer| drop(sender.send((index, answer)))));
            under_way += 1;
        }
        if under_way == 0 {
            return Ok(images);
        }
        let (index, answer) = receiver.recv().map_err(|_| VolumeError::Closed)?;
        under_way -= 1;
        if images.len() <= index {
            images.resize(index + 1, PageImage::default());
        }
        images[index] = answer?.page;
    }
}

/// Reads pages as of VDL.
fn read_newest(
    volume: &dyn Volume,
    pages: impl Iterator<Item = PageId>,
    deadline: Instant,
) -> Result<Vec<PageImage>, VolumeError> {
    read_pages(|page, callback| volume.read(page, deadline, callback), pages)
}
