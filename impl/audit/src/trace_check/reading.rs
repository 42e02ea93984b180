//! Trace files to processes: splits a file where a process was started again, and tells a torn line from a broken file.

use crate::trace::TraceLine;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Why a trace can't be judged.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A file or folder can't be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// There is no trace file.
    #[error("{0}: no trace files (*.jsonl)")]
    Empty(PathBuf),
    /// A line is no trace line, and no kill explains it.
    #[error("{path}, line {line}: {why}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// The lines of one process, in its order.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub lines: Vec<TraceLine>,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub files: usize,
    pub torn: usize,
    pub processes: Vec<Process>,
    /// Recordings of inputs.
    pub recordings: Vec<PathBuf>,
}

pub(super) fn read_folder(folder: &Path) -> Result<Folder, TraceError> {
    let mut paths = Vec::new();
    find(folder, &mut paths)?;
    paths.sort();
    let is_recording = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "inputs");
    let (recordings, paths): (Vec<_>, Vec<_>) = paths.into_iter().partition(is_recording);
    let mut read = Folder { files: paths.len(), recordings, ..Folder::default() };
    for path in &paths {
        read_file(path, &mut read)?;
    }
    if paths.is_empty() { Err(TraceError::Empty(folder.to_owned())) } else { Ok(read) }
}

fn find(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), TraceError> {
    let unreadable = |error| TraceError::Unreadable { path: folder.to_owned(), error };
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            find(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "jsonl" || extension == "inputs") {
            paths.push(path);
        }
    }
    Ok(())
}

fn read_file(path: &Path, read: &mut Folder) -> Result<(), TraceError> {
    let unreadable = |error| TraceError::Unreadable { path: path.to_owned(), error };
    let mut file = BufReader::with_capacity(1 << 20, fs::File::open(path).map_err(unreadable)?);
    let mut process = Process::default();
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if file.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
            break;
        }
        let malformed = |why: String| TraceError::Malformed { path: path.to_owned(), line: number, why };
        let (line, torn) = parse(&bytes).map_err(malformed)?;
        read.torn += usize::from(torn);
        let Some(line) = line else { continue };
        let expected = process.lines.last().map_or(1, |last| last.sequence + 1);
        if line.sequence == 1 && expected != 1 {
            read.processes.push(std::mem::take(&mut process));
        } else if line.sequence != expected {
            return Err(malformed(format!("number {} follows {}", line.sequence, expected - 1)));
        }
        process.lines.push(line);
    }
    if !process.lines.is_empty() {
        read.processes.push(process);
    }
    Ok(())
}

/// A line, and whether a torn one precedes or is it: a kill cuts the last line off anywhere, and the next process of
/// the same name goes on right there. That one begins with number 1, or the tear is no kill's.
fn parse(bytes: &[u8]) -> Result<(Option<TraceLine>, bool), String> {
    let whole = bytes.ends_with(b"\n");
    let error = match serde_json::from_slice::<TraceLine>(bytes) {
        Ok(line) => return Ok((Some(line), false)),
        Err(error) => error,
    };
    let begins = |at: &usize| bytes[*at..].starts_with(b"{\"node\":");
    let later = (1..bytes.len()).rev().find(begins).map(|at| serde_json::from_slice::<TraceLine>(&bytes[at..]));
    match later {
        Some(Ok(line)) if line.sequence == 1 => Ok((Some(line), true)),
        _ if !whole => Ok((None, true)),
        _ => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_protocol::{Lsn, Micros, Note, VolumeEpoch, VolumeId, WriterId};

    fn line(sequence: u64) -> String {
        let note =
            Note::Durable { volume: VolumeId(1), volume_epoch: VolumeEpoch::new(1, WriterId(1)), vdl: Lsn(sequence) };
        let line = TraceLine { node: "n".into(), sequence, at: Micros(sequence), note };
        serde_json::to_string(&line).expect("a line")
    }

    fn read(text: &str) -> Result<Folder, TraceError> {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("n.jsonl"), text).expect("written");
        read_folder(folder.path())
    }

    fn sequences(folder: &Folder) -> Vec<Vec<u64>> {
        folder.processes.iter().map(|process| process.lines.iter().map(|line| line.sequence).collect()).collect()
    }

    #[test]
    fn a_kill_may_tear_the_last_line_anywhere() {
        let second = line(2);
        for cut in 0..second.len() {
            let folder = read(&format!("{}\n{}", line(1), &second[..cut])).expect("readable");
            assert_eq!(sequences(&folder), [[1]], "cut at {cut}");
            let folder = read(&format!("{}\n{}{}\n{}\n", line(1), &second[..cut], line(1), line(2))).expect("readable");
            assert_eq!(sequences(&folder), [vec![1], vec![1, 2]], "cut at {cut}");
        }
    }

    #[test]
    fn a_gap_or_garbage_is_no_kill() {
        assert!(matches!(read(&format!("{}\n{}\n", line(1), line(3))), Err(TraceError::Malformed { line: 2, .. })));
        assert!(matches!(read(&format!("{}\n??\n{}\n", line(1), line(2))), Err(TraceError::Malformed { line: 2, .. })));
        assert!(matches!(read_folder(Path::new("/nonexistent")), Err(TraceError::Unreadable { .. })));
        let empty = tempfile::tempdir().expect("a folder");
        assert!(matches!(read_folder(empty.path()), Err(TraceError::Empty(_))));
    }
}
