//! When a page of the overlay gives way to the volume's (R-READER-FS-9): pure decisions.
//!
//! The volume's page, as of the read point, holds nothing that the standby has not replayed. So where the volume has
//! caught up with what the standby wrote, the overlay's page goes. To keep a page is always safe; to drop one is safe
//! only as said here.

use super::class::Class;
use crate::defect::{Defect, Defects};
use auriga_page::{PAGE_SIZE, PageImage};

/// Where a page's flags are, and the one that says that all of it is visible to everyone.
const FLAGS_AT: usize = 10;
const ALL_VISIBLE: u16 = 4;
/// Where the special space of a sequence's page begins, and what is there.
const SEQUENCE_SPECIAL_AT: usize = PAGE_SIZE - 8;
const SEQUENCE_MAGIC: u32 = 0x1717;
const SPECIAL_FIELD_AT: usize = 16;

/// A page of the overlay.
pub(crate) struct Ours<'a> {
    pub page: &'a PageImage,
    /// Whether it is where a truncation was, that the volume may not have seen.
    pub is_tagged: bool,
}

/// The volume's page in the same place.
pub(crate) struct Theirs<'a> {
    /// Zeros where the volume's file does not reach.
    pub page: &'a PageImage,
    /// Whether the volume's file reaches there.
    pub is_there: bool,
}

/// Whether the overlay's page goes.
pub(crate) fn gives_way(class: Class, ours: &Ours<'_>, theirs: &Theirs<'_>, defects: Defects) -> bool {
    if ours.page == theirs.page {
        return true;
    }
    let is_tagged = ours.is_tagged && !defects.has(Defect::ReaderForgetsTruncations);
    match class {
        Class::Own => false,
        Class::VisibilityMap if defects.has(Defect::ReaderDropsMapsByLsn) => by_lsn(ours, theirs, is_tagged),
        Class::Whole | Class::VisibilityMap => false,
        Class::FreeSpaceMap => theirs.is_there && !is_tagged,
        Class::Main if is_sequence(ours.page) || is_sequence(theirs.page) => {
            defects.has(Defect::ReaderDropsSequencesByLsn) && by_lsn(ours, theirs, is_tagged)
        }
        Class::Main => by_lsn(ours, theirs, is_tagged),
    }
}

fn by_lsn(ours: &Ours<'_>, theirs: &Theirs<'_>, is_tagged: bool) -> bool {
    if is_tagged || !theirs.is_there {
        return false;
    }
    let (our_lsn, their_lsn) = (lsn(ours.page), lsn(theirs.page));
    their_lsn > our_lsn || (their_lsn == our_lsn && is_all_visible(ours.page) == is_all_visible(theirs.page))
}

/// `pd_lsn`: two numbers of 32 bits, the high one first, each in the machine's order.
pub(crate) fn lsn(page: &PageImage) -> u64 {
    u64::from(number(page, 0)) << 32 | u64::from(number(page, 4))
}

fn is_all_visible(page: &PageImage) -> bool {
    half(page, FLAGS_AT) & ALL_VISIBLE != 0
}

fn is_sequence(page: &PageImage) -> bool {
    usize::from(half(page, SPECIAL_FIELD_AT)) == SEQUENCE_SPECIAL_AT
        && number(page, SEQUENCE_SPECIAL_AT) == SEQUENCE_MAGIC
}

fn half(page: &PageImage, at: usize) -> u16 {
    let bytes = page.content();
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn number(page: &PageImage, at: usize) -> u32 {
    let bytes = page.content();
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page with this `pd_lsn` and these flags, and something that differs where nobody looks.
    fn page(lsn: u64, flags: u16, noise: u8) -> PageImage {
        let mut bytes = [0; PAGE_SIZE];
        bytes[..4].copy_from_slice(&((lsn >> 32) as u32).to_ne_bytes());
        bytes[4..8].copy_from_slice(&(lsn as u32).to_ne_bytes());
        bytes[FLAGS_AT..FLAGS_AT + 2].copy_from_slice(&flags.to_ne_bytes());
        bytes[100] = noise;
        PageImage::copy_from(&bytes)
    }

    fn sequence(lsn: u64, noise: u8) -> PageImage {
        let mut bytes: [u8; PAGE_SIZE] = page(lsn, 0, noise).content().try_into().expect("a page");
        bytes[SPECIAL_FIELD_AT..SPECIAL_FIELD_AT + 2].copy_from_slice(&(SEQUENCE_SPECIAL_AT as u16).to_ne_bytes());
        bytes[SEQUENCE_SPECIAL_AT..SEQUENCE_SPECIAL_AT + 4].copy_from_slice(&SEQUENCE_MAGIC.to_ne_bytes());
        PageImage::copy_from(&bytes)
    }

    fn goes_with(defects: Defects, class: Class, ours: &PageImage, is_tagged: bool, theirs: &PageImage) -> bool {
        gives_way(class, &Ours { page: ours, is_tagged }, &Theirs { page: theirs, is_there: true }, defects)
    }

    fn goes(class: Class, ours: &PageImage, is_tagged: bool, theirs: &PageImage) -> bool {
        goes_with(Defects::default(), class, ours, is_tagged, theirs)
    }

    #[test]
    fn a_relation_goes_by_lsn() {
        let high = 1 << 32;
        assert!(goes(Class::Main, &page(high, 0, 1), false, &page(high + 1, 0, 2)));
        assert!(!goes(Class::Main, &page(high, 0, 1), false, &page(high - 1, 0, 2)));
        assert!(goes(Class::Main, &page(high, 0, 1), false, &page(high, 0, 2)));
        assert!(!goes(Class::Main, &page(high, 0, 1), false, &page(high, ALL_VISIBLE, 2)), "that moves no LSN");
        assert!(!goes(Class::Main, &page(high, 0, 1), true, &page(high + 1, 0, 2)), "it may be what was cut off");
        assert!(goes(Class::Main, &page(high, 0, 1), true, &page(high, 0, 1)));
        assert!(!gives_way(
            Class::Main,
            &Ours { page: &page(high, 0, 1), is_tagged: false },
            &Theirs { page: &PageImage::default(), is_there: false },
            Defects::default()
        ));
    }

    #[test]
    fn what_has_no_telling_lsn_goes_when_it_is_equal() {
        for class in [Class::Whole, Class::VisibilityMap] {
            assert!(!goes(class, &page(1, 0, 1), false, &page(2, 0, 2)));
            assert!(goes(class, &page(1, 0, 1), true, &page(1, 0, 1)));
        }
        assert!(!goes(Class::Main, &sequence(1, 1), false, &sequence(2, 2)), "the logged value is ahead");
        assert!(goes(Class::Main, &sequence(1, 1), false, &sequence(1, 1)));
        assert!(goes(Class::FreeSpaceMap, &page(0, 0, 1), false, &page(0, 0, 2)), "it is a hint");
    }

    #[test]
    fn planted_defects_are_caught() {
        let planted = Defects::planted;
        let (older, newer) = (page(1, 0, 1), page(2, 0, 2));
        assert!(goes_with(planted(Defect::ReaderDropsMapsByLsn), Class::VisibilityMap, &older, false, &newer));
        let sequences = (sequence(1, 1), sequence(2, 2));
        assert!(goes_with(planted(Defect::ReaderDropsSequencesByLsn), Class::Main, &sequences.0, false, &sequences.1));
        assert!(goes_with(planted(Defect::ReaderForgetsTruncations), Class::Main, &older, true, &newer));
    }
}
