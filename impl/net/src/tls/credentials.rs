//! The certificate and key of this process, and the authority that it believes.

use super::certified::{Certified, CertifiedRole, NotCertified};
use super::verifier::RoleVerifier;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage};

/// What the other side must speak inside TLS.
const ALPN: &[u8] = b"auriga";
/// The same, on ports where programs of others may ask.
const ALPN_HTTP: &[u8] = b"http/1.1";

/// A certificate that ends within this time is warned of at each start.
const ENDS_SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where the files of a process's credentials are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CredentialFiles {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The process's own certificate.
    pub cert: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
}

/// What a process shows to the others, and whom it believes. All of it has been looked at: what is loaded can be used now.
#[derive(Clone)]
pub struct Credentials {
    own: Certified,
    ends_soon: bool,
    pub(super) server: Arc<ServerConfig>,
    /// To reach storage.
    pub(super) client: Arc<ClientConfig>,
    /// To reach whoever may write a volume: a reader follows it.
    pub(super) to_writer: Arc<ClientConfig>,
    /// For dialling regions.
    pub(super) to_region: Arc<ClientConfig>,
    /// For HTTP ports.
    pub(super) http: Http,
}

/// What is shown and believed on HTTP ports. The certificates are the same.
#[derive(Clone)]
pub(super) struct Http {
    pub server: Arc<ServerConfig>,
    pub to_instance: Arc<ClientConfig>,
    pub to_control: Arc<ClientConfig>,
    pub to_region: Arc<ClientConfig>,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file is not there.
    #[error("{what}: {} is not there", path.display())]
    Missing {
        /// What it should have been.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A file can't be read, or holds something else.
    #[error("{what}: {}: {why}", path.display())]
    Unreadable {
        /// What it should have been.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The certificate is no more.
    #[error("the certificate has expired: issue a new one with `auriga certs issue`")]
    Expired,
    /// The certificate is not yet.
    #[error("the certificate is not valid yet: is this machine's clock right?")]
    NotYet,
    /// Another authority's.
    #[error("the certificate was not signed by this certificate authority")]
    OtherAuthority,
    /// The key of another certificate.
    #[error("the key does not belong to the certificate")]
    OtherKey,
    /// Not one of ours.
    #[error(transparent)]
    NotCertified(#[from] NotCertified),
    /// Something else.
    #[error("the certificate can't be used: {0}")]
    Unusable(String),
}

impl Credentials {
    /// Loads the three files, and looks whether they go together and are good now.
    ///
    /// # Errors
    /// They are not, and why.
    pub fn load(files: &CredentialFiles) -> Result<Credentials, CredentialError> {
        let certificate = |what, path: &Path| {
            let found = CertificateDer::from_pem_slice(&read(what, path)?);
            found.map_err(|error| unreadable(what, path, error))
        };
        let ca = certificate("the authority's certificate", &files.ca)?;
        let own = certificate("the certificate", &files.cert)?;
        let what = "the key";
        let key = PrivateKeyDer::from_pem_slice(&read(what, &files.key)?);
        Credentials::new(ca, own, key.map_err(|error| unreadable(what, &files.key, error))?)
    }

    /// The same, of three texts (PEM).
    ///
    /// # Errors
    /// They don't go together, or are not good now, and why.
    pub fn from_pem(ca: &str, cert: &str, key: &str) -> Result<Credentials, CredentialError> {
        let certificate = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).map_err(unusable);
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(unusable)?;
        Credentials::new(certificate(ca)?, certificate(cert)?, key)
    }

    fn new(
        ca: CertificateDer<'static>,
        cert: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Credentials, CredentialError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let now = UnixTime::now();
        verify(&ca, &cert, now, &provider)?;
        let soon = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + ENDS_SOON);
        let ends_soon = matches!(verify(&ca, &cert, soon, &provider), Err(CredentialError::Expired));
        let own = certified(&cert)?;
        let key = CertifiedKey::from_der(vec![cert], key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CredentialError::OtherKey,
            other => unusable(other),
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(ca).map_err(unusable)?;
        let (roots, shown) = (Arc::new(roots), Arc::new(rustls::sign::SingleCertAndKey::from(key)));

        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier.build().map_err(unusable)?)
            .with_cert_resolver(shown.clone());
        server.alpn_protocols = vec![ALPN.to_vec()];
        // A session that is taken up again would outlive its certificate; connections are few and long.
        server.send_tls13_tickets = 0;
        let client = |roles: &'static [CertifiedRole]| -> Result<_, CredentialError> {
            let mut client = ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(unusable)?
                .dangerous() // Only in that the peer's address is not looked at: see the verifier.
                .with_custom_certificate_verifier(Arc::new(RoleVerifier::new(roles, roots.clone(), provider.clone())))
                .with_client_cert_resolver(shown.clone());
            client.alpn_protocols = vec![ALPN.to_vec()];
            client.resumption = Resumption::disabled();
            client.enable_sni = false;
            Ok(Arc::new(client))
        };
        use CertifiedRole::{Control, Instance, Replication, Storage};
        let (to_storage, to_instance) = (client(&[Storage])?, client(&[Instance])?);
        let (to_control, to_region) = (client(&[Control])?, client(&[Replication])?);
        // Whoever may write a volume has readers: of a secondary region, its region's process.
        let to_writer = client(&[Instance, Replication])?;
        let over_http = |config: &ClientConfig| {
            let mut config = config.clone();
            config.alpn_protocols = vec![ALPN_HTTP.to_vec()];
            Arc::new(config)
        };
        let mut http_server = server.clone();
        http_server.alpn_protocols = vec![ALPN_HTTP.to_vec()];
        let http = Http {
            server: Arc::new(http_server),
            to_instance: over_http(&to_instance),
            to_control: over_http(&to_control),
            to_region: over_http(&to_region),
        };
        Ok(Credentials { own, ends_soon, server: Arc::new(server), client: to_storage, to_writer, to_region, http })
    }

