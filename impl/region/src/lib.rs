//! A region of a global database as a process: storage ships to storage, and the role moves between regions.
//!
//! ```text
//!   region 1 (primary)                                      region 2 (secondary)
//!   instance ──► six segments ──► Source ──► Region ══ Link ══► Region ──► Disk ──► six segments
//!                (its own LSNs)   durable log, merged            position moves with each mini-transaction
//! ```
//!
//! [`RegionProcess`] runs the protocol's `Region`. Each region keeps what it must know in pages of its own volume
//! ([`page`]), so that the process may die and start anywhere. [`controller`] carries a switchover or a failover out.
//!
//! **What it never does.** It decides nothing that safety rests on: `auriga-protocol` does. Compute takes no part in
//! shipping, and it goes on while no instance runs.
//!
//! **Where to go next.** `process/` (the driver), `disk/` (the region's log in its volume, and adoption), `source.rs`
//! (the durable log, asked of segments) with `merge.rs`, `lost.rs` (what a failover lost), `hold.rs` (what the writer
//! must keep), `publication.rs` (what a secondary's readers are told), `link.rs` (between regions), `port.rs` (what the process answers
//! about itself).

pub mod controller;
pub mod disk;
pub mod hold;
pub mod link;
pub mod lost;
pub mod merge;
pub mod page;
pub mod port;
pub mod process;
pub mod publication;
pub mod source;

pub use disk::{look, state_at, state_of};
pub use link::LinkConfig;
pub use page::REGION_INODE;
pub use process::{RegionConfig, RegionProcess, RegionStatus};
