//! Has a server do one unit, and passes on what it answers.

use super::journal::Done;
use super::messages;
use super::pipe::{Message, Piece, Reading};
use super::server::{Server, described};
use super::unit::{End, Step, Unit};
use super::words::{Refusal, refusal};
use bytes::{BufMut, Bytes, BytesMut};
use std::io;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;

/// Answers of a reader that are kept back until it is known that it does the whole unit. Beyond that they are passed on.
const HELD_MAX: usize = 64 << 10;
/// Bytes for a client that are collected before they are written.
const COLLECTED_MAX: usize = 32 << 10;
/// What is sent at once, without reading answers meanwhile.
const AT_ONCE_MAX: usize = 16 << 10;
/// The code of what a reader refuses.
const READ_ONLY: &[u8] = b"25006";
/// What a client is told with a refusal.
const USE_WRITER: &str = "Only statements that read or change rows are forwarded. Connect to the writer for others.";
const TOO_LATE: &str = "Rows had been sent before it wrote. Begin the transaction with BEGIN READ WRITE.";

/// What came of a unit.
#[derive(Debug, Default)]
pub struct Relayed {
    /// The commands that ended well.
    pub done: Vec<Done>,
    /// The client was told of an error.
    pub has_failed: bool,
    /// The writer is to do it: nothing was passed on, and the reader did nothing.
    pub is_for_writer: bool,
    /// A portal has paused.
    pub has_paused: bool,
}

/// The way to a client.
pub struct ToClient<'a> {
    /// Its connection.
    pub half: &'a mut OwnedWriteHalf,
    /// What was not written yet.
    pub out: &'a mut BytesMut,
}

impl ToClient<'_> {
    async fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.half.write_all(self.out).await?;
            self.out.clear();
        }
        Ok(())
    }
}

/// Whose connection broke.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The client's.
    #[error("the client: {0}")]
    Client(io::Error),
    /// The server's.
    #[error("the server: {0}")]
    Server(io::Error),
}

/// Sends a unit, and passes the answers on, up to its end; `ReadyForQuery` itself is not passed on. `may_forward`: the server is
/// a reader, whose refusal means that the writer is to do it.
///
/// # Errors
/// A connection broke.
pub async fn relay(
    server: &mut Server,
    bytes: Bytes,
    unit: &mut Unit,
    may_forward: bool,
    mut client: ToClient<'_>,
) -> Result<Relayed, Broken> {
    let is_reader = server.origin.is_none();
    let held = may_forward.then(BytesMut::new);
    let mut answers = Answers { unit, may_forward, is_reader, held, relayed: Relayed::default() };
    if bytes.len() <= AT_ONCE_MAX {
        server.pipe.send(&bytes).await.map_err(Broken::Server)?;
        answers.pass_on(server, None, &mut client).await?;
    } else {
        answers.pass_on(server, Some(bytes), &mut client).await?;
    }
    Ok(answers.finish(&mut client))
}

struct Answers<'a> {
    unit: &'a mut Unit,
    may_forward: bool,
    is_reader: bool,
    /// `None`: what comes is passed on at once.
    held: Option<BytesMut>,
    relayed: Relayed,
}

/// What to send to the server meanwhile.
enum Reply {
    Nothing,
    CopyFails,
    Ended,
}

