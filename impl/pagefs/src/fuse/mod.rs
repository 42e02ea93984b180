//! The kernel's requests, answered by a file system: [`PageFs`](crate::PageFs) or [`ReaderFs`](crate::ReaderFs).
//!
//! This module translates and decides nothing. What finds everything in memory is answered on the thread that read
//! the request; what waits takes its reply object along and is answered from wherever it ends. Every request is
//! answered: the file system bounds every wait by its deadline, because a PostgreSQL process that waits for an
//! unanswered fsync can't even be killed.
//!
//! Of files for which [`Files::may_be_kept`] holds, the kernel keeps copies, but it writes through: what a process was told
//! is written has reached the log. All others are opened for direct I/O. Names and attributes are cached by the kernel as long as [`Files::TTL`] says.

mod adapter;
mod local;
mod translate;

pub use adapter::Adapter;

use crate::files::{Files, Room};
use crate::fs::{NewInode, RenameMode, SetAttr};
use crate::layout::{Kind, NAME_MAX};
use crate::local::is_local;
use adapter::New;
use auriga_page::PAGE_SIZE;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;
use translate::{
    attr, errno, file_type, kind_of_mode, nanos, open_flags, permissions, reply_attr, reply_empty, reply_entry,
};

/// Inode numbers are used once, so none has a second generation.
const GENERATION: Generation = Generation(0);
/// Largest write request, in bytes.
const WRITE_MAX: u32 = 1 << 20;
/// Directory entries looked at for one request.
const LIST_AT_A_TIME: usize = 512;
/// File systems on which local files may be, the mount's own included: as many as the kernel allows.
const STACK_DEPTH_MAX: u32 = 2;
/// Requests in the background (asynchronous and direct reads) before the kernel throttles.
const BACKGROUND_MAX: u16 = 128;

