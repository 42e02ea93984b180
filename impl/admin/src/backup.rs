//! The configuration file of a backup.

use crate::config::{StorageAddress, TlsConfig, is_false, one};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The process that backs one volume up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupConfig {
    /// Identity of the cluster.
    pub cluster: String,
    /// This process's name.
    pub name: String,
    /// The volume's number.
    pub volume: u64,
    /// The volume's identity; see [`InstanceConfig::identity`](crate::config::InstanceConfig::identity).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// See [`InstanceConfig::groups`](crate::config::InstanceConfig::groups).
    #[serde(default = "one")]
    pub groups: u16,
    /// See [`InstanceConfig::allocation_limit`](crate::config::InstanceConfig::allocation_limit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_limit: Option<u64>,
    /// Where the volume's instances listen for readers (`[readers] listen`): whoever writes keeps what is not backed up yet.
    pub instances: Vec<SocketAddr>,
    /// Where the backup goes: a folder of this volume alone.
    pub to: String,
    /// How long the log may wait for more before it is put there, in milliseconds: so much may be missing after a disaster.
    #[serde(default = "put_every_ms")]
    pub put_every_ms: u64,
    /// How often all pages are put there, too, in hours: a restore applies the log since then.
    #[serde(default = "base_every_h")]
    pub base_every_h: u64,
    /// How far back it can be restored to, in hours.
    #[serde(default = "keep_h")]
    pub keep_h: u64,
    /// Reaches storage at addresses that are not loopback although there is no `[tls]`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure: bool,
    /// Its certificate, of the role `replication`, which names the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// The six storage processes, in the order of the volume's members A to F.
    pub storage: Vec<StorageAddress>,
}

/// The usual [`BackupConfig::put_every_ms`].
pub const fn put_every_ms() -> u64 {
    1000
}

/// The usual [`BackupConfig::base_every_h`].
pub const fn base_every_h() -> u64 {
    24
}

/// The usual [`BackupConfig::keep_h`].
pub const fn keep_h() -> u64 {
    7 * 24
}
