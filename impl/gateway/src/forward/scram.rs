//! SCRAM-SHA-256 (RFC 5802, RFC 7677), for a gateway that has watched a client log in, and logs in as it elsewhere.
//!
//! A client proves that it has a key without showing it: what it sends is the key, hidden by something that follows from the
//! server's verifier and from the exchange. Who knows both can take the key out, and prove the same to another server that
//! has the same verifier.

use super::messages;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::{digest, hmac};

/// The name of the method, as PostgreSQL has it.
pub const METHOD: &str = "SCRAM-SHA-256";
/// What is hashed: no channel is bound.
const HEADER: &str = "n,,";
const KEY: usize = 32;

/// A login that was watched.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Exchange {
    first: String,
    server: String,
    last: String,
    proof: Vec<u8>,
}

/// What the client has proved that it has, and what the server proves.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    client: [u8; KEY],
    stored: Vec<u8>,
    server: Vec<u8>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Keys")
    }
}

impl Exchange {
    /// The client's answer to the offer of methods; `None`: by another one.
    pub fn begin(answer: &Bytes) -> Option<Exchange> {
        let (method, rest) = messages::string(answer);
        let first = std::str::from_utf8(rest.get(4..)?).ok()?;
        // Its head says whether a channel is bound, and for whom it asks.
        let bare = first.splitn(3, ',').nth(2)?;
        (method == METHOD).then(|| Exchange { first: bare.to_owned(), ..Exchange::default() })
    }

    /// The server's challenge, and the client's answer to it. Whether they are such.
    pub fn go_on(&mut self, asked: &[u8], answer: &[u8]) -> bool {
        let read = || {
            let (server, answer) = (std::str::from_utf8(asked).ok()?, std::str::from_utf8(answer).ok()?);
            let (last, proof) = answer.rsplit_once(",p=")?;
            Some((server.to_owned(), last.to_owned(), STANDARD.decode(proof).ok()?))
        };
        let Some((server, last, proof)) = read() else { return false };
        (self.server, self.last, self.proof) = (server, last, proof);
        true
    }

    /// Takes the client's key out, by the verifier that the server has. `None`: it is another one.
    pub fn keys(&self, verifier: &str) -> Option<Keys> {
        let (_, keys) = verifier.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (stored, server) = keys.split_once(':')?;
        let (stored, server) = (STANDARD.decode(stored).ok()?, STANDARD.decode(server).ok()?);
        let signed = signature(&stored, &[&self.first, &self.server, &self.last]);
        let client = hidden(&self.proof, &signed)?;
        let is_it = digest::digest(&digest::SHA256, &client).as_ref() == stored;
        is_it.then_some(Keys { client, stored, server })
    }
}

/// Hides a key, or shows it again.
fn hidden(key: &[u8], by: &[u8]) -> Option<[u8; KEY]> {
    let bytes: Vec<u8> = key.iter().zip(by).map(|(a, b)| a ^ b).collect();
    bytes.try_into().ok()
}

fn signature(key: &[u8], parts: &[&str; 3]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), parts.join(",").as_bytes()).as_ref().to_vec()
}

/// A login of the gateway's own.
#[derive(Debug)]
pub struct Login<'a> {
    keys: &'a Keys,
    nonce: String,
    expected: Vec<u8>,
}

impl Keys {
    /// Begins to log in. Returns what to send first.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn begin(&self) -> Result<(Login<'_>, Bytes), getrandom::Error> {
        let mut random = [0; 18];
        getrandom::fill(&mut random)?;
        let nonce = STANDARD.encode(random);
        let first = format!("{HEADER}n=,r={nonce}");
        let length = (first.len() as u32).to_be_bytes();
        let body = [METHOD.as_bytes(), b"\0", &length, first.as_bytes()].concat();
        Ok((Login { keys: self, nonce, expected: Vec::new() }, messages::message(b'p', &body)))
    }
}

impl Login<'_> {
    /// Answers the server's challenge; `None`: it is none.
    pub fn go_on(&mut self, asked: &[u8]) -> Option<Bytes> {
        let server = std::str::from_utf8(asked).ok()?;
        let nonce = server.split(',').find_map(|part| part.strip_prefix("r="))?;
        if !nonce.starts_with(&self.nonce) {
            return None;
        }
        let last = format!("c={},r={nonce}", STANDARD.encode(HEADER));
        let parts = [&format!("n=,r={}", self.nonce), server, &last];
        let proof = hidden(&self.keys.client, &signature(&self.keys.stored, &parts))?;
        self.expected = signature(&self.keys.server, &parts);
        Some(messages::message(b'p', format!("{last},p={}", STANDARD.encode(proof)).as_bytes()))
    }

    /// Whether the server has proved that it has the verifier.
    pub fn ends(&self, told: &[u8]) -> bool {
        let proved = std::str::from_utf8(told).ok().and_then(|text| text.strip_prefix("v="));
        proved.and_then(|proof| STANDARD.decode(proof).ok()).is_some_and(|proof| proof == self.expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, and its verifier as PostgreSQL writes it.
    fn watched() -> (Exchange, String) {
        let first = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
        let body = [b"SCRAM-SHA-256\0\0\0\0\x20", first.as_bytes()].concat();
        let mut exchange = Exchange::begin(&Bytes::from(body)).expect("begun");
        let server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert!(exchange.go_on(server.as_bytes(), last.as_bytes()));
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("a salt");
        let mut salted = [0; KEY];
        let rounds = std::num::NonZeroU32::new(4096).expect("rounds");
        ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, b"pencil", &mut salted);
        let key = |name: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salted), name.as_bytes());
        let stored = digest::digest(&digest::SHA256, key("Client Key").as_ref());
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        let (stored, server) = (encode(stored.as_ref()), encode(key("Server Key").as_ref()));
        (exchange, format!("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==${stored}:{server}"))
    }

    #[test]
    fn a_login_that_was_watched_can_be_done_again() {
        let (exchange, verifier) = watched();
        let keys = exchange.keys(&verifier).expect("the client's key");
        let (mut login, first) = keys.begin().expect("random numbers");
        let begun = Exchange::begin(&first.slice(5..)).expect("as a client begins");
        let nonce = login.nonce.clone();
        let challenge = format!("r={nonce}more,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let answer = login.go_on(challenge.as_bytes()).expect("answered");
        // Whoever has the verifier finds the same key in it: it is a proof.
        let mut seen = begun;
        assert!(seen.go_on(challenge.as_bytes(), &answer[5..]));
        assert_eq!(seen.keys(&verifier), Some(keys.clone()));
        assert!(!login.ends(b"v=AAAA"));
        assert!(login.ends(format!("v={}", STANDARD.encode(&login.expected)).as_bytes()));
        assert_eq!(login.go_on(b"r=another,s=AAAA,i=1"), None, "somebody else's challenge");
    }

    #[test]
    fn nothing_is_taken_out_by_another_verifier() {
        let (exchange, verifier) = watched();
        for wrong in ["", "md5abc", &verifier.replace("$W", "$X"), "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA"] {
            assert_eq!(exchange.keys(wrong), None, "{wrong}");
        }
        assert_eq!(Exchange::begin(&Bytes::from_static(b"SCRAM-SHA-256-PLUS\0\0\0\0\x03n,,")), None);
        assert!(!Exchange::default().go_on(b"r=", b"c=biws,r="));
    }
}
