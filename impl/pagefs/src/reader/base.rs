//! The volume's tree as of the read point: inodes and names, kept true by the volume's own records.
//!
//! What a reader needs to know of the metadata is in memory: the pages of the table and of the directories, and what
//! they say. [`Base::apply`] takes the records between two read points and says what was born, what is gone, and which
//! pages of files changed.

use crate::fs::{LoadError, read_pages};
use crate::layout::{
    ENTRIES_PER_PAGE, Entry, InodeRecord, Kind, Malformed, ROOT, SLOTS_PER_PAGE, Superblock, TABLE, blocks,
};
use auriga_page::{Delta, PageImage};
use auriga_protocol::{Lsn, PageId, Payload, Record};
use auriga_volume::{Callback, PageRead, ReaderVolume, VolumeError};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Instant;

/// The tree of the volume as of a read point.
#[derive(Default)]
pub(crate) struct Base {
    /// The table's pages and the directories'.
    pages: HashMap<PageId, PageImage>,
    /// The live inodes in each page of the table.
    slots: HashMap<u64, Vec<u64>>,
    /// What is live: an inode without names is not.
    inodes: HashMap<u64, InodeRecord>,
    directories: HashMap<u64, BTreeMap<Box<[u8]>, u64>>,
    /// The directory that a directory is in, and its name there.
    above: HashMap<u64, (u64, Box<[u8]>)>,
}

/// What changed between two read points.
#[derive(Default)]
pub(crate) struct Difference {
    /// Names that stand for other inodes than before, or that are new: directory, name, inode.
    pub born: Vec<(u64, Box<[u8]>, u64)>,
    /// Inodes that were live and are no more, as they were.
    pub gone: HashMap<u64, InodeRecord>,
    /// Live inodes whose attributes, the size above all, changed.
    pub changed: HashSet<u64>,
}

type Names = BTreeMap<(u64, Box<[u8]>), u64>;

impl Base {
    /// Reads the whole tree as of `at`.
    ///
    /// # Errors
    /// The volume fails, or holds no sound file system.
    pub fn load(volume: &dyn ReaderVolume, at: Lsn, deadline: Instant) -> Result<Base, LoadError> {
        let read = |page, callback: Callback<PageRead>| volume.read(page, at, deadline, callback);
        let mut base = Base::default();
        let superblock = PageId { inode: TABLE, block: 0 };
        let first = read_pages(read, std::iter::once(superblock))?;
        let table = Superblock::decode(&first[0])?.ok_or(LoadError::Empty)?.table_pages;
        let table: Vec<PageId> = (1..=table).map(|block| PageId { inode: TABLE, block }).collect();
        base.read_into(read, table)?;
        for page in base.pages.keys().copied().collect::<Vec<_>>() {
            base.take_slots(page.block, &mut Difference::default())?;
        }
        let directories = base.inodes.values().filter(|record| record.kind == Kind::Directory);
        let listed: Vec<PageId> = directories
            .flat_map(|record| (0..blocks(record.size)).map(|block| PageId { inode: record.ino, block }))
            .collect();
        base.read_into(read, listed.clone())?;
        let mut names = Names::new();
        for page in listed {
            base.names_in(page, &mut names)?;
        }
        names.into_iter().for_each(|((directory, name), ino)| base.add_name(directory, name, ino));
        match base.inodes.get(&ROOT) {
            Some(root) if root.kind == Kind::Directory => Ok(base),
            _ => Err(LoadError::Dangling(ROOT)),
        }
    }

    fn read_into(&mut self, read: impl Fn(PageId, Callback<PageRead>), pages: Vec<PageId>) -> Result<(), VolumeError> {
        let images = read_pages(read, pages.iter().copied())?;
        self.pages.extend(pages.into_iter().zip(images));
        Ok(())
    }

    /// Applies the records of the metadata, in their order.
    ///
    /// # Errors
    /// The volume's bytes make no sense.
    pub fn apply(&mut self, records: &[Record<Delta>]) -> Result<Difference, Malformed> {
        let mut difference = Difference::default();
        let mut table = BTreeSet::new();
        for record in records.iter().filter(|record| record.page.inode == TABLE && record.page.block > 0) {
            record.payload.apply(self.pages.entry(record.page).or_default());
            table.insert(record.page.block);
        }
        for block in table {
            self.take_slots(block, &mut difference)?;
        }
        let (mut before, mut after) = (Names::new(), Names::new());
        let mut listed = BTreeSet::new();
        for record in records {
            if !self.is_directory(record.page.inode) {
                continue;
            }
            if listed.insert((record.page.inode, record.page.block)) {
                self.names_in(record.page, &mut before)?;
            }
            record.payload.apply(self.pages.entry(record.page).or_default());
        }
        for (inode, block) in listed {
            self.names_in(PageId { inode, block }, &mut after)?;
        }
        self.rename(before, after, &mut difference);
        for ino in difference.gone.keys() {
            self.directories.remove(ino);
            self.above.remove(ino);
        }
        if difference.gone.len() > 64 {
            // Pages of directories that are gone.
            let directories = &self.directories;
            self.pages.retain(|page, _| page.inode == TABLE || directories.contains_key(&page.inode));
        }
        Ok(difference)
    }

