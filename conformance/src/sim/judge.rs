//! Judges a run: the protocol's own [`Observer`] and [`Hindsight`], and beside them a reference that knows page contents.
//!
//! The reference is the volume as a user would draw it: one list of marks for each page. What is visible to a writer
//! follows from two facts only: who allocated what, and at which VDL later writers opened.

use auriga_protocol::observer::Observer;
use auriga_protocol::observer::hindsight::Hindsight;
use auriga_protocol::{Lsn, Note, PageId, Payload, PgId, QuorumSet, SegmentId, TruncationList, VolumeEpoch, VolumeId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Why a run failed.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// The rule or invariant, as numbered in `specs/`.
    pub rule: String,
    /// What was seen.
    pub what: String,
    /// When, in virtual microseconds.
    pub at: u64,
}

/// A page's history: every mark ever allocated on it, by LSN and by the volume epoch that allocated it.
type History<P> = BTreeMap<(Lsn, VolumeEpoch), P>;

/// The judge: see the module's header.
pub struct Judge<P> {
    observer: Observer,
    pages: BTreeMap<PageId, History<P>>,
    /// What each segment has last installed.
    installed: BTreeMap<SegmentId, (VolumeEpoch, TruncationList)>,
    /// The highest LSN that a recovery in this volume epoch has annulled.
    annulled: BTreeMap<VolumeEpoch, Lsn>,
    hindsight: Hindsight,
    opened: BTreeMap<VolumeEpoch, Lsn>,
    durable: BTreeMap<VolumeEpoch, Lsn>,
    submitted: BTreeMap<VolumeEpoch, BTreeSet<Lsn>>,
    highest: BTreeMap<VolumeEpoch, Lsn>,
}

/// What a recovery did, for the coverage counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// It kept records that no writer had called durable.
    pub tail: bool,
    /// It annulled records that were allocated.
    pub annulled: bool,
}

impl<P: Payload> Judge<P> {
    /// A judge who has seen nothing, for groups with this quorum set.
    pub fn new(quorum: QuorumSet) -> Self {
        Judge {
            observer: Observer::new(quorum),
            pages: BTreeMap::new(),
            installed: BTreeMap::new(),
            annulled: BTreeMap::new(),
            hindsight: Hindsight::default(),
            opened: BTreeMap::new(),
            durable: BTreeMap::new(),
            submitted: BTreeMap::new(),
            highest: BTreeMap::new(),
        }
    }

    /// What a writer of this volume epoch counts by in a group.
    pub fn quorum_of(&self, volume: VolumeId, pg: PgId, volume_epoch: VolumeEpoch) -> &QuorumSet {
        self.observer.quorum_of(volume, pg, volume_epoch)
    }

    /// Takes one fact.
    ///
    /// # Errors
    /// The rule that it breaks, and how.
    pub fn observe(&mut self, note: &Note) -> Result<(), (String, String)> {
        match note {
            Note::Installed { segment, volume_epoch, truncations } => {
                let through = self.annulled.entry(*volume_epoch).or_default();
                *through = truncations.through().max(*through);
                self.installed.insert(*segment, (*volume_epoch, truncations.clone()));
            }
            Note::Durable { volume_epoch, vdl, .. } => {
                self.durable.insert(*volume_epoch, *vdl);
            }
            Note::Opened { volume_epoch, vdl, .. } => {
                self.opened.insert(*volume_epoch, *vdl);
            }
            Note::Allocated { volume_epoch, lsn, .. } => {
                self.highest.insert(*volume_epoch, *lsn);
            }
            _ => {}
        }
        let judged = self.observer.observe(note).and(self.hindsight.observe(note));
        judged.map_err(|violation| (violation.rule.to_owned(), violation.what))
    }

    /// The segment's disk was replaced by an old copy, and nothing can find that out.
    pub fn forgive(&mut self, segment: SegmentId) {
        self.observer.forgive_segment(segment);
    }

    /// What the recovery that opens at `vdl` in `volume_epoch` makes of earlier writers' records. Ask before observing.
    pub fn recovered(&self, volume_epoch: VolumeEpoch, vdl: Lsn) -> Recovered {
        let earlier = |vdls: &BTreeMap<VolumeEpoch, Lsn>| vdls.range(..volume_epoch).map(|(_, vdl)| *vdl).max();
        let durable = earlier(&self.durable).max(earlier(&self.opened)).unwrap_or_default();
        let allocated = self.highest.range(..volume_epoch).map(|(_, lsn)| *lsn).max().unwrap_or_default();
        Recovered { tail: vdl > durable, annulled: allocated > vdl }
    }

    /// A mark was allocated.
    pub fn allocated(&mut self, volume_epoch: VolumeEpoch, lsn: Lsn, page: PageId, mark: P) {
        self.pages.entry(page).or_default().insert((lsn, volume_epoch), mark);
    }

