//! A segment on disk.

pub mod delta;
pub use delta::{Delta, PAGE_SIZE, PageImage};
