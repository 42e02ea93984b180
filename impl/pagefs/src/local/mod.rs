//! Files of the mount that need not last, on the local disk.
//!
//! A database makes files that are not needed after its end: temporary tables, sorts that don't fit in memory, shared
//! memory. On the volume each of their pages would be a record on six copies. So a file whose [name](names) says that it
//! need not last is *local*: its name is seen in its directory, which is on the volume, and its content is a file
//! in a directory of this machine. Another machine, or this one after a crash, finds neither.
//!
//! Local inodes have numbers of their own ([`LOCAL`]). Where the kernel can, it reads and writes the content by itself
//! (FUSE passthrough), shared mappings included; elsewhere each request comes here.

mod names;

use crate::inode::lock;
use fuser::BackingId;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound::Excluded;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Set in the numbers of local inodes. (The highest bit is a sign where the kernel takes them for offsets.)
pub(crate) const LOCAL: u64 = 1 << 62;

/// Whether an inode is local.
pub(crate) fn is_local(ino: u64) -> bool {
    ino & LOCAL != 0
}

/// Local files of one mount.
pub(crate) struct Local {
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    files: HashMap<u64, LocalFile>,
    names: HashMap<(u64, Box<[u8]>), u64>,
    /// The same by directory, in the order in which they are listed.
    listed: BTreeMap<(u64, u64), Box<[u8]>>,
}

struct LocalFile {
    owner: Owner,
    /// The directory that it has a name in.
    parent: Option<u64>,
    opens: u64,
    /// As long as it has open handles.
    content: Option<Arc<Content>>,
}

/// What the local disk does not know of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    /// Permissions.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
}

/// An open file's content.
pub(crate) struct Content {
    pub file: File,
    /// Set at the first open, as all handles must have the same: how the kernel calls it, if it does without us.
    pub backing: Option<BackingId>,
}

/// What is known of a local inode.
pub(crate) struct Attributes {
    pub ino: u64,
    pub owner: Owner,
    pub nlink: u32,
    pub metadata: std::fs::Metadata,
}

fn not_found() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

