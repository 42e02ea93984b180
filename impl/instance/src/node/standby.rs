//! A reader: a stock hot standby on a reader's mount of a volume.
//!
//! ```text
//! begin at a published point ─► mount ─► supervise postgres ─► follow its replay ─► let clients in
//! ```
//!
//! Before replay has passed where the reader began, no client from the network is let in (R-READER-FS-3): PostgreSQL is
//! given a `pg_hba.conf` on the local disk that has only the lines for Unix sockets, and the whole file afterwards.
//! Whatever goes wrong for good, and when its PostgreSQL ends unasked, the reader ends, and another is started from a fresh
//! point: it has stored nothing (R-READER-FS-15).

use super::{Local, NodeError, absolute, io_error};
use crate::health::Health;
use crate::on_mount::Helper;
use crate::on_mount::prepare::{Prepare, Prepared, prepare};
use crate::postgres::cluster::Cluster;
use crate::postgres::control::at_least;
use crate::postgres::find;
use crate::postgres::server::ServerSpec;
use crate::postgres::session::Session;
use crate::postgres::settings;
use crate::postgres::user::RunAs;
use crate::sql::replace;
use crate::supervise::{Ended, Event, supervise_once};
use auriga_pagefs::reader::{Ahead, Feed, FollowError};
use auriga_pagefs::{Mount, MountError, MountOptions, ReaderFs, ReaderOptions};
use auriga_volume::ReaderVolume;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the reader looks whether it can advance.
const STEP_EVERY: Duration = Duration::from_millis(5);
/// How long it waits before it asks a server again that did not answer.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What a reader needs to know.
#[derive(Clone, Debug)]
pub struct StandbyConfig {
    /// Local directory: mount point, sockets, logs, and the overlay. It can be lost.
    pub directory: PathBuf,
    /// Address that PostgreSQL listens on.
    pub listen: IpAddr,
    /// PostgreSQL's port.
    pub port: u16,
    /// How to reach the writer, as `primary_conninfo` has it; where it depends on who writes, what to begin with.
    pub writer: String,
    /// Directory of PostgreSQL's programs, where it isn't to be searched for.
    pub pg_bin: Option<PathBuf>,
    /// Whom PostgreSQL runs as.
    pub user: Option<String>,
    /// Where PostgreSQL's log is appended; in `directory` where absent.
    pub log: Option<PathBuf>,
    /// PostgreSQL's settings.
    pub settings: Vec<(String, String)>,
    /// How to start what uses the mount.
    pub helper: Helper,
    /// Limit of the volume's pages in memory, in bytes.
    pub cache_bytes: usize,
    /// Limit of the overlay in memory, in bytes.
    pub overlay_bytes: usize,
    /// Limit of the overlay on the local disk, in bytes.
    pub spill_bytes: u64,
    /// How long a read may wait for storage before PostgreSQL sees an I/O error.
    pub deadline: Duration,
}

/// Runs a reader until it is told to stop, or can't go on. To be called on a thread that lives as long, in a private mount
/// namespace.
///
/// # Errors
/// Something is missing, or the reader can't begin or go on.
pub fn run(
    config: &StandbyConfig,
    volume: Arc<dyn ReaderVolume>,
    health: &Arc<Health>,
    sender: &SyncSender<Event>,
    receiver: Receiver<Event>,
) -> Result<Ended, NodeError> {
    let surroundings = Surroundings {
        begun: Box::new(|_| ()),
        serves: Box::new(|_| ()),
        conninfo: Box::new(|| None),
        is_judged: Box::new(|| true),
        ahead: None,
    };
    run_within(config, volume, health, sender, receiver, surroundings)
}

/// Is told of a file system.
type Begun<'a> = Box<dyn FnOnce(&Arc<ReaderFs>) + 'a>;

