//! The kernel's terms and the file system's: attributes, times, kinds, errors, and replies made of them.

use super::GENERATION;
use crate::error::FsError;
use crate::files::Files;
use crate::layout::{InodeRecord, Kind};
use auriga_page::PAGE_SIZE;
use fuser::{Errno, FileAttr, FileType, FopenFlags, INodeNo, ReplyAttr, ReplyEmpty, ReplyEntry, TimeOrNow};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

pub(super) fn reply_entry<F: Files>(result: Result<InodeRecord, FsError>, reply: ReplyEntry) {
    match result {
        Ok(record) => reply.entry(&F::TTL, &attr(&record), GENERATION),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn errno(error: FsError) -> Errno {
    Errno::from_i32(error.errno())
}

pub(super) fn reply_empty(result: Result<(), FsError>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn reply_attr<F: Files>(result: Result<InodeRecord, FsError>, reply: ReplyAttr) {
    match result {
        Ok(record) => reply.attr(&F::TTL, &attr(&record)),
        Err(error) => reply.error(errno(error)),
    }
}

/// How a file is opened. A copy that the kernel keeps stays good when the file is opened again.
pub(super) fn open_flags(fs: &impl Files, ino: u64) -> FopenFlags {
    match fs.may_be_kept(ino) {
        true => FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
        false => uncached(),
    }
}

/// How files are opened of whose content the kernel keeps no copy.
pub(super) fn uncached() -> FopenFlags {
    FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES | FopenFlags::FOPEN_NOFLUSH
}

pub(super) fn attr(record: &InodeRecord) -> FileAttr {
    FileAttr {
        ino: INodeNo(record.ino),
        size: record.size,
        blocks: record.size.div_ceil(512),
        atime: time(record.atime),
        mtime: time(record.mtime),
        ctime: time(record.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(record.kind),
        perm: record.mode,
        nlink: record.nlink,
        uid: record.uid,
        gid: record.gid,
        rdev: record.rdev,
        blksize: PAGE_SIZE as u32,
        flags: 0,
    }
}

pub(super) fn time(nanos: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    if nanos >= 0 { UNIX_EPOCH + distance } else { UNIX_EPOCH - distance }
}

pub(super) fn nanos(time: TimeOrNow) -> i64 {
    let time = match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    };
    let clamp = |distance: Duration| i64::try_from(distance.as_nanos()).unwrap_or(i64::MAX);
    time.duration_since(UNIX_EPOCH).map_or_else(|before| -clamp(before.duration()), clamp)
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Socket => FileType::Socket,
        Kind::Fifo => FileType::NamedPipe,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

pub(super) fn kind_of_mode(mode: u32) -> Option<Kind> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Some(Kind::File),
        libc::S_IFSOCK => Some(Kind::Socket),
        libc::S_IFIFO => Some(Kind::Fifo),
        libc::S_IFCHR => Some(Kind::CharDevice),
        libc::S_IFBLK => Some(Kind::BlockDevice),
        _ => None,
    }
}
