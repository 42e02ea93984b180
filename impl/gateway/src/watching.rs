//! Learns from the instances who writes.

use crate::topology::{Does, Topology, Watched};
use auriga_admin::looking::{InstanceAddress, Looked, Looker, lets_clients_in};
use auriga_instance::node::{InstanceRole, InstanceStatus};
use auriga_net::admin::Access;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The pause between two looks at an instance.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How long a look may take.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

struct Shared {
    watched: Mutex<Watched>,
    began: Instant,
    topology: watch::Sender<Topology>,
}

/// Looks at the instances until the future is dropped; says who is where.
pub async fn watch(instances: Vec<InstanceAddress>, access: Access, topology: watch::Sender<Topology>) {
    let shared = Arc::new(Shared { watched: Mutex::default(), began: Instant::now(), topology });
    let mut tasks = JoinSet::new();
    for instance in instances {
        let looker = Looker::new(instance.admin, &access);
        tasks.spawn(shared.clone().look_again_and_again(instance.name, looker));
    }
    loop {
        // One that has become silent is noticed by nothing else.
        sleep(LOOK_PAUSE).await;
        shared.tell(|_, _| {});
    }
}

impl Shared {
    async fn look_again_and_again(self: Arc<Shared>, name: String, mut looker: Looker) {
        loop {
            match looker.look(LOOK_PATIENCE).await {
                Looked::Answered(status) => {
                    let epoch = status.volume_epoch.map_or((0, 0), |epoch| (epoch.number, epoch.writer.0));
                    self.tell(|watched, now| watched.answered(now, &name, does(&status), epoch, status.postgres));
                }
                Looked::Refused => self.tell(|watched, _| watched.refused(&name)),
                Looked::Silent(why) => tracing::debug!(name, why, "no answer"),
            }
            sleep(LOOK_PAUSE).await;
        }
    }

    fn tell(&self, learn: impl FnOnce(&mut Watched, u64)) {
        let now = self.began.elapsed().as_millis() as u64;
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        learn(&mut watched, now);
        let new = watched.topology(now);
        self.topology.send_if_modified(|topology| {
            let changed = *topology != new;
            if changed {
                tracing::info!(
                    writer = ?new.writer, readers = ?new.readers, volume_epoch = new.volume_epoch.0, "TOPOLOGY"
                );
                *topology = new;
            }
            changed
        });
    }
}

fn does(status: &InstanceStatus) -> Does {
    match (status.role, status.volume_epoch) {
        _ if !lets_clients_in(status) => Does::Neither,
        (InstanceRole::Writer, Some(epoch)) => Does::Writes((epoch.number, epoch.writer.0)),
        (InstanceRole::Reader, _) => Does::Reads,
        _ => Does::Neither,
    }
}
