//! One run of `postgres`, from start to exit.
//!
//! Two things make sure that PostgreSQL never outlives its instance, even where that is killed with SIGKILL:
//! - the postmaster asks the kernel for SIGKILL when the thread that started it ends (`PR_SET_PDEATHSIG`);
//! - where the kernel allows it, the postmaster is the first process of a PID namespace, so that its end takes every
//!   backend with it, stopped ones included.

use super::find::Installation;
use super::user::RunAs;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;

/// What a run needs.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    /// Which PostgreSQL.
    pub installation: Installation,
    /// As whom.
    pub user: RunAs,
    /// PGDATA.
    pub data: PathBuf,
    /// Local directory for Unix sockets.
    pub sockets: PathBuf,
    /// Where its log goes (appended).
    pub log: PathBuf,
    /// Addresses to listen on, as `listen_addresses` takes them.
    pub listen: String,
    /// TCP port.
    pub port: u16,
    /// Further settings, by name; they win over every file.
    pub settings: Vec<(String, String)>,
}

/// A running postmaster.
#[derive(Debug)]
pub struct Server {
    pid: Pid,
    data: PathBuf,
}

/// How to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Disconnect clients, write a checkpoint, exit.
    Fast,
    /// Exit now; the next start recovers. Clients are told.
    Immediate,
    /// SIGKILL.
    Kill,
}

impl Server {
    /// Starts `postgres`; `exited` is called once, on another thread, when it has exited.
    ///
    /// # Errors
    /// It can't be executed, or its log can't be opened.
    pub fn start(
        spec: &ServerSpec,
        exited: impl FnOnce(io::Result<ExitStatus>) + Send + 'static,
    ) -> io::Result<Server> {
        remove_stale_lock(&spec.data)?;
        let log = OpenOptions::new().create(true).append(true).open(&spec.log)?;
        let mut command = command(spec, log)?;
        let (started, receive) = mpsc::channel();
        // The thread lives as long as the postmaster: its end is what PR_SET_PDEATHSIG watches.
        std::thread::Builder::new().name("postgres".to_owned()).spawn(move || {
            // Only this thread's next child enters the namespace. Refused where we lack the privilege: then the
            // death signal alone must do.
            if let Err(error) = unshare(CloneFlags::CLONE_NEWPID) {
                tracing::debug!(%error, "postgres runs without a PID namespace of its own");
            }
            match command.spawn() {
                Ok(mut child) => {
                    let _ = started.send(Ok(child.id()));
                    exited(child.wait());
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        })?;
        let pid = receive.recv().map_err(|_| io::Error::other("the starting thread is gone"))??;
        Ok(Server { pid: Pid::from_raw(pid as i32), data: spec.data.clone() })
    }

    /// The postmaster's process id, as this process sees it.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Asks it to stop. That it is gone already is no error.
    pub fn stop(&self, how: Stop) {
        let signal = match how {
            Stop::Fast => Signal::SIGINT,
            Stop::Immediate => Signal::SIGQUIT,
            Stop::Kill => Signal::SIGKILL,
        };
        if let Err(error) = kill(self.pid, signal) {
            tracing::debug!(%error, ?how, "postgres was not there to be stopped");
        }
    }

    /// Whether it accepts connections, as it says itself in the last line of `postmaster.pid`.
    pub fn is_ready(&self) -> bool {
        std::fs::read_to_string(self.data.join("postmaster.pid"))
            .is_ok_and(|text| text.lines().nth(7).is_some_and(|status| status.trim() == "ready"))
    }
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

fn command(spec: &ServerSpec, log: File) -> io::Result<Command> {
    let mut command = Command::new(spec.installation.bin.join("postgres"));
    command.arg("-D").arg(&spec.data);
    let sockets = path_setting(&spec.sockets)?;
    let ours = [
        ("listen_addresses", spec.listen.clone()),
        ("port", spec.port.to_string()),
        ("unix_socket_directories", sockets),
    ];
    for (name, value) in ours.iter().map(|(n, v)| (*n, v)).chain(spec.settings.iter().map(|(n, v)| (n.as_str(), v))) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    spec.user.apply(&mut command);
    // A group of its own: Ctrl-C at a terminal is for the instance, which then stops postgres in order.
    command.current_dir("/").process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let parent = std::process::id();
    // SAFETY: only async-signal-safe calls between fork and exec. The user was switched before, which would have
    // cleared the death signal.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // Seen from a new PID namespace the parent is 0; a dead one is 1 (or a reaper), never ours.
            let now = libc::getppid();
            if now != 0 && now != parent as i32 {
                return Err(io::Error::other("the instance ended before postgres began"));
            }
            Ok(())
        });
    }
    Ok(command)
}

fn path_setting(path: &Path) -> io::Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "path is not UTF-8"))
}
