//! Keeps this process connected to the others that its segments need, as their memberships say.

use super::inbound::Dialled;
use super::node::Node;
use super::requests::holdings;
use auriga_net::dialler::keep_connected;
use auriga_net::peers::homes_of;
use auriga_net::{ConnectionRole, Hello, Homes, Outbox};
use auriga_protocol::Held;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// A change of membership is looked for this often, where nobody says that there is one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Follows the memberships of the segments here, for a node that listens at `address`.
pub(super) async fn follow_memberships(node: Arc<Node>, address: SocketAddr) {
    loop {
        node.routes.follow(homes(&node), |peer, outbox| dial(&node, address, peer, outbox));
        let _ = timeout(LOOK_EVERY, node.memberships.notified()).await;
    }
}

/// Where the members of the groups are of which something is here, as far as memberships say it.
fn homes(node: &Node) -> Homes {
    let of_group = |held: Held| homes_of(held.id.volume, held.id.pg, &held.membership);
    holdings(node).into_iter().flat_map(of_group).collect()
}

fn dial(node: &Arc<Node>, own: SocketAddr, peer: SocketAddr, outbox: Arc<Outbox>) -> Option<AbortHandle> {
    if peer == own {
        return None;
    }
    let hello = Hello { cluster: node.config.cluster, role: ConnectionRole::Storage, name: node.config.name.clone() };
    let receiver = Dialled(Arc::downgrade(node));
    let dialling = keep_connected(peer, hello, node.config.credentials.clone(), outbox, receiver);
    Some(node.runtime.spawn(dialling).abort_handle())
}
