//! The kernel's requests for local files (see [`crate::local`]), answered at once.

use super::GENERATION;
use super::adapter::Adapter;
use super::translate::{nanos, permissions, uncached};
use crate::files::Files;
use crate::fs::RenameMode;
use crate::local::{Attributes, Content, Local, Owner, is_local};
use auriga_page::PAGE_SIZE;
use fuser::{
    BackingId, Errno, FileAttr, FileHandle, FileType, FopenFlags, INodeNo, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyWrite, Request, TimeOrNow,
};
use std::ffi::OsStr;
use std::fs::{File, FileTimes};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the kernel may trust what it knows of a local file: no one else changes it.
const TTL: Duration = Duration::from_secs(3600);
/// Names above a file that say whether it need not last.
const NAMES_ABOVE: usize = 2;

pub(super) fn errno(error: &io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(libc::EIO))
}

fn attr(attributes: &Attributes) -> FileAttr {
    let Attributes { ino, owner, nlink, metadata } = attributes;
    let time = |seconds: i64, nanos: i64| {
        UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0))
    };
    FileAttr {
        ino: INodeNo(*ino),
        size: metadata.size(),
        blocks: metadata.blocks(),
        atime: time(metadata.atime(), metadata.atime_nsec()),
        mtime: time(metadata.mtime(), metadata.mtime_nsec()),
        ctime: time(metadata.ctime(), metadata.ctime_nsec()),
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: owner.mode,
        nlink: *nlink,
        uid: owner.uid,
        gid: owner.gid,
        rdev: 0,
        blksize: PAGE_SIZE as u32,
        flags: 0,
    }
}

impl<F: Files> Adapter<F> {
    /// The local files, for a request about an inode that is one of them.
    pub(super) fn local_of(&self, ino: INodeNo) -> Option<&Local> {
        self.local.as_deref().filter(|_| is_local(ino.0))
    }

    /// The local files, for a name that one of them has.
    pub(super) fn local_named(&self, parent: INodeNo, name: &OsStr) -> Option<(&Local, u64)> {
        let local = self.local.as_deref()?;
        Some((local, local.find(parent.0, name.as_bytes())?))
    }

    /// The local files, for a file to be made that will be one of them.
    pub(super) fn local_for(&self, parent: INodeNo, name: &OsStr) -> Option<&Local> {
        let local = self.local.as_deref()?;
        let takes = local.takes(name.as_bytes(), &self.fs.directory_names(parent.0, NAMES_ABOVE));
        let is_new = || self.fs.lookup(parent.0, name.as_bytes()).is_err();
        (takes && is_new()).then_some(local)
    }

    /// Gives a file's content to the kernel, if it takes it: not every kernel does, nor from every file system.
    fn back(&self, file: &File, backing: impl FnOnce(&File) -> io::Result<BackingId>) -> Option<BackingId> {
        if !self.passthrough.load(Relaxed) {
            return None;
        }
        match backing(file) {
            Ok(id) => Some(id),
            Err(error) => {
                tracing::info!(%error, "the kernel does not read and write local files by itself");
                self.passthrough.store(false, Relaxed);
                None
            }
        }
    }

    /// Whether a directory has local files.
    pub(super) fn holds_local(&self, parent: INodeNo, name: &OsStr) -> bool {
        let Some(local) = &self.local else { return false };
        self.fs.lookup(parent.0, name.as_bytes()).is_ok_and(|record| !local.list(record.ino, 0).is_empty())
    }

    /// Renames a local file; `None`: neither name is one. A local file stays local: only another local name will do.
    pub(super) fn rename_local(
        &self,
        from: (INodeNo, &OsStr),
        to: (INodeNo, &OsStr),
        mode: RenameMode,
    ) -> Option<Result<(), Errno>> {
        let local = self.local.as_deref()?;
        let [source, target] = [from, to].map(|(parent, name)| (parent.0, name.as_bytes()));
        let [there, taken] = [source, target].map(|(parent, name)| local.find(parent, name).is_some());
        match (there, taken, mode) {
            (false, false, _) => None,
            (_, true, RenameMode::Keep) => Some(Err(Errno::EEXIST)),
            (_, _, RenameMode::Exchange) => Some(Err(Errno::EINVAL)),
            // What takes its place is on the volume.
            (false, true, _) => {
                if self.fs.lookup(source.0, source.1).is_ok() {
                    local.unlink(target.0, target.1);
                }
                None
            }
            (true, false, _) if self.local_for(to.0, to.1).is_none() => Some(Err(Errno::EXDEV)),
            (true, _, _) => {
                local.rename(source, target);
                Some(Ok(()))
            }
        }
    }

    pub(super) fn local_create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, reply: ReplyCreate) {
        let Some(local) = self.local.as_deref() else { return reply.error(Errno::EIO) };
        let made = make(local, request, parent, name, mode).and_then(|(ino, attr)| {
            let content = local.open(ino, |file| self.back(file, |file| reply.open_backing(file)));
            Ok((attr, content.inspect_err(|_| _ = local.unlink(parent.0, name.as_bytes()))?))
        });
        match made {
            Ok((attr, content)) => match &content.backing {
                Some(id) => reply.created_passthrough(&TTL, &attr, GENERATION, FileHandle(0), FopenFlags::empty(), id),
                None => reply.created(&TTL, &attr, GENERATION, FileHandle(0), uncached()),
            },
            Err(error) => reply.error(errno(&error)),
        }
    }

    pub(super) fn local_open(&self, local: &Local, ino: INodeNo, reply: ReplyOpen) {
        let opened = local.open(ino.0, |file| self.back(file, |file| reply.open_backing(file)));
        match opened.as_deref() {
            Ok(Content { backing: Some(id), .. }) => reply.opened_passthrough(FileHandle(0), FopenFlags::empty(), id),
            Ok(_) => reply.opened(FileHandle(0), uncached()),
            Err(error) => reply.error(errno(error)),
        }
    }
}

