//! What a session has the writer do.

use super::messages::{self, Told};
use super::relay::{Broken, Relayed, ToClient, relay};
use super::server::{Answers, Server, described};
use super::session::{At, Ended, Point, Session};
use super::shared::Open;
use super::unit::{End, Unit};
use super::words::{self, Kind};
use super::writers::{NoWriter, Origin, Writers};
use bytes::{BufMut, Bytes, BytesMut};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// Asks the writer up to where its WAL has what this session may have seen. What is not durable yet counts where the session
/// does not wait for that.
const POSITION: Bytes = Bytes::from_static(
    b"SELECT CASE WHEN pg_catalog.current_setting('synchronous_commit') = 'off' \
      THEN pg_catalog.pg_current_wal_insert_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END",
);
/// Asks how a transaction is isolated, without beginning to read.
const ISOLATION: Bytes = Bytes::from_static(b"SHOW transaction_isolation");
const ROLLBACK: Bytes = Bytes::from_static(b"ROLLBACK");
/// A page of WAL, and the most that its head takes: a position there means the end of the page before.
const WAL_PAGE: u64 = 8192;
const WAL_PAGE_HEAD: u64 = 40;

/// Why a unit was not done.
enum Failed {
    Told(Told),
    Ended(Ended),
}

impl From<Told> for Failed {
    fn from(told: Told) -> Failed {
        Failed::Told(told)
    }
}

impl From<Ended> for Failed {
    fn from(ended: Ended) -> Failed {
        Failed::Ended(ended)
    }
}

impl Session {
    /// Has the writer do a unit. What is open on the reader goes on there.
    ///
    /// # Errors
    /// The session can't go on. Within: the unit was not done, or nobody knows; what to tell the client.
    pub(super) async fn on_writer(&mut self, unit: &mut Unit) -> Result<Result<Relayed, Told>, Ended> {
        match self.try_writer(unit).await {
            Ok(relayed) => Ok(Ok(relayed)),
            Err(Failed::Told(told)) => Ok(Err(told)),
            Err(Failed::Ended(ended)) => Err(ended),
        }
    }

    async fn try_writer(&mut self, unit: &mut Unit) -> Result<Relayed, Failed> {
        let moves = self.at == At::Reader && self.reader.status != b'I';
        if moves {
            self.may_move()?;
        }
        if self.at == At::Reader {
            self.reach_writer().await?;
        }
        let ends = unit.texts.iter().any(|text| matches!(words::kind(text), Kind::Ends | Kind::TakesBack));
        let begins = unit.texts.iter().any(|text| words::begins(text));
        let is_open = moves || self.at == At::Writer;
        let asks = unit.end == End::Ready && if is_open { ends } else { !begins };
        if moves {
            self.begin_again().await?;
        }
        self.shared.counted.statements.fetch_add(1, Relaxed);
        let (before, Some((writer, _))) = (self.at, &mut self.writer) else {
            return Err(lost_before().into());
        };
        let mut bytes = writer.with_needs(unit, &self.prepared);
        if asks {
            bytes = [bytes, messages::query(&POSITION)].concat().into();
        }
        self.key.cancelled.runs_at(writer.address, &writer.key);
        let client = ToClient { half: &mut self.client.to, out: &mut self.out };
        let patience = Duration::from_secs(self.shared.config.connect_timeout_s.max(1));
        let relayed = match writer.origin {
            None => return Err(lost_before().into()),
            Some(origin) => tokio::select! {
                relayed = relay(writer, bytes, unit, false, client) => relayed,
                () = self.writers.gone(origin, patience) => {
                    Err(Broken::Server(std::io::Error::other("another instance writes, or it does not answer")))
                }
            },
        };
        self.key.cancelled.rests();
        if matches!(relayed, Err(Broken::Server(_))) && (writer.pipe.is_within_row() || !self.out.is_empty()) {
            // Nothing can be said within a message.
            return Err(Ended::Client(std::io::ErrorKind::ConnectionAborted.into()).into());
        }
        self.writer_used = Instant::now();
        let relayed = match relayed {
            Ok(relayed) => relayed,
            Err(Broken::Client(error)) => return Err(Ended::Client(error).into()),
            Err(Broken::Server(error)) => {
                let was_open = is_open && !ends;
                self.lose_writer().await?;
                self.lost = None;
                return Err(broken(was_open, before, &error.to_string()).into());
            }
        };
        if unit.end == End::Ready {
            let is_over = writer.status == b'I';
            let origin = writer.origin;
            let position = [POSITION];
            let asking = async {
                match (asks, is_over) {
                    (true, _) => writer.answers(1).await,
                    (false, true) => writer.ask(&position).await,
                    (false, false) => Ok(Vec::new()),
                }
            };
            let answers = while_there(&mut self.writers, (origin, patience), asking).await;
            match answers {
                Ok(answers) => {
                    let lsn = answers.into_iter().next().and_then(Result::ok).flatten();
                    let lsn = lsn.and_then(|text| messages::lsn(&text));
                    if let (Some(lsn), Some(origin)) = (lsn, origin) {
                        self.point = Some(Point { lsn: end_of_record(lsn), origin });
                    }
                }
                Err(error) => {
                    self.lose_writer().await?;
                    self.lost = None;
                    // What is done is done, and how far it has got is not known.
                    return Err(broken(false, At::Writer, &error.to_string()).into());
                }
            }
        }
        if self.reader.status != b'I' && unit.end == End::Ready {
            self.reader.ask(&[ROLLBACK]).await.map_err(Ended::Reader)?;
        }
        Ok(relayed)
    }

