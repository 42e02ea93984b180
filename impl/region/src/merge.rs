//! From the chains of several protection groups to the volume's mini-transactions, in order.

use auriga_protocol::{Lsn, Payload, Record};

/// One mini-transaction of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MiniTransaction<P> {
    /// Of its last record, the CPL.
    pub lsn: Lsn,
    /// All of it, in order.
    pub records: Vec<Record<P>>,
}

/// Merges what follows `above`, the end of a mini-transaction, as far as none is missing: whole mini-transactions only.
///
/// `chains`: of each group, in chain order, in any amount; what is at or below `above` is skipped. A record's `prev_volume`
/// names the one before it in the volume, so that a group of which too little was read ends the merge, and nothing is left
/// out.
pub fn merge<P: Payload>(above: Lsn, chains: Vec<Vec<Record<P>>>) -> Vec<MiniTransaction<P>> {
    let after = |record: &Record<P>| record.lsn > above;
    let mut chains: Vec<_> = chains.into_iter().map(|chain| chain.into_iter().filter(after).peekable()).collect();
    let (mut at, mut merged, mut open) = (above, Vec::new(), Vec::new());
    while let Some(record) = chains.iter_mut().find_map(|chain| chain.next_if(|record| record.prev_volume == at)) {
        at = record.lsn;
        let is_cpl = record.is_cpl;
        open.push(record);
        if is_cpl {
            merged.push(MiniTransaction { lsn: at, records: std::mem::take(&mut open) });
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_protocol::PageId;

    #[derive(Clone, PartialEq, Eq, Hash, Debug)]
    struct Nothing;

    impl Payload for Nothing {
        type Page = u8;

        fn apply(&self, _: &mut u8) {}

        fn weight(&self) -> usize {
            1
        }
    }

    /// A volume of two groups; LSNs jump where a recovery annulled some.
    fn log() -> [Vec<Record<Nothing>>; 2] {
        let (mut chains, mut prev_volume, mut prev_segment) = ([Vec::new(), Vec::new()], Lsn(5), [Lsn(4), Lsn(5)]);
        for (lsn, group, is_cpl) in
            [(6, 0, false), (7, 1, true), (8, 1, true), (20, 1, false), (21, 0, false), (22, 1, true), (23, 0, true)]
        {
            let page = PageId { inode: 1, block: group as u64 };
            let (lsn, before) = (Lsn(lsn), std::mem::replace(&mut prev_segment[group], Lsn(lsn)));
            let record =
                Record { lsn, prev_volume, prev_segment: before, prev_block: Lsn(0), is_cpl, page, payload: Nothing };
            chains[group].push(record);
            prev_volume = lsn;
        }
        chains
    }

    fn ends(merged: &[MiniTransaction<Nothing>]) -> Vec<(u64, usize)> {
        merged.iter().map(|one| (one.lsn.0, one.records.len())).collect()
    }

    #[test]
    fn whole_mini_transactions_come_in_the_volumes_order() {
        let merged = merge(Lsn(5), log().to_vec());
        assert_eq!(ends(&merged), [(7, 2), (8, 1), (22, 3), (23, 1)]);
        assert_eq!(ends(&merge(Lsn(8), log().to_vec())), [(22, 3), (23, 1)], "what was merged before is skipped");
    }

    #[test]
    fn a_group_that_ends_early_ends_the_merge() {
        let [one, other] = log();
        for cut in 0..=other.len() {
            let merged = merge(Lsn(5), vec![one.clone(), other[..cut].to_vec()]);
            let expected: &[(u64, usize)] = match cut {
                0 => &[],
                1 => &[(7, 2)],
                2 | 3 => &[(7, 2), (8, 1)],
                _ => &[(7, 2), (8, 1), (22, 3), (23, 1)],
            };
            assert_eq!(ends(&merged), expected, "{cut} records of the second group");
        }
    }

    #[test]
    fn what_does_not_follow_is_not_taken() {
        let [mut one, other] = log();
        one.remove(0);
        assert_eq!(ends(&merge(Lsn(5), vec![one, other])), []);
    }
}
