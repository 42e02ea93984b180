//! Certificates of the roles, and what a role may do without any.

use crate::backup::BackupConfig;
use crate::config::{InstanceConfig, RegionConfig, StorageConfig, TlsConfig};
use crate::storage::cluster_id;
use auriga_net::Credentials;
use auriga_net::admin::Access;
use auriga_net::tls::{CertifiedRole, CredentialError, CredentialFiles};
use std::net::SocketAddr;

/// Loads a process's credentials, where it has any.
///
/// # Errors
/// They are there and can't be used.
pub fn credentials(tls: Option<&TlsConfig>) -> Result<Option<Credentials>, CredentialError> {
    let Some(TlsConfig { ca, cert, key }) = tls.cloned() else { return Ok(None) };
    Credentials::load(&CredentialFiles { ca, cert, key }).map(Some)
}

/// What is needed to ask the storage processes of a cluster.
///
/// # Errors
/// The certificate can't be used.
pub fn access(cluster: &str, tls: Option<&TlsConfig>) -> Result<Access, CredentialError> {
    Ok(Access { cluster: cluster_id(cluster), credentials: credentials(tls)? })
}

/// The credentials of a storage process. Says what is not as it should be.
///
/// # Errors
/// They can't be used, are another process's, or are missing where they must be there.
pub fn of_storage(config: &StorageConfig) -> Result<Option<Credentials>, String> {
    let credentials = credentials(config.tls.as_ref()).map_err(|error| format!("[tls]: {error}"))?;
    match &credentials {
        Some(credentials) => is_its_own(credentials, &config.name, CertifiedRole::Storage)?,
        None => may_go_without("listens on", [config.listen], config.insecure)?,
    }
    if config.allow_fault_injection {
        tracing::warn!(
            "faults are injected into this process when `auriga inject` asks for it (allow_fault_injection)"
        );
    }
    Ok(credentials)
}

/// The credentials of an instance. Says what is not as it should be.
///
/// # Errors
/// They can't be used, are another process's, don't name its volume, or are missing where they must be there.
pub fn of_instance(config: &InstanceConfig) -> Result<Option<Credentials>, String> {
    let credentials = credentials(config.tls.as_ref()).map_err(|error| format!("[tls]: {error}"))?;
    match &credentials {
        Some(credentials) => {
            is_its_own(credentials, &config.name, CertifiedRole::Instance)?;
            names_volume(credentials, config.volume, "this instance opens")?;
        }
        None => {
            let follow = config.follow.iter();
            let writers = follow.clone().flat_map(|follow| follow.writers.iter().copied());
            let region = follow.clone().filter_map(|follow| follow.region);
            let others = follow.flat_map(|follow| follow.instances.iter().map(|instance| instance.readers));
            let reached = config
                .storage
                .iter()
                .map(|storage| storage.address)
                .chain(writers)
                .chain(others)
                .chain(region)
                .chain(config.region_admin);
            may_go_without("reaches", reached, config.insecure)?;
            let listens = config.readers.iter().map(|readers| readers.listen).chain([config.admin]);
            may_go_without("listens on", listens, config.insecure)?;
        }
    }
    Ok(credentials)
}

/// The credentials of a region's process. Says what is not as it should be.
///
/// # Errors
/// They can't be used, are another process's, don't name its volume, or are missing where they must be there.
pub fn of_region(config: &RegionConfig) -> Result<Option<Credentials>, String> {
    let credentials = credentials(config.tls.as_ref()).map_err(|error| format!("[tls]: {error}"))?;
    match &credentials {
        Some(credentials) => {
            is_its_own(credentials, &config.name, CertifiedRole::Replication)?;
            names_volume(credentials, config.volume, "this region has")?;
        }
        None => {
            let storage = config.storage.iter().map(|storage| storage.address);
            let regions = config.regions.iter().map(|region| region.address);
            let reached = storage.chain(regions).chain(config.instances.iter().copied());
            may_go_without("reaches", reached, config.insecure)?;
            let listens = config.readers.iter().map(|readers| readers.listen).chain(config.admin);
            may_go_without("listens on", listens, config.insecure)?;
        }
    }
    Ok(credentials)
}

