//! The bytes of a volume's own pages, in `conformance/vectors/pagefs.txt`: written as they are there, and read from there
//! (`specs/pagefs-format.md`). `GOLDEN=rewrite` writes them anew: that is a new format version.

use auriga_page::{Delta, PAGE_SIZE, PageImage};
use auriga_pagefs::layout::{ENTRIES_PER_PAGE, Entry, InodeRecord, Kind, ROOT, Superblock, TABLE};
use auriga_protocol::{Change, PageId, Payload};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const HEADER: &str = "\
# Pages of a volume with a root directory, a file, and a symbolic link, explained in specs/pagefs-format.md: inode, block,
# and content in hexadecimal; zeros at the end are left out.
";
const SUPERBLOCK: Superblock = Superblock { inode_bound: 1026, table_pages: 2 };

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/vectors/pagefs.txt")
}

/// Each with its slot of the inode table.
fn inodes() -> Vec<(u64, InodeRecord)> {
    let root = InodeRecord {
        ino: ROOT,
        kind: Kind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        nlink: 2,
        rdev: 0,
        size: 2 * PAGE_SIZE as u64,
        trim_end: 0,
        mtime: 1_700_000_000_123_456_789,
        ctime: 1_700_000_000_123_456_790,
        atime: -1,
        target: Box::default(),
    };
    let file = InodeRecord {
        ino: 1025,
        kind: Kind::File,
        mode: 0o4640,
        uid: 107,
        gid: 112,
        nlink: 1,
        size: (1 << 33) + 5,
        trim_end: (1 << 20) + 3,
        ..root.clone()
    };
    let target = b"../base/16384".as_slice().into();
    let link = InodeRecord { ino: 4, kind: Kind::Symlink, mode: 0o777, nlink: 1, size: 13, target, ..root.clone() };
    let device = InodeRecord { ino: 5, kind: Kind::CharDevice, rdev: 0x0103, nlink: 0, size: 0, ..root.clone() };
    vec![(0, root), (1, file), (15, link), (16, device)]
}

/// Each with its slot of the root directory.
fn entries() -> Vec<(u64, Entry)> {
    let entry = |ino, name: &[u8]| Entry { ino, name: name.into() };
    vec![
        (0, entry(1025, b"PG_VERSION")),
        (2, entry(4, "pg_tblspc/\u{e9}".replace('/', "_").as_bytes())),
        (ENTRIES_PER_PAGE, entry(5, &[b'x'; 255])),
    ]
}

fn pages() -> BTreeMap<PageId, PageImage> {
    let superblock = Superblock::change(None, &SUPERBLOCK);
    let inodes = inodes().into_iter().map(|(slot, inode)| InodeRecord::change(slot, None, Some(&inode)));
    let entries = entries().into_iter().map(|(slot, entry)| Entry::change(ROOT, slot, None, Some(&entry)));
    let changes = std::iter::once(superblock).chain(inodes).chain(entries);
    let mut pages: BTreeMap<PageId, PageImage> = BTreeMap::new();
    for Change::<Delta> { page, payload } in changes.flatten() {
        payload.apply(pages.entry(page).or_default());
    }
    pages
}

#[test]
fn pages_are_written_as_in_the_vectors() {
    let mut now = HEADER.to_owned();
    for (page, image) in pages() {
        let content = image.content();
        let length = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let hex: String = content[..length].iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(now, "{} {} {hex}", page.inode, page.block);
    }
    if std::env::var("GOLDEN").is_ok_and(|mode| mode == "rewrite") {
        std::fs::write(vectors(), &now).expect("written");
    }
    let golden = std::fs::read_to_string(vectors()).expect("the vectors");
    let differ = now.lines().zip(golden.lines()).find(|(now, golden)| now != golden);
    assert!(differ.is_none() && now.len() == golden.len(), "(now, golden): {differ:?}");
}

fn read() -> BTreeMap<PageId, PageImage> {
    let page = |line: &str| {
        let [inode, block, hex] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let mut content = [0; PAGE_SIZE];
        for at in 0..hex.len() / 2 {
            content[at] = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal");
        }
        let number = |text: &str| text.parse().expect("a number");
        (PageId { inode: number(inode), block: number(block) }, PageImage::copy_from(&content))
    };
    let text = std::fs::read_to_string(vectors()).expect("the vectors");
    text.lines().filter(|line| !line.starts_with('#')).map(page).collect()
}

#[test]
fn the_vectors_are_read_as_what_they_say() {
    let pages = read();
    let at = |inode, block| &pages[&PageId { inode, block }];
    assert_eq!(Superblock::decode(at(TABLE, 0)), Ok(Some(SUPERBLOCK)));
    let (inodes, entries): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (inodes().into_iter().collect(), entries().into_iter().collect());
    for slot in 0..32 {
        assert_eq!(InodeRecord::decode(at(TABLE, 1 + slot / 16), slot), Ok(inodes.get(&slot).cloned()), "slot {slot}");
    }
    for slot in 0..2 * ENTRIES_PER_PAGE {
        let page = at(ROOT, slot / ENTRIES_PER_PAGE);
        assert_eq!(Entry::decode(ROOT, page, slot), Ok(entries.get(&slot).cloned()), "entry {slot}");
    }
}
