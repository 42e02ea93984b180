//! One protection group as its writer sees it.

use super::interface::MemberStatus;
use crate::ids::{Incarnation, Lsn, MemberId, MembershipEpoch, Micros, PgId};
use crate::membership::Step;
use crate::message::Standing;
use crate::quorum::{MemberSet, Membership};
use crate::record::{Payload, Record};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use serde::Serialize;

/// One segment as its writer sees it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize)]
pub(super) struct Member {
    /// Whether it has acknowledged this writer's install. Only then does it count.
    pub installed: bool,
    /// Its highest acknowledged SCL in this volume epoch.
    pub scl: Lsn,
    /// SCL at the last retry: no progress since then means that something was lost.
    pub scl_at_retry: Lsn,
    /// It is being caught up: the last record sent to it again. Zero: it isn't.
    pub resent: Lsn,
    /// Its highest incarnation known: what it said in an earlier one does not count.
    pub incarnation: Incarnation,
    /// Moving mean of its read latency.
    pub read_latency: Micros,
    /// [`Step::epochs`] of the step that it has durably, in this volume epoch.
    pub epochs: (MembershipEpoch, MembershipEpoch),
    /// Whether it counts, as it says: of one that joins, whether it is hydrated.
    pub counts: bool,
    /// Retries since it was heard.
    #[serde(skip)]
    pub unheard: Silence,
}

/// How often a member did not answer. Says only whether a replacement is begun, so two writers that differ in nothing else
/// are taken for the same: a model that replaces nobody need not tell them apart.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Silence(pub u8);

impl PartialEq for Silence {
    fn eq(&self, _: &Silence) -> bool {
        true
    }
}

impl Eq for Silence {}

impl core::hash::Hash for Silence {
    fn hash<H: core::hash::Hasher>(&self, _: &mut H) {}
}

/// One protection group: its members, and the records that are above VDL.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) struct Group<P: Payload> {
    pub pg: PgId,
    /// Who is in the group, and who is about to be. From `Installing` on, this writer's own.
    pub membership: Step,
    /// The configuration says so, and no segment has said anything yet.
    pub is_hint: bool,
    /// What this writer's install brings.
    pub carried: (MembershipEpoch, MembershipEpoch),
    /// Who has left, and does not know it yet, as far as this writer knows.
    pub leaving: MemberSet,
    pub members: BTreeMap<MemberId, Member>,
    /// Above VDL, in order: kept to be sent again.
    pub records: BTreeMap<Lsn, Record<P>>,
    /// The last record handed to the network.
    pub sent: Lsn,
    /// The group's last LSN: the next record's `prev_segment`.
    pub last: Lsn,
    /// The group's last LSN at or below VDL: VDL as a read point, translated to this group (R-READ-2).
    pub durable: Lsn,
    /// Protection Group Complete LSN: where a write quorum's SCLs stand.
    pub pgcl: Lsn,
}

impl<P: Payload> Group<P> {
    pub fn new(pg: PgId, membership: Membership) -> Self {
        let members = membership.quorum.members().iter().map(|member| (member, Member::default())).collect();
        let (records, zero) = (BTreeMap::new(), Lsn::ZERO);
        let (membership, is_hint, carried) = (Step::first(membership), true, Default::default());
        let (leaving, sent, last, durable, pgcl) = (MemberSet::EMPTY, zero, zero, zero, zero);
        Group { pg, membership, is_hint, carried, leaving, members, records, sent, last, durable, pgcl }
    }

    /// Members that have installed this writer's volume epoch.
    pub fn installed(&self) -> MemberSet {
        self.members.iter().filter(|(_, member)| member.installed).map(|(id, _)| *id).collect()
    }

    /// R-REJOIN-3: drops what members said before they lost part of their log. Returns these members, and whether the
    /// sender's own message still counts.
    pub fn hear_losses(&mut self, from: MemberId, standing: &Standing) -> (Vec<MemberId>, bool) {
        let mut lost = Vec::new();
        let own = core::iter::once((&from, &standing.incarnation));
        for (member, incarnation) in standing.losses.iter().chain(own) {
            let Some(known) = self.members.get_mut(member) else { continue };
            if *incarnation > known.incarnation {
                *known = Member { incarnation: *incarnation, read_latency: known.read_latency, ..Member::default() };
                lost.push(*member);
            }
        }
        let counts = self.members.get(&from).is_some_and(|known| known.incarnation == standing.incarnation);
        (lost, counts)
    }

    /// Takes an acknowledgement. Returns whether PGCL moved.
    pub fn acknowledge(&mut self, from: MemberId, scl: Lsn, point_of: impl Fn(&Self) -> Lsn) -> bool {
        let Some(member) = self.members.get_mut(&from) else { return false };
        member.unheard.0 = 0;
        if !core::mem::replace(&mut member.installed, true) {
            member.epochs = member.epochs.max(self.carried);
        }
        member.scl = member.scl.max(scl);
        let before = self.pgcl;
        self.pgcl = before.max(point_of(self));
        self.pgcl > before
    }

    /// The SCL that counts: nothing before the install.
    pub fn counted_scl(&self, member: MemberId) -> Lsn {
        self.members.get(&member).filter(|member| member.installed).map_or(Lsn::ZERO, |member| member.scl)
    }

    /// Members that miss some of the records in flight and have made no progress since the last call.
    pub fn stalled(&mut self) -> Vec<MemberId> {
        let sent = self.sent;
        let mut stalled = Vec::new();
        for (id, member) in &mut self.members {
            if member.installed && member.scl < sent && member.scl == member.scl_at_retry {
                stalled.push(*id);
            }
            member.scl_at_retry = member.scl;
        }
        stalled
    }

    /// Records in flight above `scl` that were handed to the network.
    pub fn sent_above(&self, scl: Lsn) -> impl Iterator<Item = &Record<P>> {
        self.records.values().filter(move |record| record.lsn > scl && record.lsn <= self.sent)
    }

    /// What was learnt in a volume epoch that this writer has given up.
    pub fn forget_records(&mut self) {
        self.records.clear();
        (self.sent, self.last, self.durable, self.pgcl) = (Lsn::ZERO, Lsn::ZERO, Lsn::ZERO, Lsn::ZERO);
        for member in self.members.values_mut() {
            (member.installed, member.scl) = (false, Lsn::ZERO);
            (member.scl_at_retry, member.resent) = (Lsn::ZERO, Lsn::ZERO);
            (member.epochs, member.counts) = Default::default();
        }
    }

    pub fn member_status(&self) -> impl Iterator<Item = MemberStatus> + '_ {
        self.members.iter().map(|(id, member)| MemberStatus {
            pg: self.pg,
            member: *id,
            scl: member.scl,
            installed: member.installed,
            read_latency: member.read_latency,
            joining: self.membership.next.joining().contains(*id),
            counts: member.counts,
        })
    }
}
