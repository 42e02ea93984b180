//! Judges the notes of a run by the invariants: the same code under the model checker, in the simulation, and over the
//! trace of a real cluster.
//!
//! It knows nothing of the machines' insides. It keeps what was promised, and compares what is said later:
//!
//! - what one writer called durable, every later writer finds (R-RECOVER-2, R-WRITE-1);
//! - what a writer calls durable ends at a CPL and is on a write quorum of acknowledgements (R-VDL-1, R-VDL-2);
//! - a segment finds again what it acknowledged, and keeps what it promised (R-WRITE-2, R-FENCE-1, R-FENCE-2);
//! - one writer per volume epoch, one use per LSN (R-FENCE-3, R-ALLOC-2);
//! - annulled records do not come back (R-TRUNCATE-1 to 3);
//! - a page is exactly as of its read point (R-READ-1, R-READ-3), and read points are durable (R-READ-4);
//! - a reader on another instance shows whole mini-transactions only, and never goes back (R-READER-2);
//! - nothing is collected that may still be asked for (R-COLLECT-1).
//!
//! Notes of one process must come in its order; notes of different processes in an order that respects messages. A
//! process that was killed may have taken its last notes with it: [`Observer::lose_track_of_segment`] and
//! [`Observer::lose_track_of_writer`] say so, and from then on what was not heard is no evidence (`unheard.rs`).

pub mod hindsight;
mod members;
mod unheard;

use crate::ids::{Lsn, MemberId, PageId, PgId, ReaderId, SegmentId, VolumeEpoch, VolumeId, WriterId};
use crate::membership::MembershipNote;
use crate::note::Note;
use crate::quorum::QuorumSet;
use crate::truncation::TruncationList;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::cmp::Ordering;
use core::ops::Bound;
use members::Members;
use serde::Serialize;
use unheard::Unheard;

/// A rule was broken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Violation {
    /// Its number in `specs/rules.md`.
    pub rule: &'static str,
    /// What was seen, in one sentence.
    pub what: String,
}

type Verdict = Result<(), Violation>;

fn require(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation { rule, what: what() }) }
}

/// What a record was when it was allocated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
struct Allocated {
    volume_epoch: VolumeEpoch,
    pg: PgId,
    page: PageId,
    is_cpl: bool,
    may_clear: bool,
}

/// What a segment has said.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize)]
pub struct SegmentHistory {
    /// Highest promise.
    pub sealed: VolumeEpoch,
    /// Highest install.
    pub installed: VolumeEpoch,
    /// The truncations of that install.
    pub truncations: TruncationList,
    /// Highest SCL acknowledged, as far as it is still in force.
    pub acknowledged: Lsn,
    /// Highest SCL acknowledged in the installed volume epoch.
    pub acknowledged_here: Lsn,
}

/// What was said of one volume.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize)]
struct VolumeHistory {
    allocated: BTreeMap<Lsn, Allocated>,
    by_page: BTreeMap<(PageId, Lsn), VolumeEpoch>,
    by_group: BTreeMap<(PgId, Lsn), VolumeEpoch>,
    opened: BTreeMap<VolumeEpoch, (WriterId, Lsn)>,
    durable: BTreeMap<VolumeEpoch, Lsn>,
    /// Read points of readers on other instances.
    readers: BTreeMap<ReaderId, Lsn>,
}

/// The judge: see the module's header.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Observer {
    quorum: QuorumSet,
    volumes: BTreeMap<VolumeId, VolumeHistory>,
    /// By segment; public so that a model may rename segments.
    pub segments: BTreeMap<SegmentId, SegmentHistory>,
    /// Who is in which group, where that was changed.
    members: Members,
    /// Always empty under the model and the simulation, which lose no note.
    unheard: Unheard,
}

impl Observer {
    /// A judge who has seen nothing, for groups with this quorum set.
    pub fn new(quorum: QuorumSet) -> Self {
        let (volumes, segments) = (BTreeMap::new(), BTreeMap::new());
        Observer { quorum, volumes, segments, members: Members::default(), unheard: Unheard::default() }
    }

