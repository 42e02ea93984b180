//! The seeded simulation: whole clusters in virtual time, with everything that can go wrong going wrong.
//!
//! A seed gives a [`Plan`]: settings (network, disks, limits so small that each is reached) and a list of faults. The
//! plan gives a run, always the same one: machines are deterministic, and every delay, loss and choice is drawn from
//! the seed. So a failure is a number that anyone can replay, and a list of faults that [`shrink`] makes short.
//!
//! What is judged, while it runs and at its end:
//! - the protocol's own observer, over every note (`auriga_protocol::observer`);
//! - a reference that knows the content of every page at every read point (`judge.rs`);
//! - a finale (`finale.rs`): all troubles end, a new writer must open, go on, and find all that was ever acknowledged.
//!
//! What it never does: decide anything of the protocol, or look inside a machine to judge it.
//!
//! Reading order: `settings.rs` and `faults.rs` (what a run is), `world.rs` (what happens), `drive.rs` (effects),
//! `users.rs`, `injure.rs`, `judge.rs`, `finale.rs`; then `campaign.rs` (many seeds), `shrink.rs`, `coverage.rs`.

pub mod campaign;
pub mod coverage;
mod digest;
mod drive;
pub mod faults;
mod finale;
mod injure;
pub mod judge;
mod members;
mod node;
pub mod payload;
mod queue;
pub mod seeds;
pub mod settings;
pub mod shrink;
mod users;
mod world;

pub use coverage::{Counted, Coverage};
pub use judge::Failure;
pub use settings::Plan;
pub use world::{Told, TraceSink};

use crate::caught::caught;

/// How a run went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// `None`: every rule held.
    pub failure: Option<Failure>,
    /// Digest of everything observable: the same plan gives the same digest.
    pub digest: u64,
    /// Events that happened.
    pub events: u64,
    /// Mini-transactions that were acknowledged.
    pub acknowledged: usize,
    /// What it exercised.
    pub coverage: Coverage,
}

/// Runs a plan to its end, or to the first broken rule.
pub fn run<'a>(plan: &'a Plan, trace: Option<TraceSink<'a>>) -> Run {
    run_world(plan, trace, false).0
}

/// The same, and every note of it: what the traces of a real cluster would hold.
pub fn run_for_notes(plan: &Plan) -> (Run, Vec<Told>) {
    run_world(plan, None, true)
}

fn run_world<'a>(plan: &'a Plan, trace: Option<TraceSink<'a>>, notes: bool) -> (Run, Vec<Told>) {
    let mut world = world::World::new(plan, trace, notes);
    let went = caught(|| {
        world.run_until(plan.settings.length);
        world.finale();
    });
    if let Err((rule, what)) = went {
        world.fail(rule, what);
    }
    let notes = world.notes.take().unwrap_or_default();
    let run = Run {
        digest: world.digest(),
        events: world.events,
        acknowledged: world.judge.acknowledged(),
        coverage: world.coverage,
        failure: world.failure,
    };
    (run, notes)
}
