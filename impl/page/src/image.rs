//! A page's content.

use crate::{MalformedPage, PAGE_SIZE, ZERO_PAGE};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// A page's content: [`PAGE_SIZE`] bytes. The zero page is kept as no bytes at all.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Bytes", into = "Bytes")]
pub struct PageImage(Bytes);

impl PageImage {
    /// A page of `bytes`: exactly [`PAGE_SIZE`], or none for the zero page. Does not copy.
    ///
    /// # Errors
    /// Any other length.
    pub fn new(bytes: Bytes) -> Result<PageImage, MalformedPage> {
        match bytes.len() {
            0 => Ok(PageImage::default()),
            PAGE_SIZE if is_zero(&bytes) => Ok(PageImage::default()),
            PAGE_SIZE => Ok(PageImage(bytes)),
            other => Err(MalformedPage::PageLength(other)),
        }
    }

    /// A page with a copy of `bytes`.
    pub fn copy_from(bytes: &[u8; PAGE_SIZE]) -> PageImage {
        if is_zero(bytes) { PageImage::default() } else { PageImage(Bytes::copy_from_slice(bytes)) }
    }

    /// Whether every byte is zero.
    pub fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// All [`PAGE_SIZE`] bytes.
    pub fn content(&self) -> &[u8] {
        if self.0.is_empty() { &ZERO_PAGE } else { &self.0 }
    }

    /// As stored: [`PAGE_SIZE`] bytes, or none for the zero page.
    pub fn stored(&self) -> &Bytes {
        &self.0
    }

    /// A buffer of [`PAGE_SIZE`] bytes to change in place; copies only when the bytes are shared.
    pub(crate) fn take_mut(&mut self) -> BytesMut {
        match core::mem::take(&mut self.0) {
            bytes if bytes.is_empty() => BytesMut::zeroed(PAGE_SIZE),
            bytes => bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..])),
        }
    }

    /// What [`PageImage::take_mut`] gave, changed. `may_be_zero`: it is to be looked at for that.
    pub(crate) fn changed(bytes: BytesMut, may_be_zero: bool) -> PageImage {
        if may_be_zero && is_zero(&bytes) { PageImage::default() } else { PageImage(bytes.freeze()) }
    }
}

impl TryFrom<Bytes> for PageImage {
    type Error = MalformedPage;

    fn try_from(bytes: Bytes) -> Result<Self, MalformedPage> {
        PageImage::new(bytes)
    }
}

impl From<PageImage> for Bytes {
    fn from(page: PageImage) -> Bytes {
        page.0
    }
}

/// Whether every byte is zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<16>();
    chunks.iter().all(|chunk| u128::from_ne_bytes(*chunk) == 0) && rest.iter().all(|byte| *byte == 0)
}
