//! Base pages from a peer: for a segment that is so far behind that its peers have coalesced what it misses, or that
//! lost its pages.
//!
//! It asks in *passes*: chunk by chunk in page order, and only for pages that are newer than its own floor. The sender
//! pins nothing. It goes on coalescing, and says with each chunk at which floor it read it. So the pages that were
//! stored are as of different points:
//!
//! ```text
//!     every page is as of a point in here      │ log
//!  ──┼─────────────────────────────────────────┼──────────────► LSN
//!  floor                                    ceiling
//! ```
//!
//! After a pass each page has everything through the sender's floor at the *first* chunk: that floor is adopted. What
//! follows comes by gossip. If peers have coalesced it meanwhile, the next pass brings what changed since: less each
//! time.
//!
//! Until the floor has reached the ceiling ([`Segment::settled`]) no read point below the ceiling is served, and no
//! page goes to a peer. A coalescing goes from the floor to the ceiling at least. Records that a page already has are
//! then skipped, because each page carries its version. A page that was forgotten has none: [`Payload::may_clear`] says
//! why it may be given them again.

use super::reads::PendingBase;
use super::{Entry, Out, PageRange, Reply, Segment, Task};
use crate::defect::Defect;
use crate::ids::{Lsn, MemberId, PageId, SegmentId, VolumeEpoch};
use crate::machine::Token;
use crate::message::{BasePage, Message};
use crate::note::Note;
use crate::record::Payload;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use serde::Serialize;

/// Gossip rounds for which a peer's pages are waited for.
///
/// Each round asks the next peer, and the peer whose turn it is then is asked to go on with the pass. So this must
/// share no divisor with the number of peers, five to seven, or two segments that both lost their pages would ask each
/// other forever.
const PATIENCE_ROUNDS: u8 = 11;

/// Pages are being fetched: a pass.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) struct Hydration {
    peer: MemberId,
    /// What is not newer need not come.
    newer_than: Lsn,
    /// The last page stored.
    after: Option<PageId>,
    /// The sender's floor at the first chunk: the lowest of all chunks.
    floor: Option<Lsn>,
    /// A chunk is being stored; whether it is the last, and its last page.
    storing: Option<(bool, Option<PageId>)>,
    rounds_left: u8,
}

/// What a `HydratePull` asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) struct Asked {
    pub installed: VolumeEpoch,
    pub after: Option<PageId>,
    pub newer_than: Lsn,
    pub at_least: Lsn,
}

/// What a `HydratePush` brings.
pub(super) struct Chunk<P: Payload> {
    pub installed: VolumeEpoch,
    pub after: Option<PageId>,
    pub newer_than: Lsn,
    pub floor: Lsn,
    pub pages: Vec<BasePage<P>>,
    pub unchanged: Vec<PageId>,
    pub complete: bool,
}

impl<P: Payload> Segment<P> {
    /// Whether all base pages are as of the floor: none is newer than its log may say.
    pub(super) fn settled(&self) -> bool {
        self.ceiling <= self.log.floor()
    }

    /// A peer has coalesced up to here: no read point below is in use any more, and all of it is durable (R-COLLECT-1,
    /// R-COLLECT-3).
    pub(super) fn hear_of_floor(&mut self, floor: Lsn) {
        self.pgmrpl = self.pgmrpl.max(floor);
        self.vdl = self.vdl.max(floor);
    }

    /// What is missing comes as pages. What is here goes into pages first, so that fewer have to come.
    pub(super) fn on_gossip_too_far(&mut self, peer: SegmentId, floor: Lsn, out: &mut Out<P>) {
        if floor <= self.log.scl() || self.hydration.is_some() || self.coalescing.is_some() {
            return;
        }
        self.hear_of_floor(floor);
        self.coalesce(out);
        if self.coalescing.is_none() {
            self.start_hydration(peer.member, out);
        }
    }

    pub(super) fn start_hydration(&mut self, peer: MemberId, out: &mut Out<P>) {
        let held = if self.config.defects.has(Defect::HydrationSkipsLog) { self.log.scl() } else { self.log.floor() };
        let newer_than = if self.pages_lost { Lsn::ZERO } else { held };
        let rounds_left = PATIENCE_ROUNDS;
        self.hydration = Some(Hydration { peer, newer_than, after: None, floor: None, storing: None, rounds_left });
        self.pull_chunk(out);
    }

    fn pull_chunk(&mut self, out: &mut Out<P>) {
        if let Some(Hydration { peer, after, newer_than, .. }) = self.hydration {
            let (installed, at_least) = (self.install.volume_epoch, self.needed_floor());
            out.send(self.peer(peer), Message::HydratePull { installed, after, newer_than, at_least });
        }
    }

    /// A sender with a lower floor would say that a page is unchanged which an earlier chunk brought newer, or took
    /// away.
    fn needed_floor(&self) -> Lsn {
        if self.config.defects.has(Defect::HydrationGoesBack) {
            return Lsn::ZERO;
        }
        self.log.floor().max(self.ceiling)
    }

    fn may_send_pages(&self) -> bool {
        let sound = self.counts() && !self.pages_lost && self.damaged.is_empty();
        sound && self.hydration.is_none() && self.settled()
    }

