//! Where everything lies on the volume, byte by byte (`specs/pagefs-format.md` has the diagrams).
//!
//! Inode 0 is the table: block 0 is the superblock, the blocks after it hold inode slots. A directory's entries are
//! slots in the pages of its own inode. Slots have a fixed place, and a change of one is a delta that touches no byte
//! outside of it. So changes of neighbouring slots commute, and no lock on a page of them is needed.
//!
//! This module only encodes and decodes. What the fields mean to running operations is in [`crate::inode`].

use auriga_page::{Delta, PAGE_SIZE, PageImage};
use auriga_protocol::{Change, PageId};

/// The first bytes of a formatted volume.
pub const MAGIC: [u8; 8] = *b"AURIGAFS";
/// The first bytes of a volume that is being filled from a backup. Where its superblock will be is a mark until then.
pub const RESTORING: [u8; 8] = *b"AURIGARS";
/// The layout that this code reads and writes.
pub const FORMAT_VERSION: u32 = 1;
/// The root directory (the kernel calls it 1 as well).
pub const ROOT: u64 = 1;
/// The inode whose pages are the superblock and the inode slots.
pub const TABLE: u64 = 0;
/// Bytes in an inode slot.
pub const SLOT_BYTES: usize = 512;
/// Inode slots in a page.
pub const SLOTS_PER_PAGE: u64 = (PAGE_SIZE / SLOT_BYTES) as u64;
/// Bytes in a directory slot.
pub const ENTRY_BYTES: usize = 272;
/// Directory slots in a page.
pub const ENTRIES_PER_PAGE: u64 = (PAGE_SIZE / ENTRY_BYTES) as u64;
/// Longest name, in bytes.
pub const NAME_MAX: usize = 255;
/// Longest target of a symbolic link, in bytes.
pub const TARGET_MAX: usize = SLOT_BYTES - TARGET_AT;
/// Largest file, in bytes: 16 TiB.
pub const FILE_MAX: u64 = 1 << 44;

const TARGET_AT: usize = 80;

/// Bytes of the volume that can't be what was written there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// Not the superblock of this file system.
    #[error("the volume's first page is not a superblock")]
    NotASuperblock,
    /// A volume that was not filled to the end.
    #[error("a restore into this volume has not ended: give the same `auriga restore` again, or make a new volume")]
    Restoring,
    /// A layout of another version.
    #[error("the volume has format version {0}; this program knows version {FORMAT_VERSION}")]
    Version(u32),
    /// An inode slot with an impossible field.
    #[error("inode slot {slot}: {what}")]
    Slot {
        /// The page.
        slot: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A directory slot with an impossible field.
    #[error("directory {directory}, slot {slot}: {what}")]
    Entry {
        /// The directory.
        directory: u64,
        /// Which slot.
        slot: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// Blocks that `bytes` occupy.
pub fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE as u64)
}

/// What the superblock says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Inode numbers at or above this one were never used. Numbers are used once.
    pub inode_bound: u64,
    /// Pages of inode slots.
    pub table_pages: u64,
}

impl Superblock {
    const BYTES: usize = 40;

    fn encode(&self) -> [u8; Superblock::BYTES] {
        let mut bytes = [0; Superblock::BYTES];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut bytes, 16, &ROOT.to_le_bytes());
        put(&mut bytes, 24, &self.inode_bound.to_le_bytes());
        put(&mut bytes, 32, &self.table_pages.to_le_bytes());
        bytes
    }

    /// Reads the superblock; `None` on a page that was never written.
    ///
    /// # Errors
    /// When the page has other content.
    pub fn decode(page: &PageImage) -> Result<Option<Superblock>, Malformed> {
        if page.is_zero() {
            return Ok(None);
        }
        let bytes = page.content();
        if bytes[..8] == RESTORING {
            return Err(Malformed::Restoring);
        }
        if bytes[..8] != MAGIC || u64_at(bytes, 16) != ROOT {
            return Err(Malformed::NotASuperblock);
        }
        match u32_at(bytes, 8) {
            FORMAT_VERSION => Ok(Some(Superblock { inode_bound: u64_at(bytes, 24), table_pages: u64_at(bytes, 32) })),
            other => Err(Malformed::Version(other)),
        }
    }

    /// The change from `old` (`None`: never written) to `new`.
    pub fn change(old: Option<&Superblock>, new: &Superblock) -> Option<Change<Delta>> {
        let old = old.map_or([0; Superblock::BYTES], Superblock::encode);
        slot_change(PageId { inode: TABLE, block: 0 }, 0, &old, &new.encode())
    }
}

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A regular file.
    File = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A socket's name.
    Socket = 4,
    /// A named pipe.
    Fifo = 5,
    /// A character device.
    CharDevice = 6,
    /// A block device.
    BlockDevice = 7,
}

