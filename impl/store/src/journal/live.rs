//! Which journal files are still needed, and by whom.
//!
//! A file is needed by a segment when it holds `Records` above the segment's durable floor, or the newest entry of one
//! of the other kinds. What is kept here is small: a few numbers for each segment and file, and for each segment the few
//! entries that describe its state, so that a file that is needed only for those can be given up without being read.

use super::format::{EntryHeader, FrameKind};
use auriga_protocol::{Lsn, SegmentId};
use std::collections::HashMap;

/// Names a file for as long as the process runs; never given twice.
pub(super) type FileId = u64;

#[derive(Clone, Copy, Default, Debug)]
struct RecordsUse {
    highest: Lsn,
    bytes: u64,
}

#[derive(Clone, Debug)]
struct Newest {
    sequence: u64,
    file: FileId,
    entry: Box<[u8]>,
}

/// Who needs which file.
#[derive(Default)]
pub(super) struct Live {
    floors: HashMap<SegmentId, Lsn>,
    records: HashMap<FileId, HashMap<SegmentId, RecordsUse>>,
    newest: HashMap<(SegmentId, FrameKind), Newest>,
}

impl Live {
    /// `Records` of `segment` at or below `floor` are needed no more.
    pub(super) fn set_floor(&mut self, segment: SegmentId, floor: Lsn) {
        let known = self.floors.entry(segment).or_default();
        *known = floor.max(*known);
    }

    /// `frame` is durable in `file`.
    pub(super) fn note(&mut self, file: FileId, frame: &EntryHeader, entry: &[u8]) {
        if frame.kind == FrameKind::RECORDS {
            let records = self.records.entry(file).or_default().entry(frame.segment).or_default();
            records.highest = frame.lsn.max(records.highest);
            records.bytes += entry.len() as u64;
            return;
        }
        let newest = self.newest.get(&(frame.segment, frame.kind));
        if newest.is_none_or(|newest| frame.sequence >= newest.sequence) {
            let found = Newest { sequence: frame.sequence, file, entry: entry.into() };
            self.newest.insert((frame.segment, frame.kind), found);
        }
    }

    /// What `file` is needed for apart from `Records`.
    pub(super) fn states_in(&self, file: FileId) -> impl Iterator<Item = (EntryHeader, &[u8])> {
        let here = self.newest.iter().filter(move |(_, newest)| newest.file == file);
        here.map(|((segment, kind), newest)| {
            let (segment, kind, sequence) = (*segment, *kind, newest.sequence);
            (EntryHeader { segment, kind, sequence, lsn: Lsn::ZERO }, &*newest.entry)
        })
    }

    /// Whether replaying must still meet the copy of `frame` in `file`.
    pub(super) fn needs(&self, file: FileId, frame: &EntryHeader) -> bool {
        if frame.kind == FrameKind::RECORDS {
            return frame.lsn > self.floor(frame.segment);
        }
        let newest = self.newest.get(&(frame.segment, frame.kind));
        newest.is_some_and(|newest| newest.sequence == frame.sequence && newest.file == file)
    }

    /// Whether `file` holds anything that is needed.
    pub(super) fn needs_file(&self, file: FileId) -> bool {
        self.records_in(file) > 0 || self.newest.values().any(|newest| newest.file == file)
    }

    /// Bytes of needed `Records` in `file`, at most.
    pub(super) fn records_in(&self, file: FileId) -> u64 {
        let Some(records) = self.records.get(&file) else { return 0 };
        let needed = records.iter().filter(|(segment, records)| records.highest > self.floor(**segment));
        needed.map(|(_, records)| records.bytes).sum()
    }

    /// Bytes of needed `Records` in all files, at most.
    pub(super) fn records_bytes(&self) -> u64 {
        self.records.keys().map(|file| self.records_in(*file)).sum()
    }

    /// `file` has been emptied.
    pub(super) fn forget_file(&mut self, file: FileId) {
        self.records.remove(&file);
    }

    fn floor(&self, segment: SegmentId) -> Lsn {
        self.floors.get(&segment).copied().unwrap_or_default()
    }
}
