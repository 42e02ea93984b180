//! The TOML file of `auriga gateway`.

use crate::forward::settings::ForwardConfig;
use crate::names::Names;
use auriga_admin::config::{TlsConfig, is_false};
use auriga_admin::looking::InstanceAddress;
use auriga_admin::trust;
use auriga_net::Credentials;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// One process that clients connect to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Identity of the cluster.
    pub cluster: String,
    /// Its own name, such as `gateway`.
    pub name: String,
    /// Where connections to the writer come in.
    pub writer: SocketAddr,
    /// Where connections to readers come in.
    pub reader: SocketAddr,
    /// Most connections at one time, over both.
    #[serde(default = "connections_max")]
    pub connections_max: usize,
    /// How long a connection waits for a writer, or a reader, before its client is told that there is none.
    #[serde(default = "wait_s")]
    pub wait_s: u64,
    /// Reaches instances at addresses that are not loopback although there is no `[tls]`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure: bool,
    /// Its certificate, with the role `control`, by which the instances answer it. Clients' connections are not touched: the
    /// encryption that they may have is between them and PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// The names of the endpoints, where clients are to find them by DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsConfig>,
    /// An endpoint before the readers that forwards writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<ForwardConfig>,
    /// The instances of the cluster.
    pub instances: Vec<InstanceAddress>,
}

/// A name server for the endpoints: `CLUSTER.cluster-ID.DOMAIN`, `CLUSTER.cluster-ro-ID.DOMAIN`, `INSTANCE.ID.DOMAIN`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsConfig {
    /// Where it answers, by UDP and TCP.
    pub listen: SocketAddr,
    /// Tells clusters of one name apart.
    pub id: String,
    /// What is delegated to it.
    pub domain: String,
}

/// The usual [`GatewayConfig::connections_max`].
pub const fn connections_max() -> usize {
    2000
}

/// The usual [`GatewayConfig::wait_s`].
pub const fn wait_s() -> u64 {
    10
}

impl GatewayConfig {
    /// The names of the endpoints.
    pub fn names(&self, dns: &DnsConfig) -> Names {
        let instances = self.instances.iter().map(|instance| instance.name.clone());
        Names::new(&self.cluster, &dns.id, &dns.domain, instances)
    }

    /// Loads its certificate. Says what is not as it should be.
    ///
    /// # Errors
    /// It can't be used, is another process's, or is missing where it must be there.
    pub fn credentials(&self) -> Result<Option<Credentials>, String> {
        let regions = self.forward.iter().flat_map(|forward| &forward.regions);
        let others = regions.flat_map(|region| &region.instances);
        let reaches = self.instances.iter().chain(others).map(|instance| instance.admin);
        trust::of_watcher(&self.name, self.tls.as_ref(), None, reaches, self.insecure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_admin::config::{InstanceConfig, read};
    use std::path::Path;

    #[test]
    fn the_example_is_valid_and_goes_with_the_others() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        let gateway: GatewayConfig = read(&examples.join("gateway.toml")).expect("valid");
        let instance: InstanceConfig = read(&examples.join("instance.toml")).expect("valid");
        assert_eq!(gateway.cluster, instance.cluster);
        let first = gateway.instances.first().expect("an instance");
        assert_eq!((&first.name, first.admin), (&instance.name, instance.admin));
        assert_eq!((gateway.connections_max, gateway.wait_s), (connections_max(), wait_s()));
    }
}
