//! Pages and their changes: what redo records carry, on the wire, on disk, and in every reader's memory.
//!
//! A [`Delta`] is a change of an 8 KiB page, as bytes. A [`PageImage`] is the page itself. [`Delta`] implements the
//! protocol's [`Payload`](auriga_protocol::Payload), so the state machines carry it without looking into it.
//!
//! **What it never does.** It knows no disk, no network, and no operating system: the crate is `no_std`.
//!
//! **Where to go next.** `delta/` (the shapes, and which one is chosen), `packed.rs` (the longer ones,
//! packed), `image.rs` (a page that costs nothing
//! while it is all zeros), `serial.rs` (bytes are checked when they are read). The bytes are specified in
//! `specs/formats.md`, "Delta".

#![no_std]

extern crate alloc;

mod delta;
mod image;
mod packed;
mod serial;

pub use delta::{DELTA_MAX, Delta};
pub use image::PageImage;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 8192;

static ZERO_PAGE: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// Bytes that are no page or no delta.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MalformedPage {
    /// Neither empty nor [`PAGE_SIZE`] long.
    #[error("a page of {0} bytes (a page has 8192, or none)")]
    PageLength(usize),
    /// The shape is unknown, or the length does not fit it.
    #[error("a delta of unknown shape ({0} bytes)")]
    DeltaShape(usize),
    /// A packed delta does not unpack to one that is worth packing.
    #[error("a packed delta that is none ({0} bytes)")]
    Packed(usize),
    /// A patch is empty, leaves the page, or begins before the last one ended.
    #[error("a delta with a patch out of place (at byte {0})")]
    Patch(usize),
}
