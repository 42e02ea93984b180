//! The journal's files: writing batches, recycling files, moving what is still needed out of the oldest one.
//!
//! Single-threaded: the writer thread owns it.
//!
//! Batches are numbered without gaps, and each says which was the oldest needed when it was written. The process that
//! opens the journal takes the newest batch at its word: everything from `oldest` to there must be found. So a file may
//! be written over only after a batch that no longer counts on it is durable (`retired` until then).

use super::format::{Chunk, EntryHeader, frames_of, parse_batch};
use super::live::{FileId, Live};
use super::lock;
use super::spares::{JournalFile, Purpose, Spares};
use crate::disk::{File, read_up_to};
use crate::error::{Failure, IoContext, IoFailure};
use crate::twin::{self, BLOCK};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

pub(super) const SIDECAR_MAGIC: [u8; 4] = *b"AUD1";

/// The last block of a file is kept for a batch without frames: it releases retired files when there is no room for the
/// file in which the next batch would do so.
const CLOSING: u64 = BLOCK as u64;

/// Files that may be in use however little is needed: below this, moving entries isn't worth it.
const FILES_MIN: usize = 4;

/// Most bytes moved at once, so that appends never wait long behind it.
const MOVE_MAX: usize = 1 << 20;

/// A file with batches that are needed.
#[derive(Clone)]
pub(super) struct Used {
    pub id: FileId,
    pub file: JournalFile,
    pub first_batch: u64,
}

/// Files that are complete, for scrubbing; with the number of the batch after their last. A file leaves this list
/// before it can be written over.
pub(super) type Closed = Mutex<VecDeque<(Used, u64)>>;

/// A file that is being emptied: its content, and how far that has been moved.
pub(super) struct Moving {
    id: FileId,
    bytes: Vec<u8>,
    at: usize,
}

/// The journal's files.
pub(super) struct Files {
    pub journal: u64,
    pub spares: Arc<Spares>,
    pub sidecar: Arc<dyn File>,
    pub live: Live,
    /// Oldest first; the last one is being written.
    pub used: VecDeque<Used>,
    /// Needed no more once the batch with this number is durable.
    pub retired: Vec<(u64, JournalFile)>,
    pub next_id: FileId,
    pub next_batch: u64,
    /// Where in the last file the next batch goes.
    pub offset: u64,
    pub moving: Option<Moving>,
    pub closed: Arc<Closed>,
}

impl Files {
    /// No files yet; the first batch will be `next_batch`.
    pub(super) fn new(journal: u64, spares: Spares, sidecar: Arc<dyn File>, next_batch: u64) -> Files {
        Files {
            journal,
            spares: Arc::new(spares),
            sidecar,
            live: Live::default(),
            used: VecDeque::new(),
            retired: Vec::new(),
            next_id: 0,
            next_batch,
            offset: 0,
            moving: None,
            closed: Arc::default(),
        }
    }

    /// Writes `chunk` as one batch and makes it durable.
    ///
    /// # Errors
    /// No room for another file (then nothing has happened), or another of the operating system's (then it isn't known
    /// what is durable, and the node must stop).
    pub(super) fn write(&mut self, chunk: &mut Chunk, purpose: Purpose) -> Result<(), IoFailure> {
        let length = chunk.padded_len() as u64;
        let usable = self.spares.file_bytes() - CLOSING;
        assert!(length <= usable, "a batch of {length} bytes is longer than a journal file");
        if self.used.is_empty() || self.offset + length > usable {
            if !self.retired.is_empty() && !self.spares.has_for(purpose) && self.offset <= usable {
                self.write_here(&mut Chunk::default())?;
            }
            self.begin_file(purpose)?;
        }
        self.write_here(chunk)
    }

