//! The content of one file: as it reads now, and how to get back to what is durable.

use super::Cut;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What a disk writes at once: a write is torn between these, never within.
const SECTOR: u64 = 512;
/// Bytes of a file that can be unsynchronised. Beyond, the oldest changes are durable, as if written back by the kernel.
const UNSYNCED_BYTES_MAX: usize = 32 << 20;
/// Changes of a file that can be unsynchronised, likewise.
const UNSYNCED_MAX: usize = 4096;

/// A file. The file below always has the newest content; `unsynced` can undo it, newest first.
pub struct Content {
    file: File,
    unsynced: VecDeque<Change>,
    /// Bytes that `unsynced` holds.
    bytes: usize,
    /// Changes so far.
    changes: u64,
    /// Never forgets a change by itself.
    unbounded: bool,
}

struct Change {
    size_before: u64,
    offset: u64,
    /// What was at `offset`, as far as there was anything.
    before: Vec<u8>,
    kind: Kind,
}

enum Kind {
    /// This many bytes were written.
    Write(u64),
    /// `offset` became the size.
    Resize,
}

/// What a power cut does to the changes of one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// All are dropped.
    Dropped,
    /// All are kept.
    Kept,
    /// Each is dropped, kept, or kept in part.
    Mixed,
}

impl Content {
    /// The content of `file`, all of it durable.
    pub fn of(file: File) -> Content {
        Content { file, unsynced: VecDeque::new(), bytes: 0, changes: 0, unbounded: false }
    }

    /// The file below.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// From now on, keeps every change undone until [`Content::cut`].
    pub fn remember_everything(&mut self) {
        self.unbounded = true;
    }

