//! The smallest payload that tells which records a page holds, and in which order.

use auriga_protocol::Payload;
use serde::{Deserialize, Serialize};

/// A record's mark: the number of its submission, so every record of a run has its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Mark(pub u8);

impl Payload for Mark {
    /// The marks of the records applied, in order.
    type Page = Vec<Mark>;

    fn apply(&self, page: &mut Vec<Mark>) {
        page.push(*self);
    }

    fn weight(&self) -> usize {
        1
    }
}