/// What whoever runs a standby tells it, and is told.
pub(super) struct Surroundings<'a> {
    /// Called with the file system once there is one.
    pub begun: Begun<'a>,
    /// Called with PostgreSQL before it is started.
    pub serves: Box<dyn Fn(&ServerSpec) + 'a>,
    /// How to reach the PostgreSQL of the writer that is followed now; `None`: as the configuration says. Empty: it has none.
    pub conninfo: Box<dyn Fn() -> Option<String> + Send>,
    /// Whether what that writer has written may be replayed.
    pub is_judged: Box<dyn Fn() -> bool + Send>,
    /// The volume, where its WAL may have to be looked for in it.
    pub ahead: Option<Arc<Ahead>>,
}

/// Looks whether what can be known to be missing is there.
pub(super) fn check(config: &StandbyConfig) -> Result<(), NodeError> {
    let installations = find::find(config.pg_bin.as_deref())?;
    let user = RunAs::resolve(config.user.as_deref())?;
    Ok(settings::check(&installations[0], &user, &config.settings)?)
}

/// The same as [`run`], within its surroundings.
pub(super) fn run_within(
    config: &StandbyConfig,
    volume: Arc<dyn ReaderVolume>,
    health: &Arc<Health>,
    sender: &SyncSender<Event>,
    receiver: Receiver<Event>,
    surroundings: Surroundings<'_>,
) -> Result<Ended, NodeError> {
    let installations = find::find(config.pg_bin.as_deref())?;
    let user = RunAs::resolve(config.user.as_deref())?;
    settings::check(&installations[0], &user, &config.settings)?;
    let local = Local::make(&config.directory, &user)?;
    let (fs, mount) = begin(config, volume, &local)?;
    (surroundings.begun)(&fs);
    let job = Prepare::existing(local.mount.clone(), installations, user.clone(), config.listen);
    let prepared = prepare(&config.helper, job, health, &receiver, || None);
    let prepared = match prepared.map_err(io_error("looking at the database cluster"))? {
        Ok(prepared) => prepared,
        Err(ended) => return Ok(ended),
    };
    let gate = Gate { path: absolute(&config.directory.join("pg_hba.conf"))?, all: prepared.hba.clone(), user };
    gate.close().map_err(io_error("writing pg_hba.conf"))?;
    let mut upstream = Upstream {
        path: absolute(&config.directory.join("standby.conf"))?,
        data: Cluster::in_root(&local.mount).data(),
        user: gate.user.clone(),
        usual: config.writer.clone(),
        written: None,
        now: surroundings.conninfo,
        is_judged: surroundings.is_judged,
        waits: false,
    };
    upstream.follow().map_err(io_error("writing standby.conf"))?;
    let spec = server(config, prepared, (&gate, &upstream), &local)?;
    (surroundings.serves)(&spec);
    let lost = Arc::new(Mutex::new(None));
    let follower = {
        let feed = surroundings.ahead.map(|ahead| Feed::new(ahead, fs.clone()));
        let mut asking = Asking::new(&spec, gate, upstream, fs.clone(), feed);
        let (lost, sender) = (lost.clone(), sender.clone());
        fs.follow_fed(
            STEP_EVERY,
            move || asking.replayed(),
            move |error| {
                tracing::error!(%error, "this reader can't go on: start another");
                *lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                let _ = sender.send(Event::Stop);
            },
        )
    };
    let follower = follower.map_err(io_error("starting a thread"))?;
    let ended = supervise_once(&spec, health, sender, receiver);
    drop(follower);
    if let Err(error) = mount.detach() {
        tracing::warn!(%error, "the mount was in use when it was given up");
    }
    let lost = lost.lock().unwrap_or_else(PoisonError::into_inner).take();
    match lost {
        Some(error) => Err(NodeError::Reader(error)),
        None => ended.map_err(io_error(format!("running {}", spec.installation.bin.display()))),
    }
}