    /// Takes one fact.
    ///
    /// # Errors
    /// The rule that it breaks, given everything before.
    pub fn observe(&mut self, note: &Note) -> Verdict {
        if let Note::Sealed { segment, .. } | Note::Acknowledged { segment, .. } | Note::Served { segment, .. } = note {
            require(!self.members.has_left(*segment), "R-MEMBER-10", || {
                format!("{segment} answers, and has left its group: {note:?}")
            })?;
        }
        match note {
            Note::Sealed { segment, volume_epoch, scl } => self.on_sealed(*segment, *volume_epoch, *scl),
            Note::Installed { segment, volume_epoch, truncations } => {
                self.on_installed(*segment, *volume_epoch, truncations)
            }
            Note::Acknowledged { segment, volume_epoch, scl } => self.on_acknowledged(*segment, *volume_epoch, *scl),
            Note::Served { segment, page, read_point, version } => {
                let history = self.segments.entry(*segment).or_default();
                let annulled = history.truncations.annuls(*version);
                require(!annulled, "R-TRUNCATE-1", || format!("{segment} served {page:?} at annulled {version}"))?;
                let installed = history.installed;
                self.page_is_as_of(segment.volume, installed, *page, *read_point, *version)
            }
            Note::Collected { segment, floor } => self.on_collected(*segment, *floor),
            Note::Learnt { segment, promised, installed } => self.on_learnt(*segment, *promised, *installed),
            Note::Rejoined { segment, promised, scl } => {
                let history = self.segments.entry(*segment).or_default();
                let kept = *promised >= history.sealed.max(history.installed);
                // It holds this much now; what it said beyond, the writer has dropped (R-REJOIN-3).
                history.acknowledged = *scl;
                history.acknowledged_here = *scl;
                require(kept, "R-REJOIN-1", || format!("{segment} rejoined with promise {promised}, less than it gave"))
            }
            Note::Allocated { volume, volume_epoch, lsn, pg, page, is_cpl, may_clear } => {
                let (volume_epoch, is_cpl, may_clear) = (*volume_epoch, *is_cpl, *may_clear);
                let record = Allocated { volume_epoch, pg: *pg, page: *page, is_cpl, may_clear };
                self.on_allocated(*volume, *lsn, record)
            }
            Note::Opened { volume, writer, volume_epoch, vdl } => self.on_opened(*volume, *writer, *volume_epoch, *vdl),
            Note::Durable { volume, volume_epoch, vdl } => self.on_durable(*volume, *volume_epoch, *vdl),
            Note::Read { volume, volume_epoch, page, read_point, version } => {
                let durable = self.volume(*volume).durable.get(volume_epoch).copied().unwrap_or_default();
                require(*read_point <= durable, "R-READ-4", || {
                    format!("{volume}@{volume_epoch} read {page:?} at {read_point}, above VDL {durable}")
                })?;
                self.page_is_as_of(*volume, *volume_epoch, *page, *read_point, *version)
            }
            Note::ReadPoint { volume, reader, volume_epoch, read_point } => {
                self.on_read_point(*volume, *reader, *volume_epoch, *read_point)
            }
            // No party lies where a judge listens: a machine sent it.
            Note::Implausible { segment, from, why } => {
                require(false, "R-LIMIT-2", || format!("{from} sent {segment} what no sound sender sends: {why:?}"))
            }
            Note::Contradicted { segment, from, lsn, .. } => {
                require(false, "R-LOG-4", || format!("{from} sent {segment} another record {lsn} than it holds"))
            }
            // Whether it found out in time is seen by what it said before.
            Note::WentBack { .. } | Note::LossAccepted { .. } => Ok(()),
            // Judged by `GlobalObserver`: volumes of different regions share nothing.
            Note::Global(_) => Ok(()),
            Note::Membership(note) => {
                if let MembershipNote::Changed { volume, pg, volume_epoch, .. } = note {
                    let point = self.complete_point(*volume, *pg, *volume_epoch);
                    self.members.completes(*volume, *pg, *volume_epoch, point);
                }
                let unsure = |volume| self.unheard.vdl_is_unsure(volume);
                // Its writer may have been killed before it could say so.
                let excused = matches!(note, MembershipNote::Left { segment } if unsure(segment.volume));
                self.members.observe(note).or_else(|broken| if excused { Ok(()) } else { Err(broken) })
            }
            Note::Fenced { volume_epoch, by, .. } => {
                require(by >= volume_epoch, "R-FENCE-1", || format!("{volume_epoch} fenced by older {by}"))
            }
        }
    }

    /// What a writer of this volume epoch counts by, as far as is known.
    pub fn quorum_of(&self, volume: VolumeId, pg: PgId, volume_epoch: VolumeEpoch) -> &QuorumSet {
        self.members.quorum(volume, pg, volume_epoch).unwrap_or(&self.quorum)
    }

