//! Golden scripts: commands to a small cluster, and everything that it does in answer, as text that can be read aloud.
//!
//! A script is a file of `conformance/scripts/`; its name is the statement that it shows, such as
//! `sealed_segment_refuses_older_writer`. A line that begins with `>` is a command ([`Command`]); the lines below it
//! are its effects, in the notation of [`crate::notation`]. The test runs the commands and compares the effects;
//! `GOLDEN=rewrite cargo test -p auriga-conformance --test scripts` writes them anew, for a reader to judge the diff.
//!
//! Unlike the simulation nothing happens by itself: messages stay in flight, appends stay pending, timers stay set,
//! until a command says so. Someone else's implementation can be driven by the same scripts.

mod bench;
mod command;

pub use bench::Bench;
pub use command::{Command, ScriptError};

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
