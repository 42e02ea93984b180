//! Publication in the log itself: what a secondary's readers need to be told, where there is nothing but storage between
//! the regions (R-GLOBAL-14).
//!
//! The writer of the primary's volume writes a page that is shipped like the database's own. It holds a pair: everything at
//! or before the global LSN `covers` stems from no WAL above `wal`. The writer takes the end of what it has *submitted* as
//! `covers`, then asks PostgreSQL for its insert position `wal`, and then submits the page: R-READER-6, in the log.
//!
//! A secondary stores the same mini-transactions at volume LSNs of its own. So it has to find its own read point for
//! `covers`: [`Covered`] remembers where it has put what. An example, with the page written as P and anything else as D:
//!
//! ```text
//!   primary   D 40   D 41   (covers 41, asks wal)   D 42   P 43       D 44   (covers 44, asks wal)   P 45
//!   secondary D 7    D 8                            D 9    P 10       D 11                           P 12
//! ```
//!
//! P 43 says that 41 is covered: a reader may be shown 8 with that WAL position. Not 9: the WAL of D 42 may have been
//! written after the question. P 45 says that 44 is covered, and nothing but the page itself lies behind it: a reader may be
//! shown 12, and whatever the region writes of its own after that. So the end of a primary that has become idle is reached.

use crate::page::MalformedState;
use auriga_page::{Delta, PageImage};
use auriga_protocol::{Change, Lsn, PageId, Payload, Record};
use std::collections::VecDeque;

/// The inode of the page: greater than any that a file system numbers, and not the regions' own.
pub const PUBLICATION_INODE: u64 = u64::MAX - 1;

const MAGIC: [u8; 8] = *b"AURGPUB1";
const BYTES: usize = 36;

/// Mini-transactions whose places are remembered. Of more, the oldest are forgotten: a publication that covers no more than
/// those is passed over, and another one follows.
const MARKS_MAX: usize = 1 << 16;

/// Points that wait to be durable. Of more, the oldest are forgotten.
const POINTS_MAX: usize = 256;

/// What the writer has published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publication {
    /// A global LSN.
    pub covers: Lsn,
    /// A page as of it holds nothing above this position of PostgreSQL's WAL.
    pub wal: u64,
    /// When, by the clock of the writer's machine, in milliseconds of Unix time.
    pub at_ms: u64,
}

/// The page that holds the publication.
pub fn publication_page() -> PageId {
    PageId { inode: PUBLICATION_INODE, block: 0 }
}

