//! After losing part of the log: a segment that forgot may have acknowledged records and promised volume epochs that
//! it no longer knows of. Until it has learnt them from its peers it must not count (R-REJOIN-1, R-REJOIN-2); and what
//! it said before must not be counted any more (R-REJOIN-3).
//!
//! ```text
//!  the journal is found damaged, or the segment was made again
//!        │
//!        ▼        enough peers said which             enough peers remember the loss          the chain has
//!   Numbering ─── incarnations they know ───► Asking ─── and said what they know ───► CatchingUp ─── reached it ──┐
//!        ▲                                      ▲ │                                       │                       ▼
//!        └──────── a restart ───────────────────┼─┘                                       │              Finishing ───► counts
//!                                               └── a recovery annuls where it should be ─┘                 `Rejoined` is durable
//! ```
//!
//! *Enough* is: no read quorum could be formed of those that it has not heard and itself; with 3/6, four of the other
//! five. Then every recovery that it may have promised to, and every record that it may have acknowledged, is known to
//! one that it heard, or will be told to a writer together with the news of the loss. It takes the highest promise and
//! install, and every loss of another one that they remember (R-REJOIN-4). Each answer names the question that it
//! answers: one to an earlier life, or to an earlier question of this life, counts for nothing (R-REJOIN-5).

use super::{Entry, Out, Reply, Segment};
use crate::defect::Defect;
use crate::ids::{Birth, Incarnation, Lsn, MemberId, SegmentId, VolumeEpoch};
use crate::life::Life;
use crate::message::{Install, Message, Question, SealReport};
use crate::note::Note;
use crate::quorum::MemberSet;
use crate::record::Payload;
use alloc::collections::BTreeMap;
use serde::Serialize;

/// What a peer knows: its promise, what it has, and its peers' lives.
type Known = (VolumeEpoch, SealReport, BTreeMap<MemberId, Life>);

/// How far the segment is on its way back: see the diagram in the module's header.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) enum Rejoin {
    /// It has no journal: asks what the others are. Lives as heard; `None`: of one that rejoins. See `founding.rs`.
    Blank { question: Question, birth: Birth, heard: BTreeMap<MemberId, Option<Birth>> },
    /// No other one counted: asks whether they know its life for good.
    Founding { question: Question, vouched: MemberSet },
    /// Asks which incarnations its peers know: the last one may itself have been forgotten.
    Numbering { question: Question, known: BTreeMap<MemberId, Incarnation> },
    /// Asks, in its new incarnation, what its peers promised and have.
    Asking { question: Question, heard: BTreeMap<MemberId, Known> },
    /// Its promises are known again; its chain must reach `target`.
    CatchingUp { target: Lsn },
    /// It has, and `Rejoined` is being made durable.
    Finishing,
}

impl Rejoin {
    /// Whether promises may be missing: then nothing may be answered at all.
    pub(super) fn knows_nothing(&self) -> bool {
        !matches!(self, Rejoin::CatchingUp { .. } | Rejoin::Finishing)
    }
}

impl<P: Payload> Segment<P> {
    /// From now on nothing is answered, in this life and the next, until enough peers were heard.
    pub(super) fn forget_what_was_promised(&mut self, out: &mut Out<P>) {
        self.founders = None;
        self.resume_rejoining(None);
        self.append(Entry::Amnesia { incarnation: self.standing.incarnation, target: None }, out);
    }

    /// Takes up again what the journal says of an earlier life.
    pub(super) fn resume_rejoining(&mut self, target: Option<Lsn>) {
        self.rejoin = Some(match target {
            Some(target) => Rejoin::CatchingUp { target },
            None => Rejoin::Numbering { question: self.new_question(), known: BTreeMap::new() },
        });
    }

    /// Asks every peer, if that is still needed.
    pub(super) fn ask_to_rejoin(&mut self, out: &mut Out<P>) -> bool {
        let (question, incarnation) = match &self.rejoin {
            Some(Rejoin::Blank { question, .. } | Rejoin::Founding { question, .. }) => {
                self.ask_peers(Message::FoundPull { question: *question }, out);
                return true;
            }
            Some(Rejoin::Numbering { question, .. }) => (*question, Incarnation::default()),
            Some(Rejoin::Asking { question, .. }) => (*question, self.standing.incarnation),
            _ => return false,
        };
        self.ask_peers(Message::RejoinPull { question, incarnation, membership: self.membership.clone() }, out);
        true
    }

