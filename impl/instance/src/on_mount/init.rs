//! The parent of `postgres`: a minimal init.
//!
//! A postmaster takes every child that ends for one of its own, and ends every session when one ends badly. As the
//! first process of a PID namespace it would also be given the orphans of its backends (what `COPY … TO PROGRAM` left
//! behind, for example) as children. So the first process is this one. It
//! - starts `postgres` and exits with its exit code (128 + N where signal N ended it);
//! - reaps whatever else ends;
//! - passes signals on to `postgres`;
//! - says when `postgres` accepts connections.

use super::say;
use crate::postgres::server::ServerSpec;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often readiness is looked at.
const GLANCE: Duration = Duration::from_millis(25);
/// Added to a signal's number, as shells do.
const SIGNALLED: u8 = 128;

/// What it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Said {
    /// `postgres` accepts connections.
    Ready,
}

/// `None` before `postgres` has been started. Held while it is being started, so that no end is seen before its number
/// is known.
type Postmaster = Arc<Mutex<Option<Pid>>>;

/// Runs `postgres` until it ends; returns the exit code. To be called on the only thread of the process.
///
/// # Errors
/// The operating system refuses signals or threads.
pub fn run(spec: &ServerSpec) -> io::Result<u8> {
    let signals: SigSet =
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect();
    signals.thread_block()?;
    // Where there is no namespace of its own, the kernel must be asked for the orphans.
    nix::sys::prctl::set_child_subreaper(true)?;
    let postmaster = Postmaster::default();
    std::thread::Builder::new().name("postgres".to_owned()).spawn({
        let (spec, postmaster) = (spec.clone(), postmaster.clone());
        move || {
            if let Err(error) = start(&spec, &postmaster) {
                tracing::error!(%error, program = %spec.installation.bin.display(), "postgres can't be started");
                std::process::exit(1);
            }
            watch(&spec.data);
            // This thread's end would be the end of postgres.
            loop {
                std::thread::park();
            }
        }
    })?;
    loop {
        let signal = signals.wait()?;
        let postmaster = postmaster.lock().unwrap_or_else(PoisonError::into_inner);
        match (signal, *postmaster) {
            (Signal::SIGCHLD, postmaster) => {
                if let Some(code) = reap(postmaster) {
                    return Ok(code);
                }
            }
            (signal, Some(pid)) => {
                let _ = kill(pid, signal);
            }
            (_, None) => return Ok(0),
        }
    }
}

fn start(spec: &ServerSpec, postmaster: &Postmaster) -> io::Result<()> {
    remove_stale_lock(&spec.data)?;
    // Held from here on: the command asks another program, whose end must not be taken note of by `reap`.
    let mut postmaster = postmaster.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = spec.command()?;
    let child = command.spawn()?;
    *postmaster = Some(Pid::from_raw(child.id() as i32));
    Ok(())
}

/// A crashed postmaster's lock file names a process of another PID namespace or another machine, and still says
/// "ready". That no other postgres uses this volume is certain: it was recovered with a higher volume epoch, which
/// fences any other; and this instance runs one at a time.
fn remove_stale_lock(data: &Path) -> io::Result<()> {
    match std::fs::remove_file(data.join("postmaster.pid")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Says when connections are accepted: `postgres` writes so into the last line of `postmaster.pid`.
fn watch(data: &Path) {
    let is_ready = || {
        std::fs::read_to_string(data.join("postmaster.pid"))
            .is_ok_and(|text| text.lines().nth(7).is_some_and(|status| status.trim() == "ready"))
    };
    while !is_ready() {
        std::thread::sleep(GLANCE);
    }
    say(&Said::Ready);
}

/// Takes note of everything that has ended. Returns the exit code of `postgres` if it is among that.
fn reap(postmaster: Option<Pid>) -> Option<u8> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if Some(pid) == postmaster => return Some(code as u8),
            Ok(WaitStatus::Signaled(pid, signal, _)) if Some(pid) == postmaster => {
                return Some(SIGNALLED + signal as u8);
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Ok(_) | Err(_) => {}
        }
    }
}
