//! Asks a controller.

use crate::serve::{ClusterShown, FailoverAsk, FailoverShown};
use crate::store::StoredEvent;
use auriga_http::{Client, HttpError, Method};
use auriga_net::admin::Access;
use auriga_net::tls::CertifiedRole;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a controller may take to answer what it knows.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a failover may take.
const FAILOVER_PATIENCE: Duration = Duration::from_secs(100);

/// Who writes, and how everyone is.
///
/// # Errors
/// There is no answer.
pub async fn cluster(control: SocketAddr, access: &Access) -> Result<ClusterShown, HttpError> {
    auriga_http::ask(control, access, CertifiedRole::Control, Method::GET, "/cluster", PATIENCE).await
}

/// The last `count` events with a number above `after`, the oldest first.
///
/// # Errors
/// There is no answer.
pub async fn events(
    control: SocketAddr,
    access: &Access,
    after: u64,
    count: usize,
) -> Result<Vec<StoredEvent>, HttpError> {
    let path = format!("/events?after={after}&count={count}");
    auriga_http::ask(control, access, CertifiedRole::Control, Method::GET, &path, PATIENCE).await
}

/// Has another instance take over, and waits for it.
///
/// # Errors
/// It was refused, or there is no answer.
pub async fn failover(control: SocketAddr, access: &Access, to: Option<&str>) -> Result<FailoverShown, HttpError> {
    let ask = FailoverAsk { to: to.map(str::to_owned) };
    Client::new(control, access, CertifiedRole::Control)
        .ask(Method::POST, "/failover", Some(&ask), FAILOVER_PATIENCE)
        .await
}
