//! What writers ask: seal, install, write. And the one place where answers leave, when an append is durable.

use super::{Entry, Out, Reply, Segment};
use crate::defect::Defect;
use crate::identity::{Charter, Shape};
use crate::ids::{Lsn, MembershipEpoch, Party, SegmentId, VolumeEpoch};
use crate::machine::AppendId;
use crate::membership::{Step, admits};
use crate::message::{Install, Message, Refusal};
use crate::note::Note;
use crate::record::{Payload, Record, take_weight, weight_of};
use crate::truncation::TruncationList;
use alloc::vec::Vec;

impl<P: Payload> Segment<P> {
    /// Promises `volume_epoch` to its candidate, and answers when the promise is durable (R-FENCE-1 to 3).
    /// R-VOLUME-5 comes before all else: a writer of another shape must not even fence one of the right shape.
    pub(super) fn on_seal(&mut self, from: Party, volume_epoch: VolumeEpoch, shape: Shape, out: &mut Out<P>) {
        if let Some(Charter { shape: own, .. }) = self.charter
            && own != shape
        {
            return out.send(from, Message::Refused(Refusal::OtherShape { shape: own }));
        }
        if !self.counts() {
            return out.send(from, Message::Refused(Refusal::Rejoining));
        }
        if let Err(refusal) = self.admit_candidate(volume_epoch) {
            return out.send(from, Message::Refused(refusal));
        }
        let reply = Reply::Sealed { to: from, volume_epoch };
        if self.is_newer(volume_epoch, self.promised) {
            self.promised = volume_epoch;
            let append = self.append(Entry::Promise { volume_epoch }, out);
            self.waiting.push((append, reply));
            if self.config.defects.has(Defect::SealBeforeDurable) {
                self.send_reply(reply, out);
            }
        } else {
            self.answer(reply, out);
        }
    }

    /// Sends the chain above `above`, as far as `truncations` leave it in force, to the writer that sealed.
    pub(super) fn on_tail_pull(
        &mut self,
        from: Party,
        volume_epoch: VolumeEpoch,
        above: Lsn,
        truncations: &TruncationList,
        out: &mut Out<P>,
    ) {
        if volume_epoch != self.promised || !self.counts() {
            let refusal = Refusal::StaleVolumeEpoch { current: self.promised };
            return out.send(from, Message::Refused(refusal));
        }
        let floor = self.log.floor();
        if above < floor {
            return out.send(from, Message::Refused(Refusal::BelowFloor { floor }));
        }
        let base = self.log.last_in_force(above, truncations);
        let in_force = |record: &&Record<P>| !truncations.annuls(record.lsn);
        let chain = self.log.chain_above(above).take_while(in_force);
        let records = take_weight(chain.cloned(), self.config.push_weight_max);
        let end = records.last().map_or(above, |record| record.lsn);
        let complete = self.log.chain_above(end).take_while(in_force).next().is_none();
        out.send(from, Message::Tail { volume_epoch, above, base, records, complete });
    }

    /// Takes over what a recovery decided, and acknowledges when that is durable (R-RECOVER-3).
    pub(super) fn on_install(&mut self, from: Party, install: Install, membership: Step, out: &mut Out<P>) {
        let volume_epoch = install.volume_epoch;
        if let Err(refusal) = self.admit_candidate(volume_epoch) {
            return out.send(from, Message::Refused(refusal));
        }
        let reply = Reply::Installed { to: from, volume_epoch };
        if self.is_newer(volume_epoch, self.install.volume_epoch) {
            self.take_membership_of(&install, membership, out);
            let append = self.take_install(install, out);
            self.waiting.push((append, reply));
            if self.config.defects.has(Defect::InstallBeforeDurable) {
                self.send_reply(reply, out);
            }
        } else {
            self.answer(reply, out);
        }
    }

    /// Takes over what a recovery decided, and makes it durable. Where the recovery forgot ranges that this segment
    /// still needs, its store went back in time: the recovery had its word that its floor was above them
    /// (R-TRUNCATE-6).
    pub(super) fn take_install(&mut self, install: Install, out: &mut Out<P>) -> AppendId {
        let before = self.install.volume_epoch;
        let of_before =
            |reply: &Reply| matches!(reply, Reply::Installed { volume_epoch, .. } if *volume_epoch == before);
        if let Some((append, _)) = self.waiting.iter().find(|(_, reply)| of_before(reply)) {
            self.superseded.push((*append, self.install.clone()));
        }
        self.adopt_install(install.clone());
        let append = self.append(Entry::Install(install), out);
        self.clear_log_below_forgotten();
        if self.rejoin.is_none() && !self.knows_what_is_annulled() {
            self.accepted = None;
            self.forget_what_was_promised(out);
        }
        append
    }

