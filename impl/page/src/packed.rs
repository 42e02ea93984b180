//! Deltas packed with LZ4: made once by the writer of a page, and unpacked by every process that applies the change.
//!
//! Between the two the bytes are sent to six, written to six journals, and kept in memory until they are coalesced. All
//! of that costs as much as they are long, and pages that a load fills shrink to a fraction.

use crate::DELTA_MAX;
use alloc::vec::Vec;
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

/// Bytes before the block: the tag, and how long the packed delta is, 16 bits.
pub(crate) const PACKED_HEADER: usize = 3;

/// Shorter deltas are not packed: a commit's are, and the message that carries them is compressed as a whole.
const WORTHWHILE: usize = 1024;

/// A delta as it was before it was packed.
pub(crate) struct Unpacked {
    bytes: [u8; DELTA_MAX],
    length: usize,
}

impl Unpacked {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// `bytes` behind `tag` and their length, where that saves an eighth.
pub(crate) fn pack(tag: u8, bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() < WORTHWHILE || bytes.len() > DELTA_MAX {
        return None;
    }
    let mut packed = [0; PACKED_HEADER + get_maximum_output_size(DELTA_MAX)];
    packed[0] = tag;
    packed[1..PACKED_HEADER].copy_from_slice(&(bytes.len() as u16).to_le_bytes());
    let block = compress_into(bytes, &mut packed[PACKED_HEADER..]).ok()?;
    let length = PACKED_HEADER + block;
    (length <= bytes.len() - bytes.len() / 8).then(|| packed[..length].to_vec())
}

/// Undoes [`pack`]; `None`: these bytes did not come from it.
pub(crate) fn unpack(packed: &[u8]) -> Option<Unpacked> {
    let (header, block) = packed.split_first_chunk::<PACKED_HEADER>()?;
    let length = usize::from(u16::from_le_bytes([header[1], header[2]]));
    let mut unpacked = Unpacked { bytes: [0; DELTA_MAX], length };
    let room = unpacked.bytes.get_mut(..length)?;
    (decompress_into(block, room).ok()? == length).then_some(unpacked)
}
