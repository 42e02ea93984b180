//! How a dialler decides whom it has reached.

use super::certified::CertifiedRole;
use super::credentials::certified;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, PeerIncompatible, RootCertStore, SignatureScheme,
};
use std::sync::Arc;

/// Believes a process of these roles of the same authority, at whatever address: a process may move, and its role is what
/// makes it trustworthy. A certificate of another role is refused, so that the key of an instance is of no use for standing
/// in for storage.
#[derive(Debug)]
pub(super) struct RoleVerifier {
    roles: &'static [CertifiedRole],
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug, thiserror::Error)]
#[error("this is the certificate of a process of role {0}, not of {roles}", roles = named(.1))]
struct OtherRole(CertifiedRole, &'static [CertifiedRole]);

fn named(roles: &[CertifiedRole]) -> String {
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(" or ")
}

impl RoleVerifier {
    pub fn new(
        roles: &'static [CertifiedRole],
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> RoleVerifier {
        RoleVerifier { roles, roots, provider }
    }
}

impl ServerCertVerifier for RoleVerifier {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(cert)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        match certified(cert) {
            Ok(peer) if self.roles.contains(&peer.role) => Ok(ServerCertVerified::assertion()),
            Ok(peer) => Err(other(OtherRole(peer.role, self.roles))),
            Err(error) => Err(other(error)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}