    /// Reads the next base pages for a peer. Nothing is held for it.
    pub(super) fn on_hydrate_pull(&mut self, peer: SegmentId, asked: Asked, out: &mut Out<P>) {
        if !self.may_send_pages() || asked.installed != self.install.volume_epoch {
            return;
        }
        if self.log.floor() < asked.at_least {
            return self.coalesce(out);
        }
        let for_peer = |pending: &PendingBase| matches!(pending, PendingBase::Hydrate { peer: other, .. } if *other == peer.member);
        if self.bases.len() >= self.config.reads_max || self.bases.values().any(for_peer) {
            return;
        }
        let Asked { after, newer_than, .. } = asked;
        let token = self.new_token();
        self.bases.insert(token, PendingBase::Hydrate { peer: peer.member, after, newer_than });
        let (limit, look) = (self.config.hydrate_pages_max, self.config.hydrate_look_max);
        out.start(Task::ReadBases { token, after, newer_than, limit, look });
    }

    pub(super) fn on_bases(
        &mut self,
        token: Token,
        pages: Vec<BasePage<P>>,
        unchanged: Vec<PageId>,
        complete: bool,
        out: &mut Out<P>,
    ) {
        let Some(PendingBase::Hydrate { peer, after, newer_than }) = self.bases.remove(&token) else { return };
        if self.may_send_pages() {
            let (installed, floor) = (self.install.volume_epoch, self.log.floor());
            let push = Message::HydratePush { installed, after, newer_than, floor, pages, unchanged, complete };
            out.send(self.peer(peer), push);
        }
    }

    pub(super) fn on_hydrate_push(&mut self, peer: SegmentId, chunk: Chunk<P>, out: &mut Out<P>) {
        let (at_least, installed) = (self.needed_floor(), self.install.volume_epoch);
        let last = chunk.pages.last().map(|base| base.page).max(chunk.unchanged.last().copied());
        let Some(hydration) = &mut self.hydration else { return };
        let expected = peer.member == hydration.peer
            && chunk.after == hydration.after
            && chunk.newer_than == hydration.newer_than
            && chunk.installed == installed
            && hydration.storing.is_none();
        let moves_on = chunk.complete || last > chunk.after;
        if !expected || !moves_on || chunk.floor < at_least {
            return;
        }
        let first = hydration.floor.map_or(chunk.floor, |floor| floor.min(chunk.floor));
        hydration.floor = Some(first);
        hydration.storing = Some((chunk.complete, last));
        hydration.rounds_left = PATIENCE_ROUNDS;
        let through = if chunk.complete { None } else { last };
        let range = PageRange { after: chunk.after, through };
        self.ceiling = self.ceiling.max(chunk.floor);
        self.hear_of_floor(chunk.floor);
        let unchanged: BTreeSet<PageId> = chunk.unchanged.iter().copied().collect();
        self.damaged.retain(|page| !range.contains(*page) || unchanged.contains(page));
        let adopted = if self.config.defects.has(Defect::HydrationAdoptsLast) { chunk.floor } else { first };
        let floor = chunk.complete.then_some(adopted);
        let replace = (!self.config.defects.has(Defect::HydrationKeepsForgotten)).then_some(range);
        let token = self.new_token();
        self.bases.insert(token, PendingBase::Hydrated);
        let (pages, unchanged, ceiling) = (chunk.pages, chunk.unchanged, chunk.floor);
        out.start(Task::PutBases { token, pages, unchanged, replace, floor, ceiling });
    }

    pub(super) fn on_chunk_stored(&mut self, out: &mut Out<P>) {
        let Some(hydration) = &mut self.hydration else { return };
        let (Some((complete, last)), Some(first)) = (hydration.storing.take(), hydration.floor) else { return };
        if !complete {
            hydration.after = last;
            return self.pull_chunk(out);
        }
        let peer = hydration.peer;
        self.hydration = None;
        let adopted = if self.config.defects.has(Defect::HydrationAdoptsLast) { self.ceiling } else { first };
        self.adopt_floor(adopted, out);
        self.pull_gossip(peer, out);
    }

    fn adopt_floor(&mut self, floor: Lsn, out: &mut Out<P>) {
        self.log.collect(floor);
        self.log.advance(self.durable);
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
        // A pass under way would take pages for unchanged that are gone.
        self.hydration = None;
        if !self.pages_lost {
            self.pages_lost = true;
            self.append(Entry::PagesLost, out);
        }
    }

    /// Asks again for a chunk that did not come. `next` goes on with the pass of a peer that keeps silent.
    pub(super) fn nudge_hydration(&mut self, next: MemberId, out: &mut Out<P>) {
        // A chunk that is being stored ends by itself.
        if let Some(hydration) = self.hydration.as_mut().filter(|hydration| hydration.storing.is_none()) {
            hydration.rounds_left -= 1;
            if hydration.rounds_left == 0 {
                (hydration.peer, hydration.rounds_left) = (next, PATIENCE_ROUNDS);
            }
            self.pull_chunk(out);
        }
    }
}
