//! Who is where in a demo: six storage processes over three Availability Zones, and instances, each on its own loopback
//! address (drivers tell instances apart by host, and expect one port for all).

use super::certificates;
use super::region::RegionLayout;
use auriga_admin::config::{
    ConfiguredRole, FollowConfig, FollowedConfig, InstanceConfig, MountConfig, PostgresConfig, ReadersConfig,
    StorageAddress, StorageConfig, TlsConfig, overlay_mib, spill_mib, usual_tier,
};
use auriga_admin::trust;
use auriga_net::admin::Access;
use auriga_net::tls::CredentialError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The names of the storage processes, in the order of the volume's members A to F.
pub const STORAGE: [&str; 6] = ["a1", "a2", "b1", "b2", "c1", "c2"];
/// The port of every storage process.
pub const STORAGE_PORT: u16 = 7400;
/// The port where an instance answers questions about itself.
pub const ADMIN_PORT: u16 = 7401;
/// The port where a writer listens for readers.
pub const READERS_PORT: u16 = 7402;
/// Readers of a demo where nobody says how many: with the writer, an instance in each Availability Zone.
pub const READERS_USUAL: u8 = 2;
/// Most readers of a demo.
pub const READERS_MAX: u8 = 15;
/// Most spare storage processes of a demo.
pub const SPARES_MAX: u8 = 9;
/// Spare storage processes of a demo where nobody says how many, and a controller is there: one in each Availability Zone.
pub const SPARES_USUAL: u8 = 3;
/// The host part of the first instance's address.
const FIRST_INSTANCE: u8 = 11;
/// The host part of the first spare's address.
const FIRST_SPARE: u8 = 61;
/// The host part of the first storage process's address.
const FIRST_STORAGE: u8 = 1;

/// A demo's fixed facts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Layout {
    /// Where everything is kept.
    pub dir: PathBuf,
    /// First three bytes of every address, such as 127.0.1.
    pub network: [u8; 3],
    /// PostgreSQL's port.
    pub port: u16,
    /// Identity of the cluster.
    pub cluster: String,
    /// PostgreSQL's settings.
    pub postgres: PostgresConfig,
    /// The mount's settings.
    pub mount: MountConfig,
    /// Whether every process writes a trace.
    pub trace: bool,
    /// See [`StorageConfig::trace_inputs_mib`].
    pub trace_inputs_mib: Option<u64>,
    /// Protection groups of the volume.
    pub groups: u16,
    /// See [`InstanceConfig::allocation_limit`].
    pub allocation_limit: Option<u64>,
    /// See [`StorageConfig::scrub_journal_s`].
    pub scrub_journal_s: u64,
    /// How many readers there are.
    #[serde(default)]
    pub readers: u8,
    /// PostgreSQL's settings of readers, where they differ from [`Layout::postgres`].
    #[serde(default)]
    pub reader_settings: BTreeMap<String, String>,
    /// Whether a controller and a gateway belong to it.
    #[serde(default)]
    pub watched: bool,
    /// Storage processes beside the six, which hold nothing at first.
    #[serde(default)]
    pub spares: u8,
    /// Whether the controller replaces storage processes that are lost, from the beginning.
    #[serde(default)]
    pub heals: bool,
    /// Which region of a global database it is, where it is one.
    #[serde(default)]
    pub region: Option<RegionLayout>,
    /// Where the certificates of the processes are; they speak in the clear where absent.
    pub certificates: Option<PathBuf>,
}

impl Layout {
    /// Address of the storage process with this index: 0 to 5, or 6 and on for the spares.
    pub fn storage_address(&self, index: usize) -> SocketAddr {
        // There are far fewer than 256.
        let host = match index.checked_sub(STORAGE.len()) {
            None => FIRST_STORAGE + index as u8,
            Some(spare) => FIRST_SPARE + spare as u8,
        };
        self.address(host, STORAGE_PORT)
    }

    /// The names of all storage processes, the spares last.
    pub fn storage_names(&self) -> Vec<String> {
        (0..STORAGE.len() + usize::from(self.spares)).map(Self::storage_name).collect()
    }

    /// The name of the storage process with this index.
    fn storage_name(index: usize) -> String {
        match STORAGE.get(index) {
            Some(name) => (*name).to_owned(),
            None => {
                let spare = index - STORAGE.len();
                format!("{}{}", ["a", "b", "c"][spare % 3], STORAGE.len() / 3 + 1 + spare / 3)
            }
        }
    }

    /// Whether a storage process has this name.
    pub fn is_storage(&self, name: &str) -> bool {
        self.storage_names().iter().any(|known| known == name)
    }

    /// Host of the instance with this number (0 is the first).
    pub fn instance_host(&self, number: u8) -> IpAddr {
        self.address(FIRST_INSTANCE + number, 0).ip()
    }

    /// Where the instance with this number answers questions about itself.
    pub fn admin_address(&self, number: u8) -> SocketAddr {
        SocketAddr::new(self.instance_host(number), ADMIN_PORT)
    }

