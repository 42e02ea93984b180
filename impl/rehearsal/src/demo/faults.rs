//! What `auriga inject` does to the members of a demo.

use super::cluster::{Cluster, ClusterError};
use super::control::Action;
use auriga_admin::member::Role;
use auriga_admin::storage;
use auriga_net::admin::{AdminRequest, Fault};
use std::collections::{BTreeMap, BTreeSet};
use tokio::runtime::Handle;

/// The faults that storage processes have been told of. They forget them when they are restarted.
#[derive(Debug, Default)]
pub struct Faults {
    /// For each storage process, from whom it is cut off.
    cuts: BTreeMap<String, BTreeSet<String>>,
}

impl Faults {
    /// Does `action` to everyone that `target` stands for; answers their names.
    ///
    /// # Errors
    /// No such target, or it did not work.
    pub fn apply(
        &mut self,
        cluster: &mut Cluster,
        runtime: &Handle,
        target: &str,
        action: Action,
        ms: u32,
    ) -> Result<Vec<String>, ClusterError> {
        let names = cluster.targets(target)?;
        match action {
            Action::Slow => {
                for name in &names {
                    self.tell(cluster, runtime, name, Fault::Delay { incoming_ms: ms, outgoing_ms: ms })?;
                }
            }
            Action::Partition => self.partition(cluster, runtime, &names)?,
            Action::Heal => self.heal(cluster, runtime, &names)?,
            Action::Kill | Action::Freeze | Action::Resume | Action::Restart => {
                for name in &names {
                    self.signal(cluster, name, action)?;
                }
            }
        }
        Ok(names)
    }

    fn signal(&mut self, cluster: &mut Cluster, name: &str, action: Action) -> Result<(), ClusterError> {
        match action {
            Action::Kill => cluster.kill(name),
            Action::Freeze => cluster.process(name).map(|p| p.freeze()),
            Action::Resume => cluster.process(name).map(|p| p.resume()),
            _ => {
                cluster.kill(name)?;
                self.cuts.remove(name);
                cluster.start(name)
            }
        }
    }

    /// Cuts `names` off from everyone else. Within `names`, they still reach each other.
    fn partition(&mut self, cluster: &mut Cluster, runtime: &Handle, names: &[String]) -> Result<(), ClusterError> {
        let all = cluster.describe();
        for storage in all.iter().filter(|m| m.role == Role::Storage) {
            let inside = names.contains(&storage.name);
            let others = all.iter().filter(|m| names.contains(&m.name) != inside).map(|m| m.name.clone());
            let cuts = self.cuts.entry(storage.name.clone()).or_default();
            cuts.extend(others);
            if !cuts.is_empty() {
                let from = cuts.iter().cloned().collect();
                self.tell(cluster, runtime, &storage.name, Fault::Partition { from })?;
            }
        }
        Ok(())
    }

    fn heal(&mut self, cluster: &mut Cluster, runtime: &Handle, names: &[String]) -> Result<(), ClusterError> {
        let all = cluster.describe();
        for storage in all.iter().filter(|m| m.role == Role::Storage) {
            if names.contains(&storage.name) {
                self.cuts.remove(&storage.name);
                self.tell(cluster, runtime, &storage.name, Fault::Clear)?;
            } else if let Some(cuts) = self.cuts.get_mut(&storage.name) {
                cuts.retain(|name| !names.contains(name));
                let from = cuts.iter().cloned().collect();
                self.tell(cluster, runtime, &storage.name, Fault::Partition { from })?;
            }
        }
        Ok(())
    }

    /// A member that is not running has nothing to be told.
    fn tell(&self, cluster: &mut Cluster, runtime: &Handle, name: &str, fault: Fault) -> Result<(), ClusterError> {
        let cluster_name = cluster.layout().cluster.clone();
        let Some(member) = cluster.describe().into_iter().find(|m| m.name == name) else { return Ok(()) };
        if member.role == Role::Instance {
            return Err(ClusterError::Admin(format!("{name} is an instance: name storage processes, or an AZ")));
        }
        if member.pid.is_none() {
            return Ok(());
        }
        runtime
            .block_on(storage::ask(member.address, &cluster_name, AdminRequest::Inject(fault)))
            .map(|_| ())
            .map_err(|error| ClusterError::Admin(format!("{name}: {error}")))
    }
}