fn make(local: &Local, request: &Request, parent: INodeNo, name: &OsStr, mode: u32) -> io::Result<(u64, FileAttr)> {
    let owner = Owner { mode: permissions(mode), uid: request.uid(), gid: request.gid() };
    let ino = local.create(parent.0, name.as_bytes(), owner)?;
    Ok((ino, attr(&local.attributes(ino)?)))
}

pub(super) fn mknod(local: &Local, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, reply: ReplyEntry) {
    match make(local, request, parent, name, mode) {
        Ok((_, attr)) => reply.entry(&TTL, &attr, GENERATION),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn lookup(local: &Local, ino: u64, reply: ReplyEntry) {
    match local.attributes(ino) {
        Ok(attributes) => reply.entry(&TTL, &attr(&attributes), GENERATION),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn getattr(local: &Local, ino: INodeNo, reply: ReplyAttr) {
    match local.attributes(ino.0) {
        Ok(attributes) => reply.attr(&TTL, &attr(&attributes)),
        Err(error) => reply.error(errno(&error)),
    }
}

/// What setattr(2) and its like set.
pub(super) struct Set {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<TimeOrNow>,
    pub mtime: Option<TimeOrNow>,
}

pub(super) fn setattr(local: &Local, ino: INodeNo, set: &Set, reply: ReplyAttr) {
    let time = |time: TimeOrNow| match time {
        TimeOrNow::SpecificTime(_) => UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos(time)).unwrap_or(0)),
        TimeOrNow::Now => SystemTime::now(),
    };
    let done = || {
        local.set_owner(ino.0, set.mode.map(permissions), set.uid, set.gid)?;
        let content = local.content(ino.0)?;
        set.size.map_or(Ok(()), |size| content.file.set_len(size))?;
        let mut times = FileTimes::new();
        times = set.atime.map_or(times, |atime| times.set_accessed(time(atime)));
        times = set.mtime.map_or(times, |mtime| times.set_modified(time(mtime)));
        if set.atime.is_some() || set.mtime.is_some() {
            content.file.set_times(times)?;
        }
        Ok(())
    };
    match done() {
        Ok(()) => getattr(local, ino, reply),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn read(local: &Local, ino: INodeNo, offset: u64, size: u32, reply: ReplyData) {
    let read = || {
        let content = local.content(ino.0)?;
        let mut bytes = vec![0; size as usize];
        let mut length = 0;
        while length < bytes.len() {
            match content.file.read_at(&mut bytes[length..], offset + length as u64) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => reply.data(&bytes),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn write(local: &Local, ino: INodeNo, offset: u64, data: &[u8], reply: ReplyWrite) {
    match local.content(ino.0).and_then(|content| content.file.write_all_at(data, offset)) {
        Ok(()) => reply.written(data.len() as u32),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn fallocate(local: &Local, ino: INodeNo, offset: u64, length: u64, mode: i32, reply: ReplyEmpty) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return reply.error(Errno::EINVAL);
    };
    let allocate = |content: Arc<Content>| {
        // SAFETY: the descriptor is open as long as `content` lives.
        match unsafe { libc::fallocate(content.file.as_raw_fd(), mode, offset, length) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    match local.content(ino.0).and_then(allocate) {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

/// `SEEK_DATA` and `SEEK_HOLE`: data throughout, with a hole at the end.
pub(super) fn lseek(local: &Local, ino: INodeNo, offset: i64, whence: i32, reply: ReplyLseek) {
    let size = match local.attributes(ino.0) {
        Ok(attributes) => i64::try_from(attributes.metadata.size()).unwrap_or(i64::MAX),
        Err(error) => return reply.error(errno(&error)),
    };
    match whence {
        libc::SEEK_DATA | libc::SEEK_HOLE if !(0..size).contains(&offset) => reply.error(Errno::ENXIO),
        libc::SEEK_DATA => reply.offset(offset),
        libc::SEEK_HOLE => reply.offset(size),
        _ => reply.error(Errno::EINVAL),
    }
}

/// Adds the local names in a directory, those behind `offset` (their own numbers). Returns whether all had room.
pub(super) fn list(local: &Local, directory: INodeNo, offset: u64, reply: &mut ReplyDirectory) -> bool {
    let names = local.list(directory.0, if is_local(offset) { offset } else { 0 });
    !names.iter().any(|(ino, name)| reply.add(INodeNo(*ino), *ino, FileType::RegularFile, OsStr::from_bytes(name)))
}

/// As [`list`], with attributes.
pub(super) fn list_plus(local: &Local, directory: INodeNo, offset: u64, reply: &mut ReplyDirectoryPlus) -> bool {
    let names = local.list(directory.0, if is_local(offset) { offset } else { 0 });
    !names.iter().any(|(ino, name)| match local.attributes(*ino) {
        Ok(attributes) => reply.add(INodeNo(*ino), *ino, OsStr::from_bytes(name), &TTL, &attr(&attributes), GENERATION),
        Err(_) => false, // Gone since it was listed.
    })
}
