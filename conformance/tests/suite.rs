//! The black-box suite passes on our own storage node, and fails at the right row on one with a defect planted.

use auriga_conformance::suite::{Verdict, by_invariant, run, to_text};
use auriga_protocol::{Defect, Defects, SegmentConfig};
use auriga_runtime::net::handshake::ClusterId;
use auriga_runtime::storage::disk::Opened;
use auriga_runtime::storage::{MemoryPlatters, open_store};
use auriga_runtime::{StorageConfig, StorageNode};
use auriga_store::Options;
use std::net::SocketAddr;

const CLUSTER: ClusterId = ClusterId(77);

/// The verdicts on a storage node of ours, which keeps its segments as `open` says.
async fn verdicts(defects: Defects, open: impl FnOnce() -> Result<Opened, String>) -> Vec<Verdict> {
    let listen: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let mut config = StorageConfig::new("storage-a1", "az1", CLUSTER, listen);
    config.segment = SegmentConfig { defects, ..SegmentConfig::default() };
    let node = StorageNode::start(config, open).await.expect("starts");
    let verdicts = run(&[node.address()], CLUSTER).await;
    node.stop().await;
    verdicts
}

fn all_hold(verdicts: Vec<Verdict>) {
    assert!(verdicts.len() >= 13);
    for judged in by_invariant(verdicts) {
        assert!(judged.holds, "{}", to_text(&[judged]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_storage_node_passes() {
    all_hold(verdicts(Defects::NONE, || Ok(MemoryPlatters::default().open())).await);
}

/// As `auriga storage` runs it.
#[tokio::test(flavor = "multi_thread")]
async fn our_storage_node_passes_with_files() {
    let folder = tempfile::tempdir().expect("a folder");
    all_hold(verdicts(Defects::NONE, || open_store(folder.path(), Options::new(CLUSTER.0, "storage-a1"))).await);
}

/// Each defect, and the rows that must fail, by their rules. Nothing else may.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_defect_fails_at_its_rows() {
    let mut wrong = Vec::new();
    for (defect, expected) in [
        (Defect::NoFence, &[("I-KEPT", "R-FENCE-1")][..]),
        (Defect::EpochGrantedTwice, &[("I-ONE-WRITER", "R-FENCE-3")]),
        (Defect::AckOverHole, &[("I-COPIES", "R-WRITE-3")]),
        (Defect::TruncationNotApplied, &[("I-ANNULLED", "R-TRUNCATE-1"), ("I-ANNULLED", "R-TRUNCATE-3")]),
        (Defect::ReadIgnoresReadPoint, &[("I-PAGE", "R-READ-3")]),
        (Defect::ReadAboveScl, &[("I-PAGE", "R-READ-1")]),
    ] {
        let verdicts = verdicts(Defects::plant(defect), || Ok(MemoryPlatters::default().open())).await;
        let failed: Vec<_> = verdicts.into_iter().filter(|verdict| verdict.failure.is_some()).collect();
        let rows: Vec<_> = failed.iter().map(|verdict| (verdict.invariant, verdict.rules)).collect();
        if rows != expected {
            wrong.push(format!("{defect:?} failed\n{}", to_text(&by_invariant(failed))));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
