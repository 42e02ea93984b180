//! `auriga demo --tour`: the demo without a person.
//!
//! Under load from clients that know one address and remember every acknowledged commit, one thing after another goes wrong.
//! After each, the database is compared with what the clients remember; after those that change who writes, on every
//! reader, too. Anything lost or unexplained fails the tour.

mod failovers;
pub(crate) mod report;
mod steps;

use crate::bank::verify::{Verdict, verify};
use crate::bank::{Bank, ledger::Ledger};
use crate::demo::{Demo, DemoError};
use crate::instances;
use auriga_admin::postgres::{connect, told};
use report::{Step, Tally};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Clients of the bank.
const CLIENTS: usize = 8;
/// Commits go on, or have resumed, within this time.
const RESUME_LIMIT: Duration = Duration::from_secs(60);

/// Why the tour failed.
#[derive(Debug, thiserror::Error)]
pub enum TourError {
    /// A process did not do what it should.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// PostgreSQL answered with an error where it should not.
    #[error("{doing}: {error}")]
    Postgres {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        error: String,
    },
    /// A program of PostgreSQL's.
    #[error(transparent)]
    Program(#[from] crate::standbys::ProgramError),
    /// Something that should have been seen was not.
    #[error("{0}")]
    Unexpected(String),
}

impl From<crate::demo::cluster::ClusterError> for TourError {
    fn from(error: crate::demo::cluster::ClusterError) -> Self {
        TourError::Demo(error.into())
    }
}

/// Names what was tried when PostgreSQL says no.
pub(crate) fn postgres(doing: &'static str) -> impl Fn(tokio_postgres::Error) -> TourError {
    move |error| TourError::Postgres { doing, error: told(&error) }
}

/// The tour under way.
struct Tour<'a> {
    demo: &'a Demo,
    bank: Bank,
    /// The writer endpoint.
    server: SocketAddr,
    tally: Tally,
}

/// Walks through all steps. Returns whether everything was as it should be.
///
/// # Errors
/// A step could not be done, or showed something else than it should.
pub fn run(demo: &Demo, started: Duration, seed: u64) -> Result<bool, TourError> {
    let begun = Instant::now();
    println!("seed {seed}; {CLIENTS} clients, each transfer one transaction, every acknowledged commit remembered\n");
    report::header();
    let server = demo.layout().writer_endpoint();
    let archive_bytes = demo.runtime().block_on(steps::prepare(server))?;
    let bank = demo.runtime().block_on(async { Bank::open(vec![server], CLIENTS, seed) });
    let mut tour = Tour { demo, bank, server, tally: Tally::default() };
    tour.step("0", "everything up", Shown::Readers, |tour| {
        tour.wait_for_commits(1)?;
        let mut seen = vec![format!(
            "the demo was up in {:.1} s; {} MB of rows to read later",
            started.as_secs_f64(),
            archive_bytes / 1_000_000
        )];
        seen.extend(failovers::lag_for(tour, Duration::from_secs(3))?);
        Ok(seen)
    })?;
    tour.step("1", "one storage process killed (c1): commits go on", Shown::Writer, steps::one_killed)?;
    tour.step("2", "its whole AZ killed (c1, c2): commits go on", Shown::Writer, steps::az_killed)?;
    tour.step("3", "one more killed (b2): commits wait, reads go on", Shown::ReadersAlone, steps::az_and_one_killed)?;
    tour.step("4", "one comes back (b2): commits resume by themselves", Shown::Writer, steps::one_back)?;
    tour.step("5", "a reader killed, its directory deleted", Shown::Readers, failovers::reader_killed)?;
    tour.step("6", "the writer killed: a reader takes over by itself", Shown::Readers, failovers::writer_killed)?;
    tour.step("7", "the new writer frozen, resumed beside its successor", Shown::Readers, failovers::writer_frozen)?;
    tour.step("8", "a failover that is asked for", Shown::Readers, failovers::asked_for)?;
    tour.step("9", "the writer's AZ lost, the controller with it", Shown::Readers, failovers::zone_lost)?;
    tour.step("10", "a storage process lost for good (a2): a spare takes over", Shown::Readers, steps::one_lost)?;
    tour.step("11", "clients stopped: the final database", Shown::Readers, |tour| {
        tour.demo.runtime().block_on(tour.bank.close());
        Ok(Vec::new())
    })?;
    Ok(tour.tally.end(tour.bank.ledger(), started + begun.elapsed()))
}

/// What is compared with what the clients remember.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shown {
    /// What the writer shows.
    Writer,
    /// What the writer shows, and every reader.
    Readers,
    /// What every reader shows. For a step in which commits wait: PostgreSQL locks a page that it writes until the page's
    /// log is durable, and who reads the page on the writer may wait as long.
    ReadersAlone,
}

impl<'a> Tour<'a> {
    fn ledger(&self) -> &Ledger {
        self.bank.ledger()
    }

    /// Does one step, verifies, and shows the outcome.
    fn step(
        &mut self,
        number: &'static str,
        title: &'static str,
        shown: Shown,
        act: impl FnOnce(&mut Tour<'a>) -> Result<Vec<String>, TourError>,
    ) -> Result<(), TourError> {
        let step = Step::begin(number, title, self.ledger());
        let mut remarks = act(self)?;
        let acted = step.acted(self.ledger());
        let mut verdict = Verdict::default();
        if shown != Shown::ReadersAlone {
            let compared = self.demo.runtime().block_on(verify(self.server, self.ledger()));
            verdict = compared.map_err(postgres("comparing the database with the clients' ledger"))?;
        }
        if shown != Shown::Writer {
            let (of_readers, writer, readers) = instances::verify_readers(self.demo, self.ledger())?;
            verdict.add(&of_readers);
            let readers = readers.join(" and ");
            remarks.push(match shown {
                Shown::ReadersAlone => format!("compared on {readers}, which read"),
                Shown::Writer | Shown::Readers => {
                    format!("compared on {writer}, which writes, and on {readers}, which read")
                }
            });
        }
        self.tally.judged(acted, self.bank.ledger(), &verdict, &remarks);
        Ok(())
    }

    /// Waits until this many more commits have been acknowledged; answers how long that took.
    fn wait_for_commits(&self, more: u64) -> Result<Duration, TourError> {
        let begun = Instant::now();
        let enough = self.ledger().acknowledged() + more;
        while self.ledger().acknowledged() < enough {
            if begun.elapsed() > RESUME_LIMIT {
                return Err(TourError::Unexpected(format!("no {more} commits within {} s", RESUME_LIMIT.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(begun.elapsed())
    }

    /// Lets the clients work for a while, during which commits must be acknowledged.
    fn commits_go_on(&self, time: Duration) -> Result<(), TourError> {
        let before = self.ledger().acknowledged();
        std::thread::sleep(time);
        match self.ledger().acknowledged() > before {
            true => Ok(()),
            false => Err(TourError::Unexpected(format!("no commit was acknowledged for {} s", time.as_secs()))),
        }
    }

    /// One statement on a new connection, answered as text.
    fn ask(&self, server: SocketAddr, doing: &'static str, sql: &str) -> Result<String, TourError> {
        self.demo
            .runtime()
            .block_on(async {
                let client = connect(server).await?;
                client.query_one(sql, &[]).await.map(|row| row.get::<_, String>(0))
            })
            .map_err(postgres(doing))
    }
}