    /// Chooses an incarnation above every earlier one: each was remembered by enough peers before it counted.
    pub(super) fn on_rejoin_known(&mut self, peer: SegmentId, to: Question, known: Incarnation, out: &mut Out<P>) {
        let stale = self.config.defects.has(Defect::StaleAnswerCounts);
        if self.is_to_be_numbered_again(to, known) {
            self.resume_rejoining(None);
            self.ask_to_rejoin(out);
            return;
        }
        let Some(Rejoin::Numbering { question, known: said }) = &mut self.rejoin else { return };
        if to != *question && !stale {
            return;
        }
        said.insert(peer.member, known);
        let (heard, highest) = (said.keys().copied().collect(), said.values().copied().max().unwrap_or_default());
        if !self.is_enough_to_rejoin(heard) {
            return;
        }
        let incarnation = Incarnation(highest.max(self.standing.incarnation).0 + 1);
        self.standing.incarnation = incarnation;
        self.rejoin = Some(Rejoin::Asking { question: self.new_question(), heard: BTreeMap::new() });
        self.append(Entry::Amnesia { incarnation, target: None }, out);
        self.ask_to_rejoin(out);
    }

    /// R-REJOIN-3: the loss is made durable first, and from now on part of everything that this segment tells a
    /// writer. So a writer that counts a quorum with an older answer of the peer learns of the loss, or the peer
    /// learns of the quorum.
    pub(super) fn on_rejoin_pull(
        &mut self,
        peer: SegmentId,
        question: Question,
        incarnation: Incarnation,
        out: &mut Out<P>,
    ) {
        if !self.counts() {
            return;
        }
        let known = self.standing.losses.get(&peer.member).copied().unwrap_or_default();
        let reminded = Reply::Reminded { peer: peer.member, question };
        if incarnation < known || incarnation == Incarnation::default() {
            out.send(self.peer(peer.member), Message::RejoinKnown { question, known });
        } else if incarnation > known {
            self.remember_loss(peer.member, incarnation);
            let append = self.append(Entry::PeerLoss { member: peer.member, incarnation }, out);
            self.waiting.push((append, reminded));
        } else if !self.waiting.iter().any(|(_, reply)| *reply == reminded) {
            self.remind(peer.member, question, out);
        }
    }

    pub(super) fn remember_loss(&mut self, member: MemberId, incarnation: Incarnation) {
        let known = self.standing.losses.entry(member).or_default();
        *known = incarnation.max(*known);
    }

    /// Tells a peer what it may have forgotten, unless a promise is still on its way to disk: then it asks again.
    pub(super) fn remind(&mut self, peer: MemberId, question: Question, out: &mut Out<P>) {
        let promising = |reply: &Reply| {
            let promises = matches!(reply, Reply::Sealed { .. } | Reply::Installed { .. } | Reply::LossAccepted);
            promises || matches!(reply, Reply::Membership { .. })
        };
        if !self.waiting.iter().any(|(_, reply)| promising(reply)) {
            let (promised, report, lives) = (self.promised, self.report(), self.known_lives());
            out.send(self.peer(peer), Message::RejoinPush { question, promised, report, lives });
        }
    }

    pub(super) fn on_rejoin_push(&mut self, peer: SegmentId, to: Question, known: Known, out: &mut Out<P>) {
        let stale = self.config.defects.has(Defect::StaleAnswerCounts);
        let too_early = self.is_before_the_fence(known.0);
        let Some(Rejoin::Asking { question, heard }) = &mut self.rejoin else { return };
        if (to != *question && !stale) || too_early {
            return;
        }
        // R-MEMBER-3: only who has installed the step by which this member joins has it as a peer, and answers.
        let told = known.1.membership.clone();
        heard.insert(peer.member, known);
        self.learn_membership(told, out);
        let Some(Rejoin::Asking { heard, .. }) = &mut self.rejoin else { return };
        let members: MemberSet = heard.keys().copied().collect();
        if !self.is_enough_to_rejoin(members) {
            return;
        }
        let Some(Rejoin::Asking { heard, .. }) = &mut self.rejoin else { return };
        let install = heard.values().map(|(_, report, _)| &report.install).max().cloned().unwrap_or_default();
        // An SCL that was not yet truncated may name no record of this group, and could never be reached. A peer
        // that is behind learns of the install by gossip, and is asked again.
        if heard.values().any(|(_, report, _)| report.install != install) {
            return heard.retain(|_, (_, report, _)| report.install == install);
        }
        let heard = core::mem::take(heard);
        self.take_over(install, heard, out);
    }

    /// R-REJOIN-1: no read quorum is left unasked; or an operator accepted that the others are lost (R-REJOIN-8).
    fn is_enough_to_rejoin(&self, heard: MemberSet) -> bool {
        let members = self.membership.members();
        let answered = |loss: super::AcceptedLoss| loss.is_answered(self.id.member, members, heard);
        self.membership.rejoin_met(self.id.member, heard) || self.accepted.is_some_and(answered)
    }

