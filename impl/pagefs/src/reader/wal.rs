//! Which of the volume's WAL a standby replays: what it will never read is not copied (R-READER-FS-10).

use auriga_page::PageImage;

/// Where `pg_control` has the redo point of its last checkpoint. It has been there since PostgreSQL 11.
const REDO_AT: usize = 40;
/// Digits of a segment's name: timeline, and the two halves of its number, 8 each.
const NAME_DIGITS: usize = 24;

/// The WAL that a standby replays from the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Replayed {
    /// Where it begins.
    redo: u64,
    /// What comes later was not written when the reader began: the writer streams it.
    written: u64,
}

impl Replayed {
    /// Asks `control`, the first page of `pg_control`; `None`: it says nothing that can be believed. `written` is the
    /// position that was published with the read point.
    pub fn from_control(control: &PageImage, written: u64) -> Option<Replayed> {
        let redo = control.content().get(REDO_AT..REDO_AT + 8)?.try_into().map(u64::from_le_bytes).ok()?;
        (0 < redo && redo <= written).then_some(Replayed { redo, written })
    }

    /// Whether a file at `path` (its names, PGDATA excluded) is needed. All but segments of the WAL are.
    pub fn needs(self, path: &[Box<[u8]>], size: u64) -> bool {
        let [directory, name] = path else { return true };
        let begins = if **directory == *b"pg_wal" { segment_begins(name, size) } else { None };
        begins.is_none_or(|begins| begins.saturating_add(size) > self.redo && begins <= self.written)
    }
}

/// The position at which the segment called `name` begins; `None`: it is no segment. All segments of a cluster are of one
/// size, so that of the file is that of them all.
pub(super) fn segment_begins(name: &[u8], size: u64) -> Option<u64> {
    let name = std::str::from_utf8(name).ok().filter(|name| name.len() == NAME_DIGITS)?;
    if !size.is_power_of_two() || !name.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let half = |from: usize| u64::from_str_radix(&name[from..from + 8], 16).ok();
    half(8)?.checked_mul(1 << 32)?.checked_add(half(16)?.checked_mul(size)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_page::PAGE_SIZE;
    use bytes::Bytes;

    const SEGMENT: u64 = 16 << 20;

    fn control(redo: u64) -> PageImage {
        let mut bytes = vec![0; PAGE_SIZE];
        bytes[REDO_AT..REDO_AT + 8].copy_from_slice(&redo.to_le_bytes());
        PageImage::new(Bytes::from(bytes)).expect("a page")
    }

    #[test]
    fn segments_before_the_redo_point_and_after_what_was_written_are_not_needed() {
        let wal = Replayed::from_control(&control((1 << 32) + SEGMENT), (1 << 32) + 2 * SEGMENT + 5).expect("it says");
        let needs = |name: &str, size| wal.needs(&[b"pg_wal"[..].into(), name.as_bytes().into()], size);
        let needed = ["0000000100000000000000FF", "000000010000000100000000", "000000010000000100000001"];
        assert_eq!(needed.map(|name| needs(name, SEGMENT)), [false, false, true]);
        let needed = ["000000010000000100000002", "000000010000000100000003", "0000000200000001000000FF"];
        assert_eq!(needed.map(|name| needs(name, SEGMENT)), [true, false, false], "the last ones were made in advance");
        for other in ["00000002.history", "000000010000000100000000.partial", "00000001000000010000000g"] {
            assert!(needs(other, SEGMENT), "{other}");
        }
        assert!(needs("000000010000000100000000", SEGMENT - 1), "a segment is never of that size");
        let elsewhere = [b"pg_xact"[..].into(), b"000000010000000100000000"[..].into()];
        assert!(wal.needs(&elsewhere, SEGMENT) && wal.needs(&[b"pg_wal"[..].into()], SEGMENT));
    }

    #[test]
    fn what_can_not_be_believed_is_not() {
        assert_eq!(Replayed::from_control(&control(0), 7), None);
        assert_eq!(Replayed::from_control(&control(8), 7), None);
        assert!(Replayed::from_control(&control(7), 7).is_some());
    }
}
