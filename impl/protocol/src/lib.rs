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
//! over tokio, real disks and real sockets (`impl/driver`, `impl/storage`, `impl/volume`, `impl/region`). What was checked of
//! segment, writer and region is what runs. Of membership, the model has a small machine of its own; what runs is in the
//! simulation.
//!
//! Where to go next, in reading order:
//! 1. [`ids`], [`record`], [`quorum`], [`truncation`]: the nouns; [`limits`]: how large they may be.
//! 2. [`machine`]: the shared trait, and why durability is an *input*.
//! 3. [`message`]: what travels.
//! 4. [`segment`]: one copy of one protection group.
//! 5. [`writer`]: the volume driver: allocation, quorum tracking, reads, recovery. [`reader`]: another instance that
//!    follows it.
//! 6. [`note`] and [`observer`]: what an outside judge may see, and how it judges. [`notation`]: how all of it is written
//!    in traces and scripts.
//! 7. [`identity`]: which volume is which, and what follows from who holds what.
//! 8. [`membership`]: replacing a group's member. [`global`]: regions: switchover, failover, rejoin.
//!
//! # One machine, driven by hand
//!
//! A driver gives a machine inputs and carries out its effects. Here the reader is the driver. A writer asks a segment to
//! seal; the segment answers only after the driver has said that the promise is durable.
//!
//! ```
//! use auriga_protocol::segment::Survived;
//! use auriga_protocol::writer::WriterIdentity;
//! use auriga_protocol::*;
//!
//! /// What records carry: here, a number that is added to the page.
//! #[derive(Clone, PartialEq, Eq, Hash, Debug)]
//! struct Add(u64);
//! impl Payload for Add {
//!     type Page = u64;
//!     fn apply(&self, page: &mut u64) {
//!         *page += self.0;
//!     }
//!     fn weight(&self) -> usize {
//!         8
//!     }
//! }
//!
//! let (volume, now) = (VolumeId(1), Micros(0));
//! let who = WriterIdentity { volume, writer: WriterId(7) };
//! let mut effects = Effects::default();
//! let _writer = Writer::<Add>::boot(&WriterConfig::default(), who, (), now, &mut effects);
//! // A writer begins by asking every segment to refuse older writers.
//! let sent = effects.drain().find_map(|effect| match effect {
//!     Effect::Multicast { to, message } => Some((to, message)),
//!     _ => None,
//! });
//! let (to, seal) = sent.expect("a new writer speaks first");
//! assert_eq!((to.len(), seal.name()), (6, "Seal"));
//!
//! // One of the six segments, on the disk that creating it leaves.
//! let id = SegmentId { volume, pg: PgId(0), member: MemberId(0) };
//! let disk = Survived::founded(Membership::initial(QuorumSet::aurora()));
//! let mut effects = Effects::default();
//! let mut segment = Segment::<Add>::boot(&SegmentConfig::tiny(), id, disk, now, &mut effects);
//! effects.drain().for_each(drop); // Its first timers.
//!
//! let from = Party::Writer(volume, who.writer);
//! segment.step(now, Input::Message { from, message: seal }, &mut effects);
//! let append = effects.drain().find_map(|effect| match effect {
//!     Effect::Append { id, .. } => Some(id),
//!     Effect::Send { .. } => panic!("a promise is not given before it is durable (R-FENCE-2)"),
//!     _ => None,
//! });
//!
//! // The driver writes the entry to its log, and says so.
//! segment.step(now, Input::Durable(append.expect("a promise to keep")), &mut effects);
//! let answered = effects.as_slice().iter().any(|effect| match effect {
//!     Effect::Send { to, message } => *to == from && message.name() == "Sealed",
//!     _ => false,
//! });
//! assert!(answered);
//! ```
//!
//! Rule numbers such as `R-WRITE-2` refer to `specs/rules.md`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod defect;
pub mod global;
pub mod identity;
pub mod ids;
pub mod life;
pub mod limits;
pub mod machine;
pub mod membership;
pub mod message;
pub mod notation;
pub mod note;
pub mod observer;
pub mod quorum;
pub mod reader;
pub mod record;
pub mod segment;
pub mod truncation;
pub mod writer;

pub use defect::{Defect, Defects};
pub use identity::{Charter, Held, Shape};
pub use ids::{
    ControllerId, GlobalEpoch, Lsn, MemberId, MembershipEpoch, Micros, PageId, Party, PgId, ReaderId, RegionId,
    SegmentId, VolumeEpoch, VolumeId, WriterId,
};
pub use life::Life;
pub use machine::{AppendId, Effect, Effects, Input, Machine, Token};
pub use message::{Install, Message, Refusal, SealReport};
pub use note::Note;
pub use quorum::{MemberSet, Membership, QuorumSet};
pub use reader::{Reader, ReaderConfig};
pub use record::{Change, Geometry, Payload, Record};
pub use segment::{Segment, SegmentConfig};
pub use truncation::{TruncationList, TruncationRange};
pub use writer::{Writer, WriterConfig};