/// Encodes a publication as the first bytes of its page.
pub fn encode_publication(publication: Publication) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&publication.covers.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&publication.wal.to_le_bytes());
    bytes[24..32].copy_from_slice(&publication.at_ms.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..32]);
    bytes[32..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Decodes the publication in a page; `None`: none was ever written.
///
/// # Errors
/// Something else was.
pub fn decode_publication(page: &[u8]) -> Result<Option<Publication>, MalformedState> {
    let Some(bytes) = page.first_chunk::<BYTES>() else { return Ok(None) };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let u64_at = |at: usize| bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
    let sum = bytes[32..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
    let covers = Lsn(u64_at(8));
    if bytes[..8] != MAGIC || sum != crc32c::crc32c(&bytes[..32]) || covers.0 > auriga_protocol::limits::LSN_MAX {
        return Err(MalformedState::PUBLICATION);
    }
    Ok(Some(Publication { covers, wal: u64_at(16), at_ms: u64_at(24) }))
}

/// The change that writes a publication, whatever was there.
pub fn publication_change(publication: Publication) -> Change<Delta> {
    let bytes = encode_publication(publication);
    let payload = Delta::within(0, &bytes.map(|byte| !byte), &bytes).expect("each byte differs from its complement");
    Change { page: publication_page(), payload }
}

/// The last publication among these records: each one is written whole, see [`publication_change`].
pub fn last_publication<'a>(records: impl Iterator<Item = &'a Record<Delta>>) -> Option<Publication> {
    let mut page = PageImage::default();
    let of_page = records.filter(|record| record.page == publication_page());
    of_page.for_each(|record| record.payload.apply(&mut page));
    decode_publication(page.content()).ok().flatten()
}

/// Which of the region's own read points is covered by which WAL position.
#[derive(Default)]
pub struct Covered {
    /// What was shipped, from the newest that is known to be covered on.
    marks: VecDeque<Mark>,
    /// Ascending.
    points: VecDeque<(Lsn, u64)>,
    /// The page as of the last mark.
    page: PageImage,
}

/// Where a shipped mini-transaction lies.
struct Mark {
    global: Lsn,
    own: Lsn,
    /// Whether it changes anything but the page.
    is_content: bool,
}

impl Covered {
    /// Begins with a volume as it is: it holds everything through the global LSN `position`, and its own log ends at `own`.
    ///
    /// # Errors
    /// The page holds something else.
    pub fn begin(position: Lsn, own: Lsn, page: PageImage) -> Result<Covered, MalformedState> {
        let publication = decode_publication(page.content())?;
        let marks = [Mark { global: position, own, is_content: false }].into();
        // What lies behind `covers` is at most the page itself: one record.
        let is_covered = |publication: &Publication| position <= publication.covers.next();
        let points = publication.filter(is_covered).map(|publication| (own, publication.wal)).into_iter().collect();
        Ok(Covered { marks, points, page })
    }

    /// A shipped mini-transaction was submitted at `own`.
    ///
    /// # Errors
    /// It writes something else on the page.
    pub fn shipped<'a>(
        &mut self,
        global: Lsn,
        own: Lsn,
        changes: impl Iterator<Item = &'a Change<Delta>>,
    ) -> Result<(), MalformedState> {
        let (mut is_content, mut is_published) = (false, false);
        for change in changes {
            match change.page == publication_page() {
                true => {
                    change.payload.apply(&mut self.page);
                    is_published = true;
                }
                false => is_content = true,
            }
        }
        self.marks.push_back(Mark { global, own, is_content });
        if self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
            // What was forgotten may not be covered.
            self.marks[0].is_content = true;
        }
        if is_published && let Some(publication) = decode_publication(self.page.content())? {
            self.publish(publication);
        }
        Ok(())
    }

    fn publish(&mut self, publication: Publication) {
        let covered = self.marks.iter().rposition(|mark| mark.global <= publication.covers);
        let Some(covered) = covered else { return };
        self.marks.drain(..covered);
        self.marks[0].is_content = false;
        let (through, _) = self.through();
        self.points.push_back((through, publication.wal));
        if self.points.len() > POINTS_MAX {
            self.points.pop_front();
        }
    }

    /// The read point before the first mini-transaction that is not known to be covered, and whether there is one.
    fn through(&self) -> (Lsn, bool) {
        let covered = self.marks.iter().take_while(|mark| !mark.is_content);
        let (count, last) = covered.fold((0, Lsn::ZERO), |(count, _), mark| (count + 1, mark.own));
        (last, count < self.marks.len())
    }

    /// The newest point at or below `vdl` that readers may be told, with its WAL position.
    pub fn newest(&mut self, vdl: Lsn) -> Option<(Lsn, u64)> {
        let durable = self.points.iter().rposition(|(point, _)| *point <= vdl)?;
        self.points.drain(..durable);
        let (point, wal) = self.points[0];
        let (through, is_more) = self.through();
        // Of the database nothing lies behind the last point: what the region writes of its own needs no WAL.
        let is_end = self.points.len() == 1 && !is_more && through <= vdl;
        Some((if is_end { vdl } else { point }, wal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_page::PAGE_SIZE;

    fn content() -> Change<Delta> {
        Change { page: PageId { inode: 7, block: 3 }, payload: Delta::zero() }
    }

    fn page(covers: u64, wal: u64) -> Change<Delta> {
        publication_change(Publication { covers: Lsn(covers), wal, at_ms: 9 })
    }

    fn ship(covered: &mut Covered, all: &[(u64, u64, Change<Delta>)]) {
        for (global, own, change) in all {
            covered.shipped(Lsn(*global), Lsn(*own), [change].into_iter()).expect("a sound page");
        }
    }

    #[test]
    fn a_publication_has_exactly_its_bytes() {
        let publication = Publication { covers: Lsn(0x0102), wal: 3, at_ms: 0x0405 };
        let bytes = encode_publication(publication);
        let text: String = bytes[..32].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "41555247505542310201000000000000030000000000000005040000000000".to_owned() + "00");
        assert_eq!(decode_publication(&bytes), Ok(Some(publication)));
        assert_eq!(decode_publication(&[0; PAGE_SIZE]), Ok(None));
        for at in 0..BYTES {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert!(decode_publication(&damaged).is_err(), "byte {at}");
        }
        let mut image = PageImage::copy_from(&[0xaa; PAGE_SIZE]);
        publication_change(publication).payload.apply(&mut image);
        assert_eq!(decode_publication(image.content()), Ok(Some(publication)), "whatever was there");
    }

    /// The example of the module's header.
    #[test]
    fn a_reader_is_shown_what_is_covered_and_the_end_once_nothing_follows() {
        let mut covered = Covered::begin(Lsn(39), Lsn(6), PageImage::default()).expect("sound");
        ship(&mut covered, &[(40, 7, content()), (41, 8, content()), (42, 9, content())]);
        assert_eq!(covered.newest(Lsn(9)), None, "nothing was published");
        ship(&mut covered, &[(43, 10, page(41, 500))]);
        assert_eq!(covered.newest(Lsn(7)), None, "it is not durable");
        assert_eq!(covered.newest(Lsn(10)), Some((Lsn(8), 500)));
        ship(&mut covered, &[(44, 11, content()), (45, 12, page(44, 600))]);
        assert_eq!(covered.newest(Lsn(11)), Some((Lsn(8), 500)), "the next point is 12");
        assert_eq!(covered.newest(Lsn(12)), Some((Lsn(12), 600)));
        assert_eq!(covered.newest(Lsn(15)), Some((Lsn(15), 600)), "the region wrote of its own");
        ship(&mut covered, &[(46, 16, content())]);
        assert_eq!(covered.newest(Lsn(16)), Some((Lsn(12), 600)), "that may need WAL above 600");
    }

    #[test]
    fn a_volume_that_was_opened_is_covered_only_where_nothing_follows_what_the_page_covers() {
        let mut image = PageImage::default();
        page(44, 600).payload.apply(&mut image);
        let mut idle = Covered::begin(Lsn(45), Lsn(12), image.clone()).expect("sound");
        assert_eq!(idle.newest(Lsn(13)), Some((Lsn(13), 600)));
        let mut busy = Covered::begin(Lsn(46), Lsn(13), image).expect("sound");
        assert_eq!(busy.newest(Lsn(13)), None, "46 may be of the database");
        ship(&mut busy, &[(47, 14, page(45, 700))]);
        assert_eq!(busy.newest(Lsn(14)), None, "where 45 lies was not seen");
        ship(&mut busy, &[(48, 15, page(46, 800))]);
        assert_eq!(busy.newest(Lsn(15)), Some((Lsn(15), 800)));
    }

    #[test]
    fn the_last_publication_is_found_among_other_records() {
        let record = |lsn, change: Change<Delta>| {
            let zero = Lsn::ZERO;
            let (page, payload) = (change.page, change.payload);
            Record {
                lsn: Lsn(lsn),
                prev_volume: zero,
                prev_segment: zero,
                prev_block: zero,
                is_cpl: true,
                page,
                payload,
            }
        };
        let records = [record(1, page(1, 2)), record(2, page(300, 4)), record(3, content())];
        assert_eq!(last_publication(records.iter()), Some(Publication { covers: Lsn(300), wal: 4, at_ms: 9 }));
        assert_eq!(last_publication(records[2..].iter()), None);
    }

    #[test]
    fn it_is_bounded() {
        let mut covered = Covered::begin(Lsn(0), Lsn(0), PageImage::default()).expect("sound");
        for at in 1..2 * MARKS_MAX as u64 {
            ship(&mut covered, &[(at, at, content())]);
        }
        assert_eq!(covered.marks.len(), MARKS_MAX);
        for at in 0..2 * POINTS_MAX as u64 {
            let at = 2 * MARKS_MAX as u64 + 2 * at;
            ship(&mut covered, &[(at, at, content()), (at + 1, at + 1, page(at, at))]);
        }
        assert_eq!((covered.points.len(), covered.marks.len()), (POINTS_MAX, 2));
    }
}
