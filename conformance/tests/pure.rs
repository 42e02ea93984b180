//! Properties of the protocol's pure parts, over random inputs.

use auriga_protocol::quorum::{MemberSet, QuorumSet, Threshold};
use auriga_protocol::record::materialise;
use auriga_protocol::segment::HotLog;
use auriga_protocol::{
    AppendId, Geometry, Lsn, MemberId, PageId, Payload, Record, TruncationList, VolumeEpoch, WriterId,
};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Push(u32);

impl Payload for Push {
    type Page = Vec<u32>;

    fn apply(&self, page: &mut Vec<u32>) {
        page.push(self.0);
    }

    fn weight(&self) -> usize {
        4
    }
}

fn subsets(members: MemberSet) -> impl Iterator<Item = MemberSet> {
    (0..=members.0).map(MemberSet).filter(move |set| set.and(members) == *set)
}

fn threshold() -> impl Strategy<Value = Threshold> {
    (1u8..=6, 1u64..128).prop_map(|(needed, members)| Threshold { needed, members: MemberSet(members) })
}

fn quorum_set() -> impl Strategy<Value = QuorumSet> {
    (vec(threshold(), 1..3), vec(threshold(), 1..3)).prop_map(|(write, read)| QuorumSet { write, read })
}

/// Records of one group's chain: `gaps[i]` is how far record `i` lies above the one before it.
fn chain(gaps: &[u64]) -> Vec<Record<Push>> {
    let mut last = Lsn::ZERO;
    let link = |(index, gap): (usize, &u64)| {
        let lsn = Lsn(last.0 + gap);
        let page = PageId { inode: 1, block: index as u64 % 3 };
        let (prev_segment, payload) = (std::mem::replace(&mut last, lsn), Push(index as u32));
        Record { lsn, prev_volume: Lsn::ZERO, prev_segment, prev_block: Lsn::ZERO, is_cpl: true, page, payload }
    };
    gaps.iter().enumerate().map(link).collect()
}

