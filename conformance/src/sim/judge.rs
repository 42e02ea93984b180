//! Judges a run: the protocol's own [`Observer`], and beside it a reference that knows page contents.
//!
//! The reference is the volume as a user would draw it: one list of marks for each page. What is visible to a writer
//! follows from two facts only: who allocated what, and at which VDL later writers opened.

use super::payload::{Mark, Marked};
use auriga_protocol::observer::Observer;
use auriga_protocol::{Lsn, Note, PageId, Payload, QuorumSet, VolumeEpoch};
use std::collections::{BTreeMap, BTreeSet};

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
type History = BTreeMap<(Lsn, VolumeEpoch), Mark>;

/// The judge: see the module's header.
pub struct Judge {
    observer: Observer,
    pages: BTreeMap<PageId, History>,
    opened: BTreeMap<VolumeEpoch, Lsn>,
    durable: BTreeMap<VolumeEpoch, Lsn>,
    submitted: BTreeMap<VolumeEpoch, BTreeSet<Lsn>>,
    highest: BTreeMap<VolumeEpoch, Lsn>,
}

impl Default for Judge {
    fn default() -> Self {
        Judge {
            observer: Observer::new(QuorumSet::aurora()),
            pages: BTreeMap::new(),
            opened: BTreeMap::new(),
            durable: BTreeMap::new(),
            submitted: BTreeMap::new(),
            highest: BTreeMap::new(),
        }
    }
}

/// What a recovery did, for the coverage counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// It kept records that nobody had called durable.
    pub tail: bool,
    /// It annulled records that were allocated.
    pub annulled: bool,
}

impl Judge {
    /// Takes one fact.
    ///
    /// # Errors
    /// The rule that it breaks, and how.
    pub fn observe(&mut self, note: &Note) -> Result<(), (String, String)> {
        match note {
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
        self.observer.observe(note).map_err(|violation| (violation.rule.to_owned(), violation.what))
    }

    /// What the recovery that opens at `vdl` in `volume_epoch` makes of earlier writers' records. Ask before observing.
    pub fn recovered(&self, volume_epoch: VolumeEpoch, vdl: Lsn) -> Recovered {
        let earlier = |vdls: &BTreeMap<VolumeEpoch, Lsn>| vdls.range(..volume_epoch).map(|(_, vdl)| *vdl).max();
        let durable = earlier(&self.durable).max(earlier(&self.opened)).unwrap_or_default();
        let allocated = self.highest.range(..volume_epoch).map(|(_, lsn)| *lsn).max().unwrap_or_default();
        Recovered { tail: vdl > durable, annulled: allocated > vdl }
    }

    /// A mark was allocated.
    pub fn allocated(&mut self, volume_epoch: VolumeEpoch, lsn: Lsn, page: PageId, mark: Mark) {
        self.pages.entry(page).or_default().insert((lsn, volume_epoch), mark);
    }

    /// A mini-transaction's user waits for this LSN.
    pub fn submitted(&mut self, volume_epoch: VolumeEpoch, cpl: Lsn) {
        self.submitted.entry(volume_epoch).or_default().insert(cpl);
    }

    /// The page as of `read_point`, as the writer of `volume_epoch` must see it.
    pub fn page(&self, volume_epoch: VolumeEpoch, page: PageId, read_point: Lsn) -> (Lsn, Marked) {
        let mut content = Marked::default();
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
        allocated_in <= volume_epoch
            && self.opened.range(allocated_in.next()..volume_epoch.next()).all(|(_, vdl)| lsn <= *vdl)
    }
}
