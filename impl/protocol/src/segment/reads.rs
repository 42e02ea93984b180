//! Pages at a read point, and healing of base pages that fail their checksum.
//!
//! A page is its base (everything at or below the floor, and possibly more) plus the records of the log above the
//! base's version and at or below the read point.

use super::{Out, PageRange, Segment, Task};
use crate::defect::Defect;
use crate::ids::{Lsn, MemberId, PageId, Party, SegmentId, VolumeEpoch};
use crate::machine::Token;
use crate::message::{BasePage, Message, Refusal};
use crate::note::Note;
use crate::record::{Payload, materialise};
use alloc::vec::Vec;
use serde::Serialize;

/// What a `ReadPage` asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) struct Wanted {
    pub read: Token,
    pub volume_epoch: VolumeEpoch,
    pub page: PageId,
    pub read_point: Lsn,
    pub group_point: Lsn,
}

/// Why the page store was asked.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub(super) enum PendingBase {
    /// To answer a reader.
    Read { from: Party, wanted: Wanted },
    /// To heal a peer's page, which must hold everything through this LSN.
    Heal { peer: MemberId, page: PageId, through: Lsn },
    /// To hydrate a peer.
    Hydrate { peer: MemberId, after: Option<PageId>, newer_than: Lsn },
    /// A healed page is being stored.
    Healed { page: PageId },
    /// A chunk of hydration is being stored.
    Hydrated,
}

impl<P: Payload> Segment<P> {
    pub(super) fn on_read_page(&mut self, from: Party, wanted: Wanted, out: &mut Out<P>) {
        if let Err(refusal) = self.admit_read(&wanted) {
            return out.send(from, Message::ReadRefused { read: wanted.read, refusal });
        }
        let token = self.new_token();
        self.bases.insert(token, PendingBase::Read { from, wanted });
        out.start(Task::ReadBase { token, page: wanted.page });
    }

    /// R-READ-1: the chain must have reached the group's part of the read point. R-READ-2: SCL is compared with the
    /// read point *translated to the group*, or an idle group could never be read.
    fn admit_read(&self, wanted: &Wanted) -> Result<(), Refusal> {
        let defects = self.config.defects;
        let scl = self.log.scl();
        let floor = self.log.floor();
        let needed = if defects.has(Defect::ReadNotTranslated) { wanted.read_point } else { wanted.group_point };
        if wanted.volume_epoch < self.promised {
            return Err(Refusal::StaleVolumeEpoch { current: self.promised });
        }
        if wanted.volume_epoch != self.install.volume_epoch {
            return Err(Refusal::NotInstalled { installed: self.install.volume_epoch });
        }
        if scl < needed && !defects.has(Defect::ReadAboveScl) {
            return Err(Refusal::AboveScl { scl });
        }
        if wanted.read_point < floor && !defects.has(Defect::CollectAbovePgmrpl) {
            return Err(Refusal::BelowFloor { floor });
        }
        // R-HYDRATE-2: some pages are newer than the floor, and some are gone that were there at it.
        if wanted.read_point < self.ceiling && !defects.has(Defect::HydrationServesMixed) {
            return Err(Refusal::BelowFloor { floor: self.ceiling });
        }
        if self.pages_lost || self.damaged.contains(&wanted.page) {
            return Err(Refusal::PageDamaged);
        }
        if self.bases.len() >= self.config.reads_max {
            return Err(Refusal::Busy);
        }
        Ok(())
    }

    pub(super) fn on_base(&mut self, token: Token, base: Option<BasePage<P>>, out: &mut Out<P>) {
        match self.bases.remove(&token) {
            Some(PendingBase::Read { from, wanted }) => self.serve(from, wanted, base, out),
            Some(PendingBase::Heal { peer, page, through }) => self.send_healing(peer, page, through, base, out),
            _ => {}
        }
    }

    fn serve(&mut self, from: Party, wanted: Wanted, base: Option<BasePage<P>>, out: &mut Out<P>) {
        let Wanted { read, page, read_point, .. } = wanted;
        if let Err(refusal) = self.admit_read(&wanted) {
            return out.send(from, Message::ReadRefused { read, refusal });
        }
        let through = if self.config.defects.has(Defect::ReadIgnoresReadPoint) { Lsn(u64::MAX) } else { read_point };
        let (version, content) = self.page_through(page, through, base);
        if version > read_point && !self.config.defects.any() {
            return out.send(from, Message::ReadRefused { read, refusal: Refusal::BelowFloor { floor: version } });
        }
        out.note(Note::Served { segment: self.id, page, read_point, version });
        out.send(from, Message::Page { read, version, page: content });
    }

