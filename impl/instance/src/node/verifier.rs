//! The SCRAM verifiers of users, as a gateway needs them that forwards writes.
//!
//! With a verifier alone nobody can log in. With it and a login that was watched from between the client and PostgreSQL one
//! can, as this user, until the password is changed: a gateway that forwards does.

use super::port::Asked;
use crate::postgres::session::Session;
use auriga_http::axum::Json;
use auriga_http::axum::extract::{Extension, Query, State};
use auriga_http::{Peer, Refused, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// Longest name of a user that is looked up, in hexadecimal digits.
const DIGITS_MAX: usize = 512;
/// Questions at one time. Each is a process.
static TURNS: Semaphore = Semaphore::const_new(2);

/// Whose verifier is asked for: the name in hexadecimal digits, so that it is nothing else to anybody on the way.
#[derive(Deserialize)]
pub(super) struct Whose {
    user: String,
}

/// A user's verifier.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verifier {
    /// As `pg_authid` has it; `None`: there is no such user, or it has no password.
    pub verifier: Option<String>,
}

pub(super) async fn verifier(
    State(shown): Asked,
    Extension(peer): Extension<Peer>,
    Query(Whose { user }): Query<Whose>,
) -> Result<Json<Verifier>, Refused> {
    peer.may_change()?;
    if user.len() > DIGITS_MAX || !user.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(Refused::new(StatusCode::BAD_REQUEST, "a name is given in hexadecimal digits"));
    }
    let failed = |why: String| Refused::new(StatusCode::SERVICE_UNAVAILABLE, why);
    let spec = shown.parts().server.clone().ok_or_else(|| failed("PostgreSQL does not run".to_owned()))?;
    let _turn = TURNS.acquire().await.map_err(|error| failed(error.to_string()))?;
    let asking = tokio::task::spawn_blocking(move || {
        Session::begin(&spec)?.ask(&format!(
            "SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = \
             pg_catalog.convert_from(pg_catalog.decode('{user}', 'hex'), 'UTF8')"
        ))
    });
    let asked = asking.await.map_err(|error| failed(error.to_string()))?;
    let verifier = asked.map_err(|error| failed(error.to_string()))?.filter(|verifier| !verifier.is_empty());
    Ok(Json(Verifier { verifier }))
}
