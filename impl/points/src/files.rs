//! The files of a volume, read without a kernel.

use auriga_pagefs::layout::{InodeRecord, Kind, ROOT};
use auriga_pagefs::{FsError, FsOptions, LoadError, PageFs};
use auriga_volume::Volume;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Read at once.
const PIECE: u32 = 1 << 20;
/// Entries of a directory that are listed at once.
const LINES: usize = 1024;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The volume holds no file system.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The file system, or the volume.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        error: FsError,
    },
    /// The file that was read is to be put on the local disk.
    #[error("{path}: {error}")]
    Local {
        /// Where.
        path: String,
        /// Why.
        error: std::io::Error,
    },
}

/// The files of a volume. Paths begin at the root of the file system.
pub struct Files(Arc<PageFs>);

impl Files {
    /// Opens the file system on a volume, for reading alone. Not to be called on a thread of a tokio runtime.
    ///
    /// # Errors
    /// There is none, or the volume fails.
    pub fn open(volume: Arc<dyn Volume>) -> Result<Files, Unreadable> {
        let options = FsOptions {
            cache_bytes: 16 << 20,
            deadline: PATIENCE,
            read_only: true,
            workers: 1,
            ..FsOptions::default()
        };
        Ok(Files(PageFs::load(volume, options, Box::new(|_| ()))?))
    }

    /// Looks for a file; `None`: there is none.
    ///
    /// # Errors
    /// The volume fails, or a directory in its path is none.
    pub fn find(&self, path: &str) -> Result<Option<InodeRecord>, Unreadable> {
        let (mut at, mut found) = (ROOT, None);
        for name in path.split('/') {
            let record = match self.0.lookup(at, name.as_bytes()) {
                Ok(record) => record,
                Err(FsError::NotFound) => return Ok(None),
                Err(error) => return Err(Unreadable::File { path: path.to_owned(), error }),
            };
            at = record.ino;
            found = Some(record);
        }
        Ok(found)
    }

    /// Returns what is in a directory; nothing where there is none.
    ///
    /// # Errors
    /// As [`Files::find`].
    pub fn list(&self, path: &str) -> Result<Vec<String>, Unreadable> {
        let Some(directory) = self.find(path)? else { return Ok(Vec::new()) };
        let (mut names, mut from) = (Vec::new(), 0);
        loop {
            let lines = self.0.list(directory.ino, from, LINES);
            let lines = lines.map_err(|error| Unreadable::File { path: path.to_owned(), error })?;
            let Some(last) = lines.last() else { return Ok(names) };
            from = last.next;
            let plain = lines.iter().filter(|line| line.name[..] != b"."[..] && line.name[..] != b".."[..]);
            names.extend(plain.map(|line| String::from_utf8_lossy(&line.name).into_owned()));
        }
    }

    /// Reads a whole file; `None`: there is none.
    ///
    /// # Errors
    /// The volume fails.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        let Some(record) = self.find(path)?.filter(|record| record.kind == Kind::File) else { return Ok(None) };
        let mut content = Vec::new();
        loop {
            let piece = self.piece(record.ino, content.len() as u64);
            let piece = piece.map_err(|error| Unreadable::File { path: path.to_owned(), error })?;
            if piece.is_empty() {
                return Ok(Some(content));
            }
            content.extend_from_slice(&piece);
        }
    }

    fn piece(&self, ino: u64, offset: u64) -> Result<Vec<u8>, FsError> {
        let (sender, receiver) = mpsc::channel();
        self.0.read(ino, offset, PIECE, move |read| {
            let _ = sender.send(read.map(|data| data.with(<[u8]>::to_vec))); // Who asked waits.
        });
        receiver.recv().unwrap_or(Err(FsError::Local))
    }

    /// Copies a file to the local disk. Returns whether there is one.
    ///
    /// # Errors
    /// As [`Files::read`], and those of the local disk.
    pub fn copy(&self, path: &str, to: &Path) -> Result<bool, Unreadable> {
        let Some(content) = self.read(path)? else { return Ok(false) };
        std::fs::write(to, content).map_err(|error| Unreadable::Local { path: to.display().to_string(), error })?;
        Ok(true)
    }
}
