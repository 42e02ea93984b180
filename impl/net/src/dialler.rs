//! Keeps one connection to a peer: dials, and dials again.

use crate::connection::{self, Receiver};
use crate::handshake::{HandshakeError, Hello};
use crate::outbox::Outbox;
use crate::session::Session;
use crate::tls::{self, Credentials};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long a dial, its handshake included, may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Wait after the first failure; doubles with each further one. Both are jittered by half.
const BACKOFF_MIN: Duration = Duration::from_millis(20);

/// Longest wait: a node that comes back is dialled within this time.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// Dials `address` again and again, and connects `outbox` whenever that succeeds. What the peer sends goes to
/// `receiver`. With `credentials`, the connection is under TLS.
pub async fn keep_connected(
    address: SocketAddr,
    own: Hello,
    credentials: Option<Credentials>,
    outbox: Arc<Outbox>,
    mut receiver: impl Receiver,
) {
    let mut backoff = BACKOFF_MIN;
    let mut said_unreachable = false;
    loop {
        let dialled = timeout(DIAL_TIMEOUT, dial(address, &own, credentials.as_ref())).await;
        match dialled.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into())) {
            Ok((stream, peer)) => {
                tracing::info!(%address, peer = peer.name, role = ?own.role, "connected");
                said_unreachable = false;
                let since = Instant::now();
                let reason = connection::run(stream, &peer.name, None, &outbox, &mut receiver).await;
                tracing::info!(%address, peer = peer.name, role = ?own.role, %reason, "disconnected");
                if since.elapsed() > BACKOFF_MAX {
                    backoff = BACKOFF_MIN;
                }
            }
            Err(reason) if !said_unreachable => {
                said_unreachable = true;
                tracing::info!(%address, role = ?own.role, %reason, "not reachable; trying on");
            }
            Err(_) => {}
        }
        sleep(backoff.mul_f64(0.5 + fastrand::f64())).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Dials once.
///
/// # Errors
/// When there is no connection, and why. Takes as long as the kernel and the peer take: give it a timeout.
pub async fn dial(
    address: SocketAddr,
    own: &Hello,
    credentials: Option<&Credentials>,
) -> Result<(Session, Hello), HandshakeError> {
    let stream = TcpStream::connect(address).await?;
    connection::prepare(&stream)?;
    tls::dial(stream, own, credentials).await
}
