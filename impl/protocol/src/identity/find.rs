//! Which identity a label means.

use super::{Answers, Charter, holders, silent};
use crate::ids::VolumeId;
use crate::quorum::{MemberSet, QuorumSet};
use alloc::collections::BTreeMap;

/// What is found under a label.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// This volume, and no other can be meant.
    One(VolumeId, Charter),
    /// It is not known yet: these have not answered.
    Unheard(MemberSet),
    /// Every process has answered, and none holds anything of that label.
    Nothing,
    /// Everybody has answered; these volumes are held by these processes, and none of them is the one that is meant:
    /// too few hold it, or several could be.
    Unclear(BTreeMap<VolumeId, MemberSet>),
}

/// Decides which volume is meant by `label` (R-VOLUME-2): the one that a read quorum holds, where no other can be so
/// held by those who are not heard. Where the identity is known beforehand (`pinned`), no other is.
pub fn find(label: u64, pinned: Option<VolumeId>, quorum: &QuorumSet, answers: &Answers) -> Found {
    let holders = holders(label, answers);
    let unheard = silent(quorum.members(), answers);
    let others_may = |volume: VolumeId| {
        let others = holders.iter().filter(|(other, _)| **other != volume);
        let mut held = others.map(|(_, held)| held.or(unheard)).chain([unheard]);
        pinned.is_none() && held.any(|held| quorum.read_met(held))
    };
    let meant = |volume: VolumeId| pinned.is_none_or(|pinned| pinned == volume);
    let mut sure = holders.iter().filter(|(volume, held)| {
        meant(**volume) && (pinned.is_some() || quorum.read_met(**held)) && !others_may(**volume)
    });
    if let (Some((volume, _)), None) = (sure.next(), sure.next())
        && let Some(charter) = charter_of(*volume, answers)
    {
        return Found::One(*volume, charter);
    }
    match unheard.is_empty() {
        false => Found::Unheard(unheard),
        true if holders.is_empty() => Found::Nothing,
        true => Found::Unclear(holders),
    }
}

/// What the volume's segments were made as; they all say the same.
fn charter_of(volume: VolumeId, answers: &Answers) -> Option<Charter> {
    answers.values().flatten().flatten().find(|held| held.id.volume == volume).map(|held| held.charter)
}
