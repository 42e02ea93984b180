//! After losing part of the log: a segment that forgot may have acknowledged records and promised volume epochs that
//! it no longer knows of. Until it has learnt them from its peers it must not count (R-REJOIN-1, R-REJOIN-2); and what
//! it said before must not be counted any more (R-REJOIN-3).
//!
//! It asks until no read quorum could be formed of those that it has not heard and itself: with 3/6, four of the other
//! five. Then every recovery that it may have promised to, and every record that it may have acknowledged, is known to
//! someone it heard, or will be told to a writer together with the news of the loss. It takes the highest promise and install, and answers `Seal` again once its chain has reached the
//! highest that it heard.

use super::{Entry, Out, Reply, Segment};
use crate::defect::Defect;
use crate::ids::{Incarnation, Lsn, MemberId, SegmentId, VolumeEpoch};
use crate::message::{Install, Message, SealReport};
use crate::note::Note;
use crate::quorum::MemberSet;
use crate::record::Payload;
use alloc::collections::BTreeMap;
use serde::Serialize;

/// The segment lost part of its log.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) struct Amnesia {
    /// While the incarnation is being chosen: what peers know of earlier ones. It may itself have been forgotten.
    numbering: Option<BTreeMap<MemberId, Incarnation>>,
    heard: BTreeMap<MemberId, (VolumeEpoch, SealReport)>,
    /// Where the chain must be; `None`: not enough peers were heard.
    target: Option<Lsn>,
    /// `Rejoined` is being made durable.
    done: bool,
}

impl Amnesia {
    pub(super) fn resumed(target: Option<Lsn>) -> Self {
        let numbering = target.is_none().then(BTreeMap::new);
        Amnesia { numbering, heard: BTreeMap::new(), target, done: false }
    }

    /// Whether promises may be missing: then nothing may be answered at all.
    pub(super) fn knows_nothing(&self) -> bool {
        self.target.is_none()
    }
}

impl<P: Payload> Segment<P> {
    /// From now on nothing is answered, in this life and the next, until enough peers were heard.
    pub(super) fn forget_what_was_promised(&mut self, out: &mut Out<P>) {
        self.amnesia = Some(Amnesia::resumed(None));
        self.append(Entry::Amnesia { incarnation: self.standing.incarnation, target: None }, out);
    }

    /// Asks every peer, if that is still needed.
    pub(super) fn ask_to_rejoin(&mut self, out: &mut Out<P>) -> bool {
        let Some(amnesia) = self.amnesia.as_ref().filter(|amnesia| amnesia.knows_nothing()) else { return false };
        let chosen = amnesia.numbering.is_none();
        let incarnation = if chosen { self.standing.incarnation } else { Incarnation::default() };
        let peers = self.peers().iter().map(|member| self.peer(member)).collect();
        out.multicast(peers, Message::RejoinPull { incarnation });
        true
    }

    /// Chooses an incarnation above every earlier one: each was remembered by enough peers before it counted.
    pub(super) fn on_rejoin_known(&mut self, peer: SegmentId, known: Incarnation, out: &mut Out<P>) {
        let (me, own) = (self.id.member, self.standing.incarnation);
        let Some(numbering) = self.amnesia.as_mut().and_then(|amnesia| amnesia.numbering.as_mut()) else { return };
        numbering.insert(peer.member, known);
        if !self.membership.quorum.rejoin_met(me, numbering.keys().copied().collect()) {
            return;
        }
        let incarnation = Incarnation(numbering.values().copied().fold(own, Ord::max).0 + 1);
        self.standing.incarnation = incarnation;
        self.amnesia = Some(Amnesia { numbering: None, ..Amnesia::resumed(None) });
        self.append(Entry::Amnesia { incarnation, target: None }, out);
        self.ask_to_rejoin(out);
    }

    /// R-REJOIN-3: the loss is made durable first, and from now on part of everything that this segment tells a
    /// writer. So whoever counts a quorum with an older word of the peer hears of the loss, or the peer hears of the
    /// quorum.
    pub(super) fn on_rejoin_pull(&mut self, peer: SegmentId, incarnation: Incarnation, out: &mut Out<P>) {
        if self.amnesia.is_some() {
            return;
        }
        let known = self.standing.losses.get(&peer.member).copied().unwrap_or_default();
        let pending = |reply: &Reply| *reply == Reply::Reminded { peer: peer.member };
        if incarnation < known || incarnation == Incarnation::default() {
            out.send(self.peer(peer.member), Message::RejoinKnown { known });
        } else if incarnation > known {
            self.remember_loss(peer.member, incarnation);
            let append = self.append(Entry::PeerLoss { member: peer.member, incarnation }, out);
            self.waiting.push((append, Reply::Reminded { peer: peer.member }));
        } else if !self.waiting.iter().any(|(_, reply)| pending(reply)) {
            self.remind(peer.member, out);
        }
    }

