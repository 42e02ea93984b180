//! Asking instances.

pub use auriga_http::HttpError;
use auriga_http::{Method, ask};
use auriga_instance::node::{InstanceStatus, Verifier};
use auriga_net::admin::Access;
use auriga_net::tls::CertifiedRole;
use std::net::SocketAddr;
use std::time::Duration;

/// How long an instance may take to answer, usually.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long a change of role may take, usually.
pub const TURN_PATIENCE: Duration = Duration::from_secs(110);

/// An instance's numbers.
///
/// # Errors
/// Not reached within `patience`.
pub async fn status(address: SocketAddr, access: &Access, patience: Duration) -> Result<InstanceStatus, HttpError> {
    ask(address, access, CertifiedRole::Instance, Method::GET, "/status", patience).await
}

/// The SCRAM verifier of a user, where it has one.
///
/// # Errors
/// Not reached within `patience`, or refused.
pub async fn verifier(
    address: SocketAddr,
    access: &Access,
    user: &[u8],
    patience: Duration,
) -> Result<Option<String>, HttpError> {
    let digits: String = user.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = format!("/verifier?user={digits}");
    let asked = ask::<Verifier>(address, access, CertifiedRole::Instance, Method::POST, &path, patience).await;
    asked.map(|answer| answer.verifier)
}

/// Empties the instance's page cache, but for pages that are not durable yet.
///
/// # Errors
/// Not reached within `patience`, or refused.
pub async fn drop_caches(
    address: SocketAddr,
    access: &Access,
    patience: Duration,
) -> Result<InstanceStatus, HttpError> {
    ask(address, access, CertifiedRole::Instance, Method::POST, "/drop-caches", patience).await
}

/// Makes the instance the volume's writer; every other one is fenced. Answers once its PostgreSQL accepts connections; that
/// nobody waits for the answer any more changes nothing.
///
/// # Errors
/// Not reached or not done within `patience`, or refused, or it failed: then it is a reader as before.
pub async fn promote(address: SocketAddr, access: &Access, patience: Duration) -> Result<InstanceStatus, HttpError> {
    ask(address, access, CertifiedRole::Instance, Method::POST, "/promote", patience).await
}

/// Makes the instance a reader. Answers once it has stopped to write, with everything durable.
///
/// # Errors
/// As [`promote`].
pub async fn demote(address: SocketAddr, access: &Access, patience: Duration) -> Result<InstanceStatus, HttpError> {
    ask(address, access, CertifiedRole::Instance, Method::POST, "/demote", patience).await
}