    /// What this process's certificate says of it.
    pub fn own(&self) -> &Certified {
        &self.own
    }

    /// Whether the certificate expires within thirty days.
    pub fn ends_soon(&self) -> bool {
        self.ends_soon
    }

    /// Looks whether they are those of the process with this name and role.
    ///
    /// # Errors
    /// They are another's, for a person to read.
    pub fn must_be(&self, name: &str, role: CertifiedRole) -> Result<(), String> {
        let Certified { name: own, role: has, .. } = &self.own;
        if own == name && *has == role {
            return Ok(());
        }
        Err(format!("the certificate is that of {own} (role {has}), and this process is {name} (role {role})"))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("own", &self.own).finish_non_exhaustive()
    }
}

/// What a certificate says that has been verified.
pub(super) fn certified(certificate: &CertificateDer<'_>) -> Result<Certified, NotCertified> {
    let parsed = EndEntityCert::try_from(certificate);
    Certified::read(&parsed.map_err(|error| NotCertified::Unreadable(error.to_string()))?)
}

/// Whether a certificate is signed by the authority and good at a time.
fn verify(
    ca: &CertificateDer<'_>,
    cert: &CertificateDer<'_>,
    time: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), CredentialError> {
    let anchors = [webpki::anchor_from_trusted_cert(ca).map_err(unusable)?];
    let cert = EndEntityCert::try_from(cert).map_err(unusable)?;
    let algorithms = provider.signature_verification_algorithms.all;
    let verified = cert.verify_for_usage(algorithms, &anchors, &[], time, KeyUsage::client_auth(), None, None);
    match verified {
        Ok(_) => Ok(()),
        Err(webpki::Error::CertExpired { .. }) => Err(CredentialError::Expired),
        Err(webpki::Error::CertNotValidYet { .. }) => Err(CredentialError::NotYet),
        Err(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey) => {
            Err(CredentialError::OtherAuthority)
        }
        Err(other) => Err(unusable(other)),
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, CredentialError> {
    std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => CredentialError::Missing { what, path: path.to_owned() },
        _ => unreadable(what, path, error),
    })
}

fn unreadable(what: &'static str, path: &Path, error: impl fmt::Display) -> CredentialError {
    CredentialError::Unreadable { what, path: path.to_owned(), why: error.to_string() }
}

fn unusable(error: impl fmt::Display) -> CredentialError {
    CredentialError::Unusable(error.to_string())
}
