//! Runs the protocol's state machines over sockets, disks and clocks.

pub mod memory_volume;
pub mod volume;
mod waiters;

pub use memory_volume::{MemoryVolume, MemoryVolumeConfig};
