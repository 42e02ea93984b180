//! The few things that a store asks of an operating system, as traits.
//!
//! There are two implementations: [`RealDirectory`], a directory, and one in memory for tests, which forgets or tears
//! what was not synchronised when its power is cut. A trait of a dozen methods is cheaper than being unable to test
//! that.
//!
//! A write is *durable* when a later [`File::sync`] of the same file has returned; a name is durable when a later
//! [`Directory::sync_dir`] has. Names are relative to the store's directory, with at most one `/`.

use crate::twin::BLOCK;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// An open file. Offsets and lengths are in bytes.
pub trait File: Send + Sync {
    /// Reads as much of `buffer` as the file has at `offset`; answers how much that is.
    ///
    /// # Errors
    /// Returns the operating system's error.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file when needed.
    ///
    /// # Errors
    /// Returns the operating system's error. `StorageFull` may leave a part written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// The operating system's; nothing may be believed about the file afterwards.
    fn sync(&self) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// Returns the operating system's error.
    fn size(&self) -> io::Result<u64>;

    /// Makes these bytes zero and gives their room back; `false`: the file system can't do that, and they are as
    /// before.
    ///
    /// # Errors
    /// Returns the operating system's error. `StorageFull` may leave a part done.
    fn punch(&self, offset: u64, length: u64) -> io::Result<bool>;
}

/// A directory with one level of sub-directories.
pub trait Directory: Send + Sync {
    /// Opens a file that exists.
    ///
    /// # Errors
    /// Returns `NotFound`, or another error of the operating system.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Makes an empty file, in place of any of that name.
    ///
    /// # Errors
    /// Returns the operating system's error.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// As [`Directory::open`], for a file that is written in whole blocks, each synchronised soon, and hardly ever
    /// read.
    ///
    /// # Errors
    /// As [`Directory::open`].
    fn open_log(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open(name)
    }

    /// As [`Directory::create`], for such a file.
    ///
    /// # Errors
    /// As [`Directory::create`].
    fn create_log(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.create(name)
    }

    /// Renames a file, in place of any of the new name.
    ///
    /// # Errors
    /// Returns the operating system's error.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Returns the operating system's error.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes a sub-directory, if it isn't there.
    ///
    /// # Errors
    /// Returns the operating system's error.
    fn create_dir(&self, name: &str) -> io::Result<()>;