    /// Whether the open transaction can go on elsewhere.
    fn may_move(&self) -> Result<(), Told> {
        let no = |text: &'static str| Err(Told::error("0A000", text, "Begin the transaction with BEGIN READ WRITE."));
        match &self.transaction {
            open if open.has_cursor => no("a transaction with a cursor that is open on the reader can't write"),
            open if open.is_stuck => no("this transaction has set too much on the reader to go on on the writer"),
            _ => Ok(()),
        }
    }

    /// Begins the open transaction again, on the writer. Nothing of it is left on the reader.
    async fn begin_again(&mut self) -> Result<(), Failed> {
        let has_read = self.transaction.has_read;
        let mut texts: Vec<Bytes> = self.transaction.items().to_vec();
        texts.push(ISOLATION);
        let answers = match self.ask_writer(&texts).await {
            Ok(answers) => answers,
            Err(error) => {
                self.lose_writer().await?;
                return Err(Told::error("40001", format!("the connection to the writer has ended: {error}"), "").into());
            }
        };
        let failed = answers.iter().find_map(|answer| answer.as_ref().err());
        let isolation = answers.last().and_then(|answer| answer.as_ref().ok()).cloned().flatten();
        let told = match (failed, isolation.as_deref()) {
            (Some(error), _) if isolation.is_none() => Some(Told::error(
                "0A000",
                format!("the writer did not take up the transaction: {}", described(error)),
                "",
            )),
            (_, Some("serializable")) => Some(Told::error("0A000", "SERIALIZABLE transactions are not forwarded", "")),
            (_, Some("repeatable read")) if has_read => Some(Told::error(
                "0A000",
                "a REPEATABLE READ transaction that has read on the reader can't write: the writer can't show it the same",
                "Begin the transaction with BEGIN READ WRITE, or write first.",
            )),
            _ => None,
        };
        if let Some(told) = told {
            // Its end takes back what was begun there.
            self.writer = None;
            return Err(told.into());
        }
        self.reader.ask(&[ROLLBACK]).await.map_err(Ended::Reader)?;
        Ok(())
    }

