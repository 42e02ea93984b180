//! The processes of a demo, and what can be done to them.

use super::certificates;
use super::layout::Layout;
use super::watchers::{CONTROL, GATEWAY};
use crate::process::Process;
use auriga_admin::config;
use auriga_admin::member::{Described, Role, State};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long a graceful stop may take before SIGKILL.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Why something could not be done to a demo's processes.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No process of that name.
    #[error("no process is called {0:?}; there are: {1}")]
    Unknown(String, String),
    /// It can't be started.
    #[error("starting {name}: {source}")]
    Start {
        /// The process.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It ended instead of getting ready.
    #[error("{name} ended ({how}); the end of {}:\n{tail}", log.display())]
    Ended {
        /// The process.
        name: String,
        /// Its exit status.
        how: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// It did not get ready in time.
    #[error("{name} was not ready, and made no progress for {seconds} s; the end of {}:\n{tail}", log.display())]
    Late {
        /// The process.
        name: String,
        /// The limit.
        seconds: u64,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A file of the demo.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// A certificate of the demo.
    #[error("the demo's certificates: {0}")]
    Certificates(#[from] auriga_certs::CertsError),
    /// A directory of the demo.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// How it failed.
        source: std::io::Error,
    },
    /// A storage process or an instance did not do what it was asked.
    #[error("{0}")]
    Admin(String),
}

struct Member {
    name: String,
    role: Role,
    /// Index of a storage process, number of an instance.
    number: usize,
    /// An instance's local directory.
    directory: Option<PathBuf>,
    process: Option<Process>,
}

/// The processes of a demo.
pub struct Cluster {
    layout: Layout,
    members: Vec<Member>,
    /// Counts the directories of instances, so that each start gets an empty one.
    directories: usize,
}

impl Cluster {
    /// The storage processes, not started.
    ///
    /// # Errors
    /// The demo's directories can't be made.
    pub fn new(layout: Layout) -> Result<Cluster, ClusterError> {
        // What an earlier life of a kept demo was killed over: nothing in it is needed.
        let _ = std::fs::remove_dir_all(layout.dir.join("instances"));
        for name in ["logs", "storage", "instances", "config", "traces"] {
            let path = layout.dir.join(name);
            std::fs::create_dir_all(&path).map_err(|source| ClusterError::Io { path, source })?;
        }
        let members = layout
            .storage_names()
            .into_iter()
            .enumerate()
            .map(|(number, name)| Member { name, role: Role::Storage, number, directory: None, process: None })
            .collect();
        Ok(Cluster { layout, members, directories: 0 })
    }

    /// The demo's fixed facts.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Everyone.
    pub fn describe(&mut self) -> Vec<Described> {
        let layout = self.layout.clone();
        self.members.iter_mut().map(|member| describe(&layout, member)).collect()
    }

    /// The names that `target` stands for: one member, `az-a` … `az-c`, `storage` (all of them), `instance` (the one
    /// that writes), `readers` or `all`.
    ///
    /// # Errors
    /// No such name.
    pub fn targets(&self, target: &str) -> Result<Vec<String>, ClusterError> {
        let any_instance = self.members.iter().any(|m| self.writes(m) && m.process.is_some());
        let names = self.members.iter().filter(|m| match target {
            "all" => true,
            "storage" => m.role == Role::Storage,
            "instance" => self.writes(m) && (m.process.is_some() || !any_instance),
            "readers" => m.role == Role::Instance && !self.writes(m),
            _ => match target.strip_prefix("az-") {
                Some(az) => az_of(&self.layout, m) == az,
                None => m.name == target,
            },
        });
        let names: Vec<String> = names.map(|m| m.name.clone()).collect();
        match names.is_empty() {
            false => Ok(names),
            true => {
                let mut known: Vec<&str> = self.members.iter().map(|m| m.name.as_str()).collect();
                known.extend(["az-a", "az-b", "az-c", "instance", "readers", "storage", "all"]);
                Err(ClusterError::Unknown(target.to_owned(), known.join(", ")))
            }
        }
    }

    fn writes(&self, member: &Member) -> bool {
        member.role == Role::Instance && !self.layout.is_reader(member.number as u8)
    }

    /// Adds an instance, not started. The demo's first has number 0.
    pub fn add_instance(&mut self, name: &str, number: u8) {
        self.members.push(Member {
            name: name.to_owned(),
            role: Role::Instance,
            number: usize::from(number),
            directory: None,
            process: None,
        });
    }

    /// Adds the controller and the gateway, not started.
    pub fn add_watchers(&mut self) {
        for (name, role) in [(CONTROL, Role::Control), (GATEWAY, Role::Gateway)] {
            self.members.push(Member { name: name.to_owned(), role, number: 0, directory: None, process: None });
        }
    }

    /// Adds the process of a region of a global database, and its gateway, not started.
    pub fn add_region(&mut self, name: &str) {
        for (name, role) in [(name, Role::Region), (GATEWAY, Role::Gateway)] {
            self.members.push(Member { name: name.to_owned(), role, number: 0, directory: None, process: None });
        }
    }

    /// The number of an instance; `None`: no instance is called that.
    pub fn instance_number(&self, name: &str) -> Option<u8> {
        let mut instances = self.members.iter().filter(|member| member.role == Role::Instance);
        instances.find(|member| member.name == name).map(|member| member.number as u8)
    }

    /// Starts a member that is not running; an instance on a new, empty directory.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(&mut self, name: &str) -> Result<(), ClusterError> {
        if self.member(name)?.process.as_mut().is_some_and(|p| p.ended().is_none()) {
            return Ok(());
        }
        let (role, number) = (self.member(name)?.role, self.member(name)?.number);
        let file = self.layout.dir.join("config").join(format!("{name}.toml"));
        let mut directory = None;
        match role {
            Role::Storage => config::write(&file, &self.layout.storage_config(number))?,
            Role::Instance => {
                self.forget_directory(name)?;
                let path = self.fresh_directory(name)?;
                if let Some(dir) = &self.layout.certificates {
                    certificates::of_instance(dir, name)?;
                }
                config::write(&file, &self.layout.instance_config(name, number as u8, &path))?;
                directory = Some(path);
            }
            Role::Control | Role::Gateway => {
                if let Some(dir) = &self.layout.certificates {
                    certificates::of_watcher(dir, name)?;
                }
                match role {
                    Role::Control => config::write(&file, &self.layout.control_config())?,
                    _ => config::write(&file, &self.layout.gateway_config())?,
                }
            }
            Role::Region => {
                if let Some(dir) = &self.layout.certificates {
                    certificates::of_region(dir, name)?;
                }
                self.layout
                    .region
                    .iter()
                    .try_for_each(|region| config::write(&file, &self.layout.region_config(region, name)))?;
            }
        }
        let verb: &[&str] = match role {
            Role::Storage => &["storage"],
            Role::Instance => &["instance"],
            Role::Control => &["control"],
            Role::Gateway => &["gateway"],
            Role::Region => &["global", "region"],
        };
        let args: Vec<&OsStr> = verb.iter().chain(&["--config"]).map(OsStr::new).chain([file.as_os_str()]).collect();
        let process = Process::start(&args, &self.layout.log(name))
            .map_err(|source| ClusterError::Start { name: name.to_owned(), source })?;
        let member = self.member(name)?;
        member.process = Some(process);
        member.directory = directory;
        Ok(())
    }

    /// Makes a directory that was not there: what an earlier life of the demo was killed over may still be.
    fn fresh_directory(&mut self, name: &str) -> Result<PathBuf, ClusterError> {
        loop {
            self.directories += 1;
            let path = self.layout.dir.join("instances").join(format!("{name}-{}", self.directories));
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| path.clone()).map_err(|source| ClusterError::Io { path, source }),
            }
        }
    }

    /// SIGKILL. An instance's directory is deleted: nothing in it is needed.
    ///
    /// # Errors
    /// No such member.
    pub fn kill(&mut self, name: &str) -> Result<(), ClusterError> {
        if let Some(mut process) = self.member(name)?.process.take() {
            process.kill();
        }
        self.forget_directory(name)
    }

    /// Deletes the directory of a storage process that is not running.
    ///
    /// # Errors
    /// It can't be deleted.
    pub fn forget_storage(&mut self, name: &str) -> Result<(), ClusterError> {
        let path = self.layout.storage().join(name);
        match std::fs::remove_dir_all(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(ClusterError::Io { path, source }),
            _ => Ok(()),
        }
    }

    /// SIGKILL to every process, as near to one moment as signals are.
    pub fn kill_all(&mut self) {
        for process in self.members.iter().filter_map(|m| m.process.as_ref()) {
            process.kill_soon();
        }
        let names: Vec<String> = self.members.iter().map(|m| m.name.clone()).collect();
        for name in names {
            if let Err(error) = self.kill(&name) {
                tracing::warn!(%error, "while killing everything");
            }
        }
    }

    /// SIGTERM, and waits.
    ///
    /// # Errors
    /// No such member.
    pub fn stop(&mut self, name: &str) -> Result<(), ClusterError> {
        if let Some(mut process) = self.member(name)?.process.take() {
            process.stop(STOP_LIMIT);
        }
        self.forget_directory(name)
    }

    /// Where a member answers: the storage port, or an instance's admin port.
    ///
    /// # Errors
    /// No such member.
    pub fn address(&mut self, name: &str) -> Result<SocketAddr, ClusterError> {
        let layout = self.layout.clone();
        Ok(describe(&layout, self.member(name)?).address)
    }

    /// The process of a running member, to be frozen or resumed.
    ///
    /// # Errors
    /// No such member, or it is not running.
    pub fn process(&mut self, name: &str) -> Result<&mut Process, ClusterError> {
        self.member(name)?.process.as_mut().ok_or_else(|| ClusterError::Admin(format!("{name} is not running")))
    }

    /// The error that says how a member ended, if it has.
    ///
    /// # Errors
    /// It has ended.
    pub fn check_alive(&mut self, name: &str) -> Result<(), ClusterError> {
        let log = self.layout.log(name);
        let member = self.member(name)?;
        let how = match member.process.as_mut() {
            None => "it was not started".to_owned(),
            Some(process) => match process.ended() {
                None => return Ok(()),
                Some(status) => status.to_string(),
            },
        };
        let tail = self.tail(name);
        Err(ClusterError::Ended { name: name.to_owned(), how, log, tail })
    }

    /// The error that says that a member is not ready after so long without progress.
    pub fn late(&self, name: &str, limit: Duration) -> ClusterError {
        let (name, log) = (name.to_owned(), self.layout.log(name));
        ClusterError::Late { tail: self.tail(&name), name, seconds: limit.as_secs(), log }
    }

    /// The last lines of a member's log, and of its PostgreSQL's, if it has one.
    fn tail(&self, name: &str) -> String {
        let mut text = tail(&self.layout.log(name));
        let postgres = self.layout.postgres_log(name);
        if postgres.exists() {
            text.push_str(&format!("\nthe end of {}:\n{}", postgres.display(), tail(&postgres)));
        }
        text
    }

    /// Members whose process has ended without being asked to, each told once.
    pub fn take_ended(&mut self) -> Vec<(String, std::process::ExitStatus)> {
        let mut ended = Vec::new();
        for member in &mut self.members {
            if let Some(status) = member.process.as_mut().and_then(Process::ended) {
                member.process = None;
                ended.push((member.name.clone(), status));
            }
        }
        ended
    }

    /// Stops everything in order: the controller first, so that nobody takes over, then instances (each writes a checkpoint),
    /// the region's process, then storage.
    pub fn stop_all(&mut self) {
        for role in [Role::Control, Role::Gateway, Role::Instance, Role::Region, Role::Storage] {
            let mut names = Vec::new();
            for member in self.members.iter_mut().filter(|member| member.role == role) {
                names.push(member.name.clone());
                // All of them at once, so that those that do not hear do not add up.
                member.process.iter_mut().for_each(Process::stop_soon);
            }
            for name in names {
                if let Err(error) = self.stop(&name) {
                    tracing::warn!(%error, "while stopping");
                }
            }
        }
    }

    fn member(&mut self, name: &str) -> Result<&mut Member, ClusterError> {
        let known = self.members.iter().map(|m| m.name.clone()).collect::<Vec<_>>().join(", ");
        self.members.iter_mut().find(|m| m.name == name).ok_or_else(|| ClusterError::Unknown(name.to_owned(), known))
    }

    fn forget_directory(&mut self, name: &str) -> Result<(), ClusterError> {
        let Some(path) = self.member(name)?.directory.take() else { return Ok(()) };
        std::fs::remove_dir_all(&path).map_err(|source| ClusterError::Io { path, source })
    }
}

