//! Cleans up after a demo, even one that was killed with SIGKILL.
//!
//! The janitor is a small process of its own that holds one end of a pipe. When the demo ends, however it ends, the
//! kernel closes the other end, and kills the demo's children; the janitor then deletes what is to be deleted.

use crate::volatile_disk;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the demo's children may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The demo's end of the pipe.
#[derive(Debug)]
pub struct Janitor {
    child: Child,
}

impl Janitor {
    /// Hires one, who will detach what is mounted at `mount`, if anything is, and delete `paths`.
    ///
    /// # Errors
    /// It can't be started.
    pub fn hire(mount: &Path, paths: &[&Path]) -> io::Result<Janitor> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("janitor").arg(mount).args(paths);
        // A group of its own: Ctrl-C must not reach it. The pipe's other end is closed on exec, so no child of the demo
        // holds it.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Janitor { child: command.spawn()? })
    }

    /// The demo is over: waits until everything is deleted.
    pub fn dismiss(mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The janitor's life.
pub fn run(mount: &Path, paths: &[PathBuf]) {
    let _ = io::stdin().read_to_end(&mut Vec::new());
    // Mostly nothing is mounted there, or no more.
    let _ = volatile_disk::detach(mount);
    let deadline = Instant::now() + PATIENCE;
    // Children that are just being killed may still make files for a moment.
    while paths.iter().any(|path| !is_gone(path)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_gone(path: &Path) -> bool {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    matches!(removed, Err(error) if error.kind() == io::ErrorKind::NotFound)
}
