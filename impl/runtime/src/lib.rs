//! Runs the protocol's state machines over sockets, disks and clocks.

pub mod clock;
pub mod driver;
pub mod memory_volume;
pub mod timers;
pub mod trace;
pub mod volume;
mod waiters;

pub use memory_volume::{MemoryVolume, MemoryVolumeConfig};
