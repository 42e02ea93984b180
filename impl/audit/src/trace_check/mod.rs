//! The trace check: judges a run of the real cluster by the same observer that judges the model and the simulation.
//!
//! Every process of a run writes its notes to a file (`trace.rs`). This reads the files of a folder, puts all lines in
//! one order, and feeds them to [`Observer`]. What it finds broken it reports by rule number.
//!
//! **The order.** A line's time is when the step that caused it began, on a clock that all processes of the host share.
//! A message is sent after its step began and received before the next one begins, so the order of times respects every
//! message; within one machine it is the order of steps.
//!
//! **What was lost.** [`Coverage`] says whether anything can be. A trace by `trace.rs` lacks nothing that anybody else can
//! have seen, whatever was killed: then a line that is missing was never said. Traces by other means (the simulation's, in
//! tests), or of a host that lost its power, may lack the last lines of each process. The observer is told where they end,
//! and takes no missing line for evidence. So a correct run is never refused; a broken one is refused when what
//! was written down shows it. A gap inside a process's numbers is no kill: then the trace itself is broken, and that is
//! said.
//!
//! **Replay.** Where the inputs of machines were recorded as well (`recording.rs`), each life of a segment or writer is run
//! again through its state machine as it is meant, and must say and do the same (`replay/`).
//!
//! It judges facts, not speed, and knows nothing of the machines' insides. Next: `reading.rs` (files to lines).

mod reading;
mod replay;

use auriga_protocol::membership::MembershipNote;
use auriga_protocol::observer::Observer;
use auriga_protocol::observer::hindsight::Hindsight;
use auriga_protocol::{Lsn, Note, QuorumSet, SegmentId, VolumeEpoch, VolumeId};
use reading::Process;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use reading::TraceError;

/// Violations that a report lists; further ones are only counted.
pub const LISTED_MAX: usize = 20;

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Broken {
    /// Its number in `specs/rules.md`; `replay` where no one rule is about what differs.
    pub rule: String,
    /// What was seen.
    pub what: String,
    /// Whose line showed it.
    pub node: String,
    /// That line's number within its process.
    pub sequence: u64,
    /// That line's time, microseconds.
    pub at: u64,
    /// Whether replay showed it, and not the observer.
    pub by_replay: bool,
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Report {
    /// Files read.
    pub files: usize,
    /// Processes whose lines were found; a file holds several when its process was started again.
    pub processes: usize,
    /// Lines judged.
    pub lines: u64,
    /// Lines that were torn by a kill.
    pub torn: usize,
    /// How many of each note.
    pub notes: BTreeMap<&'static str, u64>,
    /// Writers that opened.
    pub recoveries: usize,
    /// Lives of segments that were run again from their recorded inputs.
    pub replayed_segments: u64,
    /// Lives of writers, the same.
    pub replayed_writers: u64,
    /// Those inputs.
    pub replayed_inputs: u64,
    /// Recordings that had reached their limit; what came later was not run again.
    pub recordings_full: u64,
    /// Rules broken in all.
    pub broken_count: u64,
    /// The first of them.
    pub broken: Vec<Broken>,
}

impl Report {
    /// Whether every rule held.
    pub fn holds(&self) -> bool {
        self.broken_count == 0
    }

    /// For people: a few lines.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{} lines of {} processes in {} files ({} torn by kills), {} recoveries\n",
            self.lines, self.processes, self.files, self.torn, self.recoveries
        );
        let notes: Vec<_> = self.notes.iter().map(|(name, count)| format!("{name} {count}")).collect();
        text += &format!("  {}\n", notes.join(", "));
        if self.replayed_segments + self.replayed_writers > 0 {
            let differ = self.broken.iter().filter(|broken| broken.by_replay).count();
            text += &format!(
                "  replay: {} inputs of {} segment incarnations and {} writers through the state machines: {}\n",
                self.replayed_inputs,
                self.replayed_segments,
                self.replayed_writers,
                if differ == 0 { "all alike".to_owned() } else { format!("{differ} differ") }
            );
        }
        if self.recordings_full > 0 {
            text += &format!("  {} recordings ended at their limit; the rest was not replayed\n", self.recordings_full);
        }
        for broken in &self.broken {
            let Broken { rule, what, node, sequence, at, .. } = broken;
            text += &format!("BROKEN {rule}: {what}\n  ({node}, line {sequence}, at {at} us)\n");
        }
        let verdict = if self.holds() { "every rule held".to_owned() } else { format!("{} broken", self.broken_count) };
        text + &verdict + "\n"
    }
}

