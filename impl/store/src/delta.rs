//! What production records carry: byte deltas of 8 KiB pages.

use auriga_protocol::Payload;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes in a page.
pub const PAGE_SIZE: usize = 8192;

/// A page's content: exactly [`PAGE_SIZE`] bytes, or empty, which means all zeros.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct PageImage(pub Bytes);

/// A change of a page. The byte format is in `specs/formats.md`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Delta(Bytes);

impl Delta {
    /// The delta that turns `old` into `new`; `None` when they are equal. Empty slices are zero pages.
    pub fn between(old: &[u8], new: &[u8]) -> Option<Delta> {
        let _ = (old, new);
        unimplemented!("the store helper writes this first")
    }

    /// The delta that makes any page all zeros. Storage forgets such a page when it coalesces.
    pub fn zero() -> Delta {
        unimplemented!()
    }

    /// Size as sent, in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing changes (never made by [`Delta::between`]).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Payload for Delta {
    type Page = PageImage;

    fn apply(&self, _page: &mut PageImage) {
        unimplemented!()
    }

    fn weight(&self) -> usize {
        self.0.len()
    }
}
