//! Accepts connections, up to a fixed number.

use crate::connection::{self, ConnectionError, Receiver};
use crate::handshake::{HandshakeError, Hello};
use crate::outbox::{OUTBOX_BYTES_MAX, Outbox};
use crate::places::{Place, Places};
use crate::session::Session;
use crate::tls::{self, Certified, Credentials};
use crate::traffic::Traffic;
use auriga_driver::lock;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Makes a [`Receiver`] for each connection.
pub trait Acceptor: Send + Sync + 'static {
    /// What receives one connection's frames.
    type Receiver: Receiver;

    /// A connection from `peer`, whose certificate says what `certified` is, where this process asks for certificates;
    /// `outbox` leads back to it for as long as it lasts.
    ///
    /// # Errors
    /// The peer may not connect, and why: then the connection is closed.
    fn accept(
        &self,
        peer: Hello,
        certified: Option<Certified>,
        outbox: &Arc<Outbox>,
    ) -> Result<Self::Receiver, ConnectionError>;
}

/// Limits on what strangers can make a node hold.
#[derive(Clone, Copy, Debug)]
pub struct ListenLimits {
    /// Connections at one time, those in handshake included.
    pub connections_max: usize,
    /// Of one address.
    pub connections_per_address_max: usize,
    /// A connection that was silent for this long may be closed to make room for another.
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

/// Accepts connections until the future is dropped, which closes every connection that it accepted. With `credentials`,
/// each is under TLS, and its peer must show a certificate.
pub async fn listen(
    listener: TcpListener,
    own: Hello,
    credentials: Option<Credentials>,
    limits: ListenLimits,
    traffic: Arc<Traffic>,
    acceptor: Arc<impl Acceptor>,
) {
    let mut connections = JoinSet::new();
    let places = Places::new(limits);
    let complaints = Arc::new(Mutex::new(Complaints::new(Instant::now())));
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
        let (traffic, acceptor, complaints) = (traffic.clone(), acceptor.clone(), complaints.clone());
        let place = Arc::new(place);
        let held = place.clone();
        let (own, credentials) = (own.clone(), credentials.clone());
        let serving = async move {
            let limit = limits.handshake_timeout;
            match timeout(limit, greet(stream, own, credentials)).await {
                Ok(Ok((session, peer))) => serve(session, address, peer, &place, traffic, acceptor).await,
                Ok(Err((reason, tcp))) => {
                    complain(&complaints, address, &reason);
                    if let Some(tcp) = tcp {
                        let _ = timeout(limit, tls::farewell(tcp)).await;
                    }
                }
                Err(_) => complain(&complaints, address, &"no complete handshake in time"),
            }
        };
        held.is_of(connections.spawn(serving));
    }
}

/// Most lines about handshakes that came to nothing, in one second.
const COMPLAINTS_MAX: u32 = 10;

/// What is logged of strangers: a flood of them must not fill the log as well.
struct Complaints {
    second: Instant,
    /// In this second.
    said: u32,
    /// Since the last that was said.
    unsaid: u64,
}

impl Complaints {
    fn new(now: Instant) -> Complaints {
        Complaints { second: now, said: 0, unsaid: 0 }
    }

    /// Returns, when one more may be said, how many before it were not.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.said) = (now, 0);
        }
        if self.said == COMPLAINTS_MAX {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

fn complain(complaints: &Mutex<Complaints>, address: SocketAddr, reason: &dyn Display) {
    if let Some(unsaid) = lock(complaints).admit(Instant::now()) {
        let unsaid = (unsaid > 0).then_some(unsaid);
        tracing::warn!(%address, %reason, unsaid, "refused a connection");
    }
}

/// Both handshakes. A connection holds its place from before the first of them.
async fn greet(
    stream: TcpStream,
    own: Hello,
    credentials: Option<Credentials>,
) -> Result<(Session, Hello), (HandshakeError, Option<TcpStream>)> {
    connection::prepare(&stream).map_err(|error| (error.into(), None))?;
    tls::accept(stream, &own, credentials.as_ref()).await
}

async fn serve(
    session: Session,
    address: SocketAddr,
    peer: Hello,
    place: &Place,
    traffic: Arc<Traffic>,
    acceptor: Arc<impl Acceptor>,
) {
    let (name, certified) = (peer.name.clone(), session.certified().cloned());
    let certificate = certified.as_ref().map(|certified| certified.role.name());
    tracing::info!(%address, peer = name, role = ?peer.role, certificate, "accepted");
    let outbox = Outbox::new(traffic, OUTBOX_BYTES_MAX);
    let reason = match acceptor.accept(peer, certified, &outbox) {
        Ok(mut receiver) => connection::run(session, &name, Some(place), &outbox, &mut receiver).await,
        Err(reason) => reason,
    };
    match reason {
        ConnectionError::NotAllowed(_) => tracing::warn!(%address, peer = name, %reason, "closed"),
        _ => tracing::info!(%address, peer = name, %reason, "closed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_strangers_is_counted_and_not_told_one_by_one() {
        let began = Instant::now();
        let mut complaints = Complaints::new(began);
        let said = (0..1000).filter(|_| complaints.admit(began).is_some()).count();
        assert_eq!(said, COMPLAINTS_MAX as usize);
        let later = began + Duration::from_secs(1);
        assert_eq!(complaints.admit(later), Some(990));
        assert_eq!(complaints.admit(later), Some(0));
    }
}
