//! Accepts connections, up to a fixed number.

use crate::connection::{self, Receiver};
use crate::handshake::{self, HandshakeError, Hello};
use crate::outbox::{OUTBOX_BYTES_MAX, Outbox};
use crate::places::{Place, Places};
use crate::traffic::Traffic;
use std::io;
use std::sync::Arc;
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
    /// Of one address.
    pub connections_per_address_max: usize,
    /// Who has said nothing for so long makes room for another.
    pub silent_after: Duration,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

impl Default for ListenLimits {
    fn default() -> Self {
        ListenLimits {
            connections_max: 512,
            connections_per_address_max: 64,
            silent_after: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(2),
        }
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
    let places = Places::new(limits);
    let mut refused = 0u64;
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: those who are connected go on, the others try again.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let Some(place) = places.enter(address.ip()) else {
            // Said at the first and then at each power of two: a flood must not fill the log as well.
            refused += 1;
            if refused.is_power_of_two() {
                tracing::warn!(%address, refused, "too many connections: refusing more");
            }
            continue;
        };
        let (own, traffic, acceptor) = (own.clone(), traffic.clone(), acceptor.clone());
        let place = Arc::new(place);
        let serving = serve(stream, place.clone(), own, limits.handshake_timeout, traffic, acceptor);
        place.is_of(connections.spawn(serving));
    }
}

async fn serve(
    mut stream: TcpStream,
    place: Arc<Place>,
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
            tracing::info!(%address, peer = name, role = ?peer.role, "accepted");
            let outbox = Outbox::new(traffic, OUTBOX_BYTES_MAX);
            let mut receiver = acceptor.accept(peer, &outbox);
            let reason = connection::run(stream, &name, Some(&place), &outbox, &mut receiver).await;
            tracing::info!(%address, peer = name, %reason, "closed");
        }
        Err(reason) => tracing::warn!(%address, %reason, "refused a connection"),
    }
}

async fn greet(stream: &mut TcpStream, own: &Hello) -> Result<Hello, HandshakeError> {
    connection::prepare(stream)?;
    handshake::accept(stream, own).await
}
