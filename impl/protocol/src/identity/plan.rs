//! Whether a volume may be made.

use super::{Answers, Charter, holders, silent};
use crate::ids::VolumeId;
use crate::quorum::{MemberSet, Membership};
use alloc::collections::BTreeMap;

/// Why a volume is not made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unmade {
    /// These processes did not answer, and may hold it.
    Silent(MemberSet),
    /// There are segments of a volume of this label: by identity, on whose processes.
    Exists(BTreeMap<VolumeId, MemberSet>),
}

/// Decides whether a volume may be made with `charter` (R-VOLUME-1). `Ok(None)`: as a new one. `Ok(Some(_))`: an
/// earlier making was cut short before any writer came; it goes on with that identity.
///
/// # Errors
/// It may not, and why. Every process must answer: a silent one may hold a copy of what would be replaced.
pub fn plan_creation(
    charter: &Charter,
    membership: &Membership,
    answers: &Answers,
) -> Result<Option<VolumeId>, Unmade> {
    let silent = silent(membership.quorum.members(), answers);
    if !silent.is_empty() {
        return Err(Unmade::Silent(silent));
    }
    let holders = holders(charter.label, answers);
    let mut volumes = holders.keys();
    let Some(volume) = volumes.next().copied() else { return Ok(None) };
    let held = || answers.values().flatten().flatten().filter(|held| held.charter.label == charter.label);
    let same = held().all(|held| {
        !held.written && held.charter == *charter && held.membership.is_settled() && held.membership.next == *membership
    });
    if same && volumes.next().is_none() { Ok(Some(volume)) } else { Err(Unmade::Exists(holders)) }
}
