//! The TOML files of the two roles. `auriga demo` writes them, and people write them by hand on several machines; the
//! files in `examples/` are read by a test.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// One storage process. It serves segments of any number of volumes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageConfig {
    /// Identity of the cluster: a peer that names another one is turned away.
    pub cluster: String,
    /// Its own name, such as `a1`.
    pub name: String,
    /// Its Availability Zone.
    pub az: String,
    /// Where its segments are kept.
    pub directory: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where each member's storage process listens, its own included: A first. Segments find their peers by it.
    pub members: Vec<SocketAddr>,
    /// Listens on an address that is not loopback although there is no `[tls]`. Everybody who reaches the port can then read,
    /// change and stop everything.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure: bool,
    /// Whether it misbehaves when `auriga inject` asks it to: for rehearsals.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_fault_injection: bool,
    /// How often to verify a complete journal file against its checksums, in seconds; 0: never.
    #[serde(default = "scrub_journal_s")]
    pub scrub_journal_s: u64,
    /// File that takes every observable fact as a line of JSON, for `auriga-conformance trace`; none where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<PathBuf>,
    /// Records every input of the state machines beside the trace, to be run again by `auriga-conformance trace`, up to
    /// this many MiB for all recordings there; none where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_inputs_mib: Option<u64>,
    /// Its certificate: it then speaks only with those who have one of the same authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

/// The usual [`StorageConfig::scrub_journal_s`].
pub const fn scrub_journal_s() -> u64 {
    60
}

/// One region of a global database: the process that ships its storage's log, or takes another's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionConfig {
    /// The global database's name: a region of another one is turned away.
    pub global: String,
    /// Which of `regions` this is.
    pub region: u16,
    /// The primary when the global database was created. The same everywhere, ever.
    pub first_primary: u16,
    /// This process's name.
    pub name: String,
    /// Every region, this one included.
    pub regions: Vec<RegionAddress>,
    /// Identity of this region's cluster of storage.
    pub cluster: String,
    /// The number of this region's volume.
    pub volume: u64,
    /// The volume's identity; see [`InstanceConfig::identity`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// See [`InstanceConfig::groups`].
    #[serde(default = "one")]
    pub groups: u16,
    /// See [`InstanceConfig::allocation_limit`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_limit: Option<u64>,
    /// Where this region's instances listen for readers (`[readers] listen`): whoever writes keeps what secondaries lack.
    pub instances: Vec<SocketAddr>,
    /// Where it answers about itself: HTTP, with certificates where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
    /// See [`StorageConfig::trace`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<PathBuf>,
    /// Readers of this region may follow, while it is a secondary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readers: Option<ReadersConfig>,
    /// Reaches storage and regions, and listens, at addresses that are not loopback although there is no `[tls]`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure: bool,
    /// Its certificate, of the role `replication`, which names the volume. All regions have one authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// The six storage processes of this region, in the order of the volume's members A to F.
    pub storage: Vec<StorageAddress>,
}

/// Where a region's process listens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionAddress {
    /// Which region.
    pub region: u16,
    /// Where.
    pub address: SocketAddr,
}

/// One instance: a mounted volume with PostgreSQL on it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceConfig {
    /// Identity of the cluster.
    pub cluster: String,
    /// Its own name, such as `writer`.
    pub name: String,
    /// Whether it writes the volume, follows whoever does, or does what it is told.
    #[serde(default, skip_serializing_if = "is_writer")]
    pub role: ConfiguredRole,
    /// Its Availability Zone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub az: String,
    /// Its promotion tier, 0 to 15: of the instances that could be promoted, one of the lowest tier is.
    #[serde(default = "usual_tier")]
    pub tier: u8,
    /// The volume's number.
    pub volume: u64,
    /// The volume's identity, as `create-volume` prints it: where given, no other volume of that number is opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Protection groups of the volume; fixed when it is created.
    #[serde(default = "one")]
    pub groups: u16,
    /// LAL: how many LSNs may be allocated above VDL. The same for every instance of the volume, ever; the usual where
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_limit: Option<u64>,
    /// Local directory: mount point, sockets, logs. It can be lost.
    pub directory: PathBuf,
    /// Address that PostgreSQL listens on.
    pub listen: IpAddr,
    /// PostgreSQL's port.
    #[serde(default = "postgres_port")]
    pub port: u16,
    /// Where the instance answers questions about itself, and is told to change its role: HTTP, with certificates where it has
    /// one.
    pub admin: SocketAddr,
    /// Reaches storage, and listens, at addresses that are not loopback although there is no `[tls]`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure: bool,
    /// See [`StorageConfig::trace`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<PathBuf>,
    /// See [`StorageConfig::trace_inputs_mib`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_inputs_mib: Option<u64>,
    /// Its certificate, which names the volume. Storage that has certificates speaks with no other instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// For an instance that may write: readers may follow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readers: Option<ReadersConfig>,
    /// For an instance that may read: whom it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<FollowConfig>,
    /// Admin ports of all instances, for `aurora_replica_status`; its own may be among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<SocketAddr>,
    /// In a global database: where this region's process answers about itself (`admin` there). It says how far the other
    /// regions are, for `rds.global_db_rpo` and `aurora_global_db_status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_admin: Option<SocketAddr>,
    /// PostgreSQL's own settings.
    #[serde(default)]
    pub postgres: PostgresConfig,
    /// The mount's settings.
    #[serde(default)]
    pub mount: MountConfig,
    /// The six storage processes, in the order of the volume's members A to F.
    pub storage: Vec<StorageAddress>,
}

