//! A session's connection to PostgreSQL: to its reader, or to the writer.

use super::messages::{self, Told};
use super::pipe::{Message, Piece, Pipe};
use super::unit::{Prepared, Step, Unit};
use super::writers::Origin;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A server that a session is connected to.
#[derive(Debug)]
pub struct Server {
    /// The connection.
    pub pipe: Pipe,
    /// Where it is.
    pub address: SocketAddr,
    /// The content of its `BackendKeyData`, by which a statement is cancelled.
    pub key: Bytes,
    /// What it said last that it is: idle, in a transaction, in one that has failed.
    pub status: u8,
    /// Prepared statements that it has, by name.
    pub prepared: HashMap<Bytes, u64>,
    /// Up to where it has done what the session's journal holds.
    pub journal: u64,
    /// Of the writer: which one.
    pub origin: Option<Origin>,
}

/// Rows of one column that a gateway has asked for itself.
pub type Answers = Vec<Result<Option<String>, Message>>;

impl Server {
    /// A server that was connected to.
    pub fn new(stream: TcpStream, address: SocketAddr) -> io::Result<Server> {
        stream.set_nodelay(true)?;
        Ok(Server {
            pipe: Pipe::new(stream),
            address,
            key: Bytes::new(),
            status: b'I',
            prepared: HashMap::new(),
            journal: 0,
            origin: None,
        })
    }

    /// What to send for a unit: before the client's messages, those that prepare what it needs.
    pub fn with_needs(&self, unit: &mut Unit, prepared: &Prepared) -> Bytes {
        let mut before = BytesMut::new();
        for name in unit.needs.iter().rev() {
            let Some(statement) = prepared.get(name) else { continue };
            match self.prepared.get(name) {
                Some(number) if *number == statement.number => {}
                has => {
                    let mut needed = BytesMut::new();
                    unit.steps.push_front(Step::Hidden(name.clone(), statement.number));
                    if has.is_some() && !name.is_empty() {
                        needed.put_slice(&messages::message(b'C', &[b"S", name.as_ref(), b"\0"].concat()));
                        unit.steps.push_front(Step::HiddenClose);
                    }
                    needed.put_slice(&statement.parse);
                    needed.put_slice(&before);
                    before = needed;
                }
            }
        }
        if before.is_empty() {
            return unit.bytes.clone();
        }
        before.put_slice(&unit.bytes);
        before.freeze()
    }

    /// Asks simple queries, all at once. Returns of each the first column of its last row, or the error.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn ask(&mut self, queries: &[Bytes]) -> io::Result<Answers> {
        let mut bytes = BytesMut::new();
        queries.iter().for_each(|text| bytes.put_slice(&messages::query(text)));
        self.pipe.send(&bytes).await?;
        self.answers(queries.len()).await
    }

    /// Reads the answers to so many simple queries.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn answers(&mut self, count: usize) -> io::Result<Answers> {
        let mut answers = Vec::new();
        let mut answer = Ok(None);
        while answers.len() < count {
            match self.pipe.reading().piece().await? {
                Piece::Part(_) => {}
                Piece::Whole(message) => match message.kind() {
                    b'D' if answer.is_ok() => answer = Ok(messages::first_column(&message.body())),
                    b'E' => {
                        if messages::field(&message.body(), b'V').is_some_and(|severity| severity != b"ERROR") {
                            return Err(io::Error::other(described(&message)));
                        }
                        answer = Err(message);
                    }
                    b'Z' => {
                        self.ready(&message);
                        answers.push(std::mem::replace(&mut answer, Ok(None)));
                    }
                    _ => {}
                },
            }
        }
        Ok(answers)
    }

    /// It is ready for the next query.
    pub fn ready(&mut self, message: &Message) {
        self.status = message.body().first().copied().unwrap_or(b'I');
    }

    /// A step of a unit was answered.
    pub fn stepped(&mut self, step: &Step) {
        match step {
            Step::Parse(name, number) | Step::Hidden(name, number) => {
                self.prepared.insert(name.clone(), *number);
            }
            Step::Close(Some(name)) => {
                self.prepared.remove(name);
            }
            _ => {}
        }
    }

    /// Begins a session as the user that the reader has let in.
    ///
    /// # Errors
    /// It is not let in: what to tell the client.
    pub async fn log_in(&mut self, startup: &Bytes, proof: &super::login::Proof) -> Result<(), Told> {
        let broken = |error: io::Error| Told::error("08006", format!("the writer ended the connection: {error}"), "");
        self.pipe.send(startup).await.map_err(broken)?;
        let mut login = proof.begin();
        loop {
            let message = match self.pipe.reading().piece().await.map_err(broken)? {
                Piece::Whole(message) => message,
                Piece::Part(_) => continue,
            };
            match message.kind() {
                b'R' => {
                    if let Some(answer) = login.answer(&message.body())? {
                        self.pipe.send(&answer).await.map_err(broken)?;
                    }
                }
                b'K' => self.key = message.body(),
                b'Z' => {
                    self.ready(&message);
                    return Ok(());
                }
                b'E' => return Err(Told::error("08004", format!("the writer said: {}", described(&message)), "")),
                _ => {}
            }
        }
    }
}

/// What an error says, for a person.
pub fn described(message: &Message) -> String {
    let body = message.body();
    let part = |field| String::from_utf8_lossy(messages::field(&body, field).unwrap_or_default()).into_owned();
    format!("{} ({})", part(b'M'), part(b'C'))
}
