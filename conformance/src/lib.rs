//! Everything that judges Auriga from outside its state machines.
//!
//! - [`sim`]: seeded simulation of whole clusters in virtual time.
//! - [`disk`], [`notation`]: what simulation and scripts share.
//!
//! It decides nothing of the protocol, and nothing depends on it.
#![forbid(unsafe_code)]

pub mod caught;
pub mod cli;
pub mod disk;
pub mod notation;
pub mod script;
pub mod sim;
pub mod suite;
pub mod table;
pub mod trace;
