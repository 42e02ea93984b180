//! Who a process is, as a certificate says, and what is said under its protection.
//!
//! Both sides of a connection show a certificate of the cluster's own authority (TLS 1.3, [`rustls`] with `ring`). What
//! the certificate says ([`Certified`]) is handed to the side that decides what a peer may do; nothing here decides it.

mod certified;
mod credentials;
mod verifier;

pub use certified::{Certified, CertifiedRole, NotCertified, VOLUMES_MAX};
pub use credentials::{CredentialError, CredentialFiles, Credentials};

use crate::handshake::{self, ConnectionRole, HandshakeError, Hello};
use crate::session::Session;
use rustls::pki_types::ServerName;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Bytes that are read, and thrown away, of one who is turned away.
const FAREWELL_BYTES_MAX: usize = 64 << 10;

/// The dialling side's whole handshake: TLS where there are `credentials`, then the hello.
///
/// # Errors
/// When there is no connection, and why.
pub(crate) async fn dial(
    mut tcp: TcpStream,
    own: &Hello,
    credentials: Option<&Credentials>,
) -> Result<(Session, Hello), HandshakeError> {
    let Some(credentials) = credentials else {
        let peer = handshake::dial(&mut tcp, own).await?;
        return Ok((Session::plain(tcp), peer));
    };
    // The name is neither sent nor looked at: a process is known by its role, see the verifier.
    let nowhere = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    let config = match own.role {
        ConnectionRole::Reader => &credentials.to_writer,
        ConnectionRole::Region => &credentials.to_region,
        ConnectionRole::Storage | ConnectionRole::WriterLog | ConnectionRole::WriterReads | ConnectionRole::Admin => {
            &credentials.client
        }
    };
    let connector = TlsConnector::from(config.clone());
    let mut stream = connector.connect(nowhere, tcp).await.map_err(HandshakeError::tls)?;
    let peer = handshake::dial(&mut stream, own).await.map_err(HandshakeError::within_tls)?;
    let (tcp, tls) = stream.into_inner();
    let certified = authenticate(tls.peer_certificates(), &peer)?;
    Ok((Session::secure(tcp, tls.into(), certified), peer))
}

/// The accepting side's whole handshake.
///
/// # Errors
/// When there is no connection, and why; the dialler has been told where it can understand it. The connection comes back
/// where it is still to be ended by [`farewell`].
pub(crate) async fn accept(
    mut tcp: TcpStream,
    own: &Hello,
    credentials: Option<&Credentials>,
) -> Result<(Session, Hello), (HandshakeError, Option<TcpStream>)> {
    let Some(credentials) = credentials else {
        let peer = handshake::accept(&mut tcp, own).await.map_err(|error| (error, None))?;
        return Ok((Session::plain(tcp), peer));
    };
    let accepting = TlsAcceptor::from(credentials.server.clone()).accept(tcp).into_fallible();
    let mut stream = accepting.await.map_err(|(error, tcp)| (HandshakeError::tls(error), Some(tcp)))?;
    let peer = handshake::accept(&mut stream, own).await.map_err(|error| (error.within_tls(), None))?;
    let (tcp, tls) = stream.into_inner();
    let certified = authenticate(tls.peer_certificates(), &peer).map_err(|error| (error, None))?;
    Ok((Session::secure(tcp, tls.into(), certified), peer))
}

/// Accepts a connection on which HTTP will be spoken, and says who has dialled.
///
/// # Errors
/// There is no connection, and why.
pub async fn accept_http(
    tcp: TcpStream,
    credentials: &Credentials,
) -> Result<(server::TlsStream<TcpStream>, Certified), HandshakeError> {
    let accepting = TlsAcceptor::from(credentials.http.server.clone()).accept(tcp).into_fallible();
    let stream = match accepting.await {
        Ok(stream) => stream,
        Err((error, tcp)) => {
            farewell(tcp).await;
            return Err(HandshakeError::tls(error));
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|all| all.first());
    let certificate = certificate.ok_or(HandshakeError::Malformed("there is no certificate"))?;
    let certified = credentials::certified(certificate)?;
    Ok((stream, certified))
}

/// Dials a port on which HTTP is spoken: that of an instance, a controller, or a region.
///
/// # Errors
/// There is no connection, and why.
pub async fn dial_http(
    tcp: TcpStream,
    credentials: &Credentials,
    role: CertifiedRole,
) -> Result<client::TlsStream<TcpStream>, HandshakeError> {
    let config = match role {
        CertifiedRole::Instance => &credentials.http.to_instance,
        CertifiedRole::Control => &credentials.http.to_control,
        CertifiedRole::Replication => &credentials.http.to_region,
        _ => return Err(HandshakeError::Malformed("processes of this role have no HTTP port")),
    };
    let nowhere = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    let stream = TlsConnector::from(config.clone()).connect(nowhere, tcp).await;
    stream.map_err(HandshakeError::tls)
}

/// Ends a connection so that the other side can still read why: a socket that is closed while bytes have come that were
/// not read takes back what it has sent.
pub(crate) async fn farewell(mut tcp: TcpStream) {
    let mut rest = [0; 4096];
    let mut left = FAREWELL_BYTES_MAX;
    let _ = tcp.shutdown().await;
    while let Ok(read @ 1..) = tcp.read(&mut rest).await {
        let Some(fewer) = left.checked_sub(read) else { return };
        left = fewer;
    }
}

/// Returns what the peer's certificate says, which must be what the peer says of itself.
fn authenticate(
    certificates: Option<&[rustls::pki_types::CertificateDer<'_>]>,
    peer: &Hello,
) -> Result<Certified, HandshakeError> {
    let certificate = certificates.and_then(|all| all.first());
    let certificate = certificate.ok_or(HandshakeError::Malformed("there is no certificate"))?;
    let certified = credentials::certified(certificate)?;
    if certified.name != peer.name {
        return Err(HandshakeError::Name { said: peer.name.clone(), certified: certified.name });
    }
    Ok(certified)
}