    /// Sees to it that there is a connection to the writer, which has set what this session has.
    pub(super) async fn reach_writer(&mut self) -> Result<(), Told> {
        let is_old =
            |(writer, _): &(Server, Open)| writer.origin.is_none_or(|origin| self.writers.has_replaced(origin));
        // Of two that say that they write, the one that is connected to may be the old one.
        if self.writer.as_ref().is_some_and(is_old) || self.writers.now() == Err(NoWriter::Several) {
            self.writer = None;
        }
        if self.writer.is_none() {
            self.connect().await?;
        }
        let Some((writer, _)) = &mut self.writer else { return Err(lost_before()) };
        let Some(items) = self.journal.after(writer.journal) else {
            return Err(Told::error("54000", "the session has set too much for the gateway to tell the writer", ""));
        };
        if !items.is_empty() {
            let texts: Vec<Bytes> = items.into_iter().map(|(_, text)| text).collect();
            let told = self.ask_writer(&texts).await;
            let refused = match told {
                Ok(answers) => answers.into_iter().find_map(Result::err).map(|error| described(&error)),
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = refused {
                self.writer = None;
                return Err(Told::error(
                    "08004",
                    format!("the writer did not take over the session's settings: {why}"),
                    "",
                ));
            }
            if let Some((writer, _)) = &mut self.writer {
                writer.journal = self.journal.last();
            }
        }
        Ok(())
    }

    /// Asks the writer something of the gateway's own.
    pub(super) async fn ask_writer(&mut self, texts: &[Bytes]) -> std::io::Result<Answers> {
        let patience = Duration::from_secs(self.shared.config.connect_timeout_s.max(1));
        let Some((writer, _)) = &mut self.writer else { return Err(std::io::ErrorKind::NotConnected.into()) };
        self.writer_used = Instant::now();
        while_there(&mut self.writers, (writer.origin, patience), writer.ask(texts)).await
    }

    async fn connect(&mut self) -> Result<(), Told> {
        let limit = Duration::from_secs(self.shared.config.connect_timeout_s.max(1));
        let deadline = Instant::now() + limit;
        let (address, origin) = loop {
            match self.writers.now() {
                Ok(found) => break found,
                Err(why) => {
                    if timeout_at(deadline, self.writers.changed()).await.is_err() {
                        return Err(Told::error("57P03", nobody(why), "Try again."));
                    }
                }
            }
        };
        let user = messages::parameters(&self.startup).into_iter().find(|(name, _)| name == "user");
        let user = user.map(|(_, user)| user).unwrap_or_default();
        self.proof.find_keys(&user, self.shared.verifiers.as_ref()).await?;
        let open = Open(self.shared.clone());
        self.shared.counted.open.fetch_add(1, Relaxed);
        let connecting = async {
            let stream = TcpStream::connect(address).await.map_err(|error| unreachable(&error.to_string()))?;
            let mut writer = Server::new(stream, address).map_err(|error| unreachable(&error.to_string()))?;
            writer.origin = Some(origin);
            writer.log_in(&self.startup, &self.proof).await?;
            let asked = [
                Bytes::from_static(b"SELECT pg_catalog.current_setting('max_connections')"),
                Bytes::from_static(b"SELECT pg_catalog.pg_is_in_recovery()"),
            ];
            let answers = writer.ask(&asked).await.map_err(|error| unreachable(&error.to_string()))?;
            Ok::<_, Told>((writer, answers))
        };
        let connected = timeout_at(deadline, connecting).await;
        let (writer, answers) = connected.map_err(|_| unreachable("it does not answer"))??;
        let mut answers = answers.into_iter().map(|answer| answer.ok().flatten());
        let most = answers.next().flatten().and_then(|text| text.parse::<usize>().ok()).unwrap_or(100);
        if answers.next().flatten().as_deref() != Some("f") {
            return Err(unreachable("it does not write any more"));
        }
        let most = (most * self.shared.config.max_forwarding_connections_percent as usize / 100).max(1);
        if self.shared.counted.open.load(Relaxed) > most {
            self.shared.counted.turned_away.fetch_add(1, Relaxed);
            let text = format!("more than {most} sessions of this gateway have a connection to the writer");
            return Err(Told::error("53300", text, "See max_forwarding_connections_percent."));
        }
        self.shared.counted.connections.fetch_add(1, Relaxed);
        self.writer = Some((writer, open));
        self.writer_used = Instant::now();
        Ok(())
    }

    /// The connection to the writer has ended, or must. A transaction there is taken back; the client will be told.
    pub(super) async fn lose_writer(&mut self) -> Result<(), Ended> {
        self.writer = None;
        if self.at == At::Reader {
            return Ok(());
        }
        self.at = At::Reader;
        self.transaction = super::journal::Transaction::default();
        self.lost = Some(broken(true, At::Writer, "another instance writes, or it is gone"));
        // As after any other error, the client has to end it.
        let failing =
            [Bytes::from_static(b"ROLLBACK"), Bytes::from_static(b"BEGIN"), Bytes::from_static(b"auriga: lost")];
        self.reader.ask(&failing).await.map_err(Ended::Reader)?;
        Ok(())
    }

    /// Leaves the servers.
    pub async fn leave(&mut self) {
        let bye = messages::message(b'X', &[]);
        let leaving = async {
            let _ = self.reader.pipe.send(&bye).await;
            if let Some((writer, _)) = &mut self.writer {
                let _ = writer.pipe.send(&bye).await;
            }
        };
        let _ = timeout(Duration::from_secs(1), leaving).await;
    }
}

/// Waits for a writer's answer for as long as it is there.
async fn while_there<T>(
    writers: &mut Writers,
    (origin, patience): (Option<Origin>, Duration),
    answer: impl Future<Output = std::io::Result<T>>,
) -> std::io::Result<T> {
    let Some(origin) = origin else { return answer.await };
    tokio::select! {
        biased;
        answer = answer => answer,
        () = writers.gone(origin, patience) => Err(std::io::Error::other("another instance writes, or it does not answer")),
    }
}

/// The end of the last record below a position at which the next one would begin: behind the head of a page there is none.
pub(super) fn end_of_record(lsn: u64) -> u64 {
    if lsn % WAL_PAGE <= WAL_PAGE_HEAD { lsn - lsn % WAL_PAGE } else { lsn }
}

fn nobody(why: NoWriter) -> &'static str {
    match why {
        NoWriter::Nobody => "no instance writes just now",
        NoWriter::Several => "instances of two regions say that they write: nothing is sent to either",
    }
}

