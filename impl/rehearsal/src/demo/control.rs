//! How `auriga status` and `auriga inject` talk to a running demo: one line of JSON each way, over a Unix socket in the
//! demo's directory (which only its owner may enter).

use super::faults::Outcome;
use super::layout::Layout;
use super::state;
use crate::regions::GlobalShown;
use auriga_admin::member::Described;
use serde::{Deserialize, Serialize};
use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest line that is read.
const LINE_MAX: u64 = 1 << 20;
/// How long one who asks waits for the answer. Restarts are the slowest thing that is asked for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one who is connected may take to ask, and to read the answer: meanwhile no other is served.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// How long a demo that has been announced may take to listen.
const LISTEN_LIMIT: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Who is there?
    Describe,
    /// Do this to that.
    Inject {
        /// One member, an AZ such as `az-b`, or `instance`.
        target: String,
        /// The action.
        action: Action,
        /// Milliseconds, for [`Action::Slow`].
        ms: u32,
    },
}

/// What can be done to a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// SIGKILL; an instance's local directory is deleted as well
    Kill,
    /// SIGKILL, and the directory of a storage process is deleted: it is lost for good
    Lose,
    /// SIGSTOP, with everything below it
    Freeze,
    /// Undo `freeze`
    Resume,
    /// Start it (again); an instance on an empty directory
    Restart,
    /// Delay every message of a storage process by --ms in each direction
    Slow,
    /// Cut it off from everyone else
    Partition,
    /// Undo `partition` and `slow`
    Heal,
    /// Make a round trip between regions take --ms
    Wan,
}

impl Action {
    /// For people: what it means from now on, and how to end it.
    pub fn effect(self, ms: u32) -> String {
        match self {
            Action::Freeze => " (until `inject resume`)".to_owned(),
            Action::Slow => format!(" (each message {ms} ms late, both ways, until `inject heal`)"),
            Action::Partition => " (cut off until `inject heal`)".to_owned(),
            Action::Wan => format!(" ({ms} ms there and back)"),
            Action::Kill => " (down until `inject restart`)".to_owned(),
            Action::Lose => " (down, and its directory is gone)".to_owned(),
            Action::Resume | Action::Restart | Action::Heal => String::new(),
        }
    }
}

/// What is replied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Everyone.
    Described {
        /// The demo's fixed facts.
        layout: Box<Layout>,
        /// Its members.
        members: Vec<Described>,
    },
    /// Every region, of a demo of several.
    Regions(Box<GlobalShown>),
    /// Done, to some.
    Done(Outcome),
    /// Not done, and why.
    Refused(String),
}

/// The socket in a demo's directory.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// Listens at the socket, which only its owner may use.
///
/// # Errors
/// It can't be made.
pub fn listener(path: &Path) -> io::Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves one connection after another until the program ends: what it starts lives as long as its thread.
pub fn serve(listener: &UnixListener, mut answer: impl FnMut(Ask) -> Reply) {
    for stream in listener.incoming() {
        let served = stream.and_then(|stream| {
            let ask = read_line(&stream, ASK_LIMIT)?;
            let reply = match serde_json::from_str(&ask) {
                Ok(ask) => answer(ask),
                Err(error) => Reply::Refused(format!("not understood: {error}")),
            };
            write_line(&stream, &reply, ASK_LIMIT)
        });
        if let Err(error) = served {
            tracing::debug!(%error, "a control connection ended early");
        }
    }
}

/// Asks the demo in `dir`.
///
/// # Errors
/// It isn't there, or does not answer.
pub fn ask(dir: &Path, ask: &Ask) -> io::Result<Reply> {
    let no_demo =
        |error: io::Error| io::Error::new(error.kind(), format!("no demo runs in {}: {error}", dir.display()));
    let begun = Instant::now();
    let stream = loop {
        match UnixStream::connect(socket(dir)) {
            // A demo that has only just begun listens in a moment.
            Err(_) if begun.elapsed() < LISTEN_LIMIT && state::running().iter().any(|demo| demo.dir == dir) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            connected => break connected.map_err(no_demo)?,
        }
    };
    write_line(&stream, ask, ASK_LIMIT)?;
    Ok(serde_json::from_str(&read_line(&stream, PATIENCE)?)?)
}

fn read_line(stream: &UnixStream, limit: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(limit))?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut line)?;
    match line.ends_with('\n') {
        true => Ok(line),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn write_line(mut stream: &UnixStream, value: &impl Serialize, limit: Duration) -> io::Result<()> {
    stream.set_write_timeout(Some(limit))?;
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    stream.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_and_rubbish_harms_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket(dir.path())).unwrap();
        // The thread ends with the test process.
        std::thread::spawn(move || {
            serve(&listener, |ask| match ask {
                Ask::Inject { target, .. } => Reply::Done(Outcome { done: vec![target], not_done: vec![] }),
                Ask::Describe => Reply::Refused("not here".to_owned()),
            });
        });
        let mut rubbish = UnixStream::connect(socket(dir.path())).unwrap();
        rubbish.write_all(b"\xff\xfe\n").unwrap();
        let mut line = String::new();
        let _ = BufReader::new(&rubbish).read_line(&mut line);
        drop(rubbish);
        let inject = Ask::Inject { target: "az-b".to_owned(), action: Action::Slow, ms: 5 };
        let done = Outcome { done: vec!["az-b".to_owned()], not_done: vec![] };
        assert_eq!(ask(dir.path(), &inject).unwrap(), Reply::Done(done));
    }
}
