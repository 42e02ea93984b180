//! What a segment checks of a message before it acts on it.
//!
//! What no sound sender can have sent is dropped and noted, and nothing comes of it (R-LIMIT-2): it would break an
//! invariant, use up numbers that a volume needs for its whole life, or cost more than its own length. Checks are
//! linear in the message's length.
//!
//! A record that contradicts one that is held is another matter: one of the two is false, and it can't be known here
//! which. The segment stops (R-LOG-4).

use super::log::Held;
use super::{Out, Segment};
use crate::defect::Defect;
use crate::ids::{Incarnation, Lsn, MemberId, PageId, Party, VolumeEpoch};
use crate::life::Life;
use crate::limits::{EPOCH_STEP_MAX, INCARNATION_STEP_MAX, LIFE_STEP_MAX, LSN_STEP_MAX};
use crate::membership::Step;
use crate::message::{Message, Refusal};
use crate::note::Note;
use crate::record::{Payload, Record, are_in_order};
use crate::truncation::TruncationList;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use serde::{Deserialize, Serialize};

/// Why no sound sender can have sent a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Implausible {
    /// It raises the volume epoch farther than all recoveries of a volume's life could.
    VolumeEpochJumps,
    /// It raises an incarnation farther than all losses of a journal could.
    IncarnationJumps,
    /// It raises the number of a life farther than a century of them could.
    LifeJumps,
    /// It raises an LSN farther than a writer could meanwhile.
    LsnJumps,
    /// PGMRPL is above VDL (R-COLLECT-2, R-READ-4).
    PgmrplAboveVdl,
    /// It annuls what this segment was told is durable (R-TRUNCATE-5).
    AnnulsDurable,
    /// Records or pages are out of order, or none are there although more follow.
    OutOfOrder,
    /// Its quorums need not meet, or no writer can have meant it (R-MEMBER-2).
    UnsoundMembership,
}

