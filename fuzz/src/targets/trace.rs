//! Traces and recordings of other machines, as the trace check reads them.

use super::{Target, frames, kind};
use auriga_audit::recording::{Happened, outputs};
use auriga_audit::trace::Trace;
use auriga_audit::trace_check::{Coverage, check_folder};
use auriga_net::Frame;
use auriga_page::Delta;
use auriga_protocol::segment::{Outcome, Survived, Task, Timer};
use auriga_protocol::{
    Effect, Effects, Input, Machine, MemberId, Membership, Micros, Party, PgId, QuorumSet, Segment, SegmentConfig,
    SegmentId, VolumeId,
};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// An input is a trace and a recording of inputs, with the trace's length before them (u32).
pub struct Folder(TempDir);

const ID: SegmentId = SegmentId { volume: VolumeId(7), pg: PgId(1), member: MemberId(0) };
const RECORDED: &str = "b2.1.1.inputs";

/// Boots a segment and feeds it `messages`, and records it as a storage process does.
fn record(trace: &Trace, messages: &[Vec<u8>]) {
    let machine = Party::Segment(ID);
    let (config, survived) = (SegmentConfig::default(), Survived::founded(Membership::initial(QuorumSet::aurora())));
    let config = SegmentConfig { renew_life_every: Micros(0), ..config };
    trace.record(Micros(1), machine, || Happened::SegmentBooted(config.clone(), survived.clone()));
    let mut out: Effects<Segment<Delta>> = Effects::default();
    let mut segment = Segment::boot(&config, ID, survived, Micros(1), &mut out);
    let mut inputs: Vec<Input<Segment<Delta>>> = Vec::new();
    for payload in messages {
        if let Ok(Some(Frame::Protocol(envelope))) = frames::decoded(payload) {
            inputs.push(Input::Message { from: envelope.from, message: envelope.message });
        }
    }
    inputs.extend([Timer::Gossip, Timer::Coalesce].map(Input::Timer));
    let mut queue: std::collections::VecDeque<_> = inputs.into();
    let mut now = 1;
    loop {
        let effects: Vec<Effect<Segment<Delta>>> = out.drain().collect();
        trace.record(Micros(now), machine, || Happened::Gave(outputs(&effects)));
        for effect in effects {
            match effect {
                Effect::Note(note) => trace.note(Micros(now), &note),
                Effect::Append { id, .. } => queue.push_front(Input::Durable(id)),
                Effect::Start(Task::Coalesce { floor, .. }) => {
                    queue.push_back(Input::Done(Outcome::Coalesced { floor }))
                }
                _ => {}
            }
        }
        let Some(input) = queue.pop_front() else { break };
        now += 1;
        trace.record(Micros(now), machine, || Happened::to_segment(&input));
        segment.step(Micros(now), input, &mut out);
    }
    trace.flush();
}

/// The trace and the recording in a folder.
fn joined(folder: &Path) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut recorded = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("readable");
        if path.extension().is_some_and(|it| it == "jsonl") { lines = bytes } else { recorded = bytes }
    }
    [&(lines.len() as u32).to_le_bytes()[..], &lines, &recorded].concat()
}

impl Folder {
    /// A target.
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }
}

impl Target for Folder {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let all: Vec<Vec<u8>> = frames::messages().into_iter().filter(|payload| payload.len() < 500).collect();
        let mut runs: Vec<Vec<Vec<u8>>> = all.iter().map(|one| vec![one.clone()]).collect();
        runs.push(all);
        let run = |messages: Vec<Vec<u8>>| {
            let folder = tempfile::tempdir().expect("a folder");
            let trace = Trace::with_inputs("b2", &folder.path().join("b2.jsonl"), 1 << 20).expect("a trace");
            record(&trace, &messages);
            joined(folder.path())
        };
        runs.into_iter().map(run).collect()
    }

    fn run(&mut self, input: &[u8]) -> String {
        let Some((length, rest)) = input.split_first_chunk() else { return "nothing".into() };
        let (lines, recorded) = rest.split_at((u32::from_le_bytes(*length) as usize).min(rest.len()));
        let folder = self.0.path();
        fs::write(folder.join("b2.jsonl"), lines).expect("written");
        fs::write(folder.join(RECORDED), recorded).expect("written");
        match check_folder(folder, Coverage::Interrupted) {
            Ok(report) => {
                let rules: Vec<&str> = report.broken.iter().map(|broken| broken.rule.as_str()).take(2).collect();
                format!("{rules:?} {:?}", report.notes.keys().take(4).collect::<Vec<_>>())
            }
            Err(error) => kind(&error),
        }
    }
}
