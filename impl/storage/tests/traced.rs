//! The trace of a real run, under faults, judged by the observer that judges the models.

mod common;

use auriga_audit::recording::{Frames, Happened, Recorded, RecordingFrame};
use auriga_audit::trace::{Trace, TraceLine};
use auriga_audit::trace_check::{Coverage, check_folder};
use auriga_protocol::note::Note;
use auriga_protocol::observer::Observer;
use auriga_protocol::{Lsn, Party, QuorumSet};
use auriga_volume::{RemoteVolume, create_volume};
use auriga_volume::{Volume, VolumeError};
use common::*;
use std::path::{Path, PathBuf};
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
    let trace = Trace::with_inputs("cluster", &path, u64::MAX).expect("opened");
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

    let report = check_folder(dir.path(), Coverage::Complete).expect("a trace");
    assert_eq!(report.broken, []);
    assert!(
        report.replayed_segments >= 15 && report.replayed_writers == 7 && report.replayed_inputs > 2000,
        "{}",
        report.to_text()
    );
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

/// A small run with the inputs of all machines.
async fn recorded_run(folder: &Path) {
    let trace = Trace::with_inputs("cluster", &folder.join("trace.jsonl"), u64::MAX).expect("opened");
    let shared = trace.clone();
    let mut cluster = Cluster::start_adjusted(Arc::new(move |config| config.trace = shared.clone())).await;
    let mut config = cluster.volume("instance-1");
    config.trace = trace.clone();
    create_volume(&config, soon()).await.expect("all nodes answer");
    for round in 0..2u8 {
        let volume = RemoteVolume::open(config.clone(), soon()).await.expect("recovers");
        for value in 0..20u8 {
            commit(&volume, vec![fill(page(value.into()), 2 * round, 2 * round + 1)], soon()).await.expect("durable");
        }
        read(&volume, page(1), soon()).await.expect("served");
        cluster.stop(round).await;
        cluster.restart(round).await;
    }
    drop(cluster);
    trace.flush();
}

/// The recording of a folder.
fn recording(folder: &Path) -> (PathBuf, Vec<RecordingFrame>) {
    let paths = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let path = { paths }.find(|path| path.extension().is_some_and(|it| it == "inputs")).expect("a recording");
    let frames = Frames::open(&path).expect("opened").collect();
    (path, frames)
}

fn rewrite(path: &Path, frames: &[RecordingFrame]) {
    let mut bytes = Vec::new();
    for frame in frames {
        let frame = postcard::to_allocvec(frame).expect("encoded");
        bytes.extend_from_slice(&u32::try_from(frame.len()).expect("short").to_le_bytes());
        bytes.extend_from_slice(&frame);
    }
    std::fs::write(path, bytes).expect("written");
}

/// The rules that replay finds broken when a recording is as `tamper` makes it.
fn found_in(folder: &Path, tamper: impl FnOnce(&mut Vec<RecordingFrame>)) -> Vec<String> {
    let (path, frames) = recording(folder);
    let mut tampered = frames.clone();
    tamper(&mut tampered);
    assert_ne!(frames, tampered, "nothing was changed");
    rewrite(&path, &tampered);
    let report = check_folder(folder, Coverage::Complete).expect("a trace");
    rewrite(&path, &frames);
    assert!(report.broken.iter().all(|broken| broken.by_replay), "{}", report.to_text());
    report.broken.into_iter().map(|broken| broken.rule).collect()
}

/// The last thing that happened to a machine of which `is` holds.
fn last_of(frames: &[RecordingFrame], is: impl Fn(Party, &Happened) -> bool) -> usize {
    let is = |frame: &RecordingFrame| matches!(frame, RecordingFrame::Recorded(recorded) if is(recorded.machine, &recorded.what));
    frames.iter().rposition(is).expect("it happened")
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_finds_one_output_one_note_or_one_input_that_differs() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = dir.path();
    recorded_run(folder).await;
    let report = check_folder(folder, Coverage::Complete).expect("a trace");
    assert_eq!(report.broken, []);
    // Six that were made, and two that came back.
    assert!(report.replayed_writers == 2 && report.replayed_segments >= 8, "{}", report.to_text());

    let gave = |name: &'static str| move |_: Party, what: &Happened| matches!(what, Happened::Gave(outputs) if outputs.iter().any(|output| output.name == name));
    for (name, rule) in [("Acknowledge", "R-WRITE-2"), ("ReadPage", "R-READ-4"), ("Page", "R-READ-3")] {
        let found = found_in(folder, |frames| {
            let index = last_of(frames, gave(name));
            if let RecordingFrame::Recorded(Recorded { what: Happened::Gave(outputs), .. }) = &mut frames[index] {
                outputs.iter_mut().filter(|output| output.name == name).for_each(|output| output.digest ^= 1);
            }
        });
        assert_eq!(found, [rule], "{name}");
    }
    let without_an_input = found_in(folder, |frames| {
        frames.remove(last_of(frames, |_, what| matches!(what, Happened::Submit(_))));
    });
    assert_eq!(without_an_input.len(), 1, "what that writer said of it, it had no reason to say");

    let path = folder.join("trace.jsonl");
    let text = std::fs::read_to_string(&path).expect("readable");
    let at = text.rfind("\"Acknowledged\"").expect("a line");
    let scl = at + text[at..].find("\"scl\":").expect("its SCL") + "\"scl\":".len();
    let end = scl + text[scl..].find('}').expect("its end");
    let lower = text[scl..end].parse::<u64>().expect("a number") - 1;
    std::fs::write(&path, format!("{}{lower}{}", &text[..scl], &text[end..])).expect("written");
    let report = check_folder(folder, Coverage::Complete).expect("a trace");
    assert!(report.broken.iter().any(|it| it.by_replay && it.rule == "R-WRITE-2"), "{}", report.to_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_after_a_recordings_limit_is_not_held_against_anyone() {
    let dir = tempfile::tempdir().expect("a directory");
    recorded_run(dir.path()).await;
    let (path, mut frames) = recording(dir.path());
    frames.truncate(frames.len() / 2);
    rewrite(&path, &frames);
    assert!(
        !check_folder(dir.path(), Coverage::Complete).expect("a trace").holds(),
        "without a limit, no line is without its inputs"
    );
    frames.push(RecordingFrame::Full);
    rewrite(&path, &frames);
    let report = check_folder(dir.path(), Coverage::Complete).expect("a trace");
    assert!(report.holds() && report.recordings_full == 1, "{}", report.to_text());
}
