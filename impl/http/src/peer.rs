//! Who asks, and how one is turned away.

use auriga_net::tls::{Certified, CertifiedRole};
use axum::Json;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// Who asks. Handlers take it as an `Extension`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer(pub Option<Certified>);

impl Peer {
    /// Whether one who asks may change something: a person or a controller may. Where there are no certificates,
    /// everybody may.
    ///
    /// # Errors
    /// It may only look.
    pub fn may_change(&self) -> Result<(), Refused> {
        match &self.0 {
            Some(Certified { name, role, .. }) if !matches!(role, CertifiedRole::Control | CertifiedRole::Admin) => {
                let why = format!("{name} (role {role}) may look at this process, and change nothing");
                Err(Refused::new(StatusCode::FORBIDDEN, why))
            }
            _ => Ok(()),
        }
    }
}

/// A request that is not carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Which kind of refusal.
    pub status: StatusCode,
    /// Why, for a person to read.
    pub why: String,
}

impl Refused {
    /// Refuses for a reason.
    pub fn new(status: StatusCode, why: impl Into<String>) -> Refused {
        Refused { status, why: why.into() }
    }
}

/// What a refusal says in its body.
#[derive(Serialize, Deserialize)]
pub(crate) struct Said {
    pub error: String,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(Said { error: self.why })).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_controllers_change_things_and_others_look() {
        let may = |role| Peer(Some(Certified { name: "x".into(), role, volumes: [1].into() })).may_change().is_ok();
        assert_eq!(CertifiedRole::ALL.map(may), [false, false, true, false, true]);
        assert_eq!(Peer(None).may_change(), Ok(()));
    }
}