    /// Whether every record that the log can hold is judged by the ranges that are not forgotten.
    pub(super) fn knows_what_is_annulled(&self) -> bool {
        let floor = self.log.floor();
        floor >= self.install.truncations.forgotten() || self.config.defects.has(Defect::ForgetsAboveFloors)
    }

    /// Drops records of which it is not known whether they are annulled: they come again from a peer.
    pub(super) fn clear_log_below_forgotten(&mut self) {
        if !self.knows_what_is_annulled() {
            self.log.clear();
        }
    }

    /// Drops what the recovery annulled. The list replaces the one before: a recovery that never completed is
    /// overridden by the one that did.
    pub(super) fn adopt_install(&mut self, install: Install) {
        self.promised = self.promised.max(install.volume_epoch);
        if !self.config.defects.has(Defect::TruncationNotApplied) {
            self.log.truncate(&install.truncations);
        }
        // `install.vdl` is a finding, not yet a fact: only what a writer calls durable may be reported (R-RECOVER-5).
        self.install = install;
        self.raise_membership();
        self.renew_target();
    }

    /// Whether a writer's records may be taken at all.
    pub(super) fn admit_write(
        &self,
        volume_epoch: VolumeEpoch,
        membership_epoch: MembershipEpoch,
    ) -> Result<(), Refusal> {
        let defects = self.config.defects;
        let current = self.promised;
        let installed = self.install.volume_epoch;
        if self.is_older(volume_epoch, current) && !defects.has(Defect::NoFence) {
            return Err(Refusal::StaleVolumeEpoch { current });
        }
        if volume_epoch != installed {
            return Err(Refusal::NotInstalled { installed });
        }
        if !admits(self.membership.next.membership_epoch, membership_epoch, defects) {
            return Err(Refusal::StaleMembership { current: self.membership.clone().into() });
        }
        Ok(())
    }

    /// Persists what is new and acknowledges when it is durable; acknowledges at once when nothing is new.
    pub(super) fn on_write(&mut self, from: Party, records: Vec<Record<P>>, out: &mut Out<P>) {
        let Some(records) = self.new_records(from, records, out) else { return };
        if records.is_empty() {
            let volume_epoch = self.install.volume_epoch;
            return self.answer(Reply::Acknowledge { to: from, volume_epoch }, out);
        }
        if self.disk_full {
            return out.send(from, Message::Refused(Refusal::DiskFull));
        }
        if self.log.weight() + weight_of(&records) > self.config.log_weight_max {
            self.coalesce(out);
            return out.send(from, Message::Refused(Refusal::Busy));
        }
        self.persist(from, records, out);
    }

    /// Starts the append of new records; `to` is acknowledged when they are durable.
    pub(super) fn persist(&mut self, to: Party, records: Vec<Record<P>>, out: &mut Out<P>) {
        let append = self.append(Entry::Records { records: records.clone(), vdl: self.vdl }, out);
        for record in records {
            self.log.insert(record, append);
        }
        let volume_epoch = self.install.volume_epoch;
        self.waiting.push((append, Reply::Acknowledge { to, volume_epoch }));
        if self.config.defects.has(Defect::AckBeforeDurable) {
            self.log.advance(append);
            self.acknowledge(to, out);
        }
    }

    /// The log is durable through `append`: the chain may grow, and answers may leave.
    pub(super) fn on_durable(&mut self, append: AppendId, out: &mut Out<P>) {
        self.durable = self.durable.max(append.min(self.appended));
        self.log.advance(self.durable);
        // What each of them annulled is gone from here, whichever install came next.
        let overtaken = self.superseded.iter().take_while(|(id, _)| *id <= self.durable).count();
        for (_, install) in self.superseded.drain(..overtaken) {
            out.note(installed(self.id, &install));
        }
        let ready = self.waiting.iter().take_while(|(id, _)| *id <= self.durable).count();
        let mut replies: Vec<Reply> = self.waiting.drain(..ready).map(|(_, reply)| reply).collect();
        replies.dedup();
        for reply in replies {
            self.send_reply(reply, out);
        }
        self.rejoin_if_caught_up(out);
        self.coalesce_for_room(out);
    }

    /// An answer says only what is durable: it waits for whatever was appended before it. (Found by the model: a
    /// repeated `Seal`, or a `Write` without news, must not speak for an `Install` that is still pending.)
    pub(super) fn answer(&mut self, reply: Reply, out: &mut Out<P>) {
        if self.durable >= self.appended {
            return self.send_reply(reply, out);
        }
        if !self.waiting.iter().any(|(_, waiting)| *waiting == reply) {
            self.waiting.push((self.appended, reply));
        }
    }

