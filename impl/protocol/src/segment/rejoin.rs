//! After losing part of the log: a segment that forgot may have acknowledged records and promised volume epochs that
//! it no longer knows of. Until it has learnt them from its peers it must not count (R-REJOIN-1, R-REJOIN-2).
//!
//! It asks until no read quorum could be formed of those that it has not heard and itself: with 3/6, four of the other
//! five. Then every recovery that it may have promised to, and every record that it may have acknowledged, is known to
//! someone it heard. It takes the highest promise and install, and answers `Seal` again once its chain has reached the
//! highest that it heard.

use super::{Entry, Out, Promise, Reply, Segment};
use crate::defect::Defect;
use crate::ids::{Lsn, MemberId, SegmentId, VolumeEpoch};
use crate::message::{Install, Message, SealReport};
use crate::note::Note;
use crate::quorum::MemberSet;
use crate::record::Payload;
use crate::writer::effective_scl;
use alloc::collections::BTreeMap;
use serde::Serialize;

/// The segment lost part of its log.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) struct Amnesia {
    heard: BTreeMap<MemberId, (VolumeEpoch, SealReport)>,
    /// Where the chain must be; `None`: not enough peers were heard.
    target: Option<Lsn>,
    /// `Rejoined` is being made durable.
    done: bool,
}

impl Amnesia {
    pub(super) fn resumed(target: Option<Lsn>) -> Self {
        Amnesia { heard: BTreeMap::new(), target, done: false }
    }

    /// Whether promises may be missing: then nothing may be answered at all.
    pub(super) fn knows_nothing(&self) -> bool {
        self.target.is_none()
    }
}

impl<P: Payload> Segment<P> {
    pub(super) fn forget_what_was_promised(&mut self, out: &mut Out<P>) {
        self.amnesia = Some(Amnesia::resumed(None));
        self.append(Entry::Amnesia { target: None }, out);
    }

    /// Asks every peer, if that is still needed.
    pub(super) fn ask_to_rejoin(&mut self, out: &mut Out<P>) -> bool {
        let ask = self.amnesia.as_ref().is_some_and(Amnesia::knows_nothing);
        if ask {
            let peers = self.peers().iter().map(|member| self.peer(member)).collect();
            out.multicast(peers, Message::RejoinPull);
        }
        ask
    }

    pub(super) fn on_rejoin_pull(&mut self, peer: SegmentId, out: &mut Out<P>) {
        // What this segment tells of its promises must itself be durable.
        let promising = |reply: &Reply| matches!(reply, Reply::Sealed { .. } | Reply::Installed { .. });
        if self.amnesia.is_none() && !self.waiting.iter().any(|(_, reply)| promising(reply)) {
            let (promised, report) = (self.promise.volume_epoch, self.report());
            out.send(self.peer(peer.member), Message::RejoinPush { promised, report });
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
        let Some(amnesia) = self.amnesia.as_mut().filter(|amnesia| amnesia.knows_nothing()) else { return };
        amnesia.heard.insert(peer.member, (promised, report));
        let heard: MemberSet = amnesia.heard.keys().copied().collect();
        if !self.membership.quorum.rejoin_met(me, heard) {
            return;
        }
        let promised = amnesia.heard.values().map(|(promised, _)| *promised).max().unwrap_or_default();
        let reports = || amnesia.heard.values().map(|(_, report)| report);
        let install = reports().map(|report| &report.install).max().cloned().unwrap_or_default();
        let target = reports().map(|report| effective_scl(report, &install)).max().unwrap_or_default();
        amnesia.target = Some(target);
        amnesia.heard.clear();
        self.append(Entry::Amnesia { target: Some(target) }, out);
        self.take_over_promises(promised, install, out);
        self.rejoin_if_caught_up(out);
    }

    fn take_over_promises(&mut self, promised: VolumeEpoch, install: Install, out: &mut Out<P>) {
        if promised > self.promise.volume_epoch {
            self.promise = Promise { volume_epoch: promised, writer: None };
            self.append(Entry::Promise { volume_epoch: promised, writer: None }, out);
        }
        if install.volume_epoch > self.install.volume_epoch {
            self.adopt_install(install.clone());
            self.append(Entry::Install(install), out);
        }
    }

    pub(super) fn rejoin_if_caught_up(&mut self, out: &mut Out<P>) {
        let early = self.config.defects.has(Defect::RejoinBeforeCaughtUp);
        let scl = self.log.scl();
        let Some(amnesia) = self.amnesia.as_mut() else { return };
        let reached = amnesia.target.is_some_and(|target| scl >= target || early);
        if reached && !amnesia.done {
            amnesia.done = true;
            let append = self.append(Entry::Rejoined, out);
            self.waiting.push((append, Reply::Rejoined));
        }
    }

    pub(super) fn on_rejoined(&mut self, out: &mut Out<P>) {
        self.amnesia = None;
        let (promised, scl) = (self.promise.volume_epoch, self.log.scl());
        out.note(Note::Rejoined { segment: self.id, promised, scl });
    }
}
