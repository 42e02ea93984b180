//! A segment on disk.

pub mod delta;
pub use delta::{DELTA_MAX, Delta, MalformedPage, PAGE_SIZE, PageImage};
