//! Readers on other instances, as the writer that they follow sees them.
//!
//! A reader that follows gets every `Write` that the segments get (a quiet one: VDL only), and holds PGMRPL down to
//! what it still needs (R-COLLECT-2). It is dropped when it is silent for its lease, or when too much was written
//! since: no reader may fill the segments' logs. A quiet one, a region's process, is dropped for the latter only: a
//! primary that is cut off from its region's process must still have what it needs to come back. The writer keeps
//! nothing for it but two numbers.
//!
//! Invariant (asserted after each step in [`Writer::check`](super::Writer::check)): no PGMRPL that this writer has told
//! is above what a follower needs (R-READER-3).

use super::{Answer, Out, Timer, Writer, WriterRole};
use crate::defect::Defect;
use crate::ids::{Lsn, Micros, Party, ReaderId};
use crate::machine::Token;
use crate::message::Message;
use crate::record::{Payload, Record, take_weight};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Written bytes between two places of the log whose distance is known.
const MARK_EVERY: u64 = 64 << 10;

/// How a writer treats readers on other instances.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct FollowersConfig {
    /// Most readers that may follow at one time, up to [`READERS_MAX`](crate::limits::READERS_MAX). Zero: none may, and
    /// nothing is kept for any.
    pub most: u8,
    /// A reader that is silent for this long is dropped.
    pub lease: Micros,
    /// For this long after it has opened, a writer holds PGMRPL down for the readers of the writer before it
    /// (R-READER-5).
    pub grace: Micros,
    /// A reader is dropped when more bytes than this were written since what it needs. The grace ends then, too. Well
    /// below what a segment's log may hold.
    pub lag_weight_max: usize,
}

impl Default for FollowersConfig {
    fn default() -> Self {
        FollowersConfig { most: 0, lease: Micros(10_000_000), grace: Micros(10_000_000), lag_weight_max: 24 << 20 }
    }
}

impl FollowersConfig {
    /// Up to as many readers as a cluster may have, with the usual limits.
    pub fn some() -> Self {
        FollowersConfig { most: crate::limits::READERS_MAX, ..FollowersConfig::default() }
    }
}

/// Who follows, and what is held for them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize)]
pub(super) struct Followers {
    readers: BTreeMap<ReaderId, Follower>,
    /// The highest PGMRPL that any segment was told.
    told: Lsn,
    /// Readers of the writer before this one may still come.
    grace: bool,
    /// The last point published, if any.
    published: Option<(Lsn, u64)>,
    written: Written,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
struct Follower {
    /// Of its last message.
    number: u64,
    /// The lowest read point that it needs.
    floor: Lsn,
    /// Whether it needs no records.
    quiet: bool,
}

/// How many bytes were written since some places of the log. Bounded: a place is forgotten once `lag_weight_max` were.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize)]
struct Written {
    bytes: u64,
    places: VecDeque<(Lsn, u64)>,
}

impl Written {
    /// VDL is now `vdl`, `bytes` after where it was.
    fn advance(&mut self, vdl: Lsn, bytes: u64) {
        self.bytes += bytes;
        if self.places.back().is_none_or(|(_, before)| self.bytes >= before + MARK_EVERY) {
            self.places.push_back((vdl, self.bytes));
        }
    }

    /// The last place of which at least `most` bytes were written since; whatever is below lags too far.
    fn too_far(&mut self, most: u64) -> Option<Lsn> {
        let mut passed = None;
        while self.places.front().is_some_and(|(_, bytes)| self.bytes - bytes > most) {
            passed = self.places.pop_front();
        }
        passed.map(|(lsn, _)| lsn)
    }
}

impl<P: Payload> Writer<P> {
    /// Numbers of each follower: who it is, and the lowest read point that it needs.
    pub fn followers(&self) -> impl Iterator<Item = (ReaderId, Lsn)> + '_ {
        self.followers.readers.iter().map(|(reader, follower)| (*reader, follower.floor))
    }

    /// The highest PGMRPL that any segment was told, while readers may follow.
    pub fn told_pgmrpl(&self) -> Lsn {
        self.followers.told
    }

