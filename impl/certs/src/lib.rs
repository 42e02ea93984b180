//! The certificates of a cluster: a certificate authority of its own, and what it signs.
//!
//! One [`Authority`] signs all certificates of a cluster. A certificate says in words what its process is and may do
//! ([`Certified`]): its name, its role, and the volumes that an instance may touch.
//!
//! **What it never does.** It opens no connection and believes no certificate: `auriga_net::tls` does both. A running
//! process never links it: the authority's key belongs on the machine of the person who issues certificates.
//!
//! **Where to go next.** [`Authority::init`], [`Authority::issue`], [`files`] (what is written, and how).

pub mod files;

pub use auriga_net::tls::{Certified, CertifiedRole};

use auriga_net::handshake::NAME_MAX;
use auriga_net::tls::VOLUMES_MAX;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

/// The authority's certificate, in its directory. Every process gets a copy of it.
pub const AUTHORITY_CERTIFICATE: &str = "ca.crt";
/// The authority's key, in its directory. No process gets a copy of it.
pub const AUTHORITY_KEY: &str = "ca.key";
/// Days for which an authority's own certificate is good.
pub const AUTHORITY_DAYS: u32 = 3650;
/// Days for which a certificate is good, unless another number is asked for.
pub const USUAL_DAYS: u32 = 365;
/// A certificate is good from a little before it is issued: clocks differ.
const CLOCKS_DIFFER_BY: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file or directory.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// How it failed.
        source: std::io::Error,
    },
    /// A file that would be replaced.
    #[error("{} is there already, and is never overwritten: move it away first", .0.display())]
    Exists(PathBuf),
    /// There is no authority in the directory.
    #[error("{} holds no certificate authority: make one with `auriga certs init {}`", .0.display(), .0.display())]
    NoAuthority(PathBuf),
    /// A name that can't be a file's.
    #[error("{0:?} is no name for a process: 1 to {NAME_MAX} letters, digits, `-`, `_` or `.`, and not `ca` or `.…`")]
    Name(String),
    /// Volumes where there can be none, or none where there must be.
    #[error("{0}")]
    Volumes(String),
    /// The key is not one, or nothing can be signed with it.
    #[error("signing: {0}")]
    Signing(#[from] rcgen::Error),
}

/// A certificate authority, able to sign.
pub struct Authority {
    key: KeyPair,
    certificate: String,
}

/// When a certificate is good.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// From then.
    pub from: SystemTime,
    /// Until then.
    pub until: SystemTime,
}

impl Validity {
    /// From now on, for that many days.
    pub fn days(days: u32) -> Validity {
        let now = SystemTime::now();
        Validity { from: now - CLOCKS_DIFFER_BY, until: now + DAY * days }
    }
}

/// A certificate and its key, as PEM.
pub struct Issued {
    /// For everyone to see.
    pub certificate: String,
    /// For its process alone.
    pub key: String,
}

impl Authority {
    /// Makes a new authority, which is nowhere but in memory.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<Authority, CertsError> {
        let key = KeyPair::generate()?;
        let certificate = authority_params(&key)?.self_signed(&key)?.pem();
        Ok(Authority { key, certificate })
    }

    /// Makes a new authority and writes it to `dir`, which is made where it is missing. Returns the files.
    ///
    /// # Errors
    /// There is an authority already, or it can't be written.
    pub fn init(dir: &Path) -> Result<(Authority, [PathBuf; 2]), CertsError> {
        files::make_directory(dir)?;
        let authority = Authority::generate()?;
        let paths = [dir.join(AUTHORITY_CERTIFICATE), dir.join(AUTHORITY_KEY)];
        files::refuse_existing(&paths)?;
        files::write_key(&paths[1], &authority.key.serialize_pem())?;
        files::write_certificate(&paths[0], &authority.certificate)?;
        paths.iter().try_for_each(|path| files::sync(path))?;
        Ok((authority, paths))
    }

    /// Loads the authority from its directory.
    ///
    /// # Errors
    /// There is none, or it can't be read.
    pub fn load(dir: &Path) -> Result<Authority, CertsError> {
        let (certificate, key) = (dir.join(AUTHORITY_CERTIFICATE), dir.join(AUTHORITY_KEY));
        if !key.exists() {
            return Err(CertsError::NoAuthority(dir.to_owned()));
        }
        Ok(Authority { key: KeyPair::from_pem(&files::read(&key)?)?, certificate: files::read(&certificate)? })
    }

    /// The authority's own certificate, as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Signs a certificate, for a key that is made for it.
    ///
    /// # Errors
    /// The name, the role and the volumes don't go together.
    pub fn sign(&self, said: &Certified, validity: Validity) -> Result<Issued, CertsError> {
        check(said)?;
        let mut params = CertificateParams::default();
        for uri in said.uris() {
            params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        }
        params.distinguished_name.push(DnType::CommonName, said.name.as_str());
        (params.not_before, params.not_after) = (OffsetDateTime::from(validity.from), validity.until.into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Storage processes dial each other, so that each is a server here and a client there.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let (key, authority) = (KeyPair::generate()?, authority_params(&self.key)?);
        let signed = params.signed_by(&key, &Issuer::from_params(&authority, &self.key))?;
        Ok(Issued { certificate: signed.pem(), key: key.serialize_pem() })
    }

    /// Signs a certificate and writes it and its key to `dir`. Returns the files.
    ///
    /// # Errors
    /// As [`Authority::sign`]; or there is a certificate of that name already, or it can't be written.
    pub fn issue(&self, dir: &Path, said: &Certified, validity: Validity) -> Result<[PathBuf; 2], CertsError> {
        let issued = self.sign(said, validity)?;
        let paths = [dir.join(format!("{}.crt", said.name)), dir.join(format!("{}.key", said.name))];
        files::refuse_existing(&paths)?;
        files::write_key(&paths[1], &issued.key)?;
        files::write_certificate(&paths[0], &issued.certificate)?;
        Ok(paths)
    }
}

/// The authority's certificate but for its signature. It is made from the key alone, so that nothing has to be parsed
/// when a certificate is signed later; its subject differs from that of every other authority.
fn authority_params(key: &KeyPair) -> Result<CertificateParams, CertsError> {
    let mut params = CertificateParams::default();
    // The first byte says which form the point has; those after it are as good as random.
    let mark: String = key.public_key_raw().iter().skip(1).take(8).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("Auriga certificate authority {mark}"));
    let validity = Validity::days(AUTHORITY_DAYS);
    (params.not_before, params.not_after) = (OffsetDateTime::from(validity.from), validity.until.into());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn check(said: &Certified) -> Result<(), CertsError> {
    let name = &said.name;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !(1..=NAME_MAX).contains(&name.len()) || !name.chars().all(plain) || name.starts_with('.') || name == "ca" {
        return Err(CertsError::Name(name.clone()));
    }
    let why = match (said.role.uses_volumes(), said.volumes.len()) {
        (true, 0) => format!(
            "the role {} may touch only the volumes that its certificate names: name at least one with --volume",
            said.role
        ),
        (true, count) if count > VOLUMES_MAX => format!("a certificate names at most {VOLUMES_MAX} volumes"),
        (true, _) | (false, 0) => return Ok(()),
        (false, _) => format!("volumes are for instances and regions; the role {} has none", said.role),
    };
    Err(CertsError::Volumes(why))
}
