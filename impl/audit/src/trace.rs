//! The trace: every [`Note`] of a process as one line of JSON, for the checker that judges runs of the real cluster.
//!
//! Off, it costs one branch. On, the lines of a step are in the file (by `write`, not synchronised) before anything
//! else of that step leaves the machine: SIGKILL takes no line of anything that others can have seen, on the network,
//! on disk or as a user. What no other process can see is written within 100 ms.

use crate::recording::{Happened, Recorded, Recorder};
use auriga_driver::clock;
use auriga_driver::lock;
use auriga_protocol::{Micros, Note, Party};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// Longest time that a line stays in memory.
pub const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Bytes of lines that may wait in memory while no other process can see what they tell of.
const UNWRITTEN_MAX: usize = 1 << 18;

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
    file: File,
    lines: Vec<u8>,
    /// The inputs of machines, where they were asked for.
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

    /// The same, and records the inputs of the process's machines (see [`crate::recording`]), in a new file beside it.
    /// All recordings beside one trace together take at most `limit` bytes, and little more.
    ///
    /// # Errors
    /// As [`Trace::to_file`].
    pub fn with_inputs(node: &str, path: &Path, limit: u64) -> io::Result<Trace> {
        let name = format!("{}.{}.inputs", std::process::id(), clock::now().0);
        let left = limit.saturating_sub(recorded_beside(path)?);
        Trace::to_files(node, path, Some(Recorder::to_file(node, &path.with_extension(name), left)?))
    }

    fn to_files(node: &str, path: &Path, inputs: Option<Recorder>) -> io::Result<Trace> {
        let file = File::options().create(true).append(true).open(path)?;
        let writing = Mutex::new(Writing { sequence: 0, file, lines: Vec::new(), inputs, failed: false });
        let trace = Arc::new(TraceFile { node: node.to_owned(), writing });
        let weak = Arc::downgrade(&trace);
        std::thread::Builder::new().name("trace".into()).spawn(move || flush_periodically(&weak))?;
        Ok(Trace(Some(trace)))
    }

    /// Adds a line.
    pub fn note(&self, at: Micros, note: &Note) {
        if let Some(trace) = &self.0 {
            let mut writing = lock(&trace.writing);
            writing.sequence += 1;
            let line = TraceLine { node: trace.node.clone(), sequence: writing.sequence, at, note: note.clone() };
            let written = serde_json::to_writer(&mut writing.lines, &line).map_err(io::Error::from);
            writing.lines.push(b'\n');
            writing.report(written);
            writing.flush_if_long();
        }
    }

    /// Records what happens to a machine, where that is asked for. Before the notes of it.
    pub fn record(&self, at: Micros, machine: Party, what: impl FnOnce() -> Happened) {
        let Some(trace) = &self.0 else { return };
        let mut writing = lock(&trace.writing);
        if let Some(inputs) = &mut writing.inputs {
            let goes_on = inputs.record(Recorded { at, machine, what: what() });
            match goes_on {
                Ok(true) => writing.flush_if_long(),
                Ok(false) => {
                    writing.flush();
                    writing.inputs = None;
                    tracing::warn!("the recording of inputs has reached its limit");
                }
                Err(error) => writing.report(Err(error)),
            }
        }
    }

    /// Writes what waits in memory to the file.
    pub fn flush(&self) {
        if let Some(trace) = &self.0 {
            lock(&trace.writing).flush();
        }
    }
}

/// Bytes of the recordings beside a trace.
fn recorded_beside(path: &Path) -> io::Result<u64> {
    let (Some(folder), Some(stem)) = (path.parent(), path.file_stem().and_then(OsStr::to_str)) else { return Ok(0) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(stem)?.strip_prefix('.'));
        if rest.is_some_and(|rest| rest.ends_with(".inputs")) {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

impl Drop for TraceFile {
    fn drop(&mut self) {
        lock(&self.writing).flush();
    }
}

impl Writing {
    fn flush_if_long(&mut self) {
        if self.lines.len() + self.inputs.as_ref().map_or(0, Recorder::unwritten) > UNWRITTEN_MAX {
            self.flush();
        }
    }

    /// Inputs first: there is no line without the inputs that it came of. A file that can't be written ends there.
    fn flush(&mut self) {
        let recorded = self.inputs.as_mut().map_or(Ok(()), Recorder::flush);
        let lines = std::mem::take(&mut self.lines);
        if !self.failed && recorded.is_ok() && !lines.is_empty() {
            let written = self.file.write_all(&lines);
            self.report(written);
        }
        self.report(recorded);
        self.lines = lines;
        self.lines.clear();
    }

    /// A trace that can't be written harms no user: said once, and the process goes on.
    fn report(&mut self, written: io::Result<()>) {
        if let Err(error) = written
            && !self.failed
        {
            (self.failed, self.inputs) = (true, None);
            tracing::error!(%error, "the trace is incomplete: it can't be written");
        }
    }
}

fn flush_periodically(trace: &Weak<TraceFile>) {
    loop {
        std::thread::sleep(FLUSH_EVERY);
        match trace.upgrade() {
            Some(trace) => lock(&trace.writing).flush(),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_protocol::{Lsn, VolumeEpoch, VolumeId, WriterId};

    #[test]
    fn lines_reach_the_file_without_a_stop_and_read_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("trace.jsonl");
        let trace = Trace::to_file("storage-a1", &path).expect("opened");
        let note = Note::Durable { volume: VolumeId(1), volume_epoch: VolumeEpoch::new(2, WriterId(2)), vdl: Lsn(3) };
        trace.note(Micros(7), &note);
        trace.note(Micros(8), &note);
        std::thread::sleep(FLUSH_EVERY * 3);
        let text = std::fs::read_to_string(&path).expect("readable");
        let lines: Vec<TraceLine> = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
        let line = |sequence, at| TraceLine { node: "storage-a1".into(), sequence, at: Micros(at), note: note.clone() };
        assert_eq!(lines, [line(1, 7), line(2, 8)]);
    }

    #[test]
    fn recordings_beside_one_trace_share_their_limit() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a1.jsonl");
        let beside = |name: &str| std::fs::write(dir.path().join(name), [0; 100]).expect("written");
        ["a1.1.1.inputs", "a1.2.2.inputs", "a1.jsonl", "a11.1.1.inputs", "b1.1.1.inputs"].into_iter().for_each(beside);
        assert_eq!(recorded_beside(&path).expect("readable"), 200);
        assert_eq!(recorded_beside(Path::new("never-written.jsonl")).expect("readable"), 0);
    }
}