    fn send_reply(&mut self, reply: Reply, out: &mut Out<P>) {
        match reply {
            // Once its install is here the candidate needs no report, and the log no longer is what was sealed.
            Reply::Sealed { to, volume_epoch }
                if volume_epoch == self.promised && volume_epoch > self.install.volume_epoch =>
            {
                let report = self.report();
                out.note(Note::Sealed { segment: self.id, volume_epoch, scl: report.scl });
                out.send(to, Message::Sealed { volume_epoch, report });
            }
            Reply::Installed { to, volume_epoch } if volume_epoch == self.install.volume_epoch => {
                self.tell_what_is_installed(out);
                self.acknowledge(to, out);
            }
            Reply::Acknowledge { to, volume_epoch } if volume_epoch == self.install.volume_epoch => {
                self.acknowledge(to, out);
            }
            Reply::Membership { to, volume_epoch, epochs } if volume_epoch == self.promised => {
                self.tell_membership(to, volume_epoch, epochs, out);
            }
            Reply::Left => self.retire(out),
            Reply::Rejoined => self.on_rejoined(out),
            Reply::LossAccepted => self.tell_of_acceptance(out),
            Reply::Founded => {
                self.rejoin = None;
                self.begin_life(out);
            }
            Reply::LifeBegun => self.ask_about_life(out),
            Reply::LifeKnown { peer, question, life } => self.tell_what_life_is_known(peer, question, life, out),
            Reply::Footing { peer, question } => self.tell_footing(peer, question, out),
            Reply::Reminded { peer, question } => self.remind(peer, question, out),
            Reply::PullMore { peer } => self.pull_gossip(peer, out),
            // Overtaken: what was asked in an older volume epoch must not be answered with a chain of a newer one.
            Reply::Sealed { .. } | Reply::Installed { .. } | Reply::Acknowledge { .. } | Reply::Membership { .. } => {}
        }
    }

    /// Tells the writer how far the chain is complete and durable (R-WRITE-2, R-WRITE-3). Not once a newer
    /// candidate has the promise: what it sealed must not grow (R-FENCE-1).
    pub(super) fn acknowledge(&mut self, to: Party, out: &mut Out<P>) {
        if self.install.volume_epoch == VolumeEpoch::NONE {
            return; // there is no writer yet
        }
        let fenced = self.install.volume_epoch < self.promised;
        if fenced && !self.config.defects.has(Defect::NoFence) {
            return;
        }
        let over_hole = self.config.defects.has(Defect::AckOverHole);
        let scl = if over_hole { self.log.last() } else { self.log.scl() };
        let volume_epoch = self.install.volume_epoch;
        out.note(Note::Acknowledged { segment: self.id, volume_epoch, scl });
        out.send(to, Message::Acknowledge { volume_epoch, scl, standing: self.standing.clone() });
    }

    /// An install may have become durable without anyone hearing of it, because the process stopped right then.
    pub(super) fn tell_what_is_installed(&self, out: &mut Out<P>) {
        if self.install.volume_epoch > VolumeEpoch::NONE {
            out.note(installed(self.id, &self.install));
        }
    }

    /// Whether the writer of `volume_epoch` may still become, or is, the writer here.
    fn admit_candidate(&self, volume_epoch: VolumeEpoch) -> Result<(), Refusal> {
        let current = self.promised;
        if self.is_older(volume_epoch, current) { Err(Refusal::StaleVolumeEpoch { current }) } else { Ok(()) }
    }

    fn is_older(&self, volume_epoch: VolumeEpoch, than: VolumeEpoch) -> bool {
        if self.config.defects.has(Defect::EpochGrantedTwice) {
            return volume_epoch.number < than.number;
        }
        volume_epoch < than
    }

    fn is_newer(&self, volume_epoch: VolumeEpoch, than: VolumeEpoch) -> bool {
        if self.config.defects.has(Defect::EpochGrantedTwice) {
            return volume_epoch != than && volume_epoch.number >= than.number;
        }
        volume_epoch > than
    }

    /// The party to tell about progress that no writer asked for (gossip, hydration).
    pub(super) fn installed_writer(&self) -> Party {
        Party::Writer(self.id.volume, self.install.volume_epoch.writer)
    }
}

fn installed(segment: SegmentId, install: &Install) -> Note {
    let (volume_epoch, truncations) = (install.volume_epoch, install.truncations.clone());
    Note::Installed { segment, volume_epoch, truncations }
}
