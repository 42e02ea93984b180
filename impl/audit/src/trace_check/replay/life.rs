//! One life of a machine, run again.

use super::{Heard, Name, Said, name_in, rules};
use crate::recording::{Happened, Output, Recorded, outputs};
use crate::trace::TraceLine;
use auriga_page::Delta;
use auriga_protocol::{Effect, Effects, Input, Machine, Micros, Note, Party, Segment, Token, Writer};
use auriga_protocol::{segment, writer};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A process that has written for so long after a step, and no note of that step, did not say what it should have.
const SILENT_FOR: Micros = Micros(1_000_000);

/// Where a life and its replay part.
pub(super) struct Difference<'a> {
    pub rule: String,
    pub what: String,
    pub line: Option<&'a TraceLine>,
    pub at: Micros,
}

enum Running {
    /// Not booted yet: the boot is the first thing that a life takes.
    Unborn,
    Segment(Box<Segment<Delta>>),
    Writer(Box<Writer<Delta>>),
}

pub(super) struct Life<'h, 'a> {
    heard: &'h Heard<'a>,
    node: String,
    machine: Party,
    begins: Micros,
    running: Running,
    /// Its lines; a writer's are known by its volume epoch, from its first note on.
    said: Option<&'h [Said<'a>]>,
    /// How many of them it had to say so far.
    matched: usize,
    /// What came of its inputs since the last that the recording holds.
    outputs: Vec<Output>,
    last_input: String,
}

impl<'h, 'a> Life<'h, 'a> {
    /// The life that begins with this boot, if it is one.
    pub fn begin(node: &str, recorded: &Recorded, heard: &'h Heard<'a>) -> Option<Life<'h, 'a>> {
        let Recorded { at: begins, machine, what } = recorded;
        let said = match (machine, what) {
            (Party::Segment(segment), Happened::SegmentBooted(..)) => {
                Some(heard.said(node, Name::Segment(*segment), *begins))
            }
            (Party::Writer(..), Happened::WriterBooted(_)) => None,
            _ => return None,
        };
        let (running, outputs) = (Running::Unborn, Vec::new());
        let (node, last_input) = (node.to_owned(), String::new());
        let (machine, begins, matched) = (*machine, *begins, 0);
        Some(Life { heard, node, machine, begins, running, said, matched, outputs, last_input })
    }

    /// The next thing in its recording.
    pub fn take(&mut self, recorded: Recorded) -> Result<(), Difference<'a>> {
        let at = recorded.at;
        let what = match recorded.what {
            Happened::Gave(given) => return self.must_have_given(at, &given),
            what => what,
        };
        self.nothing_more_before(at)?;
        self.last_input = name_of(&what);
        let is_boot = matches!(what, Happened::SegmentBooted(..) | Happened::WriterBooted(_));
        let (running, machine) = (&mut self.running, self.machine);
        let stepped = catch_unwind(AssertUnwindSafe(|| running.step(machine, at, what)));
        let (notes, outputs) = match stepped {
            Ok(Some(stepped)) => stepped,
            Ok(None) => {
                return Err(self.differs("replay", "a machine of this kind has no such input".into(), None, at));
            }
            Err(panic) => {
                let said = panic_text(&*panic);
                let rule = said.split(' ').next().filter(|word| word.starts_with("R-")).unwrap_or("replay");
                return Err(self.differs(rule, format!("an assertion of the state machine fails: {said}"), None, at));
            }
        };
        self.outputs.extend(outputs);
        // A boot's notes leave with the first step.
        notes.into_iter().try_for_each(|note| self.must_say(&note, at, !is_boot))
    }

    /// Its recording ends here.
    pub fn end(self) -> Option<Difference<'a>> {
        self.nothing_more_before(Micros(u64::MAX)).err()
    }

    fn must_say(&mut self, note: &Note, at: Micros, then: bool) -> Result<(), Difference<'a>> {
        if self.said.is_none() {
            self.said = name_in(note).map(|name| self.heard.said(&self.node, name, self.begins));
        }
        let said = self.said.unwrap_or_default();
        let Some(next) = said.get(self.matched) else {
            // The end of what was heard is no evidence, unless its process went on to speak of much later things.
            let spoke_on = said.last().filter(|last| last.heard_until.0 > at.0 + SILENT_FOR.0);
            return spoke_on.map_or(Ok(()), |last| {
                let what = format!("it must say {note:?}, and said nothing more");
                Err(self.differs(rules::of_note(note), what, Some(last.line), at))
            });
        };
        let is_it = next.line.note == *note && (next.line.at == at || !then);
        if !is_it {
            let rule = if next.line.at == at { rules::of_note(&next.line.note) } else { rules::of_note(note) };
            let what = format!("it must say {note:?}, and next said {:?} at {}", next.line.note, next.line.at.0);
            return Err(self.differs(rule, what, Some(next.line), at));
        }
        self.matched += 1;
        Ok(())
    }

    /// Whatever it said before `at`, it had to say.
    fn nothing_more_before(&self, at: Micros) -> Result<(), Difference<'a>> {
        match self.said.unwrap_or_default().get(self.matched) {
            Some(next) if next.line.at < at => {
                let what = format!("it said {:?}, which it must not then", next.line.note);
                Err(self.differs(rules::of_note(&next.line.note), what, Some(next.line), next.line.at))
            }
            _ => Ok(()),
        }
    }

    fn must_have_given(&mut self, at: Micros, given: &[Output]) -> Result<(), Difference<'a>> {
        let must = std::mem::take(&mut self.outputs);
        let Some(first) = (0..must.len().max(given.len())).find(|index| must.get(*index) != given.get(*index)) else {
            return Ok(());
        };
        let names = |outputs: &[Output]| outputs.iter().map(|output| output.name.clone()).collect::<Vec<_>>().join(" ");
        let name = given.get(first).or(must.get(first)).map_or("", |output| output.name.as_str());
        let what = if names(given) == names(&must) {
            format!("it gave another {name} than it must (of: {})", names(given))
        } else {
            format!("it gave [{}], and must give [{}]", names(given), names(&must))
        };
        Err(self.differs(rules::of_output(name), what, None, at))
    }

    fn differs(&self, rule: &str, what: String, line: Option<&'a TraceLine>, at: Micros) -> Difference<'a> {
        let what = format!("replay: {}, after {}: {what}", self.machine, self.last_input);
        Difference { rule: rule.to_owned(), what, line, at }
    }
}

