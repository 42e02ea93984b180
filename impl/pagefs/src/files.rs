//! What the kernel's requests need of a file system: [`PageFs`], that a writer has, or [`ReaderFs`].

use crate::error::FsError;
use crate::fs::{Answer, Listed, NewInode, PageFs, ReadData, RenameMode, SetAttr};
use crate::layout::{FILE_MAX, InodeRecord};
use crate::reader::ReaderFs;
use auriga_page::PAGE_SIZE;
use auriga_protocol::Lsn;
use std::sync::Arc;
use std::time::Duration;

/// How much room there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Blocks in all.
    pub blocks: u64,
    /// Of those, in use.
    pub used: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Of those, in use.
    pub used_inodes: u64,
}

/// A file system, as the kernel's requests need it. Each method does what [`PageFs`] says of its own of that name.
#[expect(missing_docs, reason = "said there")]
pub trait Files: Send + Sync + Sized + 'static {
    /// How long the kernel may trust names and attributes.
    const TTL: Duration;

    fn lookup(&self, parent: u64, name: &[u8]) -> Result<InodeRecord, FsError>;
    fn attributes(&self, ino: u64) -> Result<InodeRecord, FsError>;
    fn set_attributes(&self, ino: u64, set: &SetAttr) -> Result<InodeRecord, FsError>;
    fn directory_names(&self, ino: u64, most: usize) -> Vec<Box<[u8]>>;
    fn list(&self, ino: u64, from: u64, max: usize) -> Result<Vec<Listed>, FsError>;
    fn create(&self, parent: u64, name: &[u8], new: &NewInode<'_>, open: bool) -> Result<InodeRecord, FsError>;
    fn link(&self, ino: u64, parent: u64, name: &[u8]) -> Result<InodeRecord, FsError>;
    fn unlink(self: &Arc<Self>, parent: u64, name: &[u8]) -> Result<(), FsError>;
    fn rmdir(self: &Arc<Self>, parent: u64, name: &[u8]) -> Result<(), FsError>;
    fn rename(
        self: &Arc<Self>,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), FsError>;
    fn read_link(&self, ino: u64) -> Result<Box<[u8]>, FsError>;
    fn open(&self, ino: u64) -> Result<(), FsError>;
    /// Whether the kernel may keep copies of a file's content: nothing changes it but what the kernel asks for.
    fn may_be_kept(&self, ino: u64) -> bool;
    fn close(self: &Arc<Self>, ino: u64);
    fn read<F>(self: &Arc<Self>, ino: u64, offset: u64, size: u32, done: F)
    where
        F: FnOnce(Result<ReadData, FsError>) + Send + 'static;
    fn write(self: &Arc<Self>, ino: u64, offset: u64, data: &[u8], done: impl Answer);
    fn truncate(self: &Arc<Self>, ino: u64, size: u64, done: impl Answer);
    fn allocate(self: &Arc<Self>, ino: u64, offset: u64, length: u64, mode: i32, done: impl Answer);
    fn sync(self: &Arc<Self>, ino: Option<u64>, done: impl FnOnce(Result<(), FsError>) + Send + 'static);
    fn when_durable(self: &Arc<Self>, lsn: Lsn, done: impl FnOnce(Result<(), FsError>) + Send + 'static);
    /// Whether a change may have to wait, and is better made by [`Files::run_later`].
    fn is_lagging(&self) -> bool;
    fn run_later(self: &Arc<Self>, job: impl FnOnce(&Arc<Self>) + Send + 'static);
    /// How much room there is.
    fn room(&self) -> Room;

    /// Takes the set-user-id bit away, and the set-group-id bit where the group may execute, if there is one.
    ///
    /// # Errors
    /// As [`Files::set_attributes`].
    fn drop_privileges(&self, ino: u64) -> Result<(), FsError> {
        let mode = self.attributes(ino)?.mode;
        let group = if mode & libc::S_IXGRP as u16 != 0 { libc::S_ISGID as u16 } else { 0 };
        let dropped = mode & !(libc::S_ISUID as u16 | group);
        if dropped != mode {
            self.set_attributes(ino, &SetAttr { mode: Some(dropped), ..SetAttr::default() })?;
        }
        Ok(())
    }

    /// lseek(2) for `SEEK_DATA` and `SEEK_HOLE`: a file is data throughout, with a hole at its end.
    ///
    /// # Errors
    /// [`FsError::NoSuchRange`] at or past the end of the file, [`FsError::Invalid`] for any other `whence`.
    fn seek(&self, ino: u64, offset: i64, whence: i32) -> Result<i64, FsError> {
        let size = self.attributes(ino)?.size as i64;
        match whence {
            libc::SEEK_DATA | libc::SEEK_HOLE if !(0..size).contains(&offset) => Err(FsError::NoSuchRange),
            libc::SEEK_DATA => Ok(offset),
            libc::SEEK_HOLE => Ok(size),
            _ => Err(FsError::Invalid),
        }
    }
}

impl Files for PageFs {
    /// The kernel is the only one who changes them.
    const TTL: Duration = Duration::from_secs(3600);

    fn lookup(&self, parent: u64, name: &[u8]) -> Result<InodeRecord, FsError> {
        PageFs::lookup(self, parent, name)
    }

    fn attributes(&self, ino: u64) -> Result<InodeRecord, FsError> {
        PageFs::attributes(self, ino)
    }

    fn set_attributes(&self, ino: u64, set: &SetAttr) -> Result<InodeRecord, FsError> {
        PageFs::set_attributes(self, ino, set)
    }

    fn directory_names(&self, ino: u64, most: usize) -> Vec<Box<[u8]>> {
        PageFs::directory_names(self, ino, most)
    }

    fn list(&self, ino: u64, from: u64, max: usize) -> Result<Vec<Listed>, FsError> {
        PageFs::list(self, ino, from, max)
    }

    fn create(&self, parent: u64, name: &[u8], new: &NewInode<'_>, open: bool) -> Result<InodeRecord, FsError> {
        PageFs::create(self, parent, name, new, open)
    }

    fn link(&self, ino: u64, parent: u64, name: &[u8]) -> Result<InodeRecord, FsError> {
        PageFs::link(self, ino, parent, name)
    }

    fn unlink(self: &Arc<Self>, parent: u64, name: &[u8]) -> Result<(), FsError> {
        PageFs::unlink(self, parent, name)
    }

    fn rmdir(self: &Arc<Self>, parent: u64, name: &[u8]) -> Result<(), FsError> {
        PageFs::rmdir(self, parent, name)
    }

    fn rename(
        self: &Arc<Self>,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), FsError> {
        PageFs::rename(self, parent, name, new_parent, new_name, mode)
    }

    fn may_be_kept(&self, ino: u64) -> bool {
        self.is_relation(ino)
    }

    fn read_link(&self, ino: u64) -> Result<Box<[u8]>, FsError> {
        PageFs::read_link(self, ino)
    }

    fn open(&self, ino: u64) -> Result<(), FsError> {
        PageFs::open(self, ino)
    }

    fn close(self: &Arc<Self>, ino: u64) {
        PageFs::close(self, ino)
    }

    fn read<F>(self: &Arc<Self>, ino: u64, offset: u64, size: u32, done: F)
    where
        F: FnOnce(Result<ReadData, FsError>) + Send + 'static,
    {
        PageFs::read(self, ino, offset, size, done)
    }

    fn write(self: &Arc<Self>, ino: u64, offset: u64, data: &[u8], done: impl Answer) {
        PageFs::write(self, ino, offset, data, done)
    }

    fn truncate(self: &Arc<Self>, ino: u64, size: u64, done: impl Answer) {
        PageFs::truncate(self, ino, size, done)
    }

    fn allocate(self: &Arc<Self>, ino: u64, offset: u64, length: u64, mode: i32, done: impl Answer) {
        PageFs::allocate(self, ino, offset, length, mode, done)
    }

    fn run_later(self: &Arc<Self>, job: impl FnOnce(&Arc<Self>) + Send + 'static) {
        PageFs::run_later(self, job)
    }

    fn sync(self: &Arc<Self>, ino: Option<u64>, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        PageFs::sync(self, ino, done)
    }

    fn when_durable(self: &Arc<Self>, lsn: Lsn, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        PageFs::when_durable(self, lsn, done)
    }

    fn is_lagging(&self) -> bool {
        PageFs::is_lagging(self)
    }

    fn room(&self) -> Room {
        let options = self.options();
        let page = PAGE_SIZE as u64;
        Room {
            blocks: options.capacity.map_or(FILE_MAX / page, |capacity| capacity / page),
            used: self.used_blocks(),
            inodes: options.inodes_max,
            used_inodes: self.figures().inodes,
        }
    }
}

impl Files for ReaderFs {
    /// Names change through the kernel alone. A size may also change with the read point: it then grows by blocks of zeros,
    /// which the standby has not made yet; to see them a little late does no harm.
    const TTL: Duration = Duration::from_secs(1);

    fn lookup(&self, parent: u64, name: &[u8]) -> Result<InodeRecord, FsError> {
        ReaderFs::lookup(self, parent, name)
    }

    fn attributes(&self, ino: u64) -> Result<InodeRecord, FsError> {
        ReaderFs::attributes(self, ino)
    }

    fn set_attributes(&self, ino: u64, set: &SetAttr) -> Result<InodeRecord, FsError> {
        ReaderFs::set_attributes(self, ino, set)
    }

    fn directory_names(&self, ino: u64, most: usize) -> Vec<Box<[u8]>> {
        ReaderFs::directory_names(self, ino, most)
    }

    fn list(&self, ino: u64, from: u64, max: usize) -> Result<Vec<Listed>, FsError> {
        ReaderFs::list(self, ino, from, max)
    }

    fn create(&self, parent: u64, name: &[u8], new: &NewInode<'_>, open: bool) -> Result<InodeRecord, FsError> {
        ReaderFs::create(self, parent, name, new, open)
    }

    fn link(&self, ino: u64, parent: u64, name: &[u8]) -> Result<InodeRecord, FsError> {
        ReaderFs::link(self, ino, parent, name)
    }

    fn unlink(self: &Arc<Self>, parent: u64, name: &[u8]) -> Result<(), FsError> {
        ReaderFs::unlink(self, parent, name)
    }

    fn rmdir(self: &Arc<Self>, parent: u64, name: &[u8]) -> Result<(), FsError> {
        ReaderFs::rmdir(self, parent, name)
    }

    fn rename(
        self: &Arc<Self>,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), FsError> {
        ReaderFs::rename(self, parent, name, new_parent, new_name, mode)
    }

    /// Content changes with the read point.
    fn may_be_kept(&self, _: u64) -> bool {
        false
    }

    fn read_link(&self, ino: u64) -> Result<Box<[u8]>, FsError> {
        ReaderFs::read_link(self, ino)
    }

    fn open(&self, ino: u64) -> Result<(), FsError> {
        ReaderFs::open(self, ino)
    }

    fn close(self: &Arc<Self>, ino: u64) {
        ReaderFs::close(self, ino)
    }

    fn read<F>(self: &Arc<Self>, ino: u64, offset: u64, size: u32, done: F)
    where
        F: FnOnce(Result<ReadData, FsError>) + Send + 'static,
    {
        ReaderFs::read(self, ino, offset, size, done)
    }

    fn write(self: &Arc<Self>, ino: u64, offset: u64, data: &[u8], done: impl Answer) {
        ReaderFs::write(self, ino, offset, data, done)
    }

    fn truncate(self: &Arc<Self>, ino: u64, size: u64, done: impl Answer) {
        ReaderFs::truncate(self, ino, size, done)
    }

    fn allocate(self: &Arc<Self>, ino: u64, offset: u64, length: u64, mode: i32, done: impl Answer) {
        ReaderFs::allocate(self, ino, offset, length, mode, done)
    }

    fn run_later(self: &Arc<Self>, job: impl FnOnce(&Arc<Self>) + Send + 'static) {
        ReaderFs::run_later(self, job)
    }

    /// What a reader has need not last.
    fn sync(self: &Arc<Self>, _: Option<u64>, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        done(Ok(()));
    }

    fn when_durable(self: &Arc<Self>, _: Lsn, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        done(Ok(()));
    }

    fn is_lagging(&self) -> bool {
        false
    }

    fn room(&self) -> Room {
        let used = self.figures().overlay_pages;
        Room { blocks: FILE_MAX / PAGE_SIZE as u64, used, inodes: u64::from(u32::MAX), used_inodes: 0 }
    }
}