impl<P: Payload> Segment<P> {
    /// Whether a sound sender can have sent `message`.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn plausible(&self, from: Party, message: &Message<P>) -> Result<(), Implausible> {
        match message {
            Message::Seal { volume_epoch, .. } => self.epoch_is_near(*volume_epoch),
            Message::TailPull { volume_epoch, truncations, .. } => {
                self.keeps_what_is_durable(*volume_epoch, truncations)
            }
            Message::Install { install, membership } | Message::GossipInstall { install, membership } => {
                self.epoch_is_near(install.volume_epoch)?;
                self.membership_is_sound(membership)?;
                self.keeps_what_is_durable(install.volume_epoch, &install.truncations)
            }
            Message::Write { records, vdl, pgmrpl, .. } => {
                require(pgmrpl <= vdl, Implausible::PgmrplAboveVdl)?;
                self.lsn_is_near(*vdl)?;
                require(are_in_order(records), Implausible::OutOfOrder)
            }
            Message::GossipPush { records, .. } => require(are_in_order(records), Implausible::OutOfOrder),
            Message::GossipTooFar { floor } => self.lsn_is_near(*floor),
            Message::HealPush { through, .. } => self.lsn_is_near(*through),
            Message::HydratePush { after, floor, pages, unchanged, complete, .. } => {
                self.lsn_is_near(*floor)?;
                let ascends = |pages: &[PageId]| {
                    let above = pages.first().is_none_or(|first| after.is_none_or(|after| *first > after));
                    above && pages.iter().zip(pages.iter().skip(1)).all(|(one, next)| one < next)
                };
                let newer: Vec<PageId> = pages.iter().map(|base| base.page).collect();
                let moves_on = *complete || !newer.is_empty() || !unchanged.is_empty();
                require(ascends(&newer) && ascends(unchanged) && moves_on, Implausible::OutOfOrder)
            }
            Message::Membership { membership, .. } | Message::GossipPull { membership, .. } => {
                self.membership_is_sound(membership)
            }
            Message::Refused(Refusal::StaleMembership { current }) => self.membership_is_sound(current),
            Message::RejoinPull { incarnation, membership, .. } => {
                self.membership_is_sound(membership)?;
                let known = match from {
                    Party::Segment(peer) => self.standing.losses.get(&peer.member).copied().unwrap_or_default(),
                    Party::Writer(..) | Party::Reader(..) => Incarnation::default(),
                };
                incarnation_is_near(known, *incarnation)
            }
            Message::LifeAsk { life, membership, .. } => {
                self.membership_is_sound(membership)?;
                let Party::Segment(peer) = from else { return Ok(()) };
                self.life_is_near(peer.member, *life)
            }
            Message::RejoinPush { report, lives, .. } => {
                self.membership_is_sound(&report.membership)?;
                lives.iter().try_for_each(|(member, life)| self.life_is_near(*member, *life))
            }
            Message::RejoinKnown { known, .. } => incarnation_is_near(self.standing.incarnation, *known),
            _ => Ok(()),
        }
    }

    fn life_is_near(&self, member: MemberId, life: Life) -> Result<(), Implausible> {
        let known = self.life_known_of(member);
        let number = if life.incarnation == known.incarnation { known.number } else { 0 };
        require(life.number <= number.saturating_add(LIFE_STEP_MAX), Implausible::LifeJumps)?;
        incarnation_is_near(known.incarnation, life.incarnation)
    }

    /// What is known here was judged before.
    fn membership_is_sound(&self, told: &Step) -> Result<(), Implausible> {
        let known = told.before == self.membership.before && told.next == self.membership.next;
        require(known || told.is_sound() || self.config.defects.any(), Implausible::UnsoundMembership)
    }

    fn lsn_is_near(&self, lsn: Lsn) -> Result<(), Implausible> {
        require(lsn.0 <= self.highest_known().0.saturating_add(LSN_STEP_MAX), Implausible::LsnJumps)
    }

    fn epoch_is_near(&self, volume_epoch: VolumeEpoch) -> Result<(), Implausible> {
        let known = self.promised.number;
        require(volume_epoch.number <= known.saturating_add(EPOCH_STEP_MAX), Implausible::VolumeEpochJumps)
    }

    /// R-TRUNCATE-5: a recovery keeps whatever any writer has called durable.
    ///
    /// Judged by the VDL that a writer told here, in the volume epoch that is installed. Floor and ceiling are no such
    /// thing: they can be on disk before the install that they belong to. And a list of an overtaken candidate proves nothing.
    fn keeps_what_is_durable(&self, by: VolumeEpoch, truncations: &TruncationList) -> Result<(), Implausible> {
        if by < self.promised || self.knows_nothing() || self.vdl <= self.log.floor().max(self.ceiling) {
            return Ok(());
        }
        let newer = truncations.cut_after(self.install.volume_epoch);
        let cuts = newer.is_some_and(|cut| cut < self.vdl) || truncations.annuls(self.vdl);
        // With a planted defect this is the check's to find.
        require(!cuts || self.config.defects.any(), Implausible::AnnulsDurable)
    }

    fn highest_known(&self) -> Lsn {
        self.vdl.max(self.log.last()).max(self.install.truncations.through())
    }

    /// Those of `records` that the log lacks and that are not annulled (R-TRUNCATE-3). `None`: one of them contradicts
    /// what is held, and the segment has stopped.
    pub(super) fn new_records(
        &mut self,
        from: Party,
        records: Vec<Record<P>>,
        out: &mut Out<P>,
    ) -> Option<Vec<Record<P>>> {
        let keeps_annulled = self.config.defects.has(Defect::GossipResurrects);
        let mut new = Vec::with_capacity(records.len());
        for record in records {
            match self.log.compare(&record) {
                Held::Nothing if keeps_annulled || !self.install.truncations.annuls(record.lsn) => new.push(record),
                Held::Another(held) if !self.config.defects.any() => {
                    let (segment, lsn) = (self.id, record.lsn);
                    out.note(Note::Contradicted { segment, from, lsn, held: digest(held), came: digest(&record) });
                    self.contradiction = Some(lsn);
                    return None;
                }
                Held::Nothing | Held::Same | Held::Another(_) => {}
            }
        }
        Some(new)
    }
}

fn require(sound: bool, why: Implausible) -> Result<(), Implausible> {
    if sound { Ok(()) } else { Err(why) }
}

fn incarnation_is_near(known: Incarnation, told: Incarnation) -> Result<(), Implausible> {
    require(told.0 <= known.0.saturating_add(INCARNATION_STEP_MAX), Implausible::IncarnationJumps)
}

/// FNV-1a over a record: to tell two apart in a log, not to prove anything.
fn digest(record: &impl Hash) -> u64 {
    struct Fnv(u64);
    impl Hasher for Fnv {
        fn write(&mut self, bytes: &[u8]) {
            self.0 = bytes.iter().fold(self.0, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        }

        fn finish(&self) -> u64 {
            self.0
        }
    }
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
    record.hash(&mut fnv);
    fnv.finish()
}