impl<F: Files> Filesystem for Adapter<F> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            // Shared mappings of files that are open for direct I/O.
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ];
        for flag in wanted {
            if let Err(missing) = config.add_capabilities(flag) {
                tracing::debug!(?missing, "the kernel does not have this FUSE capability");
            }
        }
        // Local files; how deep a stack of file systems their own may be is up to the kernel.
        let passes = self.local.is_some()
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(STACK_DEPTH_MAX).is_ok();
        self.passthrough.store(passes, Relaxed);
        let refused = |what, nearest: u32| std::io::Error::other(format!("FUSE {what}: the nearest is {nearest}"));
        config.set_max_write(WRITE_MAX).map_err(|nearest| refused("max_write", nearest))?;
        config.set_max_background(BACKGROUND_MAX).map_err(|nearest| refused("max_background", nearest.into()))?;
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if let Some((files, ino)) = self.local_named(parent, name) {
            return local::lookup(files, ino, reply);
        }
        reply_entry::<F>(self.fs.lookup(parent.0, name.as_bytes()), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if let Some(files) = self.local_of(ino) {
            return local::getattr(files, ino, reply);
        }
        reply_attr::<F>(self.fs.attributes(ino.0), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let Some(files) = self.local_of(ino) {
            return local::setattr(files, ino, &local::Set { mode, uid, gid, size, atime, mtime }, reply);
        }
        let set = SetAttr { mode: mode.map(permissions), uid, gid, atime: atime.map(nanos), mtime: mtime.map(nanos) };
        let set_others = move |fs: &F| match set == SetAttr::default() {
            true => fs.attributes(ino.0),
            false => fs.set_attributes(ino.0, &set),
        };
        match size {
            None => self.change(move |fs| reply_attr::<F>(set_others(fs), reply)),
            Some(size) => {
                let fs = Arc::clone(&self.fs);
                self.fs.truncate(ino.0, size, move |result| {
                    reply_attr::<F>(result.and_then(|_| set_others(&fs)), reply);
                });
            }
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.fs.read_link(ino.0) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let kind = kind_of_mode(mode);
        if let Some(files) = self.local_for(parent, name).filter(|_| kind == Some(Kind::File)) {
            return local::mknod(files, request, parent, name, mode, reply);
        }
        match kind {
            Some(kind) => self.make(request, parent, name, New { rdev, ..New::of(kind, mode) }, reply),
            None => reply.error(Errno::EINVAL),
        }
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        self.make(request, parent, name, New::of(Kind::Directory, mode), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if self.local.as_ref().is_some_and(|files| files.unlink(parent.0, name.as_bytes())) {
            return reply.ok();
        }
        let name = name.to_owned();
        self.change(move |fs| reply_empty(fs.unlink(parent.0, name.as_bytes()), reply));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if self.holds_local(parent, name) {
            return reply.error(Errno::ENOTEMPTY);
        }
        let name = name.to_owned();
        self.change(move |fs| reply_empty(fs.rmdir(parent.0, name.as_bytes()), reply));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        // What it leads to is on this machine alone, or at another path at the next start. (A target within the mount, too:
        // PostgreSQL writes the path of a tablespace into its WAL as well.)
        if target.is_absolute() && !self.absolute_links {
            tracing::warn!(
                ?name,
                ?target,
                "refused a symbolic link that leads out of the volume: what is there is lost with this machine (a \
                 tablespace within the volume is created with LOCATION '')"
            );
            return reply.error(Errno::EXDEV);
        }
        let target = target.as_os_str().as_bytes().to_vec();
        self.make(request, parent, name, New { target, ..New::of(Kind::Symlink, 0o777) }, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            RenameFlags::RENAME_NOREPLACE => RenameMode::Keep,
            RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
            none if none.is_empty() => RenameMode::Replace,
            _ => return reply.error(Errno::EINVAL),
        };
        if let Some(done) = self.rename_local((parent, name), (newparent, newname), mode) {
            return match done {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            };
        }
        let (name, newname) = (name.to_owned(), newname.to_owned());
        self.change(move |fs| {
            let result = fs.rename(parent.0, name.as_bytes(), newparent.0, newname.as_bytes(), mode);
            reply_empty(result, reply);
        });
    }

    fn link(&self, _: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        if self.local_of(ino).is_some() {
            return reply.error(Errno::EPERM);
        }
        let name = newname.to_owned();
        self.change(move |fs| reply_entry::<F>(fs.link(ino.0, newparent.0, name.as_bytes()), reply));
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if let Some(files) = self.local_of(ino) {
            return self.local_open(files, ino, reply);
        }
        match self.fs.open(ino.0) {
            Ok(()) => reply.opened(FileHandle(0), open_flags(&*self.fs, ino.0)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if let Some(files) = self.local_of(ino) {
            return local::read(files, ino, offset, size, reply);
        }
        self.fs.read(ino.0, offset, size, move |result| match result {
            Ok(read) => read.with(|bytes| reply.data(bytes)),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        how: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if let Some(files) = self.local_of(ino) {
            return local::write(files, ino, offset, data, reply);
        }
        // With direct I/O the kernel sends no FSYNC for these flags: the write itself must be durable.
        let wait = flags.0 & libc::O_DSYNC != 0;
        let written = data.len() as u32;
        let fs = Arc::clone(&self.fs);
        // Another user's write takes the right away to run as the file's owner.
        if how.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID)
            && let Err(error) = fs.drop_privileges(ino.0)
        {
            return reply.error(errno(error));
        }
        self.fs.write(ino.0, offset, data, move |result| match result {
            Ok(lsn) if wait => fs.when_durable(lsn, move |result| match result {
                Ok(()) => reply.written(written),
                Err(error) => reply.error(errno(error)),
            }),
            Ok(_) => reply.written(written),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if let Some(files) = self.local_of(ino) {
            files.close(ino.0);
            return reply.ok();
        }
        self.change(move |fs| {
            fs.close(ino.0);
            reply.ok();
        });
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, datasync: bool, reply: ReplyEmpty) {
        if self.local_of(ino).is_some() {
            return reply.ok(); // It need not last.
        }
        // fdatasync does not promise times, and PostgreSQL asks for one with every commit: sending them along would
        // make each commit a record longer.
        let whose_times = (!datasync).then_some(ino.0);
        self.change(move |fs| fs.sync(whose_times, move |result| reply_empty(result, reply)));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.fs.open(ino.0) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if is_local(offset) {
            self.local.iter().for_each(|files| _ = local::list(files, ino, offset, &mut reply));
            return reply.ok();
        }
        match self.fs.list(ino.0, offset, LIST_AT_A_TIME) {
            Ok(listed) => {
                let all = listed.len() < LIST_AT_A_TIME;
                let full = listed.iter().any(|line| {
                    let name = OsStr::from_bytes(&line.name);
                    reply.add(INodeNo(line.ino), line.next, file_type(line.kind), name)
                });
                if all && !full {
                    self.local.iter().for_each(|files| _ = local::list(files, ino, offset, &mut reply));
                }
                reply.ok();
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        if is_local(offset) {
            self.local.iter().for_each(|files| _ = local::list_plus(files, ino, offset, &mut reply));
            return reply.ok();
        }
        match self.fs.list(ino.0, offset, LIST_AT_A_TIME) {
            Ok(listed) => {
                let all = listed.len() < LIST_AT_A_TIME;
                let full = listed.iter().any(|line| match self.fs.attributes(line.ino) {
                    Ok(record) => {
                        let name = OsStr::from_bytes(&line.name);
                        reply.add(INodeNo(line.ino), line.next, name, &F::TTL, &attr(&record), GENERATION)
                    }
                    Err(_) => false, // Gone since it was listed.
                });
                if all && !full {
                    self.local.iter().for_each(|files| _ = local::list_plus(files, ino, offset, &mut reply));
                }
                reply.ok();
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn releasedir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.change(move |fs| {
            fs.close(ino.0);
            reply.ok();
        });
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.change(move |fs| fs.sync(Some(ino.0), move |result| reply_empty(result, reply)));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let Room { blocks, used, inodes, used_inodes } = self.fs.room();
        let (free, page) = (blocks.saturating_sub(used), PAGE_SIZE as u32);
        let free_inodes = inodes.saturating_sub(used_inodes);
        reply.statfs(blocks, free, free, inodes, free_inodes, page, NAME_MAX as u32, page);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        if self.local_for(parent, name).is_some() {
            return self.local_create(request, parent, name, mode, reply);
        }
        let (uid, gid, name) = (request.uid(), request.gid(), name.to_owned());
        self.change(move |fs| {
            let new = NewInode { kind: Kind::File, mode: permissions(mode), uid, gid, rdev: 0, target: b"" };
            match fs.create(parent.0, name.as_bytes(), &new, true) {
                Ok(record) => {
                    reply.created(&F::TTL, &attr(&record), GENERATION, FileHandle(0), open_flags(&**fs, record.ino))
                }
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if let Some(files) = self.local_of(ino) {
            return local::fallocate(files, ino, offset, length, mode, reply);
        }
        self.fs.allocate(ino.0, offset, length, mode, move |result| reply_empty(result.map(|_| ()), reply));
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        if let Some(files) = self.local_of(ino) {
            return local::lseek(files, ino, offset, whence, reply);
        }
        match self.fs.seek(ino.0, offset, whence) {
            Ok(offset) => reply.offset(offset),
            Err(error) => reply.error(errno(error)),
        }
    }

    // The kernel asks for each of these once. On ENOSYS it does the work itself, or does without.

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
