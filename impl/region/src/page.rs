//! The pages in which a volume keeps what its region is: byte by byte in `specs/formats.md`, "Region pages".
//!
//! They are those of an inode that no file system names. Block 0 holds the [`Position`], so that it moves with each shipped
//! mini-transaction by a few bytes; the blocks after it hold the [`RegionState`].

use crate::publication::PUBLICATION_INODE;
use auriga_page::{Delta, PAGE_SIZE};
use auriga_protocol::global::{Position, RegionState};
use auriga_protocol::{Change, ControllerId, GlobalEpoch, Lsn, PageId};

/// The inode of these pages: greater than any that a file system numbers.
pub const REGION_INODE: u64 = u64::MAX;

/// Most blocks that a state may take: that of the longest lineage, twice, takes less.
pub const STATE_BLOCKS_MAX: u64 = 64;

const POSITION_MAGIC: [u8; 8] = *b"AURGPOS1";
const STATE_MAGIC: [u8; 8] = *b"AURGSTA1";
const POSITION_BYTES: usize = 36;
const STATE_HEADER: usize = 16;

/// Bytes that are no position or no state.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the region's own pages are damaged, or of a later build: {0}")]
pub struct MalformedState(&'static str);

impl MalformedState {
    pub(crate) const PUBLICATION: MalformedState = MalformedState("a publication with a wrong checksum");
}

/// Whether a page is one of the region's own, and not part of the database.
pub fn is_region_page(page: PageId) -> bool {
    page.inode == REGION_INODE
}

/// Whether a page is part of the database: neither a region's own, nor what its writer publishes.
pub fn is_of_database(page: PageId) -> bool {
    !is_region_page(page) && page.inode != PUBLICATION_INODE
}

/// The page that holds the position.
pub fn position_page() -> PageId {
    PageId { inode: REGION_INODE, block: 0 }
}

/// The page that holds this part of the state, from 0.
pub fn state_page(part: u64) -> PageId {
    PageId { inode: REGION_INODE, block: 1 + part }
}

/// Encodes a position as the first bytes of its page.
pub fn encode_position(position: Position) -> [u8; POSITION_BYTES] {
    let mut bytes = [0; POSITION_BYTES];
    bytes[..8].copy_from_slice(&POSITION_MAGIC);
    bytes[8..16].copy_from_slice(&position.global_epoch.number.to_le_bytes());
    bytes[16..24].copy_from_slice(&position.global_epoch.controller.0.to_le_bytes());
    bytes[24..32].copy_from_slice(&position.lsn.0.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..32]);
    bytes[32..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Decodes the position in a page; `None`: none was ever written.
///
/// # Errors
/// Something else was.
pub fn decode_position(page: &[u8]) -> Result<Option<Position>, MalformedState> {
    let Some(bytes) = page.first_chunk::<POSITION_BYTES>() else { return Ok(None) };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let u64_at = |at: usize| bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
    let sum = bytes[32..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
    if bytes[..8] != POSITION_MAGIC || sum != crc32c::crc32c(&bytes[..32]) {
        return Err(MalformedState("a position with a wrong checksum"));
    }
    let lsn = u64_at(24);
    if lsn > auriga_protocol::limits::LSN_MAX {
        return Err(MalformedState("a position beyond the limit"));
    }
    let global_epoch = GlobalEpoch { number: u64_at(8), controller: ControllerId(u64_at(16)) };
    Ok(Some(Position { global_epoch, lsn: Lsn(lsn) }))
}

/// The change that makes the position another; `None` where it is the same.
pub fn position_change(old: Option<Position>, new: Position) -> Option<Change<Delta>> {
    let before = old.map_or([0; POSITION_BYTES], encode_position);
    let payload = Delta::within(0, &before, &encode_position(new))?;
    Some(Change { page: position_page(), payload })
}

/// Encodes a state, as the pages that hold it one after the other.
pub fn encode_state(state: &RegionState) -> Vec<Vec<u8>> {
    let body = postcard::to_allocvec(state).expect("plain values, of a bounded lineage");
    let mut bytes = STATE_MAGIC.to_vec();
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    let whole = |part: &[u8]| [part, &vec![0; PAGE_SIZE - part.len()]].concat();
    bytes.chunks(PAGE_SIZE).map(whole).collect()
}

/// How many pages a state takes, by its first one; zero: none was ever written.
///
/// # Errors
/// The page holds something else.
pub fn state_pages(first: &[u8]) -> Result<u64, MalformedState> {
    let Some(header) = first.first_chunk::<STATE_HEADER>() else { return Ok(0) };
    if header.iter().all(|byte| *byte == 0) {
        return Ok(0);
    }
    if header[..8] != STATE_MAGIC {
        return Err(MalformedState("no state where one should be"));
    }
    let length = header[8..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
    let pages = (u64::from(length) + STATE_HEADER as u64).div_ceil(PAGE_SIZE as u64);
    if pages > STATE_BLOCKS_MAX { Err(MalformedState("a state that is too long")) } else { Ok(pages) }
}

/// Decodes a state from its pages.
///
/// # Errors
/// They hold something else.
pub fn decode_state(pages: &[Vec<u8>]) -> Result<RegionState, MalformedState> {
    let bytes = pages.concat();
    let short = MalformedState("a state that is cut short");
    let (header, body) = bytes.split_at_checked(STATE_HEADER).ok_or(short.clone())?;
    let u32_at = |at: usize| header[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
    let body = body.get(..u32_at(8) as usize).ok_or(short)?;
    if header[..8] != STATE_MAGIC || u32_at(12) != crc32c::crc32c(body) {
        return Err(MalformedState("a state with a wrong checksum"));
    }
    let (state, rest): (RegionState, &[u8]) =
        postcard::take_from_bytes(body).map_err(|_| MalformedState("a state that does not decode"))?;
    let is_sound = state.lineage.is_sound() && state.adopting.as_ref().is_none_or(|it| it.lineage.is_sound());
    if rest.is_empty() && is_sound { Ok(state) } else { Err(MalformedState("a state of an impossible lineage")) }
}

/// The changes that make a state another. `None`: none was written before.
pub fn state_changes(old: Option<&RegionState>, new: &RegionState) -> Vec<Change<Delta>> {
    let before = old.map(encode_state).unwrap_or_default();
    let after = encode_state(new);
    let parts = before.len().max(after.len());
    let of = |pages: &[Vec<u8>], part: usize| pages.get(part).cloned().unwrap_or_default();
    let change = |part: usize| {
        let payload = Delta::between(&of(&before, part), &of(&after, part))?;
        Some(Change { page: state_page(part as u64), payload })
    };
    (0..parts).filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_page::PageImage;
    use auriga_protocol::global::{Branch, Lineage};
    use auriga_protocol::{Payload, RegionId};
    use std::collections::BTreeMap;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn position(lsn: u64) -> Position {
        Position { global_epoch: GlobalEpoch { number: 2, controller: ControllerId(9) }, lsn: Lsn(lsn) }
    }

    fn long(branches: u64) -> RegionState {
        let add = |lineage: Lineage, number: u64| {
            let global_epoch = GlobalEpoch { number, controller: ControllerId(u64::MAX) };
            lineage.with(Branch { global_epoch, primary: RegionId(u16::MAX), after: Lsn(number << 40) })
        };
        let lineage = (2..=branches).fold(Lineage::created(RegionId(1)), add);
        RegionState { lineage, ..RegionState::created(RegionId(1), RegionId(1)) }
    }

    #[test]
    fn a_position_has_exactly_its_bytes() {
        let bytes = encode_position(position(0x0102));
        assert_eq!(hex(&bytes[..32]), "41555247504f5331020000000000000009000000000000000201000000000000");
        assert_eq!(decode_position(&bytes), Ok(Some(position(0x0102))));
        assert_eq!(decode_position(&[0; PAGE_SIZE]), Ok(None));
        for at in 0..POSITION_BYTES {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert!(decode_position(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_state_has_exactly_its_bytes() {
        let pages = encode_state(&RegionState::created(RegionId(2), RegionId(1)));
        assert_eq!((pages.len(), pages[0].len()), (1, PAGE_SIZE));
        assert_eq!(hex(&pages[0][..8]), "4155524753544131");
        // Length, checksum, region 2, one branch (g1.0, r1, after 0), grant, and nothing else.
        assert_eq!(hex(&pages[0][8..12]), "0e000000");
        assert_eq!(hex(&pages[0][16..30]), "0201010001000000000000000000");
        assert!(pages[0][30..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_longest_lineage_fits_and_reads_back() {
        let state = long(auriga_protocol::global::LINEAGE_MAX as u64);
        let pages = encode_state(&state);
        assert_eq!(state_pages(&pages[0]), Ok(pages.len() as u64));
        assert!((pages.len() as u64) < STATE_BLOCKS_MAX / 2, "{} pages", pages.len());
        assert_eq!(decode_state(&pages), Ok(state));
        let mut damaged = pages;
        damaged[3][77] ^= 1;
        assert!(decode_state(&damaged).is_err());
    }

    #[test]
    fn changes_lead_from_one_state_to_the_next_and_from_one_position_to_the_next() {
        let mut pages: BTreeMap<PageId, PageImage> = BTreeMap::new();
        let mut apply = |changes: Vec<Change<Delta>>| {
            changes.iter().for_each(|change| change.payload.apply(pages.entry(change.page).or_default()));
            let first = pages[&state_page(0)].content().to_vec();
            let count = state_pages(&first).expect("sound");
            let of = |part| pages[&state_page(part)].content().to_vec();
            decode_state(&(0..count).map(of).collect::<Vec<_>>()).expect("sound")
        };
        let (short, long) = (RegionState::created(RegionId(1), RegionId(1)), long(1000));
        assert_eq!(apply(state_changes(None, &short)), short);
        assert_eq!(apply(state_changes(Some(&short), &long)), long);
        assert_eq!(apply(state_changes(Some(&long), &short)), short);
        let mut page = PageImage::default();
        for (old, new) in [(None, position(1)), (Some(position(1)), position(300)), (Some(position(300)), position(2))]
        {
            position_change(old, new).expect("they differ").payload.apply(&mut page);
            assert_eq!(decode_position(page.content()), Ok(Some(new)));
        }
        assert_eq!(position_change(Some(position(2)), position(2)), None);
    }
}