impl Answers<'_> {
    /// Reads until the unit ends, while `bytes` are sent.
    async fn pass_on(
        &mut self,
        server: &mut Server,
        bytes: Option<Bytes>,
        client: &mut ToClient<'_>,
    ) -> Result<(), Broken> {
        let mut unsent = bytes.unwrap_or_default();
        if self.has_ended() {
            return server.pipe.send(&unsent).await.map_err(Broken::Server);
        }
        loop {
            while let Some(piece) = server.pipe.reading().ready().map_err(Broken::Server)? {
                match self.take(piece, server, client)? {
                    Reply::Nothing => {}
                    Reply::CopyFails => {
                        let fails = messages::message(b'f', b"COPY FROM is not forwarded\0");
                        server.pipe.send(&fails).await.map_err(Broken::Server)?;
                        if !self.unit.is_simple {
                            server.pipe.send(&messages::sync()).await.map_err(Broken::Server)?;
                        }
                    }
                    Reply::Ended => return Ok(()),
                }
                if client.out.len() > COLLECTED_MAX {
                    client.flush().await.map_err(Broken::Client)?;
                }
            }
            client.flush().await.map_err(Broken::Client)?;
            let (from, to) = server.pipe.split();
            more(from, to, &mut unsent).await.map_err(Broken::Server)?;
        }
    }

    fn has_ended(&self) -> bool {
        self.unit.end == End::Flush && self.unit.steps.is_empty()
    }

    fn take(&mut self, piece: Piece, server: &mut Server, client: &mut ToClient<'_>) -> Result<Reply, Broken> {
        let message = match piece {
            Piece::Whole(message) => message,
            Piece::Part(part) => {
                self.release(client);
                client.out.put_slice(&part);
                return Ok(Reply::Nothing);
            }
        };
        let mut reply = Reply::Nothing;
        match message.kind() {
            b'Z' => {
                server.ready(&message);
                return Ok(Reply::Ended);
            }
            b'E' => self.failed(&message, client)?,
            b'G' | b'W' => reply = Reply::CopyFails,
            b'N' | b'S' | b'A' => client.out.put_slice(&message.0),
            kind => {
                if kind == b'C' {
                    self.done(&message);
                }
                if self.steps_on(kind, server) {
                    self.put(&message.0, client);
                }
            }
        }
        Ok(if self.has_ended() { Reply::Ended } else { reply })
    }

    /// A step was answered. Returns whether the client is to see the answer.
    fn steps_on(&mut self, kind: u8, server: &mut Server) -> bool {
        self.relayed.has_paused |= kind == b's';
        let answers = |step: &Step| match step {
            Step::Parse(..) | Step::Hidden(..) => kind == b'1',
            Step::Bind => kind == b'2',
            Step::HiddenClose | Step::Close(_) => kind == b'3',
            Step::Describe => matches!(kind, b'T' | b'n'),
            Step::Execute(_) => matches!(kind, b'C' | b'I' | b's'),
        };
        if !self.unit.steps.front().is_some_and(answers) {
            return true;
        }
        let Some(step) = self.unit.steps.pop_front() else { return true };
        server.stepped(&step);
        !matches!(step, Step::Hidden(..) | Step::HiddenClose)
    }

    fn done(&mut self, message: &Message) {
        let tag = String::from_utf8_lossy(&messages::string(&message.body()).0).into_owned();
        let text = match self.unit.steps.front() {
            Some(Step::Execute(text)) => text.clone(),
            _ => self.unit.texts.first().cloned().unwrap_or_default(),
        };
        self.relayed.done.push(Done { tag, text });
    }

    fn failed(&mut self, message: &Message, client: &mut ToClient<'_>) -> Result<(), Broken> {
        let body = message.body();
        let field = |wanted| messages::field(&body, wanted).unwrap_or_default();
        self.unit.steps.clear();
        if !matches!(field(b'V'), b"ERROR" | b"") {
            // It ends a session. That with the reader is the client's own.
            if self.is_reader {
                self.release(client);
                client.out.put_slice(&message.0);
                self.relayed.has_failed = true;
                return Ok(());
            }
            return Err(Broken::Server(io::Error::other(described(message))));
        }
        let mut told = message.0.clone();
        if self.may_forward && field(b'C') == READ_ONLY {
            match refusal(&String::from_utf8_lossy(field(b'M'))) {
                Refusal::Forward if self.held.is_some() => {
                    self.relayed.is_for_writer = true;
                    return Ok(());
                }
                Refusal::Forward => {
                    told = messages::told_otherwise(&body, &String::from_utf8_lossy(field(b'M')), TOO_LATE);
                }
                Refusal::Refuse(name) => {
                    told =
                        messages::told_otherwise(&body, &format!("{name} is not forwarded to the writer"), USE_WRITER);
                }
            }
        }
        self.relayed.has_failed = true;
        self.put(&told, client);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8], client: &mut ToClient<'_>) {
        match &mut self.held {
            None => client.out.put_slice(bytes),
            Some(held) => {
                held.put_slice(bytes);
                if held.len() > HELD_MAX {
                    self.release(client);
                }
            }
        }
    }

    fn release(&mut self, client: &mut ToClient<'_>) {
        if let Some(held) = self.held.take() {
            client.out.put_slice(&held);
        }
    }

    fn finish(mut self, client: &mut ToClient<'_>) -> Relayed {
        if !self.relayed.is_for_writer {
            self.release(client);
        }
        self.relayed
    }
}

/// Reads more from a server, or sends it more, whichever can be done first.
async fn more(from: &mut Reading, to: &mut OwnedWriteHalf, unsent: &mut Bytes) -> io::Result<()> {
    if unsent.is_empty() {
        return from.fill().await;
    }
    tokio::select! {
        filled = from.fill() => filled,
        written = to.write_buf(unsent) => written.map(drop),
    }
}