    /// Whether a survivor knows more losses of this segment than it counts: it accepted one after it was asked.
    fn is_to_be_numbered_again(&self, to: Question, known: Incarnation) -> bool {
        let asks = matches!(&self.rejoin, Some(Rejoin::Asking { question, .. }) if *question == to);
        asks && self.accepted.is_some() && known > self.standing.incarnation
    }

    /// Makes durable what enough peers know. The target comes last: after a crash, a disk that has it has the rest,
    /// too.
    fn take_over(&mut self, install: Install, heard: BTreeMap<MemberId, Known>, out: &mut Out<P>) {
        for (member, (_, report, lives)) in &heard {
            self.take_over_losses(*member, report, out);
            self.take_over_lives(lives, out);
        }
        let promised = heard.values().map(|(promised, _, _)| *promised).max().unwrap_or_default();
        let target = heard.values().map(|(_, report, _)| report.scl).max().unwrap_or_default();
        self.rejoin = Some(Rejoin::CatchingUp { target });
        self.take_over_promises(promised, install, out);
        self.live_in_incarnation(out);
        let (promised, installed) = (self.promised, self.install.volume_epoch);
        out.note(Note::Learnt { segment: self.id, promised, installed });
        let append = self.append(Entry::Amnesia { incarnation: self.standing.incarnation, target: Some(target) }, out);
        let (to, volume_epoch) = (self.installed_writer(), self.install.volume_epoch);
        self.waiting.push((append, Reply::Installed { to, volume_epoch }));
        self.rejoin_if_caught_up(out);
    }

    /// R-REJOIN-4: what this segment said of others' losses is part of what it must not forget.
    fn take_over_losses(&mut self, from: MemberId, report: &SealReport, out: &mut Out<P>) {
        if self.config.defects.has(Defect::LossesForgotten) {
            return;
        }
        let own = core::iter::once((from, report.standing.incarnation));
        let told = report.standing.losses.iter().map(|(member, incarnation)| (*member, *incarnation));
        for (member, incarnation) in told.chain(own) {
            if member != self.id.member && incarnation > self.standing.losses.get(&member).copied().unwrap_or_default()
            {
                self.remember_loss(member, incarnation);
                self.append(Entry::PeerLoss { member, incarnation }, out);
            }
        }
    }

    fn take_over_promises(&mut self, promised: VolumeEpoch, install: Install, out: &mut Out<P>) {
        if promised > self.promised {
            self.promised = promised;
            self.append(Entry::Promise { volume_epoch: promised }, out);
        }
        if install.volume_epoch > self.install.volume_epoch {
            self.take_install(install, out);
        }
    }

    /// A recovery in the meantime may have annulled the target: then a new one is asked for.
    pub(super) fn renew_target(&mut self) {
        if let Some(Rejoin::CatchingUp { target }) = self.rejoin
            && self.install.truncations.annuls(target)
        {
            self.rejoin = Some(Rejoin::Asking { question: self.new_question(), heard: BTreeMap::new() });
        }
    }

    pub(super) fn rejoin_if_caught_up(&mut self, out: &mut Out<P>) {
        let early = self.config.defects.has(Defect::RejoinBeforeCaughtUp);
        let Some(Rejoin::CatchingUp { target }) = self.rejoin else { return };
        let caught_up = self.log.scl() >= target && self.knows_what_is_annulled();
        if self.is_vouched() && (caught_up || early) {
            self.rejoin = Some(Rejoin::Finishing);
            let append = self.append(Entry::Rejoined { incarnation: self.standing.incarnation }, out);
            self.waiting.push((append, Reply::Rejoined));
        }
    }

    pub(super) fn on_rejoined(&mut self, out: &mut Out<P>) {
        self.rejoin = None;
        self.accepted = None;
        self.tell_of_rejoining(out);
    }

    /// Said again after each restart, because the process may have been killed before anyone heard it.
    pub(super) fn tell_of_rejoining(&self, out: &mut Out<P>) {
        let (promised, scl) = (self.promised, self.log.scl());
        out.note(Note::Rejoined { segment: self.id, promised, scl });
    }

    pub(super) fn ask_peers(&self, message: Message<P>, out: &mut Out<P>) {
        let peers = self.peers().iter().map(|member| self.peer(member)).collect();
        out.multicast(peers, message);
    }

    /// A question that was never asked before, in this life or another.
    pub(super) fn new_question(&mut self) -> Question {
        self.questions += 1;
        Question { life: self.boot, number: self.questions }
    }
}
