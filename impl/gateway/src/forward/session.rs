//! One session: which server does what.

use super::board::Board;
use super::journal::{Done, Journal, Transaction};
use super::login::Proof;
use super::messages::{self, Told};
use super::pipe::{MESSAGE_MAX, Message, Piece, Pipe};
use super::relay::{Broken, Relayed, ToClient, relay};
use super::server::{Server, described};
use super::settings::Mode;
use super::shared::{Key, Open, Shared};
use super::unit::{Batch, End, Prepared, Unit};
use super::words::{self, Kind};
use super::writers::{Origin, Writers};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

/// Statements that are remembered as ones for the writer.
const LEARNT_MAX: usize = 1024;
/// Statements between two `Sync`s.
const DONE_MAX: usize = 1 << 16;
/// Fails in any transaction, and says why in the server's log.
const FAIL: Bytes = Bytes::from_static(b"auriga: the gateway has failed this transaction");

/// A server of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// Its reader.
    Reader,
    /// The writer.
    Writer,
}

/// What a session's reads must see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// The WAL position of a writer.
    pub lsn: u64,
    /// Which one.
    pub origin: Origin,
}

/// How a session ends, other than by its client's wish.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The client is gone.
    #[error("the client: {0}")]
    Client(io::Error),
    /// Its reader is gone, which has said so or not.
    #[error("the reader: {0}")]
    Reader(io::Error),
    /// For this reason.
    #[error("{}", .0.text)]
    Told(Told),
}

/// Part of a batch was done, up to a `Flush`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    at: At,
    has_failed: bool,
}

/// A session.
pub struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) writers: Writers,
    pub(super) client: Pipe,
    pub(super) out: BytesMut,
    pub(super) reader: Server,
    pub(super) writer: Option<(Server, Open)>,
    pub(super) startup: Bytes,
    pub(super) proof: Proof,
    pub(super) key: Key,
    pub(super) prepared: Prepared,
    pub(super) batch: Batch,
    pub(super) segment: Option<Segment>,
    /// What the client's last messages have done, up to where it is told that it may go on.
    pub(super) done: Vec<Done>,
    pub(super) journal: Journal,
    pub(super) transaction: Transaction,
    /// Where the open transaction is; the reader where there is none.
    pub(super) at: At,
    /// Whether the reader is the writer itself.
    pub(super) reader_writes: bool,
    pub(super) mode: Mode,
    pub(super) mode_is_stale: bool,
    pub(super) point: Option<Point>,
    pub(super) board: Arc<Board>,
    pub(super) learnt: HashSet<Bytes>,
    /// The transaction on the writer was lost, and the client does not know.
    pub(super) lost: Option<Told>,
    pub(super) writer_used: Instant,
}

impl Session {
    /// Serves the client until it leaves.
    ///
    /// # Errors
    /// The session can't go on.
    pub async fn run(&mut self) -> Result<(), Ended> {
        loop {
            let message = self.next().await?;
            match message.kind() {
                b'Q' => self.unit(Unit::simple(&message)).await?,
                b'P' | b'B' | b'D' | b'E' | b'C' => {
                    self.batch.add(&message, &mut self.prepared);
                    if self.batch.len() > MESSAGE_MAX {
                        return Err(Ended::Told(Told::fatal("54000", "a batch is too long to be forwarded")));
                    }
                }
                b'H' | b'S' => {
                    let unit = self.batch.take(&message);
                    self.unit(unit).await?;
                }
                b'F' => {
                    let told = Told::error("0A000", "calls of functions by number are not forwarded", "");
                    self.refuse(&told, End::Ready).await?;
                }
                b'X' => return Ok(()),
                // What is left of a copy that has failed.
                b'd' | b'c' | b'f' => {}
                _ => return Err(Ended::Told(Told::fatal("08P01", "the gateway does not know this message"))),
            }
        }
    }

    /// What the client is told of its transaction.
    pub(super) fn status(&self) -> u8 {
        match (self.at, &self.writer) {
            (At::Writer, Some((writer, _))) => writer.status,
            _ => self.reader.status,
        }
    }

