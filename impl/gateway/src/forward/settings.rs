//! How writes are forwarded: the section `[forward]` of a gateway's configuration.

use auriga_admin::looking::InstanceAddress;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What a session's reads wait for: `apg_write_forward.consistency_mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// For what the session itself has had written.
    #[default]
    Session,
    /// For nothing.
    Eventual,
    /// For everything that was committed when the read began.
    Global,
    /// Nothing is forwarded.
    Off,
}

impl Mode {
    /// The mode of this name.
    pub fn named(name: &str) -> Option<Mode> {
        match name.trim().to_ascii_lowercase().as_str() {
            "session" => Some(Mode::Session),
            "eventual" => Some(Mode::Eventual),
            "global" => Some(Mode::Global),
            "off" => Some(Mode::Off),
            _ => None,
        }
    }
}

/// An endpoint where sessions read from a reader and have a writer write.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardConfig {
    /// Where connections come in.
    pub listen: SocketAddr,
    /// What reads wait for, in sessions that say nothing else.
    #[serde(default)]
    pub consistency_mode: Mode,
    /// How long a connection to the writer may take, and the search for one, in seconds.
    #[serde(default = "connect_timeout_s")]
    pub connect_timeout_s: u64,
    /// How long a read may wait, in seconds.
    #[serde(default = "wait_timeout_s")]
    pub wait_timeout_s: u64,
    /// A connection to the writer that was not used for so long is closed; the session goes on. Milliseconds.
    #[serde(default = "idle_session_timeout")]
    pub idle_session_timeout: u64,
    /// A session with a transaction on the writer that has asked for nothing for so long is ended. Milliseconds.
    #[serde(default = "idle_in_transaction_session_timeout")]
    pub idle_in_transaction_session_timeout: u64,
    /// How many of the writer's `max_connections` this gateway may take, in percent.
    #[serde(default = "max_forwarding_connections_percent")]
    pub max_forwarding_connections_percent: u32,
    /// In a global database: the other regions' instances, of which one may be the writer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<ForwardRegion>,
}

/// Another region, of which an instance may be the writer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardRegion {
    /// Which.
    pub region: u16,
    /// Its cluster, by which its instances are asked.
    pub cluster: String,
    /// Where PostgreSQL of the writer there is reached, where that is not at the address that it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<SocketAddr>,
    /// Its instances.
    pub instances: Vec<InstanceAddress>,
}

/// The usual [`ForwardConfig::connect_timeout_s`], as in Aurora.
pub const fn connect_timeout_s() -> u64 {
    30
}

/// The usual [`ForwardConfig::wait_timeout_s`].
pub const fn wait_timeout_s() -> u64 {
    30
}

/// The usual [`ForwardConfig::idle_session_timeout`], as in Aurora.
pub const fn idle_session_timeout() -> u64 {
    300_000
}

/// The usual [`ForwardConfig::idle_in_transaction_session_timeout`], as in Aurora.
pub const fn idle_in_transaction_session_timeout() -> u64 {
    86_400_000
}

/// The usual [`ForwardConfig::max_forwarding_connections_percent`], as in Aurora.
pub const fn max_forwarding_connections_percent() -> u32 {
    25
}

impl ForwardConfig {
    /// An endpoint with everything as usual.
    pub fn usual(listen: SocketAddr) -> ForwardConfig {
        ForwardConfig {
            listen,
            consistency_mode: Mode::default(),
            connect_timeout_s: connect_timeout_s(),
            wait_timeout_s: wait_timeout_s(),
            idle_session_timeout: idle_session_timeout(),
            idle_in_transaction_session_timeout: idle_in_transaction_session_timeout(),
            max_forwarding_connections_percent: max_forwarding_connections_percent(),
            regions: Vec::new(),
        }
    }
}
