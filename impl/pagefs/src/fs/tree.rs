//! Names: looking up, making, removing. (`rename.rs`: renaming.)
//!
//! Operations that change names are one after the other (the tree lock): there are few of them, and so they need not
//! fear that a directory changes between the decision and its mini-transaction.

use super::transaction::Transaction;
use super::{PageFs, Places, now};
use crate::error::FsError;
use crate::inode::{Inode, lock};
use crate::layout::{Entry, InodeRecord, Kind, NAME_MAX, ROOT, SLOTS_PER_PAGE, Superblock, TARGET_MAX};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

/// Inode numbers taken at a time, so that few creations change the superblock.
const INODES_AT_A_TIME: u64 = 1024;
/// As ext4 has it.
const LINKS_MAX: u32 = 65_000;

/// What a new inode is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewInode<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Permissions: `0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group, unless the directory hands its own down.
    pub gid: u32,
    /// Device number, for device nodes.
    pub rdev: u32,
    /// A symbolic link's target.
    pub target: &'a [u8],
}

/// Attributes to set; `None` leaves one as it is. Sizes are set by [`PageFs::truncate`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetAttr {
    /// Permissions: `0o7777`.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last access, in nanoseconds since 1970.
    pub atime: Option<i64>,
    /// Last change of content, in nanoseconds since 1970.
    pub mtime: Option<i64>,
}

/// One line of a directory listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Where the listing goes on after this line.
    pub next: u64,
    /// The inode.
    pub ino: u64,
    /// What it is.
    pub kind: Kind,
    /// The name.
    pub name: Box<[u8]>,
}

impl PageFs {
    pub(super) fn directory(&self, ino: u64) -> Result<Arc<Inode>, FsError> {
        let inode = self.inode(ino)?;
        match (inode.kind, inode.lock_view().record.nlink) {
            (Kind::Directory, 0) => Err(FsError::NotFound),
            (Kind::Directory, _) => Ok(inode.clone()),
            _ => Err(FsError::NotDirectory),
        }
    }

    /// The attributes of what `name` stands for in directory `parent`.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::NotDirectory`], [`FsError::NameTooLong`].
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<InodeRecord, FsError> {
        if name.len() > NAME_MAX {
            return Err(FsError::NameTooLong);
        }
        let (_, ino) = self.find(&*self.directory(parent)?, name)?;
        self.note_name(parent, name, ino);
        self.attributes(ino)
    }

    /// Notes what a file is by its name. The kernel opens no file whose name it was not told by one of the callers.
    fn note_name(&self, parent: u64, name: &[u8], ino: u64) {
        if is_of_relation(name)
            && holds_relations(&self.directory_names(parent, 2))
            && let Ok(inode) = self.inode(ino)
        {
            inode.is_relation.store(true, Relaxed);
        }
    }

    /// Whether a file is one of a relation.
    pub(crate) fn is_relation(&self, ino: u64) -> bool {
        self.inode(ino).is_ok_and(|inode| inode.is_relation.load(Relaxed))
    }

    /// The names of a directory and those above it, the nearest first, as many as there are up to `most`.
    pub(crate) fn directory_names(&self, ino: u64, most: usize) -> Vec<Box<[u8]>> {
        let mut names = Vec::new();
        let mut at = ino;
        while names.len() < most && at != ROOT {
            let parent = self.inode(at).ok().and_then(|inode| inode.entries().map(|entries| entries.parent));
            let above = parent.and_then(|parent| self.inode(parent).ok());
            let entries = above.as_ref().and_then(|above| above.entries());
            let entry = entries.iter().flat_map(|entries| entries.listed_from(0)).find(|(_, entry)| entry.ino == at);
            let (Some(parent), Some((_, entry))) = (parent, entry) else { break };
            names.push(entry.name.clone());
            at = parent;
        }
        names
    }

    pub(super) fn find(&self, directory: &Inode, name: &[u8]) -> Result<(u64, u64), FsError> {
        directory.entries().and_then(|entries| entries.find(name)).ok_or(FsError::NotFound)
    }

    /// Up to `max` entries of a directory, `.` and `..` first, beginning where `from` (0, or a line's `next`) says. What
    /// is added or removed meanwhile may or may not be listed; nothing else is listed twice or left out.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::NotDirectory`].
    pub fn list(&self, ino: u64, from: u64, max: usize) -> Result<Vec<Listed>, FsError> {
        let directory = self.directory(ino)?;
        let entries = directory.entries().ok_or(FsError::NotDirectory)?;
        let dots = [(ino, &b"."[..]), (entries.parent, &b".."[..])].into_iter().zip(1..).skip(from.min(2) as usize);
        let dots = dots.map(|((ino, name), next)| Listed { next, ino, kind: Kind::Directory, name: name.into() });
        let inodes = self.inodes.read().unwrap_or_else(PoisonError::into_inner);
        let named = entries.listed_from(from.saturating_sub(2)).filter_map(|(slot, entry)| {
            let kind = inodes.get(&entry.ino)?.kind;
            Some(Listed { next: slot + 3, ino: entry.ino, kind, name: entry.name.clone() })
        });
        let listed: Vec<Listed> = dots.chain(named).take(max).collect();
        drop((inodes, entries));
        listed.iter().for_each(|line| self.note_name(ino, &line.name, line.ino));
        Ok(listed)
    }

