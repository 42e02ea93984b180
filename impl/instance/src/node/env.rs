//! What all lives of an instance share: its tasks, its role, its admin port.

use super::port::serve_admin;
use super::roles::Roles;
use super::shown::Shown;
use super::{InstanceRole, NodeError, io_error};
use crate::postgres::user::RunAs;
use crate::sql::{Reporter, Said};
use crate::supervise::Event;
use auriga_volume::VolumeConfig;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use tokio::runtime::Runtime;

/// What an instance is, whatever its role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    /// Its Availability Zone; empty where nobody has said.
    pub az: String,
    /// Its promotion tier, 0 to 15: of the instances that could be promoted, one of the lowest tier is.
    pub tier: u8,
    /// The admin port.
    pub admin: SocketAddr,
}

/// What is reported to functions in SQL: where, as whom, and what other processes say.
pub(super) struct Reports<'a> {
    pub directory: &'a Path,
    pub user: Option<&'a str>,
    pub said: &'a Said,
}

/// See the module's header.
pub(super) struct Env {
    pub runtime: Runtime,
    pub shown: Arc<Shown>,
    pub roles: Roles,
    _reporter: Reporter,
}

impl Env {
    /// Begins to hear what comes to the process, and to answer on the admin port.
    pub fn start(
        about: &About,
        volume: &VolumeConfig,
        postgres: SocketAddr,
        cache_bytes: usize,
        (role, is_free): (InstanceRole, bool),
        receiver: Receiver<Event>,
        sql: Reports<'_>,
    ) -> Result<Env, NodeError> {
        // One thread: what storage says is short work, and a second one would be woken for every acknowledgement, to find
        // nothing to steal. Whatever waits is on FUSE's threads or the file system's own.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(io_error("starting tokio"))?;
        let roles = Roles::new(role, is_free);
        roles.hear(receiver).map_err(io_error("starting a thread"))?;
        let name = volume.name.clone();
        let shown = Arc::new(Shown::new(name, about, postgres, cache_bytes as u64, roles.clone()));
        serve_admin(about.admin, volume.credentials.clone(), &shown)?;
        let (own, crashing) = (Arc::clone(&shown), roles.clone());
        let user = RunAs::resolve(sql.user)?;
        let said = sql.said.clone();
        let reporter = Reporter::start(sql.directory, user, move || own.status(), said, move || crashing.crash());
        let _reporter = reporter.map_err(io_error("reporting for SQL"))?;
        Ok(Env { runtime, shown, roles, _reporter })
    }
}