fn unreachable(why: &str) -> Told {
    Told::error("08001", format!("the writer can't be reached: {why}"), "Try again.")
}

fn lost_before() -> Told {
    Told::error("08006", "the connection to the writer has ended", "Try again.")
}

/// The connection broke while something was under way.
fn broken(was_open: bool, at: At, why: &str) -> Told {
    match (was_open, at) {
        (true, _) => Told::error(
            "40001",
            format!("the connection to the writer has ended ({why}): the transaction is taken back"),
            "Do it again.",
        ),
        (false, _) => Told::error(
            "08007",
            format!("the connection to the writer has ended ({why}): whether it is committed is not known"),
            "Look whether it is.",
        ),
    }
}

/// Makes one of several.
trait Concat {
    fn concat(self) -> BytesMut;
}

impl Concat for [Bytes; 2] {
    fn concat(self) -> BytesMut {
        let mut all = BytesMut::with_capacity(self[0].len() + self[1].len());
        self.iter().for_each(|bytes| all.put_slice(bytes));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_behind_the_head_of_a_page_is_the_end_of_the_page_before() {
        assert_eq!((end_of_record(8192 * 3 + 24), end_of_record(8192 * 3 + 40)), (8192 * 3, 8192 * 3));
        assert_eq!((end_of_record(8192 * 3), end_of_record(8192 * 3 + 48)), (8192 * 3, 8192 * 3 + 48));
    }
}
