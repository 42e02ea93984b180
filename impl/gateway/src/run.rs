//! A gateway's life.

use crate::config::GatewayConfig;
use crate::dns;
use crate::endpoints::{self, Endpoint};
use crate::forward;
use crate::forward::login::Verifiers;
use crate::forward::settings::ForwardConfig;
use crate::forward::shared::Shared;
use crate::forward::writers::{Place, Writers};
use crate::names::Names;
use crate::topology::Topology;
use crate::watching;
use auriga_admin::storage::cluster_id;
use auriga_net::admin::Access;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

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
    let names = listen_for_names(config).await?;
    let forwarding = match &config.forward {
        None => None,
        Some(forward) => Some((listen(forward.listen).await?, forward)),
    };
    let instances = config.instances.iter().map(|instance| instance.admin).collect();
    tokio::join!(
        answer(names, topology.clone()),
        forward(forwarding, (&access, instances), topology.clone(), free.clone(), wait),
        watching::watch(config.instances.clone(), access.clone(), sender),
        endpoints::serve(writer, Endpoint::Writer, topology.clone(), free.clone(), wait),
        endpoints::serve(reader, Endpoint::Reader, topology, free, wait),
    );
    Ok(())
}

/// What is needed to answer for names.
struct Named {
    udp: UdpSocket,
    tcp: TcpListener,
    names: Names,
}

async fn listen_for_names(config: &GatewayConfig) -> io::Result<Option<Named>> {
    let Some(dns) = &config.dns else { return Ok(None) };
    let tcp = listen(dns.listen).await?;
    let named = |error: io::Error| io::Error::new(error.kind(), format!("listening on {} (UDP): {error}", dns.listen));
    let udp = UdpSocket::bind(dns.listen).await.map_err(named)?;
    let names = config.names(dns);
    tracing::info!(at = %dns.listen, writer = names.writer(), reader = names.reader(), "answering for these names");
    Ok(Some(Named { udp, tcp, names }))
}

/// Forwards writes, where that is wanted.
async fn forward(
    wanted: Option<(TcpListener, &ForwardConfig)>,
    (access, instances): (&Access, Vec<SocketAddr>),
    topology: watch::Receiver<Topology>,
    free: Arc<Semaphore>,
    wait: Duration,
) {
    let Some((listener, config)) = wanted else { return };
    let mut places = vec![Place { topology: topology.clone(), postgres: None }];
    let mut watching = JoinSet::new();
    for region in &config.regions {
        let (sender, there) = watch::channel(Topology::default());
        let access = Access { cluster: cluster_id(&region.cluster), credentials: access.credentials.clone() };
        watching.spawn(watching::watch(region.instances.clone(), access, sender));
        places.push(Place { topology: there, postgres: region.postgres });
    }
    tracing::info!(at = %config.listen, regions = config.regions.len() + 1, "forwarding writes");
    let mut shared = Shared::new(config.clone(), Writers::new(places));
    shared.verifiers = Some(Verifiers { instances, access: access.clone() });
    forward::serve(listener, Arc::new(shared), topology, free, wait).await;
}

/// Answers for names, where that is wanted. Connections are served whatever becomes of it.
async fn answer(named: Option<Named>, topology: watch::Receiver<Topology>) {
    let Some(Named { udp, tcp, names }) = named else { return };
    match dns::serve(udp, tcp, names, topology).await {
        Ok(()) => tracing::warn!("no names are answered for any more"),
        Err(error) => tracing::error!(%error, "no names are answered for any more"),
    }
}

async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("listening on {address}: {error}"));
    TcpListener::bind(address).await.map_err(named)
}
