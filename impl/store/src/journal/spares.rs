//! Journal files that hold nothing: preallocated, to be written over.
//!
//! A file is filled with zeros and synchronised once, when it is made. Afterwards appends only overwrite blocks that
//! the file system has allocated already, so they can't run out of room and need no change of metadata.
//!
//! The last empty file is kept for moving what is needed out of the oldest file: so a journal that finds no room can
//! always make some, if anything in it is needed no more.

use crate::disk::{Directory, File};
use crate::error::{IoContext, IoFailure};
use crate::space::Space;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The directory of the journal's files.
pub(crate) const DIR: &str = "journal";

/// Empty files kept: one for the next batches, and one for moving. More are removed.
const KEEP: usize = 2;

/// What an empty file is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Batches that a caller waits for.
    Appends,
    /// Entries that are moved so that older files can be used again.
    Moving,
}

/// A file of the journal.
#[derive(Clone)]
pub(super) struct JournalFile {
    pub name: String,
    pub file: Arc<dyn File>,
}

/// Empty journal files. One thread takes them, another one makes them ahead of time.
pub(super) struct Spares {
    disk: Arc<dyn Directory>,
    space: Arc<Space>,
    file_bytes: u64,
    state: Mutex<State>,
}

struct State {
    ready: Vec<JournalFile>,
    next_name: u64,
}

impl State {
    fn has_for(&self, purpose: Purpose) -> bool {
        self.ready.len() > usize::from(purpose == Purpose::Appends)
    }
}

impl Spares {
    pub(super) fn new(disk: Arc<dyn Directory>, space: Arc<Space>, file_bytes: u64, next_name: u64) -> Spares {
        Spares { disk, space, file_bytes, state: Mutex::new(State { ready: Vec::new(), next_name }) }
    }

    /// The number in a file's name.
    pub(super) fn number_of(name: &str) -> Option<u64> {
        u64::from_str_radix(name, 16).ok()
    }

    /// Bytes of each file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Takes an empty file, and makes one where there is none for this purpose.
    ///
    /// # Errors
    /// Returns an error if there is no room, or another error of the operating system.
    pub(super) fn take(&self, purpose: Purpose) -> Result<JournalFile, IoFailure> {
        match self.take_ready(purpose) {
            Some(file) => {
                self.space.remove_reusable(self.file_bytes);
                Ok(file)
            }
            None => self.make(),
        }
    }

    fn take_ready(&self, purpose: Purpose) -> Option<JournalFile> {
        let mut state = self.state();
        if state.has_for(purpose) { state.ready.pop() } else { None }
    }

    /// Whether there is an empty file for this purpose.
    pub(super) fn has_for(&self, purpose: Purpose) -> bool {
        self.state().has_for(purpose)
    }

    /// Makes empty files until there is one for each purpose.
    ///
    /// # Errors
    /// Returns an error if there is no room, or another error of the operating system.
    pub(super) fn prepare(&self) -> Result<(), IoFailure> {
        while self.count() < KEEP {
            let file = self.make()?;
            self.put(file)?;
        }
        Ok(())
    }

    /// Gives back a file that is needed no more.
    ///
    /// # Errors
    /// A surplus file can't be removed.
    pub(super) fn put(&self, file: JournalFile) -> Result<(), IoFailure> {
        let mut state = self.state();
        if state.ready.len() < KEEP {
            state.ready.push(file);
            self.space.add_reusable(self.file_bytes);
            return Ok(());
        }
        drop(state);
        self.remove(&file)
    }

    /// Empty files, ready to be used.
    pub(super) fn count(&self) -> usize {
        self.state().ready.len()
    }

    fn make(&self) -> Result<JournalFile, IoFailure> {
        let name = {
            let mut state = self.state();
            state.next_name += 1;
            format!("{DIR}/{:08x}", state.next_name)
        };
        self.space.take(self.file_bytes).context(|| format!("make {name}"))?;
        match self.fill(&name).context(|| format!("make {name}")) {
            Ok(file) => Ok(JournalFile { name, file }),
            Err(failure) => {
                // A file of the wrong size would be refused at the next start; that it may not be removable changes
                // nothing about the failure to report.
                let _ = self.disk.remove(&name);
                self.space.give(self.file_bytes);
                Err(failure)
            }
        }
    }

    fn fill(&self, name: &str) -> std::io::Result<Arc<dyn File>> {
        const PIECE: usize = 256 << 10;
        let file = self.disk.create_log(name)?;
        let zeros = vec![0; PIECE.min(self.file_bytes as usize)];
        let mut at = 0;
        while at < self.file_bytes {
            let piece = zeros.len().min((self.file_bytes - at) as usize);
            file.write_at(&zeros[..piece], at)?;
            at += piece as u64;
        }
        file.sync()?;
        self.disk.sync_dir(DIR)?;
        Ok(file)
    }

    fn remove(&self, file: &JournalFile) -> Result<(), IoFailure> {
        self.disk.remove(&file.name).context(|| format!("remove {}", file.name))?;
        self.space.give(self.file_bytes);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
