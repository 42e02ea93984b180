//! The bytes of a journal file: batches of frames. Diagrams are in `specs/formats.md`, "On disk".
//!
//! A batch begins on a 4 KiB boundary and is padded to the next: so a block that is durable is never written again
//! until its file is recycled, and no block must be read in order to be written.

use crate::Delta;
use crate::twin::BLOCK;
use auriga_protocol::segment::{Entry, EntryKind};
use auriga_protocol::{AppendId, Lsn, MemberId, PgId, SegmentId, VolumeId};
use std::collections::HashMap;

const MAGIC: [u8; 4] = *b"AUJ3";

/// Bytes before a batch's first frame.
pub(super) const BATCH_HEADER: usize = 40;
/// Where in it the checksum is.
const CHECKSUM_AT: usize = 36;
/// Batches and sequences are numbered below this: what is above no journal reaches, whatever its checksum says.
pub(super) const NUMBER_MAX: u64 = 1 << 62;
/// Bytes before a frame's entry.
pub(super) const FRAME_HEADER: usize = 32;

/// What a frame's entry is, as one byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum FrameKind {
    /// An entry of a segment, which replaces older ones of its kind (but for `Records`).
    Entry(EntryKind),
    /// The store found the segment's log damaged, and no `Amnesia` of the segment followed yet.
    DamageFound,
}

impl FrameKind {
    pub(super) const RECORDS: FrameKind = FrameKind::Entry(EntryKind::Records);
    pub(super) const STANDING: FrameKind = FrameKind::Entry(EntryKind::Standing);

    /// `PeerLoss` of member 0; the other members' follow.
    const PEER_LOSS: u8 = 16;
    /// `PeerLife` of member 0; the other members' follow.
    const PEER_LIFE: u8 = 32;
    /// Members whose kinds these are; those of the others follow at [`FrameKind::LATER`].
    const EARLY: u8 = 16;
    /// `PeerLoss` of member 16, and on to the last member; then `PeerLife`.
    const LATER: u8 = 64;
    /// How many members have kinds there.
    const LATE: u8 = MemberId::MAX.0 + 1 - FrameKind::EARLY;

    fn of_peer(first: u8, later: u8, member: MemberId) -> u8 {
        if member.0 < FrameKind::EARLY { first + member.0 } else { later + (member.0 - FrameKind::EARLY) }
    }

    fn to_byte(self) -> u8 {
        match self {
            FrameKind::Entry(EntryKind::Membership) => 1,
            FrameKind::Entry(EntryKind::Promise) => 2,
            FrameKind::Entry(EntryKind::Install) => 3,
            FrameKind::Entry(EntryKind::Records) => 4,
            FrameKind::Entry(EntryKind::Standing) => 5,
            FrameKind::Entry(EntryKind::Pages) => 6,
            FrameKind::DamageFound => 7,
            FrameKind::Entry(EntryKind::Charter) => 12,
            FrameKind::Entry(EntryKind::Life) => 13,
            FrameKind::Entry(EntryKind::PeerLife(member)) => {
                FrameKind::of_peer(FrameKind::PEER_LIFE, FrameKind::LATER + FrameKind::LATE, member)
            }
            FrameKind::Entry(EntryKind::PeerLoss(member)) => {
                FrameKind::of_peer(FrameKind::PEER_LOSS, FrameKind::LATER, member)
            }
        }
    }

    fn from_byte(byte: u8) -> Option<FrameKind> {
        Some(match byte {
            1 => FrameKind::Entry(EntryKind::Membership),
            2 => FrameKind::Entry(EntryKind::Promise),
            3 => FrameKind::Entry(EntryKind::Install),
            4 => FrameKind::Entry(EntryKind::Records),
            5 => FrameKind::Entry(EntryKind::Standing),
            6 => FrameKind::Entry(EntryKind::Pages),
            7 => FrameKind::DamageFound,
            12 => FrameKind::Entry(EntryKind::Charter),
            13 => FrameKind::Entry(EntryKind::Life),
            16..32 => FrameKind::Entry(EntryKind::PeerLoss(MemberId(byte - FrameKind::PEER_LOSS))),
            32..48 => FrameKind::Entry(EntryKind::PeerLife(MemberId(byte - FrameKind::PEER_LIFE))),
            64..112 => FrameKind::Entry(EntryKind::PeerLoss(MemberId(byte - FrameKind::LATER + FrameKind::EARLY))),
            112..160 => {
                let later = FrameKind::LATER + FrameKind::LATE;
                FrameKind::Entry(EntryKind::PeerLife(MemberId(byte - later + FrameKind::EARLY)))
            }
            _ => return None,
        })
    }
}

