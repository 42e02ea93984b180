//! Runs the protocol's state machines over sockets, disks and clocks.

pub mod admin;
pub mod clock;
pub mod driver;
pub mod memory_volume;
pub mod net;
pub mod storage;
pub mod timers;
pub mod trace;
pub mod volume;
pub mod volume_client;
mod waiters;

pub use memory_volume::{MemoryVolume, MemoryVolumeConfig};
pub use storage::{StorageConfig, StorageNode};
pub use volume_client::{RemoteVolume, VolumeConfig, create_volume};
