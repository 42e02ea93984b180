//! What uses the mount on the instance's behalf, in processes of their own.
//!
//! The instance answers the requests that the kernel makes for its mount. A thread that waits for such an answer can't
//! be killed before the answer has come. So a thread *of the instance* that used the mount could wait for an answer
//! that only its own process gives: while storage stands still, SIGKILL would end every other thread of the instance,
//! no thread would be left to answer, and the process would never end. **Therefore no thread of the instance ever uses
//! its own mount.** A helper may wait there: when the instance ends, the kernel aborts the mount's connection, every
//! request fails, and the helper ends, too.
//!
//! - [`prepare`]: finds, creates and readies the database cluster.
//! - [`init`]: the parent of `postgres`. It reaps orphans, passes signals on, and sees when connections are accepted.
//!
//! A helper is this same program, started again with a [`Job`] as its last argument. It answers on its standard output,
//! with one line of JSON for each thing that it says.

pub mod init;
pub mod prepare;

use crate::postgres::server::ServerSpec;
use nix::sys::signal::Signal;
use prepare::Prepare;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

/// How to start a helper.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Helper {
    /// The program.
    pub program: PathBuf,
    /// What comes before the job on its command line.
    pub arguments: Vec<String>,
}

/// What a helper is to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Job {
    /// Ready the database cluster.
    Prepare(Prepare),
    /// Run `postgres`, above it.
    Run(ServerSpec),
}

impl Helper {
    /// The program that this process runs, even where its file has been replaced since.
    pub fn this_program(arguments: &[&str]) -> Helper {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Helper { program: PathBuf::from("/proc/self/exe"), arguments }
    }

    /// The command that does `job`, with its output piped. The helper dies with the thread that starts it.
    ///
    /// # Errors
    /// A path in the job is not UTF-8.
    pub fn command(&self, job: &Job) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        command.arg0("auriga").args(&self.arguments).arg(serde_json::to_string(job)?);
        // A group of its own: Ctrl-C at a terminal is for the instance, which then stops everything in order.
        command.current_dir("/").process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
        die_with_parent(&mut command);
        Ok(command)
    }
}

/// The life of a helper: does `job`, the last argument of the command line.
///
/// # Errors
/// The text is no job.
pub fn run(job: &str) -> io::Result<ExitCode> {
    Ok(match serde_json::from_str(job)? {
        Job::Prepare(job) => prepare::run(&job),
        Job::Run(spec) => ExitCode::from(init::run(&spec)?),
    })
}

/// Lets the kernel kill `command`'s process when the thread that starts it ends.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = std::process::id() as i32;
    // SAFETY: only async-signal-safe calls between fork and exec. The user was switched before, which would have
    // cleared the death signal.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // Seen from a new PID namespace the parent is 0; a dead one is 1 (or a reaper), never ours.
            let now = libc::getppid();
            if now != 0 && now != parent {
                return Err(io::Error::other("the parent ended before its child began"));
            }
            Ok(())
        });
    }
}

/// Writes one line to standard output. That it is no longer read is no error: the instance is ending.
fn say(what: &impl Serialize) {
    if let Ok(line) = serde_json::to_string(what) {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

/// Calls `heard` with each thing that a helper says, until it says no more.
pub(crate) fn listen<T: DeserializeOwned>(output: impl Read, mut heard: impl FnMut(T)) {
    for line in BufReader::new(output).lines() {
        match line.map_err(serde_json::Error::io).and_then(|line| serde_json::from_str(&line)) {
            Ok(said) => heard(said),
            Err(error) => tracing::warn!(%error, "a helper said what is not understood"),
        }
    }
}
