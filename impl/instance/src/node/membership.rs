//! What the admin port is asked to change in the volume's membership: it passes it to the writer, which decides.
//!
//! | request | answer |
//! |---|---|
//! | `POST /replace`, with [`Replace`] | [`Replaced`], as soon as it is begun; 409: the writer refuses, and why |
//! | `POST /undo-replace`, with [`Undo`] | the same |

use super::shown::Shown;
use auriga_http::axum::Json;
use auriga_http::axum::extract::{Extension, State};
use auriga_http::{Peer, Refused, StatusCode};
use auriga_protocol::{MemberId, PgId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

/// A replacement that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// The group.
    pub pg: PgId,
    /// Who goes.
    pub old: MemberId,
    /// The storage process that takes over.
    pub home: SocketAddr,
}

/// A replacement that is to be undone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// The group.
    pub pg: PgId,
    /// Who was to come.
    pub new: MemberId,
}

/// What was begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Replaced {
    /// The number of the new member, of a replacement.
    pub new: Option<MemberId>,
}

type Answer = Result<Json<Replaced>, Refused>;

pub(super) async fn replace(
    State(shown): State<Arc<Shown>>,
    Extension(peer): Extension<Peer>,
    Json(ask): Json<Replace>,
) -> Answer {
    peer.may_change()?;
    let _ = (shown, ask);
    Err(Refused::new(StatusCode::CONFLICT, "this build replaces no member"))
}

pub(super) async fn undo(
    State(shown): State<Arc<Shown>>,
    Extension(peer): Extension<Peer>,
    Json(ask): Json<Undo>,
) -> Answer {
    peer.may_change()?;
    let _ = (shown, ask);
    Err(Refused::new(StatusCode::CONFLICT, "this build replaces no member"))
}
