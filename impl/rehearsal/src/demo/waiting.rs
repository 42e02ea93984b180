//! Waiting until a member is ready. An instance that recovers is waited for as long as it gets on, and a person is told
//! how far it is; it is not cut off.

use super::{Demo, DemoError};
use auriga_admin::{instance, storage};
use auriga_instance::health::Phase;
use auriga_instance::node::InstanceStatus;
use std::fmt;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// A storage process answers within this time of its start.
const STORAGE_READY: Duration = Duration::from_secs(60);
/// An instance that does not serve yet shows some progress within this time.
const INSTANCE_PROGRESS: Duration = Duration::from_secs(90);
/// How often a person is told what is waited for.
const TELL_EVERY: Duration = Duration::from_secs(5);

impl Demo {
    pub(super) fn wait_for_storage(&self, name: &str, stop: Option<&Receiver<()>>) -> Result<(), DemoError> {
        self.wait_for(name, STORAGE_READY, stop, |address| {
            match self.runtime.block_on(storage::status(address, &self.access)) {
                Ok(_) => Seen::Ready,
                Err(_) => Seen::Nothing,
            }
        })
    }

    pub(crate) fn wait_for_instance(&self, name: &str, stop: Option<&Receiver<()>>) -> Result<(), DemoError> {
        self.wait_for(name, INSTANCE_PROGRESS, stop, |address| {
            let asked = instance::status(address, &self.access, instance::PATIENCE);
            match self.runtime.block_on(asked) {
                // A standby serves before its replay is where clients may come.
                Ok(status)
                    if status.health.phase == Phase::Ready
                        && status.reader.is_none_or(|reader| reader.lets_clients_in) =>
                {
                    Seen::Ready
                }
                Ok(status) => Seen::Progress(Progress::of(&status)),
                Err(_) => Seen::Nothing,
            }
        })
    }

    /// Waits until a member is ready, as long as it gets on: a recovery takes the time that it takes.
    fn wait_for(
        &self,
        name: &str,
        limit: Duration,
        stop: Option<&Receiver<()>>,
        look: impl Fn(SocketAddr) -> Seen,
    ) -> Result<(), DemoError> {
        let address = self.cluster().0.address(name)?;
        let (mut last, mut deadline, mut tell_at) = (None, Instant::now() + limit, Instant::now() + TELL_EVERY);
        loop {
            self.cluster().0.check_alive(name)?;
            match look(address) {
                Seen::Ready => return Ok(()),
                Seen::Progress(now) if last.as_ref() != Some(&now) => {
                    last = Some(now);
                    deadline = Instant::now() + limit;
                }
                Seen::Progress(_) | Seen::Nothing => {}
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(self.cluster().0.late(name, limit).into());
            }
            if now >= tell_at {
                tell_at = now + TELL_EVERY;
                println!("{name}: {}", last.as_ref().map_or("no answer yet".to_owned(), Progress::to_string));
            }
            if stop.is_some_and(|stop| stop.try_recv().is_ok()) {
                return Err(DemoError::Interrupted);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Returns when a person has asked to stop.
pub(super) async fn asked_to_stop(stop: &Receiver<()>) {
    while stop.try_recv().is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a look at a member shows.
enum Seen {
    /// It serves.
    Ready,
    /// It does not serve yet.
    Progress(Progress),
    /// It does not answer.
    Nothing,
}

/// How far it is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Progress {
    phase: Phase,
    /// When it came into this phase.
    since_ms: u64,
    /// What PostgreSQL says of its recovery.
    recovery: Option<String>,
    /// Redo records made: a recovery writes.
    records: u64,
    /// Pages that came from storage: a recovery reads.
    pages_read: u64,
}

impl Progress {
    /// How far an instance is.
    fn of(status: &InstanceStatus) -> Progress {
        Progress {
            phase: status.health.phase,
            since_ms: status.health.since_ms,
            recovery: status.health.progress.clone(),
            records: status.mount.map_or(0, |mount| mount.records),
            pages_read: status.pages_read(),
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Connecting => "looking for its writer",
            Phase::Recovering => "recovering the volume",
            Phase::CreatingCluster => "creating the database cluster",
            Phase::StartingPostgres => "PostgreSQL is starting",
            Phase::Ready => "ready",
            Phase::Stopping => "stopping",
            Phase::Fenced => "fenced",
        };
        write!(out, "{phase}")?;
        if let Some(recovery) = &self.recovery {
            write!(out, ": {recovery}")?;
        }
        write!(out, " ({} redo records made, {} pages read)", self.records, self.pages_read)
    }
}
