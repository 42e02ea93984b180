//! stateright models over Auriga's production state machines.
//!
//! Nothing of the protocol is written here a second time. A model is a *world* round the real [`auriga_protocol`]
//! machines: a network that loses, repeats and reorders; disks that are parties of their own (what was started is
//! pending, what survived is durable); crashes of segments and whole Availability Zones; several writers. The checker
//! tries every order of everything within a *scope*, and the protocol's own observer judges what it sees.
//!
//! Reading order: `world.rs` (what a state is), `node.rs` (disks), `volume.rs` (what can happen), `invariants.rs` (what is
//! checked), `reductions.rs` (what is left out, and why), then the scopes: `log_recovery.rs`, `reads.rs`, `readers.rs`, `promotion.rs`,
//! `global/`; and `defects.rs` (the proof that the checks can fail). `checking.rs` and `registry.rs` run it all.
#![forbid(unsafe_code)]

pub mod canon;
pub mod checking;
pub mod defects;
pub mod global;
pub mod invariants;
pub mod linearizability;
pub mod log_recovery;
pub mod membership;
pub mod node;
pub mod notation;
pub mod payload;
pub mod promotion;
pub mod readers;
pub mod reads;
pub mod reductions;
pub mod registry;
pub mod report;
pub mod script;
pub mod specs;
pub mod symmetry;
pub mod volume;
pub mod world;
