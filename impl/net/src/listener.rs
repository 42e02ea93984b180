//! Accepts connections, up to a fixed number.

use crate::connection::{self, Receiver};
use crate::handshake::{self, HandshakeError, Hello};
use crate::outbox::{OUTBOX_BYTES_MAX, Outbox};
use crate::traffic::Traffic;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Makes a [`Receiver`] for each connection.
pub trait Acceptor: Send + Sync + 'static {
    /// What receives one connection's frames.
    type Receiver: Receiver;

    /// A connection from `peer`; `outbox` leads back to it for as long as it lasts.
    fn accept(&self, peer: Hello, outbox: &Arc<Outbox>) -> Self::Receiver;
}

/// Limits on what strangers can make a node hold.
#[derive(Clone, Copy, Debug)]
pub struct ListenLimits {
    /// Connections at one time, those in handshake included.
    pub connections_max: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

impl Default for ListenLimits {
    fn default() -> Self {
        ListenLimits { connections_max: 512, handshake_timeout: Duration::from_secs(2) }
    }
}

/// Accepts connections until the future is dropped, which closes every connection that it accepted.
pub async fn listen(
    listener: TcpListener,
    own: Hello,
    limits: ListenLimits,
    traffic: Arc<Traffic>,
    acceptor: Arc<impl Acceptor>,
) {
    let mut connections = JoinSet::new();
    let refused = AtomicUsize::new(0);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: those who are connected go on, the others try again.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        if connections.len() >= limits.connections_max {
            // Said at the first and then at each power of two: a flood must not fill the log as well.
            if (refused.fetch_add(1, Relaxed) + 1).is_power_of_two() {
                tracing::warn!(limit = limits.connections_max, "too many connections: refusing more");
            }
            continue;
        }
        let (own, traffic, acceptor) = (own.clone(), traffic.clone(), acceptor.clone());
        connections.spawn(serve(stream, own, limits.handshake_timeout, traffic, acceptor));
    }
}

async fn serve(
    mut stream: TcpStream,
    own: Hello,
    handshake_timeout: Duration,
    traffic: Arc<Traffic>,
    acceptor: Arc<impl Acceptor>,
) {
    let address = stream.peer_addr().map_or_else(|_| "unknown".to_owned(), |address| address.to_string());
    let greeted = timeout(handshake_timeout, greet(&mut stream, &own)).await;
    match greeted
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no complete handshake in time").into()))
    {
        Ok(peer) => {
            let name = peer.name.clone();
            tracing::info!(%address, peer = %name, role = ?peer.role, "accepted");
            let outbox = Outbox::new(traffic, OUTBOX_BYTES_MAX);
            let mut receiver = acceptor.accept(peer, &outbox);
            let reason = connection::run(stream, &name, &outbox, &mut receiver).await;
            tracing::info!(%address, peer = %name, %reason, "closed");
        }
        Err(reason) => tracing::warn!(%address, %reason, "refused a connection"),
    }
}

async fn greet(stream: &mut TcpStream, own: &Hello) -> Result<Hello, HandshakeError> {
    connection::prepare(stream)?;
    handshake::accept(stream, own).await
}
