//! Everything that judges Auriga from outside its state machines.
//!
//! - [`sim`]: seeded simulation of whole clusters in virtual time.
//! - [`disk`]: what simulation and scripts share; with [`notation`], which the model uses too.
//!
//! It decides nothing of the protocol, and nothing depends on it.
#![forbid(unsafe_code)]

pub mod caught;
pub mod cells;
pub mod cli;
pub mod disk;
pub mod script;
pub mod sim;
pub mod suite;
pub mod table;
pub mod trace;

pub use auriga_protocol::notation;