/// How much of what was said is in a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coverage {
    /// All that anybody else can have seen: `trace.rs` wrote it, on a host that stayed up, and no process has logged that
    /// it could not.
    Complete,
    /// Perhaps not the last lines of each process.
    Interrupted,
}

/// Checks every trace file (`*.jsonl`) in `folder` and the folders in it.
///
/// # Errors
/// When a file can't be read, or is no trace; not when a rule is broken.
pub fn check_folder(folder: &Path, coverage: Coverage) -> Result<Report, TraceError> {
    let read = reading::read_folder(folder)?;
    let mut report = check(&read.processes, coverage);
    (report.files, report.torn) = (read.files, read.torn);
    let mut differ = Vec::new();
    let replayed = replay::replay(&read.recordings, &read.processes, &mut differ)?;
    (report.replayed_segments, report.replayed_writers) = (replayed.segments, replayed.writers);
    (report.replayed_inputs, report.recordings_full) = (replayed.inputs, replayed.full);
    report.broken_count += differ.len() as u64;
    report.broken.extend(differ.into_iter().take(LISTED_MAX));
    Ok(report)
}

/// One thing that happened, for the merge.
enum Happening<'a> {
    Line { process: &'a Process, index: usize },
    Silence { process: &'a Process },
}

/// Judges the lines of a run's processes. Those of one process are in its order.
fn check(processes: &[Process], coverage: Coverage) -> Report {
    let mut report = Report { processes: processes.len(), ..Report::default() };
    let (mut observer, mut hindsight) = (Observer::new(QuorumSet::aurora()), Hindsight::default());
    let mut happenings = Vec::new();
    for process in processes {
        for (index, line) in process.lines.iter().enumerate() {
            happenings.push((line.at.0, writes_volume(&line.note), line.sequence, Happening::Line { process, index }));
        }
        if let (Some(last), Coverage::Interrupted) = (process.lines.last(), coverage) {
            happenings.push((last.at.0, true, u64::MAX, Happening::Silence { process }));
        }
    }
    // At one time, segments first: what they acknowledge is what a writer calls durable.
    happenings.sort_by_key(|(at, writer, sequence, _)| (*at, *writer, *sequence));
    if coverage == Coverage::Interrupted {
        let recoveries = unheard_recoveries(processes).into_iter();
        recoveries.for_each(|(volume, volume_epoch, vdl)| observer.perhaps_opened(volume, volume_epoch, vdl));
        members(processes).into_iter().for_each(|segment| observer.lose_track_of_segment(segment));
    }
    for (_, _, _, happening) in happenings {
        match happening {
            Happening::Silence { process } => {
                lose_track(&mut observer, process);
                hindsight.lose_track();
            }
            Happening::Line { process, index } => {
                let line = &process.lines[index];
                report.lines += 1;
                *report.notes.entry(name_of(&line.note)).or_default() += 1;
                report.recoveries += usize::from(matches!(line.note, Note::Opened { .. }));
                if let Err(violation) = observer.observe(&line.note).and(hindsight.observe(&line.note)) {
                    report.broken_count += 1;
                    if report.broken.len() < LISTED_MAX {
                        let (node, sequence, at) = (line.node.clone(), line.sequence, line.at.0);
                        let rule = violation.rule.to_owned();
                        report.broken.push(Broken { rule, what: violation.what, node, sequence, at, by_replay: false });
                    }
                }
            }
        }
    }
    report
}

/// All members of the groups of this run. Each is in doubt until its first line: its process may have been started
/// and killed before it wrote a line.
fn members(processes: &[Process]) -> BTreeSet<SegmentId> {
    let lines = processes.iter().flat_map(|process| &process.lines);
    let heard: BTreeSet<SegmentId> = lines.filter_map(|line| segment_of(&line.note)).collect();
    let copies = QuorumSet::aurora().members();
    heard.iter().flat_map(|segment| copies.iter().map(move |member| SegmentId { member, ..*segment })).collect()
}

/// Recoveries that some segment installed and that no line says to have opened.
fn unheard_recoveries(processes: &[Process]) -> BTreeSet<(VolumeId, VolumeEpoch, Lsn)> {
    let notes = || processes.iter().flat_map(|process| process.lines.iter().map(|line| &line.note));
    let opened: BTreeSet<_> = notes()
        .filter_map(|note| match note {
            Note::Opened { volume, volume_epoch, .. } => Some((*volume, *volume_epoch)),
            _ => None,
        })
        .collect();
    notes()
        .filter_map(|note| match note {
            Note::Installed { segment, volume_epoch, truncations } => {
                let range = truncations.ranges().last().filter(|range| range.volume_epoch == *volume_epoch)?;
                Some((segment.volume, *volume_epoch, range.above))
            }
            _ => None,
        })
        .filter(|(volume, volume_epoch, _)| !opened.contains(&(*volume, *volume_epoch)))
        .collect()
}

/// A process's lines end here: what it may have said later was not heard.
fn lose_track(observer: &mut Observer, process: &Process) {
    let mut segments = BTreeSet::new();
    let mut writers = BTreeMap::new();
    for line in &process.lines {
        match &line.note {
            Note::Opened { volume, volume_epoch, .. }
            | Note::Durable { volume, volume_epoch, .. }
            | Note::Allocated { volume, volume_epoch, .. } => {
                writers.insert((*volume, *volume_epoch), false);
            }
            Note::Fenced { volume, volume_epoch, .. } => {
                writers.insert((*volume, *volume_epoch), true);
            }
            other => segments.extend(segment_of(other)),
        }
    }
    segments.into_iter().for_each(|segment| observer.lose_track_of_segment(segment));
    // A fenced writer says nothing more.
    for ((volume, volume_epoch), _) in writers.into_iter().filter(|(_, fenced)| !fenced) {
        observer.lose_track_of_writer(volume, volume_epoch);
    }
}

fn segment_of(note: &Note) -> Option<SegmentId> {
    match note {
        Note::Sealed { segment, .. }
        | Note::Installed { segment, .. }
        | Note::Acknowledged { segment, .. }
        | Note::Served { segment, .. }
        | Note::Collected { segment, .. }
        | Note::Learnt { segment, .. }
        | Note::WentBack { segment, .. }
        | Note::LossAccepted { segment, .. }
        | Note::Implausible { segment, .. }
        | Note::Contradicted { segment, .. }
        | Note::Membership(MembershipNote::Left { segment })
        | Note::Rejoined { segment, .. } => Some(*segment),
        _ => None,
    }
}

fn writer_of(note: &Note) -> Option<(VolumeId, VolumeEpoch)> {
    match note {
        Note::Allocated { volume, volume_epoch, .. }
        | Note::Opened { volume, volume_epoch, .. }
        | Note::Durable { volume, volume_epoch, .. }
        | Note::Read { volume, volume_epoch, .. }
        | Note::Membership(MembershipNote::Changed { volume, volume_epoch, .. })
        | Note::Fenced { volume, volume_epoch, .. } => Some((*volume, *volume_epoch)),
        _ => None,
    }
}

fn writes_volume(note: &Note) -> bool {
    segment_of(note).is_none() && !matches!(note, Note::Global(_) | Note::Membership(_))
}

fn name_of(note: &Note) -> &'static str {
    match note {
        Note::Sealed { .. } => "Sealed",
        Note::Installed { .. } => "Installed",
        Note::Acknowledged { .. } => "Acknowledged",
        Note::Served { .. } => "Served",
        Note::Collected { .. } => "Collected",
        Note::Learnt { .. } => "Learnt",
        Note::Rejoined { .. } => "Rejoined",
        Note::WentBack { .. } => "WentBack",
        Note::LossAccepted { .. } => "LossAccepted",
        Note::Allocated { .. } => "Allocated",
        Note::Opened { .. } => "Opened",
        Note::Durable { .. } => "Durable",
        Note::Read { .. } => "Read",
        Note::ReadPoint { .. } => "ReadPoint",
        Note::Fenced { .. } => "Fenced",
        Note::Implausible { .. } => "Implausible",
        Note::Contradicted { .. } => "Contradicted",
        Note::Global(_) => "Global",
        Note::Membership(_) => "Membership",
    }
}
