//! What a process should hold and does not, and what it holds and should not.

use super::{Answers, Charter, Held, holders};
use crate::defect::{Defect, Defects};
use crate::ids::{MemberId, PgId, SegmentId, VolumeId};
use crate::quorum::{MemberSet, Membership};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// A segment that a process should have: it is made blank, and rejoins before it counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// The segment.
    pub id: SegmentId,
    /// What its volume was made as.
    pub charter: Charter,
    /// Its group's membership.
    pub membership: Membership,
}

/// A volume that a process holds under a label that means another one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stranger {
    /// The label.
    pub label: u64,
    /// What the process holds.
    pub here: VolumeId,
    /// What the label means.
    pub meant: VolumeId,
    /// Whose processes hold that.
    pub holders: MemberSet,
}

/// Tells which segments the process of `me` should have, as its peers know it, and has not (R-VOLUME-3): those of which
/// a read quorum holds the others, where a writer has come to one of them: before, the making of the volume may be
/// under way, and is not this process's business. Nothing under a label that the process knows as another volume's, and
/// nothing of a member that has left its group.
pub fn missing(me: MemberId, own: &[Held], peers: &Answers) -> Vec<Missing> {
    let mut known: BTreeMap<SegmentId, (Missing, MemberSet, bool)> = BTreeMap::new();
    for (peer, held) in peers.iter().flat_map(|(peer, answer)| answer.iter().flatten().map(move |held| (*peer, held))) {
        if peer == me || held.id.member == me || !held.membership.members().contains(me) {
            continue;
        }
        let id = SegmentId { member: me, ..held.id };
        let new = || Missing { id, charter: held.charter, membership: held.membership.next.clone() };
        let (missing, holders, written) = known.entry(id).or_insert_with(|| (new(), MemberSet::EMPTY, false));
        *holders = holders.with(held.id.member);
        *written |= held.written;
        if held.membership.next.membership_epoch > missing.membership.membership_epoch {
            missing.membership = held.membership.next.clone();
        }
    }
    let is_new = |missing: &Missing| {
        own.iter().all(|held| {
            held.id != missing.id
                && (held.charter.label != missing.charter.label || held.id.volume == missing.id.volume)
        })
    };
    let is_agreed = |(missing, holders, written): &(Missing, MemberSet, bool)| {
        *written
            && missing.membership.quorum.read_met(*holders)
            && missing.membership.members().contains(missing.id.member)
    };
    let missing = known.into_values().filter(is_agreed).map(|(missing, _, _)| missing).filter(is_new).collect();
    of_clear_labels(missing)
}

/// Tells which segments the process at `home` should have because it was named as the home of a new member, and has not
/// (R-MEMBER-9): those where the step by which the member joins is in force, because a write quorum of both its sides
/// has it, or a later one. A step that is not in force may be dropped, and its member with it.
pub fn joining(home: SocketAddr, own: &[Held], peers: &Answers, defects: Defects) -> Vec<Missing> {
    let mut groups: BTreeMap<(VolumeId, PgId), BTreeMap<MemberId, &Held>> = BTreeMap::new();
    for held in peers.values().flatten().flatten() {
        groups.entry((held.id.volume, held.id.pg)).or_default().insert(held.id.member, held);
    }
    let mut missing = Vec::new();
    for ((volume, pg), held) in groups {
        let order = |held: &&&Held| (held.membership.volume_epoch, held.membership.epochs());
        let Some(newest) = held.values().max_by_key(order) else { continue };
        let step = &newest.membership;
        for member in step.next.homes.iter().filter(|(_, other)| **other == home).map(|(member, _)| *member) {
            let named = held.values().filter(|held| held.membership.next.home(member) == Some(home));
            let by: MemberSet = named.map(|held| held.id.member).collect();
            let id = SegmentId { volume, pg, member };
            let is_here = own.iter().any(|held| held.id == id);
            let other = own.iter().any(|held| held.charter.label == newest.charter.label && held.id.volume != volume);
            let early = defects.has(Defect::SegmentMadeBeforeInForce) && !by.is_empty();
            if (step.write_met(by, Defects::NONE) || early) && !is_here && !other {
                missing.push(Missing { id, charter: newest.charter, membership: step.next.clone() });
            }
        }
    }
    of_clear_labels(missing)
}

fn of_clear_labels(mut missing: Vec<Missing>) -> Vec<Missing> {
    // Two volumes of one label, each on a read quorum: which one is meant is for a person to say.
    let mut volumes: BTreeMap<u64, BTreeSet<VolumeId>> = BTreeMap::new();
    for each in &missing {
        volumes.entry(each.charter.label).or_default().insert(each.id.volume);
    }
    missing.retain(|each| volumes[&each.charter.label].len() == 1);
    missing
}

/// Tells which volumes of the process are not what their labels mean to a read quorum of its peers (R-VOLUME-4).
pub fn strangers(me: MemberId, own: &[Held], peers: &Answers) -> Vec<Stranger> {
    let mut strangers = BTreeSet::new();
    let others: Answers =
        peers.iter().filter(|(peer, _)| **peer != me).map(|(peer, answer)| (*peer, answer.clone())).collect();
    for held in own {
        let (label, here) = (held.charter.label, held.id.volume);
        let meant =
            holders(label, &others).into_iter().find(|(volume, by)| *volume != here && held.membership.read_met(*by));
        strangers.extend(meant.map(|(meant, holders)| Stranger { label, here, meant, holders }));
    }
    strangers.into_iter().collect()
}
