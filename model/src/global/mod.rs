//! The model of the global database: production regions and controllers, and a world that does its worst.
//!
//! **What is real.** `Region`, `GlobalController`, `GlobalObserver` and `RegionLog` of the protocol crate.
//!
//! **What is abstracted.** A region is one durable log with one end: that its volume keeps what its writer acknowledged
//! is the log-and-recovery model's business. One record stands for one mini-transaction; its payload is a number that no
//! other record has. Reading a region's own log takes no time.
//!
//! **What the world may do.** A message that was sent may arrive at any time from then on, in any order, any number of
//! times, or never: the network only grows. So loss, delay, repetition and partition need no actions of their own. Every
//! region and controller has a disk with what is durable and what is pending; a crash keeps a prefix of what is pending,
//! and the node starts again at once (a node that stays away is one whose turn does not come).
//!
//! **Reductions.** Of the stream between two regions only the newest `Ship` stays in the network; it may still arrive late
//! and again and again. A stream is repeated until it has arrived, and a message carries the whole difference, so an older
//! one says less of the same. `Arrived` is delivered at once: it only tells the primary from where to ship, and a
//! secondary skips what it has. Scopes without crashes have synchronous disks: a slow disk only delays what others see,
//! and so does the network. `tests.rs` compares verdicts with the first two on and off.
//!
//! Next: `world.rs` (nodes and network), `model.rs` (what can happen), `properties.rs` (what must hold), `scopes.rs` (how large), `defects.rs`.

pub mod defects;
mod model;
mod notation;
mod properties;
mod scopes;
mod world;

pub use model::{Action, GlobalModel};
pub use scopes::{Bounds, scopes};
pub use world::World;

#[cfg(test)]
mod tests;
