//! The controller's own port: HTTP with JSON.
//!
//! | request | answer |
//! |---|---|
//! | `GET /cluster` | who writes, and how everyone is: [`ClusterShown`] |
//! | `GET /events?after=N&count=N` | what has happened, the oldest first: [`StoredEvent`]s |
//! | `POST /failover`, with `{"to": NAME}` or `{}` | [`FailoverShown`], once it has ended |

use crate::controller::Refusal;
use crate::driver::Control;
use crate::store::StoredEvent;
use auriga_admin::looking::lets_clients_in;
use auriga_http::axum::extract::{Extension, Query, State};
use auriga_http::axum::routing::{get, post};
use auriga_http::axum::{Json, Router};
use auriga_http::{Peer, Refused, StatusCode};
use auriga_instance::node::{InstanceRole, Transition};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most events in one answer.
const EVENTS_MAX: usize = 1000;
/// How long a failover is waited for. It goes on without who asked for it.
const FAILOVER_LIMIT: Duration = Duration::from_secs(90);
/// How often it is looked whether a failover has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A cluster as its controller sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClusterShown {
    /// The cluster's name.
    pub cluster: String,
    /// The newest writer that was seen.
    pub writer: Option<String>,
    /// The number of its volume epoch.
    pub volume_epoch: u64,
    /// Whom a failover that is under way goes to.
    pub failover_to: Option<String>,
    /// Everyone.
    pub instances: Vec<InstanceShown>,
    /// The storage processes.
    #[serde(default)]
    pub storage: Vec<StorageShown>,
    /// Whether lost storage processes are replaced.
    #[serde(default)]
    pub heals: bool,
}

/// A storage process as its controller sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StorageShown {
    /// Its name.
    pub name: String,
    /// Its Availability Zone.
    pub az: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it answered when it was asked last.
    pub answers: bool,
    /// How many segments it holds; 0 of a spare.
    pub segments: usize,
}

/// An instance as its controller sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InstanceShown {
    /// Its name.
    pub name: String,
    /// Whether it answered when it was asked last. The rest is what it said last.
    pub answers: bool,
    /// What it does.
    pub role: Option<InstanceRole>,
    /// Whether it lets clients in.
    pub is_ready: bool,
    /// Its Availability Zone.
    pub az: String,
    /// Its promotion tier.
    pub tier: u8,
    /// The number of the writer's volume epoch, as it knows it.
    pub volume_epoch: u64,
    /// Where PostgreSQL listens.
    pub postgres: Option<SocketAddr>,
    /// A reader's replica lag.
    pub lag_ms: Option<u64>,
    /// Its last role changes.
    pub transitions: Vec<Transition>,
}

/// What a person asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailoverAsk {
    /// Who is to write; the best one where absent.
    pub to: Option<String>,
}

/// How a failover has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FailoverShown {
    /// To whom it was begun.
    pub to: String,
    /// Who writes now.
    pub writer: Option<String>,
    /// How long it took.
    pub took_ms: u64,
}

/// Which events are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(default)]
struct Which {
    after: u64,
    count: usize,
}

impl Default for Which {
    fn default() -> Self {
        Which { after: 0, count: 100 }
    }
}

/// The routes of the port.
pub fn router(control: Arc<Control>) -> Router {
    Router::new()
        .route("/cluster", get(cluster))
        .route("/events", get(events))
        .route("/failover", post(failover))
        .with_state(control)
}

async fn cluster(State(control): State<Arc<Control>>) -> Json<ClusterShown> {
    Json(shown(&control))
}

async fn events(
    State(control): State<Arc<Control>>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<StoredEvent>>, Refused> {
    let found = control.store().events(which.after, which.count.min(EVENTS_MAX));
    found.map(Json).map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn failover(
    State(control): State<Arc<Control>>,
    Extension(peer): Extension<Peer>,
    Json(ask): Json<FailoverAsk>,
) -> Result<Json<FailoverShown>, Refused> {
    peer.may_change()?;
    let begun = Instant::now();
    let to = control.request(ask.to.as_deref()).map_err(|refusal| {
        let status = match refusal {
            Refusal::Unknown(..) => StatusCode::NOT_FOUND,
            _ => StatusCode::CONFLICT,
        };
        Refused::new(status, refusal.to_string())
    })?;
    loop {
        let (kept, under_way, _) = control.seen();
        if under_way.is_none() {
            let took_ms = begun.elapsed().as_millis() as u64;
            return Ok(Json(FailoverShown { to, writer: kept.writer, took_ms }));
        }
        if begun.elapsed() > FAILOVER_LIMIT {
            return Err(Refused::new(StatusCode::GATEWAY_TIMEOUT, format!("the failover to {to} has not ended yet")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn shown(control: &Control) -> ClusterShown {
    let (kept, failover_to, seen) = control.seen();
    let instances = control.config().instances.iter().map(|instance| {
        let seen = seen.get(&instance.name);
        let status = seen.and_then(|seen| seen.status.as_ref());
        InstanceShown {
            name: instance.name.clone(),
            answers: seen.is_some_and(|seen| seen.answers),
            role: status.map(|status| status.role),
            is_ready: status.is_some_and(lets_clients_in),
            az: status.map(|status| status.az.clone()).unwrap_or_default(),
            tier: status.map_or(0, |status| status.tier),
            volume_epoch: status.and_then(|status| status.volume_epoch).map_or(0, |epoch| epoch.number),
            postgres: status.map(|status| status.postgres),
            lag_ms: status.and_then(|status| status.lag_ms),
            transitions: status.map(|status| status.transitions.clone()).unwrap_or_default(),
        }
    });
    let processes = control.processes();
    let storage = control.config().storage.iter().map(|storage| {
        let status = processes.get(&storage.name).and_then(Option::as_ref);
        StorageShown {
            name: storage.name.clone(),
            az: storage.az.clone(),
            address: storage.address,
            answers: status.is_some(),
            segments: status.map_or(0, |status| status.segments.len()),
        }
    });
    ClusterShown {
        storage: storage.collect(),
        heals: control.config().healing.enabled,
        cluster: control.config().cluster.clone(),
        writer: kept.writer,
        volume_epoch: kept.volume_epoch.0,
        failover_to,
        instances: instances.collect(),
    }
}
