//! Runs the protocol's state machines over sockets, disks and clocks.
//!
//! What the protocol decides is in `auriga-protocol`, and was checked there; what is on disk is in `auriga-store`. This
//! crate joins them to the world and decides nothing that safety rests on: messages may be lost, late or doubled, and
//! every promise waits for the disk inside the state machine, not here.
//!
//! ```text
//!   pagefs ──► Volume (volume_client) ──► Driver<Writer>          Driver<Segment> ◄── StorageNode (storage)
//!                                            │      ▲                │      ▲
//!                                            └──────┴── net (TCP) ───┴──────┘──► Disk (auriga-store)
//! ```
//!
//! Reading order:
//! 1. [`driver`]: the one way a machine is run. Sixty lines.
//! 2. [`storage`]: a process that hosts segments. [`admin`] is what it can be asked as such.
//! 3. [`volume`] and [`volume_client`]: a volume as its user sees it, and the writer behind it.
//!    [`memory_volume`] is the same without storage, for tests.
//! 4. [`net`]: frames, handshakes, outboxes.
//! 5. [`trace`]: the observable facts of a run; [`trace_check`]: their judge.

pub mod admin;
pub mod clock;
pub mod driver;
pub mod memory_volume;
pub mod net;
pub mod recording;
pub mod storage;
pub mod timers;
pub mod trace;
pub mod trace_check;
pub mod volume;
pub mod volume_client;
mod waiters;

pub use memory_volume::{MemoryVolume, MemoryVolumeConfig};
pub use storage::{StorageConfig, StorageNode};
pub use volume_client::{RemoteVolume, VolumeConfig, create_volume};
