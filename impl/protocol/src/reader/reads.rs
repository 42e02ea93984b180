//! Reading a page from one segment at a read point that is held: the fastest segment first, and the next one when it is
//! late, or refuses.
//!
//! A reader does not see the segments' acknowledgements. It asks, and a segment that has not got so far refuses
//! (R-READ-1): the next one is asked.

use super::{Answer, Out, Reader, ReaderRefused, Timer};
use crate::ids::{Lsn, MemberId, Micros, PageId, Party, PgId, SegmentId};
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
/// Between two rounds over all segments, in microseconds.
const PAUSE: u64 = 20_000;
/// One read in this many goes to a segment that is not the fastest, so that mean times stay current.
const EXPLORE_EVERY: u64 = 64;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) struct ReadUnderWay {
    page: PageId,
    pg: PgId,
    pub read_point: Lsn,
    group_point: Lsn,
    /// Segments asked in this round.
    asked: MemberSet,
    /// Segments that have said that the read point is below their floor.
    below: MemberSet,
    last: MemberId,
    #[serde(skip)]
    sent: Micros,
}

impl<P: Payload> Reader<P> {
    pub(super) fn start_read(&mut self, now: Micros, token: Token, page: PageId, at: Lsn, out: &mut Out<P>) {
        let refused = match () {
            () if self.lost => Some(ReaderRefused::NotKept),
            () if self.reads.len() >= self.config.reads_max => Some(ReaderRefused::Busy),
            () => None,
        };
        let pg = self.config.geometry.group_of(page);
        let point = self.held.get(&at).and_then(|points| points.get(usize::from(pg.0))).copied();
        let (None, Some(group_point)) = (refused, point) else {
            return out.answer(token, Answer::NotRead(refused.unwrap_or(ReaderRefused::NotHeld)));
        };
        let (asked, below, last, sent) = (MemberSet::EMPTY, MemberSet::EMPTY, MemberId::default(), now);
        self.reads.insert(token, ReadUnderWay { page, pg, read_point: at, group_point, asked, below, last, sent });
        self.ask_next(now, token, out);
    }

    /// Asks the fastest segment that was not asked in this round; with none left, begins anew after a pause.
    fn ask_next(&mut self, now: Micros, token: Token, out: &mut Out<P>) {
        let Some(pg) = self.reads.get(&token).map(|read| read.pg) else { return };
        let members = self.membership(pg).members();
        let Some(read) = self.reads.get_mut(&token) else { return };
        let latency = |member: MemberId| self.latencies.get(&(read.pg, member)).copied().unwrap_or_default();
        let left = || members.iter().filter(|member| !read.asked.contains(*member));
        let explore = token.0.is_multiple_of(EXPLORE_EVERY) && read.asked.is_empty();
        let turn = (token.0 / EXPLORE_EVERY) as usize;
        let explored = if explore { left().nth(turn % left().count().max(1)) } else { None };
        let Some(member) = explored.or_else(|| left().min_by_key(|member| (latency(*member), *member))) else {
            read.asked = MemberSet::EMPTY;
            return out.set_timer(Timer::Hedge(token), Micros(PAUSE));
        };
        let late = (latency(member).0 * HEDGE_FACTOR).clamp(*HEDGE_AFTER.start(), *HEDGE_AFTER.end());
        read.asked = read.asked.with(member);
        (read.last, read.sent) = (member, now);
        let to = Party::Segment(SegmentId { volume: self.id.volume, pg: read.pg, member });
        let (volume_epoch, page, read_point) = (self.volume_epoch, read.page, read.read_point);
        let group_point = read.group_point;
        out.send(to, Message::ReadPage { read: token, volume_epoch, page, read_point, group_point });
        out.set_timer(Timer::Hedge(token), Micros(late));
    }

    /// The segment is late: its mean is raised, and the next one is asked too.
    pub(super) fn on_hedge_timer(&mut self, now: Micros, token: Token, out: &mut Out<P>) {
        let Some(read) = self.reads.get(&token) else { return };
        if !read.asked.is_empty() {
            self.learn_latency(read.pg, read.last, now.0.saturating_sub(read.sent.0));
        }
        self.ask_next(now, token, out);
    }

    pub(super) fn on_page(
        &mut self,
        now: Micros,
        from: SegmentId,
        token: Token,
        version: Lsn,
        page: P::Page,
        out: &mut Out<P>,
    ) {
        let Some(read) = self.reads.get(&token).filter(|read| read.pg == from.pg && version <= read.read_point) else {
            return;
        };
        let (asked, read_point, sent, last) = (read.page, read.read_point, read.sent, read.last);
        if from.member == last {
            self.learn_latency(from.pg, from.member, now.0.saturating_sub(sent.0));
        }
        self.end_read(token);
        let (volume, volume_epoch) = (self.id.volume, self.volume_epoch);
        out.note(Note::Read { volume, volume_epoch, page: asked, read_point, version });
        out.answer(token, Answer::Page { read_point, version, page });
    }

    /// R-READER-4: one segment below whose floor the point is may be about to hydrate; a read quorum of them is not.
    pub(super) fn on_read_refused(
        &mut self,
        now: Micros,
        from: SegmentId,
        token: Token,
        refusal: &Refusal,
        out: &mut Out<P>,
    ) {
        if matches!(refusal, Refusal::StaleVolumeEpoch { current } if *current > self.volume_epoch) {
            self.is_overtaken = true;
        }
        let Some(read) = self.reads.get_mut(&token).filter(|read| read.pg == from.pg) else { return };
        if matches!(refusal, Refusal::BelowFloor { floor } if *floor > read.read_point) {
            read.below = read.below.with(from.member);
        }
        let below = read.below;
        if self.membership(from.pg).quorum.read_met(below) {
            return self.lose(out);
        }
        let Some(read) = self.reads.get(&token) else { return };
        if read.last == from.member && read.asked.contains(from.member) {
            self.ask_next(now, token, out);
        }
    }

    pub(super) fn end_read(&mut self, token: Token) {
        self.reads.remove(&token);
    }

    /// Moving mean with weight 1/8, in microseconds.
    fn learn_latency(&mut self, pg: PgId, member: MemberId, measured: u64) {
        let mean = self.latencies.entry((pg, member)).or_default();
        *mean = Micros(if mean.0 == 0 { measured } else { (mean.0 * 7 + measured) / 8 });
    }
}
