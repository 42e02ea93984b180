//! The bytes of a node's directory, in `conformance/vectors/store.txt`: written as they are there, and read from there.
//! Another implementation that reads and writes these bytes can take over a disk. `GOLDEN=rewrite` writes them anew: that
//! is a new format (`specs/formats.md`, "On disk").

use crate::disk::{Directory, read_up_to};
use crate::identity::{self, Identity};
use crate::journal::{self, Opening};
use crate::space::Space;
use crate::tests::testing::*;
use crate::twin::BLOCK;
use crate::{Delta, PAGE_SIZE, PageImage, StoreOptions};
use auriga_protocol::Life;
use auriga_protocol::ids::Incarnation;
use auriga_protocol::message::BasePage;
use auriga_protocol::segment::{Entry, Outcome, PageRange, Task};
use auriga_protocol::{AppendId, Install, Lsn, MemberId, PageId, Record, Token, TruncationList, VolumeEpoch, WriterId};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The journal's number, which is random in a real directory.
const JOURNAL: u64 = 0x8877_6655_4433_2211;
const HEADER: &str = "\
# The directory of a storage node, explained in specs/formats.md, \"On disk\": of each file its length, then offset and
# content, in hexadecimal, of each block of 4096 bytes that is not all zeros; zeros at a block's end are left out, and so are
# files that are all zeros.
";

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/vectors/store.txt")
}

/// No spare files, no scrubbing: only what is asked for is written.
fn quiet() -> StoreOptions {
    StoreOptions { watch_every: Duration::from_secs(3600), ..options() }
}

/// The page with this byte set at place 4.
fn image(byte: u8) -> PageImage {
    let mut content = [0; PAGE_SIZE];
    content[4] = byte;
    PageImage::copy_from(&content)
}

/// Sets the byte at place 4 of a zero page; byte 0 makes it the zero page.
fn small(lsn: u64, page: PageId, byte: u8) -> Record<Delta> {
    let payload = Delta::between(&[0; PAGE_SIZE], image(byte).content()).unwrap_or_else(Delta::zero);
    Record { payload, prev_block: Lsn(1), ..record(lsn, page) }
}

fn log() -> Vec<Record<Delta>> {
    vec![small(1, page(0), 1), small(2, page(1), 2), small(3, page(2), 0), small(4, page(0), 4)]
}

/// One of every kind, as a segment might append them.
fn entries() -> Vec<Entry<Delta>> {
    let mut truncations = TruncationList::default();
    let (second, third) = (VolumeEpoch::new(2, WriterId(9)), VolumeEpoch::new(3, WriterId(300)));
    truncations.annul_above(third, Lsn(4), 10);
    let incarnation = Incarnation(1);
    vec![
        Entry::Membership(membership()),
        Entry::Promise { volume_epoch: second },
        Entry::Records { records: log(), vdl: Lsn(0) },
        Entry::Promise { volume_epoch: third },
        Entry::Install(Install { volume_epoch: third, truncations, vdl: Lsn(4) }),
        Entry::Amnesia { incarnation, target: Some(Lsn(4)) },
        Entry::Rejoined { incarnation },
        Entry::PeerLoss { member: MemberId(5), incarnation: Incarnation(2) },
        Entry::Life { life: Life { incarnation, number: 300, nonce: 7 }, registered: true },
        Entry::PeerLife { member: MemberId(3), life: Life { incarnation, number: 2, nonce: u64::MAX } },
        Entry::PagesLost,
        Entry::PagesRestored,
        Entry::Charter(charter()),
    ]
}

/// The base pages at the end: page 2 became zero, and its header is marked as gone.
fn bases() -> [Option<BasePage<Delta>>; 3] {
    let base = |block, version, byte| BasePage { page: page(block), version: Lsn(version), content: image(byte) };
    [Some(base(0, 1, 1)), Some(base(1, 2, 2)), None]
}