    /// Writes `chunk` at the end of the current file, which has room for it.
    fn write_here(&mut self, chunk: &mut Chunk) -> Result<(), IoFailure> {
        let number = self.next_batch;
        let oldest = self.used.front().map_or(number, |used| used.first_batch);
        let current = self.used.back().expect("a file was begun");
        let bytes = chunk.seal(self.journal, number, oldest);
        let doing = || format!("append to {}", current.file.name);
        current.file.file.write_at(bytes, self.offset).final_context(doing)?;
        current.file.file.sync().final_context(doing)?;
        self.offset += bytes.len() as u64;
        self.note_durable(number)?;
        for (frame, entry) in chunk.frames() {
            self.live.note(current.id, &frame, entry);
        }
        self.next_batch += 1;
        self.release_retired()
    }

    /// Remembers, without waiting for the disk, that batches through `number` are durable.
    fn note_durable(&self, number: u64) -> Result<(), IoFailure> {
        let block = twin::encode(SIDECAR_MAGIC, number, &[]);
        self.sidecar
            .write_at(&block, number % 2 * BLOCK as u64)
            .final_context(|| "write the journal's durable position".into())
    }

    /// Goes on in an empty file.
    pub(super) fn begin_file(&mut self, purpose: Purpose) -> Result<(), IoFailure> {
        let file = self.spares.take(purpose)?;
        let complete = self.used.back().map(|used| (used.clone(), self.next_batch));
        lock(&self.closed).extend(complete);
        self.used.push_back(Used { id: self.next_id, file, first_batch: self.next_batch });
        self.next_id += 1;
        self.offset = 0;
        Ok(())
    }

    /// Retires the oldest files as far as no segment needs them, and moves a little of what is still needed out of the
    /// oldest one where the journal would grow too long otherwise.
    ///
    /// # Errors
    /// As [`Files::write`]; or the oldest file is damaged.
    pub(super) fn tidy(&mut self, chunk: &mut Chunk) -> Result<(), Failure> {
        self.retire();
        if self.moving.is_none() && self.is_too_long() {
            match self.used.front() {
                Some(oldest) if self.live.records_in(oldest.id) == 0 => return self.move_states(chunk, oldest.id),
                _ => self.begin_moving()?,
            }
        }
        self.move_some(chunk)
    }

    /// Appends again what `file` is still needed for, which is states only: those are in memory.
    fn move_states(&mut self, chunk: &mut Chunk, file: FileId) -> Result<(), Failure> {
        chunk.clear();
        let limit = MOVE_MAX.min(self.spares.file_bytes() as usize / 2);
        for (frame, entry) in self.live.states_in(file) {
            if !chunk.is_empty() && chunk.len() + entry.len() > limit {
                break; // The others the next time.
            }
            chunk.push_encoded(frame, entry);
        }
        self.write(chunk, Purpose::Moving)?;
        self.retire();
        Ok(())
    }

    /// When there is no room for another file: empties the oldest one, if that is worth it. What is needed of it fits
    /// into the file that is kept for this.
    ///
    /// # Errors
    /// As [`Files::tidy`].
    pub(super) fn make_room(&mut self, chunk: &mut Chunk) -> Result<(), Failure> {
        self.retire();
        let worth_it = |used: &Used| self.live.records_in(used.id) < self.spares.file_bytes() / 2;
        if self.retired.is_empty() && self.moving.is_none() && self.used.front().is_some_and(worth_it) {
            self.begin_moving()?;
        }
        while self.moving.is_some() {
            self.move_some(chunk)?;
        }
        Ok(())
    }

    fn move_some(&mut self, chunk: &mut Chunk) -> Result<(), Failure> {
        if self.moving.is_none() {
            return Ok(());
        }
        chunk.clear();
        let finished = self.collect_needed(chunk)?;
        if !chunk.is_empty() {
            self.write(chunk, Purpose::Moving)?;
        }
        if finished {
            self.moving.take().into_iter().for_each(|moving| self.live.forget_file(moving.id));
            self.retire();
        }
        Ok(())
    }

    /// Whether [`Files::tidy`] has more to do.
    pub(super) fn is_untidy(&self) -> bool {
        self.moving.is_some() || self.is_too_long()
    }

