//! Replay: runs each recorded life of a segment again, through the state machine as it is meant, and compares the notes
//! that come out with those in the trace.
//!
//! Found so: whatever makes a segment say other things than its inputs allow, or at another time. An acknowledgement
//! before its append was durable is found without a crash, which the observer needs to see it. Not found so: what a
//! segment *asked for* (messages, appends, tasks), as far as no note tells of it, such as a refusal where it could have
//! served; and anything of writers, whose inputs are not recorded.

use super::reading::{Process, TraceError};
use super::{Broken, segment_of};
use crate::recording::{Happened, Recorded, read};
use crate::trace::TraceLine;
use auriga_protocol::segment::Request;
use auriga_protocol::{Effect, Effects, Input, Machine, Micros, Note, Segment, SegmentId, Token};
use auriga_store::Delta;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// What was run again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Replayed {
    pub lives: u64,
    pub inputs: u64,
}

/// A line, and how far its process was heard.
struct Said<'a> {
    line: &'a TraceLine,
    heard_until: Micros,
}

/// One life: from a boot to before the next.
struct Life {
    segment: SegmentId,
    begins: Micros,
    ends: Micros,
    happened: Vec<Recorded>,
}

pub(super) fn replay(
    recordings: &[impl AsRef<Path>],
    processes: &[Process],
    broken: &mut Vec<Broken>,
) -> Result<Replayed, TraceError> {
    let mut recorded = Vec::new();
    for path in recordings {
        let path = path.as_ref();
        recorded.extend(read(path).map_err(|error| TraceError::Unreadable { path: path.to_owned(), error })?);
    }
    let mut traced: BTreeMap<SegmentId, Vec<Said>> = BTreeMap::new();
    for process in processes {
        let heard_until = process.lines.last().map(|line| line.at).unwrap_or_default();
        for line in &process.lines {
            if let Some(segment) = segment_of(&line.note) {
                traced.entry(segment).or_default().push(Said { line, heard_until });
            }
        }
    }
    let mut replayed = Replayed::default();
    for life in lives(recorded) {
        replayed.lives += 1;
        replayed.inputs += life.happened.len() as u64 - 1;
        let said = traced.get(&life.segment).into_iter().flatten();
        let said: Vec<_> = said.filter(|said| life.begins <= said.line.at && said.line.at < life.ends).collect();
        broken.extend(compare(&life, &said));
    }
    Ok(replayed)
}

/// Inputs by life. Those of one segment are in the order in which it took them.
fn lives(recorded: Vec<Recorded>) -> Vec<Life> {
    let mut by_segment: BTreeMap<SegmentId, Vec<Life>> = BTreeMap::new();
    for one in recorded {
        let lives = by_segment.entry(one.segment).or_default();
        if let Happened::Booted(..) = one.what {
            let (segment, begins, ends) = (one.segment, one.at, Micros(u64::MAX));
            lives.push(Life { segment, begins, ends, happened: Vec::new() });
        }
        if let Some(life) = lives.last_mut() {
            life.happened.push(one);
        }
    }
    for lives in by_segment.values_mut() {
        lives.sort_by_key(|life| life.begins);
        let begins: Vec<_> = lives.iter().skip(1).map(|life| life.begins).collect();
        lives.iter_mut().zip(begins).for_each(|(life, next)| life.ends = next);
    }
    by_segment.into_values().flatten().collect()
}

/// A kill may have taken the end of either side; as far as both go they must agree.
fn compare(life: &Life, said: &[&Said]) -> Option<Broken> {
    let mut machine = None;
    let mut next = 0;
    for one in &life.happened {
        let notes = match catch_unwind(AssertUnwindSafe(|| step(&mut machine, one))) {
            Ok(notes) => notes,
            Err(_) => vec![Err("an assertion of the state machine fails".to_owned())],
        };
        for must in notes {
            let (line, found) = match (said.get(next), said.last()) {
                (Some(said), _) if must.as_ref() == Ok(&said.line.note) => {
                    next += 1;
                    continue;
                }
                (Some(said), _) => (said.line, format!("{:?}", said.line.note)),
                // Its process went on to speak of later things, so it did not say this one.
                (None, Some(last)) if one.at < last.heard_until => (last.line, "nothing more".to_owned()),
                _ => return None,
            };
            let must = must.map_or_else(|why| why, |note| format!("it must say {note:?}"));
            let what = format!("{} said {found}; after {} {must}", life.segment, name_of(&one.what));
            let (rule, node) = ("replay".to_owned(), line.node.clone());
            return Some(Broken { rule, what, node, sequence: line.sequence, at: line.at.0 });
        }
    }
    None
}

fn step(machine: &mut Option<Segment<Delta>>, recorded: &Recorded) -> Vec<Result<Note, String>> {
    let mut effects = Effects::default();
    let input = match recorded.what.clone() {
        Happened::Booted(config, survived) => {
            *machine = Some(Segment::boot(&config, recorded.segment, survived, recorded.at, &mut effects));
            None
        }
        Happened::Message(from, message) => Some(Input::Message { from, message }),
        Happened::Timer(timer) => Some(Input::Timer(timer)),
        Happened::Durable(append) => Some(Input::Durable(append)),
        Happened::Done(outcome) => Some(Input::Done(outcome)),
        Happened::CoalesceNow => Some(Input::Request { token: Token(0), request: Request::CoalesceNow }),
    };
    if let (Some(machine), Some(input)) = (machine, input) {
        machine.step(recorded.at, input, &mut effects);
    }
    let notes = effects.drain().filter_map(|effect| match effect {
        Effect::Note(note) => Some(Ok(note)),
        _ => None,
    });
    notes.collect()
}

fn name_of(happened: &Happened) -> String {
    match happened {
        Happened::Booted(..) => "its boot".to_owned(),
        Happened::Message(from, message) => format!("{} of {from}", message.name()),
        Happened::Timer(timer) => format!("its timer {timer:?}"),
        Happened::Durable(append) => format!("append {} was durable", append.0),
        Happened::Done(_) => "a task's end".to_owned(),
        Happened::CoalesceNow => "a request to coalesce".to_owned(),
    }
}