/// A frame, without its entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct EntryHeader {
    pub segment: SegmentId,
    pub kind: FrameKind,
    /// Position among all entries of the node. An entry that is appended again keeps it, so that replaying in this
    /// order is replaying in the order of the first appends.
    pub sequence: u64,
    /// The highest LSN of a `Records`; otherwise zero.
    pub lsn: Lsn,
}

/// A batch's place in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BatchHeader {
    /// Header and frames, without padding.
    pub length: usize,
    /// 1, 2, … without gaps.
    pub number: u64,
    /// The oldest batch that was still needed when this one was written.
    pub oldest: u64,
}

/// A batch that is being put together.
#[derive(Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    /// Of `bytes`, header and frames: the rest is padding.
    length: usize,
    frames: u32,
    /// The highest append of each segment.
    pub appends: HashMap<SegmentId, AppendId>,
    /// Bytes of each segment's frames.
    pub weights: HashMap<SegmentId, usize>,
}

impl Chunk {
    /// Whether it has no frame.
    pub(super) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Bytes so far, without padding.
    pub(super) fn len(&self) -> usize {
        self.length.max(BATCH_HEADER)
    }

    /// Bytes that it will take in a file.
    pub(super) fn padded_len(&self) -> usize {
        self.len().next_multiple_of(BLOCK)
    }

    /// Empties it, but keeps its buffer.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.length = 0;
        self.frames = 0;
        self.appends.clear();
        self.weights.clear();
    }

    /// Adds a frame with `entry`, encoded here once and for all.
    pub(super) fn push_entry(&mut self, segment: SegmentId, append: AppendId, sequence: u64, entry: &Entry<Delta>) {
        let lsn = match entry {
            Entry::Records { records, .. } => records.iter().map(|record| record.lsn).max().unwrap_or_default(),
            _ => Lsn::ZERO,
        };
        let frame = EntryHeader { segment, kind: FrameKind::Entry(entry.kind()), sequence, lsn };
        self.push_with(frame, |bytes| {
            postcard::to_extend(entry, bytes).expect("every entry has an encoding: its sequences have known lengths")
        });
        let newest = self.appends.entry(segment).or_default();
        *newest = append.max(*newest);
    }

    /// Adds a frame whose entry is encoded already.
    pub(super) fn push_encoded(&mut self, frame: EntryHeader, entry: &[u8]) {
        self.push_with(frame, |mut bytes| {
            bytes.extend_from_slice(entry);
            bytes
        });
    }

    fn push_with(&mut self, frame: EntryHeader, entry: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        if self.bytes.is_empty() {
            self.bytes.resize(BATCH_HEADER, 0);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&frame.segment.pg.0.to_le_bytes());
        self.bytes.extend_from_slice(&[frame.segment.member.0, frame.kind.to_byte()]);
        self.bytes.extend_from_slice(&frame.segment.volume.0.to_le_bytes());
        self.bytes.extend_from_slice(&frame.sequence.to_le_bytes());
        self.bytes.extend_from_slice(&frame.lsn.0.to_le_bytes());
        self.bytes = entry(std::mem::take(&mut self.bytes));
        let length = self.bytes.len() - start - FRAME_HEADER;
        self.bytes[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
        self.length = self.bytes.len();
        self.frames += 1;
        *self.weights.entry(frame.segment).or_default() += FRAME_HEADER + length;
    }

    /// Completes the batch: header, checksum, padding. The bytes are ready to be written. May be done again.
    pub(super) fn seal(&mut self, journal: u64, number: u64, oldest: u64) -> &[u8] {
        self.bytes.resize(self.len(), 0);
        let total = self.bytes.len() as u32;
        let fields: [&[u8]; 6] = [
            &MAGIC,
            &total.to_le_bytes(),
            &journal.to_le_bytes(),
            &number.to_le_bytes(),
            &oldest.to_le_bytes(),
            &self.frames.to_le_bytes(),
        ];
        self.bytes[..CHECKSUM_AT].copy_from_slice(&fields.concat());
        let checksum = checksum_of(&self.bytes);
        self.bytes[CHECKSUM_AT..BATCH_HEADER].copy_from_slice(&checksum.to_le_bytes());
        self.bytes.resize(self.padded_len(), 0);
        &self.bytes
    }

    /// The frames of a sealed chunk.
    pub(super) fn frames(&self) -> impl Iterator<Item = (EntryHeader, &[u8])> {
        frames_of(&self.bytes[..self.length])
    }
}

