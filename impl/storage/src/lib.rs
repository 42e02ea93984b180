//! A storage node: one process that hosts many segments of many volumes.
//!
//! It joins three things and decides nothing: connections ([`auriga_net`]), a disk ([`disk::Disk`]; `auriga-store` in
//! production), and for each segment a driver with the protocol's own state machine.
//!
//! ```text
//!  writers, peers ──► listener ──► inbound ──► Driver<Segment> ──► Disk ──► journal, pages
//!                                                │      ▲            │
//!  writers ◄── the connection they came by ◄─────┤      └─ Durable, Done (on the disk's threads)
//!  peers   ◄── dialled connections ◄─────────────┘
//! ```
//!
//! A message for a segment that is not hosted is logged and dropped. A segment is created when it is asked for
//! ([`auriga_net::admin::AdminRequest::CreateSegment`]), or when this process learns from its peers that it should have it
//! (`adoption.rs`). A store that can't be opened is told of by a [`RefusedNode`] in its place. A disk that fails stops the node: [`StorageNode::stopped`] says so and the process must end.

mod adoption;
mod allowed;
mod config;
mod connections;
pub mod disk;
mod faults;
mod inbound;
mod memory_disk;
mod node;
mod ports;
mod refused;
mod requests;
mod routes;
mod store_disk;

pub use config::{SEGMENTS_MAX, StorageConfig};
pub use memory_disk::MemoryPlatters;
pub use refused::{Refusal, RefusedNode};
pub use store_disk::open_store;

use auriga_net::admin::{Fault, NodeStatus};
use auriga_net::listener::listen;
use auriga_net::{ConnectionRole, Hello, Peers, Traffic};
use disk::Opened;
use inbound::Inbound;
use node::{Node, NodeEvents};
use routes::Routes;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Why a node stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// It was asked to.
    Asked,
    /// Its disk failed, and how. What it has not made durable it has not acknowledged.
    DiskFailed(String),
    /// Its disk works, but what it holds is not what was written, and where. The next start heals it from peers.
    Damaged(String),
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It can't listen.
    #[error("can't listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Its disk can't be opened.
    #[error("can't open the store: {0}")]
    Disk(String),
}

/// A running storage node. Dropping it is a crash: connections break, and what was on its way to the disk may get there
/// or not.
pub struct StorageNode {
    node: Arc<Node>,
    address: SocketAddr,
    tasks: JoinSet<()>,
}

impl StorageNode {
    /// Starts a node on the disk that `open` opens. Needs a tokio runtime.
    ///
    /// # Errors
    /// When it can't listen or open its disk.
    pub async fn start(
        config: StorageConfig,
        open: impl FnOnce() -> Result<Opened, String>,
    ) -> Result<StorageNode, StartError> {
        let address = config.listen;
        let listener = TcpListener::bind(address).await.map_err(|error| StartError::Listen { address, error })?;
        StorageNode::start_on(listener, config, open)
    }

    /// The same on a socket that listens already.
    ///
    /// # Errors
    /// When it can't open its disk.
    pub fn start_on(
        listener: TcpListener,
        config: StorageConfig,
        open: impl FnOnce() -> Result<Opened, String>,
    ) -> Result<StorageNode, StartError> {
        let address = listener.local_addr();
        let address = address.map_err(|error| StartError::Listen { address: config.listen, error })?;
        let traffic = Arc::new(Traffic::default());
        let peers = Peers::new(config.members.clone(), traffic.clone());
        let node = Node::new(config, Routes::new(peers), traffic.clone());
        let opened = open().map_err(StartError::Disk)?;
        assert!(node.disk.set(opened.disk).is_ok(), "a node opens one disk");
        opened.survived.into_iter().for_each(|(id, survived)| node.host(id, survived));
        node.disk().begin(Arc::new(NodeEvents(Arc::downgrade(&node))));

        let own = Hello { cluster: node.config.cluster, role: ConnectionRole::Storage, name: node.config.name.clone() };
        let credentials = node.config.credentials.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(connections::follow_memberships(node.clone(), address));
        let me = node.config.members.iter().find(|(_, listens)| **listens == address).map(|(me, _)| *me);
        if !node.config.members.is_empty() {
            tasks.spawn(adoption::adopt(node.clone(), me, address));
        }
        let acceptor = Arc::new(Inbound(node.clone()));
        tasks.spawn(listen(listener, own, credentials, node.config.limits, traffic, acceptor));
        tracing::info!(node = node.config.name, %address, "storage node started");
        Ok(StorageNode { node, address, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its numbers.
    pub fn status(&self) -> NodeStatus {
        requests::status(&self.node)
    }

    /// Makes it misbehave.
    pub fn inject(&self, fault: &Fault) {
        requests::inject(&self.node, fault);
    }

    /// Waits until it was asked to stop over the network, or its disk failed. Then call [`StorageNode::stop`].
    pub async fn stopped(&self) -> Stopped {
        let mut stopped = self.node.stopped.subscribe();
        let reason = stopped.wait_for(Option::is_some).await.map(|reason| reason.clone());
        reason.ok().flatten().unwrap_or(Stopped::Asked)
    }

    /// Stops gracefully: closes connections, completes what the disk has begun, writes the trace.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.node.dismantle();
        let node = self.node.clone();
        let _ = tokio::task::spawn_blocking(move || node.disk().close()).await;
        self.node.config.trace.flush();
        tracing::info!(node = self.node.config.name, "storage node stopped");
    }
}

impl Drop for StorageNode {
    fn drop(&mut self) {
        self.tasks.abort_all();
        self.node.dismantle();
        // Elsewhere, because it may wait; and it must not be one of the disk's own threads that drops the node last.
        let node = self.node.clone();
        std::thread::spawn(move || node.disk().close());
    }
}
