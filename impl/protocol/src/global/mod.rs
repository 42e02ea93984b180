//! A global database: one volume in each of several regions, and one region at a time that takes commits.
//!
//! [`Region`] stands for a whole region: one durable log with one end, as its volume is seen from outside (the six
//! copies, the writer and its VDL are the business of `segment/` and `writer/`; one record here is one mini-transaction
//! there). The primary ships its durable log to the secondaries, asynchronously. [`GlobalController`] moves the role:
//!
//! - *switchover* (planned): fence the primary at its final LSN, wait until the target has arrived exactly there,
//!   promote it. Nothing is lost (RPO 0). Until the promotion it can be undone.
//! - *failover* (unplanned): promote the target at what has arrived. What the old primary had beyond it is the *lost
//!   suffix*: named and counted, and kept as a snapshot when that region comes back and rejoins as a secondary.
//!
//! **Who may acknowledge.** A region acknowledges commits under a *grant*: a durable record in its own log that it was
//! promoted in a global epoch. A grant ends by a durable fence, never by a clock. An old primary that can't be reached
//! keeps its grant, and what it goes on to acknowledge belongs to another [`Lineage`]: decision 0030 says what is
//! guaranteed then, and what isn't.
//!
//! **What is never here.** Choosing *when* to fail over, and *where*: that is the control plane's, or a person's.
//!
//! Where to go next: `lineage.rs` (branches, and where two histories part), `message.rs`, `region/` with `turns.rs` and
//! `stream.rs`, `state.rs` (what of it is in the region's volume), `controller/`, `observer.rs` (the rules R-GLOBAL-1
//! to 9 as code), `log.rs` (a region's disk), `rpo.rs` (when commits wait for secondaries).

mod controller;
mod lineage;
mod log;
mod message;
mod note;
mod observer;
mod region;
mod rpo;
mod state;
mod stream;
mod turns;

pub use controller::{
    ControllerAnswer, ControllerConfig, ControllerEntry, ControllerTimer, GlobalController, Operation, Outcome,
};
pub use lineage::{Branch, LINEAGE_MAX, Lineage};
pub use log::{RegionLog, Snapshot};
pub use message::{GlobalMessage, GlobalParty, GlobalRefusal, Handover, Plan, ShippedRecord};
pub use note::{GlobalNote, LostSuffix};
pub use observer::GlobalObserver;
pub use region::{
    Region, RegionAnswer, RegionConfig, RegionEntry, RegionOutcome, RegionRequest, RegionRole, RegionSurvived,
    RegionTask, RegionTimer, Turned,
};
pub use rpo::RpoGate;
pub use state::{Adopting, KeptSuffix, MayNotWrite, OWN_BRANCHES_MAX, OwnBranch, Position, RegionState};
