//! How a writer takes a volume over (17 §4.3, 18 §2.4), and why nothing acknowledged is lost.
//!
//! 1. **Seal** a read quorum of every group: from now on no older writer can reach a write quorum. Whatever an older
//!    writer has acknowledged is on a write quorum, so at least one sealed segment of the group has it. All others are
//!    waited for as well, for a moment (`lingering.rs`).
//! 2. **Collect**: the newest install among the reports says which truncations are in force. A chain that was not yet
//!    truncated so is cut where the first range it missed begins (R-RECOVER-1: by volume epoch, never by length). The
//!    best chain of each group above the highest known VDL is fetched; the walk along `prev_volume` gives VCL, its last
//!    CPL is the recovered VDL (R-RECOVER-2).
//! 3. **Install** on a write quorum of every group: volume epoch and truncation of everything above the recovered VDL
//!    that an older writer can have allocated (R-RECOVER-3). The tail up to the VDL is brought to a write quorum before
//!    anything is built on it (R-RECOVER-4). Then the writer is open.

use super::doubt::TAIL_WEIGHT_MAX;
use super::lingering::Patience;
use super::{Out, Writer, WriterRole};
use crate::defect::Defect;
use crate::ids::{Lsn, MemberId, PgId, SegmentId, VolumeEpoch};
use crate::message::{Install, Message, SealReport};
use crate::note::Note;
use crate::quorum::MemberSet;
use crate::record::{Payload, Record, are_in_order};
use crate::truncation::{TruncationList, TruncationRange};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::Serialize;

/// Retries after which the source of a tail is given up, so that one is slow and not yet silent where the network's
/// round trip is longer than the retry timer.
const SOURCE_PATIENCE_ROUNDS: u8 = 5;

/// What recovery knows so far. Empty once the writer is open.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) struct Recovery<P: Payload> {
    reports: BTreeMap<(PgId, MemberId), SealReport>,
    tails: BTreeMap<PgId, Tail<P>>,
    /// The floors of those that have coalesced beyond a truncation range, as reported; also by those whose report came
    /// when enough others were there (R-TRUNCATE-6).
    floors: BTreeMap<(PgId, MemberId), Lsn>,
    /// The highest VDL that any sealed segment was told: durable, so nothing below it needs to be looked at.
    known_vdl: Lsn,
    /// Who claims to have promised an implausible volume epoch.
    pub doubted: BTreeSet<(PgId, MemberId)>,
    /// Whether promises beyond a read quorum are waited for.
    pub patience: Patience,
    /// The recovered VDL; the writer opens when its own VDL has reached it.
    target: Lsn,
}

/// A group's chain above the known VDL, as far as it has come.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
struct Tail<P: Payload> {
    source: MemberId,
    /// The chain's last LSN at or below the known VDL, once known.
    base: Option<Lsn>,
    records: Vec<Record<P>>,
    weight: usize,
    complete: bool,
    /// Retries since a part came.
    silent_rounds: u8,
}

/// What a `Tail` message brings.
pub(super) struct TailPart<P: Payload> {
    pub above: Lsn,
    pub base: Lsn,
    pub records: Vec<Record<P>>,
    pub complete: bool,
}

impl<P: Payload> Default for Recovery<P> {
    fn default() -> Self {
        let (reports, tails, floors) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (doubted, patience) = (BTreeSet::new(), Patience::Whole);
        Recovery { reports, tails, floors, known_vdl: Lsn::ZERO, doubted, patience, target: Lsn::ZERO }
    }
}

impl<P: Payload> Recovery<P> {
    /// The segment lost part of its log after it had reported.
    pub fn forget_report(&mut self, pg: PgId, member: MemberId) {
        self.reports.remove(&(pg, member));
    }
}

/// A sealed segment's SCL as far as it is valid under `newest`: cut where the first truncation begins that the segment
/// has not seen.
pub fn effective_scl(report: &SealReport, newest: &Install) -> Lsn {
    let cut = newest.truncations.cut_after(report.install.volume_epoch);
    cut.map_or(report.scl, |cut| report.scl.min(cut))
}