    /// A journal twice as long as what is needed of it costs at most one move for each append.
    fn is_too_long(&self) -> bool {
        let needed = self.live.records_bytes().div_ceil(self.spares.file_bytes()) as usize;
        let only_states = || self.used.front().is_some_and(|oldest| self.live.records_in(oldest.id) == 0);
        self.used.len() > FILES_MIN + 2 * needed || self.used.len() > FILES_MIN / 2 && only_states()
    }

    /// Begins the list of complete files.
    pub(super) fn list_closed(&mut self) {
        let next = self.used.iter().skip(1).map(|next| next.first_batch);
        *lock(&self.closed) = self.used.iter().cloned().zip(next).collect();
    }

    fn retire(&mut self) {
        while self.used.len() > 1 && self.used.front().is_some_and(|oldest| !self.live.needs_file(oldest.id)) {
            if let Some(oldest) = self.used.pop_front() {
                lock(&self.closed).retain(|(closed, _)| closed.id != oldest.id);
                self.live.forget_file(oldest.id);
                self.moving.take_if(|moving| moving.id == oldest.id);
                self.retired.push((self.next_batch, oldest.file));
            }
        }
    }

    fn release_retired(&mut self) -> Result<(), IoFailure> {
        let durable = self.next_batch - 1;
        let released: Vec<_> = self.retired.extract_if(.., |(batch, _)| *batch <= durable).collect();
        released.into_iter().try_for_each(|(_, file)| self.spares.put(file))
    }

    fn begin_moving(&mut self) -> Result<(), Failure> {
        if self.used.len() > 1
            && let Some(oldest) = self.used.front()
        {
            let bytes = read(oldest, self.spares.file_bytes())?;
            check_bytes(self.journal, oldest, self.used[1].first_batch, &bytes)?;
            self.moving = Some(Moving { id: oldest.id, bytes, at: 0 });
        }
        Ok(())
    }

    /// Puts into `chunk` what is needed of the file that is being emptied; returns whether that was all.
    fn collect_needed(&mut self, chunk: &mut Chunk) -> Result<bool, Failure> {
        let limit = MOVE_MAX.min(self.spares.file_bytes() as usize / 2);
        let Some(moving) = &mut self.moving else { return Ok(true) };
        let end_batch = self.used.get(1).map_or(self.next_batch, |next| next.first_batch);
        while let Some(header) = parse_batch(self.journal, &moving.bytes[moving.at..]) {
            let batch = &moving.bytes[moving.at..moving.at + header.length];
            let needed: Vec<(EntryHeader, &[u8])> =
                frames_of(batch).filter(|(frame, _)| self.live.needs(moving.id, frame)).collect();
            let bytes: usize = needed.iter().map(|(_, entry)| entry.len() + super::format::FRAME_HEADER).sum();
            if !chunk.is_empty() && chunk.len() + bytes > limit {
                return Ok(false);
            }
            needed.into_iter().for_each(|(frame, entry)| chunk.push_encoded(frame, entry));
            moving.at += header.length.next_multiple_of(BLOCK);
            if header.number + 1 >= end_batch {
                break;
            }
        }
        Ok(true)
    }
}

fn read(used: &Used, file_bytes: u64) -> Result<Vec<u8>, IoFailure> {
    read_up_to(&*used.file.file, 0, file_bytes as usize).context(|| format!("read {}", used.file.name))
}

/// Reads a closed file again, and compares every batch from its first to the one before `end_batch` with its checksum.
///
/// # Errors
/// Returns an error if a batch is missing or damaged, or an error of the operating system.
pub(super) fn check(journal: u64, used: &Used, end_batch: u64, file_bytes: u64) -> Result<(), Failure> {
    check_bytes(journal, used, end_batch, &read(used, file_bytes)?)
}

fn check_bytes(journal: u64, used: &Used, end_batch: u64, bytes: &[u8]) -> Result<(), Failure> {
    let mut at = 0;
    for number in used.first_batch..end_batch {
        match parse_batch(journal, bytes.get(at..).unwrap_or_default()) {
            Some(header) if header.number == number => at += header.length.next_multiple_of(BLOCK),
            _ => return Err(Failure::JournalDamaged { file: used.file.name.clone(), offset: at as u64 }),
        }
    }
    Ok(())
}
