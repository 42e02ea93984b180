//! The black-box suite passes on our own storage node, and fails at the right row on one with a defect planted.

use auriga_audit::trace::Trace;
use auriga_audit::trace_check::{Coverage, Report, check_folder};
use auriga_conformance::suite::{Verdict, by_invariant, run, to_text};
use auriga_net::handshake::ClusterId;
use auriga_protocol::{Defect, Defects, SegmentConfig};
use auriga_storage::disk::Opened;
use auriga_storage::{MemoryPlatters, open_store};
use auriga_storage::{StorageConfig, StorageNode};
use auriga_store::StoreOptions;
use std::net::SocketAddr;

const CLUSTER: ClusterId = ClusterId(77);

/// The verdicts on a storage node of ours, which keeps its segments as `open` says.
async fn verdicts(defects: Defects, open: impl FnOnce() -> Result<Opened, String>) -> Vec<Verdict> {
    traced_verdicts(defects, Trace::off(), open).await
}

async fn traced_verdicts(
    defects: Defects,
    trace: Trace,
    open: impl FnOnce() -> Result<Opened, String>,
) -> Vec<Verdict> {
    let listen: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let mut config = StorageConfig::new("storage-a1", "az1", CLUSTER, listen);
    config.segment = SegmentConfig { defects, ..SegmentConfig::default() };
    config.trace = trace;
    let node = StorageNode::start(config, open).await.expect("starts");
    let verdicts = run(&[node.address()], CLUSTER).await;
    node.stop().await;
    verdicts
}

fn all_hold(verdicts: Vec<Verdict>) {
    assert!(verdicts.len() >= 14);
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
    all_hold(verdicts(Defects::NONE, || open_store(folder.path(), StoreOptions::new(CLUSTER.0, "storage-a1"))).await);
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
        (Defect::ReadNotTranslated, &[("I-PAGE", "R-READ-2")]),
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

/// The report on the trace of a suite's run, with the inputs of every segment.
async fn replayed(defects: Defects) -> Report {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = Trace::with_inputs("storage-a1", &folder.path().join("a1.jsonl"), u64::MAX).expect("opened");
    traced_verdicts(defects, trace.clone(), || Ok(MemoryPlatters::default().open())).await;
    trace.flush();
    check_folder(folder.path(), Coverage::Interrupted).expect("a trace")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_run_is_run_again_and_says_the_same() {
    let report = replayed(Defects::NONE).await;
    assert!(report.replayed_segments >= 14 && report.replayed_inputs > 50, "{report:?}");
    assert!(report.lines > 40 && report.broken.iter().all(|broken| !broken.by_replay), "{}", report.to_text());
}

/// Without a crash the observer sees nothing of what a segment says too early: its notes alone are those of a quick disk.
/// Its inputs tell otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_segment_says_too_early_is_found_by_replay_alone() {
    for defect in [Defect::AckBeforeDurable, Defect::SealBeforeDurable, Defect::InstallBeforeDurable] {
        let report = replayed(Defects::plant(defect)).await;
        let (by_replay, by_rule): (Vec<_>, Vec<_>) =
            report.broken.iter().partition::<Vec<_>, _>(|broken| broken.by_replay);
        assert!(!by_replay.is_empty() && by_rule.is_empty(), "{defect:?}: {}", report.to_text());
    }
}
