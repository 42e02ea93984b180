//! What takes the whole run to judge, from notes alone: what earlier recoveries annulled, and how far floors have come.
//!
//! Beside the [`Observer`](super::Observer) and not in it, because the model keeps an observer in each of its states, and
//! looks into machines for these two.
//!
//! - No recovery opens on what a writer that opened before it had annulled (I-LINEAGE).
//! - No segment collects above the read point of a read that its writer goes on to accept (I-FLOOR): a read is in use
//!   until then, and PGMRPL is at or below it (R-COLLECT-2).
//!
//! A floor is held against the newest volume epoch that is known to be promised: a segment may have taken over an
//! install that is not durable yet, and of which there is no note. Once a process was killed, promises may be
//! missing ([`Hindsight::lose_track`]), and floors count for nothing until the next writer opens.

use super::{Verdict, require};
use crate::ids::{Lsn, VolumeEpoch, VolumeId};
use crate::note::Note;
use crate::truncation::TruncationList;
use alloc::collections::BTreeMap;
use alloc::format;

/// See the module's header.
#[derive(Clone, Debug, Default)]
pub struct Hindsight(BTreeMap<VolumeId, Remembered>);

#[derive(Clone, Debug, Default)]
struct Remembered {
    annulled: BTreeMap<VolumeEpoch, TruncationList>,
    opened: BTreeMap<VolumeEpoch, Lsn>,
    /// The newest that was promised or installed.
    newest: VolumeEpoch,
    /// Something newer may have been promised.
    unsure: bool,
    /// The highest floor reached while this was the newest volume epoch.
    floors: BTreeMap<VolumeEpoch, Lsn>,
}

impl Hindsight {
    /// Takes one fact.
    ///
    /// # Errors
    /// The invariant that it breaks, given everything before.
    pub fn observe(&mut self, note: &Note) -> Verdict {
        match note {
            Note::Sealed { segment, volume_epoch, .. } | Note::Acknowledged { segment, volume_epoch, .. } => {
                self.volume(segment.volume).heard_of(*volume_epoch);
                Ok(())
            }
            Note::Installed { segment, volume_epoch, truncations } => {
                let volume = self.volume(segment.volume);
                volume.heard_of(*volume_epoch);
                volume.annulled.insert(*volume_epoch, truncations.clone());
                Ok(())
            }
            Note::Collected { segment, floor } => {
                let volume = self.volume(segment.volume);
                if !volume.unsure {
                    let highest = volume.floors.entry(volume.newest).or_default();
                    *highest = (*highest).max(*floor);
                }
                Ok(())
            }
            Note::Opened { volume, volume_epoch, vdl, .. } => self.volume(*volume).on_opened(*volume_epoch, *vdl),
            Note::Read { volume, volume_epoch, page, read_point, .. } => {
                let passed = self.volume(*volume).floors.get(volume_epoch).filter(|floor| *floor > read_point);
                require(passed.is_none(), "I-FLOOR", || {
                    format!(
                        "{volume}@{volume_epoch} read {page:?} at {read_point}, and {passed:?} was collected before"
                    )
                })
            }
            _ => Ok(()),
        }
    }

    /// A process was killed: what it promised last may not have been heard.
    pub fn lose_track(&mut self) {
        self.0.values_mut().for_each(|volume| volume.unsure = true);
    }

    fn volume(&mut self, volume: VolumeId) -> &mut Remembered {
        self.0.entry(volume).or_default()
    }
}

impl Remembered {
    fn heard_of(&mut self, volume_epoch: VolumeEpoch) {
        self.newest = volume_epoch.max(self.newest);
    }

    fn on_opened(&mut self, volume_epoch: VolumeEpoch, vdl: Lsn) -> Verdict {
        let annuls = |(epoch, opened): &(&VolumeEpoch, &Lsn)| {
            let its_own = |list: &&TruncationList| list.ranges().last().is_some_and(|last| last.above == **opened);
            self.annulled.get(epoch).filter(its_own).is_some_and(|list| list.annuls(vdl))
        };
        let by = self.opened.range(..volume_epoch).find(annuls).map(|(epoch, _)| *epoch);
        self.opened.insert(volume_epoch, vdl);
        self.heard_of(volume_epoch);
        self.unsure = false;
        require(by.is_none(), "I-LINEAGE", || format!("{volume_epoch} opened at {vdl}, which {by:?} had annulled"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MemberId, PageId, PgId, SegmentId, WriterId};
    use alloc::vec;

    const VOLUME: VolumeId = VolumeId(1);
    const SEGMENT: SegmentId = SegmentId { volume: VOLUME, pg: PgId(0), member: MemberId(0) };

    fn opened(epoch: u64, vdl: u64) -> [Note; 2] {
        let mut truncations = TruncationList::default();
        truncations.annul_above(VolumeEpoch::new(epoch, WriterId(epoch)), Lsn(vdl), 10);
        let volume_epoch = VolumeEpoch::new(epoch, WriterId(epoch));
        [
            Note::Installed { segment: SEGMENT, volume_epoch, truncations },
            Note::Opened { volume: VOLUME, writer: WriterId(epoch), volume_epoch, vdl: Lsn(vdl) },
        ]
    }

    fn rule(notes: impl IntoIterator<Item = Note>) -> Option<&'static str> {
        let mut hindsight = Hindsight::default();
        notes.into_iter().find_map(|note| hindsight.observe(&note).err()).map(|violation| violation.rule)
    }

    #[test]
    fn nobody_opens_on_what_was_annulled() {
        assert_eq!(rule([opened(1, 5), opened(2, 5), opened(3, 30)].concat()), None);
        assert_eq!(rule([opened(1, 5), opened(3, 9)].concat()), Some("I-LINEAGE"));
        let [install, _] = opened(1, 5);
        assert_eq!(rule([vec![install], opened(3, 9).to_vec()].concat()), None, "it never opened");
    }

    #[test]
    fn a_read_that_is_accepted_was_not_collected_over() {
        let collected = |floor| Note::Collected { segment: SEGMENT, floor: Lsn(floor) };
        let read = |epoch, at| Note::Read {
            volume: VOLUME,
            volume_epoch: VolumeEpoch::new(epoch, WriterId(epoch)),
            page: PageId::default(),
            read_point: Lsn(at),
            version: Lsn(0),
        };
        let run = |floor, epoch, at| rule([opened(2, 5).to_vec(), vec![collected(floor), read(epoch, at)]].concat());
        assert_eq!(run(20, 2, 20), None);
        assert_eq!(run(20, 2, 19), Some("I-FLOOR"));
        assert_eq!(run(20, 1, 19), None, "an overtaken writer's reads are its own affair");
    }
}