fn describe(layout: &Layout, member: &mut Member) -> Described {
    let running = member.process.as_mut().and_then(|process| process.ended().is_none().then_some(process));
    let state = match running {
        Some(process) if process.is_frozen() => State::Frozen,
        Some(_) => State::Up,
        None => State::Down,
    };
    let pid = member.process.as_ref().filter(|_| state != State::Down).map(Process::pid);
    let (address, postgres) = match member.role {
        Role::Storage => (layout.storage_address(member.number), None),
        Role::Instance => {
            let host = layout.instance_host(member.number as u8);
            (SocketAddr::new(host, super::layout::ADMIN_PORT), Some(SocketAddr::new(host, layout.port)))
        }
        Role::Control => (layout.control_address(), None),
        Role::Gateway => (layout.writer_endpoint(), None),
        Role::Region => (layout.region_address(), None),
    };
    let az = az_of(layout, member);
    Described { name: member.name.clone(), role: member.role, az, address, postgres, pid, state, faults: Vec::new() }
}

/// The Availability Zone of a storage process, or of an instance of several. One that is alone moves between them, and has
/// none; nor have the controller, the gateway and a region's process.
fn az_of(layout: &Layout, member: &Member) -> String {
    match (member.role, member.number as u8) {
        (Role::Storage, _) => Layout::az(&member.name),
        (Role::Instance, number) if layout.roles_change(number) => Layout::instance_az(number).to_owned(),
        (Role::Instance | Role::Control | Role::Gateway | Role::Region, _) => String::new(),
    }
}

/// The last lines of a log.
fn tail(log: &std::path::Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
