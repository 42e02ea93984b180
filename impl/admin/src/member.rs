//! A member of a cluster, as `status` and `inject` see it.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What a member does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Keeps segments.
    Storage,
    /// Runs PostgreSQL.
    Instance,
    /// Has another instance take over.
    Control,
    /// Takes clients' connections.
    Gateway,
}

/// What state its process is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Running.
    Up,
    /// Stopped by SIGSTOP.
    Frozen,
    /// Not running.
    Down,
}

/// One member of a demo, as `status` and `inject` see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Its Availability Zone; empty for an instance that writes.
    pub az: String,
    /// Where it listens: the storage port, or an instance's admin port.
    pub address: SocketAddr,
    /// Where PostgreSQL listens, for an instance.
    pub postgres: Option<SocketAddr>,
    /// Its process, where there is one.
    pub pid: Option<u32>,
    /// The state of its process.
    pub state: State,
    /// The faults that were injected and are in force, for a person.
    #[serde(default)]
    pub faults: Vec<String>,
}
