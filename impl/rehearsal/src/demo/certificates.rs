//! The certificates of a demo: an authority of its own, which lives in the demo's directory.
//!
//! A real cluster keeps the authority's key apart from its processes. A demo is one user on one machine.

use auriga_admin::config::TlsConfig;
use auriga_certs::{AUTHORITY_CERTIFICATE, AUTHORITY_KEY, Authority, CertsError, USUAL_DAYS, Validity};
use auriga_net::tls::{Certified, CertifiedRole};
use std::collections::BTreeSet;
use std::path::Path;

/// Whose certificate `auriga status`, `inject` and the demo itself use.
pub const ADMIN: &str = "admin";
/// The volume of a demo.
const VOLUME: u64 = 1;

/// Makes the authority and the certificates of all storage processes and of the first instance, as far as a kept demo does
/// not have them.
///
/// # Errors
/// They can't be written.
pub fn prepare(dir: &Path, storage: &[String], instance: &str) -> Result<(), CertsError> {
    if !dir.join(AUTHORITY_KEY).exists() {
        Authority::init(dir)?;
    }
    for name in storage {
        issue(dir, name, CertifiedRole::Storage)?;
    }
    of_instance(dir, instance)?;
    issue(dir, ADMIN, CertifiedRole::Admin)
}

/// Issues the certificate of an instance, where it has none.
///
/// # Errors
/// It can't be written.
pub fn of_instance(dir: &Path, name: &str) -> Result<(), CertsError> {
    issue(dir, name, CertifiedRole::Instance)
}

/// Issues the certificate of a controller or a gateway, where it has none.
///
/// # Errors
/// It can't be written.
pub fn of_watcher(dir: &Path, name: &str) -> Result<(), CertsError> {
    issue(dir, name, CertifiedRole::Control)
}

/// Issues the certificate of a region's process, where it has none.
///
/// # Errors
/// It can't be written.
pub fn of_region(dir: &Path, name: &str) -> Result<(), CertsError> {
    issue(dir, name, CertifiedRole::Replication)
}

fn issue(dir: &Path, name: &str, role: CertifiedRole) -> Result<(), CertsError> {
    if dir.join(format!("{name}.crt")).exists() {
        return Ok(());
    }
    let names_volume = matches!(role, CertifiedRole::Instance | CertifiedRole::Replication);
    let volumes = if names_volume { BTreeSet::from([VOLUME]) } else { BTreeSet::new() };
    let said = Certified { name: name.to_owned(), role, volumes };
    Authority::load(dir)?.issue(dir, &said, Validity::days(USUAL_DAYS)).map(|_| ())
}

/// Where a process's certificate is.
pub fn files(dir: &Path, name: &str) -> TlsConfig {
    TlsConfig {
        ca: dir.join(AUTHORITY_CERTIFICATE),
        cert: dir.join(format!("{name}.crt")),
        key: dir.join(format!("{name}.key")),
    }
}
