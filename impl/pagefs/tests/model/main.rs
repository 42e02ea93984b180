//! Random operations on the file system and on a plain reference: equal answers, equal content, and after a crash at
//! any LSN, exactly the state that the reference had after some prefix of the operations. On a volume in memory, which
//! can crash at any LSN, and on one over six storage nodes ([`quorum`]).

#[path = "../../../storage/tests/common/mod.rs"]
mod common;
mod ops;
mod quorum;
mod reference;

use auriga_pagefs::layout::{Kind, ROOT};
use auriga_pagefs::mkfs;
use auriga_protocol::Lsn;
use auriga_volume::{MemoryVolume, MemoryVolumeConfig};
use ops::{Pair, load, new_inode, op, settle, snapshot, write};
use proptest::prelude::*;
use reference::Reference;
use std::sync::Arc;
use std::time::Duration;

fn open(volume: &Arc<MemoryVolume>) -> Arc<auriga_pagefs::PageFs> {
    load(volume.clone(), |error| panic!("the volume is lost: {error}"))
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_the_reference_and_a_crash_leaves_a_prefix(
        ops in prop::collection::vec(op(), 1..60),
        delay in prop::sample::select(vec![0u64, 300]),
        crashes in prop::collection::vec(any::<prop::sample::Index>(), 3),
    ) {
        let config = MemoryVolumeConfig { durable_after: Duration::from_micros(delay), ..Default::default() };
        let volume = Arc::new(MemoryVolume::new(config));
        mkfs(&*volume, 0, 0, Duration::from_secs(5)).expect("an empty volume");
        let mut pair = Pair::new(open(&volume), Reference::new());
        // Where the log stood after each operation, and what was to be seen.
        let mut history = vec![(volume.allocated(), pair.reference.snapshot())];
        for op in &ops {
            let (done, known) = pair.run(op);
            prop_assert_eq!(done, known, "{:?}", op);
            history.push((volume.allocated(), pair.reference.snapshot()));
        }
        pair.check_open();
        prop_assert_eq!(snapshot(&pair.fs), pair.reference.snapshot());
        settle(&pair.fs);

        let first = history[0].0.0;
        let last = volume.allocated().0;
        for crash in crashes {
            let at = Lsn(first + crash.index((last - first + 1) as usize) as u64);
            let recovered = Arc::new(volume.crash_at(at));
            let fs = open(&recovered);
            let seen = snapshot(&fs);
            // Everything whose records lie at or below the crash is there; of what lies above, a prefix at most.
            let certain = history.iter().rposition(|(lsn, _)| *lsn <= at).unwrap_or(0);
            let possible = history[certain..].iter().position(|(_, state)| *state == seen);
            prop_assert!(possible.is_some_and(|after| after <= 1), "after a crash at {}: {:#?}", at, seen);
            // It goes on working, and a second mount finds the same.
            let made = fs.create(ROOT, b"after the crash", &new_inode(Kind::File, b""), false).expect("created");
            write(&fs, made.ino, 3, b"alive").expect("written");
            settle(&fs);
            let before = snapshot(&fs);
            drop(fs);
            prop_assert_eq!(snapshot(&open(&recovered)), before);
        }
    }
}
