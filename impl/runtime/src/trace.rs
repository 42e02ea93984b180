//! The trace: every [`Note`] of a process as one line of JSON, for the checker that judges runs of the real cluster.
//!
//! Off, it costs one branch. On, lines go to a buffer that is written to the file at least every 100 ms and when the
//! process stops. A process killed with SIGKILL loses the lines of its last 100 ms: the checker must not take the
//! absence of a line for the absence of the fact.

use crate::clock;
use crate::driver::lock;
use crate::recording::{Happened, Recorded, Recorder};
use auriga_protocol::{Micros, Note, SegmentId};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// Longest time that a line stays in memory.
pub const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TraceLine {
    /// The process's node name.
    pub node: String,
    /// 1, 2, … within the process.
    pub sequence: u64,
    /// When the step that caused the note began, by a clock that all processes of one host share. A fact on one node
    /// that caused a fact on another has the smaller time.
    pub at: Micros,
    /// The fact.
    pub note: Note,
}

/// Where notes go. Cloning shares the file.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<TraceFile>>);

struct TraceFile {
    node: String,
    writing: Mutex<Writing>,
}

struct Writing {
    sequence: u64,
    file: BufWriter<File>,
    /// The inputs of segments, where they were asked for.
    inputs: Option<Recorder>,
    failed: bool,
}

impl Trace {
    /// Keeps nothing.
    pub fn off() -> Trace {
        Trace(None)
    }

    /// Appends to the file at `path`, which is made when it isn't there.
    ///
    /// # Errors
    /// When the file can't be opened, or the thread that flushes it can't be started.
    pub fn to_file(node: &str, path: &Path) -> io::Result<Trace> {
        Trace::to_files(node, path, None)
    }

    /// The same, and records the inputs of the node's segments (see [`crate::recording`]), in a new file beside it.
    ///
    /// # Errors
    /// As [`Trace::to_file`].
    pub fn with_inputs(node: &str, path: &Path) -> io::Result<Trace> {
        let name = format!("{}.{}.inputs", std::process::id(), clock::now().0);
        Trace::to_files(node, path, Some(Recorder::to_file(&path.with_extension(name))?))
    }

    fn to_files(node: &str, path: &Path, inputs: Option<Recorder>) -> io::Result<Trace> {
        let file = BufWriter::with_capacity(1 << 18, File::options().create(true).append(true).open(path)?);
        let writing = Mutex::new(Writing { sequence: 0, file, inputs, failed: false });
        let trace = Arc::new(TraceFile { node: node.to_owned(), writing });
        let weak = Arc::downgrade(&trace);
        std::thread::Builder::new().name("trace".into()).spawn(move || flush_periodically(&weak))?;
        Ok(Trace(Some(trace)))
    }

    /// Adds a line.
    pub fn note(&self, at: Micros, note: Note) {
        if let Some(trace) = &self.0 {
            let mut writing = lock(&trace.writing);
            writing.sequence += 1;
            let line = TraceLine { node: trace.node.clone(), sequence: writing.sequence, at, note };
            let written = serde_json::to_writer(&mut writing.file, &line).map_err(io::Error::from);
            let written = written.and_then(|()| writing.file.write_all(b"\n"));
            writing.report(written);
        }
    }

    /// Records what happens to a segment, where that is asked for.
    pub fn took(&self, at: Micros, segment: SegmentId, what: impl FnOnce() -> Happened) {
        let Some(trace) = &self.0 else { return };
        let mut writing = lock(&trace.writing);
        if let Some(inputs) = &mut writing.inputs {
            let written = inputs.write(&Recorded { at, segment, what: what() });
            writing.report(written);
        }
    }

    /// Writes buffered lines to the file.
    pub fn flush(&self) {
        if let Some(trace) = &self.0 {
            trace.flush();
        }
    }
}

impl TraceFile {
    fn flush(&self) {
        let mut writing = lock(&self.writing);
        let written = writing.file.flush();
        let recorded = writing.inputs.as_mut().map_or(Ok(()), Recorder::flush);
        writing.report(written.and(recorded));
    }
}

impl Drop for TraceFile {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Writing {
    /// A trace that can't be written harms no user: said once, and the process goes on.
    fn report(&mut self, written: io::Result<()>) {
        if let Err(error) = written
            && !self.failed
        {
            self.failed = true;
            tracing::error!(%error, "the trace is incomplete: it can't be written");
        }
    }
}

fn flush_periodically(trace: &Weak<TraceFile>) {
    loop {
        std::thread::sleep(FLUSH_EVERY);
        match trace.upgrade() {
            Some(trace) => trace.flush(),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_protocol::{Lsn, VolumeEpoch, VolumeId};

    #[test]
    fn lines_reach_the_file_without_a_stop_and_read_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("trace.jsonl");
        let trace = Trace::to_file("storage-a1", &path).expect("opened");
        let note = Note::Durable { volume: VolumeId(1), volume_epoch: VolumeEpoch(2), vdl: Lsn(3) };
        trace.note(Micros(7), note.clone());
        trace.note(Micros(8), note.clone());
        std::thread::sleep(FLUSH_EVERY * 3);
        let text = std::fs::read_to_string(&path).expect("readable");
        let lines: Vec<TraceLine> = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
        let line = |sequence, at| TraceLine { node: "storage-a1".into(), sequence, at: Micros(at), note: note.clone() };
        assert_eq!(lines, [line(1, 7), line(2, 8)]);
    }
}