fn made() -> MemoryDisk {
    let memory = MemoryDisk::default();
    let (disk, space): (Arc<dyn Directory>, _) = (Arc::new(memory.clone()), Arc::new(Space::new(None)));
    let file_bytes = quiet().journal_file_bytes;
    let (floors, forgetful) = Default::default();
    let opening =
        Opening { disk: &disk, space: &space, journal: JOURNAL, file_bytes, floors: &floors, forgetful: &forgetful };
    drop(journal::create(&opening).expect("made"));
    identity::write(&*disk, &Identity { cluster: 1, node: "node".into(), journal: JOURNAL }).expect("written");
    let running = Running::open(&memory, quiet());
    running.store.create_segment(segment(1), membership(), charter(), false).expect("new");
    for (append, entry) in (1..).zip(entries()) {
        running.store.append(segment(1), AppendId(append), &entry);
        assert!(running.owner.durable(segment(1), append));
    }
    let old = BasePage { page: page(2), version: Lsn(0), content: image(9) };
    let replace = Some(PageRange { after: Some(page(1)), through: None });
    let put = Task::PutBases {
        token: Token(1),
        pages: vec![old],
        unchanged: Vec::new(),
        replace,
        floor: None,
        ceiling: Lsn::ZERO,
    };
    for task in [put, Task::Coalesce { floor: Lsn(3), records: log()[..3].to_vec() }] {
        running.store.run(segment(1), task);
        let outcome = running.owner.outcome(segment(1));
        assert!(matches!(outcome, Some(Outcome::BasesPut { .. } | Outcome::Coalesced { .. })), "{outcome:?}");
    }
    running.store.stop();
    // Without what was erased last, which is not synchronised: so the mark is to be seen.
    let durable = memory.after_power_cut(|_| (0, 0));
    let name = &memory.files().into_iter().find(|(name, _)| name.starts_with("pages")).expect("one").0;
    let content = read_up_to(&*durable.open(name).expect("there"), 0, 1 << 20).expect("read");
    memory.open(name).expect("there").write_at(&content, 0).expect("written");
    memory
}

fn dump(disk: &MemoryDisk) -> String {
    let mut text = HEADER.to_owned();
    for (name, length) in disk.files() {
        let mut bytes = vec![0; length];
        disk.open(&name).expect("there").read_at(&mut bytes, 0).expect("read");
        // How many empty journal files are made ahead is no part of the format.
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        let _ = writeln!(text, "{name} length {length}");
        for (block, content) in bytes.chunks(BLOCK).enumerate() {
            if let Some(last) = content.iter().rposition(|byte| *byte != 0) {
                let hex: String = content[..=last].iter().map(|byte| format!("{byte:02x}")).collect();
                let _ = writeln!(text, "{name} {} {hex}", block * BLOCK);
            }
        }
    }
    text
}

fn load(text: &str) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let mut files = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let [name, at, content] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        if at == "length" {
            let file = disk.create(name).expect("made");
            file.write_at(&vec![0; content.parse().expect("a length")], 0).expect("written");
            files.insert(name, file);
            continue;
        }
        let byte = |at: usize| u8::from_str_radix(&content[at..at + 2], 16).expect("hexadecimal");
        let bytes: Vec<u8> = (0..content.len()).step_by(2).map(byte).collect();
        files[name].write_at(&bytes, at.parse().expect("an offset")).expect("written");
    }
    disk
}

#[test]
fn a_directory_is_written_as_in_the_vectors() {
    let now = dump(&made());
    if std::env::var("GOLDEN").is_ok_and(|mode| mode == "rewrite") {
        std::fs::write(vectors(), &now).expect("written");
    }
    let golden = std::fs::read_to_string(vectors()).expect("the vectors");
    let differ = now.lines().zip(golden.lines()).find(|(now, golden)| now != golden);
    assert!(differ.is_none() && now.len() == golden.len(), "(now, golden): {differ:?}");
}

#[test]
fn the_vectors_are_read_as_what_they_say() {
    let running = Running::open(&load(&std::fs::read_to_string(vectors()).expect("the vectors")), quiet());
    let survived = &running.survived[&segment(1)];
    assert_eq!((survived.damaged, survived.floor), (false, Lsn(3)));
    assert_eq!(survived.entries, entries());
    for (block, base) in (0..).zip(bases()) {
        running.store.run(segment(1), Task::ReadBase { token: Token(block), page: page(block) });
        let read = Outcome::Base { token: Token(block), page: page(block), base };
        assert_eq!(running.owner.outcome(segment(1)), Some(read));
    }
}
