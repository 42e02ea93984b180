//! What production records carry: byte deltas of 8 KiB pages.
//!
//! A [`Delta`] is bytes in one of three shapes (`specs/formats.md`, "Delta"): patches over the page as it was, patches
//! over zeros, or a full image. [`Delta::between`] picks the smallest, and packs it if it is long. A page is a [`PageImage`]: 8192 bytes, or
//! nothing at all when every byte is zero, so that pages that were never written cost nothing.
//!
//! Both types check their bytes when they are made, also when they come from the network or a disk. So applying a
//! delta to a page always works, and needs no error path.

use crate::image::is_zero;
use crate::packed::{pack, unpack};
use crate::{MalformedPage, PAGE_SIZE, PageImage, ZERO_PAGE};
use alloc::sync::Arc;
use alloc::vec::Vec;
use auriga_protocol::Payload;
use bytes::Bytes;

/// Patches over the page's former content; at least one.
const PATCHES: u8 = 0;
/// Patches over zeros; none makes the zero page.
const OVER_ZERO: u8 = 1;
/// The whole page, literally.
const FULL: u8 = 2;
/// Any of the others that sets a byte which is not zero, packed.
const PACKED: u8 = 3;

/// A patch's offset and length, 16 bits each.
const PATCH_HEADER: usize = 4;

/// No delta is longer: a tag and a page.
pub const DELTA_MAX: usize = 1 + PAGE_SIZE;

/// Below this size a delta over the old content is good enough to not look for a smaller one over zeros.
const SMALL: usize = 1024;

/// A change of a page. Clones share the bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Delta(pub(crate) Arc<[u8]>);

impl Delta {
    /// The delta that turns `old` into `new`; `None` when they are equal. Empty slices are zero pages.
    ///
    /// # Panics
    /// When a slice is neither empty nor [`PAGE_SIZE`] long.
    pub fn between(old: &[u8], new: &[u8]) -> Option<Delta> {
        // Over a page that was never written both shapes are the same patches: one pass finds them.
        if old.is_empty() {
            return (!is_zero(new)).then(|| Delta::full(new));
        }
        let (old, new) = (whole(old), whole(new));
        let patches = patches(PATCHES, old, new);
        match patches.len() {
            1 => None,
            small if small <= SMALL => Some(Delta(patches.into())),
            _ => {
                let full = whole_page(new);
                Some(Delta::pack(if full.len() < patches.len() { full } else { patches }))
            }
        }
    }

    /// The delta of these bytes, packed if that makes them much shorter.
    fn pack(bytes: Vec<u8>) -> Delta {
        match pack(PACKED, &bytes) {
            Some(packed) if !may_clear(&bytes) => Delta(packed.into()),
            _ => Delta(bytes.into()),
        }
    }

    /// The delta that turns the bytes at `offset` from `old` into `new` and touches none outside of them, so that it
    /// commutes with every delta of other bytes of the page; `None` when they are equal.
    ///
    /// # Panics
    /// When the slices differ in length, leave the page, or are (nearly) a whole page.
    pub fn within(offset: usize, old: &[u8], new: &[u8]) -> Option<Delta> {
        assert!(
            old.len() == new.len() && offset + new.len() <= PAGE_SIZE && new.len() <= PAGE_SIZE - PATCH_HEADER,
            "{} bytes at {offset}",
            new.len()
        );
        let first = old.iter().zip(new).position(|(old, new)| old != new)?;
        let last = old.iter().zip(new).rposition(|(old, new)| old != new)?;
        let patch = &new[first..=last];
        let mut bytes = Vec::with_capacity(1 + PATCH_HEADER + patch.len());
        bytes.push(PATCHES);
        bytes.extend_from_slice(&((offset + first) as u16).to_le_bytes());
        bytes.extend_from_slice(&(patch.len() as u16).to_le_bytes());
        bytes.extend_from_slice(patch);
        debug_assert!(check(&bytes).is_ok());
        Some(Delta(bytes.into()))
    }

    /// The delta that makes any page `new`, whatever it was. An empty slice is the zero page.
    ///
    /// # Panics
    /// When the slice is neither empty nor [`PAGE_SIZE`] long.
    pub fn full(new: &[u8]) -> Delta {
        Delta::pack(whole_page(whole(new)))
    }

    /// The delta that makes any page all zeros. Storage forgets such a page when it coalesces.
    pub fn zero() -> Delta {
        Delta([OVER_ZERO].into())
    }

    /// Takes bytes that claim to be a delta.
    ///
    /// # Errors
    /// When they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Delta, MalformedPage> {
        check(bytes)?;
        Ok(Delta(bytes.into()))
    }

    /// Whether its bytes are packed: to compress them once more gains nothing.
    pub fn is_packed(&self) -> bool {
        self.0[0] == PACKED
    }

    /// Size as sent, in bytes: 1 to [`DELTA_MAX`].
    #[expect(clippy::len_without_is_empty, reason = "a delta always has its tag")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Payload for Delta {
    type Page = PageImage;

    fn apply(&self, page: &mut PageImage) {
        match self.0[0] {
            PACKED => apply(unpack(&self.0).expect("unpacked when this delta was made").bytes(), page),
            _ => apply(&self.0, page),
        }
    }

    fn weight(&self) -> usize {
        self.0.len()
    }

    /// Every byte that it sets is zero.
    fn may_clear(&self) -> bool {
        self.0[0] != PACKED && may_clear(&self.0)
    }
}