impl<P: Payload> Writer<P> {
    /// Begins (again) as a candidate with the volume epoch after `above`.
    pub(super) fn seal_above(&mut self, above: VolumeEpoch, out: &mut Out<P>) {
        self.volume_epoch = VolumeEpoch::new(self.number_above(above), self.id.writer);
        self.role = WriterRole::Sealing;
        self.recovery = Recovery::default();
        self.forget_records();
        self.forget_followers();
        self.send_seals(out);
    }

    pub(super) fn send_seals(&mut self, out: &mut Out<P>) {
        let volume_epoch = self.volume_epoch;
        for group in &self.groups {
            let silent = |member: &MemberId| !self.recovery.reports.contains_key(&(group.pg, *member));
            let members = group.membership.members();
            let to = members.iter().filter(silent).map(|member| self.segment(group.pg, member)).collect();
            out.multicast(to, Message::Seal { volume_epoch, shape: self.config.shape() });
        }
    }

    pub(super) fn on_sealed(
        &mut self,
        from: SegmentId,
        volume_epoch: VolumeEpoch,
        report: SealReport,
        out: &mut Out<P>,
    ) {
        let counts = self.hear_losses(from, &report.standing);
        let is_answer =
            matches!(self.role, WriterRole::Sealing | WriterRole::Collecting) && volume_epoch == self.volume_epoch;
        if !counts || !is_answer || !self.is_plausible_report(&report) {
            return;
        }
        let ended = |range: &TruncationRange| range.through <= report.floor;
        if report.install.truncations.ranges().first().is_some_and(ended) {
            self.recovery.floors.insert((from.pg, from.member), report.floor);
        }
        if self.role == WriterRole::Collecting {
            return;
        }
        self.group(from.pg).hear_membership(&report.membership);
        self.recovery.reports.insert((from.pg, from.member), report);
        self.collect_or_linger(out);
    }

    /// Whether a read quorum of every group has promised.
    pub(super) fn all_are_sealed(&self) -> bool {
        self.groups.iter().all(|group| self.is_sealed(group.pg))
    }

    /// Who has promised.
    pub(super) fn sealed(&self, pg: PgId) -> MemberSet {
        self.reports_of(pg).map(|(member, _)| member).collect()
    }

    fn is_sealed(&self, pg: PgId) -> bool {
        let sealed = self.sealed(pg);
        let membership = &self.groups[usize::from(pg.0)].membership;
        membership.read_met(sealed) || (self.config.defects.has(Defect::ReadQuorumTwo) && sealed.len() >= 2)
    }

    /// Of members, as far as it is known who is one: what one that has left reports says nothing.
    fn reports_of(&self, pg: PgId) -> impl Iterator<Item = (MemberId, &SealReport)> {
        let members = self.groups[usize::from(pg.0)].membership.members();
        let reports = self.recovery.reports.range((pg, MemberId(0))..=(pg, MemberId::MAX));
        reports.map(|((_, id), report)| (*id, report)).filter(move |(id, _)| members.contains(*id))
    }

    fn all_reports(&self) -> impl Iterator<Item = &SealReport> {
        self.groups.iter().flat_map(|group| self.reports_of(group.pg)).map(|(_, report)| report)
    }

    /// Chooses each group's best chain and asks for what is above the highest known VDL.
    pub(super) fn collect(&mut self, out: &mut Out<P>) {
        self.role = WriterRole::Collecting;
        self.install = self.all_reports().map(|report| &report.install).max().cloned().unwrap_or_default();
        self.recovery.known_vdl = self.all_reports().map(|report| report.vdl).max().unwrap_or_default();
        self.recovery.tails.clear();
        let by_length = self.config.defects.has(Defect::TailByLength);
        for index in 0..self.groups.len() {
            let pg = self.groups[index].pg;
            let reach = |report: &SealReport| if by_length { report.scl } else { effective_scl(report, &self.install) };
            let best = self.reports_of(pg).max_by_key(|(member, report)| (reach(report), core::cmp::Reverse(*member)));
            let source = best.map(|(member, _)| member).unwrap_or_default();
            let tail = Tail { source, base: None, records: Vec::new(), weight: 0, complete: false, silent_rounds: 0 };
            self.recovery.tails.insert(pg, tail);
            self.pull_tail(pg, out);
        }
    }

