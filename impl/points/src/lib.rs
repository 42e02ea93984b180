//! A volume as it was at one point of its log: opened, read, and asked for the commits that its WAL holds.
//!
//! ```text
//!   six segments ──► Source ──► Snapshot (one point; writes stay here) ──► PageFs ──► files ──► pg_waldump ──► commits
//!                                   └──► a mount, and PostgreSQL on it
//! ```
//!
//! [`Snapshot`] is a [`Volume`](auriga_volume::Volume): whatever can be done with a volume can be done with one of its
//! points, and nothing of it reaches storage. So PostgreSQL recovers there as after a crash.
//!
//! **What it never does.** It becomes no writer, and fences nobody. It decides nothing about what is durable: a point is at
//! or below a VDL. Of PostgreSQL it reads what has a documented form: the names of WAL segments, what `pg_waldump` prints,
//! and the heap pages of three catalogs, for names that a person understands.
//!
//! **Where to go next.** `snapshot.rs`, `files.rs` (without a kernel), `wal.rs` (commits), `lost.rs` (those of a lost suffix),
//! `names.rs` (of relations).

pub mod clock;
pub mod files;
pub mod lost;
pub mod names;
pub mod snapshot;
pub mod wal;

pub use clock::Stamp;
pub use files::{Files, Unreadable};
pub use snapshot::Snapshot;
pub use wal::{Commit, Relation, WalPosition};
