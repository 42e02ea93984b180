//! Asks a process over its HTTP port.

use crate::peer::Said;
use auriga_net::admin::Access;
use auriga_net::tls::{self, CertifiedRole};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection.
    #[error("{address}: {source}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why. `ConnectionRefused`: its host is up, and it does not run.
        source: io::Error,
    },
    /// The connection ended first, or what came is no HTTP.
    #[error("{address}: {why}")]
    Broken {
        /// Where.
        address: SocketAddr,
        /// What happened.
        why: String,
    },
    /// No answer in time.
    #[error("{address}: no answer within {patience:?}")]
    TimedOut {
        /// Where.
        address: SocketAddr,
        /// The limit.
        patience: Duration,
    },
    /// It won't, or can't.
    #[error("{why}")]
    Refused {
        /// Which kind of refusal.
        status: StatusCode,
        /// Why, in its own words.
        why: String,
    },
}

/// One who asks a process again and again, over a connection that is kept.
pub struct Client {
    address: SocketAddr,
    access: Access,
    role: CertifiedRole,
    connection: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// One who will ask the process at `address`, which must have a certificate of this role, where certificates are used.
    pub fn new(address: SocketAddr, access: &Access, role: CertifiedRole) -> Client {
        Client { address, access: access.clone(), role, connection: None }
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// There is no answer within `patience`, or it is a refusal.
    pub async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        patience: Duration,
    ) -> Result<T, HttpError> {
        let address = self.address;
        let body = body.map(serde_json::to_vec).transpose();
        let body = body.map_err(|error| HttpError::Broken { address, why: error.to_string() })?;
        let asking = self.ask_patiently(method, path, body.unwrap_or_default());
        match timeout(patience, asking).await {
            Ok(answer) => answer,
            Err(_) => {
                // What comes on it later would be an answer to this question.
                self.connection = None;
                Err(HttpError::TimedOut { address, patience })
            }
        }
    }

    async fn ask_patiently<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, HttpError> {
        let address = self.address;
        let broken = |why: String| HttpError::Broken { address, why };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| broken(error.to_string()))?;
        let mut connection = match self.connection.take().filter(|kept| !kept.sender.is_closed()) {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        connection.sender.ready().await.map_err(|error| broken(error.to_string()))?;
        let response = connection.sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| broken(error.to_string()))?.to_bytes();
        self.connection = Some(connection);
        match status.is_success() {
            true => serde_json::from_slice(&body).map_err(|error| broken(format!("not understood: {error}"))),
            false => {
                let said = serde_json::from_slice::<Said>(&body).map(|said| said.error);
                Err(HttpError::Refused { status, why: said.unwrap_or_else(|_| status.to_string()) })
            }
        }
    }

    async fn connect(&self) -> Result<Connection, HttpError> {
        let address = self.address;
        let unreachable = |source| HttpError::Unreachable { address, source };
        let tcp = TcpStream::connect(address).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let broken = |error: hyper::Error| HttpError::Broken { address, why: error.to_string() };
        let (sender, task) = match &self.access.credentials {
            None => {
                let (sender, connection) = handshake(TokioIo::new(tcp)).await.map_err(broken)?;
                (sender, tokio::spawn(async { drop(connection.await) }))
            }
            Some(credentials) => {
                let tls = tls::dial_http(tcp, credentials, self.role).await;
                let tls = tls.map_err(|error| HttpError::Broken { address, why: error.to_string() })?;
                let (sender, connection) = handshake(TokioIo::new(tls)).await.map_err(broken)?;
                (sender, tokio::spawn(async { drop(connection.await) }))
            }
        };
        Ok(Connection { sender, task })
    }
}

/// Asks the process at `address`, which has this role, one thing, over a connection of its own.
///
/// # Errors
/// There is no answer within `patience`, or it is a refusal.
pub async fn ask<T: DeserializeOwned>(
    address: SocketAddr,
    access: &Access,
    role: CertifiedRole,
    method: Method,
    path: &str,
    patience: Duration,
) -> Result<T, HttpError> {
    Client::new(address, access, role).ask(method, path, None::<&()>, patience).await
}