    fn pull_tail(&self, pg: PgId, out: &mut Out<P>) {
        let tail = &self.recovery.tails[&pg];
        let above = tail.above(self.recovery.known_vdl);
        let by_length = self.config.defects.has(Defect::TailByLength);
        let truncations = if by_length { TruncationList::default() } else { self.install.truncations.clone() };
        let volume_epoch = self.volume_epoch;
        out.send(self.segment(pg, tail.source), Message::TailPull { volume_epoch, above, truncations });
    }

    pub(super) fn on_tail(&mut self, from: SegmentId, part: TailPart<P>, out: &mut Out<P>) {
        let known_vdl = self.recovery.known_vdl;
        let Some(tail) = self.recovery.tails.get_mut(&from.pg) else { return };
        let expected = tail.source == from.member && !tail.complete && part.above == tail.above(known_vdl);
        let plausible = are_in_order(&part.records) && (part.complete || !part.records.is_empty());
        if self.role != WriterRole::Collecting || !expected || !plausible {
            return;
        }
        tail.base.get_or_insert(part.base);
        tail.silent_rounds = 0;
        for record in part.records {
            if record.prev_segment != tail.end() {
                return; // not a chain: the retry timer asks again
            }
            tail.weight += record.weight();
            if tail.weight > TAIL_WEIGHT_MAX {
                return; // No segment holds that much: its source is given up.
            }
            tail.records.push(record);
        }
        tail.complete = part.complete;
        if !tail.complete {
            return self.pull_tail(from.pg, out);
        }
        if !self.recovery.tails.values().all(|tail| tail.complete) {
            return;
        }
        // A report may have been dropped since: its segment lost what it had reported.
        if self.all_are_sealed() {
            self.decide(out);
        } else {
            self.role = WriterRole::Sealing;
            self.recovery.patience = Patience::Whole;
            self.send_seals(out);
        }
    }

    /// A source that went silent is dropped, and its group sealed anew: by itself if it still answers. Where all others
    /// have promised already, no member is left to wait for.
    pub(super) fn retry_collecting(&mut self, out: &mut Out<P>) {
        let silent: Vec<(PgId, MemberId)> = (self.recovery.tails.iter())
            .filter(|(_, tail)| !tail.complete && tail.silent_rounds >= SOURCE_PATIENCE_ROUNDS)
            .map(|(pg, tail)| (*pg, tail.source))
            .collect();
        for (pg, source) in &silent {
            self.recovery.reports.remove(&(*pg, *source));
        }
        if !silent.is_empty() {
            self.role = WriterRole::Sealing;
            self.recovery.tails.clear();
            self.send_seals(out);
            return self.collect_if_patience_is_spent(out);
        }
        for pg in self.recovery.tails.keys().copied().collect::<Vec<_>>() {
            let Some(tail) = self.recovery.tails.get_mut(&pg).filter(|tail| !tail.complete) else { continue };
            tail.silent_rounds += 1;
            self.pull_tail(pg, out);
        }
    }

    /// All chains are here: finds VDL, truncates above it, and installs.
    fn decide(&mut self, out: &mut Out<P>) {
        let tails = core::mem::take(&mut self.recovery.tails);
        let mut records = BTreeMap::new();
        for (pg, tail) in tails {
            let group = self.group(pg);
            group.durable = tail.base.unwrap_or_default();
            group.last = group.durable;
            group.sent = group.durable;
            records.extend(tail.records.into_iter().map(|record| (record.lsn, (pg, record))));
        }
        if !self.config.defects.has(Defect::TailByLength) {
            // A recovery that was never complete may have kept what the install in force annuls (R-RECOVER-1).
            records.retain(|lsn, _| !self.install.truncations.annuls(*lsn));
        }
        let vdl = recovered_vdl(self.recovery.known_vdl, records.values().map(|(_, record)| record));
        let sound = !self.install.truncations.annuls(vdl) || self.config.defects.any();
        assert!(sound, "R-RECOVER-5 broken: VDL {vdl} under {:?}", self.install.truncations);
        let forgettable = self.lowest_floor();

        let mut truncations = core::mem::take(&mut self.install.truncations);
        truncations.forget_through(forgettable);
        truncations.annul_above(self.volume_epoch, vdl, self.config.allocation_limit);
        let reuses = self.config.defects.has(Defect::LsnReused);
        self.allocated = if reuses { vdl } else { truncations.through() };
        self.install = Install { volume_epoch: self.volume_epoch, truncations, vdl };
        self.vdl = self.recovery.known_vdl;
        self.vcl = self.vdl;
        self.recovery = Recovery { target: vdl, ..Recovery::default() };
        self.role = WriterRole::Installing;
        self.groups.iter_mut().for_each(|group| group.carry_membership(self.volume_epoch));
        for (pg, record) in records.into_values().filter(|(_, record)| record.lsn <= vdl) {
            let group = self.group(pg);
            group.last = record.lsn;
            group.sent = record.lsn;
            self.enqueue(pg, record);
        }
        self.send_installs(out);
    }

