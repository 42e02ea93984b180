//! A connection that carries PostgreSQL's messages, cut into whole ones.

use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The type and length of a message.
pub const HEAD: usize = 5;
/// A message of a row that is longer than this is passed on in parts.
const LONG: usize = 64 << 10;
/// Longest message that is kept in memory.
pub const MESSAGE_MAX: usize = 16 << 20;
/// Bytes that are read at one time.
const CHUNK: usize = 32 << 10;

/// A whole message: its type, its length, its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message(pub Bytes);

impl Message {
    /// The type.
    pub fn kind(&self) -> u8 {
        self.0.first().copied().unwrap_or(0)
    }

    /// The content.
    pub fn body(&self) -> Bytes {
        self.0.slice(HEAD.min(self.0.len())..)
    }
}

/// What a server's bytes are cut into.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// A whole message.
    Whole(Message),
    /// Some bytes of a row that is long.
    Part(Bytes),
}

/// Cuts bytes into messages.
#[derive(Debug, Default)]
pub struct Cutter {
    input: BytesMut,
    /// Bytes of a long row that are still to come.
    passing: usize,
}

impl Cutter {
    /// Takes the next piece, where enough has come. `is_server`: rows may be long.
    ///
    /// # Errors
    /// It is no message, or too long.
    pub fn next(&mut self, is_server: bool) -> io::Result<Option<Piece>> {
        if self.passing > 0 {
            let taken = self.passing.min(self.input.len());
            self.passing -= taken;
            return Ok((taken > 0).then(|| Piece::Part(self.input.split_to(taken).freeze())));
        }
        let Some(&[kind, a, b, c, d]) = self.input.first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length < 4 {
            return Err(invalid("a message is shorter than its head"));
        }
        let total = length + 1;
        if self.input.len() >= total {
            return Ok(Some(Piece::Whole(Message(self.input.split_to(total).freeze()))));
        }
        if is_server && total > LONG && matches!(kind, b'D' | b'd') {
            self.passing = total;
            return self.next(is_server);
        }
        if total > MESSAGE_MAX {
            return Err(invalid("a message is too long"));
        }
        Ok(None)
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// One end of a connection.
#[derive(Debug)]
pub struct Pipe {
    from: Reading,
    /// Where bytes are written.
    pub to: OwnedWriteHalf,
}

/// The half that is read.
#[derive(Debug)]
pub struct Reading {
    half: OwnedReadHalf,
    cutter: Cutter,
}

impl Reading {
    /// Takes the next piece that is there already.
    ///
    /// # Errors
    /// As [`Cutter::next`].
    pub fn ready(&mut self) -> io::Result<Option<Piece>> {
        self.cutter.next(true)
    }

    /// Reads more. Dropped before it is done, nothing is lost.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn fill(&mut self) -> io::Result<()> {
        self.cutter.input.reserve(CHUNK);
        match self.half.read_buf(&mut self.cutter.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next piece.
    ///
    /// # Errors
    /// The connection has ended, or carries something else.
    pub async fn piece(&mut self) -> io::Result<Piece> {
        loop {
            if let Some(piece) = self.ready()? {
                return Ok(piece);
            }
            self.fill().await?;
        }
    }
}

impl Pipe {
    /// Cuts what comes over this connection.
    pub fn new(stream: TcpStream) -> Pipe {
        let (half, to) = stream.into_split();
        Pipe { from: Reading { half, cutter: Cutter::default() }, to }
    }

    /// Both halves.
    pub fn split(&mut self) -> (&mut Reading, &mut OwnedWriteHalf) {
        (&mut self.from, &mut self.to)
    }

    /// The half that is read.
    pub fn reading(&mut self) -> &mut Reading {
        &mut self.from
    }

    /// The next message, as a client sends them. Dropped before it is done, nothing is lost.
    ///
    /// # Errors
    /// The connection has ended, or carries something else.
    pub async fn message(&mut self) -> io::Result<Message> {
        loop {
            if let Some(Piece::Whole(message)) = self.from.cutter.next(false)? {
                return Ok(message);
            }
            self.from.fill().await?;
        }
    }

    /// Whether bytes have come that were not taken yet.
    pub fn has_more(&self) -> bool {
        !self.from.cutter.input.is_empty()
    }

    /// Whether a long row was passed on in part.
    pub fn is_within_row(&self) -> bool {
        self.from.cutter.passing > 0
    }

    /// Reads exactly so many bytes that are no message: of the start of a session.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn bytes(&mut self, count: usize) -> io::Result<Bytes> {
        while self.from.cutter.input.len() < count {
            self.from.fill().await?;
        }
        Ok(self.from.cutter.input.split_to(count).freeze())
    }

    /// Looks at the next bytes without taking them.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn head(&mut self) -> io::Result<[u8; 8]> {
        loop {
            if let Some(head) = self.from.cutter.input.first_chunk() {
                return Ok(*head);
            }
            self.from.fill().await?;
        }
    }

    /// Passes bytes over.
    pub fn skip(&mut self, count: usize) {
        let count = count.min(self.from.cutter.input.len());
        self.from.cutter.input.advance(count);
    }

    /// Writes.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_cut_into_messages_and_long_rows_into_parts() {
        let mut cutter = Cutter::default();
        cutter.input.extend(b"Z\0\0\0\x05I1\0\0");
        assert_eq!(cutter.next(true).expect("valid"), Some(Piece::Whole(Message(Bytes::from_static(b"Z\0\0\0\x05I")))));
        assert_eq!(cutter.next(true).expect("valid"), None);
        cutter.input.extend(b"\0\x04D");
        assert!(cutter.next(true).expect("valid").is_some());
        let length = (LONG + 4) as u32;
        cutter.input.extend(length.to_be_bytes());
        let first = cutter.next(true).expect("valid");
        assert!(matches!(first, Some(Piece::Part(part)) if part.len() == HEAD));
        cutter.input.extend(vec![0; LONG]);
        cutter.input.extend(b"Z\0\0\0\x05I");
        assert!(matches!(cutter.next(true).expect("valid"), Some(Piece::Part(part)) if part.len() == LONG));
        assert!(matches!(cutter.next(true).expect("valid"), Some(Piece::Whole(message)) if message.kind() == b'Z'));
        cutter.input.extend(b"Z\0\0\0\x03");
        assert!(cutter.next(true).is_err());
    }
}
