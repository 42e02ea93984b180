//! Golden scripts: commands to a small cluster, and everything that it does in answer, as text that can be read aloud.
//!
//! A script is a file of `conformance/scripts/`; its name is the statement that it shows, such as
//! `sealed_segment_refuses_older_writer`. A line that begins with `>` is a command ([`Command`]); the lines below it
//! are its effects, in the notation of [`crate::notation`]. The test runs the commands and compares the effects;
//! `GOLDEN=rewrite cargo test -p auriga-conformance --test scripts` writes them anew, for a reader to judge the diff.
//!
//! Unlike the simulation nothing happens by itself: messages stay in flight, appends stay pending, timers stay set,
//! until a command says so. Someone else's implementation can be driven by the same scripts.

//! Counterexamples of the model are scripts, too, without effects (`auriga-model defects NAME --save FILE`):
//! [`judge`] runs one over the real state machines and says which rule breaks, at which line. A failing seed of the
//! simulation is no script: it needs a clock (which copy is read depends on who was fast), some twenty settings and
//! losses entry by entry, which the commands have no words for. It is kept as a plan (`conformance/seeds/`).
//!
//! `command.rs` is what can be said, `bench.rs` does it, `showing.rs` tells it, `judging.rs` judges it.

mod bench;
mod command;
mod judging;
mod showing;
mod word;

pub use bench::Bench;
pub use command::{Command, ScriptError, Shape};

use crate::caught::caught;
use auriga_protocol::Defect;

/// The first rule that a script breaks.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Broken {
    /// The line of the command after which it broke, from 1.
    pub line: usize,
    /// That command.
    pub command: String,
    /// The rule's number.
    pub rule: String,
    /// What was seen.
    pub what: String,
}

/// How a script went.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Judged {
    /// Commands that were carried out.
    pub commands: usize,
    /// Lines of commands that named messages of which none was in flight: the script's author saw others.
    pub idle: Vec<usize>,
    /// `None`: every rule held.
    pub broken: Option<Broken>,
}

/// Runs a script's commands until a rule breaks. `planted`: other than the script says, this defect or none.
///
/// # Errors
/// The first line that is no command, or a command that can't be carried out.
pub fn judge(text: &str, planted: Option<Option<Defect>>) -> Result<Judged, ScriptError> {
    let mut bench = Bench::default();
    let mut judged = Judged::default();
    for (number, line) in text.lines().enumerate() {
        let Some(line) = line.strip_prefix('>') else { continue };
        let mut command: Command = line.trim().parse()?;
        if let (Command::Cluster(shape), Some(planted)) = (&mut command, planted) {
            shape.defect = planted;
        }
        let went = caught(|| bench.execute(&command));
        judged.commands += 1;
        if bench.was_idle() {
            judged.idle.push(number + 1);
        }
        let broken = match went {
            Ok(done) => done.map(|_| bench.broken().cloned())?,
            Err(fell) => Some(fell),
        };
        if let Some((rule, what)) = broken {
            judged.broken = Some(Broken { line: number + 1, command: command.to_string(), rule, what });
            break;
        }
    }
    Ok(judged)
}

/// Runs a script's commands and answers its text with the effects that they had.
///
/// # Errors
/// The first line that is no command, or a command that can't be carried out.
pub fn replay(text: &str) -> Result<String, ScriptError> {
    let mut bench = Bench::default();
    let mut replayed = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix('>') {
            let command: Command = command.trim().parse()?;
            replayed += &format!("> {command}\n");
            for effect in bench.execute(&command)? {
                replayed += &format!("{effect}\n");
            }
        } else if line.trim().is_empty() || line.starts_with('#') {
            replayed += &format!("{line}\n");
        }
    }
    Ok(replayed)
}
