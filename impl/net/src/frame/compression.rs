//! LZ4 blocks: each frame by itself, so that one that was lost harms no other.
//!
//! LZ4 because it takes a few microseconds for a batch of records, and fewer to undo. What PostgreSQL writes shrinks to
//! about half. Measured in `specs/decisions/0019-records-are-compressed-on-the-wire.md`.

use super::{FRAME_PAYLOAD_MAX, FrameError};
use bytes::Bytes;
use lz4_flex::block;
use serde::{Deserialize, Serialize};

/// Shorter content is sent as it is.
const WORTHWHILE: usize = 256;

/// What compression adds to the block: two lengths.
const OVERHEAD: usize = 8;

/// As it travels: postcard of this.
#[derive(Serialize, Deserialize)]
pub(super) struct Compressed {
    /// Bytes of the content.
    length: u32,
    /// The content as an LZ4 block.
    block: Bytes,
}

/// The content compressed, where that makes it shorter.
pub(super) fn compress(content: &[u8]) -> Option<Compressed> {
    if content.len() < WORTHWHILE {
        return None;
    }
    let block = block::compress(content);
    let is_shorter = block.len() + OVERHEAD < content.len();
    is_shorter.then(|| Compressed { length: content.len() as u32, block: block.into() })
}

impl Compressed {
    /// The content.
    pub fn decompress(&self) -> Result<Vec<u8>, FrameError> {
        let length = self.length as usize;
        // Before anything is allocated: a short block can claim any length.
        if length > FRAME_PAYLOAD_MAX {
            return Err(FrameError::TooLarge { length });
        }
        match block::decompress(&self.block, length) {
            Ok(content) if content.len() == length => Ok(content),
            Ok(_) => Err(FrameError::Malformed("a block that is shorter than it says")),
            Err(_) => Err(FrameError::Malformed("no LZ4 block")),
        }
    }
}
