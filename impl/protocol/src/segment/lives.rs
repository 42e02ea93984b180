//! A store that went back in time is found out before it counts (R-LIFE-1 to 5, decision 0026).
//!
//! An old copy of a directory looks like a disk that is in order. Only peers can know better, so they are asked:
//!
//! ```text
//!   boot ─► begin a life, durable ─► LifeAsk to every peer ─► enough LifeKnown ─► the segment counts
//!                                          │                                        │      ▲
//!                                          ▼                                        ▼      │
//!                                a peer knows a later life                     begin the next, while it counts
//!                                          │                                   (if it kept something since the last)
//!                                          ▼
//!                                it forgot: `rejoin.rs`
//! ```
//!
//! A peer makes the life durable before it answers. It need not count itself, or no group could come back from a total
//! outage; but it must know what it promised: one that forgot answers nothing about lives until it has relearnt them.
//!
//! A loss begins a new incarnation, which ends every life of an earlier one. So what is known of a peer's life is the
//! later of the life that it told, and the first one of the incarnation that it told.

use super::{Entry, EntryKind, Out, Reply, Segment, Timer};
use crate::defect::Defect;
use crate::ids::{Incarnation, MemberId, Micros, SegmentId};
use crate::life::Life;
use crate::message::{Message, Question, Standing};
use crate::note::Note;
use crate::quorum::MemberSet;
use crate::record::Payload;
use alloc::collections::BTreeMap;
use serde::Serialize;

/// How often the question is repeated before fewer answers will do, where two stores may have gone back at once.
const PATIENCE: u8 = 5;

/// The segment's own life, and what it was told of its peers'.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize)]
pub(super) struct Lives {
    own: Life,
    /// Enough peers are not yet known to remember `own`.
    unregistered: bool,
    /// Enough peers remembered a life since this boot: the segment may promise and acknowledge.
    vouched: bool,
    asking: Option<Asking>,
    /// Something was made durable since the life began that a copy of before does not have.
    moved_on: bool,
    known: BTreeMap<MemberId, Life>,
}

/// A life is being registered.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
struct Asking {
    question: Question,
    /// Who remembers it: whether the peer counts, and its incarnation.
    heard: BTreeMap<MemberId, (bool, Incarnation)>,
    /// Losses of peers that came with the answers (R-REJOIN-3).
    losses: BTreeMap<MemberId, Incarnation>,
    rounds: u8,
}

impl Lives {
    /// Takes over what the journal says of the own life.
    pub(super) fn replay(&mut self, life: Life, registered: bool) {
        if life.is_above(self.own) {
            (self.own, self.unregistered) = (life, !registered);
        } else if life == self.own && registered {
            self.unregistered = false;
        }
    }

    /// Takes over what the journal says of a peer's life.
    pub(super) fn remember(&mut self, member: MemberId, life: Life) {
        let known = self.known.entry(member).or_default();
        if life.is_above(*known) {
            *known = life;
        }
    }
}

impl<P: Payload> Segment<P> {
    /// Whether the segment may promise and acknowledge, as far as its life goes.
    pub(super) fn is_vouched(&self) -> bool {
        self.lives.vouched || !self.has_lives() || self.config.defects.has(Defect::LifeNotRegistered)
    }

    /// Who is alone has no witness.
    fn has_lives(&self) -> bool {
        self.config.renew_life_every > Micros(0) && !self.peers().is_empty()
    }

    /// What this segment knows of a peer's life.
    pub(super) fn life_known_of(&self, member: MemberId) -> Life {
        let told = self.lives.known.get(&member).copied().unwrap_or_default();
        let first = Life::first(self.standing.losses.get(&member).copied().unwrap_or_default());
        if first.is_above(told) { first } else { told }
    }

    /// The lives of its peers, for one that must relearn them.
    pub(super) fn known_lives(&self) -> BTreeMap<MemberId, Life> {
        self.lives.known.clone()
    }