    /// Does a unit, and tells the client that it may go on.
    async fn unit(&mut self, mut unit: Unit) -> Result<(), Ended> {
        let end = unit.end;
        let segment = self.segment;
        if end == End::Ready {
            self.segment = None;
        }
        if segment.is_some_and(|segment| segment.has_failed) {
            // Skipped up to its end.
            return match end {
                End::Flush => Ok(()),
                End::Ready => self.synchronise(segment).await,
            };
        }
        if let Some(told) = self.lost.take() {
            let takes_back = unit.texts.iter().all(|text| words::kind(text) == Kind::TakesBack);
            if !takes_back || unit.texts.is_empty() {
                return self.refuse(&told, end).await;
            }
        }
        self.look_at_mode().await?;
        let at = match (segment, self.choose(&unit)) {
            (Some(segment), _) => segment.at,
            (None, Ok(at)) => at,
            (None, Err(told)) => return self.refuse(&told, end).await,
        };
        let before = self.status();
        if at == At::Reader {
            if let Err(told) = self.wait_before(&unit).await? {
                return self.refuse(&told, end).await;
            }
            let relayed = self.on_reader(&mut unit.clone()).await?;
            if !relayed.is_for_writer {
                return self.finish(relayed, At::Reader, before, end).await;
            }
            self.learn(&unit);
        }
        match self.on_writer(&mut unit).await? {
            Ok(relayed) => self.finish(relayed, At::Writer, before, end).await,
            Err(told) => self.refuse(&told, end).await,
        }
    }

    /// Chooses the server for a unit.
    fn choose(&self, unit: &Unit) -> Result<At, Told> {
        let kinds = || unit.texts.iter().map(|text| words::kind(text));
        if self.at == At::Writer {
            let refused = kinds().find_map(|kind| match kind {
                Kind::Refused(name) => Some(name),
                _ => None,
            });
            return match refused {
                Some(name) if self.status() != b'E' => Err(Told::error(
                    "25006",
                    format!("{name} is not forwarded to the writer"),
                    "Only statements that read or change rows are forwarded. Connect to the writer for others.",
                )),
                _ => Ok(At::Writer),
            };
        }
        if self.reader_writes || self.mode == Mode::Off || self.status() == b'E' {
            return Ok(At::Reader);
        }
        let is_idle = self.status() == b'I';
        let writes = kinds().any(|kind| kind == Kind::Writes || (is_idle && kind == Kind::BeginsToWrite));
        let is_learnt = || unit.texts.iter().any(|text| self.learnt.contains(text));
        Ok(if writes || is_learnt() { At::Writer } else { At::Reader })
    }

    /// The reader has said that a statement is for the writer: next time it is not asked.
    fn learn(&mut self, unit: &Unit) {
        if let [text] = unit.texts.as_slice()
            && self.learnt.len() < LEARNT_MAX
            && text.len() < 4096
            && !words::begins(text)
        {
            self.learnt.insert(text.clone());
        }
    }

    async fn on_reader(&mut self, unit: &mut Unit) -> Result<Relayed, Ended> {
        self.tell_reader().await?;
        let bytes = self.reader.with_needs(unit, &self.prepared);
        let may_forward = !self.reader_writes && self.mode != Mode::Off && self.reader.status != b'E';
        self.key.cancelled.runs_at(self.reader.address, &self.reader.key);
        let client = ToClient { half: &mut self.client.to, out: &mut self.out };
        let relayed = relay(&mut self.reader, bytes, unit, may_forward, client).await;
        self.key.cancelled.rests();
        let relayed = relayed.map_err(|broken| match broken {
            Broken::Client(error) => Ended::Client(error),
            Broken::Server(error) => Ended::Reader(error),
        })?;
        if relayed.is_for_writer && unit.end == End::Flush {
            // It skips everything up to here.
            self.reader.pipe.send(&messages::sync()).await.map_err(Ended::Reader)?;
            self.reader.answers(1).await.map_err(Ended::Reader)?;
        }
        Ok(relayed)
    }