    /// Whether a publication would tell some reader something.
    pub fn wants_publication(&self) -> bool {
        !self.listeners().is_empty() && self.followers.published.is_none_or(|(point, _)| point < self.vdl)
    }

    pub(super) fn on_reader_message(&mut self, reader: ReaderId, message: Message<P>, out: &mut Out<P>) {
        if self.role != WriterRole::Open || self.config.followers.most == 0 {
            return;
        }
        match message {
            Message::Follow { number, floor, quiet } => self.on_follow(reader, (number, floor, quiet), out),
            Message::Feedback { number, volume_epoch, floor } if volume_epoch == self.volume_epoch => {
                self.on_feedback(reader, number, floor, out);
            }
            _ => {}
        }
    }

    /// R-READER-3: a reader that needs what may be collected already is refused.
    fn on_follow(&mut self, reader: ReaderId, asked: (u64, Option<Lsn>, bool), out: &mut Out<P>) {
        let (number, floor, quiet) = asked;
        let known = self.followers.readers.get(&reader);
        if known.is_some_and(|known| known.number > number) {
            return; // It has asked again since.
        }
        let held = known.map(|known| known.floor);
        let floor = held.unwrap_or(self.vdl).min(floor.unwrap_or(self.vdl));
        let is_late = floor < held.unwrap_or(self.followers.told);
        if is_late && !self.config.defects.has(Defect::DroppedReaderServed) {
            return self.not_kept(reader, out);
        }
        if held.is_none() && self.followers.readers.len() >= usize::from(self.config.followers.most) {
            return; // It asks again.
        }
        self.followers.readers.insert(reader, Follower { number, floor, quiet });
        if !quiet {
            out.set_timer(Timer::Lease(reader), self.config.followers.lease);
        }
        let points = self.groups.iter().map(|group| group.durable).collect();
        let (to, start, volume_epoch) = (self.reader(reader), self.vdl, self.volume_epoch);
        out.send(to, Message::Following { number, volume_epoch, start, points });
        self.tell_members(to, out);
        if quiet {
            return;
        }
        self.send_in_flight(to, out);
        if let Some((read_point, wal)) = self.followers.published.filter(|(point, _)| *point == start) {
            out.send(to, Message::Published { volume_epoch, read_point, wal });
        }
    }

    /// What was sent before the reader followed, and is above the VDL from which it does.
    fn send_in_flight(&mut self, to: Party, out: &mut Out<P>) {
        for index in 0..self.groups.len() {
            let mut rest: Vec<Record<P>> = self.groups[index].sent_above(Lsn::ZERO).cloned().collect();
            while !rest.is_empty() {
                let batch = take_weight(rest.iter().cloned(), self.config.batch_weight_max);
                rest.drain(..batch.len());
                let pg = self.groups[index].pg;
                out.send(to, self.write(pg, batch));
            }
        }
    }

    fn on_feedback(&mut self, reader: ReaderId, number: u64, floor: Lsn, out: &mut Out<P>) {
        let told = self.followers.told;
        match self.followers.readers.get_mut(&reader) {
            Some(follower) if number <= follower.number => return, // A late one.
            Some(follower) if floor >= follower.floor => {
                *follower = Follower { number, floor: floor.min(self.vdl), ..*follower };
                if !follower.quiet {
                    out.set_timer(Timer::Lease(reader), self.config.followers.lease);
                }
                return;
            }
            Some(_) => {} // It was dropped, and a late `Follow` of it was taken for another's.
            None if floor >= told => return, // It notices the silence, and asks to follow again.
            None => {}
        }
        self.followers.readers.remove(&reader);
        self.not_kept(reader, out);
    }

    fn not_kept(&self, reader: ReaderId, out: &mut Out<P>) {
        let (volume_epoch, floor) = (self.volume_epoch, self.followers.told);
        out.send(self.reader(reader), Message::NotKept { volume_epoch, floor });
    }

    /// The reader was silent for its lease.
    pub(super) fn on_lease_timer(&mut self, reader: ReaderId) {
        self.followers.readers.remove(&reader);
    }

