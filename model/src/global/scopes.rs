//! The scopes of the global model.

use super::model::GlobalModel;
use crate::registry::{Scope, Set};
use auriga_protocol::global::Operation;
use auriga_protocol::{Defects, RegionId};

/// What a scope must show somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shows {
    /// After a switchover the old primary takes the new one's stream.
    Reversed,
    /// A failover that loses.
    Lost,
    /// A failover that does not.
    LosslessFailover,
    /// An old primary that goes on acknowledging beside the new one.
    TwoLineages,
    /// A controller that crashes in the middle.
    Resumed,
    /// A switchover taken back.
    Undone,
    /// Two regions that keep a suffix each.
    TwoSnapshots,
    /// A target that must wait for the drain.
    Behind,
}

/// How large a scope is.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Regions; the first is the primary.
    pub regions: u16,
    /// Commits, in all.
    pub commits: u8,
    /// Crashes, in all.
    pub crashes: u8,
    /// How often regions ship, in all; `None`: without limit.
    pub ships: Option<u8>,
    /// What each controller is asked, one after another.
    pub operations: Vec<Vec<Operation>>,
    /// How many global epochs one operation may try.
    pub attempts: u8,
    /// Whether every message of a stream stays in the network, and not only the newest (see `mod.rs`).
    pub whole_stream: bool,
    /// Whether it must end with one primary and complete secondaries.
    pub converges: bool,
    /// What must be shown.
    pub shows: &'static [Shows],
}

/// Moves the role to region `target` without loss.
fn switchover(target: u16) -> Operation {
    Operation::Switchover { target: RegionId(target) }
}

/// Moves the role to region `target`, come what may.
fn failover(target: u16) -> Operation {
    Operation::Failover { target: RegionId(target) }
}

fn bounds(regions: u16, commits: u8, crashes: u8, operations: Vec<Vec<Operation>>, shows: &'static [Shows]) -> Bounds {
    let (ships, attempts, whole_stream, converges) = (None, 2, false, true);
    Bounds { regions, commits, crashes, ships, operations, attempts, whole_stream, converges, shows }
}

/// One region's role goes over, and back.
pub fn switchback() -> Bounds {
    bounds(2, 2, 0, vec![vec![switchover(2), switchover(1)]], &[Shows::Reversed, Shows::Behind])
}

/// The role goes over with a crash of anyone.
pub fn switchover_crash() -> Bounds {
    bounds(2, 2, 1, vec![vec![switchover(2)]], &[Shows::Reversed, Shows::Resumed, Shows::Behind])
}

/// The old primary is lost, comes back, and rejoins.
pub fn failover_crash() -> Bounds {
    bounds(
        2,
        2,
        1,
        vec![vec![failover(2)]],
        &[Shows::Lost, Shows::LosslessFailover, Shows::TwoLineages, Shows::Resumed],
    )
}

/// A failover, and the planned way back.
pub fn failover_back() -> Bounds {
    bounds(2, 2, 0, vec![vec![failover(2), switchover(1)]], &[Shows::Lost, Shows::TwoLineages])
}

/// Two controllers move the role to two regions at one time, planned.
pub fn rival_switchovers() -> Bounds {
    let rivals = vec![vec![switchover(2)], vec![switchover(3)]];
    Bounds { ships: Some(1), converges: false, ..bounds(3, 1, 0, rivals, &[Shows::Behind]) }
}

/// Two controllers fail over to two regions at one time: three lineages.
pub fn rival_failovers() -> Bounds {
    let rivals = vec![vec![failover(2)], vec![failover(3)]];
    Bounds {
        ships: Some(2),
        attempts: 1,
        converges: false,
        ..bounds(3, 2, 0, rivals, &[Shows::Lost, Shows::TwoLineages])
    }
}

/// One controller switches over, another takes it back.
pub fn undo() -> Bounds {
    let undo = Operation::Undo { primary: RegionId(1) };
    bounds(2, 1, 0, vec![vec![switchover(2)], vec![undo]], &[Shows::Undone, Shows::Behind])
}

/// The same with one commit only.
pub fn rival_failovers_small() -> Bounds {
    Bounds { commits: 1, shows: &[Shows::Lost], ..rival_failovers() }
}

/// One controller with two errands: what it began before a crash must not be mixed up with what it does after.
pub fn two_errands() -> Bounds {
    let errands = vec![vec![failover(2), failover(3)]];
    Bounds { ships: Some(0), converges: false, ..bounds(3, 1, 1, errands, &[Shows::Resumed]) }
}

/// Every scope of the global model.
pub fn scopes() -> Vec<Scope> {
    let scope = |name, set, pinned, about, make: fn() -> Bounds| {
        Scope::new(name, set, pinned, about, move || GlobalModel::new(make(), Defects::NONE))
    };
    let quick = |name, pinned, about, make| scope(name, Set::Quick, Some(pinned), about, make);
    vec![
        quick(
            "global-switchover",
            43_939,
            "2 regions, 2 commits, switchover, 1 crash",
            switchover_crash as fn() -> Bounds,
        ),
        quick("global-switchback", 40_551, "2 regions, 2 commits, switchover and back", switchback),
        quick("global-failover", 211_565, "2 regions, 2 commits, failover and rejoin, 1 crash", failover_crash),
        quick("global-failover-back", 107_466, "2 regions, 2 commits, failover, switchover back", failover_back),
        quick("global-rivals", 2_592, "3 regions, 1 commit, 2 rival switchovers, 1 shipment", rival_switchovers),
        quick("global-two-errands", 5_812, "3 regions, 1 commit, 2 failovers of one controller, 1 crash", two_errands),
        quick("global-undo", 291_667, "2 regions, 1 commit, a switchover and its undo", undo),
        quick(
            "global-rival-failovers",
            1_193_011,
            "3 regions, 1 commit, 2 rival failovers, 2 shipments",
            rival_failovers_small,
        ),
        scope("global-three-lineages", Set::Unfinished, None, "the same with 2 commits", rival_failovers),
    ]
}