    /// Names of the files in a sub-directory (`""`: in the directory itself), sorted, without the directory's name.
    ///
    /// # Errors
    /// Returns the operating system's error.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes the names in a sub-directory (`""`: in the directory itself) durable.
    ///
    /// # Errors
    /// Returns the operating system's error.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Bytes that can still be written.
    ///
    /// # Errors
    /// Returns the operating system's error.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// Reads exactly `length` bytes at `offset`, or fewer where the file ends.
///
/// # Errors
/// Returns the operating system's error.
pub(crate) fn read_up_to(file: &dyn File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// A real directory.
pub struct RealDirectory {
    root: PathBuf,
    /// Locked as long as this value lives, so that two processes can't write to one store.
    _lock: std::fs::File,
}

impl RealDirectory {
    /// Makes the directory if it isn't there, and locks it.
    ///
    /// # Errors
    /// Returns `WouldBlock` when another process has it open, or another error of the operating system.
    pub fn lock(root: &Path) -> io::Result<RealDirectory> {
        std::fs::create_dir_all(root)?;
        let lock = std::fs::File::create(root.join("lock"))?;
        // SAFETY: the descriptor is open as long as `lock` lives.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(RealDirectory { root: root.to_owned(), _lock: lock })
    }
}

impl Directory for RealDirectory {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(std::fs::File::options().read(true).write(true).open(self.root.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.root.join(name);
        Ok(Arc::new(std::fs::File::options().read(true).write(true).create(true).truncate(true).open(path)?))
    }

    fn open_log(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.root.join(name);
        Ok(Arc::new(DirectFile::new(std::fs::File::options().read(true).write(true).open(&path)?, &path)))
    }

    fn create_log(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.root.join(name);
        let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok(Arc::new(DirectFile::new(file, &path)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.root.join(name))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.root.join(name))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.root.join(dir))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        std::fs::File::open(self.root.join(dir))?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let path = std::ffi::CString::new(self.root.as_os_str().as_encoded_bytes())?;
        let mut statistics = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `path` is a C string and `statistics` is writable memory of the type that the call fills.
        if unsafe { libc::statvfs(path.as_ptr(), statistics.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so it has filled the structure.
        let statistics = unsafe { statistics.assume_init() };
        Ok(statistics.f_bavail * statistics.f_frsize)
    }
}

/// A file whose whole blocks are written past the page cache: a synchronisation then has no pages to look for and to
/// write, which makes the two together a fifth cheaper and sooner done. Where the file system can't do that, and for
/// other writes, it is a file like any other.
struct DirectFile {
    file: std::fs::File,
    /// The same file, opened for direct writes, and memory aligned as those need it.
    direct: Option<(std::fs::File, Mutex<Vec<u8>>)>,
}

/// Memory that a file keeps for the next write.
const KEEP_BYTES: usize = 1 << 20;

impl DirectFile {
    fn new(file: std::fs::File, path: &Path) -> DirectFile {
        let direct = std::fs::File::options().write(true).custom_flags(libc::O_DIRECT).open(path);
        DirectFile { file, direct: direct.ok().map(|direct| (direct, Mutex::default())) }
    }

    fn write_direct(direct: &std::fs::File, memory: &Mutex<Vec<u8>>, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        let length = bytes.len() + BLOCK;
        if memory.len() < length {
            memory.resize(length.next_power_of_two(), 0);
        }
        let start = memory.as_ptr().align_offset(BLOCK);
        let aligned = &mut memory[start..start + bytes.len()];
        aligned.copy_from_slice(bytes);
        let written = direct.write_all_at(aligned, offset);
        if memory.len() > KEEP_BYTES {
            *memory = Vec::new();
        }
        written
    }
}

impl File for DirectFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        File::read_at(&self.file, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let whole_blocks = bytes.len().is_multiple_of(BLOCK) && offset.is_multiple_of(BLOCK as u64);
        if let Some((direct, memory)) = &self.direct
            && whole_blocks
        {
            match DirectFile::write_direct(direct, memory, bytes, offset) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {} // It wants another alignment.
                done => return done,
            }
        }
        File::write_at(&self.file, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<bool> {
        self.file.punch(offset, length)
    }
}

impl File for std::fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match FileExt::read_at(self, &mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<bool> {
        let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let (offset, length) = (offset.try_into().map_err(too_large)?, length.try_into().map_err(too_large)?);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        loop {
            // SAFETY: the descriptor is open as long as `self` lives.
            if unsafe { libc::fallocate(self.as_raw_fd(), mode, offset, length) } == 0 {
                return Ok(true);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM) => return Ok(false),
                _ => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes past the page cache and what does not must meet in the file, whichever came first.
    #[test]
    fn a_log_reads_back_as_written_whole_blocks_or_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = RealDirectory::lock(dir.path()).expect("locked");
        let log = disk.create_log("log").expect("made");
        let mut expected = vec![0; 8 * BLOCK];
        let writes =
            [(0, 8 * BLOCK, 1), (BLOCK, 2 * BLOCK, 2), (2 * BLOCK + 7, 100, 3), (2 * BLOCK, BLOCK, 4), (5, 9, 5)];
        for (offset, length, byte) in writes {
            expected[offset..offset + length].fill(byte);
            log.write_at(&vec![byte; length], offset as u64).expect("written");
            log.sync().expect("synchronised");
            for log in [&log, &disk.open_log("log").expect("opened"), &disk.open("log").expect("opened")] {
                assert!(read_up_to(&**log, 0, 9 * BLOCK).expect("read") == expected, "after {byte}");
            }
        }
        assert_eq!(log.size().expect("known"), expected.len() as u64);
    }

    #[test]
    fn a_hole_reads_as_zeros_and_takes_no_room() {
        use std::os::unix::fs::MetadataExt;
        const LENGTH: usize = 256 * BLOCK;
        let dir = tempfile::tempdir().expect("a directory");
        let disk = RealDirectory::lock(dir.path()).expect("locked");
        let file = disk.create("file").expect("made");
        let mut expected = vec![7; LENGTH];
        file.write_at(&expected, 0).expect("written");
        file.sync().expect("synchronised");
        let blocks = || std::fs::metadata(dir.path().join("file")).expect("there").blocks();
        let before = blocks();
        let hole = BLOCK..LENGTH - BLOCK;
        if file.punch(hole.start as u64, hole.len() as u64).expect("nothing fails") {
            expected[hole].fill(0);
            assert!(blocks() < before / 2, "{} blocks of {before}", blocks());
        }
        assert!(read_up_to(&*file, 0, 2 * LENGTH).expect("read") == expected);
    }
}
