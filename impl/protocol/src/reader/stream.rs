//! What a writer sends to a reader, and whether it is whole.
//!
//! Records come as the segments get them: before they are durable, each group by itself, perhaps more than once, and
//! perhaps with holes. `prev_volume` says where a hole is. There is no way to ask for what is missing: the reader
//! follows anew, and what it missed stays unknown to it (R-READER-3). So the writer keeps nothing for it.

use super::{Out, Point, Reader};
use crate::defect::{Defect, Defects};
use crate::ids::{Lsn, Party, VolumeEpoch};
use crate::message::Message;
use crate::record::{Geometry, Payload, Record, are_in_order};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use serde::Serialize;

/// The records above a point that the writer called durable.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) struct Stream<P: Payload> {
    /// A VDL: the records above it are here.
    base: Lsn,
    /// The last LSN at or below `base` of each group.
    group_points: Vec<Lsn>,
    /// Above `base`.
    records: BTreeMap<Lsn, Record<P>>,
    weight: usize,
    /// Through here none is missing.
    end: Lsn,
    /// As told.
    vdl: Lsn,
}

impl<P: Payload> Stream<P> {
    fn new(base: Lsn, group_points: Vec<Lsn>) -> Self {
        Stream { base, group_points, records: BTreeMap::new(), weight: 0, end: base, vdl: base }
    }

    pub fn base(&self) -> Lsn {
        self.base
    }

    pub fn vdl(&self) -> Lsn {
        self.vdl
    }

    pub fn weight(&self) -> usize {
        self.weight
    }

    pub fn group_points(&self) -> &[Lsn] {
        &self.group_points
    }

    /// Through here everything is durable, and here.
    pub fn available(&self) -> Lsn {
        self.end.min(self.vdl)
    }

    /// R-READER-2: ends of mini-transactions, at or below VDL, without a hole before.
    pub fn points(&self, defects: Defects) -> impl Iterator<Item = Lsn> + '_ {
        let records = self.records.keys().copied();
        core::iter::once(self.base).chain(records).filter(move |point| self.has_point(*point, defects))
    }

    pub fn has_point(&self, point: Lsn, defects: Defects) -> bool {
        let is_durable = point <= self.vdl || defects.has(Defect::ReaderAboveVdl);
        let half = defects.has(Defect::HalfMtrApplied);
        let ends = self.records.get(&point).is_some_and(|record| record.is_cpl || half);
        is_durable && point <= self.end && (ends || point == self.base)
    }

    /// Takes off the records through `to`, which becomes the base.
    pub fn pass(&mut self, to: Lsn, geometry: &Geometry) -> Vec<Record<P>> {
        let later = self.records.split_off(&to.next());
        let passed = core::mem::replace(&mut self.records, later);
        for record in passed.values() {
            self.weight -= record.weight();
            self.group_points[usize::from(geometry.group_of(record.page).0)] = record.lsn;
        }
        self.base = to;
        passed.into_values().collect()
    }

    fn insert(&mut self, record: Record<P>) {
        if record.lsn > self.base && !self.records.contains_key(&record.lsn) {
            self.weight += record.weight();
            self.records.insert(record.lsn, record);
        }
    }

    fn close_up(&mut self) {
        while let Some((lsn, record)) = self.records.range(self.end.next()..).next() {
            if record.prev_volume != self.end {
                break;
            }
            self.end = *lsn;
        }
    }

    /// R-READER-1: another writer is followed, so what this one had not called durable may have been annulled.
    fn forget_undurable(&mut self) {
        let undurable = self.records.split_off(&self.vdl.next());
        self.weight -= undurable.values().map(Record::weight).sum::<usize>();
        self.end = self.available();
    }

    pub fn check(&self) {
        assert!(self.base <= self.available(), "R-READER-2 broken: base above what is available: {self:?}");
    }
}

impl<P: Payload> Reader<P> {
    /// Asks the writer, whichever instance that is, for its records.
    pub(super) fn follow(&mut self, out: &mut Out<P>) {
        self.number += 1;
        (self.asked, self.waits) = (self.number, true);
        (self.silent_rounds, self.hole_rounds, self.asked_rounds) = (0, 0, 0);
        let (number, floor) = (self.number, self.needs());
        out.send(self.writer(), Message::Follow { number, floor, quiet: false });
    }

