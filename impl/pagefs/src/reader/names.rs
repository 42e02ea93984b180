//! The reader's names: its own, from the moment that it begins (R-READER-FS-6).
//!
//! PostgreSQL copies and removes directories before it writes the WAL record that says so. So a file that the volume has
//! is not seen before the standby makes that path, and one that the volume has removed is seen until the standby
//! removes it.

use super::class::{Class, class_of};
use super::node::{Names, Node};
use super::{ReaderFs, State};
use crate::defect::Defect;
use crate::error::FsError;
use crate::fs::{Listed, NewInode, RenameMode, SetAttr, now};
use crate::inode::lock;
use crate::layout::{InodeRecord, Kind, NAME_MAX, ROOT};

type Path = Vec<Box<[u8]>>;

impl State {
    fn names(&self, ino: u64) -> Result<&Names, FsError> {
        let node = self.node(ino)?;
        let names = node.directory.as_ref().ok_or(FsError::NotDirectory)?;
        if node.record.nlink == 0 { Err(FsError::NotFound) } else { Ok(names) }
    }

    fn names_mut(&mut self, ino: u64) -> Result<&mut Names, FsError> {
        self.names(ino)?;
        self.node_mut(ino)?.directory.as_mut().ok_or(FsError::NotDirectory)
    }

    pub(super) fn find(&self, parent: u64, name: &[u8]) -> Result<u64, FsError> {
        self.names(parent)?.find(name).ok_or(FsError::NotFound)
    }

    /// The path of a name in a directory, from the root.
    pub(super) fn path(&self, parent: u64, name: &[u8]) -> Path {
        let mut path = vec![Box::from(name)];
        let mut at = parent;
        while let Some(names) = self.nodes.get(&at).and_then(|node| node.directory.as_ref()).filter(|_| at != ROOT) {
            path.push(names.name.clone());
            at = names.parent;
        }
        path.reverse();
        path
    }

    /// Whether a directory is another one, or somewhere in it.
    fn is_within(&self, mut at: u64, directory: u64) -> bool {
        while at != directory && at != ROOT {
            match self.names(at) {
                Ok(names) => at = names.parent,
                Err(_) => return false,
            }
        }
        at == directory
    }

    /// What is at a path of the reader's.
    pub(super) fn at(&self, path: &[Box<[u8]>]) -> Option<u64> {
        path.iter().try_fold(ROOT, |at, name| self.names(at).ok()?.find(name))
    }

    /// Attributes, with the size.
    pub(super) fn attributes(&self, ino: u64) -> Result<InodeRecord, FsError> {
        let node = self.node(ino)?;
        let size = if node.is_file() { self.size_of(node) } else { node.record.size };
        Ok(InodeRecord { ino, size, ..node.record.clone() })
    }

    /// Adds a node under a name.
    pub(super) fn add(&mut self, parent: u64, name: &[u8], mut node: Node) -> Result<u64, FsError> {
        self.last_node += 1;
        let ino = self.last_node;
        node.record.ino = ino;
        if node.record.kind == Kind::Directory {
            node.directory = Some(Names::new(parent, name.into()));
            self.node_mut(parent)?.record.nlink += 1;
        }
        self.names_mut(parent)?.add(name, ino);
        self.nodes.insert(ino, node);
        Ok(ino)
    }

    /// Lets a node that follows nothing follow an inode of the volume (R-READER-FS-6, 7).
    pub(super) fn link_to(&mut self, ino: u64, inode: u64) {
        if self.masked.contains(&inode) || self.linked.contains_key(&inode) {
            return;
        }
        if self.base.inode(inode).is_none_or(|record| record.kind != Kind::File) {
            return;
        }
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        if node.base.is_some() || !node.class.follows() {
            return;
        }
        node.base = Some(inode);
        node.size.get_or_insert(0);
        self.linked.insert(inode, ino);
        self.note_node(ino);
    }

    /// One name of a node less; without any and without open handles, it goes.
    fn drop_name(&mut self, ino: u64, path: Path, links_dropped: bool) -> Result<(), FsError> {
        let node = self.node_mut(ino)?;
        node.record.nlink = node.record.nlink.saturating_sub(1);
        node.record.ctime = now();
        if node.record.nlink == 0 && node.class.follows() && !links_dropped {
            // R-READER-FS-7: the path may be used again, but not for this.
            match node.base {
                Some(inode) => _ = self.masked.insert(inode),
                None => _ = self.dropped.insert(path, None),
            }
        }
        self.remove_if_unused(ino);
        Ok(())
    }

    pub(super) fn remove_if_unused(&mut self, ino: u64) {
        if self.nodes.get(&ino).is_none_or(|node| node.record.nlink > 0 || node.opens > 0) {
            return;
        }
        let Some(node) = self.nodes.remove(&ino) else { return };
        self.cuts.remove(&ino);
        node.pages.into_values().for_each(|ours| self.store.free(ours.stored));
        if let Some(inode) = node.base {
            self.linked.remove(&inode);
            self.kept.remove(&inode);
        }
    }
}