    /// The page with every record at or below `through`, which the chain covers.
    fn page_through(&self, page: PageId, through: Lsn, base: Option<BasePage<P>>) -> (Lsn, P::Page) {
        let (version, mut content) = base.map_or((Lsn::ZERO, P::Page::default()), |base| (base.version, base.content));
        let version = materialise(&mut content, version, through, self.log.of_page(page, through));
        (version, content)
    }

    /// A base page failed its checksum, in a read or a coalescing.
    pub(super) fn on_damaged(&mut self, page: PageId, token: Option<Token>, out: &mut Out<P>) {
        match token.and_then(|token| self.bases.remove(&token)) {
            Some(PendingBase::Read { from, wanted }) => {
                out.send(from, Message::ReadRefused { read: wanted.read, refusal: Refusal::PageDamaged });
            }
            Some(_) => {}
            None => self.coalescing = None,
        }
        self.heal(page, out);
    }

    /// Asks a peer for a sound copy; the gossip timer asks the next one until it has come.
    pub(super) fn heal(&mut self, page: PageId, out: &mut Out<P>) {
        self.damaged.insert(page);
        let peer = self.next_peer();
        out.send(self.peer(peer), Message::HealPull { page, floor: self.log.floor() });
    }

    pub(super) fn on_heal_pull(&mut self, peer: SegmentId, page: PageId, floor: Lsn, out: &mut Out<P>) {
        let cannot = !self.counts() || self.pages_lost || self.damaged.contains(&page);
        let through = floor.max(self.log.floor()).max(self.ceiling);
        if cannot || self.log.scl() < through || self.bases.len() >= self.config.reads_max {
            return;
        }
        let token = self.new_token();
        self.bases.insert(token, PendingBase::Heal { peer: peer.member, page, through });
        out.start(Task::ReadBase { token, page });
    }

    fn send_healing(
        &mut self,
        peer: MemberId,
        page: PageId,
        through: Lsn,
        base: Option<BasePage<P>>,
        out: &mut Out<P>,
    ) {
        let (version, content) = self.page_through(page, through, base);
        let base = (version > Lsn::ZERO).then_some(BasePage { page, version, content });
        out.send(self.peer(peer), Message::HealPush { page, base, through });
    }

    pub(super) fn on_heal_push(&mut self, page: PageId, base: Option<BasePage<P>>, through: Lsn, out: &mut Out<P>) {
        let storing = self.bases.values().any(|pending| *pending == PendingBase::Healed { page });
        let fits = base.as_ref().is_none_or(|base| base.page == page);
        // A pass may have been here already, and brought the page as of later (R-HYDRATE-1).
        let hydrating = self.hydration.is_some();
        if !self.damaged.contains(&page) || through < self.log.floor() || storing || hydrating || !fits {
            return;
        }
        let token = self.new_token();
        self.bases.insert(token, PendingBase::Healed { page });
        let replace = PageRange { after: Self::page_before(page), through: Some(page) };
        let pages: Vec<_> = base.into_iter().collect();
        self.ceiling = self.ceiling.max(through);
        self.hear_of_floor(through);
        let (unchanged, replace, floor) = (Vec::new(), Some(replace), None);
        out.start(Task::PutBases { token, pages, unchanged, replace, floor, ceiling: through });
    }

    pub(super) fn on_bases_put(&mut self, token: Token, out: &mut Out<P>) {
        match self.bases.remove(&token) {
            Some(PendingBase::Healed { page }) => {
                self.damaged.remove(&page);
                self.healed += 1;
            }
            Some(PendingBase::Hydrated) => self.on_chunk_stored(out),
            _ => {}
        }
    }

    /// The greatest possible page identity below `page`.
    fn page_before(page: PageId) -> Option<PageId> {
        match (page.inode, page.block) {
            (0, 0) => None,
            (inode, 0) => Some(PageId { inode: inode - 1, block: u64::MAX }),
            (inode, block) => Some(PageId { inode, block: block - 1 }),
        }
    }
}
