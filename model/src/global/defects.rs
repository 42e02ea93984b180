//! The smallest scope that shows each planted defect of the global database.

use super::model::GlobalModel;
use super::scopes::{self, Bounds};
use auriga_protocol::{Defect, Defects};

/// A defect, and where it shows.
pub struct Planted {
    /// The planted defect.
    pub defect: Defect,
    /// The scope's name in `registry.rs`.
    pub scope: &'static str,
    bounds: fn() -> Bounds,
}

impl Planted {
    /// The scope with the defect in it.
    pub fn model(&self) -> GlobalModel {
        GlobalModel::new((self.bounds)(), Defects::plant(self.defect))
    }
}

/// Every defect of the rules R-GLOBAL.
pub fn planted() -> Vec<Planted> {
    let row = |defect, scope, bounds| Planted { defect, scope, bounds };
    vec![
        row(Defect::ShipBeforeDurable, "global-switchover", scopes::switchover_crash as fn() -> Bounds),
        row(Defect::StaleStreamAccepted, "global-failover-back", scopes::failover_back),
        row(Defect::FailoverWithoutFencingEpoch, "global-failover", scopes::failover_crash),
        row(Defect::PromoteTwice, "global-failover", scopes::failover_crash),
        row(Defect::EpochBeforeIntent, "global-two-errands", scopes::two_errands),
        row(Defect::SwitchoverFenceNotDurable, "global-switchover", scopes::switchover_crash),
        row(Defect::SwitchoverBeforeDrain, "global-switchover", scopes::switchover_crash),
        row(Defect::HandedOnTwice, "global-rivals", scopes::rival_switchovers),
        row(Defect::UndoWithoutRenounce, "global-undo", scopes::undo),
        row(Defect::LostSuffixNotCounted, "global-failover", scopes::failover_crash),
        row(Defect::RejoinWithoutTruncation, "global-failover-back", scopes::failover_back),
        row(Defect::PartedByLastBranch, "global-three-lineages", scopes::rival_failovers),
    ]
}
