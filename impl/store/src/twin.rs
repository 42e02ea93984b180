//! A small value in two copies, each in a 4 KiB block of its own with a checksum.
//!
//! One flipped byte, or one write torn by a power cut, leaves the other copy. Who writes both copies, with a
//! synchronisation after each, never falls back to an older value that way: when just one copy is readable, either
//! both held the same, or the other one was being written and its value was not yet promised to anyone.

use crate::disk::{File, read_up_to};
use std::io;

/// Bytes in a block: what disks and file systems write at once.
pub(crate) const BLOCK: usize = 4096;

/// Magic, checksum, counter, length.
const HEADER: usize = 4 + 4 + 8 + 4;

/// Most bytes of a value.
pub(crate) const VALUE_MAX: usize = BLOCK - HEADER;

/// A block that holds `value`.
///
/// # Panics
/// When it is longer than [`VALUE_MAX`].
pub(crate) fn encode(magic: [u8; 4], counter: u64, value: &[u8]) -> Vec<u8> {
    assert!(value.len() <= VALUE_MAX, "a value of {} bytes does not fit in a block", value.len());
    let mut block = Vec::with_capacity(BLOCK);
    block.extend_from_slice(&magic);
    block.extend_from_slice(&[0; 4]);
    block.extend_from_slice(&counter.to_le_bytes());
    block.extend_from_slice(&(value.len() as u32).to_le_bytes());
    block.extend_from_slice(value);
    block.resize(BLOCK, 0);
    let checksum = checksum_of(&block);
    block[4..8].copy_from_slice(&checksum.to_le_bytes());
    block
}

/// The counter and the value of a sound block.
pub(crate) fn decode(magic: [u8; 4], block: &[u8]) -> Option<(u64, &[u8])> {
    let block = block.first_chunk::<BLOCK>()?;
    if block[..4] != magic || block[4..8] != checksum_of(block).to_le_bytes() {
        return None;
    }
    let counter = u64::from_le_bytes(*block[8..].first_chunk()?);
    let length = u32::from_le_bytes(*block[16..].first_chunk()?) as usize;
    Some((counter, block[HEADER..].get(..length)?))
}

/// The readable value with the highest counter, of the file's first two blocks.
///
/// # Errors
/// Returns the operating system's error.
pub(crate) fn read(file: &dyn File, magic: [u8; 4]) -> io::Result<Option<(u64, Vec<u8>)>> {
    let bytes = read_up_to(file, 0, 2 * BLOCK)?;
    let copies = bytes.chunks(BLOCK).filter_map(|block| decode(magic, block));
    Ok(copies.max_by_key(|(counter, _)| *counter).map(|(counter, value)| (counter, value.to_vec())))
}

/// The magic of the file's first sound block, whatever it is: what the file is of, where it is not what was expected.
///
/// # Errors
/// Returns the operating system's error.
pub(crate) fn magic_of(file: &dyn File) -> io::Result<Option<[u8; 4]>> {
    let bytes = read_up_to(file, 0, 2 * BLOCK)?;
    let magic = |block: &[u8]| block.first_chunk().copied().filter(|magic| decode(*magic, block).is_some());
    Ok(bytes.chunks(BLOCK).find_map(magic))
}

/// [`read`], of a file that no thread is about to write: a copy that can't be read is replaced by the other one.
///
/// # Errors
/// Returns the operating system's error.
pub(crate) fn read_and_repair(file: &dyn File, magic: [u8; 4]) -> io::Result<Option<(u64, Vec<u8>)>> {
    let found = read(file, magic)?;
    if let Some((counter, value)) = &found {
        let bytes = read_up_to(file, 0, 2 * BLOCK)?;
        let sound = bytes.chunks(BLOCK).filter(|block| decode(magic, block).is_some()).count();
        if sound < 2 {
            tracing::warn!(magic = %magic.escape_ascii(), "one of two copies was damaged, and is written again");
            write_both(file, magic, *counter, value)?;
        }
    }
    Ok(found)
}

/// Writes both copies, one after the other, each durable before the next begins.
///
/// # Errors
/// Returns the operating system's error.
pub(crate) fn write_both(file: &dyn File, magic: [u8; 4], counter: u64, value: &[u8]) -> io::Result<()> {
    let block = encode(magic, counter, value);
    for copy in 0..2 {
        file.write_at(&block, copy * BLOCK as u64)?;
        file.sync()?;
    }
    Ok(())
}

fn checksum_of(block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block[..4]), &block[8..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_is_noticed() {
        let block = encode(*b"TEST", 7, b"value");
        assert_eq!(decode(*b"TEST", &block), Some((7, &b"value"[..])));
        assert_eq!(decode(*b"ELSE", &block), None);
        for at in 0..BLOCK {
            let mut flipped = block.clone();
            flipped[at] ^= 0x40;
            assert_eq!(decode(*b"TEST", &flipped), None, "byte {at}");
        }
    }
}