    /// Whether the instance with this number takes any role: where there are readers, or other regions, all of them do. Others
    /// are the first one alone, and rivals that overtake it.
    pub fn roles_change(&self, number: u8) -> bool {
        self.has_followers() && number <= self.readers
    }

    /// Whether somebody follows the one that writes: readers, or a region's process.
    fn has_followers(&self) -> bool {
        self.readers > 0 || self.region.is_some()
    }

    /// The numbers of the instances that begin as readers. The first instance, which begins as the writer, has number 0.
    pub fn readers(&self) -> impl Iterator<Item = u8> + use<> {
        1..=self.readers
    }

    /// Whether the instance with this number begins as a reader.
    pub fn is_reader(&self, number: u8) -> bool {
        self.readers().any(|reader| reader == number)
    }

    /// The name of the instance with this number, of those that the demo begins with.
    pub fn instance_name(number: u8) -> String {
        if number == 0 { super::WRITER.to_owned() } else { Self::reader_name(number) }
    }

    /// The name of the reader with this number.
    pub fn reader_name(number: u8) -> String {
        format!("reader-{number}")
    }

    /// The Availability Zone of the instance with this number: the first one in A, the next ones elsewhere first.
    pub fn instance_az(number: u8) -> &'static str {
        ["a", "b", "c"][usize::from(number % 3)]
    }

    pub(super) fn address(&self, host: u8, port: u16) -> SocketAddr {
        let [a, b, c] = self.network;
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, host)), port)
    }

    /// The Availability Zone of a storage process.
    pub fn az(name: &str) -> String {
        name.chars().take(1).collect()
    }

    /// Configuration of the storage process with this index.
    pub fn storage_config(&self, index: usize) -> StorageConfig {
        let name = &Self::storage_name(index);
        StorageConfig {
            cluster: self.cluster.clone(),
            name: name.clone(),
            az: Self::az(name),
            directory: self.storage().join(name),
            listen: self.storage_address(index),
            members: (0..STORAGE.len()).map(|index| self.storage_address(index)).collect(),
            insecure: false,
            allow_fault_injection: true,
            scrub_journal_s: self.scrub_journal_s,
            trace: self.trace_file(name),
            trace_inputs_mib: self.trace_inputs_mib,
            tls: self.tls(name),
        }
    }

    /// Configuration of an instance, keeping its local things in `directory`.
    pub fn instance_config(&self, name: &str, number: u8, directory: &Path) -> InstanceConfig {
        let host = self.instance_host(number);
        let may_change = self.roles_change(number);
        let follow = may_change.then(|| FollowConfig {
            writers: Vec::new(),
            postgres: String::new(),
            overlay_mib: overlay_mib(),
            spill_mib: spill_mib(),
            region: self.region.as_ref().map(|_| self.region_readers()),
            instances: (0..=self.readers).map(|other| self.followed(name, other)).collect(),
        });
        // Its log outlives the instance's directory.
        let mut postgres = PostgresConfig { log: Some(self.postgres_log(name)), ..self.postgres.clone() };
        if self.is_reader(number) {
            postgres.settings.extend(self.reader_settings.clone());
        }
        InstanceConfig {
            cluster: self.cluster.clone(),
            name: name.to_owned(),
            role: if may_change { ConfiguredRole::Any } else { ConfiguredRole::Writer },
            az: Self::instance_az(number).to_owned(),
            tier: usual_tier(),
            volume: 1,
            identity: std::fs::read_to_string(self.identity_file()).ok().map(|text| text.trim().to_owned()),
            groups: self.groups,
            allocation_limit: self.allocation_limit,
            directory: directory.to_owned(),
            listen: host,
            port: self.port,
            admin: SocketAddr::new(host, ADMIN_PORT),
            trace: self.trace_file(name),
            trace_inputs_mib: self.trace_inputs_mib,
            insecure: false,
            tls: self.tls(name),
            readers: self.has_followers().then(|| ReadersConfig { listen: SocketAddr::new(host, READERS_PORT) }),
            follow,
            instances: (0..=self.readers)
                .map(|number| SocketAddr::new(self.instance_host(number), ADMIN_PORT))
                .collect(),
            region_admin: self.region.as_ref().map(|_| self.region_admin()),
            postgres,
            mount: self.mount.clone(),
            storage: self.storage_addresses(),
        }
    }

    /// The first six storage processes, as the configurations of others name them.
    pub(super) fn storage_addresses(&self) -> Vec<StorageAddress> {
        let mut all = self.fleet();
        all.truncate(STORAGE.len());
        all
    }

    /// All storage processes, the spares last.
    pub fn fleet(&self) -> Vec<StorageAddress> {
        let address = |(index, name): (usize, String)| StorageAddress {
            az: Self::az(&name),
            name,
            address: self.storage_address(index),
        };
        self.storage_names().into_iter().enumerate().map(address).collect()
    }

    /// Another instance, as one called `name` follows it.
    fn followed(&self, name: &str, number: u8) -> FollowedConfig {
        let host = self.instance_host(number);
        FollowedConfig {
            readers: SocketAddr::new(host, READERS_PORT),
            postgres: format!("host={host} port={} user=postgres application_name={name}", self.port),
        }
    }

    /// The certificate of a process, where the demo has certificates.
    pub(crate) fn tls(&self, name: &str) -> Option<TlsConfig> {
        self.certificates.as_ref().map(|dir| certificates::files(dir, name))
    }

    /// What is needed to ask the storage processes, as one who may look at everything and break it.
    ///
    /// # Errors
    /// The demo's certificates can't be read.
    pub fn access(&self) -> Result<Access, CredentialError> {
        trust::access(&self.cluster, self.tls(certificates::ADMIN).as_ref())
    }

    /// The file that keeps the volume's identity, from its making on.
    pub fn identity_file(&self) -> PathBuf {
        self.dir.join("volume-identity")
    }

    /// Where the directories of the storage processes are.
    pub fn storage(&self) -> PathBuf {
        self.dir.join("storage")
    }

    /// Where traces go.
    pub fn traces(&self) -> PathBuf {
        self.dir.join("traces")
    }

    pub(super) fn trace_file(&self, name: &str) -> Option<PathBuf> {
        self.trace.then(|| self.traces().join(format!("{name}.jsonl")))
    }

    /// The log of an instance's PostgreSQL.
    pub fn postgres_log(&self, name: &str) -> PathBuf {
        self.log(&format!("{name}-postgres"))
    }

    /// A role's log.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }
}

