//! Allocation, sending, and what is durable: LSNs out, acknowledgements in, PGCL → VCL → VDL.

use super::{Out, Writer, WriterRole};
use crate::defect::Defect;
use crate::ids::{Lsn, MemberId, PageId, PgId, SegmentId};
use crate::message::{Message, Standing};
use crate::note::Note;
use crate::quorum::QuorumSet;
use crate::record::{Change, Payload, Record, take_weight};
use alloc::vec::Vec;
use serde::Serialize;

/// A record above VDL, as the volume's order knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) struct Queued {
    pub lsn: Lsn,
    pub pg: PgId,
    pub page: PageId,
    pub is_cpl: bool,
    pub weight: usize,
}

impl<P: Payload> Writer<P> {
    /// R-ALLOC-1: never above VDL + LAL, counted from where this writer began if that is higher; and never more bytes
    /// in flight than the limit, unless nothing is.
    pub(super) fn may_allocate(&self, changes: &[Change<P>]) -> bool {
        if self.config.defects.has(Defect::NoAllocationLimit) {
            return true;
        }
        let base = self.vdl.max(self.install.truncations.through());
        let weight: usize = changes.iter().map(Change::weight).sum();
        let fits = self.in_flight_weight == 0 || self.in_flight_weight + weight <= self.config.in_flight_weight_max;
        fits && self.allocated.0 + changes.len() as u64 <= base.0 + self.config.allocation_limit
    }

    /// Gives each change its LSN and links. The last record is the mini-transaction's CPL.
    pub(super) fn allocate(&mut self, changes: Vec<Change<P>>, out: &mut Out<P>) -> Lsn {
        let count = changes.len();
        let mut prev_volume = self.queue.back().map_or(self.vdl, |queued| queued.lsn);
        for (index, Change { page, payload }) in changes.into_iter().enumerate() {
            self.allocated = self.allocated.next();
            let (lsn, pg) = (self.allocated, self.config.geometry.group_of(page));
            let prev_block = self.latest.insert(page, lsn).unwrap_or_default();
            let prev_segment = core::mem::replace(&mut self.group(pg).last, lsn);
            let is_cpl = index + 1 == count;
            let may_clear = payload.may_clear();
            let record = Record { lsn, prev_volume, prev_segment, prev_block, is_cpl, page, payload };
            prev_volume = lsn;
            out.note(Note::Allocated {
                volume: self.id.volume,
                volume_epoch: self.volume_epoch,
                lsn,
                pg,
                page,
                is_cpl,
                may_clear,
            });
            self.enqueue(pg, record);
        }
        self.allocated
    }

    /// From now on the record is in flight.
    pub(super) fn enqueue(&mut self, pg: PgId, record: Record<P>) {
        let weight = record.weight();
        self.in_flight_weight += weight;
        self.queue.push_back(Queued { lsn: record.lsn, pg, page: record.page, is_cpl: record.is_cpl, weight });
        self.group(pg).records.insert(record.lsn, record);
    }

    /// Sends what has been submitted since the last flush, a batch per group.
    pub(super) fn flush(&mut self, out: &mut Out<P>) {
        if self.role != WriterRole::Open {
            return;
        }
        for index in 0..self.groups.len() {
            loop {
                let group = &self.groups[index];
                let unsent = group.records.range(group.sent.next()..).map(|(_, record)| record.clone());
                let batch = take_weight(unsent, self.config.batch_weight_max);
                let Some(last) = batch.last().map(|record| record.lsn) else { break };
                let (pg, mut to) = (group.pg, self.all_of(group.pg));
                to.extend(self.listeners());
                out.multicast(to, self.write(pg, batch));
                self.group(pg).sent = last;
            }
        }
    }

    /// Sends again to segments that stopped making progress, and VDL and PGMRPL to all.
    pub(super) fn resend_records(&mut self, out: &mut Out<P>) {
        for index in 0..self.groups.len() {
            let pg = self.groups[index].pg;
            for member in self.groups[index].stalled() {
                self.send_missing(pg, member, out);
            }
            out.multicast(self.all_of(pg), self.write(pg, Vec::new()));
        }
    }

    /// The first of the records in flight that `member` has not acknowledged; the next ones follow when it has.
    pub(super) fn send_missing(&mut self, pg: PgId, member: MemberId, out: &mut Out<P>) {
        let group = &self.groups[usize::from(pg.0)];
        let missing = group.sent_above(group.counted_scl(member)).cloned();
        let batch = take_weight(missing, self.config.batch_weight_max);
        let resent = batch.last().map_or(Lsn::ZERO, |record| record.lsn);
        if let Some(member) = self.group(pg).members.get_mut(&member) {
            member.resent = resent;
        }
        if !batch.is_empty() {
            out.send(self.segment(pg, member), self.write(pg, batch));
        }
    }

