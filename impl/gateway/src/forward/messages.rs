//! Messages that a gateway makes, and the parts of others that it looks at.

use bytes::{BufMut, Bytes, BytesMut};

/// Makes a message.
pub fn message(kind: u8, body: &[u8]) -> Bytes {
    let mut made = BytesMut::with_capacity(body.len() + 5);
    made.put_u8(kind);
    made.put_u32(body.len() as u32 + 4);
    made.put_slice(body);
    made.freeze()
}

/// A simple query.
pub fn query(text: &[u8]) -> Bytes {
    let mut body = text.to_vec();
    body.push(0);
    message(b'Q', &body)
}

/// `ReadyForQuery`.
pub fn ready(status: u8) -> Bytes {
    message(b'Z', &[status])
}

/// The end of a batch.
pub fn sync() -> Bytes {
    message(b'S', &[])
}

/// What a client is told of an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// `ERROR` or `FATAL`.
    pub severity: &'static str,
    /// Its code.
    pub sqlstate: &'static str,
    /// What happened.
    pub text: String,
    /// What may help; empty where nothing does.
    pub hint: &'static str,
}

impl Told {
    /// An error of a statement.
    pub fn error(sqlstate: &'static str, text: impl Into<String>, hint: &'static str) -> Told {
        Told { severity: "ERROR", sqlstate, text: text.into(), hint }
    }

    /// The end of a session.
    pub fn fatal(sqlstate: &'static str, text: impl Into<String>) -> Told {
        Told { severity: "FATAL", sqlstate, text: text.into(), hint: "" }
    }

    /// The message.
    pub fn bytes(&self) -> Bytes {
        let mut body = Vec::new();
        let fields = [
            (b'S', self.severity),
            (b'V', self.severity),
            (b'C', self.sqlstate),
            (b'M', self.text.as_str()),
            (b'H', self.hint),
        ];
        for (field, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            body.push(field);
            body.extend(value.bytes());
            body.push(0);
        }
        body.push(0);
        message(b'E', &body)
    }
}

/// A field of an error or notice.
pub fn field(body: &[u8], wanted: u8) -> Option<&[u8]> {
    fields(body).find(|(field, _)| *field == wanted).map(|(_, value)| value)
}

fn fields(body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    body.split(|byte| *byte == 0).filter_map(|field| field.split_first().map(|(first, value)| (*first, value)))
}

/// The same error with another text and a hint; everything else, such as the position, stays.
pub fn told_otherwise(body: &[u8], text: &str, hint: &str) -> Bytes {
    let mut new = Vec::new();
    let kept = fields(body).filter(|(field, _)| !matches!(field, b'M' | b'H'));
    for (field, value) in kept.chain([(b'M', text.as_bytes()), (b'H', hint.as_bytes())]) {
        new.push(field);
        new.extend(value);
        new.push(0);
    }
    new.push(0);
    message(b'E', &new)
}

/// A string that ends with a zero byte, and what comes after it.
pub fn string(body: &Bytes) -> (Bytes, Bytes) {
    let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
    (body.slice(..end), body.slice((end + 1).min(body.len())..))
}

/// The first column of a row, as text.
pub fn first_column(body: &[u8]) -> Option<String> {
    let length = u32::from_be_bytes(*body.get(2..)?.first_chunk()?) as usize;
    body.get(6..)?.get(..length).map(|value| String::from_utf8_lossy(value).into_owned())
}

/// A WAL position as PostgreSQL writes it.
pub fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    let part = |text: &str| u32::from_str_radix(text, 16).ok();
    Some(u64::from(part(high)?) << 32 | u64::from(part(low)?))
}

/// The parameters of a start-up message.
pub fn parameters(startup: &Bytes) -> Vec<(Bytes, Bytes)> {
    let (mut found, mut rest) = (Vec::new(), startup.slice(8.min(startup.len())..));
    loop {
        let (name, after) = string(&rest);
        if name.is_empty() {
            return found;
        }
        let (value, after) = string(&after);
        found.push((name, value));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_made_read_and_told_otherwise() {
        let told = Told::error("0A000", "no", "yes").bytes();
        let body = told.slice(5..);
        assert_eq!((field(&body, b'C'), field(&body, b'H')), (Some(&b"0A000"[..]), Some(&b"yes"[..])));
        let other = told_otherwise(&body, "never", "ask");
        let body = other.slice(5..);
        assert_eq!((field(&body, b'M'), field(&body, b'C')), (Some(&b"never"[..]), Some(&b"0A000"[..])));
        assert_eq!(field(&body, b'P'), None);
    }

    #[test]
    fn small_parts_are_read() {
        assert_eq!((lsn("1/A0"), lsn("x"), lsn("0/")), (Some((1 << 32) + 160), None, None));
        assert_eq!(first_column(b"\0\x01\0\0\0\x02hi").as_deref(), Some("hi"));
        assert_eq!(first_column(b"\0\x01\xff\xff\xff\xff"), None, "null");
        let startup = Bytes::from_static(b"\0\0\0\0\0\x03\0\0user\0me\0database\0d\0\0");
        assert_eq!(parameters(&startup).len(), 2);
        assert_eq!(string(&Bytes::from_static(b"a\0b")), (Bytes::from_static(b"a"), Bytes::from_static(b"b")));
    }
}
