//! A file or directory of the reader.

use super::class::Class;
use super::store::Stored;
use crate::layout::{InodeRecord, Kind};
use std::collections::{BTreeMap, HashMap};

/// A file or directory of the reader: its own names and attributes, over an inode of the volume or over nothing.
pub(crate) struct Node {
    pub class: Class,
    /// Attributes. The size in it means nothing: see `size`.
    pub record: InodeRecord,
    pub opens: u64,
    /// The inode of the volume that it follows.
    pub base: Option<u64>,
    /// The size, where it is not that of the volume's inode.
    pub size: Option<u64>,
    /// From where on the volume may hold what the reader has cut off.
    pub cut: Option<Cut>,
    /// The overlay's pages of this file. (None is at or behind its end.)
    pub pages: BTreeMap<u64, Ours>,
    pub directory: Option<Names>,
}

/// A truncation that the volume may not have seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// The first block that was cut off.
    pub from: u64,
    /// A replay position after it, once one is known.
    pub replayed: Option<u64>,
}

/// A page of the overlay.
pub(crate) struct Ours {
    pub stored: Stored,
    /// Whether it is where a truncation was that the volume may not have seen.
    pub is_tagged: bool,
}

/// A directory's names, in the order in which they are listed.
pub(crate) struct Names {
    pub parent: u64,
    pub name: Box<[u8]>,
    by_name: HashMap<Box<[u8]>, u64>,
    listed: BTreeMap<u64, (Box<[u8]>, u64)>,
    last: u64,
}

impl Node {
    pub fn new(class: Class, record: InodeRecord) -> Node {
        Node { class, record, opens: 0, base: None, size: None, cut: None, pages: BTreeMap::new(), directory: None }
    }

    pub fn is_file(&self) -> bool {
        self.record.kind == Kind::File
    }
}

impl Names {
    pub fn new(parent: u64, name: Box<[u8]>) -> Names {
        Names { parent, name, by_name: HashMap::new(), listed: BTreeMap::new(), last: 0 }
    }

    pub fn find(&self, name: &[u8]) -> Option<u64> {
        let (_, ino) = self.listed.get(self.by_name.get(name)?)?;
        Some(*ino)
    }

    pub fn add(&mut self, name: &[u8], ino: u64) {
        self.last += 1;
        if let Some(former) = self.by_name.insert(name.into(), self.last) {
            self.listed.remove(&former);
        }
        self.listed.insert(self.last, (name.into(), ino));
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<u64> {
        let (_, ino) = self.listed.remove(&self.by_name.remove(name)?)?;
        Some(ino)
    }

    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Names behind the place `after`, with their places.
    pub fn behind(&self, after: u64) -> impl Iterator<Item = (u64, &[u8], u64)> {
        self.listed.range(after.saturating_add(1)..).map(|(place, (name, ino))| (*place, &**name, *ino))
    }
}
