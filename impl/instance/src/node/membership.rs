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
use auriga_protocol::membership::ReplaceRefused;
use auriga_protocol::{MemberId, PgId};
use auriga_volume::RemoteVolume;
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
    let new = writer(&shown)?.replace(ask.pg, ask.old, ask.home).map_err(refused)?;
    tracing::info!(pg = %ask.pg, old = %ask.old, %new, home = %ask.home, "ROLE a member of the volume is being replaced");
    Ok(Json(Replaced { new: Some(new) }))
}

pub(super) async fn undo(
    State(shown): State<Arc<Shown>>,
    Extension(peer): Extension<Peer>,
    Json(ask): Json<Undo>,
) -> Answer {
    peer.may_change()?;
    writer(&shown)?.undo_replace(ask.pg, ask.new).map_err(refused)?;
    tracing::info!(pg = %ask.pg, new = %ask.new, "ROLE a replacement of a member of the volume is taken back");
    Ok(Json(Replaced { new: None }))
}

fn writer(shown: &Shown) -> Result<Arc<RemoteVolume>, Refused> {
    let volume = shown.parts().volume.clone();
    volume.ok_or_else(|| Refused::new(StatusCode::CONFLICT, "this instance does not write the volume"))
}

fn refused(why: ReplaceRefused) -> Refused {
    Refused::new(StatusCode::CONFLICT, why.to_string())
}
