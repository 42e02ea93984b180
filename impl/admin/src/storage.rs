//! Asking storage processes: their numbers, faults, and the creation of a volume's segments.

use crate::backup::BackupConfig;
use crate::config::{InstanceConfig, RegionConfig, StorageAddress, TlsConfig};
use crate::trust;
use auriga_net::ClusterId;
use auriga_net::admin::{self, Access, AdminReply, AdminRequest, NodeStatus};
use auriga_net::tls::CredentialError;
use auriga_protocol::VolumeId;
use auriga_volume::CreateError;
pub use auriga_volume::VolumeConfig;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a storage process may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the creation of a volume may take.
const CREATE_LIMIT: Duration = Duration::from_secs(20);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Not reached.
    #[error("storage at {address}: {source}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: admin::AdminError,
    },
    /// It won't.
    #[error("storage at {address} refused: {why}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Why.
        why: String,
    },
    /// An answer to another question.
    #[error("storage at {address} answered something else")]
    Nonsense {
        /// Where.
        address: SocketAddr,
    },
}

/// A cluster's identity on the wire: its name, hashed (FNV-1a, 128 bits).
pub fn cluster_id(name: &str) -> ClusterId {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    ClusterId(name.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)))
}

/// Asks the storage process at `address` one thing.
///
/// # Errors
/// Not reached within two seconds, or refused.
pub async fn ask(address: SocketAddr, access: &Access, request: AdminRequest) -> Result<AdminReply, AskError> {
    match admin::ask(address, access, &request, PATIENCE).await {
        Ok(AdminReply::Refused(why)) => Err(AskError::Refused { address, why }),
        Ok(reply) => Ok(reply),
        Err(source) => Err(AskError::Unreachable { address, source }),
    }
}

/// A storage process's numbers.
///
/// # Errors
/// Not reached.
pub async fn status(address: SocketAddr, access: &Access) -> Result<NodeStatus, AskError> {
    match ask(address, access, AdminRequest::Status).await? {
        AdminReply::Status(status) => Ok(*status),
        _ => Err(AskError::Nonsense { address }),
    }
}

/// The volume of an instance, and where its storage is.
///
/// # Errors
/// Its certificate can't be loaded.
pub fn volume_config(config: &InstanceConfig) -> Result<VolumeConfig, CredentialError> {
    let InstanceConfig { name, cluster, volume, groups, allocation_limit, tls, storage, .. } = config;
    volume_at(storage, (name, cluster), *volume, (*groups, *allocation_limit), tls.as_ref())
}

/// The volume of a region, and where its storage is.
///
/// # Errors
/// Its certificate can't be loaded.
pub fn volume_of_region(config: &RegionConfig) -> Result<VolumeConfig, CredentialError> {
    let RegionConfig { name, cluster, volume, groups, allocation_limit, tls, storage, .. } = config;
    volume_at(storage, (name, cluster), *volume, (*groups, *allocation_limit), tls.as_ref())
}

/// The volume that is backed up, and where its storage is.
///
/// # Errors
/// Its certificate can't be loaded.
pub fn volume_of_backup(config: &BackupConfig) -> Result<VolumeConfig, CredentialError> {
    let BackupConfig { name, cluster, volume, groups, allocation_limit, tls, storage, .. } = config;
    volume_at(storage, (name, cluster), *volume, (*groups, *allocation_limit), tls.as_ref())
}

/// The volume of number `label`, for the process `name` of a `cluster`.
fn volume_at(
    storage: &[StorageAddress],
    (name, cluster): (&str, &str),
    label: u64,
    (groups, allocation_limit): (u16, Option<u64>),
    tls: Option<&TlsConfig>,
) -> Result<VolumeConfig, CredentialError> {
    let members = crate::config::members(storage.iter().map(|storage| storage.address));
    let mut volume = VolumeConfig::new(name, cluster_id(cluster), VolumeId(label), members);
    volume.credentials = trust::credentials(tls)?;
    // Its identity is found out when it is opened.
    volume.label = label;
    volume.writer.geometry.groups = groups;
    if let Some(limit) = allocation_limit {
        volume.writer.allocation_limit = limit;
    }
    Ok(volume)
}

/// Why a volume is not made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The certificate of its instance.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// Storage.
    #[error(transparent)]
    Create(#[from] CreateError),
}

/// Creates the segments of a volume, six for each protection group; answers the volume's identity.
///
/// # Errors
/// Every storage process must answer, and none may hold anything of a volume of that number.
pub async fn create_volume(config: &InstanceConfig) -> Result<VolumeId, MakeError> {
    let volume = VolumeConfig { volume: auriga_volume::fresh_volume_id(), ..volume_config(config)? };
    Ok(auriga_volume::create_volume(&volume, Instant::now() + CREATE_LIMIT).await?)
}

/// A volume's identity as it is written in configurations.
pub fn identity_text(volume: VolumeId) -> String {
    volume.to_string()
}

/// The identity that a configuration names.
///
/// # Errors
/// It is not one.
pub fn identity_of(config: &InstanceConfig) -> Result<Option<VolumeId>, String> {
    identity_in(config.identity.as_deref())
}

/// The identity that a text names, if there is one.
///
/// # Errors
/// It is not one.
pub fn identity_in(text: Option<&str>) -> Result<Option<VolumeId>, String> {
    let Some(text) = text else { return Ok(None) };
    let number = text.strip_prefix('v').and_then(|digits| digits.parse().ok());
    let number = number.ok_or_else(|| format!("identity = {text:?}: not an identity, which is a v and a number"))?;
    Ok(Some(VolumeId(number)))
}