type Stepped = (Vec<Note>, Vec<Output>);

impl Running {
    /// Boots it, or gives it an input. None: it has no such input.
    fn step(&mut self, machine: Party, at: Micros, what: Happened) -> Option<Stepped> {
        match (&mut *self, machine, what) {
            (Running::Unborn, Party::Segment(id), Happened::SegmentBooted(config, survived)) => {
                let mut effects = Effects::default();
                *self = Running::Segment(Box::new(Segment::boot(&config, id, survived, at, &mut effects)));
                Some((notes(&effects), outputs(effects.as_slice())))
            }
            (Running::Unborn, Party::Writer(volume, writer), Happened::WriterBooted(config)) => {
                let (mut effects, id) = (Effects::default(), writer::WriterIdentity { volume, writer });
                *self = Running::Writer(Box::new(Writer::boot(&config, id, (), at, &mut effects)));
                Some((notes(&effects), outputs(effects.as_slice())))
            }
            (Running::Segment(segment), _, what) => {
                let mut effects = Effects::default();
                segment.step(at, segment_input(what)?, &mut effects);
                Some((notes(&effects), outputs(effects.as_slice())))
            }
            (Running::Writer(writer), _, Happened::Submit(changes)) => {
                let mut effects = Effects::default();
                let _refused_or_not = writer.submit(changes, &mut effects);
                Some((notes(&effects), outputs(effects.as_slice())))
            }
            (Running::Writer(writer), _, what) => {
                let mut effects = Effects::default();
                writer.step(at, writer_input(what)?, &mut effects);
                Some((notes(&effects), outputs(effects.as_slice())))
            }
            _ => None,
        }
    }
}

fn segment_input(what: Happened) -> Option<Input<Segment<Delta>>> {
    Some(match what {
        Happened::Message(from, message) => Input::Message { from, message },
        Happened::SegmentTimer(timer) => Input::Timer(timer),
        Happened::Durable(append) => Input::Durable(append),
        Happened::Done(outcome) => Input::Done(outcome),
        Happened::CoalesceNow => Input::Request { token: Token(0), request: segment::Request::CoalesceNow },
        Happened::AcceptLoss(loss) => Input::Request { token: Token(0), request: segment::Request::AcceptLoss(loss) },
        _ => return None,
    })
}

fn writer_input(what: Happened) -> Option<Input<Writer<Delta>>> {
    Some(match what {
        Happened::Message(from, message) => Input::Message { from, message },
        Happened::WriterTimer(timer) => Input::Timer(timer),
        Happened::Flush => Input::Request { token: Token(0), request: writer::Request::Flush },
        Happened::Read(token, page) => Input::Request { token, request: writer::Request::Read(page) },
        Happened::Publish(read_point, wal) => {
            Input::Request { token: Token(0), request: writer::Request::Publish { read_point, wal } }
        }
        Happened::Cancel(token) => Input::Request { token, request: writer::Request::Cancel },
        Happened::Replace(token, pg, old, home) => {
            Input::Request { token, request: writer::Request::Replace { pg, old, home } }
        }
        Happened::UndoReplace(token, pg, new) => {
            Input::Request { token, request: writer::Request::UndoReplace { pg, new } }
        }
        _ => return None,
    })
}

fn notes<M: Machine>(effects: &Effects<M>) -> Vec<Note> {
    let notes = effects.as_slice().iter().filter_map(|effect| match effect {
        Effect::Note(note) => Some(note.clone()),
        _ => None,
    });
    notes.collect()
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("(without a word)").chars().take(400).collect()
}

fn name_of(happened: &Happened) -> String {
    match happened {
        Happened::SegmentBooted(..) | Happened::WriterBooted(_) => "its boot".to_owned(),
        Happened::Message(from, message) => format!("{} of {from}", message.name()),
        Happened::SegmentTimer(timer) => format!("its timer {timer:?}"),
        Happened::WriterTimer(timer) => format!("its timer {timer:?}"),
        Happened::Durable(append) => format!("append {} was durable", append.0),
        Happened::Done(_) => "a task's end".to_owned(),
        Happened::CoalesceNow => "a request to coalesce".to_owned(),
        Happened::AcceptLoss(_) => "an accepted loss".to_owned(),
        Happened::Submit(changes) => format!("an MTR of {} records was submitted", changes.len()),
        Happened::Flush => "a flush".to_owned(),
        Happened::Read(_, page) => format!("a read of {page:?}"),
        Happened::Cancel(_) => "a read was given up".to_owned(),
        Happened::Publish(read_point, _) => format!("{read_point} was published"),
        Happened::Replace(_, pg, old, home) => format!("{pg}/{old} is to be replaced by a member at {home}"),
        Happened::UndoReplace(_, pg, new) => format!("the replacement by {pg}/{new} is to be undone"),
        Happened::Gave(_) => "an output".to_owned(),
    }
}