    /// R-LIFE-1. A life that was never registered goes on: a copy that crashed again and again would otherwise count
    /// itself past what its peers remember.
    pub(super) fn begin_life(&mut self, out: &mut Out<P>) {
        if !self.has_lives() {
            return self.count_from_now(out);
        }
        self.lives.replay(Life::first(self.standing.incarnation), true);
        out.set_timer(Timer::Life, self.config.gossip_every);
        if self.lives.unregistered && !self.config.defects.has(Defect::UnregisteredLifeNotContinued) {
            self.ask_about_life(out);
        } else {
            self.begin_next_life(out);
        }
        if self.is_vouched() {
            self.count_from_now(out);
        }
    }

    fn begin_next_life(&mut self, out: &mut Out<P>) {
        self.lives.own = self.lives.own.next(self.boot);
        self.lives.unregistered = true;
        self.lives.moved_on = false;
        let append = self.append(Entry::Life { life: self.lives.own, registered: false }, out);
        self.waiting.push((append, Reply::LifeBegun));
    }

    /// Begins the first life of an incarnation that the peers remember already: that of a segment that rejoins.
    pub(super) fn live_in_incarnation(&mut self, out: &mut Out<P>) {
        if !self.has_lives() {
            return;
        }
        self.lives.replay(Life::first(self.standing.incarnation), true);
        self.lives.asking = None;
        self.lives.vouched = true;
        self.lives.moved_on = true;
        out.set_timer(Timer::Life, self.config.renew_life_every);
    }

    /// Asks every peer that has not answered yet.
    pub(super) fn ask_about_life(&mut self, out: &mut Out<P>) {
        if !self.lives.unregistered {
            return;
        }
        if self.lives.asking.is_none() {
            let question = self.new_question();
            let (heard, losses) = (BTreeMap::new(), BTreeMap::new());
            self.lives.asking = Some(Asking { question, heard, losses, rounds: 0 });
        }
        let Some(asking) = &self.lives.asking else { return };
        let silent = self.peers().iter().filter(|member| !asking.heard.contains_key(member));
        let (peers, life) = (silent.map(|member| self.peer(member)).collect(), self.lives.own);
        out.multicast(peers, Message::LifeAsk { question: asking.question, life, membership: self.membership.clone() });
    }

    pub(super) fn on_life_timer(&mut self, out: &mut Out<P>) {
        if self.knows_nothing() {
            return; // A segment that rejoins begins anew.
        }
        if let Some(asking) = self.lives.asking.as_mut() {
            asking.rounds = asking.rounds.saturating_add(1).min(PATIENCE);
            out.set_timer(Timer::Life, self.config.gossip_every);
            self.register_if_remembered(out);
            if self.lives.asking.is_some() {
                self.ask_about_life(out);
            }
        } else if self.lives.unregistered {
            out.set_timer(Timer::Life, self.config.gossip_every); // it is not durable yet
        } else if self.lives.moved_on {
            // R-LIFE-4: a copy that was taken in the life before is found out from now on.
            out.set_timer(Timer::Life, self.config.gossip_every);
            self.begin_next_life(out);
        } else {
            out.set_timer(Timer::Life, self.config.renew_life_every);
        }
    }

    /// Notes that something is made durable: a copy of the disk from before it would have forgotten it.
    pub(super) fn move_on(&mut self, appended: EntryKind) {
        let of_lives = matches!(appended, EntryKind::Life | EntryKind::PeerLife(_));
        self.lives.moved_on |= self.has_lives() && !of_lives;
    }

    /// R-LIFE-2: remembers the life durably, unless a later one is known. The answer waits for the disk.
    pub(super) fn on_life_ask(&mut self, peer: SegmentId, question: Question, life: Life, out: &mut Out<P>) {
        if life.is_above(self.life_known_of(peer.member)) {
            self.lives.remember(peer.member, life);
            self.append(Entry::PeerLife { member: peer.member, life }, out);
        }
        self.answer(Reply::LifeKnown { peer: peer.member, question, life }, out);
    }

    pub(super) fn tell_what_life_is_known(&self, peer: MemberId, question: Question, life: Life, out: &mut Out<P>) {
        let known = self.life_known_of(peer);
        let blind = self.config.defects.has(Defect::LifeWithoutNonce);
        let later = if blind { known.is_above(life) } else { known.contradicts(life) };
        let (sure, standing) = (self.counts(), self.standing.clone());
        out.send(self.peer(peer), Message::LifeKnown { question, later, sure, standing });
    }

