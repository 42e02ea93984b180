//! The trace check from the command line, and the simulation's runs as traces to prove it on.
//!
//! The checker itself is `auriga_audit::trace_check`: `auriga demo --tour` runs it too, and nothing may depend on
//! this crate (`specs/decisions/0040-the-trace-check-lives-in-impl.md`).

use crate::sim::Told;
use auriga_audit::trace::TraceLine;
use auriga_protocol::{Micros, Party};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

fn writer_of(from: Party) -> Option<u64> {
    match from {
        Party::Writer(_, id) => Some(id.0),
        Party::Segment(_) | Party::Reader(..) => None,
    }
}

/// Writes a simulated run as the processes of a real cluster would have: one file for each node, and of a process that
/// was killed the last `lost` virtual microseconds are missing.
///
/// # Errors
/// When a file can't be written.
pub fn write_simulated(folder: &Path, notes: &[Told], lost: u64) -> io::Result<()> {
    let mut processes: BTreeMap<(String, u32), Vec<&Told>> = BTreeMap::new();
    for told in notes {
        let node = match told.from {
            Party::Segment(id) => format!("storage-{}-{}", id.pg, id.member),
            Party::Writer(_, id) => format!("writer-{id}"),
            Party::Reader(_, id) => format!("reader-{id}"),
        };
        processes.entry((node, told.life)).or_default().push(told);
    }
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let newest = notes.iter().filter_map(|told| writer_of(told.from)).max();
    let last_lives: BTreeMap<String, u32> = processes.keys().map(|(node, life)| (node.clone(), *life)).collect();
    for ((node, life), lines) in processes {
        // The last life of a segment, and the last writer, end in good order.
        let of_writer = lines.first().and_then(|told| writer_of(told.from));
        let killed = of_writer.map_or(last_lives[&node] > life, |_| of_writer < newest);
        let heard_until = lines.last().map_or(0, |last| last.now).saturating_sub(lost);
        let heard = lines.into_iter().filter(|told| !killed || lost == 0 || told.now < heard_until);
        let file = files.entry(node.clone()).or_default();
        for (index, told) in heard.enumerate() {
            let (sequence, at) = (index as u64 + 1, Micros(told.step));
            let line = TraceLine { node: node.clone(), sequence, at, note: told.note.clone() };
            let _ = writeln!(file, "{}", serde_json::to_string(&line)?);
        }
    }
    for (node, text) in files {
        std::fs::write(folder.join(format!("{node}.jsonl")), text)?;
    }
    Ok(())
}
