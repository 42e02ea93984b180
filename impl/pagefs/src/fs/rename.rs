//! Renaming: a name moves, or two change places, in one mini-transaction.

use super::transaction::Transaction;
use super::tree::{add_link, check_name, drop_link};
use super::{PageFs, now};
use crate::error::FsError;
use crate::inode::{Inode, lock};
use crate::layout::{Entry, Kind, ROOT};
use std::sync::Arc;

/// What a rename does with a target that exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenameMode {
    /// It is replaced.
    Replace,
    /// The rename fails (`RENAME_NOREPLACE`).
    Keep,
    /// Source and target change places; both must exist (`RENAME_EXCHANGE`).
    Exchange,
}

impl PageFs {
    /// Gives what `name` stands for in `parent` the name `new_name` in `new_parent`.
    ///
    /// # Errors
    /// As rename(2): [`FsError::Exists`], [`FsError::NotEmpty`], [`FsError::IsDirectory`], [`FsError::NotDirectory`],
    /// [`FsError::Invalid`] for a directory into itself, and what [`PageFs::lookup`] answers.
    pub fn rename(
        self: &Arc<Self>,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), FsError> {
        check_name(new_name)?;
        let _tree = lock(&self.tree);
        let (from, to) = (self.directory(parent)?, self.directory(new_parent)?);
        let (listed_from, moved) = self.find(&from, name)?;
        let target = self.find(&to, new_name).ok();
        let moved = self.inode(moved)?;
        if moved.kind == Kind::Directory && self.is_within(new_parent, moved.ino) {
            return Err(FsError::Invalid);
        }
        let target = match target {
            Some((slot, ino)) => Some((slot, self.inode(ino)?)),
            None => None,
        };
        match (mode, &target) {
            (RenameMode::Keep, Some(_)) => Err(FsError::Exists),
            (RenameMode::Exchange, None) => Err(FsError::NotFound),
            (_, Some((_, target))) if target.ino == moved.ino => Ok(()),
            (RenameMode::Exchange, Some((slot, target))) => {
                if target.kind == Kind::Directory && self.is_within(parent, target.ino) {
                    return Err(FsError::Invalid);
                }
                self.exchange((&from, listed_from, name, &moved), (&to, *slot, new_name, target))
            }
            (_, Some((slot, target))) => {
                check_replaceable(&moved, target)?;
                self.replace((&from, listed_from, &moved), (&to, *slot, new_name), Some(target))
            }
            (_, None) => {
                let slot = to.entries().ok_or(FsError::NotDirectory)?.free_slot(None);
                self.replace((&from, listed_from, &moved), (&to, slot, new_name), None)
            }
        }
    }

    fn replace(
        self: &Arc<Self>,
        (from, listed_from, moved): (&Arc<Inode>, u64, &Arc<Inode>),
        (to, to_slot, new_name): (&Arc<Inode>, u64, &[u8]),
        replaced: Option<&Arc<Inode>>,
    ) -> Result<(), FsError> {
        let mut inodes: Vec<&Inode> = vec![from, to, moved];
        inodes.extend(replaced.map(|inode| &**inode));
        let mut transaction = Transaction::begin(self, &inodes);
        let now = now();
        transaction.set_entry(from, listed_from, None, now);
        transaction.set_entry(to, to_slot, Some(Entry { ino: moved.ino, name: new_name.into() }), now);
        transaction.record(moved).ctime = now;
        if let Some(replaced) = replaced {
            drop_link(&mut transaction, replaced, to, now);
        }
        if moved.kind == Kind::Directory && from.ino != to.ino {
            add_link(transaction.record(to))?;
            transaction.record(from).nlink -= 1;
        }
        transaction.commit()?;
        set_parent(moved, to.ino);
        replaced.into_iter().for_each(|replaced| self.give_back_if_unused(replaced));
        Ok(())
    }

    fn exchange(
        &self,
        (from, listed_from, name, moved): (&Arc<Inode>, u64, &[u8], &Arc<Inode>),
        (to, to_slot, new_name, target): (&Arc<Inode>, u64, &[u8], &Arc<Inode>),
    ) -> Result<(), FsError> {
        let mut transaction = Transaction::begin(self, &[from, to, moved, target]);
        let now = now();
        transaction.set_entry(from, listed_from, Some(Entry { ino: target.ino, name: name.into() }), now);
        transaction.set_entry(to, to_slot, Some(Entry { ino: moved.ino, name: new_name.into() }), now);
        transaction.record(moved).ctime = now;
        transaction.record(target).ctime = now;
        if from.ino != to.ino && moved.kind != target.kind {
            for (inode, loses, gains) in [(moved, from, to), (target, to, from)] {
                if inode.kind == Kind::Directory {
                    add_link(transaction.record(gains))?;
                    transaction.record(loses).nlink -= 1;
                }
            }
        }
        transaction.commit()?;
        set_parent(moved, to.ino);
        set_parent(target, from.ino);
        Ok(())
    }

    /// Whether directory `ino` is `ancestor` or somewhere below it.
    fn is_within(&self, ino: u64, ancestor: u64) -> bool {
        let mut at = ino;
        loop {
            if at == ancestor {
                return true;
            }
            let parent = self.inode(at).ok().and_then(|inode| inode.entries().map(|entries| entries.parent));
            match parent {
                Some(parent) if at != ROOT => at = parent,
                _ => return false,
            }
        }
    }
}

fn check_replaceable(moved: &Inode, target: &Inode) -> Result<(), FsError> {
    match (moved.kind, target.entries()) {
        (Kind::Directory, None) => Err(FsError::NotDirectory),
        (Kind::Directory, Some(entries)) if entries.len() > 0 => Err(FsError::NotEmpty),
        (Kind::Directory, Some(_)) | (_, None) => Ok(()),
        (_, Some(_)) => Err(FsError::IsDirectory),
    }
}

fn set_parent(inode: &Inode, parent: u64) {
    if let Some(mut entries) = inode.entries_mut() {
        entries.parent = parent;
    }
}