    /// R-READER-1: never an older writer than before. R-READER-2: never from an older point. What was sent before is
    /// kept where it reaches the point from which the new stream begins.
    pub(super) fn on_following(&mut self, number: u64, volume_epoch: VolumeEpoch, start: Lsn, points: Vec<Lsn>) {
        let groups = usize::from(self.config.geometry.groups);
        let sound = points.len() == groups && points.iter().all(|point| *point <= start);
        let is_another = volume_epoch != self.volume_epoch;
        // An older writer may have been the first to answer.
        let is_first = self.waits && volume_epoch == self.volume_epoch;
        let is_answer = number == self.asked && (is_first || volume_epoch > self.volume_epoch);
        let is_later = start >= self.read_point;
        let takes_any = self.config.defects.has(Defect::ReaderGoesBack);
        if self.lost || !sound || !(is_answer && is_later || takes_any) {
            return;
        }
        (self.waits, self.is_overtaken) = (false, false);
        (self.silent_rounds, self.hole_rounds) = (0, 0);
        self.volume_epoch = volume_epoch;
        let keeps_all = self.config.defects.has(Defect::ReaderKeepsUndurable);
        if let Some(stream) = &mut self.stream
            && is_another
            && !keeps_all
        {
            stream.forget_undurable();
        }
        let goes_on = |stream: &Stream<P>| stream.end >= start && (stream.vdl >= start || !is_another || keeps_all);
        match &mut self.stream {
            Some(stream) if goes_on(stream) && !takes_any => stream.vdl = stream.vdl.max(start),
            _ => {
                if self.stream.as_ref().is_some_and(|stream| stream.base < start) {
                    self.cuts += 1;
                }
                self.stream = Some(Stream::new(start, points));
            }
        }
        self.published.retain(|point| point.read_point >= start);
    }

    pub(super) fn on_stream(&mut self, records: Vec<Record<P>>, vdl: Lsn, out: &mut Out<P>) {
        let Some(stream) = &mut self.stream else { return };
        self.silent_rounds = 0;
        if !are_in_order(&records) {
            return;
        }
        stream.vdl = stream.vdl.max(vdl);
        records.into_iter().for_each(|record| stream.insert(record));
        stream.close_up();
        if stream.end >= stream.vdl {
            self.hole_rounds = 0;
        }
        if stream.weight > self.config.stream_weight_max {
            self.cut(out);
        }
    }

    pub(super) fn on_published(&mut self, point: Point) {
        let is_news = self.published.back().is_none_or(|last| last.read_point < point.read_point);
        let base = self.stream.as_ref().map(Stream::base);
        if base.is_none_or(|base| point.read_point < base) || !is_news {
            return;
        }
        if self.published.len() >= self.config.published_max {
            self.published.pop_front();
        }
        self.published.push_back(point);
    }

    pub(super) fn on_retry_timer(&mut self, out: &mut Out<P>) {
        if self.lost {
            return;
        }
        out.set_timer(super::Timer::Retry, self.config.retry_every);
        let has_hole = self.stream.as_ref().is_some_and(|stream| stream.end < stream.vdl);
        self.hole_rounds = if has_hole { self.hole_rounds.saturating_add(1) } else { 0 };
        self.silent_rounds = self.silent_rounds.saturating_add(1);
        self.asked_rounds = self.asked_rounds.saturating_add(1);
        if self.hole_rounds >= self.config.patience_rounds {
            return self.cut(out);
        }
        let is_silent = self.silent_rounds >= self.config.patience_rounds;
        let is_time = self.asked_rounds >= self.config.ask_again_rounds;
        if is_silent || is_time || self.is_overtaken || self.stream.is_none() {
            return self.follow(out);
        }
        self.send_feedback(out);
    }

    /// Something is missing, or too much waits: begins the stream anew.
    fn cut(&mut self, out: &mut Out<P>) {
        self.stream = None;
        self.published.clear();
        self.cuts += 1;
        self.follow(out);
    }

    /// R-READER-4: what is needed, so that it is kept.
    pub(super) fn send_feedback(&mut self, out: &mut Out<P>) {
        let (true, Some(floor)) = (self.stream.is_some(), self.needs()) else { return };
        self.number += 1;
        let (number, volume_epoch) = (self.number, self.volume_epoch);
        out.send(self.writer(), Message::Feedback { number, volume_epoch, floor });
    }

    /// The writer, as far as it is known.
    fn writer(&self) -> Party {
        Party::Writer(self.id.volume, self.volume_epoch.writer)
    }
}
