//! A file system in memory, as plain as possible: what [`auriga_pagefs::PageFs`] must behave like.

use auriga_pagefs::FsError;
use auriga_pagefs::fs::RenameMode;
use std::collections::BTreeMap;

pub type Name = &'static str;

/// An inode: what a user can see of it, but for times.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    File { bytes: Vec<u8>, mode: u16 },
    Directory { entries: BTreeMap<Name, usize>, mode: u16 },
    Symlink { target: Vec<u8> },
}

/// All inodes ever made; a name leads to one by its index. The first is the root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    nodes: Vec<Node>,
}

type Done = Result<(), FsError>;

impl Reference {
    pub fn new() -> Reference {
        Reference { nodes: vec![Node::Directory { entries: BTreeMap::new(), mode: 0o755 }] }
    }

    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// Follows directory names from the root.
    pub fn resolve(&self, path: &[Name]) -> Result<usize, FsError> {
        path.iter().try_fold(0, |at, name| self.entries(at)?.get(name).copied().ok_or(FsError::NotFound))
    }

    fn entries(&self, index: usize) -> Result<&BTreeMap<Name, usize>, FsError> {
        match &self.nodes[index] {
            Node::Directory { entries, .. } => Ok(entries),
            _ => Err(FsError::NotDirectory),
        }
    }

    fn entries_mut(&mut self, index: usize) -> &mut BTreeMap<Name, usize> {
        match &mut self.nodes[index] {
            Node::Directory { entries, .. } => entries,
            _ => unreachable!("checked by the caller"),
        }
    }

    fn is_directory(&self, index: usize) -> bool {
        matches!(self.nodes[index], Node::Directory { .. })
    }

    pub fn create(&mut self, parent: &[Name], name: Name, node: Node) -> Result<usize, FsError> {
        let parent = self.resolve(parent)?;
        if self.entries(parent)?.contains_key(name) {
            return Err(FsError::Exists);
        }
        self.nodes.push(node);
        let index = self.nodes.len() - 1;
        self.entries_mut(parent).insert(name, index);
        Ok(index)
    }

    pub fn link(&mut self, index: usize, parent: &[Name], name: Name) -> Done {
        let parent = self.resolve(parent)?;
        let taken = self.entries(parent)?.contains_key(name);
        match (self.is_directory(index), taken) {
            (true, _) => Err(FsError::NotPermitted),
            (_, true) => Err(FsError::Exists),
            _ => {
                self.entries_mut(parent).insert(name, index);
                Ok(())
            }
        }
    }

    pub fn unlink(&mut self, parent: &[Name], name: Name) -> Done {
        let parent = self.resolve(parent)?;
        let index = *self.entries(parent)?.get(name).ok_or(FsError::NotFound)?;
        if self.is_directory(index) {
            return Err(FsError::IsDirectory);
        }
        self.entries_mut(parent).remove(name);
        Ok(())
    }

    pub fn rmdir(&mut self, parent: &[Name], name: Name) -> Done {
        let parent = self.resolve(parent)?;
        let index = *self.entries(parent)?.get(name).ok_or(FsError::NotFound)?;
        if !self.entries(index)?.is_empty() {
            return Err(FsError::NotEmpty);
        }
        self.entries_mut(parent).remove(name);
        Ok(())
    }

    pub fn rename(&mut self, from: (&[Name], Name), to: (&[Name], Name), mode: RenameMode) -> Done {
        let (from_parent, to_parent) = (self.resolve(from.0)?, self.resolve(to.0)?);
        let (_, _) = (self.entries(from_parent)?, self.entries(to_parent)?);
        let moved = *self.entries(from_parent)?.get(from.1).ok_or(FsError::NotFound)?;
        let target = self.entries(to_parent)?.get(to.1).copied();
        if self.is_directory(moved) && self.is_within(to.0, moved) {
            return Err(FsError::Invalid);
        }
        match (mode, target) {
            (RenameMode::Keep, Some(_)) => return Err(FsError::Exists),
            (RenameMode::Exchange, None) => return Err(FsError::NotFound),
            (_, Some(target)) if target == moved => return Ok(()),
            (RenameMode::Exchange, Some(target)) => {
                if self.is_directory(target) && self.is_within(from.0, target) {
                    return Err(FsError::Invalid);
                }
                self.entries_mut(from_parent).insert(from.1, target);
                self.entries_mut(to_parent).insert(to.1, moved);
                return Ok(());
            }
            (_, Some(target)) => match (self.is_directory(moved), self.is_directory(target)) {
                (true, false) => return Err(FsError::NotDirectory),
                (false, true) => return Err(FsError::IsDirectory),
                (true, true) if !self.entries(target)?.is_empty() => return Err(FsError::NotEmpty),
                _ => {}
            },
            (_, None) => {}
        }
        self.entries_mut(from_parent).remove(from.1);
        self.entries_mut(to_parent).insert(to.1, moved);
        Ok(())
    }