    /// Has the reader do what the session has set elsewhere.
    pub(super) async fn tell_reader(&mut self) -> Result<(), Ended> {
        if self.reader.journal == self.journal.last() || self.reader.status != b'I' {
            return Ok(());
        }
        let Some(items) = self.journal.after(self.reader.journal) else {
            return Err(Ended::Told(Told::fatal(
                "54000",
                "the session has set too much for the gateway to tell its reader",
            )));
        };
        let texts: Vec<Bytes> = items.into_iter().map(|(_, text)| text).collect();
        let answers = self.reader.ask(&texts).await.map_err(Ended::Reader)?;
        if let Some(error) = answers.into_iter().find_map(Result::err) {
            // Reads as another role, say, are worse than none.
            let text = format!("the reader did not take over the session's settings: {}", described(&error));
            return Err(Ended::Told(Told::fatal("08004", text)));
        }
        self.reader.journal = self.journal.last();
        Ok(())
    }

    /// A unit was done at `at`.
    async fn finish(&mut self, relayed: Relayed, at: At, before: u8, end: End) -> Result<(), Ended> {
        self.transaction.has_cursor |= relayed.has_paused;
        self.done.extend(relayed.done);
        if end == End::Flush {
            if self.done.len() > DONE_MAX {
                return Err(Ended::Told(Told::fatal("54000", "too many statements without a Sync")));
            }
            self.segment = Some(Segment { at, has_failed: relayed.has_failed });
            return self.flush().await;
        }
        self.note(at, before);
        self.out.put_slice(&messages::ready(self.status()));
        self.flush().await
    }

    /// Notes what was done.
    fn note(&mut self, at: At, before: u8) {
        let done = std::mem::take(&mut self.done);
        let after = match (at, &self.writer) {
            (At::Writer, Some((writer, _))) => writer.status,
            _ => self.reader.status,
        };
        let last = self.journal.last();
        self.transaction.done(&done, (before, after), &mut self.journal);
        if after == b'I' {
            self.transaction = Transaction::default();
            self.prepared.forget_portals();
            self.at = At::Reader;
        } else {
            self.at = at;
        }
        let is_news = last != self.journal.last();
        match (at, &mut self.writer) {
            (At::Writer, Some((writer, _))) if is_news && writer.journal == last => {
                writer.journal = self.journal.last()
            }
            (At::Reader, _) if is_news && self.reader.journal == last => self.reader.journal = self.journal.last(),
            _ => {}
        }
        self.mode_is_stale |= done.iter().any(is_about_mode);
    }

    /// Tells the client of an error of the gateway's own. An open transaction fails, as with any other.
    pub(super) async fn refuse(&mut self, told: &Told, end: End) -> Result<(), Ended> {
        self.out.put_slice(&told.bytes());
        if self.status() == b'T' {
            match (self.at, &mut self.writer) {
                (At::Writer, Some((writer, _))) => {
                    let _ = writer;
                    if self.ask_writer(&[FAIL]).await.is_err() {
                        self.lose_writer().await?;
                        self.lost = None;
                    }
                }
                _ => drop(self.reader.ask(&[FAIL]).await.map_err(Ended::Reader)?),
            }
        }
        match end {
            End::Flush => self.segment = Some(Segment { at: self.at, has_failed: true }),
            End::Ready => self.out.put_slice(&messages::ready(self.status())),
        }
        self.flush().await
    }

    /// The end of a batch that has failed before.
    async fn synchronise(&mut self, segment: Option<Segment>) -> Result<(), Ended> {
        let at = segment.map_or(At::Reader, |segment| segment.at);
        let before = self.status();
        match (at, &mut self.writer) {
            (At::Writer, Some((writer, _))) => {
                let sent = writer.pipe.send(&messages::sync()).await;
                let ended = match sent {
                    Ok(()) => writer.answers(1).await.map(drop),
                    Err(error) => Err(error),
                };
                if ended.is_err() {
                    self.lose_writer().await?;
                    self.lost = None;
                }
            }
            _ => {
                self.reader.pipe.send(&messages::sync()).await.map_err(Ended::Reader)?;
                self.reader.answers(1).await.map_err(Ended::Reader)?;
            }
        }
        self.note(at, before);
        self.out.put_slice(&messages::ready(self.status()));
        self.flush().await
    }

