//! Base pages from a peer: for a segment that is so far behind that its peers have coalesced what it misses, or that
//! lost its pages.
//!
//! The sender *pins* its floor while it is asked for more, so that all chunks are of one floor. The receiver stores
//! chunk by chunk, in page order, and adopts the floor with the last one. Meanwhile it can't serve a wrong page: each
//! base carries its version, and a read point below a base's version is refused.

use super::reads::PendingBase;
use super::{Entry, Out, PageRange, Reply, Segment, Task};
use crate::ids::{Lsn, MemberId, PageId, SegmentId, VolumeEpoch};
use crate::machine::Token;
use crate::message::{BasePage, Message};
use crate::note::Note;
use crate::record::Payload;
use alloc::vec::Vec;
use serde::Serialize;

/// Gossip rounds for which a peer's pages, or a peer that fetches ours, are waited for.
///
/// Each round asks the next peer, and a new hydration begins with whoever is next then: so this must share no divisor
/// with the number of peers, five or six, or two segments that both lost their pages would ask each other forever.
const PATIENCE_ROUNDS: u8 = 7;

/// The floor is held for a peer that hydrates from here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) struct Pin {
    peer: MemberId,
    rounds_left: u8,
}

/// Pages are being fetched.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) struct Hydration {
    peer: MemberId,
    /// The last page stored.
    after: Option<PageId>,
    /// The sender's floor, once known.
    floor: Option<Lsn>,
    /// A chunk is being stored; whether it is the last, and its last page.
    storing: Option<(bool, Option<PageId>)>,
    rounds_left: u8,
}

/// What a `HydratePush` brings.
pub(super) struct Chunk<P: Payload> {
    pub installed: VolumeEpoch,
    pub after: Option<PageId>,
    pub floor: Lsn,
    pub pages: Vec<BasePage<P>>,
    pub complete: bool,
}

impl<P: Payload> Segment<P> {
    pub(super) fn on_gossip_too_far(&mut self, peer: SegmentId, floor: Lsn, out: &mut Out<P>) {
        if floor > self.log.scl() && self.hydration.is_none() && self.coalescing.is_none() {
            self.start_hydration(peer.member, out);
        }
    }

    pub(super) fn start_hydration(&mut self, peer: MemberId, out: &mut Out<P>) {
        let rounds_left = PATIENCE_ROUNDS;
        self.hydration = Some(Hydration { peer, after: None, floor: None, storing: None, rounds_left });
        self.pull_chunk(out);
    }

    fn pull_chunk(&mut self, out: &mut Out<P>) {
        if let Some(Hydration { peer, after, .. }) = self.hydration {
            let (installed, at_least) = (self.install.volume_epoch, self.log.floor());
            out.send(self.peer(peer), Message::HydratePull { installed, after, at_least });
        }
    }

    /// Reads the next base pages for a peer. One peer at a time: the others ask again, or ask someone else.
    pub(super) fn on_hydrate_pull(
        &mut self,
        peer: SegmentId,
        installed: VolumeEpoch,
        after: Option<PageId>,
        at_least: Lsn,
        out: &mut Out<P>,
    ) {
        let unable = !self.counts() || self.pages_lost || !self.damaged.is_empty() || self.hydration.is_some();
        let other = self.pin.is_some_and(|pin| pin.peer != peer.member);
        if unable || other || installed != self.install.volume_epoch || self.coalescing.is_some() {
            return;
        }
        if self.log.floor() < at_least {
            return self.coalesce(out);
        }
        if after.is_some() && self.pin.is_none() {
            return;
        }
        self.pin = Some(Pin { peer: peer.member, rounds_left: PATIENCE_ROUNDS });
        let pending = PendingBase::Hydrate { peer: peer.member, after };
        if self.bases.len() >= self.config.reads_max || self.bases.values().any(|other| *other == pending) {
            return;
        }
        let token = self.new_token();
        self.bases.insert(token, pending);
        out.start(Task::ReadBases { token, after, limit: self.config.hydrate_pages_max });
    }

    pub(super) fn on_bases(&mut self, token: Token, pages: Vec<BasePage<P>>, complete: bool, out: &mut Out<P>) {
        let Some(PendingBase::Hydrate { peer, after }) = self.bases.remove(&token) else { return };
        let (installed, floor) = (self.install.volume_epoch, self.log.floor());
        if complete {
            self.pin = None;
        }
        out.send(self.peer(peer), Message::HydratePush { installed, after, floor, pages, complete });
    }

    pub(super) fn on_hydrate_push(&mut self, peer: SegmentId, chunk: Chunk<P>, out: &mut Out<P>) {
        let at_least = self.log.floor();
        let Some(hydration) = &mut self.hydration else { return };
        let expected = peer.member == hydration.peer
            && chunk.after == hydration.after
            && chunk.installed == self.install.volume_epoch
            && hydration.storing.is_none();
        if !expected {
            return;
        }
        if chunk.floor < at_least || hydration.floor.is_some_and(|floor| floor != chunk.floor) {
            self.hydration = None;
            return;
        }
        let last = chunk.pages.last().map(|base| base.page);
        hydration.floor = Some(chunk.floor);
        hydration.storing = Some((chunk.complete, last));
        hydration.rounds_left = PATIENCE_ROUNDS;
        let through = if chunk.complete { None } else { last };
        let replace = Some(PageRange { after: chunk.after, through });
        let floor = chunk.complete.then_some(chunk.floor);
        let token = self.new_token();
        self.bases.insert(token, PendingBase::Hydrated);
        out.start(Task::PutBases { token, pages: chunk.pages, replace, floor });
    }

    pub(super) fn on_chunk_stored(&mut self, out: &mut Out<P>) {
        let Some(hydration) = &mut self.hydration else { return };
        let (Some((complete, last)), Some(floor)) = (hydration.storing.take(), hydration.floor) else { return };
        if !complete {
            hydration.after = last;
            return self.pull_chunk(out);
        }
        self.hydration = None;
        self.adopt_floor(floor, out);
    }

    fn adopt_floor(&mut self, floor: Lsn, out: &mut Out<P>) {
        self.vdl = self.vdl.max(floor);
        self.log.collect(floor);
        self.log.advance(self.durable);
        self.damaged.clear();
        if self.pages_lost {
            self.pages_lost = false;
            self.append(Entry::PagesRestored, out);
        }
        out.note(Note::Collected { segment: self.id, floor });
        if self.promised == self.install.volume_epoch {
            let (to, volume_epoch) = (self.installed_writer(), self.install.volume_epoch);
            self.answer(Reply::Acknowledge { to, volume_epoch }, out);
        }
        self.rejoin_if_caught_up(out);
    }

    /// The page store no longer knows what it held.
    pub(super) fn on_pages_lost(&mut self, out: &mut Out<P>) {
        if !self.pages_lost {
            self.pages_lost = true;
            self.append(Entry::PagesLost, out);
        }
    }

    /// Asks again for a chunk that did not come, and gives up on whoever keeps silent.
    pub(super) fn nudge_hydration(&mut self, out: &mut Out<P>) {
        if let Some(pin) = &mut self.pin {
            pin.rounds_left -= 1;
            if pin.rounds_left == 0 {
                self.pin = None;
            }
        }
        // A chunk that is being stored ends by itself.
        if let Some(hydration) = self.hydration.as_mut().filter(|hydration| hydration.storing.is_none()) {
            hydration.rounds_left -= 1;
            if hydration.rounds_left == 0 {
                self.hydration = None;
            }
            self.pull_chunk(out);
        }
    }
}