impl ReaderFs {
    /// What a file at this path is.
    pub(super) fn class(&self, path: &[Box<[u8]>]) -> Class {
        match path.split_first() {
            Some((first, rest)) if **first == *self.options.data.as_bytes() => {
                class_of(&rest.iter().map(|name| &**name).collect::<Vec<_>>())
            }
            _ => Class::Own,
        }
    }

    /// Gives a file the class of its path, and lets it follow the volume's file there.
    fn settle(&self, state: &mut State, ino: u64, path: &[Box<[u8]>]) -> Result<(), FsError> {
        let class = self.class(path);
        let node = state.node_mut(ino)?;
        if !node.is_file() {
            return Ok(());
        }
        node.class = class;
        if class.follows()
            && let Some(inode) = state.base.resolve(path)
        {
            state.link_to(ino, inode);
        }
        Ok(())
    }

    /// The attributes of what `name` stands for in directory `parent`.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::NotDirectory`], [`FsError::NameTooLong`].
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<InodeRecord, FsError> {
        if name.len() > NAME_MAX {
            return Err(FsError::NameTooLong);
        }
        let state = self.lock();
        state.attributes(state.find(parent, name)?)
    }

    /// The attributes of an inode.
    ///
    /// # Errors
    /// [`FsError::NotFound`].
    pub fn attributes(&self, ino: u64) -> Result<InodeRecord, FsError> {
        self.lock().attributes(ino)
    }

    /// The names of a directory and those above it, the nearest first, as many as there are up to `most`.
    pub(crate) fn directory_names(&self, ino: u64, most: usize) -> Vec<Box<[u8]>> {
        let mut path = self.lock().path(ino, b"");
        path.pop();
        path.reverse();
        path.truncate(most);
        path
    }

    /// Up to `max` entries of a directory, as [`PageFs::list`](crate::PageFs::list) has them.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::NotDirectory`].
    pub fn list(&self, ino: u64, from: u64, max: usize) -> Result<Vec<Listed>, FsError> {
        let state = self.lock();
        let names = state.names(ino)?;
        let dots = [(ino, &b"."[..]), (names.parent, &b".."[..])].into_iter().zip(1..).skip(from.min(2) as usize);
        let dots = dots.map(|((ino, name), next)| Listed { next, ino, kind: Kind::Directory, name: name.into() });
        let named = names.behind(from.saturating_sub(2)).filter_map(|(place, name, ino)| {
            let kind = state.nodes.get(&ino)?.record.kind;
            Some(Listed { next: place + 2, ino, kind, name: name.into() })
        });
        Ok(dots.chain(named).take(max).collect())
    }

    /// Makes an inode and its name. `open`: as one open handle, too.
    ///
    /// # Errors
    /// [`FsError::Exists`], [`FsError::NameTooLong`], and what [`ReaderFs::lookup`] answers.
    pub fn create(&self, parent: u64, name: &[u8], new: &NewInode<'_>, open: bool) -> Result<InodeRecord, FsError> {
        if name.len() > NAME_MAX {
            return Err(FsError::NameTooLong);
        }
        let mut state = self.lock();
        match state.find(parent, name) {
            Err(FsError::NotFound) => {}
            Ok(_) => return Err(FsError::Exists),
            Err(error) => return Err(error),
        }
        let now = now();
        let record = InodeRecord {
            ino: 0,
            kind: new.kind,
            mode: new.mode,
            uid: new.uid,
            gid: new.gid,
            nlink: if new.kind == Kind::Directory { 2 } else { 1 },
            rdev: new.rdev,
            size: new.target.len() as u64,
            trim_end: 0,
            mtime: now,
            ctime: now,
            atime: now,
            target: new.target.into(),
        };
        let mut node = Node::new(Class::Own, record);
        node.opens = u64::from(open);
        node.size = (new.kind == Kind::File).then_some(0);
        let ino = state.add(parent, name, node)?;
        let path = state.path(parent, name);
        self.settle(&mut state, ino, &path)?;
        state.attributes(ino)
    }

    /// Gives a file one more name.
    ///
    /// # Errors
    /// As [`ReaderFs::create`], and [`FsError::NotPermitted`] for a directory.
    pub fn link(&self, ino: u64, parent: u64, name: &[u8]) -> Result<InodeRecord, FsError> {
        let mut state = self.lock();
        if state.node(ino)?.directory.is_some() {
            return Err(FsError::NotPermitted);
        }
        if state.find(parent, name).is_ok() {
            return Err(FsError::Exists);
        }
        state.names_mut(parent)?.add(name, ino);
        state.node_mut(ino)?.record.nlink += 1;
        state.attributes(ino)
    }

