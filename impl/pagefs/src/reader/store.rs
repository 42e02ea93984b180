//! Where the overlay's pages are: in memory up to a limit, and beyond it in a file on the local disk.
//!
//! The file has no name, so it ends with the process. Its slots are used again.

use crate::error::FsError;
use auriga_page::{PAGE_SIZE, PageImage};
use bytes::Bytes;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Where a page is.
#[derive(Debug)]
pub(crate) enum Stored {
    Memory(PageImage),
    Spilled(u64),
}

/// The overlay's room.
pub(crate) struct Store {
    memory: usize,
    memory_max: usize,
    spill: Option<File>,
    slots: u64,
    slots_max: u64,
    free: Vec<u64>,
}

impl Store {
    /// Room for `memory_max` bytes in memory, and, in a file in `directory`, for `spill_max`.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn new(memory_max: usize, directory: Option<&Path>, spill_max: u64) -> io::Result<Store> {
        let spill = directory.map(unnamed).transpose()?;
        Ok(Store { memory: 0, memory_max, spill, slots: 0, slots_max: spill_max / PAGE_SIZE as u64, free: Vec::new() })
    }

    /// Bytes in memory and in the file.
    pub fn bytes(&self) -> (usize, u64) {
        (self.memory, (self.slots - self.free.len() as u64) * PAGE_SIZE as u64)
    }

    /// Stores a page. `on_disk`: rather not in memory.
    ///
    /// # Errors
    /// [`FsError::NoSpace`]: there is no room, or the local disk has none.
    pub fn put(&mut self, page: PageImage, on_disk: bool) -> Result<Stored, FsError> {
        let bytes = if page.is_zero() { 0 } else { PAGE_SIZE };
        let fits = self.memory + bytes <= self.memory_max;
        let Some(spill) = self.spill.as_ref().filter(|_| bytes > 0 && (on_disk || !fits)) else {
            if !fits {
                return Err(FsError::NoSpace);
            }
            self.memory += bytes;
            return Ok(Stored::Memory(page));
        };
        let slot = self.free.pop().unwrap_or(self.slots);
        if slot >= self.slots_max {
            return Err(FsError::NoSpace);
        }
        if let Err(error) = spill.write_all_at(page.content(), slot * PAGE_SIZE as u64) {
            tracing::error!(%error, "the overlay can't be written to the local disk");
            if slot < self.slots {
                self.free.push(slot);
            }
            return Err(FsError::NoSpace);
        }
        self.slots = self.slots.max(slot + 1);
        Ok(Stored::Spilled(slot))
    }

    /// Reads a page.
    ///
    /// # Errors
    /// [`FsError::Local`]: the local disk failed.
    pub fn get(&self, stored: &Stored) -> Result<PageImage, FsError> {
        match (stored, &self.spill) {
            (Stored::Memory(page), _) => Ok(page.clone()),
            (Stored::Spilled(slot), Some(spill)) => {
                let mut bytes = vec![0; PAGE_SIZE];
                spill.read_exact_at(&mut bytes, slot * PAGE_SIZE as u64).map_err(|error| {
                    tracing::error!(%error, "the overlay can't be read from the local disk");
                    FsError::Local
                })?;
                Ok(PageImage::new(Bytes::from(bytes)).expect("made with the length of a page"))
            }
            (Stored::Spilled(slot), None) => unreachable!("slot {slot} of no file"),
        }
    }

    /// Gives a page's room back.
    pub fn free(&mut self, stored: Stored) {
        match stored {
            Stored::Memory(page) if page.is_zero() => {}
            Stored::Memory(_) => self.memory -= PAGE_SIZE,
            Stored::Spilled(slot) => self.free.push(slot),
        }
    }
}

fn unnamed(directory: &Path) -> io::Result<File> {
    std::fs::create_dir_all(directory)?;
    let options = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    };
    match options().custom_flags(libc::O_TMPFILE).open(directory) {
        Ok(file) => Ok(file),
        Err(_) => {
            let path = directory.join(format!("overlay.{}", std::process::id()));
            let file = options().create(true).truncate(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(byte: u8) -> PageImage {
        PageImage::copy_from(&[byte; PAGE_SIZE])
    }

    #[test]
    fn what_does_not_fit_goes_to_the_disk_and_comes_back() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut store = Store::new(PAGE_SIZE, Some(directory.path()), 2 * PAGE_SIZE as u64).expect("a file");
        let stored: Vec<Stored> = (1..4).map(|byte| store.put(page(byte), false).expect("room")).collect();
        assert_eq!(store.bytes(), (PAGE_SIZE, 2 * PAGE_SIZE as u64));
        assert_eq!(store.put(page(9), false).expect_err("full"), FsError::NoSpace);
        store.put(PageImage::default(), true).expect("zeros need no room");
        for (stored, byte) in stored.iter().zip(1..) {
            assert_eq!(store.get(stored).expect("read"), page(byte));
        }
        stored.into_iter().for_each(|stored| store.free(stored));
        assert_eq!(store.bytes(), (0, 0));
        assert!(matches!(store.put(page(5), true), Ok(Stored::Spilled(_))));
        assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 0, "it has no name");
    }

    #[test]
    fn without_a_disk_memory_is_the_limit() {
        let mut store = Store::new(PAGE_SIZE, None, 0).expect("no file");
        assert!(matches!(store.put(page(1), true), Ok(Stored::Memory(_))));
        assert_eq!(store.put(page(2), true).expect_err("full"), FsError::NoSpace);
    }
}