    /// Holds nothing any more for readers of the writer before this one that have not come yet (R-READER-5).
    pub(super) fn end_grace(&mut self) {
        self.followers.grace = false;
    }

    /// The writer opens: readers of the one before may come.
    pub(super) fn begin_grace(&mut self, out: &mut Out<P>) {
        let FollowersConfig { most, grace, .. } = self.config.followers;
        if most > 0 && grace > Micros(0) {
            out.set_timer(Timer::Grace, grace);
        }
    }

    /// Forgets all readers. What a writer was told to hold before it opened is held (R-READER-5).
    pub(super) fn forget_followers(&mut self) {
        let FollowersConfig { most, grace, .. } = self.config.followers;
        self.followers = Followers { grace: most > 0 && grace > Micros(0), ..Followers::default() };
    }

    /// The lowest read point that any reader needs, or may need.
    pub(super) fn lowest_followed(&self) -> Option<Lsn> {
        if self.config.defects.has(Defect::CollectionIgnoresReaders) {
            return None;
        }
        let floors = self.followers.readers.values().map(|follower| follower.floor);
        if self.followers.grace { Some(self.followers.told) } else { floors.min() }
    }

    /// A PGMRPL leaves.
    pub(super) fn telling(&mut self, pgmrpl: Lsn) -> Lsn {
        if self.config.followers.most > 0 {
            self.followers.told = self.followers.told.max(pgmrpl);
        }
        pgmrpl
    }

    /// VDL has moved by `bytes` of records: the readers are told at once, and those who lag too far are dropped.
    pub(super) fn tell_followers(&mut self, bytes: usize, out: &mut Out<P>) {
        if self.config.followers.most == 0 || self.role != WriterRole::Open {
            return;
        }
        let most = self.config.followers.lag_weight_max;
        if most < usize::MAX {
            self.followers.written.advance(self.vdl, bytes as u64);
            if let Some(passed) = self.followers.written.too_far(most as u64) {
                self.end_grace();
                self.followers.readers.retain(|_, follower| follower.floor > passed);
            }
        }
        self.send_progress(out);
    }

    /// Tells the readers VDL, and that the writer is there.
    pub(super) fn send_progress(&mut self, out: &mut Out<P>) {
        let to = self.all_readers();
        if let Some(first) = self.groups.first().map(|group| group.pg)
            && !to.is_empty()
        {
            out.multicast(to, self.write(first, Vec::new()));
        }
    }

    /// Tells the readers that a page as of `read_point`, a VDL of this writer, holds nothing above `wal` (R-READER-6).
    pub fn publish(&mut self, read_point: Lsn, wal: u64, out: &mut Out<P>) {
        let is_news = self.followers.published.is_none_or(|(before, _)| read_point > before);
        if self.role != WriterRole::Open || read_point > self.vdl || !is_news {
            return;
        }
        self.followers.published = Some((read_point, wal));
        let (to, volume_epoch) = (self.listeners(), self.volume_epoch);
        if !to.is_empty() {
            out.multicast(to, Message::Published { volume_epoch, read_point, wal });
        }
    }

    /// R-READER-3, see the module's header.
    pub(super) fn check_followers(&self) {
        let lowest = self.followers.readers.values().map(|follower| follower.floor).min();
        let told = self.followers.told;
        assert!(lowest.is_none_or(|lowest| told <= lowest), "R-READER-3 broken: told {told}, {:?}", self.followers);
    }

    pub(super) fn all_readers(&self) -> Vec<Party> {
        self.followers.readers.keys().map(|reader| self.reader(*reader)).collect()
    }

    /// Those who are sent records and publications.
    pub(super) fn listeners(&self) -> Vec<Party> {
        let loud = self.followers.readers.iter().filter(|(_, follower)| !follower.quiet);
        loud.map(|(reader, _)| self.reader(*reader)).collect()
    }

    fn reader(&self, reader: ReaderId) -> Party {
        Party::Reader(self.id.volume, reader)
    }

    pub(super) fn on_publish(&mut self, token: Token, read_point: Lsn, wal: u64, out: &mut Out<P>) {
        self.publish(read_point, wal, out);
        out.answer(token, Answer::Published);
    }
}
