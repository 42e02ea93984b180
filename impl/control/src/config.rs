//! The TOML file of `auriga control`.

use crate::controller::{Limits, Member};
use crate::healing::HealingConfig;
use auriga_admin::config::{StorageAddress, TlsConfig, is_false};
use auriga_admin::looking::InstanceAddress;
use auriga_admin::trust;
use auriga_net::Credentials;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// One process that watches over a cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlConfig {
    /// Identity of the cluster.
    pub cluster: String,
    /// Its own name, such as `control`.
    pub name: String,
    /// Where it keeps events, and who wrote last. It belongs to one volume.
    pub directory: PathBuf,
    /// Where it answers people.
    pub listen: SocketAddr,
    /// Listens on, or reaches, addresses that are not loopback although there is no `[tls]`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure: bool,
    /// Its certificate, with the role `control`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// How patient it is.
    #[serde(default)]
    pub limits: Limits,
    /// What is done about storage processes that are lost.
    #[serde(default)]
    pub healing: HealingConfig,
    /// The instances of the cluster.
    pub instances: Vec<InstanceAddress>,
    /// The storage processes, those without a member of the volume included: spares. It looks at all of them, and asks
    /// those that have one when a writer says that storage stalls for it.
    pub storage: Vec<StorageAddress>,
}

impl ControlConfig {
    /// Loads its certificate. Says what is not as it should be.
    ///
    /// # Errors
    /// It can't be used, is another process's, or is missing where it must be there.
    pub fn credentials(&self) -> Result<Option<Credentials>, String> {
        let instances = self.instances.iter().map(|instance| instance.admin);
        let reaches = instances.chain(self.storage.iter().map(|storage| storage.address));
        trust::of_watcher(&self.name, self.tls.as_ref(), Some(self.listen), reaches, self.insecure)
    }

    /// The instances as the controller knows them.
    pub fn members(&self) -> Vec<Member> {
        let member = |instance: &InstanceAddress| Member { name: instance.name.clone(), size: instance.size };
        self.instances.iter().map(member).collect()
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
        let control: ControlConfig = read(&examples.join("control.toml")).expect("valid");
        let instance: InstanceConfig = read(&examples.join("instance.toml")).expect("valid");
        assert_eq!((&control.cluster, &control.storage[..6]), (&instance.cluster, &instance.storage[..]));
        assert!(control.storage[6..].iter().all(|spare| !instance.storage.contains(spare)));
        assert_eq!(control.healing, HealingConfig::default(), "the example shows what is usual");
        let first = control.instances.first().expect("an instance");
        assert_eq!((&first.name, first.admin), (&instance.name, instance.admin));
        assert_eq!(control.limits, Limits::default(), "the example shows what is usual");
        assert_eq!(control.members().len(), 3);
    }
}