impl Local {
    /// Local files in `directory`, which is made. What an earlier mount left there is removed.
    pub fn new(directory: &Path) -> io::Result<Local> {
        std::fs::create_dir_all(directory)?;
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Local { directory: directory.to_owned(), state: Mutex::default() })
    }

    /// Whether a file made with this name is local; `directories`: the names of its directory and those above it.
    pub fn takes(&self, name: &[u8], directories: &[Box<[u8]>]) -> bool {
        names::need_not_last(name, directories)
    }

    fn path(&self, ino: u64) -> PathBuf {
        self.directory.join(format!("{:x}", ino & !LOCAL))
    }

    /// The inode with this name.
    pub fn find(&self, parent: u64, name: &[u8]) -> Option<u64> {
        lock(&self.state).names.get(&(parent, name.into())).copied()
    }

    /// Names in a directory, behind the inode `after`.
    pub fn list(&self, parent: u64, after: u64) -> Vec<(u64, Box<[u8]>)> {
        let state = lock(&self.state);
        let behind = state.listed.range((Excluded((parent, after)), Excluded((parent + 1, 0))));
        behind.map(|((_, ino), name)| (*ino, name.clone())).collect()
    }

    /// Makes an empty file.
    pub fn create(&self, parent: u64, name: &[u8], owner: Owner) -> io::Result<u64> {
        let mut state = lock(&self.state);
        if state.names.contains_key(&(parent, name.into())) {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        let ino = LOCAL | (state.last + 1);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(ino))?;
        state.last += 1;
        state.files.insert(ino, LocalFile { owner, parent: Some(parent), opens: 0, content: None });
        state.add_name(parent, name, ino);
        Ok(ino)
    }

    /// Attributes of an inode.
    pub fn attributes(&self, ino: u64) -> io::Result<Attributes> {
        let state = lock(&self.state);
        let file = state.files.get(&ino).ok_or_else(not_found)?;
        let metadata = match &file.content {
            Some(content) => content.file.metadata()?,
            None => std::fs::metadata(self.path(ino))?,
        };
        Ok(Attributes { ino, owner: file.owner, nlink: u32::from(file.parent.is_some()), metadata })
    }

    /// Sets permissions and owner.
    pub fn set_owner(&self, ino: u64, mode: Option<u16>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let mut state = lock(&self.state);
        let owner = &mut state.files.get_mut(&ino).ok_or_else(not_found)?.owner;
        *owner =
            Owner { mode: mode.unwrap_or(owner.mode), uid: uid.unwrap_or(owner.uid), gid: gid.unwrap_or(owner.gid) };
        Ok(())
    }

    /// The content, whether or not the file is open.
    pub fn content(&self, ino: u64) -> io::Result<Arc<Content>> {
        let state = lock(&self.state);
        match &state.files.get(&ino).ok_or_else(not_found)?.content {
            Some(content) => Ok(content.clone()),
            None => Ok(Arc::new(self.open_content(ino, |_| None)?)),
        }
    }

    fn open_content(&self, ino: u64, back: impl FnOnce(&File) -> Option<BackingId>) -> io::Result<Content> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(ino))?;
        let backing = back(&file);
        Ok(Content { file, backing })
    }

    /// Opens the file. `back` gives the kernel the content at the first open, if it takes it.
    pub fn open(&self, ino: u64, back: impl FnOnce(&File) -> Option<BackingId>) -> io::Result<Arc<Content>> {
        let mut state = lock(&self.state);
        let file = state.files.get_mut(&ino).ok_or_else(not_found)?;
        let content = match &file.content {
            Some(content) => content.clone(),
            None => Arc::new(self.open_content(ino, back)?),
        };
        file.content = Some(content.clone());
        file.opens += 1;
        Ok(content)
    }

    /// One open handle less. With the last one, a file without a name goes.
    pub fn close(&self, ino: u64) {
        let mut state = lock(&self.state);
        let Some(file) = state.files.get_mut(&ino) else { return };
        file.opens = file.opens.saturating_sub(1);
        if file.opens > 0 {
            return;
        }
        let content = file.content.take();
        self.remove_if_unused(&mut state, ino);
        drop(state);
        drop(content); // The kernel is told, which need not happen under the lock.
    }

    /// Removes a name. Returns whether it was a local one.
    pub fn unlink(&self, parent: u64, name: &[u8]) -> bool {
        let mut state = lock(&self.state);
        let Some(ino) = state.remove_name(parent, name) else { return false };
        self.remove_if_unused(&mut state, ino);
        true
    }

    /// Gives a local file another local name, in place of any local file of that name. Returns whether there was one to
    /// rename.
    pub fn rename(&self, (parent, name): (u64, &[u8]), (new_parent, new_name): (u64, &[u8])) -> bool {
        let mut state = lock(&self.state);
        let Some(ino) = state.remove_name(parent, name) else { return false };
        if let Some(replaced) = state.remove_name(new_parent, new_name) {
            self.remove_if_unused(&mut state, replaced);
        }
        if let Some(file) = state.files.get_mut(&ino) {
            file.parent = Some(new_parent);
        }
        state.add_name(new_parent, new_name, ino);
        true
    }

    fn remove_if_unused(&self, state: &mut State, ino: u64) {
        let unused = |file: &LocalFile| file.parent.is_none() && file.opens == 0;
        if state.files.get(&ino).is_some_and(unused) {
            state.files.remove(&ino);
            if let Err(error) = std::fs::remove_file(self.path(ino)) {
                tracing::warn!(%error, path = %self.path(ino).display(), "a temporary file stays on the local disk");
            }
        }
    }
}

impl State {
    fn add_name(&mut self, parent: u64, name: &[u8], ino: u64) {
        self.names.insert((parent, name.into()), ino);
        self.listed.insert((parent, ino), name.into());
    }

    fn remove_name(&mut self, parent: u64, name: &[u8]) -> Option<u64> {
        let ino = self.names.remove(&(parent, name.into()))?;
        self.listed.remove(&(parent, ino));
        if let Some(file) = self.files.get_mut(&ino) {
            file.parent = None;
        }
        Some(ino)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        for ino in lock(&self.state).files.keys() {
            // What can't be removed now is removed by the next mount.
            let _ = std::fs::remove_file(self.path(*ino));
        }
    }
}
