//! The scopes of the membership model, and where each of its planted defects shows.

use super::MembershipModel;
use crate::registry::{Scope, Set};
use auriga_protocol::membership::{Arrangement, ChangerRequest, Replacement};
use auriga_protocol::quorum::MemberSet;
use auriga_protocol::{Defect, Defects, MemberId};

/// What a scope must show somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shows {
    /// A completed replacement.
    Replaced,
    /// One that was taken back.
    Undone,
    /// Two at one time.
    Both,
}

/// How large a scope is.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The group at first.
    pub created: Arrangement,
    /// Members, new ones included.
    pub members: u8,
    /// Writes, in all.
    pub writes: u8,
    /// Crashes, none or one; none: synchronous disks.
    pub crashes: u8,
    /// What the changer is asked, one after another.
    pub requests: Vec<ChangerRequest>,
    /// What must be shown.
    pub shows: &'static [Shows],
}

fn replace(old: u8, new: u8) -> ChangerRequest {
    ChangerRequest::Replace(Replacement { old: MemberId(old), new: MemberId(new) })
}

/// 2/3 ABC, C→D.
pub fn three(writes: u8, crashes: u8) -> Bounds {
    let created = Arrangement::steady(MemberSet::first(3), 2, 2);
    Bounds { created, members: 4, writes, crashes, requests: vec![replace(2, 3)], shows: &[Shows::Replaced] }
}

/// 2/3 ABC, C→D and back.
pub fn undo() -> Bounds {
    Bounds { requests: vec![replace(2, 3), ChangerRequest::Undo(MemberId(3))], shows: &[Shows::Undone], ..three(1, 0) }
}

/// 2/3 ABC, C→D, and B→E before that is done.
pub fn second_fault() -> Bounds {
    Bounds { members: 5, requests: vec![replace(2, 3), replace(1, 4)], shows: &[Shows::Both], ..three(1, 0) }
}

/// Every scope of the membership model.
pub fn scopes() -> Vec<Scope> {
    let scope = |name, set, pinned, about, make: fn() -> Bounds| {
        Scope::new(name, set, pinned, about, move || MembershipModel::new(make(), Defects::NONE))
    };
    vec![
        scope("member-replace", Set::Quick, Some(185_460), "2/3 ABC, C→D, 1 write", || three(1, 0)),
        scope("member-crash", Set::Nightly, Some(4_705_168), "2/3 ABC, C→D, 1 write, 1 crash of anyone", || {
            three(1, 1)
        }),
        scope("member-undo", Set::Quick, Some(682_990), "2/3 ABC, C→D taken back, 1 write", undo),
        scope("member-second-fault", Set::Unfinished, None, "2/3 ABC, C→D and B→E at one time, 1 write", second_fault),
    ]
}

/// Every defect of the rules R-MEMBER, with the scope that shows it.
pub fn planted() -> Vec<(Defect, &'static str, Bounds)> {
    let at = |defect| (defect, "member-replace", three(1, 0));
    vec![
        at(Defect::MembershipWithoutOverlap),
        at(Defect::MembershipOnNewQuorumOnly),
        at(Defect::MembershipStaleAccepted),
        at(Defect::StepCountedBeforeInForce),
        at(Defect::MemberCountedBeforeHydration),
        at(Defect::NewMemberReadDuringChange),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checking::{CheckOptions, check};
    use std::collections::BTreeSet;
    use std::time::Duration;

    const OPTIONS: CheckOptions = CheckOptions { threads: 1, progress: false };

    #[test]
    fn every_planted_defect_falls() {
        for (defect, name, bounds) in planted() {
            let make = || MembershipModel::new(bounds.clone(), Defects::plant(defect));
            let verdict = check(&make, name, &OPTIONS);
            let failure = verdict.failure.unwrap_or_else(|| panic!("{} passes {name}", defect.slug()));
            println!(
                "{:<32} {:>3} steps {:?} {}",
                defect.slug(),
                failure.trace.lines.len(),
                verdict.elapsed,
                failure.property
            );
            assert!(verdict.elapsed < Duration::from_secs(60), "{} took {:?}", defect.slug(), verdict.elapsed);
        }
    }

    /// Of one writer after the other, which this model has not: golden scripts and the simulation find them.
    const ELSEWHERE: [Defect; 4] = [
        Defect::StepIgnoresVolumeEpoch,
        Defect::MemberIdUsedAgain,
        Defect::SegmentMadeBeforeInForce,
        Defect::RetiredMemberAnswers,
    ];

    #[test]
    fn every_defect_of_these_rules_has_a_scope() {
        let planted: BTreeSet<Defect> = planted().into_iter().map(|(defect, ..)| defect).collect();
        let ours = Defect::ALL.iter().copied().filter(|defect| defect.rule().starts_with("R-MEMBER-"));
        assert_eq!(planted, ours.filter(|defect| !ELSEWHERE.contains(defect)).collect());
    }
}