    /// A mini-transaction's user waits for this LSN.
    pub fn submitted(&mut self, volume_epoch: VolumeEpoch, cpl: Lsn) {
        self.submitted.entry(volume_epoch).or_default().insert(cpl);
    }

    /// The page as of `read_point`, as the writer of `volume_epoch` must see it.
    pub fn page(&self, volume_epoch: VolumeEpoch, page: PageId, read_point: Lsn) -> (Lsn, P::Page) {
        let mut content = P::Page::default();
        let mut version = Lsn::ZERO;
        let history = self.pages.get(&page).into_iter().flatten();
        for ((lsn, epoch), mark) in history.take_while(|((lsn, _), _)| *lsn <= read_point) {
            if self.visible(*epoch, *lsn, volume_epoch) {
                mark.apply(&mut content);
                version = *lsn;
            }
        }
        (version, content)
    }

    /// Returns every record that is durable for the writer that called most durable, and in force there.
    pub fn acknowledged_records(&self) -> impl Iterator<Item = (PageId, Lsn)> + '_ {
        let called = self.durable.iter().chain(&self.opened).map(|(epoch, vdl)| (*vdl, *epoch));
        let (through, by) = called.max().unwrap_or_default();
        let of_page = move |(page, history): (&PageId, &History<P>)| {
            let page = *page;
            let lsns = history.keys().filter(move |(lsn, _)| *lsn <= through).copied().collect::<Vec<_>>();
            lsns.into_iter().map(move |(lsn, epoch)| (page, lsn, epoch))
        };
        let all = self.pages.iter().flat_map(of_page);
        all.filter(move |(_, lsn, epoch)| self.visible(*epoch, *lsn, by)).map(|(page, lsn, _)| (page, lsn))
    }

    /// What the segment has last said to have installed.
    pub fn installed(&self, segment: SegmentId) -> Option<&(VolumeEpoch, TruncationList)> {
        self.installed.get(&segment)
    }

    /// The highest LSN that a recovery in this volume epoch has annulled.
    pub fn annulled_through(&self, volume_epoch: VolumeEpoch) -> Lsn {
        self.annulled.get(&volume_epoch).copied().unwrap_or_default()
    }

    /// Every record that the writer of `volume_epoch` has allocated.
    pub fn allocated_in(&self, volume_epoch: VolumeEpoch) -> impl Iterator<Item = (PageId, Lsn)> + '_ {
        let all = self.pages.iter().flat_map(|(page, history)| history.keys().map(move |key| (*page, *key)));
        all.filter(move |(_, (_, epoch))| *epoch == volume_epoch).map(|(page, (lsn, _))| (page, lsn))
    }

    /// Every page that was ever changed.
    pub fn changed_pages(&self) -> impl Iterator<Item = PageId> + '_ {
        self.pages.keys().copied()
    }

    /// The highest VDL that the writer of `volume_epoch` has announced.
    pub fn durable(&self, volume_epoch: VolumeEpoch) -> Lsn {
        let opened = self.opened.get(&volume_epoch).copied().unwrap_or_default();
        self.durable.get(&volume_epoch).copied().unwrap_or_default().max(opened)
    }

    /// Acknowledged mini-transactions that the writer of `volume_epoch` can't see. None, ever.
    pub fn lost(&self, volume_epoch: VolumeEpoch) -> Vec<(VolumeEpoch, Lsn)> {
        let acknowledged = |(epoch, cpls): (&VolumeEpoch, &BTreeSet<Lsn>)| {
            let (epoch, durable) = (*epoch, self.durable.get(epoch).copied().unwrap_or_default());
            cpls.range(..=durable).map(move |cpl| (epoch, *cpl)).collect::<Vec<_>>()
        };
        let all = self.submitted.range(..=volume_epoch).flat_map(acknowledged);
        all.filter(|(epoch, lsn)| !self.visible(*epoch, *lsn, volume_epoch)).collect()
    }

    /// Acknowledged mini-transactions in all.
    pub fn acknowledged(&self) -> usize {
        let of = |epoch: &VolumeEpoch| self.durable.get(epoch).copied().unwrap_or_default();
        self.submitted.iter().map(|(epoch, cpls)| cpls.range(..=of(epoch)).count()).sum()
    }

    /// Whether a record is in force for a later writer: at or below the VDL of everyone who opened in between.
    fn visible(&self, allocated_in: VolumeEpoch, lsn: Lsn, volume_epoch: VolumeEpoch) -> bool {
        let between = (Bound::Excluded(allocated_in), Bound::Included(volume_epoch));
        allocated_in <= volume_epoch && self.opened.range(between).all(|(_, vdl)| lsn <= *vdl)
    }
}