    /// R-TRUNCATE-6: the lowest floor of all segments of the volume; zero unless each has reported its own.
    fn lowest_floor(&self) -> Lsn {
        if self.config.defects.has(Defect::ForgetsAboveFloors) {
            return self.recovery.known_vdl;
        }
        let floors = &self.recovery.floors;
        let is_whole = |group: &super::Group<P>| {
            let mut members = group.membership.members().iter();
            members.all(|member| floors.contains_key(&(group.pg, member)))
        };
        let lowest = floors.values().min().copied().unwrap_or_default();
        if self.groups.iter().all(is_whole) { lowest } else { Lsn::ZERO }
    }

    /// To every segment that has not acknowledged it.
    pub(super) fn send_installs(&mut self, out: &mut Out<P>) {
        for group in &self.groups {
            let missing = group.membership.members().minus(group.installed());
            let to = missing.iter().map(|member| self.segment(group.pg, member)).collect();
            let (install, membership) = (self.install.clone(), group.membership.clone());
            out.multicast(to, Message::Install { install, membership });
        }
    }

    /// A segment that was away during the recovery says that it has not installed.
    pub(super) fn send_install(&mut self, to: SegmentId, out: &mut Out<P>) {
        if self.role == WriterRole::Installing || self.role == WriterRole::Open {
            let (install, membership) = (self.install.clone(), self.group(to.pg).membership.clone());
            out.send(self.segment(to.pg, to.member), Message::Install { install, membership });
        }
    }

    /// Opens once every group has installed on a write quorum and the tail is on one.
    pub(super) fn open_if_installed(&mut self, out: &mut Out<P>) {
        let defects = self.config.defects;
        let on_three = defects.has(Defect::InstallOnThree);
        let installed = |group: &super::Group<P>| {
            let (membership, members) = (&group.membership, group.installed());
            if on_three { membership.read_met(members) } else { membership.write_met(members, defects) }
        };
        let spread = self.vdl >= self.recovery.target || defects.has(Defect::TailNotBroughtToFour);
        if self.role != WriterRole::Installing || !spread || !self.groups.iter().all(installed) {
            return;
        }
        self.role = WriterRole::Open;
        self.vdl = self.vdl.max(self.recovery.target);
        self.vcl = self.vcl.max(self.vdl);
        self.recovery = Recovery::default();
        let (volume, writer, volume_epoch) = (self.id.volume, self.id.writer, self.volume_epoch);
        out.note(Note::Opened { volume, writer, volume_epoch, vdl: self.vdl });
        self.begin_grace(out);
        self.settle_all(out);
    }
}

impl<P: Payload> Tail<P> {
    /// The last LSN that has come.
    fn end(&self) -> Lsn {
        self.records.last().map_or(self.base.unwrap_or_default(), |record| record.lsn)
    }

    /// What to ask above.
    fn above(&self, known_vdl: Lsn) -> Lsn {
        self.records.last().map_or(known_vdl, |record| record.lsn)
    }
}

/// Walks the volume chain from `known_vdl`: the last CPL before the first gap (R-RECOVER-2).
fn recovered_vdl<'a, P: Payload + 'a>(known_vdl: Lsn, records: impl Iterator<Item = &'a Record<P>>) -> Lsn {
    let (mut at, mut vdl) = (known_vdl, known_vdl);
    for record in records {
        if record.prev_volume != at {
            break;
        }
        at = record.lsn;
        if record.is_cpl {
            vdl = record.lsn;
        }
    }
    vdl
}