/// The usual [`InstanceConfig::tier`], as in Aurora.
pub const fn usual_tier() -> u8 {
    1
}

/// The highest [`InstanceConfig::tier`].
pub const TIER_MAX: u8 = 15;

/// What an instance is configured to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfiguredRole {
    /// It writes, for as long as no other instance does.
    #[default]
    Writer,
    /// It reads.
    Reader,
    /// It reads until it is promoted, and then writes until it is demoted or fenced.
    Any,
}

/// See [`InstanceConfig::readers`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadersConfig {
    /// Where it listens for readers.
    pub listen: SocketAddr,
}

/// See [`InstanceConfig::follow`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowConfig {
    /// Where instances that may write listen for readers: whoever writes is followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writers: Vec<SocketAddr>,
    /// How to reach the writer's PostgreSQL, as `primary_conninfo` has it, whichever of `writers` it is. Other programs of the
    /// machine can see it: name a `passfile` there, not a password.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub postgres: String,
    /// Limit of what the standby has written and the volume does not show yet, in memory, in MiB.
    #[serde(default = "overlay_mib")]
    pub overlay_mib: usize,
    /// The same, on the local disk, in MiB.
    #[serde(default = "spill_mib")]
    pub spill_mib: u64,
    /// In a global database: where this region's process listens for readers (`[readers] listen`). It is followed while the
    /// region is a secondary. An instance of it that may write looks there first whether it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<SocketAddr>,
    /// Instances that may write, each with how to reach its PostgreSQL: besides `writers`, or instead. This instance may be
    /// among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<FollowedConfig>,
}

/// See [`FollowConfig::instances`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowedConfig {
    /// Where it listens for readers.
    pub readers: SocketAddr,
    /// How to reach its PostgreSQL; see [`FollowConfig::postgres`].
    pub postgres: String,
}

/// The usual [`FollowConfig::overlay_mib`].
pub const fn overlay_mib() -> usize {
    256
}

/// The usual [`FollowConfig::spill_mib`].
pub const fn spill_mib() -> u64 {
    16 << 10
}

/// The files of a process's certificate, as `auriga certs` writes them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate of the cluster's authority.
    pub ca: PathBuf,
    /// The process's own certificate.
    pub cert: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
}

/// Where a storage process is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageAddress {
    /// Its name.
    pub name: String,
    /// Its Availability Zone.
    pub az: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// See [`InstanceConfig::postgres`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Directory of PostgreSQL's programs; found by itself where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bin: Option<PathBuf>,
    /// Whom it runs as; `postgres` or `nobody` where absent and auriga runs as root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File with the superuser's first password, for a new volume. Without it everyone who reaches the port is let in,
    /// which is refused on any address that is not loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The locale of a new database cluster: a name that the system knows, such as `C` or `en_US.UTF-8`, or `icu:` and
    /// one of ICU's, such as `icu:de-DE`. The environment's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// File that PostgreSQL's log is appended to; `postgres.log` in the instance's directory where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// Leaves the catalogs as PostgreSQL makes them: without the functions that clients of Aurora call.
    #[serde(default, skip_serializing_if = "is_false")]
    pub plain_catalog: bool,
    /// Any of PostgreSQL's settings, such as `shared_buffers = "1GB"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// See [`InstanceConfig::mount`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MountConfig {
    /// Limit of the page cache, in MiB.
    pub cache_mib: usize,
    /// How long an fsync may wait for the quorum before PostgreSQL sees an I/O error, in seconds.
    pub deadline_s: u64,
}