    /// The segment's disk was replaced by an old copy, and nothing can find that out: what it said before is not held
    /// against it, only against those who open without it.
    pub fn forgive_segment(&mut self, segment: SegmentId) {
        self.segments.remove(&segment);
    }

    /// From here on this segment may have said something that was not heard: its process was killed.
    pub fn lose_track_of_segment(&mut self, segment: SegmentId) {
        self.unheard.segments.insert(segment);
    }

    /// The writer of this volume epoch may have said something after its last note: its process was killed.
    pub fn lose_track_of_writer(&mut self, volume: VolumeId, volume_epoch: VolumeEpoch) {
        let history = self.volumes.entry(volume).or_default();
        let own = history.allocated.iter().rev().find(|(_, record)| record.volume_epoch == volume_epoch);
        let last = own.map(|(lsn, _)| *lsn).or_else(|| history.opened.get(&volume_epoch).map(|(_, vdl)| *vdl));
        self.unheard.lose_writer(volume, volume_epoch, last.unwrap_or_default());
    }

    /// A recovery to this VDL was installed somewhere; whether its writer opened was not heard.
    pub fn perhaps_opened(&mut self, volume: VolumeId, volume_epoch: VolumeEpoch, vdl: Lsn) {
        self.unheard.perhaps_opened(volume, volume_epoch, vdl);
    }

    fn volume(&mut self, volume: VolumeId) -> &mut VolumeHistory {
        self.volumes.entry(volume).or_default()
    }

    fn on_sealed(&mut self, segment: SegmentId, volume_epoch: VolumeEpoch, scl: Lsn) -> Verdict {
        let history = self.segments.entry(segment).or_default();
        let (sealed, acknowledged) = (history.sealed, history.acknowledged);
        history.sealed = sealed.max(volume_epoch);
        require(volume_epoch >= sealed, "R-FENCE-2", || {
            format!("{segment} promised {volume_epoch} after it had promised {sealed}")
        })?;
        require(scl >= acknowledged, "R-WRITE-2", || {
            format!("{segment} has only {scl} of the {acknowledged} that it acknowledged")
        })
    }

    fn on_installed(&mut self, segment: SegmentId, epoch: VolumeEpoch, truncations: &TruncationList) -> Verdict {
        let history = self.segments.entry(segment).or_default();
        let installed = history.installed;
        if epoch > installed {
            history.installed = epoch;
            history.truncations = truncations.clone();
            history.acknowledged_here = Lsn::ZERO;
            while let Some(range) = truncations.range_of(history.acknowledged) {
                history.acknowledged = range.above;
            }
            // A chain may end anywhere below the cut; only what follows can be held against the segment.
            // Nor of one that was killed: it may have installed more in between than it told.
            let untold = self.unheard.segments.contains(&segment);
            if untold || truncations.cut_after(installed).is_some_and(|cut| history.acknowledged >= cut) {
                history.acknowledged = Lsn::ZERO;
            }
        }
        // Below a promise it does no harm: what counts for a writer is the acknowledgement.
        require(epoch >= installed, "R-TRUNCATE-2", || format!("{segment} installed {epoch} after {installed}"))
    }

    fn on_acknowledged(&mut self, segment: SegmentId, volume_epoch: VolumeEpoch, scl: Lsn) -> Verdict {
        self.unheard.segments.remove(&segment);
        let history = self.segments.entry(segment).or_default();
        if volume_epoch > history.installed {
            // A crash came between the install's durability and its note: what it annulled is not known here.
            let sealed = history.sealed;
            *history = SegmentHistory { sealed, installed: volume_epoch, ..SegmentHistory::default() };
        }
        history.acknowledged = history.acknowledged.max(scl);
        if volume_epoch == history.installed {
            history.acknowledged_here = history.acknowledged_here.max(scl);
        }
        let (sealed, annulled) = (history.sealed, history.truncations.annuls(scl));
        require(volume_epoch >= sealed, "R-FENCE-1", || {
            format!("{segment} acknowledged {scl} to {volume_epoch} after promising {sealed}")
        })?;
        require(!annulled, "R-TRUNCATE-1", || format!("{segment} acknowledged annulled {scl} in {volume_epoch}"))
    }

