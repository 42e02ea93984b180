//! What a client wants done at one time: a simple query, or the messages of the extended protocol up to a `Sync` or `Flush`.

use super::messages;
use super::pipe::Message;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};

/// Most bytes of the texts of prepared statements that are remembered.
const STATEMENT_BYTES_MAX: usize = 32 << 20;

/// A prepared statement.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Another one of the same name has another number.
    pub number: u64,
    /// Its `Parse` message.
    pub parse: Bytes,
    /// Its text.
    pub text: Bytes,
}

/// The prepared statements and portals of a session.
#[derive(Debug, Default)]
pub struct Prepared {
    statements: HashMap<Bytes, Statement>,
    bytes: usize,
    portals: HashMap<Bytes, Bytes>,
    last: u64,
}

impl Prepared {
    /// The statement of this name.
    pub fn get(&self, name: &Bytes) -> Option<&Statement> {
        self.statements.get(name)
    }

    /// A transaction is over, and its portals with it.
    pub fn forget_portals(&mut self) {
        self.portals.clear();
    }

    fn keep(&mut self, name: Bytes, statement: Statement) {
        self.forget(&name);
        self.bytes += statement.parse.len();
        if self.bytes > STATEMENT_BYTES_MAX {
            // It can be used on the server where it is only.
            self.bytes -= statement.parse.len();
            return;
        }
        self.statements.insert(name, statement);
    }

    fn forget(&mut self, name: &Bytes) {
        self.bytes -= self.statements.remove(name).map_or(0, |old| old.parse.len());
    }
}

/// What a message of the extended protocol is answered with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// `ParseComplete`; the server then has the statement of this name and number.
    Parse(Bytes, u64),
    /// The same, for a message that the client has not sent.
    Hidden(Bytes, u64),
    /// `CloseComplete`, for a message that the client has not sent.
    HiddenClose,
    /// `BindComplete`.
    Bind,
    /// `RowDescription` or `NoData`.
    Describe,
    /// A statement of this text ends, or pauses.
    Execute(Bytes),
    /// `CloseComplete`; the statement of this name is gone.
    Close(Option<Bytes>),
}

/// How a unit ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With `ReadyForQuery`.
    Ready,
    /// With the answer to the last message.
    Flush,
}

/// What is sent to a server, and what its answers mean.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The client's messages.
    pub bytes: Bytes,
    /// The answers that are to come, of the extended protocol.
    pub steps: VecDeque<Step>,
    /// Statements that are run.
    pub texts: Vec<Bytes>,
    /// Statements that must have been prepared before.
    pub needs: Vec<Bytes>,
    /// A simple query.
    pub is_simple: bool,
    /// How it ends.
    pub end: End,
}

impl Unit {
    /// A simple query.
    pub fn simple(message: &Message) -> Unit {
        let text = messages::string(&message.body()).0;
        Unit {
            bytes: message.0.clone(),
            steps: VecDeque::new(),
            texts: vec![text],
            needs: Vec::new(),
            is_simple: true,
            end: End::Ready,
        }
    }
}

/// Messages of the extended protocol that wait for their `Sync` or `Flush`.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: BytesMut,
    steps: VecDeque<Step>,
    texts: Vec<Bytes>,
    needs: Vec<Bytes>,
    made: Vec<Bytes>,
}

impl Batch {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes one of `Parse`, `Bind`, `Describe`, `Execute` and `Close`.
    pub fn add(&mut self, message: &Message, prepared: &mut Prepared) {
        self.bytes.put_slice(&message.0);
        let body = message.body();
        match message.kind() {
            b'P' => {
                let (name, rest) = messages::string(&body);
                let text = messages::string(&rest).0;
                prepared.last += 1;
                let number = prepared.last;
                prepared.keep(name.clone(), Statement { number, parse: message.0.clone(), text });
                self.made.push(name.clone());
                self.steps.push_back(Step::Parse(name, number));
            }
            b'B' => {
                let (portal, rest) = messages::string(&body);
                let name = messages::string(&rest).0;
                let text = prepared.get(&name).map(|statement| statement.text.clone()).unwrap_or_default();
                prepared.portals.insert(portal, text);
                self.need(name);
                self.steps.push_back(Step::Bind);
            }
            b'D' => {
                if let Some(b'S') = body.first() {
                    self.need(messages::string(&body.slice(1..)).0);
                }
                self.steps.push_back(Step::Describe);
            }
            b'E' => {
                let text = prepared.portals.get(&messages::string(&body).0).cloned().unwrap_or_default();
                self.texts.push(text.clone());
                self.steps.push_back(Step::Execute(text));
            }
            _ => {
                let name = messages::string(&body.slice(1.min(body.len())..)).0;
                let is_statement = body.first() == Some(&b'S');
                match is_statement {
                    true => prepared.forget(&name),
                    false => drop(prepared.portals.remove(&name)),
                }
                self.steps.push_back(Step::Close(is_statement.then_some(name)));
            }
        }
    }

    fn need(&mut self, name: Bytes) {
        if !self.made.contains(&name) && !self.needs.contains(&name) {
            self.needs.push(name);
        }
    }

    /// Takes what waits, with the message that ends it.
    pub fn take(&mut self, last: &Message) -> Unit {
        let mut taken = std::mem::take(self);
        taken.bytes.put_slice(&last.0);
        Unit {
            bytes: taken.bytes.freeze(),
            steps: taken.steps,
            texts: taken.texts,
            needs: taken.needs,
            is_simple: false,
            end: if last.kind() == b'S' { End::Ready } else { End::Flush },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(kind: u8, body: &[u8]) -> Message {
        Message(messages::message(kind, body))
    }

    #[test]
    fn a_batch_knows_what_it_runs_and_needs() {
        let (mut prepared, mut batch) = (Prepared::default(), Batch::default());
        batch.add(&sent(b'P', b"s\0select 1\0\0\0"), &mut prepared);
        batch.add(&sent(b'D', b"Ss\0"), &mut prepared);
        let unit = batch.take(&sent(b'S', b""));
        assert_eq!((unit.needs.len(), unit.texts.len(), unit.end), (0, 0, End::Ready));
        batch.add(&sent(b'B', b"\0s\0\0\0\0\0\0\0"), &mut prepared);
        batch.add(&sent(b'E', b"\0\0\0\0\0"), &mut prepared);
        batch.add(&sent(b'C', b"Ss\0"), &mut prepared);
        let unit = batch.take(&sent(b'H', b""));
        assert_eq!(
            (&unit.needs, &unit.texts),
            (&vec![Bytes::from_static(b"s")], &vec![Bytes::from_static(b"select 1")])
        );
        assert_eq!((unit.end, unit.steps.len()), (End::Flush, 3));
        assert!(prepared.get(&Bytes::from_static(b"s")).is_none() && batch.is_empty());
    }
}
