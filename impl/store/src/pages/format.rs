//! The bytes of a page file. Diagrams are in `specs/formats.md`, "On disk".
//!
//! Two superblocks, then groups: a block with 64 slot headers of 64 bytes, then 64 slots of 8 KiB. All contents are
//! aligned to blocks, and all headers of a store of 100 000 pages are 6 MiB to read at the start.

use crate::PAGE_SIZE;
use crate::twin::BLOCK;
use auriga_protocol::{Charter, Lsn, Membership, PageId, SegmentId};
use serde::{Deserialize, Serialize};

pub(super) const SUPERBLOCK_MAGIC: [u8; 4] = *b"AUP3";
const SLOT_MAGIC: [u8; 4] = *b"AUS1";

/// Bytes of a slot's header.
pub(super) const SLOT_HEADER: usize = 64;
/// Slots in a group.
pub(super) const GROUP_SLOTS: u32 = (BLOCK / SLOT_HEADER) as u32;
/// Bytes of a group: a block of headers and the slots.
pub(super) const GROUP_BYTES: u64 = BLOCK as u64 + GROUP_SLOTS as u64 * PAGE_SIZE as u64;
/// Where the first group begins.
pub(super) const GROUPS_AT: u64 = 2 * BLOCK as u64;

/// Where in the file the slot's header is.
pub(super) fn header_at(slot: u32) -> u64 {
    group_at(slot / GROUP_SLOTS) + u64::from(slot % GROUP_SLOTS) * SLOT_HEADER as u64
}

/// Where in the file the slot's content is.
pub(super) fn content_at(slot: u32) -> u64 {
    group_at(slot / GROUP_SLOTS) + BLOCK as u64 + u64::from(slot % GROUP_SLOTS) * PAGE_SIZE as u64
}

/// Where in the file the group begins.
pub(super) fn group_at(group: u32) -> u64 {
    GROUPS_AT + u64::from(group) * GROUP_BYTES
}

/// What is true of a page file as a whole. Writing it is what commits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Superblock {
    pub segment: SegmentId,
    /// The membership with which the segment was created. One that is not its group's first follows the superblock, whole.
    #[serde(with = "auriga_protocol::membership::as_first")]
    pub membership: Membership,
    /// What its volume was made as.
    pub charter: Charter,
    /// It was made when its volume existed already: it forgot everything, until its journal says that it knows so.
    pub joins: bool,
    /// Slots of this generation or an older one are committed.
    pub generation: u64,
    pub floor: Lsn,
    /// No page is newer than this or the floor.
    pub ceiling: Lsn,
    /// All pages were lost once, and have not all come back.
    pub lost: bool,
    pub index: IndexSum,
}

impl Superblock {
    /// The bytes that stand for it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = postcard::to_allocvec(self).expect("plain data has an encoding");
        if !self.membership.is_first() {
            bytes.extend(postcard::to_allocvec(&self.membership).expect("plain data has an encoding"));
        }
        bytes
    }

    /// What the bytes stand for; `None`: they are none of a superblock.
    pub(super) fn decode(bytes: &[u8]) -> Option<Superblock> {
        let (superblock, rest) = postcard::take_from_bytes::<Superblock>(bytes).ok()?;
        match rest {
            [] => Some(superblock),
            rest => Some(Superblock { membership: postcard::from_bytes(rest).ok()?, ..superblock }),
        }
    }
}

/// Stands for the whole index: which page is in which slot, with which checksum. An index rebuilt from headers is right
/// when it has the same sum, and only then.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(super) struct IndexSum {
    pub pages: u64,
    sum: u64,
}

impl IndexSum {
    pub(super) fn add(&mut self, page: PageId, place: Place) {
        self.pages = self.pages.wrapping_add(1);
        self.sum = self.sum.wrapping_add(mixed(page, place));
    }

    pub(super) fn remove(&mut self, page: PageId, place: Place) {
        self.pages = self.pages.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(mixed(page, place));
    }
}

fn mixed(page: PageId, place: Place) -> u64 {
    let rest = u64::from(place.slot) << 32 | u64::from(place.checksum);
    [page.inode, page.block, rest].into_iter().fold(0x9E37_79B9_7F4A_7C15, |state, word| {
        let state = (state ^ word).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (state ^ state >> 31).wrapping_mul(0x94D0_49BB_1331_11EB) ^ state >> 29
    })
}

/// Where a page is. The header's checksum covers the content's, so this is enough to know the page's every bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub slot: u32,
    /// The checksum in the slot's header, as it is while the page is there.
    pub checksum: u32,
}

/// A slot's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SlotHeader {
    pub page: PageId,
    pub version: Lsn,
    /// The commit to which the slot belongs.
    pub generation: u64,
    pub slot: u32,
    /// CRC-32C of the content.
    pub content: u32,
    /// The commit by which the page is gone; zero: it is not.
    pub gone: u64,
}

impl SlotHeader {
    /// Where the header's page is, gone or not: a page's place stays what it was until a commit has taken it away.
    pub(super) fn place(&self) -> Place {
        Place { slot: self.slot, checksum: SlotHeader { gone: 0, ..*self }.encode().1 }
    }

    /// The header's bytes and its checksum.
    pub(super) fn encode(&self) -> ([u8; SLOT_HEADER], u32) {
        let mut bytes = [0; SLOT_HEADER];
        bytes[..4].copy_from_slice(&SLOT_MAGIC);
        bytes[8..16].copy_from_slice(&self.page.inode.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.page.block.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.version.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.generation.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.slot.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.content.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.gone.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        (bytes, checksum)
    }

    /// The header of `slot`; `None` when it isn't sound.
    pub(super) fn decode(slot: u32, bytes: &[u8]) -> Option<SlotHeader> {
        let bytes = bytes.first_chunk::<SLOT_HEADER>()?;
        let half = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let word = |at: usize| u64::from(half(at)) | u64::from(half(at + 4)) << 32;
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        let sound = bytes[..4] == SLOT_MAGIC && half(40) == slot && half(CHECKSUM_AT) == checksum;
        let header = SlotHeader {
            page: PageId { inode: word(8), block: word(16) },
            version: Lsn(word(24)),
            generation: word(32),
            slot,
            content: half(44),
            gone: word(48),
        };
        sound.then_some(header)
    }
}

const CHECKSUM_AT: usize = SLOT_HEADER - 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let page = PageId { inode: 3, block: 4 };
        let header = SlotHeader { page, version: Lsn(5), generation: 6, slot: 7, content: 8, gone: 9 };
        let (bytes, _) = header.encode();
        assert_eq!(SlotHeader::decode(7, &bytes), Some(header));
        assert_eq!(SlotHeader { gone: 0, ..header }.place(), header.place());
        assert_eq!(SlotHeader::decode(8, &bytes), None, "it was written to another slot");
        for bit in 0..8 * SLOT_HEADER {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SlotHeader::decode(7, &flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn slots_do_not_overlap() {
        for slot in 0..3 * GROUP_SLOTS {
            assert_eq!(content_at(slot) % BLOCK as u64, 0);
            let next = slot + 1;
            let same_group = slot / GROUP_SLOTS == next / GROUP_SLOTS;
            let end = content_at(slot) + PAGE_SIZE as u64;
            assert!(if same_group { end == content_at(next) } else { end == group_at(next / GROUP_SLOTS) });
            assert!(header_at(slot) + SLOT_HEADER as u64 <= content_at(slot / GROUP_SLOTS * GROUP_SLOTS));
        }
    }
}
