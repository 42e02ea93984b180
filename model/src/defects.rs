//! Planted defects: each at the smallest scope that shows it, and the table that proves that it was found.

use crate::checking::{CheckOptions, Failure, check};
use crate::log_recovery::{cleaned, four, loss, node_crash, submits, three, three_epochs, two_groups};
use crate::membership::{self, MembershipModel};
use crate::volume::{Scale, Volume, page};
use crate::world::Budgets;
use crate::{readers, reads};
use auriga_protocol::{Defect, Defects};
use std::time::Duration;

/// The smallest scope that shows a defect, and what it is, in few words. `None`: it takes damage to disks or another
/// machine, which the simulation has.
pub fn scope_of(defect: Defect) -> Option<(&'static str, Scale)> {
    let one_writer = |scale: Scale| Scale { budgets: Budgets { writers: 1, ..scale.budgets }, ..scale };
    Some(match defect {
        Defect::AckBeforeDurable => ("2/3, 1 LSN, 1 crash", one_writer(node_crash(three()))),
        Defect::AckOverHole => ("2/3, 2 LSNs", one_writer(submits(three(), 2))),
        Defect::WriteQuorumThree => ("3/4, 1 LSN", one_writer(four())),
        Defect::ReadQuorumTwo => ("3/5 read 3/5, 1 LSN", Scale { zones: singles(5), write: 3, read: 3, ..three() }),
        Defect::NoFence => ("2/3, 1 LSN", three()),
        Defect::SealBeforeDurable => ("2/3, 1 LSN, 1 crash", node_crash(three())),
        Defect::EpochGrantedTwice => ("2/3, three writers, two epochs", crate::promotion::compete()),
        Defect::InstallBeforeDurable => ("2/3, 1 LSN, three epochs, 1 crash", node_crash(three_epochs(three()))),
        Defect::TailByLength => ("2/3, 1 LSN, three epochs", three_epochs(three())),
        Defect::TailNotBroughtToFour => ("2/3, 1 LSN", three()),
        Defect::InstallOnThree => ("3/4, 1 LSN", four()),
        Defect::TruncationForgotten => ("2/3, 1 LSN, 1 crash", node_crash(three())),
        Defect::TruncationNotApplied => ("2/3, 1 LSN", three()),
        // Records travel only between equal installs (R-GOSSIP-1): what comes back comes from a cleaned journal.
        Defect::GossipResurrects => ("2/3, 1 LSN, 1 journal cleaned, 1 crash", cleaned(three())),
        Defect::AmnesiaCounts => ("2/3, 1 LSN, 1 loss", one_writer(loss(three()))),
        Defect::RejoinBeforeCaughtUp => ("2/3, 1 LSN, 1 loss", one_writer(loss(three()))),
        Defect::LsnReused => ("2/3, 2 LSNs", submits(three(), 2)),
        Defect::VdlNotAtCpl => ("2/3, two groups, 1 MTR", one_writer(two_groups(three()))),
        Defect::VclIsMaxPgcl => ("2/3, two groups, 1 MTR", one_writer(two_groups(three()))),
        Defect::VclIsMinPgcl => {
            ("2/3, two groups, one idle", one_writer(Scale { groups: 2, workload: vec![vec![page(0)]], ..three() }))
        }
        Defect::NoAllocationLimit => {
            ("2/3, 2 LSNs, LAL 1", one_writer(Scale { allocation_limit: 1, ..submits(three(), 2) }))
        }
        Defect::ReadAboveScl => ("2/3, 1 read", reads::three()),
        Defect::ReadNotTranslated => ("2/3, two groups, 1 read", reads::two_groups()),
        Defect::ReadIgnoresReadPoint => ("2/3, 1 read", reads::three()),
        Defect::ReadPointAboveVdl => {
            ("2/3, two groups, 1 MTR, 1 read", Scale { workload: vec![vec![page(0), page(1)]], ..reads::two_groups() })
        }
        Defect::CollectAbovePgmrpl => ("2/3, 1 read, 1 coalescing", reads::three()),
        Defect::ReaderGoesBack => ("2/3, 2 MTRs, a reader that asks twice", readers::follows()),
        Defect::ReaderAboveVdl => ("2/3, 2 MTRs, a reader that asks twice", readers::follows()),
        Defect::HalfMtrApplied => ("2/3, 2 MTRs, a reader that asks twice", readers::follows()),
        Defect::ReaderKeepsUndurable => ("2/3, two writers, 2 LSNs, a reader goes on", readers::failover_annuls()),
        Defect::CollectionIgnoresReaders => ("2/3, 1 LSN, a reader, 1 coalescing", readers::collects()),
        Defect::DroppedReaderServed => ("2/3, 1 LSN, a reader's lease ends", readers::dropped()),
        Defect::PgmrplIgnoresReads => ("2/3, 2 LSNs, 1 read, 1 retry, 1 coalescing", reads::held()),
        _ => return None,
    })
}

fn singles(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|member| vec![member]).collect()
}

/// What became of a defect.
pub struct Hunt {
    /// The defect.
    pub defect: Defect,
    /// Its scope.
    pub about: &'static str,
    /// The property that fell, with the shortest trace; `None`: not caught.
    pub failure: Option<Failure>,
    /// States looked at before it fell.
    pub unique: usize,
    /// Wall-clock time, with the search for the shortest trace.
    pub elapsed: Duration,
}

/// Checks a defect at its scope.
pub fn hunt(defect: Defect, options: &CheckOptions) -> Option<Hunt> {
    if let Some(planted) = crate::global::defects::planted().into_iter().find(|planted| planted.defect == defect) {
        let verdict = check(&|| planted.model(), defect.slug(), options);
        let (about, failure) = (planted.scope, verdict.failure);
        return Some(Hunt { defect, about, failure, unique: verdict.unique, elapsed: verdict.elapsed });
    }
    if let Some((_, about, bounds)) = membership::planted().into_iter().find(|planted| planted.0 == defect) {
        let make = || MembershipModel::new(bounds.clone(), Defects::plant(defect));
        let verdict = check(&make, defect.slug(), options);
        return Some(Hunt {
            defect,
            about,
            failure: verdict.failure,
            unique: verdict.unique,
            elapsed: verdict.elapsed,
        });
    }
    let (about, scale) = scope_of(defect)?;
    let scale = Scale { defects: Defects::plant(defect), ..scale };
    let verdict = check(&|| Volume::new(scale.clone()), defect.slug(), options);
    Some(Hunt { defect, about, failure: verdict.failure, unique: verdict.unique, elapsed: verdict.elapsed })
}

/// The rows of `specs/defects.md`: nothing that differs from run to run.
pub fn table_row(hunt: &Hunt) -> String {
    let (property, steps) = match &hunt.failure {
        Some(failure) => (failure.property, failure.trace.lines.len().to_string()),
        None => ("**not caught**", String::from("—")),
    };
    let (slug, rule) = (hunt.defect.slug(), hunt.defect.rule());
    format!("| `{slug}` | {rule} | {} | {property} | {steps} |", hunt.about)
}
