//! The payload of scripts.

use auriga_protocol::Payload;
use serde::{Deserialize, Serialize};

/// A script's payload: a page is the list of marks applied to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Word(pub u32);

impl Payload for Word {
    type Page = Vec<u32>;

    fn apply(&self, page: &mut Vec<u32>) {
        page.push(self.0);
    }

    fn weight(&self) -> usize {
        4
    }
}