    fn is_within(&self, path: &[Name], ancestor: usize) -> bool {
        (0..=path.len()).any(|depth| self.resolve(&path[..depth]) == Ok(ancestor))
    }

    fn bytes_mut(&mut self, index: usize) -> Result<&mut Vec<u8>, FsError> {
        match &mut self.nodes[index] {
            Node::File { bytes, .. } => Ok(bytes),
            Node::Directory { .. } => Err(FsError::IsDirectory),
            Node::Symlink { .. } => Err(FsError::Invalid),
        }
    }

    pub fn write(&mut self, index: usize, offset: usize, data: &[u8]) -> Done {
        let bytes = self.bytes_mut(index)?;
        if !data.is_empty() {
            bytes.resize(bytes.len().max(offset + data.len()), 0);
            bytes[offset..offset + data.len()].copy_from_slice(data);
        }
        Ok(())
    }

    pub fn truncate(&mut self, index: usize, size: usize) -> Done {
        self.bytes_mut(index)?.resize(size, 0);
        Ok(())
    }

    pub fn zero(&mut self, index: usize, offset: usize, length: usize, keep: bool) -> Done {
        let bytes = self.bytes_mut(index)?;
        if !keep {
            bytes.resize(bytes.len().max(offset + length), 0);
        }
        let end = bytes.len().min(offset + length);
        if offset < end {
            bytes[offset..end].fill(0);
        }
        Ok(())
    }

    pub fn set_mode(&mut self, index: usize, new: u16) -> Done {
        match &mut self.nodes[index] {
            Node::File { mode, .. } | Node::Directory { mode, .. } => *mode = new,
            Node::Symlink { .. } => {}
        }
        Ok(())
    }

    /// Everything that can be reached by name: path, and what is there with how many names.
    pub fn snapshot(&self) -> BTreeMap<String, Seen> {
        let mut names = vec![0; self.nodes.len()];
        self.walk(0, "", &mut |_, index| names[index] += 1);
        let (mut seen, mut inodes) = (BTreeMap::new(), BTreeMap::new());
        self.walk(0, "", &mut |path, index| {
            inodes.insert(path.to_owned(), index as u64);
            let what = match &self.nodes[index] {
                Node::File { bytes, mode } => Seen::File { bytes: bytes.clone(), mode: *mode, nlink: names[index] },
                Node::Directory { entries, mode } => {
                    let nlink = 2 + entries.values().filter(|child| self.is_directory(**child)).count() as u32;
                    Seen::Directory { mode: *mode, nlink }
                }
                Node::Symlink { target } => Seen::Symlink { target: target.clone(), nlink: names[index] },
            };
            seen.insert(path.to_owned(), what);
        });
        name_links(seen, &inodes)
    }

    fn walk(&self, index: usize, path: &str, visit: &mut impl FnMut(&str, usize)) {
        visit(path, index);
        if let Ok(entries) = self.entries(index) {
            for (name, child) in entries {
                self.walk(*child, &format!("{path}/{name}"), visit);
            }
        }
    }
}

/// Replaces what is seen by every name of an inode but the first by that name.
pub fn name_links(mut seen: BTreeMap<String, Seen>, inodes: &BTreeMap<String, u64>) -> BTreeMap<String, Seen> {
    let mut first = BTreeMap::new();
    for (path, inode) in inodes {
        let name = first.entry(*inode).or_insert(path);
        if *name != path {
            seen.insert(path.clone(), Seen::SameAs((*name).clone()));
        }
    }
    seen
}

/// What is seen at a path.
#[derive(Clone, PartialEq, Eq)]
pub enum Seen {
    File { bytes: Vec<u8>, mode: u16, nlink: u32 },
    Directory { mode: u16, nlink: u32 },
    Symlink { target: Vec<u8>, nlink: u32 },
    SameAs(String),
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Seen::File { bytes, mode, nlink } => {
                let runs: Vec<String> =
                    bytes.chunk_by(|a, b| a == b).map(|run| format!("{}×{}", run[0], run.len())).collect();
                write!(f, "file {mode:o}, {nlink} names, {} bytes: {}", bytes.len(), runs.join(" "))
            }
            Seen::Directory { mode, nlink } => write!(f, "directory {mode:o}, {nlink}"),
            Seen::SameAs(path) => write!(f, "same as {path}"),
            Seen::Symlink { target, nlink } => write!(f, "link to {target:?}, {nlink} names"),
        }
    }
}