/// Reads the batch at the start of `bytes`, which reach to the end of the file. `None`: there is no sound one.
pub(super) fn parse_batch(journal: u64, bytes: &[u8]) -> Option<BatchHeader> {
    let header = bytes.first_chunk::<BATCH_HEADER>()?;
    let length = half(header, 4) as usize;
    let (number, oldest) = (word(header, 16), word(header, 24));
    let ours = header[..4] == MAGIC && word(header, 8) == journal;
    let numbered = oldest <= number && number < NUMBER_MAX;
    if !ours || !numbered || length < BATCH_HEADER || length > bytes.len() {
        return None;
    }
    let batch = &bytes[..length];
    let sound = half(header, CHECKSUM_AT) == checksum_of(batch)
        && frames_of(batch).count() == half(header, 32) as usize
        && frames_of(batch).map(|(_, entry)| FRAME_HEADER + entry.len()).sum::<usize>() == length - BATCH_HEADER;
    sound.then_some(BatchHeader { length, number, oldest })
}

/// The frames of a batch, without its padding. Ends early where the bytes make no sense.
pub(super) fn frames_of(batch: &[u8]) -> impl Iterator<Item = (EntryHeader, &[u8])> {
    let mut rest = batch.get(BATCH_HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<FRAME_HEADER>()?;
        let length = half(header, 0) as usize;
        let entry = rest[FRAME_HEADER..].get(..length)?;
        let frame = EntryHeader {
            segment: SegmentId {
                volume: VolumeId(word(header, 8)),
                pg: PgId(u16::from_le_bytes([header[4], header[5]])),
                member: MemberId(header[6]),
            },
            kind: FrameKind::from_byte(header[7])?,
            sequence: word(header, 16),
            lsn: Lsn(word(header, 24)),
        };
        if frame.sequence >= NUMBER_MAX {
            return None;
        }
        rest = &rest[FRAME_HEADER + length..];
        Some((frame, entry))
    })
}

fn checksum_of(batch: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&batch[..CHECKSUM_AT]), &batch[BATCH_HEADER..])
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from(half(bytes, at)) | u64::from(half(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: SegmentId = SegmentId { volume: VolumeId(3), pg: PgId(2), member: MemberId(1) };

    fn sealed() -> Vec<u8> {
        let mut chunk = Chunk::default();
        chunk.push_entry(SEGMENT, AppendId(5), 8, &Entry::PagesRestored);
        chunk.push_encoded(
            EntryHeader { segment: SEGMENT, kind: FrameKind::DamageFound, sequence: 9, lsn: Lsn(0) },
            &[],
        );
        chunk.seal(77, 4, 2).to_vec()
    }

    #[test]
    fn a_sealed_chunk_parses_as_what_was_put_in() {
        let bytes = sealed();
        let header = parse_batch(77, &bytes).expect("sound");
        assert_eq!((header.number, header.oldest), (4, 2));
        let frames: Vec<_> =
            frames_of(&bytes[..header.length]).map(|(frame, _)| (frame.kind, frame.sequence)).collect();
        assert_eq!(frames, [(FrameKind::Entry(EntryKind::Pages), 8), (FrameKind::DamageFound, 9)]);
        assert_eq!(parse_batch(78, &bytes), None, "another journal's");
    }

    #[test]
    fn every_kind_has_a_byte_of_its_own() {
        let kinds: Vec<_> = (0..=u8::MAX).filter_map(FrameKind::from_byte).collect();
        assert_eq!(kinds.len(), 9 + 64 + 64);
        assert!(kinds.iter().all(|kind| FrameKind::from_byte(kind.to_byte()) == Some(*kind)));
    }

    #[test]
    fn every_flipped_byte_before_the_padding_is_noticed() {
        let bytes = sealed();
        let length = parse_batch(77, &bytes).expect("sound").length;
        for at in 0..length {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(parse_batch(77, &flipped), None, "byte {at}");
            }
        }
    }
}