/// Begins at the newest published point, and mounts.
fn begin(
    config: &StandbyConfig,
    volume: Arc<dyn ReaderVolume>,
    local: &Local,
) -> Result<(Arc<ReaderFs>, Mount<ReaderFs>), NodeError> {
    let options = ReaderOptions {
        own: vec![("standby.signal".to_owned(), Vec::new())],
        cache_bytes: config.cache_bytes,
        overlay_bytes: config.overlay_bytes,
        spill: Some(config.directory.join("overlay")),
        spill_bytes: config.spill_bytes,
        deadline: config.deadline,
        ..ReaderOptions::default()
    };
    let fs = ReaderFs::start(volume, options).map_err(MountError::from)?;
    let options = MountOptions {
        // The whole process is in a private mount namespace already: see `enter_private_namespace`.
        private: false,
        absolute_links: false,
        local: Some(local.temporary.clone()),
        ..MountOptions::default()
    };
    let mount = Mount::reader(fs.clone(), &local.mount, &options)?;
    let figures = fs.figures();
    tracing::info!(read_point = %figures.read_point, wal = figures.wal, "READER: begun at a published point");
    Ok((fs, mount))
}

fn server(
    config: &StandbyConfig,
    prepared: Prepared,
    (gate, upstream): (&Gate, &Upstream),
    local: &Local,
) -> Result<ServerSpec, NodeError> {
    let usual = USUAL.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut settings: Vec<_> = usual.into_iter().chain(at_least(&config.settings, &prepared.least)).collect();
    let log = config.log.clone().unwrap_or_else(|| config.directory.join("postgres.log"));
    let named = |path: &Path| {
        let name = path.to_str().map(str::to_owned);
        name.ok_or_else(|| io_error(format!("naming {}", path.display()))(io::ErrorKind::InvalidInput.into()))
    };
    let (hba, conf) = (named(&gate.path)?, named(&upstream.path)?);
    // A server that starts again by itself would replay from where it has been, over files that are further (R-READER-FS-15).
    let ours = [("hot_standby", "on"), ("config_file", &conf), ("hba_file", &hba), ("restart_after_crash", "off")];
    settings.extend(ours.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Ok(ServerSpec {
        installation: prepared.installation,
        user: gate.user.clone(),
        data: Cluster::in_root(&local.mount).data(),
        sockets: local.sockets.clone(),
        log: absolute(&log)?,
        listen: config.listen.to_string(),
        port: config.port,
        settings,
        helper: config.helper.clone(),
    })
}

/// Settings that suit a reader; the instance's own win.
const USUAL: [(&str, &str); 1] = [
    // The writer keeps the rows that queries here still see. It would collect them sooner otherwise, and cancel the queries.
    ("hot_standby_feedback", "on"),
];

/// How often the standby looks for WAL where its writer has no server, and dials one that it has. The writer may be a new
/// one at any time.
const POLL_EVERY: &str = "20ms";
/// See [`POLL_EVERY`].
const DIAL_EVERY: &str = "500ms";

/// Whose WAL the standby streams. It is in a file on the local disk, which includes the cluster's own: what is given on the
/// command line could not be changed while the server runs.
struct Upstream {
    path: PathBuf,
    data: PathBuf,
    user: RunAs,
    usual: String,
    written: Option<String>,
    now: Box<dyn Fn() -> Option<String> + Send>,
    is_judged: Box<dyn Fn() -> bool + Send>,
    /// Another writer is followed, and it isn't known yet whether its WAL may be replayed.
    waits: bool,
}

impl Upstream {
    /// Writes the file, unless it says what it should. Returns whether the server must be told.
    fn follow(&mut self) -> io::Result<bool> {
        // Where nobody has been heard yet, the last one may come back.
        let now = (self.now)().or_else(|| self.written.clone()).unwrap_or_else(|| self.usual.clone());
        let (is_same, is_judged) = (self.written.as_ref() == Some(&now), (self.is_judged)());
        self.waits = !is_same && !is_judged;
        if is_same || self.waits {
            return Ok(false);
        }
        let data = self.data.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let text = format!(
            "include {}\nprimary_conninfo = {}\nwal_retrieve_retry_interval = {}\n",
            quoted(&format!("{data}/postgresql.conf")),
            quoted(&now),
            if now.is_empty() { POLL_EVERY } else { DIAL_EVERY },
        );
        replace(&self.path, &text, &self.user)?;
        self.written = Some(now);
        Ok(true)
    }

    /// Whether there is no server to stream from.
    fn is_none(&self) -> bool {
        self.written.as_ref().is_some_and(String::is_empty)
    }
}

/// A value, as PostgreSQL's configuration files have it.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// Who is let in.
struct Gate {
    path: PathBuf,
    /// The cluster's own `pg_hba.conf`.
    all: String,
    user: RunAs,
}

impl Gate {
    /// Nobody from the network.
    fn close(&self) -> io::Result<()> {
        replace(&self.path, &sockets_only(&self.all), &self.user)
    }

    fn open(&self) -> io::Result<()> {
        replace(&self.path, &self.all, &self.user)
    }
}

/// The lines of a `pg_hba.conf` that are about Unix sockets.
fn sockets_only(all: &str) -> String {
    all.lines().filter(|line| line.trim_start().starts_with("local")).flat_map(|line| [line, "\n"]).collect()
}

/// Asks the standby how far its replay is, and lets clients in when they may come.
struct Asking {
    spec: ServerSpec,
    session: Option<Session>,
    /// What this session has answered last.
    replayed: Option<u64>,
    gate: Gate,
    is_open: bool,
    upstream: Upstream,
    fs: Arc<ReaderFs>,
    feed: Option<Feed>,
}

impl Asking {
    fn new(spec: &ServerSpec, gate: Gate, upstream: Upstream, fs: Arc<ReaderFs>, feed: Option<Feed>) -> Asking {
        Asking { spec: spec.clone(), session: None, replayed: None, gate, is_open: false, upstream, fs, feed }
    }

    /// `pg_last_wal_replay_lsn()`; `None`: the server does not answer. Feeds the server, where it is not connected to the
    /// writer's.
    fn replayed(&mut self) -> Result<Option<u64>, FollowError> {
        match self.ask() {
            Ok(replayed) => self.replayed = replayed,
            Err(_) => {
                // It has just been started, or has ended.
                (self.session, self.replayed) = (None, None);
                std::thread::sleep(ASK_AGAIN);
            }
        }
        if let (Some(feed), Some(replayed)) = (&mut self.feed, self.replayed) {
            match () {
                () if self.upstream.is_none() => feed.step(replayed)?,
                () if self.upstream.waits => feed.look()?,
                () => feed.pause(),
            }
        }
        Ok(self.replayed)
    }

    fn ask(&mut self) -> io::Result<Option<u64>> {
        let session = match &mut self.session {
            Some(session) => session,
            None => self.session.insert(Session::begin(&self.spec)?),
        };
        if !self.is_open
            && let Some(replayed) = self.replayed
            && self.fs.is_ready_at(replayed)
        {
            self.gate.open()?;
            self.is_open = true;
            session.ask("SELECT pg_reload_conf()")?;
            tracing::info!("replay has passed where the reader began: clients are let in");
        }
        if self.upstream.follow()? {
            session.ask("SELECT pg_reload_conf()")?;
            match self.upstream.is_none() {
                true => tracing::info!("the region's process writes: the WAL is looked for in the volume from now on"),
                false => tracing::info!("another instance writes: its WAL is streamed from now on"),
            }
        }
        session.ask_position("SELECT pg_last_wal_replay_lsn()")
    }
}

#[cfg(test)]
mod tests {
    use super::{quoted, sockets_only};

    #[test]
    fn values_are_quoted() {
        assert_eq!(quoted("a 'b' c\\d"), "'a ''b'' c\\\\d'");
    }

    #[test]
    fn the_gate_lets_nobody_in_from_the_network() {
        let all = "# comment\nlocal   all all peer\nhost all all 127.0.0.1/32 trust\n  local replication all peer\nhostssl all all all md5\n";
        assert_eq!(sockets_only(all), "local   all all peer\n  local replication all peer\n");
    }
}
