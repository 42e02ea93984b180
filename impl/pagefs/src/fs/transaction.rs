//! Inodes and directory entries that change together, in one mini-transaction.
//!
//! A transaction locks the inodes that it may change, in the order of their numbers; the operation then edits copies
//! of their records and lists entries; [`Transaction::commit`] submits the differences and, only when that succeeded,
//! makes everything visible. An operation that fails before has changed nothing.

use super::PageFs;
use crate::error::FsError;
use crate::inode::{Directory, Inode};
use crate::layout::{ENTRIES_PER_PAGE, Entry, InodeRecord, Kind, Superblock, blocks};
use auriga_page::{Delta, PAGE_SIZE};
use auriga_protocol::{Change, Lsn};
use std::sync::{Arc, MutexGuard};

pub(super) struct Transaction<'a> {
    fs: &'a PageFs,
    touched: Vec<Touched<'a>>,
    entries: Vec<(&'a Inode, u64, Option<Entry>)>,
    created: Vec<(u64, InodeRecord, Option<Directory>)>,
    superblock: Option<(Superblock, Superblock)>,
}

struct Touched<'a> {
    inode: &'a Inode,
    order: MutexGuard<'a, InodeRecord>,
    record: InodeRecord,
}

impl<'a> Transaction<'a> {
    /// Locks `inodes`; the same one may be there more than once.
    pub fn begin(fs: &'a PageFs, inodes: &[&'a Inode]) -> Transaction<'a> {
        let mut inodes = inodes.to_vec();
        inodes.sort_by_key(|inode| inode.ino);
        inodes.dedup_by_key(|inode| inode.ino);
        let lock = |inode: &'a Inode| {
            let order = inode.lock_order();
            let view = inode.lock_view();
            // Times may be ahead of what was submitted: now they go along.
            let record = InodeRecord { mtime: view.record.mtime, ctime: view.record.ctime, ..order.clone() };
            drop(view);
            Touched { inode, order, record }
        };
        let touched = inodes.into_iter().map(lock).collect();
        Transaction { fs, touched, entries: Vec::new(), created: Vec::new(), superblock: None }
    }

    /// The record to edit of an inode that this transaction has locked.
    pub fn record(&mut self, inode: &Inode) -> &mut InodeRecord {
        let touched = self.touched.iter_mut().find(|touched| touched.inode.ino == inode.ino);
        &mut touched.expect("a transaction locks every inode that it changes").record
    }

    /// Puts `entry` into `slot` of a locked directory, growing it if need be; `None` frees the slot.
    pub fn set_entry(&mut self, directory: &'a Inode, slot: u64, entry: Option<Entry>, now: i64) {
        let end = (slot / ENTRIES_PER_PAGE + 1) * PAGE_SIZE as u64;
        let record = self.record(directory);
        record.size = record.size.max(end);
        (record.mtime, record.ctime) = (now, now);
        self.entries.push((directory, slot, entry));
    }

    /// Adds a new inode, with the directory it is, if it is one.
    pub fn create(&mut self, slot: u64, record: InodeRecord, parent: u64) {
        let directory = (record.kind == Kind::Directory).then(|| Directory::new(parent));
        self.created.push((slot, record, directory));
    }

    /// Changes the superblock.
    pub fn set_superblock(&mut self, old: Superblock, new: Superblock) {
        self.superblock = Some((old, new));
    }

    /// Submits everything as one mini-transaction and makes it visible.
    pub fn commit(self) -> Result<Lsn, FsError> {
        self.reserve()?;
        let lsn = match self.fs.submit(self.changes()) {
            Ok(lsn) => lsn,
            Err(error) => {
                self.touched.iter().for_each(|touched| {
                    self.fs.unreserve(blocks(touched.order.size), blocks(touched.record.size));
                });
                return Err(error);
            }
        };
        for (slot, record, directory) in self.created {
            self.fs.add_inode(Arc::new(Inode::new(slot, record, directory)));
        }
        for (directory, slot, entry) in self.entries {
            if let Some(mut entries) = directory.entries_mut() {
                entries.set(slot, entry);
            }
        }
        for mut touched in self.touched {
            self.fs.unreserve(blocks(touched.record.size), blocks(touched.order.size));
            touched.inode.lock_view().record = touched.record.clone();
            *touched.order = touched.record;
        }
        Ok(lsn)
    }

    fn reserve(&self) -> Result<(), FsError> {
        for (index, touched) in self.touched.iter().enumerate() {
            if let Err(error) = self.fs.reserve(blocks(touched.order.size), blocks(touched.record.size)) {
                self.touched[..index].iter().for_each(|touched| {
                    self.fs.unreserve(blocks(touched.order.size), blocks(touched.record.size));
                });
                return Err(error);
            }
        }
        Ok(())
    }

    fn changes(&self) -> Vec<Change<Delta>> {
        let superblock = self.superblock.iter().flat_map(|(old, new)| Superblock::change(Some(old), new));
        let created = self.created.iter().flat_map(|(slot, record, _)| InodeRecord::change(*slot, None, Some(record)));
        let touched = self
            .touched
            .iter()
            .flat_map(|touched| InodeRecord::change(touched.inode.slot, Some(&touched.order), Some(&touched.record)));
        let entries = self.entries.iter().flat_map(|(directory, slot, entry)| {
            let old = directory.entries().and_then(|entries| entries.get(*slot).cloned());
            Entry::change(directory.ino, *slot, old.as_ref(), entry.as_ref())
        });
        superblock.chain(created).chain(touched).chain(entries).collect()
    }
}
