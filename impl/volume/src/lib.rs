//! A volume as its user sees it, and the writer behind it.
//!
//! [`Volume`] is what the file system builds on: read a page, write a mini-transaction, wait until it is durable.
//! [`RemoteVolume`] is the real one: a driver with the protocol's writer, connected to six storage processes.
//! [`MemoryVolume`] behaves alike without storage, for tests.
//! [`ReaderVolume`] is what a reader's file system builds on: a view that moves when the reader says so, and no writing.
//! [`RemoteReader`] is the real one.
//!
//! ```text
//!   pagefs ──► Volume (client) ──► Driver<Writer> ──► net (TCP) ──► storage processes
//! ```
//!
//! **What it never does.** It decides nothing that safety rests on: `auriga-protocol` does. Messages may be lost, late
//! or doubled. It keeps nothing on disk.
//!
//! **Where to go next.** `interface.rs` (the trait), `client/` (the real one; `group_commit/` decides when
//! commits are sent; `followers.rs` serves readers), `reader/` (another instance), `memory_volume/`, `pending_reads.rs`.

pub mod client;
mod interface;
mod memory_volume;
mod pending_reads;
pub mod reader;
mod waiters;

pub use client::{
    CreateError, FindError, GroupShown, MemberShown, RemoteVolume, VolumeConfig, VolumeStatus, create_volume,
    find_volume, fresh_volume_id,
};
pub use interface::{Callback, Changes, PageRead, Published, ReaderVolume, Volume, VolumeError};
pub use memory_volume::{MemoryReader, MemoryVolume, MemoryVolumeConfig};
pub use reader::{Heard, RemoteReader, RemoteReaderConfig, RemoteReaderStatus};