/// The credentials of a backup. Says what is not as it should be.
///
/// # Errors
/// They can't be used, are another process's, don't name its volume, or are missing where they must be there.
pub fn of_backup(config: &BackupConfig) -> Result<Option<Credentials>, String> {
    let credentials = credentials(config.tls.as_ref()).map_err(|error| format!("[tls]: {error}"))?;
    match &credentials {
        Some(credentials) => {
            is_its_own(credentials, &config.name, CertifiedRole::Replication)?;
            names_volume(credentials, config.volume, "this backup is of")?;
        }
        None => {
            let storage = config.storage.iter().map(|storage| storage.address);
            may_go_without("reaches", storage.chain(config.instances.iter().copied()), config.insecure)?;
        }
    }
    Ok(credentials)
}

/// The credentials of a controller or a gateway, which watch instances. Says what is not as it should be.
///
/// # Errors
/// They can't be used, are another process's, or are missing where they must be there: it `listens` on, or `reaches`, an
/// address that is not loopback.
pub fn of_watcher(
    name: &str,
    tls: Option<&TlsConfig>,
    listens: Option<SocketAddr>,
    reaches: impl IntoIterator<Item = SocketAddr>,
    insecure: bool,
) -> Result<Option<Credentials>, String> {
    let credentials = credentials(tls).map_err(|error| format!("[tls]: {error}"))?;
    match &credentials {
        Some(credentials) => is_its_own(credentials, name, CertifiedRole::Control)?,
        None => {
            may_go_without("listens on", listens, insecure)?;
            may_go_without("reaches", reaches, insecure)?;
        }
    }
    Ok(credentials)
}

/// Looks whether a certificate names a volume. `uses` says whose the volume is, for a person.
fn names_volume(credentials: &Credentials, volume: u64, uses: &str) -> Result<(), String> {
    let has = &credentials.own().volumes;
    if has.contains(&volume) {
        return Ok(());
    }
    Err(format!("[tls]: the certificate is for the volumes {has:?}, and {uses} {volume}"))
}

fn is_its_own(credentials: &Credentials, name: &str, role: CertifiedRole) -> Result<(), String> {
    credentials.must_be(name, role).map_err(|why| format!("[tls]: {why}"))?;
    if credentials.ends_soon() {
        tracing::warn!("the certificate expires within 30 days: issue a new one, and restart this process");
    }
    Ok(())
}

/// Looks whether these addresses may be used in the clear; warns where they are. `does` is what the process does with them.
///
/// # Errors
/// They may not, and why, for a person to read.
fn may_go_without(does: &str, addresses: impl IntoIterator<Item = SocketAddr>, insecure: bool) -> Result<(), String> {
    let Some(address) = addresses.into_iter().find(|address| !address.ip().is_loopback()) else { return Ok(()) };
    if !insecure {
        return Err(format!(
            "this process {does} {address}, which is not a loopback address, and has no certificate: give it [tls] (see \
             `auriga certs`), or say `insecure = true` if nobody else is on that network"
        ));
    }
    tracing::warn!(
        %address,
        "INSECURE: no [tls], so everybody on this network can read, change and stop everything (insecure = true)"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(address: &str, insecure: bool) -> Result<(), String> {
        may_go_without("listens on", [address.parse().expect("an address")], insecure)
    }

    #[test]
    fn only_loopback_goes_without_certificates() {
        assert_eq!(
            (may("127.0.0.1:1", false), may("[::1]:1", false), may("10.0.0.1:1", true)),
            (Ok(()), Ok(()), Ok(()))
        );
        for exposed in ["10.0.0.1:1", "0.0.0.0:1", "[::]:1", "[fe80::1]:1"] {
            let why = may(exposed, false).expect_err("refused");
            assert!(why.contains("give it [tls]") && why.contains("insecure = true"), "{why}");
        }
    }
}
