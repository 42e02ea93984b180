//! A volume as a file system.
//!
//! The volume is a sparse space of 8 KiB pages that only redo records can change. This crate puts files on it, so that an
//! unmodified PostgreSQL can live there: every write becomes a delta against the page that was known last, and fsync
//! returns when VDL has reached it. One operation is one mini-transaction and the log is one order, so what a crash
//! leaves is a prefix of the operations: more than any disk promises.
//!
//! It never decides about quorums, LSNs or recovery (`auriga_volume::Volume` does), and it knows nothing of
//! PostgreSQL.
//!
//! Go on with [`fs`] (the file system, without a kernel), then [`fuse`] (the kernel's requests) and [`mount`]. The
//! bytes on the volume are in [`layout`] and `specs/pagefs-format.md`.

mod cache;
pub mod defect;
pub mod error;
pub mod files;
pub mod fs;
pub mod fuse;
mod inode;
pub mod layout;
mod local;
pub mod mount;
mod readahead;
pub mod reader;
mod workers;

pub use cache::CacheFigures;
pub use error::FsError;
pub use fs::{FsOptions, LoadError, PageFs, mkfs};
pub use mount::{Mount, MountError, MountOptions, enter_private_namespace};
pub use reader::{ReaderFs, ReaderOptions};
