//! Every state machine of Auriga's protocol, and nothing else.
//!
//! Auriga is Amazon Aurora's architecture as open software: a database volume is a log of redo records, each record
//! kept by six *segments* in three Availability Zones. A *writer* allocates log sequence numbers, sends records to the
//! segments, and counts acknowledgements: four of six make a record durable. Nothing on the write path runs consensus.
//!
//! **What is here.** Plain values and deterministic state machines ([`Segment`], [`Writer`]) behind one trait,
//! [`Machine`]: a step takes one input and appends effects to a list.
//!
//! **What is never here.** I/O, clocks, randomness, threads, `std`. The compiler holds us to it (`no_std`).
//!
//! The same code runs under the stateright model checker (`model/`), under a seeded simulation (`conformance/`), and
//! over tokio, real disks and real sockets (`impl/driver`, `impl/storage`, `impl/volume`). What was checked of segment
//! and writer is what runs. Membership and global database are checked, and do not run on a network yet.
//!
//! Where to go next, in reading order:
//! 1. [`ids`], [`record`], [`quorum`], [`truncation`]: the nouns.
//! 2. [`machine`]: the shared trait, and why durability is an *input*.
//! 3. [`message`]: what travels.
//! 4. [`segment`]: one copy of one protection group.
//! 5. [`writer`]: the volume driver: allocation, quorum tracking, reads, recovery.
//! 6. [`note`] and [`observer`]: what an outside judge may see, and how it judges. [`notation`]: how all of it is written
//!    in traces and scripts.
//! 7. [`membership`]: replacing a group's member. [`global`]: regions: switchover, failover, rejoin.
//!
//! Rule numbers such as `R-WRITE-2` refer to `specs/rules.md`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod defect;
pub mod global;
pub mod ids;
pub mod machine;
pub mod membership;
pub mod message;
pub mod notation;
pub mod note;
pub mod observer;
pub mod quorum;
pub mod record;
pub mod segment;
pub mod truncation;
pub mod writer;

pub use defect::{Defect, Defects};
pub use ids::{
    ControllerId, GlobalEpoch, Lsn, MemberId, MembershipEpoch, Micros, PageId, Party, PgId, RegionId, SegmentId,
    VolumeEpoch, VolumeId, WriterId,
};
pub use machine::{AppendId, Effect, Effects, Input, Machine, Token};
pub use message::{Install, Message, Refusal, SealReport};
pub use note::Note;
pub use quorum::{MemberSet, Membership, QuorumSet};
pub use record::{Change, Geometry, Payload, Record};
pub use segment::{Segment, SegmentConfig};
pub use truncation::{TruncationList, TruncationRange};
pub use writer::{Writer, WriterConfig};
