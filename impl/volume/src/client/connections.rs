//! Keeps a writer connected to the members of its volume, as their memberships say.

use super::inbound::WriterReceiver;
use super::ports::Ways;
use super::{Client, VolumeConfig};
use auriga_net::dialler::keep_connected;
use auriga_net::peers::homes_of;
use auriga_net::{ConnectionRole, Hello, Homes, Outbox};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// A change of membership is looked for this often, where nobody says that there is one.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Ways {
    pub fn close(&self) {
        self.log.close();
        self.pages.close();
    }
}

/// Connects the writer to the members that it knows of now.
pub(super) fn follow(client: &Arc<Client>, config: &VolumeConfig) {
    let homes = homes(client, config);
    let ways = &client.driver.ports().ways;
    ways.log
        .follow(homes.clone(), |address, outbox| dial(client, config, (address, ConnectionRole::WriterLog), outbox));
    ways.pages.follow(homes, |address, outbox| dial(client, config, (address, ConnectionRole::WriterReads), outbox));
}

/// Does it again at each change.
pub(super) async fn follow_memberships(client: Arc<Client>, config: VolumeConfig) {
    loop {
        let _ = timeout(LOOK_EVERY, client.driver.ports().memberships.notified()).await;
        follow(&client, &config);
    }
}

fn homes(client: &Client, config: &VolumeConfig) -> Homes {
    client
        .driver
        .inspect(|writer| writer.memberships().flat_map(|(pg, step)| homes_of(config.volume, pg, step)).collect())
}

fn dial(
    client: &Arc<Client>,
    config: &VolumeConfig,
    (address, role): (SocketAddr, ConnectionRole),
    outbox: Arc<Outbox>,
) -> Option<AbortHandle> {
    let own = Hello { cluster: config.cluster, role, name: config.name.clone() };
    let dialling = keep_connected(address, own, config.credentials.clone(), outbox, WriterReceiver(client.clone()));
    Some(tokio::spawn(dialling).abort_handle())
}
