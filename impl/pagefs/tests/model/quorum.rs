//! The same on a volume over six storage nodes with stores on disk: the mount crashes, or is replaced while it still
//! runs, and its successor recovers the volume at a higher volume epoch. What was synchronised is there; of what came
//! after it, a prefix.

use crate::common::{CLUSTER, Cluster, member, soon};
use crate::ops::{Op, Pair, load, op, snapshot};
use crate::reference::Reference;
use auriga_net::admin::{AdminReply, AdminRequest, Fault, ask};
use auriga_pagefs::{PageFs, mkfs};
use auriga_protocol::{MemberId, VolumeEpoch, VolumeId};
use auriga_volume::{RemoteVolume, VolumeConfig, create_volume};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Every mount's name on the network.
const MOUNT: &str = "mount";
/// A case here costs as much as this many on a volume in memory.
const COST: u32 = 16;

/// One mount: what it does, and how it ends.
#[derive(Clone, Debug)]
struct Life {
    ops: Vec<Op>,
    /// Nodes that it can't reach from its beginning to its end: at most two.
    cut_off: Vec<u8>,
    /// It still runs when the next one takes over.
    replaced_alive: bool,
}

fn life() -> impl Strategy<Value = Life> {
    let cut_off = prop::sample::subsequence((0..6u8).collect::<Vec<_>>(), 0..=2);
    (prop::collection::vec(op(), 1..25), cut_off, any::<bool>()).prop_map(|(ops, cut_off, replaced_alive)| Life {
        ops,
        cut_off,
        replaced_alive,
    })
}

/// Six nodes, and what a mount needs to reach them.
struct Nodes {
    runtime: Runtime,
    cluster: Cluster,
    volumes: Cell<u64>,
}

impl Nodes {
    fn start() -> Nodes {
        let runtime = Runtime::new().expect("threads");
        let cluster = runtime.block_on(Cluster::start_on_files());
        Nodes { runtime, cluster, volumes: Cell::new(100) }
    }

    /// A new volume with an empty file system.
    fn new_volume(&self) -> VolumeConfig {
        self.volumes.set(self.volumes.get() + 1);
        let volume = VolumeId(self.volumes.get());
        let config = VolumeConfig { volume, label: volume.0, ..self.cluster.volume(MOUNT) };
        self.runtime.block_on(create_volume(&config, soon())).expect("all nodes answer");
        mkfs(&*self.open(&config), 0, 0, Duration::from_secs(5)).expect("an empty volume");
        config
    }

    fn open(&self, config: &VolumeConfig) -> Arc<RemoteVolume> {
        Arc::new(self.runtime.block_on(RemoteVolume::open(config.clone(), soon())).expect("it recovers"))
    }

    /// These nodes, and no others, can't be reached by a mount.
    fn cut_off(&self, nodes: &[u8]) {
        for index in 0..6 {
            let from = if nodes.contains(&index) { vec![MOUNT.to_owned()] } else { Vec::new() };
            let at: MemberId = member(index);
            let request = AdminRequest::Inject(Fault::Partition { from });
            let asked = ask(self.cluster.members[&at], CLUSTER, &request, Duration::from_secs(5));
            assert_eq!(self.runtime.block_on(asked).expect("it answers"), AdminReply::Done);
        }
    }

    /// A mount with its volume. It may be lost: that is how some end.
    fn mount(&self, config: &VolumeConfig) -> (Arc<PageFs>, Arc<RemoteVolume>) {
        let volume = self.open(config);
        (load(volume.clone(), |_| ()), volume)
    }
}

fn epoch(volume: &RemoteVolume) -> VolumeEpoch {
    volume.status().writer.volume_epoch
}

fn live(nodes: &Nodes, lives: &[Life]) -> Result<(), TestCaseError> {
    let config = nodes.new_volume();
    let mut before: Option<(Pair, Arc<RemoteVolume>)> = None;
    // What the next mount may find: the reference when it was last synchronised, and after each operation since.
    let mut possible = vec![Reference::new()];
    let mut last_epoch = VolumeEpoch::NONE;
    let look = Life { ops: Vec::new(), cut_off: Vec::new(), replaced_alive: false };
    for life in lives.iter().chain([&look]) {
        nodes.cut_off(&life.cut_off);
        let (fs, volume) = nodes.mount(&config);
        prop_assert!(epoch(&volume) > last_epoch);
        last_epoch = epoch(&volume);
        drop(before.take());
        let seen = snapshot(&fs);
        let found = possible.iter().rposition(|state| state.snapshot() == seen);
        prop_assert!(found.is_some(), "none of {} possible states: {:#?}", possible.len(), seen);
        possible.drain(..found.unwrap_or_default());
        possible.truncate(1);

        let mut pair = Pair::new(fs, possible[0].clone());
        for op in &life.ops {
            let (done, known) = pair.run(op);
            prop_assert_eq!(done, known, "{:?}", op);
            if matches!(op, Op::Sync) {
                possible.clear();
            }
            possible.push(pair.reference.clone());
        }
        pair.check_open();
        if life.replaced_alive {
            before = Some((pair, volume));
        }
    }
    Ok(())
}

#[test]
fn on_a_quorum_what_was_synchronised_survives_every_mount_and_of_the_rest_a_prefix() {
    let nodes = Nodes::start();
    let default = ProptestConfig::with_source_file(file!());
    let config = ProptestConfig { cases: default.cases.div_ceil(COST), max_shrink_iters: 100, ..default };
    let lives = prop::collection::vec(life(), 2..5);
    TestRunner::new(config).run(&lives, |lives| live(&nodes, &lives)).unwrap_or_else(|failed| panic!("{failed}"));
    nodes.cut_off(&[]);
}
