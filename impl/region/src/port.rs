//! The port on which a region's process answers about itself: HTTP with JSON. Instances of the region ask it how far the
//! other regions are.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | [`RegionReport`]; 503 while the process looks at its volume, and why |

use crate::process::{RegionProcess, RegionStatus};
use auriga_driver::lock;
use auriga_http::axum::extract::State;
use auriga_http::axum::routing::get;
use auriga_http::axum::{Json, Router};
use auriga_http::{Client, Method, Refused, StatusCode};
use auriga_net::admin::Access;
use auriga_net::tls::CertifiedRole;
use auriga_protocol::global::RegionRole;
use auriga_protocol::{Lsn, RegionId};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// How often a process that is watched is asked. A part of what a bound on the lag is exceeded by.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a region's process says of its region.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RegionReport {
    /// Which region.
    pub region: u16,
    /// Where it stands.
    pub role: ReportedRole,
    /// The primary of the last branch that it knows.
    pub primary: u16,
    /// The number of that branch's global epoch.
    pub global_epoch: u64,
    /// The last global LSN that is known to be durable in this region.
    pub durable: Lsn,
    /// Of a primary: every other region.
    pub secondaries: Vec<SecondaryReport>,
    /// Whether a failover has lost something of it, which `auriga global lost` names.
    pub has_lost: bool,
    /// Whether the process has the volume: no instance writes.
    pub owns_volume: bool,
    /// Why it last looked at its volume anew.
    pub trouble: Option<String>,
}

/// Where a region stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportedRole {
    /// Its instances may write.
    Primary,
    /// It was the primary, and a switchover is under way.
    HandedOn,
    /// It follows the primary.
    Secondary,
}

/// A secondary, as the primary's process sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SecondaryReport {
    /// Which region.
    pub region: u16,
    /// The last global LSN that is durable there, as it has said; zero: it was not heard since this process has begun.
    pub arrived: Lsn,
    /// How long ago the first record that is not there became durable in the primary, in milliseconds; 0: everything is.
    pub lag_ms: u64,
    /// Its log can't be continued: what it lacks is not kept any more. It has to be made anew.
    pub too_far: bool,
}

impl RegionReport {
    fn new(region: RegionId, status: RegionStatus) -> RegionReport {
        let tip = status.lineage.tip();
        let others = status.others.iter().filter(|_| status.role == RegionRole::Primary);
        let secondaries = others.map(|region| SecondaryReport {
            region: region.0,
            arrived: status.arrived.get(region).copied().unwrap_or_default(),
            lag_ms: status.lags.get(region).map_or(0, |lag| lag.0 / 1000),
            too_far: status.too_far.contains_key(region),
        });
        RegionReport {
            region: region.0,
            role: match status.role {
                RegionRole::Primary => ReportedRole::Primary,
                RegionRole::HandedOn => ReportedRole::HandedOn,
                RegionRole::Secondary => ReportedRole::Secondary,
            },
            primary: tip.primary.0,
            global_epoch: tip.global_epoch.number,
            durable: status.durable,
            secondaries: secondaries.collect(),
            has_lost: status.lost.is_some(),
            owns_volume: status.owns_volume,
            trouble: status.trouble,
        }
    }
}

/// The routes of the port of a process.
pub fn router(region: RegionId, process: Arc<RegionProcess>) -> Router {
    Router::new().route("/status", get(status)).with_state((region, process))
}

async fn status(
    State((region, process)): State<(RegionId, Arc<RegionProcess>)>,
) -> Result<Json<RegionReport>, Refused> {
    let status = process.status().ok_or_else(|| {
        let why = process.trouble().unwrap_or_else(|| "it has just begun".to_owned());
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, format!("region {} looks at its volume: {why}", region.0))
    })?;
    Ok(Json(RegionReport::new(region, status)))
}

/// What a region's process has said last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heard {
    /// What.
    pub report: RegionReport,
    /// When.
    pub at: SystemTime,
}

/// Returns what a region's process has said last; `None`: it was never heard, or there is none.
pub type RegionSaid = Arc<dyn Fn() -> Option<Heard> + Send + Sync>;

/// Asks the process at `address` again and again, on a thread of its own, as long as this process lives.
///
/// # Errors
/// The operating system has no thread, or no more of what tokio needs.
pub fn watch(address: Option<SocketAddr>, access: Access) -> io::Result<RegionSaid> {
    let heard = Arc::new(Mutex::new(None));
    let said = heard.clone();
    if let Some(address) = address {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut client = Client::new(address, &access, CertifiedRole::Replication);
        std::thread::Builder::new().name("region".to_owned()).spawn(move || {
            runtime.block_on(async {
                loop {
                    match client.ask(Method::GET, "/status", None::<&()>, PATIENCE).await {
                        Ok(report) => *lock(&heard) = Some(Heard { report, at: SystemTime::now() }),
                        Err(error) => tracing::debug!(%error, "the region's process does not say how far regions are"),
                    }
                    tokio::time::sleep(ASK_EVERY).await;
                }
            });
        })?;
    }
    Ok(Arc::new(move || lock(&said).clone()))
}