    pub(super) async fn flush(&mut self) -> Result<(), Ended> {
        self.client.to.write_all(&self.out).await.map_err(Ended::Client)?;
        self.out.clear();
        Ok(())
    }

    /// Asks the reader what the session's mode is, where that may have changed.
    async fn look_at_mode(&mut self) -> Result<(), Ended> {
        if !self.mode_is_stale || self.status() != b'I' || self.segment.is_some() {
            return Ok(());
        }
        self.mode_is_stale = false;
        self.tell_reader().await?;
        let asked = Bytes::from_static(super::start::MODE);
        let answers = self.reader.ask(&[asked]).await.map_err(Ended::Reader)?;
        self.set_mode(answers.into_iter().next().and_then(Result::ok).flatten());
        Ok(())
    }

    /// Takes over a mode that was set, or the usual.
    pub(super) fn set_mode(&mut self, name: Option<String>) {
        let name = name.filter(|name| !name.is_empty());
        self.mode = match name.as_deref().map(Mode::named) {
            None => self.shared.config.consistency_mode,
            Some(Some(mode)) => mode,
            Some(None) => {
                let text =
                    "apg_write_forward.consistency_mode must be session, eventual, global or off: session is used\0";
                let body = [b"SWARNING\0VWARNING\0C22023\0M", text.as_bytes(), b"\0"].concat();
                self.out.put_slice(&messages::message(b'N', &body));
                Mode::Session
            }
        };
    }

    /// The next message of the client. Meanwhile servers may say something, or leave.
    async fn next(&mut self) -> Result<Message, Ended> {
        loop {
            let Some((writer, _)) = &mut self.writer else {
                tokio::select! {
                    biased;
                    message = self.client.message() => return message.map_err(Ended::Client),
                    filled = self.reader.pipe.reading().fill() => filled.map_err(Ended::Reader)?,
                }
                self.hear_reader().await?;
                continue;
            };
            let idle = match self.at {
                At::Reader => self.shared.config.idle_session_timeout,
                At::Writer => self.shared.config.idle_in_transaction_session_timeout,
            };
            let until = self.writer_used + std::time::Duration::from_millis(idle);
            let heard = tokio::select! {
                biased;
                message = self.client.message() => return message.map_err(Ended::Client),
                filled = self.reader.pipe.reading().fill() => {
                    filled.map_err(Ended::Reader)?;
                    self.hear_reader().await?;
                    continue;
                }
                filled = writer.pipe.reading().fill() => filled.is_ok() && writer.hears_nothing_bad(),
                () = self.writers.changed() => {
                    writer.origin.is_none_or(|origin| !self.writers.has_replaced(origin))
                }
                () = tokio::time::sleep_until(until), if idle > 0 => match self.at {
                    At::Reader => false,
                    At::Writer => {
                        let told = "terminating connection due to idle-in-transaction timeout";
                        return Err(Ended::Told(Told::fatal("25P03", told)));
                    }
                },
            };
            if !heard {
                self.lose_writer().await?;
            }
        }
    }

    /// Passes on what the reader says of its own accord.
    async fn hear_reader(&mut self) -> Result<(), Ended> {
        while let Some(piece) = self.reader.pipe.reading().ready().map_err(Ended::Reader)? {
            let Piece::Whole(message) = piece else { continue };
            self.out.put_slice(&message.0);
        }
        self.flush().await
    }
}

impl Server {
    /// Whether what it says of its own accord does not end the session.
    fn hears_nothing_bad(&mut self) -> bool {
        loop {
            match self.pipe.reading().ready() {
                Ok(None) => return true,
                Ok(Some(Piece::Whole(message))) if message.kind() != b'E' => {}
                _ => return false,
            }
        }
    }
}

fn is_about_mode(done: &Done) -> bool {
    done.tag.starts_with("DISCARD")
        || done.tag == "RESET"
        || words::has_word(&done.text, b"apg_write_forward")
        || words::has_word(&done.text, b"session authorization")
}
