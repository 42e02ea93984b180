//! The kernel's requests to a volatile disk. Few kinds suffice: whatever a storage process does not do is refused.

use super::content::Content;
use super::tree::Inode;
use super::{SYNC_MICROS_MAX, Shared, lock};
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The kernel may trust nothing for any time: sizes change when the power is cut.
const TTL: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);

/// Answers the kernel.
pub struct Adapter {
    shared: Arc<Shared>,
}

impl Adapter {
    pub fn new(shared: Arc<Shared>) -> Adapter {
        Adapter { shared }
    }

    /// Runs `action` on a file whose power is on.
    fn on_file<T>(&self, number: INodeNo, action: impl FnOnce(&mut Content) -> io::Result<T>) -> io::Result<T> {
        self.on_file_of(number, |_, content| action(content))
    }

    /// Returns the same, and the name of the root below which it is.
    fn on_file_of<T>(
        &self,
        number: INodeNo,
        action: impl FnOnce(Option<&str>, &mut Content) -> io::Result<T>,
    ) -> io::Result<T> {
        let (top, content) = self.file(number)?;
        let mut content = lock(&content);
        // Asked with the content locked: after the power is off, nothing changes.
        self.check_power(top.as_deref())?;
        action(top.as_deref(), &mut content)
    }

    fn write_file(&self, number: INodeNo, offset: u64, data: &[u8]) -> io::Result<()> {
        self.on_file_of(number, |top, content| {
            let size = content.file().metadata()?.len();
            lock(&self.shared.room).resize(top, size, size.max(offset + data.len() as u64))?;
            content.write(offset, data)
        })
    }

    fn resize_file(&self, number: INodeNo, size: u64) -> io::Result<()> {
        self.on_file_of(number, |top, content| {
            lock(&self.shared.room).resize(top, content.file().metadata()?.len(), size)?;
            content.resize(size)
        })
    }

    fn file(&self, number: INodeNo) -> io::Result<(Option<String>, Arc<Mutex<Content>>)> {
        let tree = lock(&self.shared.tree);
        let inode = tree.get(number.0)?;
        let content = inode.content.clone().ok_or_else(|| io::Error::from_raw_os_error(libc::EISDIR))?;
        Ok((inode.top().map(str::to_owned), content))
    }

    fn check_power(&self, top: Option<&str>) -> io::Result<()> {
        match top.is_some_and(|top| lock(&self.shared.off).contains(top)) {
            true => Err(io::Error::from_raw_os_error(libc::EIO)),
            false => Ok(()),
        }
    }

    fn check_path(&self, path: &Path) -> io::Result<()> {
        self.check_power(top_of(path))
    }

    fn attributes(&self, number: INodeNo) -> io::Result<FileAttr> {
        let tree = lock(&self.shared.tree);
        let inode = tree.get(number.0)?.clone();
        let below = tree.below(&inode.path);
        drop(tree);
        attributes(number.0, &inode, &below)
    }

    fn look_up(&self, path: &Path) -> io::Result<FileAttr> {
        let mut tree = lock(&self.shared.tree);
        let below = tree.below(path);
        let (number, inode) = tree.look_up(path)?;
        let inode = inode.clone();
        drop(tree);
        attributes(number, &inode, &below)
    }

    /// Makes what `make` makes at the path of `name`, and looks it up.
    fn make(&self, parent: INodeNo, name: &OsStr, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<FileAttr> {
        let (path, below) = self.paths(parent, name)?;
        self.check_path(&path)?;
        make(&below)?;
        self.look_up(&path)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, remove: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let (path, below) = self.paths(parent, name)?;
        self.check_path(&path)?;
        let size = size_of(&below);
        remove(&below)?;
        lock(&self.shared.tree).unlinked(&path);
        self.give_back(&path, size)
    }

    /// What was at `path`, of this size, is gone.
    fn give_back(&self, path: &Path, size: u64) -> io::Result<()> {
        lock(&self.shared.room).resize(top_of(path), size, 0)
    }

    fn paths(&self, parent: INodeNo, name: &OsStr) -> io::Result<(std::path::PathBuf, std::path::PathBuf)> {
        let tree = lock(&self.shared.tree);
        let path = tree.child(parent.0, name)?;
        let below = tree.below(&path);
        Ok((path, below))
    }

    fn move_file(&self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr)) -> io::Result<()> {
        let (from, from_below) = self.paths(from.0, from.1)?;
        let (to, to_below) = self.paths(to.0, to.1)?;
        self.check_path(&from)?;
        self.check_path(&to)?;
        if std::fs::symlink_metadata(&from_below)?.is_dir() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let replaced = size_of(&to_below);
        std::fs::rename(from_below, to_below)?;
        lock(&self.shared.tree).renamed(&from, &to);
        self.give_back(&to, replaced)
    }

