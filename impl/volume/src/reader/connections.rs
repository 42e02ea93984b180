//! Keeps a reader connected to the members of its volume, as their memberships say.

use super::{Client, ReaderReceiver, RemoteReaderConfig};
use auriga_net::dialler::keep_connected;
use auriga_net::peers::homes_of;
use auriga_net::{ConnectionRole, Hello, Homes, Outbox};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// A change of membership is looked for this often, where nobody says that there is one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Connects the reader to the members that it knows of now.
pub(super) fn follow(client: &Arc<Client>, config: &RemoteReaderConfig) {
    client
        .driver
        .ports()
        .members
        .follow(homes(client, config), |address, outbox| dial(client, config, address, outbox));
}

/// Does it again at each change.
pub(super) async fn follow_memberships(client: Arc<Client>, config: RemoteReaderConfig) {
    loop {
        let _ = timeout(LOOK_EVERY, client.driver.ports().memberships.notified()).await;
        follow(&client, &config);
    }
}

fn homes(client: &Client, config: &RemoteReaderConfig) -> Homes {
    client
        .driver
        .inspect(|reader| reader.memberships().flat_map(|(pg, step)| homes_of(config.volume, pg, step)).collect())
}

fn dial(
    client: &Arc<Client>,
    config: &RemoteReaderConfig,
    address: SocketAddr,
    outbox: Arc<Outbox>,
) -> Option<AbortHandle> {
    let own = Hello { cluster: config.cluster, role: ConnectionRole::WriterReads, name: config.name.clone() };
    let receiver = ReaderReceiver { client: client.clone(), writer: None };
    let dialling = keep_connected(address, own, config.credentials.clone(), outbox, receiver);
    Some(tokio::spawn(dialling).abort_handle())
}