/// Applies a delta that is not packed.
fn apply(bytes: &[u8], page: &mut PageImage) {
    let (tag, body) = (bytes[0], &bytes[1..]);
    match tag {
        FULL => {
            let content = Bytes::copy_from_slice(body);
            *page = PageImage::new(content).expect("the length was checked when this delta was made");
        }
        OVER_ZERO if body.is_empty() => *page = PageImage::default(),
        _ => {
            if tag == OVER_ZERO {
                *page = PageImage::default();
            }
            let mut bytes = page.take_mut();
            let mut may_be_zero = true;
            for (offset, patch) in patches_of(body) {
                bytes[offset..offset + patch.len()].copy_from_slice(patch);
                may_be_zero &= is_zero(patch);
            }
            // To look at what was written takes less than to look at the whole page.
            *page = PageImage::changed(bytes, may_be_zero);
        }
    }
}

/// Whether every byte that a delta sets, which is not packed, is zero.
fn may_clear(bytes: &[u8]) -> bool {
    let (tag, body) = (bytes[0], &bytes[1..]);
    match tag {
        FULL => is_zero(body),
        _ => patches_of(body).all(|(_, patch)| is_zero(patch)),
    }
}

fn whole(page: &[u8]) -> &[u8] {
    assert!(page.is_empty() || page.len() == PAGE_SIZE, "a page of {} bytes", page.len());
    if page.is_empty() { &ZERO_PAGE } else { page }
}

/// What makes any page `new`, [`PAGE_SIZE`] long.
fn whole_page(new: &[u8]) -> Vec<u8> {
    let mut bytes = patches(OVER_ZERO, &ZERO_PAGE, new);
    if bytes.len() > DELTA_MAX {
        bytes.clear();
        bytes.push(FULL);
        bytes.extend_from_slice(new);
    }
    bytes
}

/// `tag` and the patches that turn `old` into `new`, both [`PAGE_SIZE`] long.
fn patches(tag: u8, old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.push(tag);
    let mut push = |start: usize, end: usize| {
        out.extend_from_slice(&(start as u16).to_le_bytes());
        out.extend_from_slice(&((end - start) as u16).to_le_bytes());
        out.extend_from_slice(&new[start..end]);
    };
    // Runs are found word by word. An equal word ends a run: so a run never holds 15 or more equal bytes in a row, and
    // two runs are at least 8 bytes apart, which is what makes a second header worth its 4 bytes.
    let mut run: Option<(usize, usize)> = None;
    const BLOCK: usize = 64;
    for block in (0..PAGE_SIZE).step_by(BLOCK) {
        if old[block..block + BLOCK] == new[block..block + BLOCK] {
            run.take().into_iter().for_each(|(start, end)| push(start, end));
            continue;
        }
        for at in (block..block + BLOCK).step_by(8) {
            let differs = word(old, at) ^ word(new, at);
            if differs == 0 {
                run.take().into_iter().for_each(|(start, end)| push(start, end));
                continue;
            }
            let first = at + differs.trailing_zeros() as usize / 8;
            let end = at + 8 - differs.leading_zeros() as usize / 8;
            run = Some((run.map_or(first, |(start, _)| start), end));
        }
    }
    run.take().into_iter().for_each(|(start, end)| push(start, end));
    out
}

fn word(page: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&page[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// The patches of a body that was checked.
fn patches_of(mut body: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    core::iter::from_fn(move || {
        let (header, rest) = body.split_first_chunk::<PATCH_HEADER>()?;
        let (offset, len) = patch_header(header);
        let (patch, rest) = rest.split_at(len);
        body = rest;
        Some((offset, patch))
    })
}

fn patch_header(header: &[u8; PATCH_HEADER]) -> (usize, usize) {
    let half = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    (half(0), half(2))
}

fn check(bytes: &[u8]) -> Result<(), MalformedPage> {
    let shape = Err(MalformedPage::DeltaShape(bytes.len()));
    let Some((tag, mut body)) = bytes.split_first() else { return shape };
    match *tag {
        FULL if body.len() == PAGE_SIZE => return Ok(()),
        PACKED if bytes.len() <= DELTA_MAX => {
            let malformed = Err(MalformedPage::Packed(bytes.len()));
            let Some(unpacked) = unpack(bytes) else { return malformed };
            let is_plain = unpacked.bytes().first().is_some_and(|tag| *tag != PACKED);
            return match is_plain && check(unpacked.bytes()).is_ok() && !may_clear(unpacked.bytes()) {
                true => Ok(()),
                false => malformed,
            };
        }
        PATCHES if body.is_empty() => return shape,
        PATCHES | OVER_ZERO if bytes.len() <= DELTA_MAX => {}
        _ => return shape,
    }
    let mut page_end = 0;
    while !body.is_empty() {
        let malformed = MalformedPage::Patch(bytes.len() - body.len());
        let (header, rest) = body.split_first_chunk::<PATCH_HEADER>().ok_or(malformed)?;
        let (offset, len) = patch_header(header);
        if len == 0 || offset < page_end || offset + len > PAGE_SIZE || len > rest.len() {
            return Err(malformed);
        }
        page_end = offset + len;
        body = &rest[len..];
    }
    Ok(())
}

#[cfg(test)]
mod tests;
