//! Child processes of a demo: started so that none outlives it, and signalled with everything below them.

use crate::fuse;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to be gone after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// A running role of this same program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    frozen: bool,
}

impl Process {
    /// Starts `auriga <args>` with its output appended to `log`. The kernel kills it when the calling *thread* ends, so
    /// only threads that live as long as this program may call this.
    ///
    /// # Errors
    /// The program or the log can't be opened.
    pub fn start(args: &[&std::ffi::OsStr], log: &Path) -> io::Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args);
        Process::run(command, log)
    }

    /// The same, for another program.
    ///
    /// # Errors
    /// The program or the log can't be opened.
    pub fn run(mut command: Command, log: &Path) -> io::Result<Process> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C is for us, and we stop it in order.
        command.process_group(0);
        let parent = std::process::id() as i32;
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                if libc::getppid() != parent {
                    return Err(io::Error::other("the parent is gone"));
                }
                Ok(())
            });
        }
        Ok(Process { child: command.spawn()?, frozen: false })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Whether it is stopped by [`Process::freeze`].
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// SIGKILL, and waits until it and everything below it are gone, but not endlessly: after [`KILL_LIMIT`], what the
    /// kernel holds for its mounts is ended.
    pub fn kill(&mut self) {
        let below = descendants(self.pid());
        // A process that is ending shows no mounts any more.
        let connections = fuse::connections(self.pid());
        let _ = self.child.kill();
        let mut gone = self.gone_within(&below, KILL_LIMIT);
        if !gone {
            connections.into_iter().for_each(fuse::abort);
            gone = self.gone_within(&below, KILL_LIMIT);
        }
        if !gone {
            tracing::warn!(pid = self.pid(), "SIGKILL has not ended a process: the kernel holds it");
        }
    }

    fn gone_within(&mut self, below: &[i32], limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.ended().is_none() || below.iter().any(|&pid| is_alive(pid)) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// SIGKILL, without waiting; to be followed by [`Process::kill`].
    pub fn kill_soon(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// SIGTERM, without waiting; to be followed by [`Process::stop`].
    pub fn stop_soon(&mut self) {
        self.resume();
        self.signal(Signal::SIGTERM);
        // It may have been stopped: it must run to receive that.
        self.signal(Signal::SIGCONT);
    }

    /// SIGTERM; SIGKILL when it has not ended within `limit`.
    pub fn stop(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.stop_soon();
        let status = self.wait(limit);
        if status.is_none() {
            self.kill();
        }
        status
    }

    /// Waits at most `limit` for it to end by itself.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops (SIGSTOP) it and everything below it: it neither runs nor learns anything.
    pub fn freeze(&mut self) {
        self.signal(Signal::SIGSTOP);
        // A process that was just being born is found in the next round.
        let mut stopped = Vec::new();
        loop {
            let new: Vec<i32> = descendants(self.pid()).into_iter().filter(|pid| !stopped.contains(pid)).collect();
            if new.is_empty() {
                break;
            }
            for pid in new {
                let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
                stopped.push(pid);
            }
        }
        self.frozen = true;
    }

    /// SIGKILL to everything below it, which it is left to find out.
    pub fn kill_below(&self) {
        for pid in descendants(self.pid()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Undoes [`Process::freeze`].
    pub fn resume(&mut self) {
        if self.frozen {
            for pid in descendants(self.pid()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
            }
            self.signal(Signal::SIGCONT);
            self.frozen = false;
        }
    }

    fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid() as i32), signal);
    }
}

/// Whether a process exists (and is not a zombie).
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(_, state)| state != 'Z')
}

/// Memory of everything below this process, in bytes; what several share is counted once.
pub(crate) fn memory_below() -> u64 {
    let of = |pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    descendants(std::process::id()).into_iter().filter_map(of).sum::<u64>() << 10
}

/// Everything below `pid`, in no promised order.
fn descendants(pid: u32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let all: Vec<(i32, i32)> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.0)))
        .collect();
    let mut found = vec![pid as i32];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(all.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Parent and state, from `/proc/PID/stat`.
fn stat(pid: i32) -> Option<(i32, char)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows it is regular.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_frozen_and_killed_with_their_parent_known() {
        let mut child = Command::new("sh").args(["-c", "sleep 60 & wait"]).process_group(0).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while descendants(child.id()).is_empty() {
            assert!(Instant::now() < deadline, "the grandchild never appeared");
            std::thread::sleep(Duration::from_millis(5));
        }
        let below = descendants(child.id());
        assert_eq!(below.len(), 1);
        assert!(is_alive(below[0]));
        let _ = kill(Pid::from_raw(-(child.id() as i32)), Signal::SIGKILL);
        child.wait().unwrap();
        assert!(!is_alive(child.id() as i32));
    }
}