impl Default for MountConfig {
    fn default() -> Self {
        MountConfig { cache_mib: 256, deadline_s: 600 }
    }
}

/// Members by name, from addresses in order.
pub fn members(addresses: impl IntoIterator<Item = SocketAddr>) -> BTreeMap<auriga_protocol::MemberId, SocketAddr> {
    addresses
        .into_iter()
        .enumerate()
        .map(|(index, address)| (auriga_protocol::MemberId(index as u8), address))
        .collect()
}

/// For settings that are left out of a file where they are off.
pub fn is_false(value: &bool) -> bool {
    !value
}

fn is_writer(role: &ConfiguredRole) -> bool {
    *role == ConfiguredRole::Writer
}

pub(crate) fn one() -> u16 {
    1
}

fn postgres_port() -> u16 {
    5432
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not readable, or not writable.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// How it failed.
        source: std::io::Error,
    },
    /// Not what it should be.
    #[error("{}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// Reads a role's configuration.
///
/// # Errors
/// Not readable, not TOML, unknown or missing keys.
pub fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|e| ConfigError::Malformed { path: path.to_owned(), message: e.to_string() })
}

/// Writes a role's configuration.
///
/// # Errors
/// Not writable.
pub fn write<T: Serialize>(path: &Path, config: &T) -> Result<(), ConfigError> {
    let text = toml::to_string(config)
        .map_err(|e| ConfigError::Malformed { path: path.to_owned(), message: e.to_string() })?;
    std::fs::write(path, text).map_err(|source| ConfigError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::BackupConfig;

    #[test]
    fn the_examples_are_valid() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        let storage: StorageConfig = read(&examples.join("storage.toml")).unwrap();
        let instance: InstanceConfig = read(&examples.join("instance.toml")).unwrap();
        let reader: InstanceConfig = read(&examples.join("reader.toml")).unwrap();
        let any: InstanceConfig = read(&examples.join("any.toml")).unwrap();
        let roles = (ConfiguredRole::Writer, ConfiguredRole::Reader, ConfiguredRole::Any);
        assert_eq!((instance.role, reader.role, any.role), roles);
        let own = any.readers.unwrap().listen;
        assert!(any.follow.unwrap().instances.iter().any(|instance| instance.readers == own), "itself among them");
        assert_eq!((&reader.cluster, reader.volume, &reader.storage), (&instance.cluster, 1, &instance.storage));
        let followed = reader.follow.unwrap();
        assert_eq!(followed.writers, [instance.readers.as_ref().unwrap().listen]);
        assert!(followed.postgres.contains(&format!("host={} port={}", instance.listen, instance.port)));
        assert_eq!((followed.overlay_mib, followed.spill_mib), (overlay_mib(), spill_mib()));
        assert_eq!(instance.storage.len(), 6);
        assert_eq!(instance.cluster, storage.cluster);
        let mine = instance.storage.iter().find(|s| s.name == storage.name).unwrap();
        assert_eq!((mine.address, &mine.az), (storage.listen, &storage.az));
        let addresses: Vec<SocketAddr> = instance.storage.iter().map(|s| s.address).collect();
        assert_eq!(addresses, storage.members);
        let region: RegionConfig = read(&examples.join("region.toml")).unwrap();
        assert_eq!((&region.cluster, region.volume, &region.storage), (&instance.cluster, 1, &instance.storage));
        let listens = [instance.readers.unwrap().listen];
        assert_eq!(region.instances, listens);
        let backup: BackupConfig = read(&examples.join("backup.toml")).unwrap();
        assert_eq!((&backup.cluster, backup.volume, &backup.storage), (&instance.cluster, 1, &instance.storage));
        assert_eq!(backup.instances, listens);
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reader.toml");
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        for name in ["instance.toml", "reader.toml", "any.toml"] {
            let instance: InstanceConfig = read(&examples.join(name)).unwrap();
            write(&path, &instance).unwrap();
            assert_eq!(read::<InstanceConfig>(&path).unwrap(), instance);
        }
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("storage.toml");
        std::fs::write(
            &path,
            "cluster='x'\nname='a1'\naz='a'\ndirectory='/d'\nlisten='127.0.0.1:1'\nmembers=[]\nazz='a'\n",
        )
        .unwrap();
        let error = read::<StorageConfig>(&path).unwrap_err().to_string();
        assert!(error.contains("azz"), "{error}");
    }
}
