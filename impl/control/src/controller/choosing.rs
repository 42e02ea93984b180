//! Who is the best to take over.

use super::seen::{RoleSeen, Seen};
use super::{Limits, Member, Millis};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// An instance that can be promoted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    pub name: String,
    pub az: String,
}

/// Returns those that answered a question asked at `since` or later, and may become the writer: first one that has
/// followed a writer, then the lowest tier, then the largest, then the furthest. Names decide what is left, so that the choice is the same each time.
pub(super) fn candidates(
    members: &[Member],
    seen: &BTreeMap<String, Seen>,
    limits: &Limits,
    now: Millis,
    since: Millis,
) -> Vec<Candidate> {
    let mut found: Vec<_> = members
        .iter()
        .filter_map(|member| {
            let seen = seen.get(&member.name)?;
            if seen.is_gone(now, limits) {
                return None;
            }
            let said = seen.answer_since(since)?;
            if said.role != RoleSeen::Reader || said.is_of_secondary {
                return None;
            }
            let rank = (said.writer_heard_ms.is_none(), said.tier, Reverse(member.size), Reverse(said.read_point));
            Some((rank, Candidate { name: member.name.clone(), az: said.az.clone() }))
        })
        .collect();
    found.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.name.cmp(&y.name)));
    found.into_iter().map(|(_, candidate)| candidate).collect()
}
