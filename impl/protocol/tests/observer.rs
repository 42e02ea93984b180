//! The judge's fine lines: what it must not forgive, beside what it must.

use auriga_protocol::observer::{Observer, Violation};
use auriga_protocol::{Lsn, MemberId, Note, PageId, PgId, QuorumSet, SegmentId, VolumeEpoch, VolumeId, WriterId};

const VOLUME: VolumeId = VolumeId(7);
const FIRST: VolumeEpoch = VolumeEpoch::new(1, WriterId(1));
const PAGE: PageId = PageId { inode: 1, block: 0 };

/// A judge who saw a writer open, and write `page` once per entry: whether each may clear it.
fn after_writes(may_clear: &[bool]) -> Observer {
    let mut observer = Observer::new(QuorumSet::aurora());
    let opened = Note::Opened { volume: VOLUME, writer: WriterId(1), volume_epoch: FIRST, vdl: Lsn::ZERO };
    observer.observe(&opened).expect("the first writer");
    for (index, may_clear) in may_clear.iter().enumerate() {
        let note = Note::Allocated {
            volume: VOLUME,
            volume_epoch: FIRST,
            lsn: Lsn(index as u64 + 1),
            pg: PgId(0),
            page: PAGE,
            is_cpl: true,
            may_clear: *may_clear,
        };
        observer.observe(&note).expect("a new LSN");
    }
    observer
}

fn serve(observer: &mut Observer, read_point: u64, version: u64) -> Result<(), Violation> {
    let segment = SegmentId { volume: VOLUME, pg: PgId(0), member: MemberId(0) };
    let installed = Note::Installed { segment, volume_epoch: FIRST, truncations: Default::default() };
    observer.observe(&installed).expect("the first install");
    observer.observe(&Note::Served { segment, page: PAGE, read_point: Lsn(read_point), version: Lsn(version) })
}

fn rule(verdict: Result<(), Violation>) -> Option<&'static str> {
    verdict.err().map(|violation| violation.rule)
}

#[test]
fn a_page_that_was_written_never_reads_as_never_written() {
    assert_eq!(rule(serve(&mut after_writes(&[false, false]), 2, 0)), Some("R-READ-1"));
    assert_eq!(rule(serve(&mut after_writes(&[true, false]), 2, 0)), Some("R-READ-1"), "cleared, then written");
    assert_eq!(rule(serve(&mut after_writes(&[false, true]), 1, 0)), Some("R-READ-1"), "cleared after the read point");
}

#[test]
fn a_page_that_was_cleared_may_be_forgotten() {
    assert_eq!(serve(&mut after_writes(&[false, true]), 2, 0), Ok(()));
    assert_eq!(serve(&mut after_writes(&[false, true]), 2, 2), Ok(()), "or not yet");
    assert_eq!(serve(&mut after_writes(&[]), 2, 0), Ok(()), "it was never written");
}

#[test]
fn what_a_killed_writer_may_have_cleared_is_no_evidence() {
    let mut observer = after_writes(&[false]);
    observer.lose_track_of_writer(VOLUME, FIRST);
    assert_eq!(serve(&mut observer, 2, 0), Ok(()));
    assert_eq!(rule(serve(&mut observer, 1, 0)), Some("R-READ-1"), "but not where its last known record is the newest");
}