    /// Makes an inode and its name. `open`: as one open handle, too.
    ///
    /// # Errors
    /// [`FsError::Exists`], [`FsError::NoSpace`], [`FsError::NameTooLong`], and what [`PageFs::lookup`] answers.
    pub fn create(&self, parent: u64, name: &[u8], new: &NewInode<'_>, open: bool) -> Result<InodeRecord, FsError> {
        check_name(name)?;
        if new.target.len() > TARGET_MAX {
            return Err(FsError::NameTooLong);
        }
        let mut places = lock(&self.tree);
        let directory = self.directory(parent)?;
        if self.find(&directory, name).is_ok() {
            return Err(FsError::Exists);
        }
        let mut taken = self.take_place(&places)?;
        let mut transaction = Transaction::begin(self, &[&directory]);
        let now = now();
        let record = new_record(new, taken.ino, transaction.record(&directory), now);
        let slot = directory.entries().ok_or(FsError::NotDirectory)?.free_slot(None);
        if new.kind == Kind::Directory {
            add_link(transaction.record(&directory))?;
        }
        if let Some(superblock) = taken.superblock {
            transaction.set_superblock(places.superblock, superblock);
        }
        transaction.set_entry(&directory, slot, Some(Entry { ino: taken.ino, name: name.into() }), now);
        transaction.create(taken.slot, record.clone(), parent);
        transaction.commit()?;

        places.superblock = taken.superblock.unwrap_or(places.superblock);
        places.next_inode = taken.ino + 1;
        if taken.from_free_list {
            places.free_slots.pop();
        }
        places.free_slots.append(&mut taken.new_slots);
        drop(places);
        self.note_name(parent, name, record.ino);
        if open {
            self.open(record.ino)?;
        }
        Ok(record)
    }

    /// A number and a slot for a new inode. Takes effect when the caller, after its commit, says so to `places`.
    fn take_place(&self, places: &Places) -> Result<Taken, FsError> {
        if self.inodes.read().unwrap_or_else(PoisonError::into_inner).len() as u64 >= self.options.inodes_max {
            return Err(FsError::NoSpace);
        }
        let mut superblock = places.superblock;
        if places.next_inode >= superblock.inode_bound {
            superblock.inode_bound = places.next_inode + INODES_AT_A_TIME;
        }
        let mut new_slots = Vec::new();
        let from_free_list = places.free_slots.last().copied();
        let slot = from_free_list.unwrap_or_else(|| {
            let first = superblock.table_pages * SLOTS_PER_PAGE;
            superblock.table_pages += 1;
            new_slots.extend((first + 1..first + SLOTS_PER_PAGE).rev());
            first
        });
        Ok(Taken {
            ino: places.next_inode,
            slot,
            from_free_list: from_free_list.is_some(),
            new_slots,
            superblock: (superblock != places.superblock).then_some(superblock),
        })
    }

    /// Gives an inode one more name.
    ///
    /// # Errors
    /// [`FsError::Exists`], [`FsError::NotPermitted`] for a directory, [`FsError::TooManyLinks`].
    pub fn link(&self, ino: u64, parent: u64, name: &[u8]) -> Result<InodeRecord, FsError> {
        check_name(name)?;
        let _tree = lock(&self.tree);
        let (inode, directory) = (self.inode(ino)?, self.directory(parent)?);
        if inode.kind == Kind::Directory {
            return Err(FsError::NotPermitted);
        }
        if self.find(&directory, name).is_ok() {
            return Err(FsError::Exists);
        }
        let mut transaction = Transaction::begin(self, &[&inode, &directory]);
        let now = now();
        let record = transaction.record(&inode);
        if record.nlink == 0 {
            return Err(FsError::NotFound);
        }
        add_link(record)?;
        record.ctime = now;
        let slot = directory.entries().ok_or(FsError::NotDirectory)?.free_slot(None);
        transaction.set_entry(&directory, slot, Some(Entry { ino, name: name.into() }), now);
        transaction.commit()?;
        Ok(inode.lock_view().record.clone())
    }

    /// Removes a name of anything but a directory. The inode lives on under its other names and open handles.
    ///
    /// # Errors
    /// [`FsError::IsDirectory`], and what [`PageFs::lookup`] answers.
    pub fn unlink(self: &Arc<Self>, parent: u64, name: &[u8]) -> Result<(), FsError> {
        self.remove(parent, name, |inode| match inode.kind {
            Kind::Directory => Err(FsError::IsDirectory),
            _ => Ok(()),
        })
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`FsError::NotDirectory`], [`FsError::NotEmpty`], and what [`PageFs::lookup`] answers.
    pub fn rmdir(self: &Arc<Self>, parent: u64, name: &[u8]) -> Result<(), FsError> {
        self.remove(parent, name, |inode| match inode.entries() {
            None => Err(FsError::NotDirectory),
            Some(entries) if entries.len() > 0 => Err(FsError::NotEmpty),
            Some(_) => Ok(()),
        })
    }

