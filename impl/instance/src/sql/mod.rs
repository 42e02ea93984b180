//! What clients of Aurora ask in SQL: functions in `pg_catalog`, and what they read.
//!
//! PostgreSQL stays as packaged. The instance writes a [`report`] of itself and of the others into a file on its local
//! disk, several times a second; functions in SQL read it with `pg_read_file`. The writer makes the functions in every
//! database ([`install`]), so readers have them by replication. One function asks for a crash: it leaves a file, which
//! is looked for here.
//!
//! The files are beside PGDATA, not in it: nothing of them is on the volume, and no request of the mount is needed.

pub(crate) mod install;
mod report;

pub use report::Heard;

use crate::node::InstanceStatus;
use crate::postgres::user::RunAs;
use auriga_region::port::RegionSaid;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the report is written.
const EVERY: Duration = Duration::from_millis(200);
/// The directory, in the instance's own: `functions.sql` finds it from PGDATA.
const DIRECTORY: &str = "sql";
/// What the functions read.
const REPORT: &str = "report.json";
/// What they leave.
const CRASH: &str = "crash";

/// What the other instances have said last.
pub type Others = Arc<dyn Fn() -> Vec<Heard> + Send + Sync>;

/// What other processes have said last.
#[derive(Clone)]
pub struct Said {
    /// The other instances.
    pub others: Others,
    /// The region's process, where the volume is a region's of a global database.
    pub region: RegionSaid,
}

/// A thread that reports. Dropping it ends the thread.
pub(crate) struct Reporter {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reporter {
    /// Reports what `own` says, and other processes, in `directory`; calls `crash` where PostgreSQL is to crash.
    ///
    /// # Errors
    /// The directory can't be made, or the operating system has no thread.
    pub fn start(
        directory: &Path,
        user: RunAs,
        own: impl Fn() -> InstanceStatus + Send + 'static,
        said: Said,
        crash: impl Fn() + Send + 'static,
    ) -> io::Result<Reporter> {
        let directory = make(directory, &user)?;
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = std::thread::Builder::new().name("reporting".to_owned()).spawn(move || {
            while !seen.load(Relaxed) {
                let text = report::of(&own(), &(said.others)(), (said.region)().as_ref()).to_string();
                if let Err(error) = replace(&directory.join(REPORT), &text, &user) {
                    tracing::debug!(%error, "the report for SQL could not be written");
                }
                crash_if_asked(&directory, &crash);
                std::thread::sleep(EVERY);
            }
        })?;
        Ok(Reporter { ended, thread: Some(thread) })
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes the directory: PostgreSQL's user alone gets in.
fn make(instance: &Path, user: &RunAs) -> io::Result<PathBuf> {
    std::fs::create_dir_all(instance)?;
    let directory = instance.join(DIRECTORY);
    match std::fs::create_dir(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
    user.own(&directory)?;
    // What an earlier life was asked.
    let _ = std::fs::remove_file(directory.join(CRASH));
    Ok(directory)
}

/// Replaces a file of PostgreSQL's user at once, as a server may be reading it. Follows no link that one has made there.
pub(crate) fn replace(path: &Path, text: &str, user: &RunAs) -> io::Result<()> {
    let making = path.with_extension("new");
    let _ = std::fs::remove_file(&making);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&making)?;
    Write::write_all(&mut &file, text.as_bytes())?;
    user.own(&making)?;
    std::fs::rename(&making, path)
}

/// Crashes what a function in SQL has asked to crash.
fn crash_if_asked(directory: &Path, crash: &impl Fn()) {
    let path = directory.join(CRASH);
    match read(&path).as_deref().map(str::trim) {
        Some("instance" | "dispatcher") => {
            tracing::warn!("asked in SQL to crash PostgreSQL");
            let _ = std::fs::remove_file(&path);
            crash();
        }
        Some("node") => {
            tracing::warn!("asked in SQL to crash this instance");
            let _ = std::fs::remove_file(&path);
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
        // It is being written.
        Some(_) | None => {}
    }
}

/// A short file. Whatever is there that is none is not waited for.
fn read(path: &Path) -> Option<String> {
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path).ok()?;
    let mut text = String::new();
    file.metadata().ok()?.is_file().then_some(())?;
    file.take(64).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_wish_to_crash_is_taken_once() {
        let directory = tempfile::tempdir().unwrap();
        let crashes = Cell::new(0);
        let crash = || crashes.set(crashes.get() + 1);
        for (text, taken) in [("", 0), ("inst", 0), ("instance\n", 1)] {
            std::fs::write(directory.path().join(CRASH), text).unwrap();
            crash_if_asked(directory.path(), &crash);
            assert_eq!(crashes.get(), taken, "{text:?}");
        }
        crash_if_asked(directory.path(), &crash);
        assert_eq!(crashes.get(), 1);
    }
}