impl Kind {
    fn decode(byte: u8) -> Option<Kind> {
        use Kind::*;
        [File, Directory, Symlink, Socket, Fifo, CharDevice, BlockDevice].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// An inode slot's content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InodeRecord {
    /// The inode's number: never 0, never used before.
    pub ino: u64,
    /// What it is.
    pub kind: Kind,
    /// Permissions, set-user-id, set-group-id, sticky: `0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Entries that name it; a directory also counts itself and its subdirectories. Zero: an orphan, kept while open.
    pub nlink: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// Size in bytes.
    pub size: u64,
    /// Blocks from the end of the file up to this one may hold old content that has yet to be zeroed; 0: none.
    pub trim_end: u64,
    /// Last change of content, in nanoseconds since 1970.
    pub mtime: i64,
    /// Last change of content or attributes, in nanoseconds since 1970.
    pub ctime: i64,
    /// Last access, in nanoseconds since 1970; only set on request.
    pub atime: i64,
    /// A symbolic link's target.
    pub target: Box<[u8]>,
}

impl InodeRecord {
    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        put(&mut bytes, 0, &self.ino.to_le_bytes());
        bytes[8] = self.kind as u8;
        put(&mut bytes, 10, &self.mode.to_le_bytes());
        put(&mut bytes, 12, &self.uid.to_le_bytes());
        put(&mut bytes, 16, &self.gid.to_le_bytes());
        put(&mut bytes, 20, &self.nlink.to_le_bytes());
        put(&mut bytes, 24, &self.rdev.to_le_bytes());
        put(&mut bytes, 28, &(self.target.len() as u16).to_le_bytes());
        put(&mut bytes, 32, &self.size.to_le_bytes());
        put(&mut bytes, 40, &self.trim_end.to_le_bytes());
        put(&mut bytes, 48, &self.mtime.to_le_bytes());
        put(&mut bytes, 56, &self.ctime.to_le_bytes());
        put(&mut bytes, 64, &self.atime.to_le_bytes());
        put(&mut bytes, TARGET_AT, &self.target);
        bytes
    }

    /// Reads slot `slot` out of its page of the table; `None`: the slot is free.
    ///
    /// # Errors
    /// When a field is impossible.
    pub fn decode(page: &PageImage, slot: u64) -> Result<Option<InodeRecord>, Malformed> {
        let at = (slot % SLOTS_PER_PAGE) as usize * SLOT_BYTES;
        let bytes = &page.content()[at..at + SLOT_BYTES];
        let malformed = |what| Malformed::Slot { slot, what };
        let ino = u64_at(bytes, 0);
        if ino == 0 {
            return Ok(None);
        }
        let target_len = usize::from(u16_at(bytes, 28));
        let target = bytes[TARGET_AT..].get(..target_len).ok_or(malformed("a target longer than the slot"))?;
        let record = InodeRecord {
            ino,
            kind: Kind::decode(bytes[8]).ok_or(malformed("an unknown kind of inode"))?,
            mode: u16_at(bytes, 10),
            uid: u32_at(bytes, 12),
            gid: u32_at(bytes, 16),
            nlink: u32_at(bytes, 20),
            rdev: u32_at(bytes, 24),
            size: u64_at(bytes, 32),
            trim_end: u64_at(bytes, 40),
            mtime: u64_at(bytes, 48) as i64,
            ctime: u64_at(bytes, 56) as i64,
            atime: u64_at(bytes, 64) as i64,
            target: target.into(),
        };
        if record.mode > 0o7777 {
            return Err(malformed("a mode with unknown bits"));
        }
        if record.size > FILE_MAX || record.trim_end > blocks(FILE_MAX) {
            return Err(malformed("a size above the largest"));
        }
        Ok(Some(record))
    }

    /// The change of slot `slot` from `old` to `new`, `None` being a free slot.
    pub fn change(slot: u64, old: Option<&InodeRecord>, new: Option<&InodeRecord>) -> Option<Change<Delta>> {
        let bytes = |record: Option<&InodeRecord>| record.map_or([0; SLOT_BYTES], InodeRecord::encode);
        let page = PageId { inode: TABLE, block: 1 + slot / SLOTS_PER_PAGE };
        slot_change(page, (slot % SLOTS_PER_PAGE) as usize * SLOT_BYTES, &bytes(old), &bytes(new))
    }
}

/// A directory slot's content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The inode that the name stands for.
    pub ino: u64,
    /// The name: 1 to [`NAME_MAX`] bytes, no slash, no zero byte.
    pub name: Box<[u8]>,
}

impl Entry {
    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        put(&mut bytes, 0, &self.ino.to_le_bytes());
        bytes[8] = self.name.len() as u8;
        put(&mut bytes, 9, &self.name);
        bytes
    }

    /// Reads slot `slot` out of its page of `directory`; `None`: the slot is free.
    ///
    /// # Errors
    /// When the name is impossible.
    pub fn decode(directory: u64, page: &PageImage, slot: u64) -> Result<Option<Entry>, Malformed> {
        let at = (slot % ENTRIES_PER_PAGE) as usize * ENTRY_BYTES;
        let bytes = &page.content()[at..at + ENTRY_BYTES];
        let ino = u64_at(bytes, 0);
        if ino == 0 {
            return Ok(None);
        }
        let name = &bytes[9..9 + usize::from(bytes[8])];
        if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(Malformed::Entry { directory, slot, what: "a name that can't be one" });
        }
        Ok(Some(Entry { ino, name: name.into() }))
    }

    /// The change of slot `slot` of `directory` from `old` to `new`, `None` being a free slot.
    pub fn change(directory: u64, slot: u64, old: Option<&Entry>, new: Option<&Entry>) -> Option<Change<Delta>> {
        let bytes = |entry: Option<&Entry>| entry.map_or([0; ENTRY_BYTES], Entry::encode);
        let page = PageId { inode: directory, block: slot / ENTRIES_PER_PAGE };
        slot_change(page, (slot % ENTRIES_PER_PAGE) as usize * ENTRY_BYTES, &bytes(old), &bytes(new))
    }
}