    /// Counts the answers to the question that is being asked.
    pub(super) fn on_life_known(
        &mut self,
        peer: SegmentId,
        to: Question,
        later: bool,
        word: (bool, Standing),
        out: &mut Out<P>,
    ) {
        let Some(asking) = self.lives.asking.as_mut().filter(|asking| asking.question == to) else { return };
        if later {
            return self.find_out(peer.member, out);
        }
        let (sure, Standing { incarnation, losses }) = word;
        for (member, incarnation) in losses {
            let known = asking.losses.entry(member).or_default();
            *known = incarnation.max(*known);
        }
        let known = asking.heard.entry(peer.member).or_insert((sure, incarnation));
        if incarnation >= known.1 {
            *known = (sure, incarnation);
        }
        self.register_if_remembered(out);
    }

    /// The store went back in time: it forgot what it said since, as one does that lost its disk (R-REJOIN-1). What
    /// waits here to be said was decided without that knowledge.
    fn find_out(&mut self, by: MemberId, out: &mut Out<P>) {
        out.note(Note::WentBack { segment: self.id, by });
        let (known, own) = (core::mem::take(&mut self.lives.known), self.lives.own);
        self.lives = Lives { known, own, ..Lives::default() };
        self.waiting.clear();
        self.superseded.clear();
        self.accepted = None;
        self.forget_what_was_promised(out);
        self.ask_to_rejoin(out);
    }

    pub(super) fn register_if_remembered(&mut self, out: &mut Out<P>) {
        if !self.enough_remember() {
            return;
        }
        self.lives.asking = None;
        self.lives.unregistered = false;
        self.append(Entry::Life { life: self.lives.own, registered: true }, out);
        out.set_timer(Timer::Life, self.config.renew_life_every);
        if !core::mem::replace(&mut self.lives.vouched, true) {
            self.count_from_now(out);
            self.rejoin_if_caught_up(out);
        }
    }

    fn count_from_now(&mut self, out: &mut Out<P>) {
        self.tell_what_is_installed(out);
        if self.counts() && self.standing.incarnation > Incarnation::default() {
            self.tell_of_rejoining(out);
        }
    }

    /// R-LIFE-3: more than half of the others, so that two askings meet. Where a second store may have gone back at
    /// the same time: more than half that count, or more than half and one; and fewer when no more answer in time.
    fn enough_remember(&self) -> bool {
        let Some(asking) = &self.lives.asking else { return false };
        let lost = |member: MemberId| {
            let told = asking.losses.get(&member).copied().unwrap_or_default();
            told.max(self.life_known_of(member).incarnation)
        };
        let standing = asking.heard.iter().filter(|(member, (_, incarnation))| *incarnation >= lost(**member));
        let all: MemberSet = standing.clone().map(|(member, _)| *member).collect();
        let sure: MemberSet = standing.filter(|(_, (sure, _))| *sure).map(|(member, _)| *member).collect();
        let met = |set: MemberSet| self.membership.life_met(self.id.member, set);
        if self.config.defects.has(Defect::LifeRegisteredWithTooFew) {
            return !all.is_empty();
        }
        let one_may_go = || all.iter().all(|one| met(all.without(one)));
        // Only to begin with: later lives are registered once one of the lost is a witness again.
        if !self.lives.vouched && self.survivors_remember(all) {
            return true;
        }
        met(all) && (met(sure) || one_may_go() || asking.rounds >= PATIENCE)
    }

    /// R-LIFE-5: who relearns what it promised relearns the lives of its peers.
    pub(super) fn take_over_lives(&mut self, told: &BTreeMap<MemberId, Life>, out: &mut Out<P>) {
        if self.config.defects.has(Defect::LivesNotMerged) {
            return;
        }
        for (member, life) in told {
            let known = self.life_known_of(*member);
            let merged = known.merged(*life);
            if merged != known && self.peers().contains(*member) {
                self.lives.known.insert(*member, merged);
                self.append(Entry::PeerLife { member: *member, life: merged }, out);
            }
        }
    }
}