    /// What differs from `newer`, as [`Base::apply`] would have said.
    pub fn difference_to(&self, newer: &Base) -> Difference {
        let gone = self.inodes.iter().filter(|(ino, _)| !newer.inodes.contains_key(ino));
        let gone = gone.map(|(ino, record)| (*ino, record.clone())).collect();
        let changed = newer.inodes.iter().filter(|(ino, record)| self.inodes.get(ino) != Some(record));
        let changed = changed.map(|(ino, _)| *ino).collect();
        let names = newer
            .directories
            .iter()
            .flat_map(|(directory, names)| names.iter().map(move |(name, ino)| (*directory, name.clone(), *ino)));
        let known = |directory: &u64, name: &[u8]| self.directories.get(directory)?.get(name).copied();
        let born = names.filter(|(directory, name, ino)| known(directory, name) != Some(*ino)).collect();
        Difference { born, gone, changed }
    }

    /// Reads the slots of a page of the table.
    fn take_slots(&mut self, block: u64, difference: &mut Difference) -> Result<(), Malformed> {
        let page = self.pages.get(&PageId { inode: TABLE, block }).cloned().unwrap_or_default();
        let first = (block - 1) * SLOTS_PER_PAGE;
        let mut live = HashMap::new();
        for slot in first..first + SLOTS_PER_PAGE {
            if let Some(record) = InodeRecord::decode(&page, slot)?.filter(|record| record.nlink > 0) {
                live.insert(record.ino, record);
            }
        }
        let was = std::mem::take(self.slots.entry(block).or_default());
        for ino in was.into_iter().filter(|ino| !live.contains_key(ino)) {
            difference.gone.extend(self.inodes.remove(&ino).map(|record| (ino, record)));
        }
        for (ino, record) in live {
            self.slots.entry(block).or_default().push(ino);
            if record.kind == Kind::Directory {
                self.directories.entry(ino).or_default();
            }
            if self.inodes.get(&ino) != Some(&record) {
                difference.changed.insert(ino);
                self.inodes.insert(ino, record);
            }
        }
        Ok(())
    }

    fn is_directory(&self, ino: u64) -> bool {
        self.directories.contains_key(&ino)
    }

    /// Adds the names in a page of a directory.
    fn names_in(&self, page: PageId, names: &mut Names) -> Result<(), Malformed> {
        let Some(image) = self.pages.get(&page) else { return Ok(()) };
        for slot in page.block * ENTRIES_PER_PAGE..(page.block + 1) * ENTRIES_PER_PAGE {
            if let Some(entry) = Entry::decode(page.inode, image, slot)? {
                names.insert((page.inode, entry.name), entry.ino);
            }
        }
        Ok(())
    }

    fn rename(&mut self, before: Names, after: Names, difference: &mut Difference) {
        for (directory, name) in before.keys().filter(|name| !after.contains_key(name)) {
            // A name may have moved to a page that did not hold it before: what is in `after` wins.
            if let Some(names) = self.directories.get_mut(directory) {
                names.remove(name);
            }
        }
        for ((directory, name), ino) in after {
            if before.get(&(directory, name.clone())) != Some(&ino) {
                difference.born.push((directory, name.clone(), ino));
                self.add_name(directory, name, ino);
            }
        }
    }

    fn add_name(&mut self, directory: u64, name: Box<[u8]>, ino: u64) {
        if self.is_directory(ino) {
            self.above.insert(ino, (directory, name.clone()));
        }
        self.directories.entry(directory).or_default().insert(name, ino);
    }

    /// A live inode.
    pub fn inode(&self, ino: u64) -> Option<&InodeRecord> {
        self.inodes.get(&ino)
    }

    /// The names in a directory.
    pub fn names(&self, directory: u64) -> impl Iterator<Item = (&[u8], u64)> {
        self.directories.get(&directory).into_iter().flatten().map(|(name, ino)| (&**name, *ino))
    }

    /// The live inode at a path from the root.
    pub fn resolve(&self, path: &[Box<[u8]>]) -> Option<u64> {
        let ino = path.iter().try_fold(ROOT, |at, name| self.directories.get(&at)?.get(name).copied())?;
        self.inodes.contains_key(&ino).then_some(ino)
    }

    /// The path of a name in a directory; `None`: the directory is in no other.
    pub fn path(&self, directory: u64, name: &[u8]) -> Option<Vec<Box<[u8]>>> {
        let mut path = vec![Box::from(name)];
        let mut at = directory;
        while at != ROOT {
            let (above, name) = self.above.get(&at)?;
            path.push(name.clone());
            at = *above;
            if path.len() > DEPTH_MAX {
                return None;
            }
        }
        path.reverse();
        Some(path)
    }
}

/// Directories deeper than this are nobody's whom a reader follows.
const DEPTH_MAX: usize = 64;
