//! How a session that its reader has let in is let in by the writer.
//!
//! Both have the same users and verifiers: they are one database. What the client has shown to the reader is shown to the
//! writer; with SCRAM, after its key was taken out of what it has shown ([`scram`]).

use super::messages::{self, Told};
use super::scram::{self, Exchange, Keys, METHOD};
use auriga_admin::instance::{PATIENCE, verifier};
use auriga_net::admin::Access;
use bytes::Bytes;
use std::net::SocketAddr;

/// What a client has shown when it was let in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Proof {
    /// It was let in as it is.
    #[default]
    Nothing,
    /// Its password, in the clear.
    Password(Bytes),
    /// That it has the key of a verifier.
    Scram(Exchange),
    /// This key.
    Keys(Keys),
    /// Something that can't be shown again.
    Other,
}

/// `AuthenticationRequest`s.
pub mod request {
    /// It is let in.
    pub const OK: u32 = 0;
    /// Its password, in the clear.
    pub const PASSWORD: u32 = 3;
    /// One of several methods.
    pub const SASL: u32 = 10;
    /// A challenge.
    pub const SASL_CONTINUE: u32 = 11;
    /// The end of a SASL exchange: nothing is to be answered.
    pub const SASL_FINAL: u32 = 12;
}

/// Where verifiers are asked for.
#[derive(Clone)]
pub struct Verifiers {
    /// The admin ports of this region's instances.
    pub instances: Vec<SocketAddr>,
    /// As whom.
    pub access: Access,
}

impl std::fmt::Debug for Verifiers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Verifiers").field(&self.instances).finish()
    }
}

/// A login at the writer that is under way.
pub struct Login<'a> {
    proof: &'a Proof,
    scram: Option<scram::Login<'a>>,
}

fn code(asked: &[u8]) -> Option<u32> {
    asked.first_chunk().map(|code| u32::from_be_bytes(*code))
}

impl Proof {
    /// The client has answered an `AuthenticationRequest`.
    pub fn shown(&mut self, asked: &[u8], answer: &Bytes) {
        *self = match (code(asked), std::mem::take(self)) {
            (Some(request::PASSWORD), _) => Proof::Password(answer.clone()),
            (Some(request::SASL), _) => Exchange::begin(answer).map_or(Proof::Other, Proof::Scram),
            (Some(request::SASL_CONTINUE), Proof::Scram(mut exchange)) => {
                match exchange.go_on(asked.get(4..).unwrap_or_default(), answer) {
                    true => Proof::Scram(exchange),
                    false => Proof::Other,
                }
            }
            _ => Proof::Other,
        };
    }

    /// Takes the client's key out of what it has shown, where that is needed.
    ///
    /// # Errors
    /// Nobody says which verifier the user has, or it has another one by now: what to tell the client.
    pub async fn find_keys(&mut self, user: &[u8], verifiers: Option<&Verifiers>) -> Result<(), Told> {
        let Proof::Scram(exchange) = self else { return Ok(()) };
        let mut why = "no instance was asked".to_owned();
        for address in verifiers.iter().flat_map(|verifiers| &verifiers.instances) {
            let Some(verifiers) = verifiers else { break };
            match verifier(*address, &verifiers.access, user, PATIENCE).await {
                Ok(found) => match found.and_then(|found| exchange.keys(&found)) {
                    Some(keys) => {
                        *self = Proof::Keys(keys);
                        return Ok(());
                    }
                    None => why = "the password was changed".to_owned(),
                },
                Err(error) => why = error.to_string(),
            }
        }
        tracing::warn!(why, "a session could not be let in by the writer");
        Err(Told::error("28000", format!("the login can't be passed on to the writer: {why}"), "Connect again."))
    }

    /// Begins a login.
    pub fn begin(&self) -> Login<'_> {
        Login { proof: self, scram: None }
    }
}

impl Login<'_> {
    /// Answers an `AuthenticationRequest`; `None`: nothing is to be answered.
    ///
    /// # Errors
    /// It can't be: what to tell the client.
    pub fn answer(&mut self, asked: &[u8]) -> Result<Option<Bytes>, Told> {
        let content = asked.get(4..).unwrap_or_default();
        let answer = match (code(asked), self.proof) {
            (Some(request::OK), _) => return Ok(None),
            (Some(request::PASSWORD), Proof::Password(password)) => Some(messages::message(b'p', password)),
            (Some(request::SASL), Proof::Keys(keys))
                if content.split(|byte| *byte == 0).any(|name| name == METHOD.as_bytes()) =>
            {
                keys.begin().ok().map(|(login, first)| {
                    self.scram = Some(login);
                    first
                })
            }
            (Some(request::SASL_CONTINUE), _) => self.scram.as_mut().and_then(|login| login.go_on(content)),
            (Some(request::SASL_FINAL), _) if self.scram.as_ref().is_some_and(|login| login.ends(content)) => {
                return Ok(None);
            }
            _ => None,
        };
        answer.map(Some).ok_or_else(|| {
            Told::error(
                "28000",
                "the writer asks for a kind of login that can't be passed on",
                "Write at the writer endpoint, or see docs/forwarding.md for what can be.",
            )
        })
    }
}
