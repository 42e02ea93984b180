//! A volume's durable log and pages, kept elsewhere, and a new volume made from them as of an instant.
//!
//! ```text
//!   six segments ──► Source ──► log objects ──┐                     ┌─► the log, up to the instant ─┐
//!                       └─────► base images ──┴─► store ──► restore ┴─► pages of a base ────────────┴─► a new volume
//! ```
//!
//! The writer takes no part: what is backed up is read from segments, whoever writes, and while nobody does. It is only
//! asked to have kept what is not backed up yet, within the bound that any reader has.
//!
//! **What it never does.** It never makes an older database than was asked for: a restore ends with exactly the commits of
//! an instant, or with an error and a volume that nobody can open. It never fills a volume that was ever written.
//!
//! **Where to go next.** `format.rs` (the objects, byte by byte in `specs/formats.md`), `store.rs` (where they are), `take.rs`
//! (the log) with `base.rs` and `retain.rs`, `catalog.rs` (what is there), `restore.rs` with `instant.rs` (where to stop).

mod base;
pub mod catalog;
pub mod format;
mod instant;
pub mod restore;
mod retain;
pub mod store;
pub mod take;

pub use catalog::Catalog;
pub use restore::{Restore, RestoreError, Restored};
pub use store::{Store, StoreError};
pub use take::{BackupConfig, run};
