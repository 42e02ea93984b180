//! Serves a router, bounded in everything that a stranger can make it hold.

use crate::peer::Peer;
use auriga_net::tls::{self, Credentials};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Limits on what strangers can make a process hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time, those in handshake included. Further ones are closed at once.
    pub connections_max: usize,
    /// How long a handshake may take, and a request's head, and the pause before the next one.
    pub head_timeout: Duration,
    /// How long a connection lasts, whatever happens on it.
    pub connection_timeout: Duration,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 64,
            head_timeout: Duration::from_secs(5),
            connection_timeout: Duration::from_secs(120),
            body_bytes_max: 64 << 10,
            head_bytes_max: 16 << 10,
        }
    }
}

/// Serves `router` until the future is dropped, which closes every connection that it accepted. With `credentials`, each is
/// under TLS, and its peer must show a certificate.
pub async fn serve(listener: TcpListener, credentials: Option<Credentials>, limits: Limits, router: Router) {
    let router = router.layer(DefaultBodyLimit::max(limits.body_bytes_max));
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
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
        let Ok(place) = places.clone().try_acquire_owned() else {
            // Said at the first and then at each power of two: a flood must not fill the log as well.
            refused += 1;
            if refused.is_power_of_two() {
                tracing::warn!(%address, refused, "too many connections: refusing more");
            }
            continue;
        };
        let (credentials, router) = (credentials.clone(), router.clone());
        connections.spawn(async move {
            let _place = place;
            let conversation = converse(stream, credentials, limits, router);
            match timeout(limits.connection_timeout, conversation).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%address, %error, "a connection was closed"),
                Err(_) => tracing::debug!(%address, "a connection has lasted long enough"),
            }
        });
    }
}

async fn converse(
    stream: TcpStream,
    credentials: Option<Credentials>,
    limits: Limits,
    router: Router,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(credentials) = credentials else { return answer(stream, Peer(None), limits, router).await };
    let accepted = timeout(limits.head_timeout, tls::accept_http(stream, &credentials)).await?;
    let (stream, certified) = accepted.map_err(io::Error::other)?;
    answer(stream, Peer(Some(certified)), limits, router).await
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    limits: Limits,
    router: Router,
) -> io::Result<()> {
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes_max)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}
