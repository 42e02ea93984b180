//! Readers, compared with a plain streaming standby, through failures.
//!
//! Each round something fails while the writer does everything that changes files in its own way. Then the readers and the
//! plain standby are paused at one position of the WAL, and every table of every database is compared, by sequential and by
//! index scans; `pg_amcheck` reads the readers' tables and indexes. A reader has far smaller buffers than tables, so that
//! its pages come from the volume.
//!
//! A reader that is frozen beyond its lease, or that lags by more than is kept for it, is dropped and begins again: that is
//! counted, and no failure. What its PostgreSQL must never say is.

mod plain;

use super::Length;
use crate::demo::layout::{Layout, STORAGE};
use crate::demo::{Demo, Options, WRITER};
use crate::standbys::compare::{compare, pause, resume};
use crate::standbys::{ProgramError, Server, workload};
use crate::tour::TourError;
use auriga_instance::postgres::find;
use auriga_instance::postgres::user::RunAs;
use plain::Plain;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Readers of the demo.
const READERS: u8 = 2;
/// Bursts of work in a round.
const BURSTS: u32 = 2;
/// Longer than a silent reader is kept.
const BEYOND_LEASE: Duration = Duration::from_secs(12);
/// A reader that was dropped has found out within this time.
const FOUND_OUT: Duration = Duration::from_secs(60);
/// How long the writer is held up for readers that lag.
const KEPT_UP_WITH: Duration = Duration::from_secs(5);
/// How often the servers are paused anew where one went away meanwhile.
const ATTEMPTS: u32 = 5;

/// What a standby says when it was shown something wrong.
const WRONG: [&str; 8] = [
    "PANIC: ",
    "invalid page",
    "could not read block",
    "could not access status of transaction",
    "could not open file",
    "missing chunk",
    "WAL contains references",
    "unexpected zero page",
];
/// What a reader's own log says when it was dropped.
const BEGINS_AGAIN: &str = "it begins again";

/// What fails in a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Nothing,
    /// SIGKILL of a reader, which comes back on an empty directory.
    ReaderKilled,
    /// SIGKILL of a reader's PostgreSQL alone: the reader begins anew.
    StandbyKilled,
    /// A reader stands still for a moment.
    ReaderStalled,
    /// A reader stands still until the writer has dropped it.
    ReaderDropped,
    /// SIGKILL of the writer, which comes back on an empty directory.
    WriterKilled,
    /// SIGKILL of a storage process.
    StorageKilled,
}

/// The first one comes first; the others in any order.
const FAULTS: [Fault; 7] = [
    Fault::WriterKilled,
    Fault::Nothing,
    Fault::ReaderKilled,
    Fault::StandbyKilled,
    Fault::StorageKilled,
    Fault::ReaderDropped,
    Fault::ReaderStalled,
];

/// What the demo is made from.
pub fn options(options: Options) -> Options {
    let mut options = Options { readers: READERS, ..options };
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
    };
    options.postgres.settings.extend(pairs(&[
        ("shared_buffers", "16MB"),
        ("max_prepared_transactions", "10"),
        ("autovacuum_naptime", "1s"),
    ]));
    options.reader_settings.extend(pairs(&[("shared_buffers", "1MB")]));
    options
}

struct Rehearsal<'a> {
    demo: &'a Demo,
    random: fastrand::Rng,
    writer: Server,
    readers: Vec<Server>,
    plain: Plain,
    /// Bursts so far.
    bursts: u32,
    /// The faults still to come before any comes again.
    faults: Vec<Fault>,
    /// What readers have logged of what must not be, and how often one began again.
    wrong: usize,
    begun_again: usize,
}

/// Runs rounds until `length`, or until asked to stop. Returns whether nothing differed.
///
/// # Errors
/// A process did not come back, or a server could not be asked.
pub fn run(demo: &Demo, length: Length, seed: u64, stop: &Receiver<()>) -> Result<bool, TourError> {
    println!("readers compared with a plain standby, seed {seed}");
    let mut rehearsal = Rehearsal::new(demo, seed)?;
    let (mut bad_rounds, mut round, started, mut questions) = (0, 0, Instant::now(), 0);
    while !length.reached(round, started.elapsed()) {
        if stop.try_recv().is_ok() {
            println!("stopped after {round} rounds");
            break;
        }
        round += 1;
        let (asked, differences) = rehearsal.round(round)?;
        questions += asked;
        bad_rounds += u32::from(!differences.is_empty());
        differences.iter().for_each(|difference| println!("          DIFFERS: {difference}"));
    }
    println!(
        "{round} rounds, {} bursts, {questions} questions asked of each reader and of the plain standby; readers began again \
         {} times; {bad_rounds} rounds with differences",
        rehearsal.bursts, rehearsal.begun_again
    );
    Ok(bad_rounds == 0)
}

