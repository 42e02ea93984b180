//! The questions of the admin port.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | what the instance is, and how it is ([`InstanceStatus`]) |
//! | `GET /health` | 200 while PostgreSQL accepts connections, 503 otherwise |
//! | `POST /drop-caches` | the status; pages that are durable are forgotten first |
//! | `POST /verifier?user=HEX` | the SCRAM verifier of a user, for a gateway that forwards what this user writes ([`verifier`](super::verifier)) |
//! | `POST /replace`, `POST /undo-replace` | see [`membership`] |
//! | `POST /promote`, `POST /demote` | the status, once it has been done; 409: it can't be asked; 503: it failed, and why |

use super::shown::{InstanceStatus, Shown};
use super::verifier::verifier;
use super::{NodeError, Turn, io_error, membership};
use crate::admin;
use crate::health::{HealthReport, Phase};
use auriga_http::axum::extract::{Extension, State};
use auriga_http::axum::routing::{get, post};
use auriga_http::axum::{Json, Router};
use auriga_http::{Peer, Refused, StatusCode};
use auriga_net::tls::Credentials;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// How long one who asks for a turn is kept waiting. The turn goes on.
const TURN_LIMIT: Duration = Duration::from_secs(100);

type Answer = Result<Json<InstanceStatus>, Refused>;
pub(super) type Asked = State<Arc<Shown>>;

pub(super) fn serve_admin(
    address: SocketAddr,
    credentials: Option<Credentials>,
    shown: &Arc<Shown>,
) -> Result<(), NodeError> {
    let listener = TcpListener::bind(address).map_err(io_error(format!("listening on {address}")))?;
    admin::serve(listener, credentials, router(shown.clone())).map_err(io_error("serving the admin port"))
}

fn router(shown: Arc<Shown>) -> Router {
    Router::new()
        .route("/status", get(|State(shown): Asked| async move { Json(shown.status()) }))
        .route("/health", get(health))
        .route("/drop-caches", post(drop_caches))
        .route("/verifier", post(verifier))
        .route("/replace", post(membership::replace))
        .route("/undo-replace", post(membership::undo))
        .route("/promote", post(|shown: Asked, peer: Extension<Peer>| turn(shown, peer, Turn::Promote)))
        .route("/demote", post(|shown: Asked, peer: Extension<Peer>| turn(shown, peer, Turn::Demote)))
        .with_state(shown)
}

async fn health(State(shown): Asked) -> (StatusCode, Json<HealthReport>) {
    let report = shown.health.report();
    // A standby is up before clients may come.
    let is_closed = shown.parts().reader_files.as_ref().is_some_and(|files| !files.vitals().is_ready);
    let serves = report.phase == Phase::Ready && !is_closed;
    (if serves { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(report))
}

async fn drop_caches(State(shown): Asked, Extension(peer): Extension<Peer>) -> Answer {
    peer.may_change()?;
    shown.drop_caches();
    Ok(Json(shown.status()))
}

async fn turn(State(shown): Asked, Extension(peer): Extension<Peer>, turn: Turn) -> Answer {
    peer.may_change()?;
    let number = shown.roles.ask(turn).map_err(|why| Refused::new(StatusCode::CONFLICT, why))?;
    let outcome = tokio::time::timeout(TURN_LIMIT, shown.roles.outcome(number)).await;
    let outcome = outcome.unwrap_or_else(|_| Err(format!("not {turn} within {TURN_LIMIT:?}: it goes on")));
    outcome.map_err(|why| Refused::new(StatusCode::SERVICE_UNAVAILABLE, why))?;
    Ok(Json(shown.status()))
}