    /// Writes, not durably.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let size_before = self.file.metadata()?.len();
        let before = self.read(offset, bytes.len())?;
        self.file.write_all_at(bytes, offset)?;
        self.note(Change { size_before, offset, before, kind: Kind::Write(bytes.len() as u64) });
        Ok(())
    }

    /// Changes the size, not durably.
    pub fn resize(&mut self, size: u64) -> io::Result<()> {
        let size_before = self.file.metadata()?.len();
        let before = self.read(size, size_before.saturating_sub(size) as usize)?;
        self.file.set_len(size)?;
        self.note(Change { size_before, offset: size, before, kind: Kind::Resize });
        Ok(())
    }

    /// Up to `length` bytes at `offset`.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut read = 0;
        while read < length {
            match self.file.read_at(&mut bytes[read..], offset + read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    /// A mark for [`Content::make_durable`]: changes up to now.
    pub fn mark(&self) -> u64 {
        self.changes
    }

    /// Changes up to `mark` are durable.
    pub fn make_durable(&mut self, mark: u64) {
        while self.changes - (self.unsynced.len() as u64) < mark {
            self.forget_oldest();
        }
    }

    fn note(&mut self, change: Change) {
        self.bytes += change.before.len();
        self.unsynced.push_back(change);
        self.changes += 1;
        while !self.unbounded && (self.unsynced.len() > UNSYNCED_MAX || self.bytes > UNSYNCED_BYTES_MAX) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.unsynced.pop_front();
        self.bytes -= oldest.map_or(0, |change| change.before.len());
    }

    /// Back to what is durable, and of the changes since then, in their order, what `fate` leaves.
    pub fn cut(&mut self, fate: Fate, random: &mut fastrand::Rng, cut: &mut Cut) -> io::Result<()> {
        let mut redo = Vec::new();
        while let Some(change) = self.unsynced.pop_back() {
            let written = match change.kind {
                Kind::Write(length) => self.read(change.offset, length as usize)?,
                Kind::Resize => Vec::new(),
            };
            self.file.set_len(change.size_before)?;
            self.file.write_all_at(&change.before, change.offset)?;
            redo.push((change, written));
        }
        self.bytes = 0;
        for (change, written) in redo.into_iter().rev() {
            let choice = match fate {
                Fate::Dropped => 0,
                Fate::Kept => 1,
                Fate::Mixed => random.u8(0..3),
            };
            match (choice, change.kind) {
                (0, _) => cut.dropped += 1,
                (_, Kind::Resize) => {
                    self.file.set_len(change.offset)?;
                    cut.kept += 1;
                }
                (1, Kind::Write(_)) => {
                    self.file.write_all_at(&written, change.offset)?;
                    cut.kept += 1;
                }
                (_, Kind::Write(_)) => {
                    self.tear(change.offset, &written, random)?;
                    cut.torn += 1;
                }
            }
        }
        Ok(())
    }

    /// Writes some of the sectors.
    fn tear(&self, offset: u64, bytes: &[u8], random: &mut fastrand::Rng) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let to_boundary = SECTOR - (offset + at as u64) % SECTOR;
            let end = bytes.len().min(at + to_boundary as usize);
            if random.bool() {
                self.file.write_all_at(&bytes[at..end], offset + at as u64)?;
            }
            at = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        Content::of(tempfile::tempfile().unwrap())
    }

    fn all(content: &Content) -> Vec<u8> {
        content.read(0, 1 << 20).unwrap()
    }

    fn cut(content: &mut Content, fate: Fate, seed: u64) -> Cut {
        let mut cut = Cut::default();
        content.cut(fate, &mut fastrand::Rng::with_seed(seed), &mut cut).unwrap();
        cut
    }

    #[test]
    fn what_was_synchronised_stays_and_the_rest_goes() {
        let mut content = content();
        content.write(0, b"durable").unwrap();
        content.make_durable(content.mark());
        content.write(3, b"XXXXXXXX").unwrap();
        content.resize(2).unwrap();
        content.write(6, b"end").unwrap();
        assert_eq!(all(&content), b"du\0\0\0\0end");
        assert_eq!(cut(&mut content, Fate::Dropped, 0), Cut { kept: 0, dropped: 3, torn: 0 });
        assert_eq!(all(&content), b"durable");
    }

    #[test]
    fn a_synchronisation_covers_what_was_written_before_it_began() {
        let mut content = content();
        content.write(0, b"aaaa").unwrap();
        let mark = content.mark();
        content.write(2, b"bbbb").unwrap();
        content.make_durable(mark);
        assert_eq!(all(&content), b"aabbbb", "a synchronisation changes nothing that can be read");
        cut(&mut content, Fate::Dropped, 0);
        assert_eq!(all(&content), b"aaaa");
    }

    #[test]
    fn kept_changes_are_as_they_were() {
        let mut content = content();
        content.write(0, b"0123456789").unwrap();
        content.resize(4).unwrap();
        content.write(8, b"ab").unwrap();
        let before = all(&content);
        assert_eq!(cut(&mut content, Fate::Kept, 0).kept, 3);
        assert_eq!(all(&content), before);
    }

    #[test]
    fn a_write_is_torn_at_sectors_only() {
        let mut torn = 0;
        for seed in 0..50 {
            let mut content = content();
            content.write(0, &[1; 2048]).unwrap();
            content.make_durable(content.mark());
            content.write(256, &[2; 1024]).unwrap();
            torn += cut(&mut content, Fate::Mixed, seed).torn;
            let bytes = all(&content);
            for pieces in [0..256, 256..512, 512..1024, 1024..1280, 1280..2048] {
                assert!(bytes[pieces.clone()].iter().all(|byte| *byte == bytes[pieces.start]), "seed {seed}");
            }
        }
        assert!(torn > 5);
    }

    #[test]
    fn memory_is_bounded_and_then_the_oldest_change_is_durable() {
        let mut content = content();
        for number in 0..UNSYNCED_MAX as u64 + 1 {
            content.write(number, &[7]).unwrap();
        }
        assert_eq!(content.unsynced.len(), UNSYNCED_MAX);
        cut(&mut content, Fate::Dropped, 0);
        assert_eq!(all(&content), [7]);
        let piece = vec![1; UNSYNCED_BYTES_MAX / 4 + 1];
        for _ in 0..6 {
            content.write(0, &piece).unwrap();
        }
        assert!(content.bytes <= UNSYNCED_BYTES_MAX);
    }
}