/// Waits until the readers have replayed what the writer has written, but not long for one that does not answer.
fn wait_for_readers(writer: &Server, readers: &[Server]) {
    let Ok(written) = writer.ask("SELECT pg_current_wal_insert_lsn()") else { return };
    let question = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{written}', false)");
    let until = Instant::now() + KEPT_UP_WITH;
    for reader in readers {
        while reader.ask(&question).is_ok_and(|answer| answer != "t") && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Rehearsal<'_> {
    fn new(demo: &Demo, seed: u64) -> Result<Rehearsal<'_>, TourError> {
        let layout = demo.layout();
        let unexpected = |error: &dyn std::fmt::Display| TourError::Unexpected(error.to_string());
        let installation = find::find(layout.postgres.bin.as_deref()).map_err(|error| unexpected(&error))?.remove(0);
        let user = RunAs::resolve(layout.postgres.user.as_deref()).map_err(|error| unexpected(&error))?;
        let server = |name: String, number| Server {
            name,
            programs: installation.bin.clone(),
            user: user.clone(),
            host: layout.instance_host(number).to_string(),
            port: layout.port,
        };
        let writer = server(WRITER.to_owned(), 0);
        workload::prepare(&writer)?;
        let plain = Plain::start(layout, &writer, server("plain".to_owned(), plain::NUMBER))?;
        let readers = layout.readers().map(|number| server(Layout::reader_name(number), number)).collect();
        let (random, faults) = (fastrand::Rng::with_seed(seed), Vec::new());
        Ok(Rehearsal { demo, random, writer, readers, plain, bursts: 0, faults, wrong: 0, begun_again: 0 })
    }

    /// One round; answers how many questions were asked, and what differs.
    fn round(&mut self, round: u32) -> Result<(usize, Vec<String>), TourError> {
        let begun = Instant::now();
        if self.faults.is_empty() {
            self.faults.extend(FAULTS);
            self.random.shuffle(&mut self.faults[1..]);
            self.faults.reverse();
        }
        let fault = self.faults.pop().unwrap_or(Fault::Nothing);
        let first = self.bursts;
        self.bursts += BURSTS;
        let (writer, readers) = (self.writer.clone(), self.readers.clone());
        // In every second round readers that lag are waited for; in the others one that can't keep up is dropped.
        let keeps_up = round % 2 == 1;
        let pause = || {
            if keeps_up {
                wait_for_readers(&writer, &readers)
            }
        };
        let (what, worked) = std::thread::scope(|scope| {
            let work =
                scope.spawn(|| (first..first + BURSTS).try_for_each(|number| workload::burst(&writer, number, pause)));
            let what = self.fail(fault);
            (what, work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let what = what?;
        match worked {
            // Its clients are told; what they had not committed is done again.
            Err(_) if fault == Fault::WriterKilled => {
                self.bursts += 1;
                workload::burst(&self.writer, self.bursts - 1, || ())?;
            }
            worked => worked?,
        }
        let worked = begun.elapsed();
        let (questions, mut differences) = self.compare()?;
        differences.extend(self.look_at_logs()?);
        println!(
            "round {round:<3} {what:<44} {:>5.1} s of work  {:>5.1} s in all  {questions} questions  differences {}",
            worked.as_secs_f64(),
            begun.elapsed().as_secs_f64(),
            differences.len()
        );
        Ok((questions, differences))
    }

    /// Breaks something after a random while, and brings it back.
    fn fail(&mut self, fault: Fault) -> Result<String, TourError> {
        self.sleep(200..2500);
        let reader = self.readers[self.random.usize(..self.readers.len())].name.clone();
        let storage = STORAGE[self.random.usize(..STORAGE.len())];
        match fault {
            Fault::Nothing => return Ok("nothing failed".to_owned()),
            Fault::ReaderKilled => self.kill(&reader)?,
            Fault::WriterKilled => self.kill(WRITER)?,
            Fault::StorageKilled => self.kill(storage)?,
            Fault::StandbyKilled => self.demo.cluster().0.process(&reader)?.kill_below(),
            Fault::ReaderStalled => {
                self.demo.cluster().0.process(&reader)?.freeze();
                self.sleep(200..2000);
                self.demo.cluster().0.process(&reader)?.resume();
            }
            Fault::ReaderDropped => self.freeze_until_dropped(&reader)?,
        }
        Ok(match fault {
            Fault::Nothing => String::new(),
            Fault::ReaderKilled => format!("{reader} killed"),
            Fault::WriterKilled => format!("{WRITER} killed"),
            Fault::StorageKilled => format!("{storage} killed"),
            Fault::StandbyKilled => format!("PostgreSQL of {reader} killed"),
            Fault::ReaderStalled => format!("{reader} stood still"),
            Fault::ReaderDropped => format!("{reader} dropped"),
        })
    }

    fn sleep(&mut self, ms: std::ops::Range<u64>) {
        std::thread::sleep(Duration::from_millis(self.random.u64(ms)));
    }

    fn kill(&mut self, name: &str) -> Result<(), TourError> {
        self.demo.cluster().0.kill(name)?;
        self.sleep(0..1500);
        Ok(self.demo.start(name)?)
    }

    fn freeze_until_dropped(&mut self, reader: &str) -> Result<(), TourError> {
        let before = self.count(reader, &[BEGINS_AGAIN])?;
        self.demo.cluster().0.process(reader)?.freeze();
        std::thread::sleep(BEYOND_LEASE);
        self.demo.cluster().0.process(reader)?.resume();
        let until = Instant::now() + FOUND_OUT;
        while self.count(reader, &[BEGINS_AGAIN])? == before {
            if Instant::now() >= until {
                return Err(TourError::Unexpected(format!(
                    "{reader} was silent beyond its lease, and does not begin again"
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Pauses everyone at one position, and compares while the writer does a little. (A reader that is paused can't advance,
    /// so it is dropped when much is written.)
    fn compare(&mut self) -> Result<(usize, Vec<String>), TourError> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            for reader in &self.readers {
                self.demo.start(&reader.name)?;
            }
            match self.try_to_compare() {
                Ok(compared) => return Ok(compared),
                // A reader may begin again at any time.
                Err(error) => {
                    println!("          once more, because {error}");
                    last = Some(error);
                }
            }
        }
        Err(last.map_or_else(|| TourError::Unexpected("no attempt".to_owned()), TourError::from))
    }

    fn try_to_compare(&self) -> Result<(usize, Vec<String>), ProgramError> {
        let standbys: Vec<&Server> = self.readers.iter().chain([&self.plain.server]).collect();
        pause(&self.writer, &standbys)?;
        let compared = std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let little = ["--client=2", "--jobs=1", "--transactions=20", "--no-vacuum", "postgres"];
                self.writer.succeed("pgbench", &little)?;
                self.writer.run("postgres", "CHECKPOINT")
            });
            let compared: Result<Vec<_>, _> =
                self.readers.iter().map(|reader| compare(reader, &self.plain.server)).collect();
            work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            compared
        })?;
        resume(&standbys)?;
        let questions = compared.iter().map(|compared| compared.questions).max().unwrap_or_default();
        Ok((questions, compared.into_iter().flat_map(|compared| compared.differences).collect()))
    }

    /// What the readers' servers have said since the last look that they must never say.
    fn look_at_logs(&mut self) -> Result<Vec<String>, TourError> {
        let (mut wrong, mut begun_again) = (Vec::new(), 0);
        for reader in &self.readers {
            let path = self.demo.layout().postgres_log(&reader.name);
            let said = self.read(&path)?;
            let lines = said.lines().filter(|line| WRONG.iter().any(|wrong| line.contains(wrong)));
            wrong.extend(lines.map(|line| format!("{} says: {line}", reader.name)));
            begun_again += self.count(&reader.name, &[BEGINS_AGAIN])?;
        }
        let new = wrong.split_off(self.wrong.min(wrong.len()));
        self.wrong += new.len();
        self.begun_again = begun_again;
        Ok(new)
    }

    fn count(&self, name: &str, said: &[&str]) -> Result<usize, TourError> {
        let text = self.read(&self.demo.layout().log(name))?;
        Ok(text.lines().filter(|line| said.iter().any(|said| line.contains(said))).count())
    }

    fn read(&self, path: &std::path::Path) -> Result<String, TourError> {
        let bytes = std::fs::read(path);
        let bytes = bytes.map_err(|error| TourError::Unexpected(format!("{}: {error}", path.display())))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
