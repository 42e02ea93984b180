//! What `auriga inject` does to the members of a demo.

use super::cluster::{Cluster, ClusterError};
use super::control::Action;
use super::promotion::promote_unless_written;
use auriga_admin::member::{Described, Role, State};
use auriga_admin::storage;
use auriga_net::admin::{AdminRequest, Fault};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tokio::runtime::Handle;

/// The faults that storage processes have been told of. They forget them when they are restarted.
#[derive(Debug, Default)]
pub struct Faults {
    /// For each storage process, from whom it is cut off.
    cuts: BTreeMap<String, BTreeSet<String>>,
    /// For each slow storage process, by how many milliseconds.
    slow: BTreeMap<String, u32>,
}

/// What was done, and what there was nothing to do to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The names of those to whom it was done.
    pub done: Vec<String>,
    /// The others, each with the reason.
    pub not_done: Vec<(String, String)>,
}

impl Faults {
    /// Does `action` to everyone that `target` stands for.
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
    ) -> Result<Outcome, ClusterError> {
        if action == Action::Wan {
            let why = "there is a network between regions only where there are several: `auriga demo --global`";
            return Err(ClusterError::Admin(why.to_owned()));
        }
        let names = cluster.targets(target)?;
        let all = cluster.describe();
        let mut outcome = Outcome::default();
        for name in names {
            let member = all.iter().find(|member| member.name == name);
            match member.and_then(|member| self.nothing_to_do(member, action)) {
                Some(why) => outcome.not_done.push((name, why.to_owned())),
                None => outcome.done.push(name),
            }
        }
        let names = &outcome.done;
        match action {
            Action::Slow => {
                for name in names {
                    self.tell(cluster, runtime, name, Fault::Delay { incoming_ms: ms, outgoing_ms: ms })?;
                    self.slow.insert(name.clone(), ms);
                }
                self.slow.retain(|_, ms| *ms > 0);
            }
            Action::Partition => self.partition(cluster, runtime, names)?,
            Action::Heal => self.heal(cluster, runtime, names)?,
            // See above.
            Action::Wan => {}
            Action::Kill | Action::Lose | Action::Freeze | Action::Resume | Action::Restart => {
                for name in names {
                    self.signal(cluster, runtime, name, action)?;
                }
            }
        }
        Ok(outcome)
    }

    /// Why `action` would change nothing, if so.
    fn nothing_to_do(&self, member: &Described, action: Action) -> Option<&'static str> {
        let is_storage = member.role == Role::Storage;
        match (action, member.state) {
            (Action::Restart, _) => None,
            (Action::Lose, _) if !is_storage => Some("only storage processes have a directory to lose"),
            (Action::Lose, _) => None,
            (Action::Kill | Action::Freeze | Action::Resume, State::Down) => Some("it is not running"),
            (Action::Freeze, State::Frozen) => Some("it is frozen already"),
            (Action::Resume, State::Up) => Some("it is not frozen"),
            (Action::Kill | Action::Freeze | Action::Resume, _) => None,
            (Action::Slow, _) if !is_storage => Some("only storage processes can be slowed down"),
            (Action::Partition, _) if matches!(member.role, Role::Control | Role::Gateway) => {
                Some("only storage processes and instances can be cut off")
            }
            (Action::Wan, _) => Some("it is no network"),
            (Action::Heal, _) => self.in_force(&member.name).is_empty().then_some("nothing was wrong with it"),
            (Action::Slow | Action::Partition, State::Down) if is_storage => Some("it is not running"),
            (Action::Slow | Action::Partition, State::Frozen) if is_storage => Some("it is frozen: resume it first"),
            (Action::Slow | Action::Partition, _) => None,
        }
    }

    /// The faults of a member that are in force, for a person.
    pub fn in_force(&self, name: &str) -> Vec<String> {
        let own = self.cuts.get(name).into_iter().flatten().map(String::as_str);
        let by_others = self.cuts.iter().filter(|(_, from)| from.contains(name)).map(|(other, _)| other.as_str());
        let from: BTreeSet<&str> = own.chain(by_others).collect();
        let mut faults = Vec::new();
        match from.len() {
            0 => {}
            // A process that is cut off from this many is cut off from everyone, or everyone of another AZ.
            4.. => faults.push("cut off".to_owned()),
            _ => faults.push(format!("cut off from {}", from.into_iter().collect::<Vec<_>>().join(" "))),
        }
        faults.extend(self.slow.get(name).map(|ms| format!("slow {ms} ms")));
        faults
    }

    fn signal(
        &mut self,
        cluster: &mut Cluster,
        runtime: &Handle,
        name: &str,
        action: Action,
    ) -> Result<(), ClusterError> {
        match action {
            Action::Freeze => cluster.process(name).map(|p| p.freeze()),
            Action::Resume => cluster.process(name).map(|p| p.resume()),
            _ => {
                cluster.kill(name)?;
                self.cuts.remove(name);
                self.slow.remove(name);
                if action == Action::Lose {
                    cluster.forget_storage(name)?;
                }
                if action == Action::Restart {
                    cluster.start(name)?;
                    if let Some(number) = cluster.instance_number(name) {
                        promote_unless_written(runtime, cluster.layout(), number);
                    }
                }
                Ok(())
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
                self.slow.remove(&storage.name);
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
        let access = cluster.layout().access().map_err(|error| ClusterError::Admin(error.to_string()))?;
        let Some(member) = cluster.describe().into_iter().find(|m| m.name == name) else { return Ok(()) };
        match member.state {
            State::Up => {}
            State::Down => return Ok(()),
            State::Frozen => return Err(ClusterError::Admin(format!("{name} is frozen: resume it first"))),
        }
        runtime
            .block_on(storage::ask(member.address, &access, AdminRequest::Inject(fault)))
            .map(|_| ())
            .map_err(|error| ClusterError::Admin(format!("{name}: {error}")))
    }
}