proptest! {
    /// Soundness by pairs of quorums, not by complements as the code does it.
    #[test]
    fn a_sound_quorum_set_has_no_two_disjoint_quorums(quorum in quorum_set()) {
        let all = quorum.members();
        let writes: Vec<_> = subsets(all).filter(|set| quorum.write_met(*set)).collect();
        let reads: Vec<_> = subsets(all).filter(|set| quorum.read_met(*set)).collect();
        let meet = |one: &MemberSet| writes.iter().all(|write| !one.and(*write).is_empty());
        prop_assert_eq!(quorum.is_sound(), writes.iter().all(meet) && reads.iter().all(meet));
    }

    /// PGCL: the greatest value such that those who have reached it are a write quorum.
    #[test]
    fn write_point_is_the_greatest_value_that_a_write_quorum_has_reached(quorum in quorum_set(), values in vec(0u64..6, 16)) {
        let value_of = |member: MemberId| values[usize::from(member.0)];
        let reached = |value: u64| -> MemberSet {
            quorum.members().iter().filter(|member| value_of(*member) >= value).collect()
        };
        let brute = (0..6).rev().find(|value| quorum.write_met(reached(*value)));
        let present = quorum.write_met(quorum.members());
        prop_assert_eq!(quorum.write_point(value_of), if present { brute.unwrap_or_default() } else { 0 });
    }

    /// The members that were not asked can't form a read quorum with the one that forgot.
    #[test]
    fn rejoin_needs_enough_peers(asked in 0u64..64, forgetful in 0u8..6) {
        let (quorum, forgetful) = (QuorumSet::aurora(), MemberId(forgetful));
        let asked = MemberSet(asked).without(forgetful);
        prop_assert_eq!(quorum.rejoin_met(forgetful, asked), asked.len() >= 4);
    }

    /// Against a set of LSNs, kept the slow way.
    #[test]
    fn truncation_lists_annul_what_their_recoveries_annulled(steps in vec((0u64..30, 1u64..12), 1..8)) {
        let (mut list, mut vdl, limit) = (TruncationList::default(), 0, 10);
        for (epoch, (back, forward)) in steps.into_iter().enumerate() {
            let through = list.through().0;
            // Either something was committed above the last range, or the recovery ends where the last one did or before.
            vdl = if back < 20 { through.max(vdl) + forward } else { list.ranges().last().map_or(0, |last| last.above.0) };
            let before: Vec<u64> = (0..=vdl).filter(|lsn| list.annuls(Lsn(*lsn))).collect();
            list.annul_above(VolumeEpoch::new(epoch as u64 + 1, WriterId(epoch as u64 + 1)), Lsn(vdl), limit);
            prop_assert!(!list.annuls(Lsn(vdl)), "the recovered VDL stays");
            let after: Vec<u64> = (0..=vdl).filter(|lsn| list.annuls(Lsn(*lsn))).collect();
            prop_assert_eq!(before, after, "nothing at or below the VDL changes");
            prop_assert!((vdl + 1..=list.through().0).all(|lsn| list.annuls(Lsn(lsn))), "everything above is annulled");
            prop_assert!(list.through().0 >= through.max(vdl + limit), "an earlier writer's LSNs are all covered");
            let disjoint = list.ranges().windows(2).all(|pair| {
                pair[0].through <= pair[1].above && pair[0].volume_epoch < pair[1].volume_epoch
            });
            prop_assert!(disjoint, "{:?}", list);
        }
    }

    /// SCL after records came in any order: the end of the gapless prefix of those that came and are durable.
    #[test]
    fn scl_is_the_end_of_the_gapless_durable_chain(
        gaps in vec(1u64..4, 1..12),
        order in Just(()).prop_perturb(|(), mut rng| (0..64).map(|_| rng.random::<u64>()).collect::<Vec<u64>>()),
        come in 0usize..12,
        durable in 0u64..12,
    ) {
        let records = chain(&gaps);
        let mut arriving: Vec<usize> = (0..records.len()).collect();
        arriving.sort_by_key(|index| order[*index]);
        arriving.truncate(come);
        let mut log = HotLog::new(Lsn::ZERO);
        for (append, index) in arriving.iter().enumerate() {
            log.insert(records[*index].clone(), AppendId(append as u64 + 1));
        }
        log.advance(AppendId(durable));
        let on_disk = |index: &usize| arriving.iter().position(|it| it == index).is_some_and(|at| (at as u64) < durable);
        let expected = (0..records.len()).take_while(on_disk).last().map_or(Lsn::ZERO, |last| records[last].lsn);
        prop_assert_eq!(log.scl(), expected);
    }

    /// A page is the same whether its records are applied at once or in two halves.
    #[test]
    fn a_page_can_be_made_in_halves(gaps in vec(1u64..4, 1..12), middle in 0u64..40, through in 0u64..40) {
        let records = chain(&gaps);
        let of_page = || records.iter().filter(|record| record.page.block == 0);
        let (mut whole, mut halves) = (Vec::new(), Vec::new());
        let version = materialise(&mut whole, Lsn::ZERO, Lsn(through), of_page());
        let first = materialise(&mut halves, Lsn::ZERO, Lsn(middle.min(through)), of_page());
        let second = materialise(&mut halves, first, Lsn(through), of_page());
        prop_assert_eq!((version, whole), (second, halves));
    }

    /// Every page has one group, and neighbours in an extent share it.
    #[test]
    fn geometry_is_total(groups in 1u16..9, extent_blocks in 1u32..64, inode in any::<u64>(), block in 0u64..1 << 40) {
        let geometry = Geometry { groups, extent_blocks };
        let group = geometry.group_of(PageId { inode, block });
        prop_assert!(group.0 < groups);
        let first = block - block % u64::from(extent_blocks);
        prop_assert_eq!(geometry.group_of(PageId { inode, block: first }), group);
    }
}