    fn remove(
        self: &Arc<Self>,
        parent: u64,
        name: &[u8],
        check: impl FnOnce(&Inode) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        let _tree = lock(&self.tree);
        let directory = self.directory(parent)?;
        let (slot, ino) = self.find(&directory, name)?;
        let inode = self.inode(ino)?;
        check(&inode)?;
        let mut transaction = Transaction::begin(self, &[&directory, &inode]);
        let now = now();
        transaction.set_entry(&directory, slot, None, now);
        drop_link(&mut transaction, &inode, &directory, now);
        transaction.commit()?;
        self.give_back_if_unused(&inode);
        Ok(())
    }

    /// Sets attributes other than the size; answers all of them.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::ReadOnly`], [`FsError::Volume`].
    pub fn set_attributes(&self, ino: u64, set: &SetAttr) -> Result<InodeRecord, FsError> {
        let inode = self.inode(ino)?;
        let mut transaction = Transaction::begin(self, &[&inode]);
        let record = transaction.record(&inode);
        record.mode = set.mode.unwrap_or(record.mode) & 0o7777;
        record.uid = set.uid.unwrap_or(record.uid);
        record.gid = set.gid.unwrap_or(record.gid);
        record.atime = set.atime.unwrap_or(record.atime);
        record.mtime = set.mtime.unwrap_or(record.mtime);
        record.ctime = now();
        transaction.commit()?;
        Ok(inode.lock_view().record.clone())
    }

    /// A symbolic link's target.
    ///
    /// # Errors
    /// [`FsError::Invalid`] for anything else.
    pub fn read_link(&self, ino: u64) -> Result<Box<[u8]>, FsError> {
        let inode = self.inode(ino)?;
        match inode.kind {
            Kind::Symlink => Ok(inode.lock_view().record.target.clone()),
            _ => Err(FsError::Invalid),
        }
    }
}

/// A place in the table for a new inode.
struct Taken {
    ino: u64,
    slot: u64,
    from_free_list: bool,
    new_slots: Vec<u64>,
    superblock: Option<Superblock>,
}

pub(super) fn check_name(name: &[u8]) -> Result<(), FsError> {
    match name {
        _ if name.len() > NAME_MAX => Err(FsError::NameTooLong),
        b"" | b"." | b".." => Err(FsError::Invalid),
        _ if name.iter().any(|byte| matches!(byte, 0 | b'/')) => Err(FsError::Invalid),
        _ => Ok(()),
    }
}

fn new_record(new: &NewInode<'_>, ino: u64, directory: &InodeRecord, now: i64) -> InodeRecord {
    // A directory with the set-group-id bit hands its group down, and to directories the bit too.
    let inherits = directory.mode & libc::S_ISGID as u16;
    let bit = if new.kind == Kind::Directory { inherits } else { 0 };
    InodeRecord {
        ino,
        kind: new.kind,
        mode: (new.mode & 0o7777) | bit,
        uid: new.uid,
        gid: if inherits == 0 { new.gid } else { directory.gid },
        nlink: if new.kind == Kind::Directory { 2 } else { 1 },
        rdev: new.rdev,
        size: if new.kind == Kind::Symlink { new.target.len() as u64 } else { 0 },
        trim_end: 0,
        mtime: now,
        ctime: now,
        atime: now,
        target: new.target.into(),
    }
}

pub(super) fn add_link(record: &mut InodeRecord) -> Result<(), FsError> {
    if record.nlink >= LINKS_MAX {
        return Err(FsError::TooManyLinks);
    }
    record.nlink += 1;
    Ok(())
}

/// Takes away one name that `directory` had for `inode`.
pub(super) fn drop_link<'a>(transaction: &mut Transaction<'a>, inode: &'a Inode, directory: &'a Inode, now: i64) {
    let is_directory = inode.kind == Kind::Directory;
    let record = transaction.record(inode);
    record.nlink = if is_directory { 0 } else { record.nlink.saturating_sub(1) };
    record.ctime = now;
    if is_directory {
        transaction.record(directory).nlink -= 1;
    }
}

/// Whether a file in a database's directory holds pages of a relation: its name begins with the relation's number.
fn is_of_relation(name: &[u8]) -> bool {
    name.first().is_some_and(u8::is_ascii_digit)
}

/// Whether a directory, given by its name and the one above it, holds files of relations: `global`, one of `base`, or one of
/// a tablespace.
fn holds_relations(names: &[Box<[u8]>]) -> bool {
    let mut names = names.iter().map(|name| &**name);
    names.next() == Some(b"global") || names.next().is_some_and(|above| above == b"base" || above.starts_with(b"PG_"))
}
