//! What a session's reads wait for.

use super::messages::{self, Told};
use super::session::{Ended, Point, Session};
use super::settings::Mode;
use super::unit::{Step, Unit};
use super::words::{self, Kind};
use super::writing::end_of_record;
use bytes::Bytes;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Asks a reader how far it has replayed.
const REPLAYED: Bytes = Bytes::from_static(b"SELECT pg_catalog.pg_last_wal_replay_lsn()");
/// A commit that changes nothing: who can make it is the writer, and what was committed before is below it.
const BARRIER: Bytes = Bytes::from_static(
    b"BEGIN; SET LOCAL synchronous_commit = on; SELECT pg_catalog.pg_logical_emit_message(true, 'auriga', ''); COMMIT",
);
const ISOLATION: Bytes = Bytes::from_static(b"SHOW transaction_isolation");
/// The first pause between two questions to a reader, and the longest.
const PAUSE: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(5);
/// How often one who waits for another one's question looks at the writers.
const LOOK: Duration = Duration::from_millis(200);

type Waited = Result<Result<(), Told>, Ended>;

impl Session {
    /// Waits until the reader shows what a unit must see.
    pub(super) async fn wait_before(&mut self, unit: &Unit) -> Waited {
        // What is prepared is looked up among the tables that there are.
        let prepares = unit.steps.iter().any(|step| matches!(step, Step::Parse(..)));
        let reads = prepares || unit.texts.iter().any(|text| words::kind(text) != Kind::Settings);
        if !reads || self.reader_writes || self.shared.never_waits {
            return Ok(Ok(()));
        }
        match self.mode {
            Mode::Eventual | Mode::Off => Ok(Ok(())),
            // Within a transaction nothing has been added to it.
            Mode::Session if self.status() != b'I' => Ok(Ok(())),
            Mode::Session => match self.point {
                None => Ok(Ok(())),
                Some(point) => self.wait_for(point).await,
            },
            Mode::Global => self.wait_for_all(unit).await,
        }
    }

    async fn wait_for_all(&mut self, unit: &Unit) -> Waited {
        match self.status() {
            b'I' => {}
            // Its point in time was chosen by its first statement, unless each one has its own.
            b'T' => {
                let ends = unit.texts.iter().all(|text| matches!(words::kind(text), Kind::Ends | Kind::TakesBack));
                let answers = self.reader.ask(&[ISOLATION]).await.map_err(Ended::Reader)?;
                let isolation = answers.into_iter().next().and_then(Result::ok).flatten();
                if ends || isolation.as_deref() != Some("read committed") {
                    return Ok(Ok(()));
                }
            }
            _ => return Ok(Ok(())),
        }
        if let Err(told) = self.reach_writer().await {
            return Ok(Err(told));
        }
        let Some(origin) = self.writer.as_ref().and_then(|(writer, _)| writer.origin) else { return Ok(Ok(())) };
        let asked = self.ask_writer(&[BARRIER]).await;
        let told = match asked.map(|answers| answers.into_iter().next()) {
            Ok(Some(Ok(Some(lsn)))) => messages::lsn(&lsn).ok_or_else(|| "something else".to_owned()),
            Ok(Some(Err(error))) => Err(super::server::described(&error)),
            Ok(_) => Err("nothing".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match told {
            Ok(lsn) => self.wait_for(Point { lsn: end_of_record(lsn), origin }).await,
            Err(why) => {
                self.writer = None;
                let text = format!("the writer did not say what is committed: {why}");
                Ok(Err(Told::error("08006", text, "Try again.")))
            }
        }
    }

    /// Waits until the reader has replayed up to a point.
    async fn wait_for(&mut self, mut point: Point) -> Waited {
        let board = self.board.clone();
        if board.replayed() >= point.lsn {
            self.reached(point);
            return Ok(Ok(()));
        }
        let begun = Instant::now();
        let limit = Duration::from_secs(self.shared.config.wait_timeout_s.max(1));
        let cancelled = self.key.cancelled.clone();
        let counted = self.shared.clone();
        counted.counted.waits.fetch_add(1, Relaxed);
        let waited = loop {
            if begun.elapsed() > limit {
                let text = format!("the reader has not come to {} within {} s", shown(point.lsn), limit.as_secs());
                break Err(Told::error("57014", format!("canceling statement: {text}"), "It may be far behind."));
            }
            let asking = tokio::select! {
                asking = board.asking.lock() => Some(asking),
                () = board.reached(point.lsn) => None,
                () = sleep(LOOK) => None,
                () = cancelled.waits.notified() => break Err(on_request()),
            };
            if asking.is_some() {
                let mut pause = PAUSE;
                let until = Instant::now() + LOOK;
                let mut was_cancelled = false;
                while board.replayed() < point.lsn && Instant::now() < until && !was_cancelled {
                    let answers = self.reader.ask(&[REPLAYED]).await.map_err(Ended::Reader)?;
                    let lsn = answers.into_iter().next().and_then(Result::ok).flatten();
                    board.told(lsn.and_then(|text| messages::lsn(&text)).unwrap_or(0));
                    if board.replayed() < point.lsn {
                        was_cancelled = timeout(pause, cancelled.waits.notified()).await.is_ok();
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
                if was_cancelled {
                    break Err(on_request());
                }
            }
            if board.replayed() >= point.lsn {
                break Ok(());
            }
            match self.look_again(point).await {
                Ok(still) => point = still,
                Err(told) => {
                    self.point = None;
                    break Err(told);
                }
            }
        };
        counted.counted.waited_us.fetch_add(begun.elapsed().as_micros() as u64, Relaxed);
        if waited.is_ok() {
            self.reached(point);
        }
        Ok(waited)
    }

    fn reached(&mut self, point: Point) {
        self.point = self.point.filter(|own| own.lsn > point.lsn || own.origin != point.origin);
    }

    /// Looks whether a point that is waited for can still come. In a region, a new writer has all that was acknowledged by the
    /// one before, at positions of its own. Another region may not.
    async fn look_again(&mut self, point: Point) -> Result<Point, Told> {
        let Ok((_, now)) = self.writers.now() else { return Ok(point) };
        if now == point.origin || !self.writers.has_replaced(point.origin) {
            return Ok(point);
        }
        if now.region != point.origin.region {
            return Err(Told::error(
                "08007",
                "another region writes now: whether it has what this session has written last is not known",
                "Look whether it is there.",
            ));
        }
        self.reach_writer().await?;
        let origin = self.writer.as_ref().and_then(|(writer, _)| writer.origin).unwrap_or(now);
        match self.ask_writer(&[BARRIER]).await.map(|answers| answers.into_iter().next()) {
            Ok(Some(Ok(Some(lsn)))) => {
                let lsn = messages::lsn(&lsn).map_or(point.lsn, end_of_record);
                let point = Point { lsn, origin };
                self.point = Some(point);
                Ok(point)
            }
            _ => {
                self.writer = None;
                Ok(point)
            }
        }
    }
}

fn on_request() -> Told {
    Told::error("57014", "canceling statement due to user request", "")
}

fn shown(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}
