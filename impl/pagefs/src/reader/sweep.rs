//! What leaves the overlay, because the volume has caught up (R-READER-FS-9).
//!
//! Whatever may have to leave is noted: a page that was written, a page that the volume changed, a size. Noted things are
//! looked at in small steps; none scans the overlay. Before replay has passed where the reader began, nothing leaves
//! (R-READER-FS-3).

use super::class::Class;
use super::data::Found;
use super::rules::{Ours, Theirs, gives_way};
use super::{ReaderFs, State};
use crate::defect::Defects;
use crate::error::FsError;
use crate::layout::blocks;
use auriga_page::PAGE_SIZE;
use auriga_protocol::{Lsn, PageId};
use std::sync::Arc;

/// Looked at under one hold of the lock.
const AT_ONCE: usize = 64;
/// A file of the volume that is longer by no more blocks of zeros than these has the size that the reader's has.
const LONGER_MAX: u64 = 64;
/// Pages of a node that are noted at a time.
const NODE_STEP: usize = 256;

/// Something that may have to leave.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Item {
    Page(u64, u64),
    Size(u64),
    /// All pages of a node, from this block on.
    Node(u64, u64),
}

impl State {
    fn note(&mut self, item: Item) {
        if self.is_ready && self.noted.insert(item) {
            self.sweep.push_back(item);
        }
    }

    pub(super) fn note_page(&mut self, ino: u64, block: u64) {
        self.note(Item::Page(ino, block));
    }

    pub(super) fn note_size(&mut self, ino: u64) {
        self.note(Item::Size(ino));
    }

    /// Notes everything of a node.
    pub(super) fn note_node(&mut self, ino: u64) {
        self.note(Item::Node(ino, 0));
        self.note(Item::Size(ino));
    }

    pub(super) fn note_all(&mut self) {
        let has_any =
            |node: &super::node::Node| node.class.follows() && (!node.pages.is_empty() || node.size.is_some());
        let inos: Vec<u64> = self.nodes.iter().filter(|(_, node)| has_any(node)).map(|(ino, _)| *ino).collect();
        inos.into_iter().for_each(|ino| self.note_node(ino));
    }

    /// Looks at one thing. Returns what has to be read of the volume first.
    fn sweep_one(&mut self, item: Item, defects: Defects) -> Result<Option<(PageId, Lsn)>, FsError> {
        match item {
            Item::Page(ino, block) => self.sweep_page(ino, block, defects),
            Item::Size(ino) => self.sweep_size(ino),
            Item::Node(ino, from) => {
                let Some(node) = self.nodes.get(&ino) else { return Ok(None) };
                let some: Vec<u64> = node.pages.range(from..).map(|(block, _)| *block).take(NODE_STEP).collect();
                if let Some(last) = some.last().filter(|_| some.len() == NODE_STEP) {
                    self.note(Item::Node(ino, last + 1));
                }
                some.into_iter().for_each(|block| self.note_page(ino, block));
                Ok(None)
            }
        }
    }

    fn sweep_page(&mut self, ino: u64, block: u64, defects: Defects) -> Result<Option<(PageId, Lsn)>, FsError> {
        let Some(node) = self.nodes.get(&ino) else { return Ok(None) };
        let (Some(inode), Some(ours), class) = (node.base, node.pages.get(&block), node.class) else { return Ok(None) };
        let (is_tagged, is_cut) = (ours.is_tagged, node.cut.is_some());
        if class == Class::Own {
            return Ok(None);
        }
        let page = self.store.get(&ours.stored)?;
        if is_tagged && is_cut && page.is_zero() {
            // The volume may have none there because it has not even seen what was cut off.
            return Ok(None);
        }
        let is_there = self.record_of(inode).is_some_and(|record| block < blocks(record.size));
        let theirs = match self.look_below(inode, block)? {
            Found::Page(page) => page,
            Found::Missing(page, at) => return Ok(Some((page, at))),
        };
        let ours = Ours { page: &page, is_tagged };
        if gives_way(class, &ours, &Theirs { page: &theirs, is_there }, defects) {
            let gone = self.node_mut(ino)?.pages.remove(&block);
            gone.into_iter().for_each(|gone| self.store.free(gone.stored));
            self.figures.dropped += 1;
        }
        Ok(None)
    }

    fn sweep_size(&mut self, ino: u64) -> Result<Option<(PageId, Lsn)>, FsError> {
        let Some(node) = self.nodes.get(&ino) else { return Ok(None) };
        let (Some(inode), Some(size), None) = (node.base, node.size, node.cut) else { return Ok(None) };
        let Some(base) = self.base.inode(inode).map(|record| record.size) else { return Ok(None) };
        if base > size {
            let (from, to) = (blocks(size), blocks(base));
            if !size.is_multiple_of(PAGE_SIZE as u64) || to - from > LONGER_MAX {
                return Ok(None);
            }
            for block in from..to {
                match self.look_below(inode, block)? {
                    Found::Missing(page, at) => return Ok(Some((page, at))),
                    Found::Page(page) if !page.is_zero() => return Ok(None),
                    Found::Page(_) => {}
                }
            }
        }
        if base >= size {
            self.node_mut(ino)?.size = None;
        }
        Ok(None)
    }
}

impl ReaderFs {
    /// Looks at up to `most` noted things.
    pub(super) fn sweep(self: &Arc<Self>, most: usize) {
        let mut left = most.min(self.lock().sweep.len());
        while left > 0 {
            let mut to_read = Vec::new();
            let mut state = self.lock();
            for _ in 0..AT_ONCE.min(left) {
                left -= 1;
                let Some(item) = state.sweep.pop_front() else { break };
                state.noted.remove(&item);
                match state.sweep_one(item, self.options.defects) {
                    Ok(None) => {}
                    Ok(Some((page, at))) => {
                        let fs = Arc::clone(self);
                        // What could not be read is looked at again, too.
                        let again = Box::new(move |_| fs.lock().note(item));
                        if state.pages.wait(page, at, again) {
                            to_read.push((page, at));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, ?item, "the overlay could not be looked at");
                    }
                }
            }
            drop(state);
            to_read.into_iter().for_each(|(page, at)| self.begin_read(page, at));
        }
    }
}
