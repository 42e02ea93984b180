//! Filling holes from peers, and passing on installs that a peer has missed.
//!
//! Records are exchanged only between segments that have installed the same volume epoch, and taken only while no newer
//! one is promised: otherwise a record could reach a fourth copy after a recovery has counted it as lost.

use super::{Out, Segment, Timer};
use crate::ids::{Lsn, MemberId, Party, SegmentId, VolumeEpoch};
use crate::membership::Step;
use crate::message::{Install, Message};
use crate::record::{Payload, Record, take_weight, weight_of};
use alloc::vec::Vec;

impl<P: Payload> Segment<P> {
    /// Asks the next peer for what is missing; goes on with whatever else needs a peer.
    pub(super) fn on_gossip_timer(&mut self, out: &mut Out<P>) {
        out.set_timer(Timer::Gossip, self.config.gossip_every);
        if self.ask_to_rejoin(out) {
            return;
        }
        if !self.is_vouched() {
            return;
        }
        let peer = self.next_peer();
        self.nudge_hydration(peer, out);
        if self.pages_lost && self.hydration.is_none() {
            self.start_hydration(peer, out);
        }
        for page in self.damaged.iter().take(self.config.hydrate_pages_max).copied() {
            out.send(self.peer(peer), Message::HealPull { page, floor: self.log.floor() });
        }
        self.pull_gossip(peer, out);
    }

    pub(super) fn pull_gossip(&self, peer: MemberId, out: &mut Out<P>) {
        let (installed, scl) = (self.install.volume_epoch, self.log.scl());
        out.send(self.peer(peer), Message::GossipPull { installed, scl, membership: self.membership.clone() });
    }

    pub(super) fn on_gossip_pull(&mut self, peer: SegmentId, installed: VolumeEpoch, scl: Lsn, out: &mut Out<P>) {
        if !self.counts() {
            return;
        }
        let to = self.peer(peer.member);
        if installed < self.install.volume_epoch {
            let (install, membership) = (self.install.clone(), self.membership.clone());
            out.send(to, Message::GossipInstall { install, membership });
        } else if installed == self.install.volume_epoch && scl < self.log.scl() {
            let floor = self.log.floor();
            if scl < floor {
                return out.send(to, Message::GossipTooFar { floor });
            }
            let records = take_weight(self.log.chain_above(scl).cloned(), self.config.push_weight_max);
            out.send(to, Message::GossipPush { installed, records });
        }
    }

    pub(super) fn on_gossip_push(
        &mut self,
        peer: SegmentId,
        installed: VolumeEpoch,
        records: Vec<Record<P>>,
        out: &mut Out<P>,
    ) {
        let same = installed == self.install.volume_epoch && installed == self.promised;
        if !same || self.disk_full {
            return;
        }
        let full = weight_of(&records) >= self.config.push_weight_max / 2;
        let Some(records) = self.new_records(self.peer(peer.member), records, out) else { return };
        if records.is_empty() || self.log.weight() + weight_of(&records) > self.config.log_weight_max {
            return;
        }
        self.persist(self.installed_writer(), records, out);
        if full {
            self.waiting.push((self.appended, super::Reply::PullMore { peer: peer.member }));
        }
    }

    /// The same as the `Install` that the writer sent and that was lost on its way here.
    pub(super) fn on_gossip_install(&mut self, install: Install, membership: Step, out: &mut Out<P>) {
        if install.volume_epoch <= self.install.volume_epoch || install.volume_epoch < self.promised {
            return;
        }
        let volume_epoch = install.volume_epoch;
        let to = Party::Writer(self.id.volume, volume_epoch.writer);
        self.take_membership_of(&install, membership, out);
        let append = self.take_install(install, out);
        self.waiting.push((append, super::Reply::Installed { to, volume_epoch }));
    }

    /// Peers in turn.
    pub(super) fn next_peer(&mut self) -> MemberId {
        let peers = self.peers();
        let after = |member: &MemberId| *member > self.gossip_next;
        let next = peers.iter().find(after).or_else(|| peers.iter().next()).unwrap_or(self.id.member);
        self.gossip_next = next;
        next
    }
}
