//! Reading a page from one segment: the fastest that is current, and the next one when it is late.
//!
//! Never a read quorum in normal operation: the writer knows from acknowledgements which segments have everything at
//! the read point (18 §3.1).

use super::{Answer, Out, SubmitRefused, Timer, Writer, WriterRole};
use crate::defect::Defect;
use crate::ids::{Lsn, MemberId, Micros, PageId, PgId, SegmentId};
use crate::machine::Token;
use crate::message::{Message, Refusal};
use crate::note::Note;
use crate::quorum::MemberSet;
use crate::record::Payload;
use serde::Serialize;

/// A read is late after this many times its segment's moving mean …
const HEDGE_FACTOR: u64 = 4;
/// … within these bounds, in microseconds.
const HEDGE_AFTER: core::ops::RangeInclusive<u64> = 2_000..=200_000;
/// One read in this many goes to a segment that is not the fastest, so that mean times stay current.
const EXPLORE_EVERY: u64 = 64;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) struct ReadUnderWay {
    page: PageId,
    pg: PgId,
    read_point: Lsn,
    group_point: Lsn,
    /// Segments asked and not refused; the last one, and when it was asked.
    asked: MemberSet,
    last: MemberId,
    sent: Micros,
}

impl<P: Payload> Writer<P> {
    /// R-READ-4: the read point is VDL when the read begins.
    pub(super) fn start_read(&mut self, now: Micros, token: Token, page: PageId, out: &mut Out<P>) {
        if let Some(refused) = self.refusal() {
            return out.answer(token, Answer::NotRead(refused));
        }
        if self.reads.len() >= self.config.reads_max {
            return out.answer(token, Answer::NotRead(SubmitRefused::BackPressure));
        }
        let pg = self.config.geometry.group_of(page);
        let above = self.config.defects.has(Defect::ReadPointAboveVdl);
        let read_point = if above { self.vcl } else { self.vdl };
        let group_point = self.group(pg).durable;
        let (asked, last, sent) = (MemberSet::EMPTY, MemberId::default(), now);
        self.reads.insert(token, ReadUnderWay { page, pg, read_point, group_point, asked, last, sent });
        *self.read_points.entry(read_point).or_default() += 1;
        self.ask_next(now, token, out);
    }

    /// Asks the fastest current segment that was not asked; with none left, begins anew after a pause.
    fn ask_next(&mut self, now: Micros, token: Token, out: &mut Out<P>) {
        let Some(read) = self.reads.get(&token) else { return };
        let group = &self.groups[usize::from(read.pg.0)];
        let members = || group.members.iter().filter(|(id, _)| !read.asked.contains(**id));
        let current = || members().filter(|(_, member)| member.installed && member.scl >= read.group_point);
        let explore = token.0.is_multiple_of(EXPLORE_EVERY) && read.asked.is_empty();
        let turn = (token.0 / EXPLORE_EVERY) as usize;
        let explored = if explore { current().nth(turn % current().count().max(1)) } else { None };
        let chosen = explored.or_else(|| current().min_by_key(|(id, member)| (member.read_latency, **id)));
        let Some((member, latency)) = chosen.map(|(id, member)| (*id, member.read_latency)) else {
            if let Some(read) = self.reads.get_mut(&token) {
                read.asked = MemberSet::EMPTY;
            }
            return out.set_timer(Timer::Hedge(token), Micros(*HEDGE_AFTER.end()));
        };
        let (page, read_point, group_point) = (read.page, read.read_point, read.group_point);
        let (to, volume_epoch) = (self.segment(read.pg, member), self.volume_epoch);
        out.send(to, Message::ReadPage { read: token, volume_epoch, page, read_point, group_point });
        let late = (latency.0 * HEDGE_FACTOR).clamp(*HEDGE_AFTER.start(), *HEDGE_AFTER.end());
        out.set_timer(Timer::Hedge(token), Micros(late));
        if let Some(read) = self.reads.get_mut(&token) {
            read.asked = read.asked.with(member);
            (read.last, read.sent) = (member, now);
        }
    }

    /// The segment is late: its mean is raised, and the next one is asked too.
    pub(super) fn on_hedge_timer(&mut self, now: Micros, token: Token, out: &mut Out<P>) {
        let Some(read) = self.reads.get(&token) else { return };
        if self.role == WriterRole::Open {
            if !read.asked.is_empty() {
                let (pg, member, waited) = (read.pg, read.last, now.0.saturating_sub(read.sent.0));
                self.learn_latency(pg, member, waited);
                self.hedged += 1;
            }
            self.ask_next(now, token, out);
        }
    }

    pub(super) fn on_page(
        &mut self,
        now: Micros,
        from: MemberId,
        token: Token,
        version: Lsn,
        page: P::Page,
        out: &mut Out<P>,
    ) {
        let Some(read) = self.reads.get(&token).cloned() else { return };
        if from == read.last {
            self.learn_latency(read.pg, from, now.0.saturating_sub(read.sent.0));
        }
        self.cancel_read(token);
        let (volume, volume_epoch, read_point) = (self.id.volume, self.volume_epoch, read.read_point);
        out.note(Note::Read { volume, volume_epoch, page: read.page, read_point, version });
        out.answer(token, Answer::Page { read_point, version, page });
    }

    pub(super) fn on_read_refused(
        &mut self,
        now: Micros,
        segment: SegmentId,
        token: Token,
        refusal: Refusal,
        out: &mut Out<P>,
    ) {
        if matches!(refusal, Refusal::StaleVolumeEpoch { .. } | Refusal::NotInstalled { .. }) {
            self.on_refused(segment, refusal, out);
        }
        let waiting_for_it = |read: &&ReadUnderWay| read.last == segment.member && read.asked.contains(segment.member);
        if self.role == WriterRole::Open && self.reads.get(&token).filter(waiting_for_it).is_some() {
            self.ask_next(now, token, out);
        }
    }

    /// The lowest read point in use: PGMRPL's lower bound, for observers.
    pub fn oldest_read_point(&self) -> Option<Lsn> {
        self.read_points.keys().next().copied()
    }

    /// The read is over: its read point is no longer held.
    pub(super) fn cancel_read(&mut self, token: Token) {
        let Some(read) = self.reads.remove(&token) else { return };
        if let Some(count) = self.read_points.get_mut(&read.read_point) {
            *count -= 1;
            if *count == 0 {
                self.read_points.remove(&read.read_point);
            }
        }
    }

    /// Moving mean with weight 1/8, in microseconds.
    fn learn_latency(&mut self, pg: PgId, member: MemberId, measured: u64) {
        if let Some(member) = self.group(pg).members.get_mut(&member) {
            let mean = member.read_latency.0;
            member.read_latency = Micros(if mean == 0 { measured } else { (mean * 7 + measured) / 8 });
        }
    }
}