    /// Takes its time, as a disk does: the power may go meanwhile.
    fn synchronise(&self, number: INodeNo) -> io::Result<()> {
        if self.shared.lies.load(SeqCst) {
            return self.on_file(number, |_| Ok(()));
        }
        let mark = self.on_file(number, |content| Ok(content.mark()))?;
        let micros = lock(&self.shared.random).u64(0..SYNC_MICROS_MAX);
        std::thread::sleep(Duration::from_micros(micros));
        self.on_file(number, |content| {
            content.make_durable(mark);
            Ok(())
        })
    }
}

fn attributes(number: u64, inode: &Inode, below: &Path) -> io::Result<FileAttr> {
    match &inode.content {
        Some(content) => Ok(translate(number, &lock(content).file().metadata()?)),
        None => Ok(translate(number, &std::fs::symlink_metadata(below)?)),
    }
}

/// The name in the root below which `path` is.
fn top_of(path: &Path) -> Option<&str> {
    path.iter().next().and_then(OsStr::to_str)
}

/// The size of a file; nothing where none is.
fn size_of(below: &Path) -> u64 {
    std::fs::symlink_metadata(below).ok().filter(Metadata::is_file).map_or(0, |found| found.len())
}

fn translate(number: u64, found: &Metadata) -> FileAttr {
    let modified = found.modified().unwrap_or(UNIX_EPOCH);
    FileAttr {
        ino: INodeNo(number),
        size: found.len(),
        blocks: found.blocks(),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: UNIX_EPOCH,
        kind: if found.is_dir() { FileType::Directory } else { FileType::RegularFile },
        perm: (found.permissions().mode() & 0o7777) as u16,
        nlink: found.nlink() as u32,
        uid: found.uid(),
        gid: found.gid(),
        rdev: 0,
        blksize: found.blksize() as u32,
        flags: 0,
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(match error.kind() {
        io::ErrorKind::Unsupported => libc::EOPNOTSUPP,
        _ => libc::EIO,
    }))
}

fn entry(result: io::Result<FileAttr>, reply: ReplyEntry) {
    match result {
        Ok(attr) => reply.entry(&TTL, &attr, GENERATION),
        Err(error) => reply.error(errno(&error)),
    }
}

fn empty(result: io::Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

fn attr(result: io::Result<FileAttr>, reply: ReplyAttr) {
    match result {
        Ok(attr) => reply.attr(&TTL, &attr),
        Err(error) => reply.error(errno(&error)),
    }
}

impl Filesystem for Adapter {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let path = lock(&self.shared.tree).child(parent.0, name);
        entry(path.and_then(|path| self.look_up(&path)), reply);
    }

    fn forget(&self, _: &Request, number: INodeNo, count: u64) {
        lock(&self.shared.tree).forget(number.0, count);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attr(self.attributes(number), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // Only the size matters here.
        let resized = size.map_or(Ok(()), |size| self.resize_file(number, size));
        attr(resized.and_then(|()| self.attributes(number)), reply);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        entry(self.make(parent, name, |below| std::fs::create_dir(below)), reply);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.make(parent, name, |below| File::create_new(below).map(drop)) {
            Ok(attr) => reply.created(&TTL, &attr, GENERATION, FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.remove(parent, name, |below| std::fs::remove_file(below)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.remove(parent, name, |below| std::fs::remove_dir(below)), reply);
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
        match flags.is_empty() {
            true => empty(self.move_file((parent, name), (newparent, newname)), reply),
            false => reply.error(Errno::EINVAL),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // The kernel keeps no copy: it would not know of a power cut.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.on_file(number, |content| content.read(offset, size as usize)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write_file(number, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        empty(self.synchronise(number), reply);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        // Names are durable at once.
        reply.ok();
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let names = match lock(&self.shared.tree).list(number.0) {
            Ok(names) => names,
            Err(error) => return reply.error(errno(&error)),
        };
        for (next, (name, is_directory)) in (1..).zip(names).skip(offset as usize) {
            let kind = if is_directory { FileType::Directory } else { FileType::RegularFile };
            // Numbers in listings are not used by anyone; 0 would hide the name.
            if reply.add(INodeNo(u64::MAX), next, kind, &name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, number: INodeNo, reply: ReplyStatfs) {
        let tree = lock(&self.shared.tree);
        let root = tree.below(Path::new(""));
        let left = tree.get(number.0).ok().and_then(|inode| lock(&self.shared.room).left(inode.top()));
        drop(tree);
        match nix::sys::statvfs::statvfs(&root) {
            Ok(found) => reply.statfs(
                found.blocks(),
                found.blocks_free(),
                left.map_or(found.blocks_available(), |left| left / found.fragment_size()),
                found.files(),
                found.files_free(),
                found.block_size() as u32,
                found.name_max() as u32,
                found.fragment_size() as u32,
            ),
            Err(error) => reply.error(Errno::from_i32(error as i32)),
        }
    }
}