fn slot_change(page: PageId, offset: usize, old: &[u8], new: &[u8]) -> Option<Change<Delta>> {
    Delta::within(offset, old, new).map(|payload| Change { page, payload })
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_protocol::Payload;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = InodeRecord> {
        let kinds = prop::sample::select(vec![Kind::File, Kind::Directory, Kind::Symlink, Kind::Socket, Kind::Fifo]);
        let numbers = (1..u64::MAX, 0..=0o7777u16, any::<(u32, u32, u32, u32)>(), 0..=FILE_MAX, 0..=blocks(FILE_MAX));
        (kinds, numbers, any::<(i64, i64, i64)>(), prop::collection::vec(any::<u8>(), 0..=TARGET_MAX)).prop_map(
            |(kind, (ino, mode, (uid, gid, nlink, rdev), size, trim_end), (mtime, ctime, atime), target)| InodeRecord {
                ino,
                kind,
                mode,
                uid,
                gid,
                nlink,
                rdev,
                size,
                trim_end,
                mtime,
                ctime,
                atime,
                target: target.into(),
            },
        )
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let byte = any::<u8>().prop_filter("a name's byte", |byte| !matches!(byte, 0 | b'/'));
        (1..u64::MAX, prop::collection::vec(byte, 1..=NAME_MAX))
            .prop_map(|(ino, name)| Entry { ino, name: name.into() })
    }

    fn apply(page: &mut PageImage, change: Option<Change<Delta>>) {
        change.into_iter().for_each(|change| change.payload.apply(page));
    }

    proptest! {
        #[test]
        fn slots_come_back_and_neighbours_commute(records in prop::collection::vec(prop::option::of(record()), 4), slots in prop::sample::subsequence((0..16u64).collect::<Vec<_>>(), 2)) {
            let steps = [(slots[0], &records[0], &records[1]), (slots[1], &records[2], &records[3])];
            let mut before = PageImage::default();
            steps.iter().for_each(|(slot, old, _)| apply(&mut before, InodeRecord::change(*slot, None, old.as_ref())));
            let (mut forth, mut back) = (before.clone(), before);
            steps.iter().for_each(|(slot, old, new)| apply(&mut forth, InodeRecord::change(*slot, old.as_ref(), new.as_ref())));
            steps.iter().rev().for_each(|(slot, old, new)| apply(&mut back, InodeRecord::change(*slot, old.as_ref(), new.as_ref())));
            prop_assert_eq!(&forth, &back);
            for (slot, _, new) in steps {
                prop_assert_eq!(&InodeRecord::decode(&forth, slot), &Ok(new.clone()));
            }
        }

        #[test]
        fn entries_come_back(old in prop::option::of(entry()), new in prop::option::of(entry()), slot in 0..90u64) {
            let mut page = PageImage::default();
            apply(&mut page, Entry::change(7, slot, None, old.as_ref()));
            apply(&mut page, Entry::change(7, slot, old.as_ref(), new.as_ref()));
            prop_assert_eq!(Entry::decode(7, &page, slot), Ok(new));
        }

        #[test]
        fn any_bytes_are_refused_or_read(mut bytes in prop::collection::vec(0..9u8, PAGE_SIZE), slot in 0..16u64) {
            let page = PageImage::new(Bytes::from(bytes.clone())).expect("a page");
            let _ = InodeRecord::decode(&page, slot);
            let _ = Entry::decode(7, &page, slot);
            prop_assert_eq!(Superblock::decode(&page), Err(Malformed::NotASuperblock));
            bytes[..8].copy_from_slice(&MAGIC);
            prop_assert!(Superblock::decode(&PageImage::new(Bytes::from(bytes)).expect("a page")).is_err());
        }
    }

    #[test]
    fn the_superblock_comes_back() {
        let (old, new) =
            (Superblock { inode_bound: 2, table_pages: 1 }, Superblock { inode_bound: 1026, table_pages: 9 });
        let mut page = PageImage::default();
        assert_eq!(Superblock::decode(&page), Ok(None));
        apply(&mut page, Superblock::change(None, &old));
        assert_eq!(Superblock::decode(&page), Ok(Some(old)));
        apply(&mut page, Superblock::change(Some(&old), &new));
        assert_eq!(Superblock::decode(&page), Ok(Some(new)));
    }
}
