//! The four decisions, at their limits.

use super::*;
use crate::ids::PgId;
use crate::quorum::{Membership, QuorumSet};

const OURS: VolumeId = VolumeId(77);
const THEIRS: VolumeId = VolumeId(99);
const LABEL: u64 = 1;

fn charter() -> Charter {
    Charter { label: LABEL, shape: Shape { geometry: Geometry { groups: 1, extent_blocks: 8 }, allocation_limit: 64 } }
}

fn membership() -> Membership {
    Membership::initial(QuorumSet::aurora())
}

fn held(volume: VolumeId, member: u8, written: bool) -> Held {
    let id = SegmentId { volume, pg: PgId(0), member: MemberId(member) };
    Held { id, charter: charter(), membership: Step::first(membership()), written }
}

/// One letter a member, A first: `o` holds ours, `w` ours with a writer's words, `t` theirs, `-` nothing, `?` is silent.
fn answers(letters: &str) -> Answers {
    let answer = |(member, letter): (u8, char)| {
        let held = match letter {
            '?' => None,
            '-' => Some(Vec::new()),
            't' => Some([held(THEIRS, member, true)].into()),
            letter => Some([held(OURS, member, letter == 'w')].into()),
        };
        (MemberId(member), held)
    };
    (0..).zip(letters.chars()).map(answer).collect()
}

fn plan(letters: &str) -> Result<Option<VolumeId>, Unmade> {
    plan_creation(&charter(), &membership(), &answers(letters))
}

#[test]
fn a_volume_is_made_where_all_six_answer_and_nobody_has_anything() {
    assert_eq!(plan("------"), Ok(None));
    assert_eq!(plan("oo-o--"), Ok(Some(OURS)), "a making that was cut short goes on");
    assert_eq!(plan("-----?"), Err(Unmade::Silent(MemberSet::EMPTY.with(MemberId(5)))));
    for refused in ["w-----", "wwwwww", "-----t", "oooot-", "ot----", "owoooo"] {
        assert!(matches!(plan(refused), Err(Unmade::Exists(_))), "{refused}");
    }
    let mut other = charter();
    other.shape.geometry.groups = 2;
    assert!(plan_creation(&other, &membership(), &answers("oooooo")).is_err(), "of another shape");
}

fn found(pinned: Option<VolumeId>, letters: &str) -> Found {
    find(LABEL, pinned, &QuorumSet::aurora(), &answers(letters))
}

#[test]
fn a_label_means_what_a_read_quorum_holds_and_no_other_can() {
    let ours = Found::One(OURS, charter());
    for clear in ["wwwwww", "wwww??", "ww--w?", "wwwwtt", "wwwt-?", "wwwtt-"] {
        assert_eq!(found(None, clear), ours, "{clear}");
    }
    for early in ["www???", "wwwt??", "wwwtt?", "ww--??", "----??", "??????"] {
        assert!(matches!(found(None, early), Found::Unheard(_)), "{early}");
    }
    assert_eq!(found(None, "------"), Found::Nothing);
    for unclear in ["wwwttt", "ww----", "wwtt--"] {
        assert!(matches!(found(None, unclear), Found::Unclear(_)), "{unclear}");
    }
    assert_eq!(found(None, "tttttw"), Found::One(THEIRS, charter()), "without a pin, the majority's");
}

#[test]
fn a_pinned_identity_is_never_another() {
    for theirs in ["ttttt-", "tttttt"] {
        assert!(matches!(found(Some(OURS), theirs), Found::Unclear(_)), "{theirs}");
    }
    assert_eq!(found(Some(OURS), "wtt???"), Found::One(OURS, charter()), "recovery finds out whether that is enough");
    assert!(matches!(found(Some(OURS), "tttt??"), Found::Unheard(_)));
}

#[test]
fn an_emptied_process_learns_from_a_read_quorum_what_it_should_have() {
    let me = MemberId(5);
    let names = |letters: &str, own: &[Held]| -> Vec<SegmentId> {
        missing(me, own, &answers(letters)).into_iter().map(|missing| missing.id).collect()
    };
    let mine = SegmentId { volume: OURS, pg: PgId(0), member: me };
    assert_eq!(names("wwwww?", &[]), [mine]);
    assert_eq!(names("w-?ww?", &[]), [mine]);
    assert_eq!(names("ww???-", &[]), [], "two may be of another cluster");
    assert_eq!(names("ooooo-", &[]), [], "it is being made");
    assert_eq!(names("wwwtt?", &[]), [mine]);
    assert_eq!(names("wwwww?", &[held(OURS, 5, true)]), [], "it has it");
    assert_eq!(names("wwwww?", &[held(THEIRS, 5, true)]), [], "its label is taken");
}

#[test]
fn a_volume_of_another_cluster_is_told_from_ours() {
    let me = MemberId(0);
    let seen = |letters: &str| strangers(me, &[held(THEIRS, 0, true)], &answers(letters));
    assert_eq!(seen("twwww?")[0].meant, OURS);
    assert_eq!(seen("ttwww?").len(), 1);
    assert_eq!(seen("tww???"), [], "too few to tell");
    assert_eq!(seen("tttttt"), []);
}
