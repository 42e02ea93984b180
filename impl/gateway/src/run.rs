//! A gateway's life.

use crate::config::GatewayConfig;
use crate::endpoints::{self, Endpoint};
use crate::topology::Topology;
use crate::watching;
use auriga_net::admin::Access;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// Serves until the future is dropped.
///
/// # Errors
/// It can't listen.
pub async fn run(config: &GatewayConfig, access: Access) -> io::Result<()> {
    let writer = listen(config.writer).await?;
    let reader = listen(config.reader).await?;
    let (sender, topology) = watch::channel(Topology::default());
    let free = Arc::new(Semaphore::new(config.connections_max));
    let wait = Duration::from_secs(config.wait_s);
    tokio::join!(
        watching::watch(config.instances.clone(), access, sender),
        endpoints::serve(writer, Endpoint::Writer, topology.clone(), free.clone(), wait),
        endpoints::serve(reader, Endpoint::Reader, topology, free, wait),
    );
    Ok(())
}

async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("listening on {address}: {error}"));
    TcpListener::bind(address).await.map_err(named)
}