    /// A promise or an install that no peer knows is void: a writer that counted it learns of the loss before it has a
    /// quorum (R-REJOIN-3). But behind an install stands a read quorum, and one of it was asked.
    fn on_learnt(&mut self, segment: SegmentId, promised: VolumeEpoch, installed: VolumeEpoch) -> Verdict {
        let history = self.segments.entry(segment).or_default();
        let before = history.installed;
        history.sealed = promised;
        if installed < before {
            history.installed = installed;
            history.truncations = TruncationList::default();
        }
        require(promised >= before, "R-REJOIN-1", || {
            format!("{segment} learnt of promise {promised}, below its install {before}")
        })
    }

    fn on_collected(&mut self, segment: SegmentId, floor: Lsn) -> Verdict {
        let durable = self.volume(segment.volume).durable.values().max().copied().unwrap_or_default();
        let judged = !self.unheard.vdl_is_unsure(segment.volume);
        require(floor <= durable || !judged, "R-COLLECT-1", || {
            format!("{segment} collected {floor}, above every VDL {durable}")
        })
    }

    /// R-READER-2: durable for the writer that is followed, the end of a mini-transaction, never back.
    fn on_read_point(&mut self, volume: VolumeId, reader: ReaderId, epoch: VolumeEpoch, point: Lsn) -> Verdict {
        let history = self.volume(volume);
        let before = history.readers.insert(reader, point).unwrap_or_default();
        let durable = history.durable.get(&epoch).copied().unwrap_or_default();
        let whole = history.allocated.get(&point).is_none_or(|record| record.is_cpl);
        let kept = history.allocated.get(&point).is_none_or(|record| {
            let between = (Bound::Excluded(record.volume_epoch), Bound::Included(epoch));
            history.opened.range(between).all(|(_, (_, vdl))| point <= *vdl)
        });
        require(kept, "R-READER-1", || format!("{reader} shows {point}, which was annulled before {epoch}"))?;
        require(point >= before, "R-READER-2", || format!("{reader} went back from {before} to {point}"))?;
        let judged = !self.unheard.vdl_is_unsure(volume);
        require(point <= durable || !judged, "R-READ-4", || {
            format!("{reader} shows {point}, above VDL {durable} of {epoch}")
        })?;
        require(whole, "R-READER-2", || format!("{reader} shows {point}: half a mini-transaction"))
    }

    fn on_allocated(&mut self, volume: VolumeId, lsn: Lsn, record: Allocated) -> Verdict {
        let history = self.volume(volume);
        let before = history.allocated.insert(lsn, record);
        history.by_page.insert((record.page, lsn), record.volume_epoch);
        history.by_group.insert((record.pg, lsn), record.volume_epoch);
        require(before.is_none(), "R-ALLOC-2", || {
            format!("{volume}@{} allocated {lsn} again, after {before:?}", record.volume_epoch)
        })
    }

    fn on_opened(&mut self, volume: VolumeId, writer: WriterId, volume_epoch: VolumeEpoch, vdl: Lsn) -> Verdict {
        self.unheard.writer_opened(volume);
        let history = self.volume(volume);
        let other = history.opened.insert(volume_epoch, (writer, vdl)).filter(|(other, _)| *other != writer);
        let promised = history.durable.range(..volume_epoch).map(|(_, vdl)| *vdl).max().unwrap_or_default();
        history.durable.insert(volume_epoch, vdl);
        require(other.is_none(), "R-FENCE-3", || format!("{volume}@{volume_epoch} opened by {writer} and {other:?}"))?;
        require(vdl >= promised, "R-RECOVER-2", || {
            format!("{volume}@{volume_epoch} opened at {vdl}, but {promised} had been called durable")
        })
    }

    fn on_durable(&mut self, volume: VolumeId, volume_epoch: VolumeEpoch, vdl: Lsn) -> Verdict {
        let history = self.volumes.entry(volume).or_default();
        history.durable.insert(volume_epoch, vdl);
        let later = history
            .opened
            .range((Bound::Excluded(volume_epoch), Bound::Unbounded))
            .map(|(epoch, (_, vdl))| (*epoch, *vdl))
            .next();
        let lost = later.filter(|(_, recovered)| *recovered < vdl);
        require(lost.is_none(), "R-FENCE-1", || {
            format!("{volume}@{volume_epoch} called {vdl} durable, but {lost:?} had opened without it")
        })?;
        let cpl = history.allocated.get(&vdl).is_none_or(|record| record.is_cpl);
        require(cpl, "R-VDL-2", || format!("{volume}@{volume_epoch} called {vdl} durable: not a CPL"))?;
        self.on_a_write_quorum(volume, volume_epoch, vdl)
    }

