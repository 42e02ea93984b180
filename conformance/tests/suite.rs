//! The black-box suite passes on our own storage node, and fails at the right row on one with a defect planted.

use auriga_conformance::suite::{Verdict, run};
use auriga_protocol::{Defect, Defects, SegmentConfig};
use auriga_runtime::net::handshake::ClusterId;
use auriga_runtime::storage::MemoryPlatters;
use auriga_runtime::{StorageConfig, StorageNode};
use std::net::SocketAddr;

const CLUSTER: ClusterId = ClusterId(77);

async fn verdicts(defects: Defects) -> Vec<Verdict> {
    let listen: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let mut config = StorageConfig::new("storage-a1", "az1", CLUSTER, listen);
    config.segment = SegmentConfig { defects, ..SegmentConfig::default() };
    let platters = MemoryPlatters::default();
    let node = StorageNode::start(config, || Ok(platters.open())).await.expect("starts");
    let verdicts = run(&[node.address()], CLUSTER).await;
    node.stop().await;
    verdicts
}

#[tokio::test(flavor = "multi_thread")]
async fn our_storage_node_passes() {
    let verdicts = verdicts(Defects::NONE).await;
    assert!(verdicts.len() >= 13);
    for verdict in verdicts {
        assert_eq!(verdict.failure, None, "{}: {}", verdict.invariant, verdict.statement);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_defect_fails_at_its_row() {
    for (defect, rule) in [
        (Defect::NoFence, "R-FENCE-1"),
        (Defect::EpochGrantedTwice, "R-FENCE-3"),
        (Defect::AckOverHole, "R-WRITE-3"),
        (Defect::TruncationNotApplied, "R-TRUNCATE-1"),
        (Defect::ReadIgnoresReadPoint, "R-READ-3"),
        (Defect::ReadAboveScl, "R-READ-1"),
    ] {
        let failed: Vec<Verdict> =
            verdicts(Defects::plant(defect)).await.into_iter().filter(|verdict| verdict.failure.is_some()).collect();
        assert!(failed.iter().any(|verdict| verdict.rules.contains(rule)), "{defect:?} failed {failed:?}");
    }
}
