//! One run of `postgres`, from start to exit.
//!
//! Three things make sure that PostgreSQL never outlives its instance, even where that is killed with SIGKILL:
//! - the process above the postmaster asks the kernel for SIGKILL when the thread that started it ends
//!   (`PR_SET_PDEATHSIG`), and the postmaster asks for the same;
//! - where the kernel allows it, that process is the first of a PID namespace, so that its end takes every backend with
//!   it, stopped ones included;
//! - it ends when the postmaster does.
//!
//! See [`on_mount::init`](crate::on_mount::init) for that process.

use super::cluster::ON_THE_COMMAND_LINE;
use super::find::Installation;
use super::user::RunAs;
use crate::on_mount::{Helper, Job, die_with_parent, init, listen};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};

/// The extension by which drivers recognise Aurora.
const AURORA: &str = "aurora_stat_utils";

/// What a run needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
    /// Further settings, by name; they win over every file, and over ours.
    pub settings: Vec<(String, String)>,
    /// How to start the process above the postmaster.
    pub helper: Helper,
}

/// A running postmaster, and the process above it.
#[derive(Debug)]
pub struct Server {
    init: Pid,
    ready: Arc<AtomicBool>,
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
    /// Starts `postgres`; `exited` is called once, on another thread, when it has exited, with its exit code (128 + N
    /// where signal N ended it).
    ///
    /// # Errors
    /// The process above it can't be started. (That `postgres` can't be is seen as its exit.)
    pub fn start(
        spec: &ServerSpec,
        exited: impl FnOnce(io::Result<ExitStatus>) + Send + 'static,
    ) -> io::Result<Server> {
        let mut command = spec.helper.command(&Job::Run(spec.clone()))?;
        let (started, receive) = mpsc::channel();
        let ready = Arc::new(AtomicBool::new(false));
        let seen_ready = ready.clone();
        // The thread lives as long as the helper: its end is what PR_SET_PDEATHSIG watches.
        std::thread::Builder::new().name("postgres".to_owned()).spawn(move || {
            // Only this thread's next child enters the namespace. Refused where we lack the privilege: then the
            // death signals alone must do.
            if let Err(error) = unshare(CloneFlags::CLONE_NEWPID) {
                tracing::debug!(%error, "postgres runs without a PID namespace of its own");
            }
            match command.spawn() {
                Ok(mut child) => {
                    let _ = started.send(Ok(child.id()));
                    if let Some(output) = child.stdout.take() {
                        listen(output, |said| match said {
                            init::Said::Ready => seen_ready.store(true, Relaxed),
                        });
                    }
                    exited(child.wait());
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        })?;
        let pid = receive.recv().map_err(|_| io::Error::other("the starting thread is gone"))??;
        Ok(Server { init: Pid::from_raw(pid as i32), ready })
    }

    /// The process above the postmaster.
    pub fn pid(&self) -> i32 {
        self.init.as_raw()
    }

    /// Asks it to stop. That it is gone already is no error.
    pub fn stop(&self, how: Stop) {
        let signal = match how {
            Stop::Fast => Signal::SIGINT,
            Stop::Immediate => Signal::SIGQUIT,
            Stop::Kill => Signal::SIGKILL,
        };
        if let Err(error) = kill(self.init, signal) {
            tracing::debug!(%error, ?how, "postgres was not there to be stopped");
        }
    }

    /// Whether it accepts connections, as it says itself.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }
}

impl ServerSpec {
    /// The command that runs `postgres`. Its process dies with the thread that starts it.
    ///
    /// # Errors
    /// The log can't be opened, or a path is not UTF-8.
    pub fn command(&self) -> io::Result<Command> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(self.installation.bin.join("postgres"));
        command.arg("-D").arg(&self.data);
        let sockets = path_setting(&self.sockets)?;
        let port = self.port.to_string();
        // Shown by SHOW alone; what `pg_settings` has is in `sql/functions.sql`.
        let extensions = [AURORA.to_owned()].into_iter().chain(self.installation.extensions());
        let extensions = extensions.collect::<Vec<_>>().join(", ");
        let ours = [
            ("rds.extensions", extensions.as_str()),
            ("listen_addresses", self.listen.as_str()),
            ("port", port.as_str()),
            ("unix_socket_directories", sockets.as_str()),
        ];
        let theirs = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in ON_THE_COMMAND_LINE.into_iter().chain(ours).chain(theirs) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        self.user.apply(&mut command);
        command.current_dir("/").process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        die_with_parent(&mut command);
        Ok(command)
    }
}

fn path_setting(path: &Path) -> io::Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "path is not UTF-8"))
}