    pub(super) fn remember_loss(&mut self, member: MemberId, incarnation: Incarnation) {
        let known = self.standing.losses.entry(member).or_default();
        *known = incarnation.max(*known);
    }

    /// Tells a peer what it may have forgotten, unless a promise is still on its way to disk: then it asks again.
    pub(super) fn remind(&mut self, peer: MemberId, out: &mut Out<P>) {
        let promising = |reply: &Reply| matches!(reply, Reply::Sealed { .. } | Reply::Installed { .. });
        let Some(incarnation) = self.standing.losses.get(&peer).copied() else { return };
        if !self.waiting.iter().any(|(_, reply)| promising(reply)) {
            let (promised, report) = (self.promised, self.report());
            out.send(self.peer(peer), Message::RejoinPush { incarnation, promised, report });
        }
    }

    pub(super) fn on_rejoin_push(
        &mut self,
        peer: SegmentId,
        promised: VolumeEpoch,
        report: SealReport,
        out: &mut Out<P>,
    ) {
        let me = self.id.member;
        let asking = |amnesia: &&mut Amnesia| amnesia.knows_nothing() && amnesia.numbering.is_none();
        let Some(amnesia) = self.amnesia.as_mut().filter(asking) else { return };
        amnesia.heard.insert(peer.member, (promised, report));
        let heard: MemberSet = amnesia.heard.keys().copied().collect();
        if !self.membership.quorum.rejoin_met(me, heard) {
            return;
        }
        let promised = amnesia.heard.values().map(|(promised, _)| *promised).max().unwrap_or_default();
        let reports = || amnesia.heard.values().map(|(_, report)| report);
        let install = reports().map(|report| &report.install).max().cloned().unwrap_or_default();
        // An SCL that was not yet truncated may name no record of this group, and could never be reached. Whoever is
        // behind learns of the install by gossip, and is asked again.
        if reports().any(|report| report.install != install) {
            return amnesia.heard.retain(|_, (_, report)| report.install == install);
        }
        let target = reports().map(|report| report.scl).max().unwrap_or_default();
        amnesia.target = Some(target);
        amnesia.heard.clear();
        let incarnation = self.standing.incarnation;
        // In this order: whoever finds the target on disk after a crash must find the promises too.
        self.take_over_promises(promised, install, out);
        let (promised, installed) = (self.promised, self.install.volume_epoch);
        out.note(Note::Learnt { segment: self.id, promised, installed });
        let append = self.append(Entry::Amnesia { incarnation, target: Some(target) }, out);
        let (to, volume_epoch) = (self.installed_writer(), self.install.volume_epoch);
        self.waiting.push((append, Reply::Installed { to, volume_epoch }));
        self.rejoin_if_caught_up(out);
    }

    fn take_over_promises(&mut self, promised: VolumeEpoch, install: Install, out: &mut Out<P>) {
        if promised > self.promised {
            self.promised = promised;
            self.append(Entry::Promise { volume_epoch: promised }, out);
        }
        if install.volume_epoch > self.install.volume_epoch {
            self.adopt_install(install.clone());
            self.append(Entry::Install(install), out);
        }
    }

    /// A recovery in the meantime may have annulled the target: then a new one is asked for.
    pub(super) fn renew_target(&mut self) {
        let truncations = &self.install.truncations;
        if let Some(amnesia) = self.amnesia.as_mut().filter(|amnesia| !amnesia.done)
            && amnesia.target.is_some_and(|target| truncations.annuls(target))
        {
            *amnesia = Amnesia { numbering: None, ..Amnesia::resumed(None) };
        }
    }

    pub(super) fn rejoin_if_caught_up(&mut self, out: &mut Out<P>) {
        let early = self.config.defects.has(Defect::RejoinBeforeCaughtUp);
        let scl = self.log.scl();
        let Some(amnesia) = self.amnesia.as_mut() else { return };
        let reached = amnesia.target.is_some_and(|target| scl >= target || early);
        if reached && !amnesia.done {
            amnesia.done = true;
            let append = self.append(Entry::Rejoined { incarnation: self.standing.incarnation }, out);
            self.waiting.push((append, Reply::Rejoined));
        }
    }

    pub(super) fn on_rejoined(&mut self, out: &mut Out<P>) {
        self.amnesia = None;
        self.tell_of_rejoining(out);
    }

    /// Said again after each restart, because the process may have been killed before anyone heard it.
    pub(super) fn tell_of_rejoining(&self, out: &mut Out<P>) {
        let (promised, scl) = (self.promised, self.log.scl());
        out.note(Note::Rejoined { segment: self.id, promised, scl });
    }
}
