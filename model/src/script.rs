//! Scripts: a run as commands, one on a line, so that what one technique found another can replay.
//!
//! ```text
//! # comment
//! start w1
//! deliver w1 → A Seal e1
//! fsync A 1
//! crash A keep 0
//! crash-az az1 keep 0 1
//! restart A
//! submit w1 0:0 0:1
//! read w1 0:0
//! timer w1 Retry
//! gossip A from B
//! timer A Coalesce
//! task A
//! ```
//!
//! A node is `A` to `F` where the volume has one protection group, `pg1/A` where it has several. A message is named as
//! in a trace (see `notation.rs`); its text is compared as a whole.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One step of a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Command {
    /// A new writer starts, and begins its recovery.
    Start {
        /// Its name.
        writer: String,
    },
    /// A message in flight arrives.
    Deliver {
        /// Sender.
        from: String,
        /// Receiver.
        to: String,
        /// The message's text in a trace.
        message: String,
    },
    /// The oldest `count` pending appends of a node become durable.
    Fsync {
        /// The node.
        node: String,
        /// At least 1.
        count: usize,
    },
    /// A node stops; of its pending appends the oldest `keep` survive.
    Crash {
        /// The node.
        node: String,
        /// How many survive.
        keep: usize,
    },
    /// All nodes of an Availability Zone stop at once.
    CrashAz {
        /// The zone: `az1`, …
        az: String,
        /// How many pending appends survive, for each of its nodes.
        keep: Vec<usize>,
    },
    /// A node boots from what survived.
    Restart {
        /// The node.
        node: String,
    },
    /// A writer's user submits one mini-transaction, and the driver flushes.
    Submit {
        /// The writer.
        writer: String,
        /// The pages that it changes, one record each.
        pages: Vec<String>,
    },
    /// A writer's user reads a page.
    Read {
        /// The writer.
        writer: String,
        /// The page.
        page: String,
    },
    /// A timer is due.
    Timer {
        /// The node or writer.
        node: String,
        /// The timer's name.
        timer: String,
    },
    /// A segment's gossip timer is due, and its question reaches `peer`.
    Gossip {
        /// Who asks.
        node: String,
        /// Who is asked.
        peer: String,
    },
    /// The oldest task of a node's page store is done.
    Task {
        /// The node.
        node: String,
    },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Start { writer } => write!(f, "start {writer}"),
            Command::Deliver { from, to, message } => write!(f, "deliver {from} → {to} {message}"),
            Command::Fsync { node, count } => write!(f, "fsync {node} {count}"),
            Command::Crash { node, keep } => write!(f, "crash {node} keep {keep}"),
            Command::CrashAz { az, keep } => {
                write!(f, "crash-az {az} keep")?;
                keep.iter().try_for_each(|keep| write!(f, " {keep}"))
            }
            Command::Restart { node } => write!(f, "restart {node}"),
            Command::Submit { writer, pages } => write!(f, "submit {writer} {}", pages.join(" ")),
            Command::Read { writer, page } => write!(f, "read {writer} {page}"),
            Command::Timer { node, timer } => write!(f, "timer {node} {timer}"),
            Command::Gossip { node, peer } => write!(f, "gossip {node} from {peer}"),
            Command::Task { node } => write!(f, "task {node}"),
        }
    }
}

/// A line that is no command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptError(String);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a command: {}", self.0)
    }
}

impl std::error::Error for ScriptError {}

impl FromStr for Command {
    type Err = ScriptError;

    fn from_str(line: &str) -> Result<Command, ScriptError> {
        let bad = || ScriptError(line.to_owned());
        let number = |word: &str| word.parse::<usize>().map_err(|_| bad());
        let owned = |word: &str| word.to_owned();
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words.as_slice() {
            ["start", writer] => Command::Start { writer: owned(writer) },
            ["deliver", from, "→", to, message @ ..] if !message.is_empty() => {
                Command::Deliver { from: owned(from), to: owned(to), message: message.join(" ") }
            }
            ["fsync", node, count] => Command::Fsync { node: owned(node), count: number(count)? },
            ["crash", node, "keep", keep] => Command::Crash { node: owned(node), keep: number(keep)? },
            ["crash-az", az, "keep", keep @ ..] => {
                let keep = keep.iter().map(|word| number(word)).collect::<Result<_, _>>()?;
                Command::CrashAz { az: owned(az), keep }
            }
            ["restart", node] => Command::Restart { node: owned(node) },
            ["submit", writer, pages @ ..] if !pages.is_empty() => {
                Command::Submit { writer: owned(writer), pages: pages.iter().map(|page| owned(page)).collect() }
            }
            ["read", writer, page] => Command::Read { writer: owned(writer), page: owned(page) },
            ["timer", node, timer] => Command::Timer { node: owned(node), timer: owned(timer) },
            ["gossip", node, "from", peer] => Command::Gossip { node: owned(node), peer: owned(peer) },
            ["task", node] => Command::Task { node: owned(node) },
            _ => return Err(bad()),
        })
    }
}

/// Reads a script: commands, blank lines and `#` comments.
///
/// # Errors
/// The first line that is none of these.
pub fn parse(text: &str) -> Result<Vec<Command>, ScriptError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_COMMAND: &str = "start w1\ndeliver w1 → A Write 1..2 vdl=0\nfsync A 1\ncrash A keep 0\n\
        crash-az az1 keep 0 1\nrestart A\nsubmit w1 0:0 0:1\nread w1 0:0\ntimer w1 Retry\ngossip A from B\ntask A\n";

    #[test]
    fn every_command_survives_being_written_and_read() {
        let commands = parse(EVERY_COMMAND).unwrap();
        let written: String = commands.iter().map(|command| format!("{command}\n")).collect();
        assert_eq!(written, EVERY_COMMAND);
    }

    #[test]
    fn comments_are_skipped_and_nonsense_is_refused() {
        assert_eq!(parse("# hello\n\n  start w1\n").unwrap().len(), 1);
        assert!(parse("crash A keep many").is_err());
        assert!(parse("deliver w1 → A").is_err());
    }
}