    /// Removes a name of what is not a directory.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::NotDirectory`], [`FsError::IsDirectory`].
    pub fn unlink(&self, parent: u64, name: &[u8]) -> Result<(), FsError> {
        let mut state = self.lock();
        let ino = state.find(parent, name)?;
        if state.node(ino)?.directory.is_some() {
            return Err(FsError::IsDirectory);
        }
        let path = state.path(parent, name);
        state.names_mut(parent)?.remove(name);
        state.drop_name(ino, path, self.options.defects.has(Defect::ReaderLinksDropped))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::NotDirectory`], [`FsError::NotEmpty`].
    pub fn rmdir(&self, parent: u64, name: &[u8]) -> Result<(), FsError> {
        let mut state = self.lock();
        let ino = state.find(parent, name)?;
        if !state.names(ino)?.is_empty() {
            return Err(FsError::NotEmpty);
        }
        state.names_mut(parent)?.remove(name);
        state.node_mut(parent)?.record.nlink -= 1;
        state.node_mut(ino)?.record.nlink = 0;
        state.remove_if_unused(ino);
        Ok(())
    }

    /// Gives what `name` stands for in `parent` the name `new_name` in `new_parent`.
    ///
    /// # Errors
    /// As rename(2); [`FsError::NotSupported`] for an exchange, which PostgreSQL never asks for.
    pub fn rename(
        &self,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), FsError> {
        let mut state = self.lock();
        let ino = state.find(parent, name)?;
        let replaced = match state.find(new_parent, new_name) {
            Ok(replaced) => Some(replaced),
            Err(FsError::NotFound) => None,
            Err(error) => return Err(error),
        };
        let (is_directory, path) = (state.node(ino)?.directory.is_some(), state.path(new_parent, new_name));
        if is_directory && state.is_within(new_parent, ino) {
            return Err(FsError::Invalid);
        }
        match (mode, replaced) {
            (RenameMode::Exchange, _) => return Err(FsError::NotSupported),
            (RenameMode::Keep, Some(_)) => return Err(FsError::Exists),
            (_, Some(replaced)) if replaced == ino => return Ok(()),
            (_, Some(replaced)) => match (is_directory, state.node(replaced)?.directory.as_ref()) {
                (false, Some(_)) => return Err(FsError::IsDirectory),
                (true, None) => return Err(FsError::NotDirectory),
                (true, Some(names)) if !names.is_empty() => return Err(FsError::NotEmpty),
                (true, Some(_)) => {
                    state.node_mut(new_parent)?.record.nlink -= 1;
                    state.node_mut(replaced)?.record.nlink = 0;
                    state.remove_if_unused(replaced);
                }
                (false, None) => {
                    let links = self.options.defects.has(Defect::ReaderLinksDropped);
                    state.drop_name(replaced, path.clone(), links)?;
                }
            },
            (_, None) => {}
        }
        state.names_mut(parent)?.remove(name);
        state.names_mut(new_parent)?.add(new_name, ino);
        if let Some(names) = &mut state.node_mut(ino)?.directory {
            (names.parent, names.name) = (new_parent, new_name.into());
            state.node_mut(parent)?.record.nlink -= 1;
            state.node_mut(new_parent)?.record.nlink += 1;
        }
        self.settle(&mut state, ino, &path)
    }

    /// Sets attributes.
    ///
    /// # Errors
    /// [`FsError::NotFound`].
    pub fn set_attributes(&self, ino: u64, set: &SetAttr) -> Result<InodeRecord, FsError> {
        let mut state = self.lock();
        let record = &mut state.node_mut(ino)?.record;
        record.mode = set.mode.unwrap_or(record.mode);
        record.uid = set.uid.unwrap_or(record.uid);
        record.gid = set.gid.unwrap_or(record.gid);
        record.atime = set.atime.unwrap_or(record.atime);
        record.mtime = set.mtime.unwrap_or(record.mtime);
        record.ctime = now();
        state.attributes(ino)
    }

    /// A symbolic link's target.
    ///
    /// # Errors
    /// [`FsError::Invalid`] for anything else.
    pub fn read_link(&self, ino: u64) -> Result<Box<[u8]>, FsError> {
        let state = self.lock();
        let record = &state.node(ino)?.record;
        if record.kind == Kind::Symlink { Ok(record.target.clone()) } else { Err(FsError::Invalid) }
    }

    /// Counts one more open handle of the inode, which stays usable through it even without a name.
    ///
    /// # Errors
    /// [`FsError::NotFound`] when it is gone.
    pub fn open(&self, ino: u64) -> Result<(), FsError> {
        self.lock().node_mut(ino)?.opens += 1;
        Ok(())
    }

    /// Counts one open handle less.
    pub fn close(&self, ino: u64) {
        let mut state = lock(&self.state);
        if let Some(node) = state.nodes.get_mut(&ino) {
            node.opens = node.opens.saturating_sub(1);
            state.remove_if_unused(ino);
        }
    }
}
