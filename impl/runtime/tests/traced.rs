//! The trace of a real run, under faults, judged by the observer that judges the models.

mod common;

use auriga_protocol::note::Note;
use auriga_protocol::observer::Observer;
use auriga_protocol::{Lsn, QuorumSet};
use auriga_runtime::trace::{Trace, TraceLine};
use auriga_runtime::trace_check::check_folder;
use auriga_runtime::volume::{Volume, VolumeError};
use auriga_runtime::{RemoteVolume, create_volume};
use common::*;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The lines of all nodes, causes before effects.
fn merged(path: &Path) -> Vec<TraceLine> {
    let text = std::fs::read_to_string(path).expect("readable");
    let mut lines: Vec<TraceLine> = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    lines.sort_by_key(|line| (line.at, line.sequence));
    lines
}

/// Commits and reads until fenced; answers the commits that were acknowledged.
async fn work(volume: Arc<RemoteVolume>, block: u64) -> Vec<Lsn> {
    let mut acknowledged = Vec::new();
    for value in 0..=250 {
        match commit(&volume, vec![fill(page(block), value, value + 1)], soon()).await {
            Ok(lsn) => acknowledged.push(lsn),
            Err(VolumeError::Fenced { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        match read(&volume, page(block), soon()).await {
            Ok(read) => assert!(read.version >= *acknowledged.last().expect("just now")),
            Err(VolumeError::Fenced { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_restarts_and_a_takeover_breaks_no_rule() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("trace.jsonl");
    let trace = Trace::with_inputs("cluster", &path).expect("opened");
    let shared = trace.clone();
    let mut cluster = Cluster::start_adjusted(Arc::new(move |config| {
        config.trace = shared.clone();
        config.segment.coalesce_every.0 = 20_000;
    }))
    .await;
    let mut config = cluster.volume("instance-1");
    config.trace = trace.clone();
    config.writer.geometry.groups = 2;
    config.writer.geometry.extent_blocks = 1;
    create_volume(&config, soon()).await.expect("all nodes answer");

    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let volume = Arc::new(RemoteVolume::open(config.clone(), soon()).await.expect("recovers"));
        let workers: Vec<_> = (0..8).map(|block| tokio::spawn(work(volume.clone(), 10 * round + block))).collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let node = u8::try_from(round).expect("small");
        cluster.stop(node).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.restart(node).await;
        let next = RemoteVolume::open(config.clone(), soon()).await.expect("takes over");
        for worker in workers {
            acknowledged.extend(worker.await.expect("no worker fails"));
        }
        drop(next);
    }
    let last = RemoteVolume::open(config, Instant::now() + Duration::from_secs(10)).await.expect("recovers");
    assert!(acknowledged.iter().all(|lsn| *lsn <= last.vdl()), "an acknowledged commit is above the recovered VDL");
    drop(last);
    drop(cluster);
    trace.flush();

    let report = check_folder(dir.path()).expect("a trace");
    assert_eq!(report.broken, []);
    assert!(report.replayed_lives >= 15 && report.replayed_inputs > 200, "{}", report.to_text());
    let lines = merged(&path);
    let mut observer = Observer::new(QuorumSet::aurora());
    for line in &lines {
        if let Err(violation) = observer.observe(&line.note) {
            panic!("{violation:?} at {line:?}");
        }
    }
    let count = |is: fn(&Note) -> bool| lines.iter().filter(|line| is(&line.note)).count();
    assert_eq!(count(|note| matches!(note, Note::Opened { .. })), 7);
    assert!(count(|note| matches!(note, Note::Durable { .. })) > 20 && acknowledged.len() > 20);
    assert!(
        count(|note| matches!(note, Note::Collected { .. })) > 0
            && count(|note| matches!(note, Note::Read { .. })) > 20
    );
}