    pub(super) fn write(&mut self, pg: PgId, records: Vec<Record<P>>) -> Message<P> {
        let pgmrpl = self.pgmrpl();
        let pgmrpl = self.telling(pgmrpl);
        Message::Write {
            volume_epoch: self.volume_epoch,
            membership_epoch: self.groups[usize::from(pg.0)].membership.next.membership_epoch,
            records,
            vdl: self.vdl,
            pgmrpl,
        }
    }

    /// R-COLLECT-2: the lowest read point in use, on this instance or another; with none, VDL, below which no read will begin.
    fn pgmrpl(&self) -> Lsn {
        if self.config.defects.has(Defect::PgmrplIgnoresReads) {
            return self.vdl;
        }
        let own = self.read_points.keys().next().copied().unwrap_or(self.vdl);
        let own = self.config.hold.map_or(own, |held| own.min(held));
        self.lowest_followed().map_or(own, |followed| followed.min(own))
    }

    pub(super) fn on_acknowledge(&mut self, from: SegmentId, scl: Lsn, standing: &Standing, out: &mut Out<P>) {
        let counts = self.hear_losses(from, standing) && self.was_sent(from, scl);
        if !counts || (self.role != WriterRole::Installing && self.role != WriterRole::Open) {
            return;
        }
        let newly_installed = !self.group(from.pg).installed().contains(from.member);
        let defects = self.config.defects;
        let three = defects.has(Defect::WriteQuorumThree);
        let moved = self.group(from.pg).acknowledge(from.member, scl, |group| {
            let scl = |member| group.counted_scl(member);
            if three {
                let quorum = &group.membership.next.quorum;
                return QuorumSet { write: quorum.read.clone(), ..quorum.clone() }.write_point(scl);
            }
            group.membership.write_point(scl, defects)
        });
        if moved {
            self.advance_vcl();
            self.advance_vdl(out);
        }
        let member = self.group(from.pg).members.get(&from.member);
        let wants_more = member.is_some_and(|member| member.resent > Lsn::ZERO && member.scl >= member.resent);
        if newly_installed || wants_more {
            self.send_missing(from.pg, from.member, out);
        }
        self.settle(from.pg, out);
        self.open_if_installed(out);
    }

    /// R-VDL-1: in volume order, as far as each record's own group is complete. Not the least PGCL: an idle group does
    /// not hold the volume back (18 Fig. 3).
    fn advance_vcl(&mut self) {
        let defects = self.config.defects;
        let pgcls = || self.groups.iter().map(|group| group.pgcl);
        let planted = match () {
            () if defects.has(Defect::VclIsMaxPgcl) => pgcls().max(),
            () if defects.has(Defect::VclIsMinPgcl) => pgcls().min(),
            () => None,
        };
        while let Some(queued) = self.queue.get(self.complete) {
            let complete_through = planted.unwrap_or(self.groups[usize::from(queued.pg.0)].pgcl);
            if queued.lsn > complete_through {
                break;
            }
            self.vcl = queued.lsn;
            self.complete += 1;
        }
    }

    /// R-VDL-2: the highest CPL at or below VCL.
    fn advance_vdl(&mut self, out: &mut Out<P>) {
        let any_record = self.config.defects.has(Defect::VdlNotAtCpl);
        let cpl = |index: &usize| self.queue[*index].is_cpl || any_record;
        let Some(last) = (0..self.complete).rev().find(cpl) else { return };
        let mut bytes = 0;
        for queued in self.queue.drain(..=last) {
            self.in_flight_weight -= queued.weight;
            bytes += queued.weight;
            self.vdl = queued.lsn;
            if self.latest.get(&queued.page) == Some(&queued.lsn) {
                self.latest.remove(&queued.page);
            }
            let group = &mut self.groups[usize::from(queued.pg.0)];
            group.records.remove(&queued.lsn);
            group.durable = queued.lsn;
        }
        self.complete -= last + 1;
        // Also while it installs: segments are told this VDL, and may collect up to it.
        let (volume, volume_epoch) = (self.id.volume, self.volume_epoch);
        out.note(Note::Durable { volume, volume_epoch, vdl: self.vdl });
        self.tell_followers(bytes, out);
    }
}
