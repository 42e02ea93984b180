//! The little of PostgreSQL's wire protocol that a gateway needs: to tell a client why it is turned away.
//!
//! Statements and rows are never looked at. [`Boundaries`] counts the bytes of the server's messages, to know whether a
//! message of the gateway's own may be put after them.

/// What a client that sends one of these before its start-up message asks for: encryption (SSL, GSSAPI).
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];
/// A request to cancel a statement: no answer is expected.
pub(crate) const CANCEL: u32 = 80_877_102;
/// Longest start-up message that PostgreSQL takes.
pub const STARTUP_BYTES_MAX: usize = 10_000;
/// `sqlstate` of a server that goes away.
pub const ADMIN_SHUTDOWN: &str = "57P01";
/// `sqlstate` of a server that can't be used yet.
pub const CANNOT_CONNECT_NOW: &str = "57P03";
/// `sqlstate` of a server that is full.
pub const TOO_MANY_CONNECTIONS: &str = "53300";

/// What a client's first message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum First {
    /// It asks for encryption.
    Encryption,
    /// It wants a statement cancelled.
    Cancel,
    /// It starts a session; the message has this many bytes.
    StartUp(usize),
    /// It is none of these.
    Nonsense,
}

/// Reads the head of a client's first message.
pub fn first(head: [u8; 8]) -> First {
    let [a, b, c, d, e, f, g, h] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let code = u32::from_be_bytes([e, f, g, h]);
    match length {
        8 if ENCRYPTION.contains(&code) => First::Encryption,
        8.. if code == CANCEL => First::Cancel,
        8..=STARTUP_BYTES_MAX => First::StartUp(length),
        _ => First::Nonsense,
    }
}

/// An `ErrorResponse` that ends the session.
pub fn fatal(sqlstate: &str, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (field, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', sqlstate), (b'M', text)] {
        body.push(field);
        body.extend(value.bytes());
        body.push(0);
    }
    body.push(0);
    let mut message = vec![b'E'];
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    message
}

/// Follows the boundaries of what a server sends.
#[derive(Clone, Debug, Default)]
pub struct Boundaries {
    state: Follows,
}

#[derive(Clone, Debug, Default)]
enum Follows {
    /// Nothing was asked for yet.
    #[default]
    Start,
    /// One byte that says whether the connection will be encrypted.
    Choice,
    /// A message's type and length; these bytes of them have come.
    Head([u8; 5], usize),
    /// This many bytes of a message are still to come.
    Body(u64),
    /// It is encrypted, or not understood.
    Opaque,
}

impl Boundaries {
    /// The client's first bytes, as far as they came together.
    pub fn client_sent(&mut self, bytes: &[u8]) {
        if !matches!(self.state, Follows::Start) {
            return;
        }
        self.state = match bytes.first_chunk() {
            Some(head) => match first(*head) {
                First::Encryption => Follows::Choice,
                First::StartUp(_) => Follows::Head([0; 5], 0),
                First::Cancel | First::Nonsense => Follows::Opaque,
            },
            None => Follows::Opaque,
        };
    }

    /// The server has sent this.
    pub fn server_sent(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match &mut self.state {
                Follows::Opaque => return,
                Follows::Start => self.state = Follows::Opaque,
                Follows::Choice => {
                    // The client sends its start-up message next, or asks for the other kind of encryption.
                    self.state = if byte == b'N' { Follows::Start } else { Follows::Opaque };
                    bytes = rest;
                }
                Follows::Head(head, have) => {
                    head[*have] = byte;
                    *have += 1;
                    bytes = rest;
                    if *have == head.len() {
                        let [_, a, b, c, d] = *head;
                        self.state = match u32::from_be_bytes([a, b, c, d]).checked_sub(4) {
                            Some(0) => Follows::Head([0; 5], 0),
                            Some(length) => Follows::Body(length.into()),
                            None => Follows::Opaque,
                        };
                    }
                }
                Follows::Body(left) => {
                    let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        self.state = Follows::Head([0; 5], 0);
                    }
                }
            }
        }
    }

    /// Whether a message may be put after what was sent.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.state, Follows::Head(_, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(length: u32, code: u32) -> [u8; 8] {
        let mut head = [0; 8];
        head[..4].copy_from_slice(&length.to_be_bytes());
        head[4..].copy_from_slice(&code.to_be_bytes());
        head
    }

    #[test]
    fn first_messages_are_told_apart() {
        assert_eq!(first(head(8, 80_877_103)), First::Encryption);
        assert_eq!(first(head(8, 80_877_104)), First::Encryption);
        assert_eq!(first(head(16, 80_877_102)), First::Cancel);
        assert_eq!(first(head(41, 3 << 16)), First::StartUp(41));
        assert_eq!(first(*b"GET / HT"), First::Nonsense);
        assert_eq!(first(head(7, 0)), First::Nonsense);
    }

    #[test]
    fn boundaries_are_known_however_the_bytes_are_cut() {
        let start = head(41, 3 << 16);
        let message = fatal(CANNOT_CONNECT_NOW, "no");
        let mut stream = vec![b'Z', 0, 0, 0, 5, b'I', b'1', 0, 0, 0, 4];
        stream.extend(&message);
        for cut in 0..=stream.len() {
            let mut boundaries = Boundaries::default();
            assert!(!boundaries.is_between_messages());
            boundaries.client_sent(&start);
            boundaries.server_sent(&stream[..cut]);
            assert_eq!(boundaries.is_between_messages(), [0, 6, 11, stream.len()].contains(&cut), "{cut}");
            boundaries.server_sent(&stream[cut..]);
            assert!(boundaries.is_between_messages());
        }
    }

    #[test]
    fn what_is_encrypted_is_never_written_into() {
        let mut boundaries = Boundaries::default();
        boundaries.client_sent(&head(8, 80_877_103));
        boundaries.server_sent(b"S");
        boundaries.client_sent(&head(41, 3 << 16));
        boundaries.server_sent(&[0; 100]);
        assert!(!boundaries.is_between_messages());
        let mut refused = Boundaries::default();
        refused.client_sent(&head(8, 80_877_103));
        refused.server_sent(b"N");
        refused.client_sent(&head(41, 3 << 16));
        assert!(refused.is_between_messages());
    }
}
