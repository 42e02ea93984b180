//! Readies the database cluster: found, or created on a new volume, and given what this instance needs.

use super::{Helper, Job, listen, say};
use crate::health::{Health, Phase};
use crate::postgres::cluster::{Authentication, Cluster};
use crate::postgres::control;
use crate::postgres::find::{self, Installation};
use crate::postgres::user::RunAs;
use crate::supervise::{Ended, Event, end_fenced};
use auriga_protocol::VolumeEpoch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, ExitCode};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How often the instance looks whether the cluster is still wanted.
const GLANCE: Duration = Duration::from_millis(25);

/// What the helper needs to know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Prepare {
    /// The mount.
    pub root: PathBuf,
    /// The installations on this machine.
    pub installations: Vec<Installation>,
    /// Whom PostgreSQL runs as.
    pub user: RunAs,
    /// Where it listens: on loopback alone, a new cluster needs no password.
    pub listen: IpAddr,
    /// File with the superuser's first password.
    pub password_file: Option<PathBuf>,
    /// The locale of a new cluster; see [`Cluster::create`].
    pub locale: Option<String>,
    /// For a hot standby: the cluster is there, and some of it is asked for.
    pub standby: bool,
}

/// What it found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Prepared {
    /// The installation that fits the cluster.
    pub installation: Installation,
    /// How long the creation of the cluster took, in milliseconds, where it was created.
    pub created_ms: Option<u64>,
    /// For a standby: settings that it must have, and their least values.
    pub least: Vec<(String, u64)>,
    /// For a standby: the cluster's `pg_hba.conf`.
    pub hba: String,
}

#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Creating,
    Done(Result<Prepared, String>),
}

/// The life of the helper.
pub(super) fn run(job: &Prepare) -> ExitCode {
    let done = job.run();
    let code = if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    say(&Said::Done(done));
    code
}

impl Prepare {
    /// Of a cluster that is there: none is made, and what a server on it must have is asked for.
    pub fn existing(root: PathBuf, installations: Vec<Installation>, user: RunAs, listen: IpAddr) -> Prepare {
        Prepare { root, installations, user, listen, password_file: None, locale: None, standby: true }
    }

    fn run(&self) -> Result<Prepared, String> {
        let cluster = Cluster::in_root(&self.root);
        let major = cluster.major().map_err(|error| error.to_string())?;
        let installation = find::choose(&self.installations, major).map_err(|error| error.to_string())?.clone();
        let mut created_ms = None;
        if major.is_none() {
            if self.standby {
                return Err("the volume has no database cluster to be read".to_owned());
            }
            let authentication = self.authentication()?;
            say(&Said::Creating);
            let begun = Instant::now();
            cluster
                .create(&installation, &self.user, &authentication, self.locale.as_deref())
                .map_err(|error| error.to_string())?;
            created_ms = Some(begun.elapsed().as_millis() as u64);
        }
        cluster.prepare(&self.user).map_err(|error| error.to_string())?;
        let (mut least, mut hba) = (Vec::new(), String::new());
        if self.standby {
            let data = cluster.data();
            least = control::least_settings(&installation, &self.user, &data).map_err(|error| error.to_string())?;
            let path = data.join("pg_hba.conf");
            hba = std::fs::read_to_string(&path).map_err(|error| format!("reading {}: {error}", path.display()))?;
        }
        Ok(Prepared { installation, created_ms, least, hba })
    }

    /// Who may connect to a new cluster.
    fn authentication(&self) -> Result<Authentication, String> {
        match &self.password_file {
            Some(file) => Ok(Authentication::Password(file.clone())),
            None if self.listen.is_loopback() => Ok(Authentication::TrustLoopback),
            None => Err(format!(
                "{} is not a loopback address: a new volume needs a password_file for the user `postgres`",
                self.listen
            )),
        }
    }
}

/// Lets a helper prepare the cluster. Returns how the instance ends where it is fenced or asked to stop meanwhile.
/// To be called on a thread that lives as long as the instance.
///
/// # Errors
/// The helper can't be started, or what it tried failed.
pub fn prepare(
    helper: &Helper,
    job: Prepare,
    health: &Health,
    receiver: &Receiver<Event>,
    fenced: impl Fn() -> Option<VolumeEpoch>,
) -> io::Result<Result<Prepared, Ended>> {
    let mut child = helper.command(&Job::Prepare(job))?.spawn()?;
    let pid = child.id();
    let output = child.stdout.take();
    let (sender, said) = channel();
    std::thread::Builder::new().name("preparing".to_owned()).spawn(move || {
        if let Some(output) = output {
            listen(output, |said| drop(sender.send(said)));
        }
        drop(sender);
        // Not on the main thread: a helper that waits for storage may take its time to be gone.
        reap(child);
    })?;
    let stop = || {
        let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
    };
    loop {
        match said.recv_timeout(GLANCE) {
            Ok(Said::Creating) => health.set_phase(Phase::CreatingCluster),
            Ok(Said::Done(done)) => return done.map(Ok).map_err(io::Error::other),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the process that prepares the database cluster has ended"));
            }
        }
        if let Some(by) = fenced() {
            stop();
            return Ok(Err(end_fenced(health, by)));
        }
        if matches!(receiver.try_recv(), Ok(Event::Stop | Event::Abandon)) {
            stop();
            tracing::info!("asked to stop while the database cluster was being prepared");
            return Ok(Err(Ended::Stopped));
        }
    }
}

fn reap(mut child: Child) {
    if let Err(error) = child.wait() {
        tracing::debug!(%error, "waiting for the helper");
    }
}
