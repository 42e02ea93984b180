//! How a session that its reader has let in is let in by the writer.
//!
//! Both have the same users and verifiers: they are one database. What the client has shown to the reader is shown to the
//! writer.

use super::messages::{self, Told};
use bytes::Bytes;

/// What a client has shown when it was let in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Proof {
    /// It was let in as it is.
    #[default]
    Nothing,
    /// Its password, in the clear.
    Password(Bytes),
    /// Something that can't be shown again.
    Other,
}

/// `AuthenticationRequest`s.
pub mod request {
    /// It is let in.
    pub const OK: u32 = 0;
    /// Its password, in the clear.
    pub const PASSWORD: u32 = 3;
    /// The end of a SASL exchange: nothing is to be answered.
    pub const SASL_FINAL: u32 = 12;
}

/// A login at the writer that is under way.
pub struct Login<'a> {
    proof: &'a Proof,
}

impl Proof {
    /// The client has answered an `AuthenticationRequest`.
    pub fn shown(&mut self, asked: &[u8], answer: &Bytes) {
        *self = match asked.first_chunk().map(|code| u32::from_be_bytes(*code)) {
            Some(request::PASSWORD) => Proof::Password(answer.clone()),
            _ => Proof::Other,
        };
    }

    /// The reader has told the client something that is not answered.
    pub fn told(&mut self, _: &[u8]) {}

    /// Begins a login.
    pub fn begin(&self) -> Login<'_> {
        Login { proof: self }
    }
}

impl Login<'_> {
    /// Answers an `AuthenticationRequest`; `None`: nothing is to be answered.
    ///
    /// # Errors
    /// It can't be: what to tell the client.
    pub fn answer(&mut self, asked: &[u8]) -> Result<Option<Bytes>, Told> {
        match (asked.first_chunk().map(|code| u32::from_be_bytes(*code)), self.proof) {
            (Some(request::OK), _) => Ok(None),
            (Some(request::PASSWORD), Proof::Password(password)) => Ok(Some(messages::message(b'p', password))),
            _ => Err(Told::error(
                "28000",
                "the writer asks for a kind of login that can't be passed on",
                "Write at the writer endpoint, or see docs/forwarding.md for what can be.",
            )),
        }
    }
}
