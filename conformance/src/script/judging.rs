//! How a bench is judged: its notes and answers as those of a simulated run are, and after each command what only a look
//! into machines and disks can show. The model checks more of the latter (`model/src/invariants.rs`).

use super::bench::{Bench, VOLUME};
use super::word::Word;
use crate::disk::Disk;
use auriga_protocol::segment::Segment;
use auriga_protocol::writer::WriterRole;
use auriga_protocol::{
    Effects, Lsn, Machine, MemberId, MemberSet, Message, Micros, Note, PageId, PgId, QuorumSet, Refusal, SegmentId,
    VolumeEpoch, WriterId,
};

/// A read that a user waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Whom.
    pub writer: WriterId,
    /// Which page.
    pub page: PageId,
    /// VDL when it was asked.
    pub durable: Lsn,
}

type Broken = Option<(&'static str, String)>;

impl Bench {
    pub(super) fn judge_note(&mut self, note: &Note) {
        match note {
            Note::Allocated { volume_epoch, lsn, page, .. } => {
                if let Some(change) = self.submitting.pop_front() {
                    self.judge.allocated(*volume_epoch, *lsn, *page, change.payload);
                }
            }
            Note::Collected { segment, floor } => self.judge_floor(*segment, *floor),
            Note::Opened { volume_epoch, .. } => self.judge_installs(*volume_epoch),
            _ => {}
        }
        if let Err((rule, what)) = self.judge.observe(note) {
            self.breaks(&rule, what);
        }
    }

    /// I-FLOOR: no floor passes the read point of a read that is under way in the volume epoch installed there.
    fn judge_floor(&mut self, segment: SegmentId, floor: Lsn) {
        let installed = self.segments.get(&segment).and_then(|(machine, _)| machine.as_ref());
        let installed = installed.map(|machine| machine.install().volume_epoch);
        let epoch_of = |asked: &&Asked| self.writers.get(&asked.writer).map(|writer| writer.volume_epoch());
        let passed = self.asked.values().filter(|asked| asked.durable < floor && epoch_of(asked) == installed);
        if let Some(read_point) = passed.map(|asked| asked.durable).min() {
            self.breaks("I-FLOOR", format!("{segment} collected {floor}, and a read at {read_point} is under way"));
        }
    }

    /// R-RECOVER-3: a writer opens only once a write quorum of every group has its install on disk.
    fn judge_installs(&mut self, volume_epoch: VolumeEpoch) {
        let has = |segment: &Segment<Word>| segment.install().volume_epoch >= volume_epoch;
        let installed = |pg: u16| self.kept_by(PgId(pg), has);
        let by = |pg: u16| self.judge.quorum_of(VOLUME, PgId(pg), volume_epoch);
        let short = (0..self.shape.groups).find(|pg| !by(*pg).write_met(installed(*pg)));
        if let Some(pg) = short {
            let what = format!("{volume_epoch} opened with its install on {:?} of {}", installed(pg), PgId(pg));
            self.breaks("R-RECOVER-3", what);
        }
    }

    /// R-READ-2: a segment that has the group point does not refuse it.
    pub(super) fn judge_refusal(&mut self, segment: SegmentId, group_point: Option<Lsn>, message: &Message<Word>) {
        if let (Some(wanted), Message::ReadRefused { refusal: Refusal::AboveScl { scl }, .. }) = (group_point, message)
            && wanted <= *scl
        {
            self.breaks("R-READ-2", format!("{segment} refused group point {wanted}, and its SCL is {scl}"));
        }
    }

    /// I-PAGE and I-READ-POINT.
    pub(super) fn judge_page(&mut self, asked: Asked, read_point: Lsn, got: (Lsn, &Vec<u32>)) {
        let Some(epoch) = self.writers.get(&asked.writer).map(|writer| writer.volume_epoch()) else { return };
        if read_point < asked.durable {
            let what = format!("{:?} was read at {read_point}, after {} was durable", asked.page, asked.durable);
            self.breaks("I-READ-POINT", what);
        }
        let expected = self.judge.page(epoch, asked.page, read_point);
        if got != (expected.0, &expected.1) {
            let what = format!("{:?} as of {read_point} in {epoch} is {got:?}, not {expected:?}", asked.page);
            self.breaks("I-PAGE", what);
        }
    }

    /// Looks into machines and disks.
    pub(super) fn inspect(&mut self) {
        let found = self.annulled_is_gone().or_else(|| self.copies_are_there());
        let found = found.or_else(|| self.allocation_is_bounded()).or_else(|| self.durable_is_seen());
        if let Some((rule, what)) = found.filter(|_| self.broken.is_none()) {
            self.breaks(rule, what);
        }
    }

    /// I-ANNULLED: a segment holds nothing that its install annuls, whatever it remembers of that install.
    fn annulled_is_gone(&self) -> Broken {
        self.segments.values().filter_map(|(machine, _)| machine.as_ref()).find_map(|machine| {
            let (epoch, truncations) = self.judge.installed(machine.id())?;
            let same = *epoch == machine.install().volume_epoch;
            let held = machine.log().records().find(|record| same && truncations.annuls(record.lsn))?;
            Some(("I-ANNULLED", format!("{} holds {}, annulled by {truncations:?}", machine.id(), held.lsn)))
        })
    }

    /// I-COPIES: what is durable is on the disks of a write quorum of its group.
    fn copies_are_there(&self) -> Broken {
        self.judge.acknowledged_records().filter(|_| !self.disks_lost).find_map(|(page, lsn)| {
            let pg = self.geometry().group_of(page);
            let holders = self
                .kept_by(pg, |kept| lsn <= kept.log().floor() || kept.log().records().any(|record| record.lsn == lsn));
            let what = || format!("{lsn} is durable, and on disk in {pg} only at {holders:?}");
            // The base members: one that joins has no copy yet.
            let quorum = self.judge.quorum_of(VOLUME, pg, VolumeEpoch::new(u64::MAX, WriterId(0)));
            let base = QuorumSet { write: quorum.write.iter().take(1).copied().collect(), ..quorum.clone() };
            (!base.write_met(holders)).then(|| ("I-COPIES", what()))
        })
    }

    /// I-LAL: no LSN above max(VDL, end of the last truncation) + LAL.
    fn allocation_is_bounded(&self) -> Broken {
        self.writers.values().filter(|writer| writer.role() == WriterRole::Open).find_map(|writer| {
            let epoch = writer.volume_epoch();
            let limit = writer.vdl().max(self.judge.annulled_through(epoch)).0 + self.shape.lal;
            let what = || format!("{epoch} allocated {}, above {limit}", writer.allocated());
            (writer.allocated().0 > limit).then(|| ("I-LAL", what()))
        })
    }

    /// I-PROGRESS: when every group is complete, an open writer's VDL is its last CPL.
    fn durable_is_seen(&self) -> Broken {
        self.writers.values().filter(|writer| writer.role() == WriterRole::Open).find_map(|writer| {
            let epoch = writer.volume_epoch();
            let last = self.judge.allocated_in(epoch).map(|(_, lsn)| lsn).max()?;
            let pgcls = writer.status().pgcl;
            let complete = pgcls.iter().all(|(pg, pgcl)| {
                let of_group =
                    self.judge.allocated_in(epoch).filter(|(page, _)| self.geometry().group_of(*page) == *pg);
                of_group.map(|(_, lsn)| lsn).max().is_none_or(|last| last <= *pgcl)
            });
            let behind = complete && writer.vdl() < last && writer.allocated() == last;
            let what =
                || format!("{epoch}: every group is complete ({pgcls:?}), and VDL {} is not {last}", writer.vdl());
            behind.then(|| ("I-PROGRESS", what()))
        })
    }

    /// Members of a group whose disks would boot to a machine of which `holds` is true.
    fn kept_by(&self, pg: PgId, holds: impl Fn(&Segment<Word>) -> bool) -> MemberSet {
        let config = self.segment_config();
        let boot = |id: SegmentId, disk: &Disk<Word>| {
            Segment::boot(&config, id, disk.survived(), Micros(0), &mut Effects::default())
        };
        let of_group = self.segments.iter().filter(|(id, _)| id.pg == pg);
        let holders = of_group.filter(|(id, (_, disk))| holds(&boot(**id, disk)));
        holders.map(|(id, _)| id.member).collect::<Vec<MemberId>>().into_iter().collect()
    }
}
