//! Replay: runs each recorded life of a machine again, through the state machine as it is meant, and compares all that
//! comes of it: the notes with those in the trace, everything else with its digests in the recording.
//!
//! A life is what one process did with one machine, from its boot to its end or to SIGKILL. A segment's next life begins
//! from what its disk had, which is part of the recording; whether the disk had what it should is the observer's to judge.
//!
//! Found so: whatever makes a machine say or do other things than its inputs allow, or at another time. An
//! acknowledgement before its append was durable is found without a crash, which the observer needs to see it. Not found
//! so: a wrong input, such as a page that the store changed.
//!
//! Here: files to lives, and to the lines of each. Next: `life.rs`.

mod life;
mod rules;

use super::reading::{Process, TraceError};
use super::{Broken, segment_of, writer_of};
use crate::recording::{Frames, Happened, Recorded, RecordingFrame};
use crate::trace::TraceLine;
use auriga_protocol::{Micros, Note, Party, SegmentId, VolumeEpoch, VolumeId};
use life::{Difference, Life};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What was run again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Replayed {
    pub segments: u64,
    pub writers: u64,
    pub inputs: u64,
    /// Recordings that had reached their limit.
    pub full: u64,
}

/// A line, and how far its process was heard.
#[derive(Clone, Copy)]
struct Said<'a> {
    line: &'a TraceLine,
    heard_until: Micros,
}

/// How lines name a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Segment(SegmentId),
    Writer(VolumeId, VolumeEpoch),
}

fn name_in(note: &Note) -> Option<Name> {
    let writer = || writer_of(note).map(|(volume, volume_epoch)| Name::Writer(volume, volume_epoch));
    segment_of(note).map(Name::Segment).or_else(writer)
}

/// What all processes said, by node and machine, and when each segment was booted.
#[derive(Default)]
struct Heard<'a> {
    said: BTreeMap<&'a str, BTreeMap<Name, Vec<Said<'a>>>>,
    boots: BTreeMap<SegmentId, Vec<Micros>>,
}

impl<'a> Heard<'a> {
    fn of(processes: &'a [Process]) -> Heard<'a> {
        let mut heard = Heard::default();
        for process in processes {
            let heard_until = process.lines.last().map(|line| line.at).unwrap_or_default();
            for line in &process.lines {
                if let Some(name) = name_in(&line.note) {
                    let of_node = heard.said.entry(&line.node).or_default();
                    of_node.entry(name).or_default().push(Said { line, heard_until });
                }
            }
        }
        heard
    }

    /// What the machine of that name said in its life that began then.
    fn said(&self, node: &str, name: Name, begins: Micros) -> &[Said<'a>] {
        let said = self.said.get(node).and_then(|of_node| of_node.get(&name)).map_or(&[][..], Vec::as_slice);
        let boots = match name {
            Name::Segment(segment) => self.boots.get(&segment).map_or(&[][..], Vec::as_slice),
            Name::Writer(..) => &[],
        };
        let ends = boots.get(boots.partition_point(|boot| *boot <= begins)).copied();
        let before = |at: Micros| said.partition_point(|said| said.line.at < at);
        &said[before(begins)..ends.map_or(said.len(), before)]
    }
}

pub(super) fn replay(
    recordings: &[PathBuf],
    processes: &[Process],
    broken: &mut Vec<Broken>,
) -> Result<Replayed, TraceError> {
    let mut heard = Heard::of(processes);
    for path in recordings {
        for frame in frames(path)? {
            if let RecordingFrame::Recorded(Recorded { at, machine: Party::Segment(segment), what }) = frame
                && matches!(what, Happened::SegmentBooted(..))
            {
                heard.boots.entry(segment).or_default().push(at);
            }
        }
    }
    heard.boots.values_mut().for_each(|boots| boots.sort_unstable());
    let mut replayed = Replayed::default();
    for path in recordings {
        run(frames(path)?, &heard, &mut replayed, broken);
    }
    Ok(replayed)
}

fn frames(path: &Path) -> Result<Frames, TraceError> {
    Frames::open(path).map_err(|error| TraceError::Unreadable { path: path.to_owned(), error })
}

/// One recording. A life that differs is followed no further.
fn run(frames: Frames, heard: &Heard, replayed: &mut Replayed, broken: &mut Vec<Broken>) {
    let (mut node, mut full) = (String::new(), false);
    let mut lives: BTreeMap<Party, Option<Life>> = BTreeMap::new();
    let mut report = |node: &str, difference: Difference| {
        let Difference { rule, what, line, at } = difference;
        let (node, sequence) = (node.to_owned(), line.map_or(0, |line| line.sequence));
        broken.push(Broken { rule, what, node, sequence, at: at.0, by_replay: true });
    };
    for frame in frames {
        let recorded = match frame {
            RecordingFrame::Node(name) => {
                node = name;
                continue;
            }
            RecordingFrame::Full => {
                (full, replayed.full) = (true, replayed.full + 1);
                break;
            }
            RecordingFrame::Recorded(recorded) => recorded,
        };
        let machine = recorded.machine;
        let begun = Life::begin(&node, &recorded, heard);
        match &recorded.what {
            Happened::SegmentBooted(..) => replayed.segments += 1,
            Happened::WriterBooted(_) => replayed.writers += 1,
            Happened::Gave(_) => {}
            _ => replayed.inputs += 1,
        }
        if let Some(begun) = begun {
            let before = lives.insert(machine, Some(begun)).flatten();
            before.and_then(|before| before.end()).into_iter().for_each(|difference| report(&node, difference));
        }
        if let Some(life) = lives.get_mut(&machine)
            && let Some(difference) = life.as_mut().and_then(|life| life.take(recorded).err())
        {
            *life = None;
            report(&node, difference);
        }
    }
    let left = lives.into_values().flatten().filter(|_| !full);
    left.filter_map(Life::end).for_each(|difference| report(&node, difference));
}