/// Parses `127.0.1`.
///
/// # Errors
/// Not three bytes, or not loopback: a demo has no authentication.
pub fn parse_network(text: &str) -> Result<[u8; 3], String> {
    let bytes: Result<Vec<u8>, _> = text.split('.').map(str::parse).collect();
    match bytes.as_deref() {
        Ok([127, b, c]) => Ok([127, *b, *c]),
        _ => Err(format!("{text}: must be the first three bytes of a loopback network, such as 127.0.1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(readers: u8) -> Layout {
        Layout {
            dir: "/demo".into(),
            network: [127, 0, 1],
            port: 5432,
            cluster: "demo".to_owned(),
            postgres: PostgresConfig::default(),
            mount: MountConfig::default(),
            trace: false,
            trace_inputs_mib: None,
            groups: 1,
            allocation_limit: None,
            scrub_journal_s: 60,
            readers,
            reader_settings: BTreeMap::new(),
            watched: false,
            spares: 3,
            heals: false,
            region: None,
            certificates: None,
        }
    }

    #[test]
    fn instances_follow_each_other() {
        let config = |readers, number| layout(readers).instance_config("name", number, Path::new("/d"));
        let (writer, reader, successor) = (config(1, 0), config(1, 1), config(1, 2));
        let listen = |config: &InstanceConfig| config.readers.as_ref().expect("it may have readers").listen;
        let followed: Vec<SocketAddr> =
            reader.follow.as_ref().expect("it follows").instances.iter().map(|instance| instance.readers).collect();
        assert_eq!(followed, [listen(&writer), listen(&reader)]);
        assert_eq!((writer.role, reader.role), (ConfiguredRole::Any, ConfiguredRole::Any));
        assert!(successor.follow.is_none() && successor.role == ConfiguredRole::Writer);
        let alone = config(0, 0);
        assert!(alone.readers.is_none() && alone.role == ConfiguredRole::Writer);
        assert!(config(0, 1).role == ConfiguredRole::Writer);
    }

    #[test]
    fn spares_are_one_in_each_zone_and_nobody_elses_peers() {
        let layout = layout(0);
        assert_eq!(layout.storage_names()[5..], ["c2", "a3", "b3", "c3"]);
        assert_eq!(Layout::storage_name(9), "a4");
        let (spare, first) = (layout.storage_config(6), layout.storage_config(0));
        assert!(spare.members == first.members && !spare.members.contains(&spare.listen));
        assert_eq!((layout.storage_addresses().len(), layout.fleet().len()), (6, 9));
    }

    #[test]
    fn readers_are_elsewhere_first() {
        assert_eq!([1, 2, 3, 4].map(Layout::instance_az), ["b", "c", "a", "b"]);
    }

    #[test]
    fn only_loopback_networks_are_taken() {
        assert_eq!(parse_network("127.0.1"), Ok([127, 0, 1]));
        assert!(parse_network("10.0.1").is_err());
        assert!(parse_network("127.0.1.1").is_err());
        assert_eq!(
            parse_network("127.0.300").unwrap_err(),
            "127.0.300: must be the first three bytes of a loopback network, such as 127.0.1"
        );
        assert!(parse_network("127.0.900").is_err());
    }
}
