//! The segments of one storage node on disk.
//!
//! **What it is for.** It makes a segment's log durable, keeps its base pages, and says honestly after a crash what
//! survived. It runs the appends and tasks that the [protocol](auriga_protocol)'s segment machine asks for, on plain
//! threads, and reports when they are done.
//!
//! **What it never does.** It decides nothing about the protocol, and knows no network. It never reports durable what
//! the disk has not confirmed. It never hands out a byte that it can't vouch for: damage is found by checksums and
//! reported (`Survived::damaged`, `PagesLost`, `Damaged`), and peers heal it. After a failed write or synchronisation
//! it never goes on.
//!
//! **On disk** (`specs/formats.md`): `node` says whose directory it is; `journal/` is the one log of all segments;
//! `pages/` has a file of base pages for each segment, which also says that the segment exists.
//!
//! **Where to go next.** [`Store`] and [`StoreEvents`] (`store.rs`); `journal/` (group commit, recycling, torn tails and
//! damage); `pages/` (copy-on-write slots, what was lost); `watch.rs` and `space.rs` (full disks); [`disk`] (what is
//! asked of the operating system). What records carry is in `auriga-page`.

pub mod disk;
mod error;
mod identity;
mod journal;
mod options;
mod pages;
mod space;
mod store;
#[cfg(test)]
mod tests;
mod twin;
mod watch;

pub use error::{CreateError, Failure, IoFailure, OpenError};
pub use options::StoreOptions;
pub use store::{Store, StoreEvents, StoreStatus};

use auriga_page::{Delta, PAGE_SIZE, PageImage};