    /// R-VDL-1: each group's last record at or below `vdl` is acknowledged, in this volume epoch, by a write quorum.
    fn on_a_write_quorum(&self, volume: VolumeId, volume_epoch: VolumeEpoch, vdl: Lsn) -> Verdict {
        let Some(history) = self.volumes.get(&volume) else { return Ok(()) };
        let groups = history.by_group.last_key_value().map_or(0, |((pg, _), _)| pg.0 + 1);
        for pg in (0..groups).map(PgId) {
            let of_group = history.by_group.range((pg, Lsn::ZERO)..=(pg, vdl)).rev();
            let Some(last) = of_group.take_while(|(_, epoch)| **epoch == volume_epoch).map(|((_, lsn), _)| *lsn).next()
            else {
                continue;
            };
            let point = self.complete_point(volume, pg, volume_epoch);
            let point = point.max(self.members.complete(volume, pg, volume_epoch));
            require(point >= last, "R-QUORUM-1", || {
                format!(
                    "{volume}@{volume_epoch} called {vdl} durable, but {pg} has {last} on no write quorum ({point})"
                )
            })?;
        }
        Ok(())
    }

    /// How far a write quorum has acknowledged to the writer of this volume epoch.
    fn complete_point(&self, volume: VolumeId, pg: PgId, volume_epoch: VolumeEpoch) -> Lsn {
        self.quorum_of(volume, pg, volume_epoch).write_point(|member: MemberId| {
            let id = SegmentId { volume, pg, member };
            if self.unheard.segments.contains(&id) {
                return Lsn(u64::MAX);
            }
            let segment = self.segments.get(&id);
            segment.map_or(Lsn::ZERO, |segment| match segment.installed.cmp(&volume_epoch) {
                Ordering::Less => Lsn::ZERO,
                Ordering::Equal => segment.acknowledged_here,
                // What it acknowledged before is not kept: the benefit of the doubt. A writer that calls too much
                // durable behind a newer one is found when that one opens.
                Ordering::Greater => Lsn(u64::MAX),
            })
        })
    }

    /// The last record of `page` at or below `read_point` that is in force for a reader of `volume_epoch`.
    fn page_is_as_of(
        &mut self,
        volume: VolumeId,
        volume_epoch: VolumeEpoch,
        page: PageId,
        read_point: Lsn,
        version: Lsn,
    ) -> Verdict {
        require(version <= read_point, "R-READ-3", || {
            format!("{page:?} as of {read_point} holds {version}, which came later")
        })?;
        let history = self.volumes.entry(volume).or_default();
        let kept = |lsn: Lsn, epoch: VolumeEpoch| {
            let between = (Bound::Excluded(epoch), Bound::Included(volume_epoch));
            epoch == volume_epoch
                || (epoch < volume_epoch && history.opened.range(between).all(|(_, (_, vdl))| lsn <= *vdl))
        };
        let unsure = |lsn: Lsn, epoch: VolumeEpoch| self.unheard.may_be_annulled(volume, epoch, volume_epoch, lsn);
        let records = || history.by_page.range((page, Lsn::ZERO)..=(page, read_point)).rev();
        let in_force = || records().map(|((_, lsn), epoch)| (*lsn, *epoch)).filter(|(lsn, epoch)| kept(*lsn, *epoch));
        let (expected, written) = in_force().find(|(lsn, epoch)| !unsure(*lsn, *epoch)).unwrap_or_default();
        let cleared = |lsn: Lsn| history.allocated.get(&lsn).is_some_and(|record| record.may_clear);
        let forgotten = version == Lsn::ZERO
            && (in_force().take_while(|(lsn, _)| *lsn >= expected).any(|(lsn, _)| cleared(lsn))
                || self.unheard.may_follow(volume, written, volume_epoch, read_point));
        let possible = version == expected
            || forgotten
            || (version > expected && in_force().take_while(|(lsn, _)| *lsn >= version).any(|(lsn, _)| lsn == version))
            || (version > expected && self.unheard.may_be_allocated(volume, volume_epoch, version));
        require(possible, "R-READ-1", || {
            format!("{page:?} as of {read_point} holds {version} in {volume_epoch}, not {expected}")
        })
    }
}
