//! `auriga demo --global --tour`: a global database without a person.
//!
//! Under load from clients that remember every acknowledged commit, the network between regions is cut, the role moves,
//! and regions are killed. After each step the primary is compared with what the clients remember. What a failover loses
//! must be what the region that lost it names, and nothing else may be missing.

use super::GlobalDemo;
use crate::bank::Bank;
use crate::bank::ledger::Ledger;
use crate::bank::verify::verify;
use crate::demo::region::name;
use crate::process::memory_below;
use crate::tour::report::{self, Step, Tally};
use crate::tour::{TourError, postgres};
use auriga_admin::postgres::connect;
use auriga_protocol::RegionId;
use auriga_protocol::global::{Operation, Outcome};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Clients of the bank.
const CLIENTS: usize = 8;
/// Commits go on, or have resumed, within this time.
const RESUME_LIMIT: Duration = Duration::from_secs(60);
/// Rows that are written by hand where clients are with a primary that was left.
const PROBES: u32 = 20;

/// The tour under way.
struct Tour<'a> {
    demo: &'a GlobalDemo,
    bank: Bank,
    /// The region that clients are with, and one of the others.
    primary: u16,
    other: u16,
    tally: Tally,
}

type Seen = Result<Vec<String>, TourError>;

/// Walks through all steps. Returns whether everything was as it should be.
///
/// # Errors
/// A step could not be done, or showed something else than it should.
pub fn run(demo: &GlobalDemo, started: Duration, seed: u64) -> Result<bool, TourError> {
    let begun = Instant::now();
    println!("seed {seed}; {CLIENTS} clients, each transfer one transaction, every acknowledged commit remembered\n");
    report::header();
    let primary = demo.watcher().primary().unwrap_or(1);
    let other = demo.layout().numbers().find(|number| *number != primary).unwrap_or(primary);
    let server = demo.postgres(primary);
    demo.runtime().block_on(Bank::create(server)).map_err(postgres("creating the bank"))?;
    let bank = demo.runtime().block_on(async { Bank::open(vec![server], CLIENTS, seed) });
    let mut tour = Tour { demo, bank, primary, other, tally: Tally::default() };
    tour.step("0", "everything up: how late the others are", |tour| {
        tour.wait_for_commits(1)?;
        let memory = memory_below() / 1_000_000;
        let mut seen =
            vec![format!("the demo was up in {:.1} s; it takes {memory} MB of memory", started.as_secs_f64())];
        seen.extend(tour.lag_for(Duration::from_secs(5))?);
        Ok(seen)
    })?;
    tour.step("1", "the network between them cut, and healed", Tour::cut)?;
    tour.step("2", "a switchover that is planned", Tour::switch_over)?;
    tour.step("3", "and back", Tour::switch_over)?;
    tour.step("4", "the primary's region killed: a failover", Tour::kill_primary)?;
    tour.step("5", "a primary that can't be reached, and goes on", Tour::leave_primary)?;
    tour.step("6", "once more a switchover, after all of it", Tour::switch_over)?;
    tour.step("7", "writes in a secondary, forwarded, in each mode", Tour::forward)?;
    tour.step("8", "clients stopped: the final database", |tour| {
        tour.demo.runtime().block_on(tour.bank.close());
        tour.demo.wait_until_followed(tour.primary)?;
        Ok(Vec::new())
    })?;
    Ok(tour.tally.end(tour.bank.ledger(), started + begun.elapsed()))
}

impl Tour<'_> {
    fn ledger(&self) -> &Ledger {
        self.bank.ledger()
    }

    /// Does one step, verifies, and shows the outcome.
    fn step(
        &mut self,
        number: &'static str,
        title: &'static str,
        act: impl FnOnce(&mut Self) -> Seen,
    ) -> Result<(), TourError> {
        let step = Step::begin(number, title, self.ledger());
        let mut remarks = act(self)?;
        let acted = step.acted(self.ledger());
        let compared = self.demo.runtime().block_on(verify(self.demo.postgres(self.primary), self.ledger()));
        let mut verdict = compared.map_err(postgres("comparing the primary with the clients' ledger"))?;
        for other in self.demo.layout().numbers().filter(|number| *number != self.primary) {
            verdict.add(&self.demo.verify_secondary(self.primary, other, self.ledger())?);
        }
        remarks.push(format!("compared on {}, which writes, and elsewhere, where it is read", name(self.primary)));
        self.tally.judged(acted, self.bank.ledger(), &verdict, &remarks);
        Ok(())
    }

    /// How late the other regions are under this load.
    fn lag_for(&self, time: Duration) -> Seen {
        let (begun, mut lags) = (Instant::now(), BTreeMap::<u16, Vec<u64>>::new());
        while begun.elapsed() < time {
            let standings = self.demo.watcher().standings().into_iter().filter(|(number, _)| *number != self.primary);
            for (number, standing) in standings {
                lags.entry(number).or_default().extend(standing.behind_ms);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let shown = lags.into_iter().map(|(number, mut lags)| {
            lags.sort_unstable();
            let at = |percent: usize| lags.get((lags.len() * percent / 100).min(lags.len().saturating_sub(1)));
            match (at(50), at(99)) {
                (Some(median), Some(most)) => Ok(format!("{} {median} ms in the median, {most} ms p99", name(number))),
                _ => Err(TourError::Unexpected(format!("{} does not follow", name(number)))),
            }
        });
        let shown: Vec<String> = shown.collect::<Result<_, _>>()?;
        let round_trip = self.demo.layout().wan.round_trip_ms;
        Ok(vec![format!(
            "behind what the primary's process knows to be durable, over {round_trip} ms there and back: {}",
            shown.join("; ")
        )])
    }

    fn cut(&mut self) -> Seen {
        let (wan, primary) = (self.demo.wan(), self.primary);
        wan.set_cut(true, |_| true);
        self.commits_go_on(Duration::from_secs(3))?;
        let sent = wan.bytes(primary, self.other);
        wan.set_cut(false, |_| true);
        let took = self.demo.wait_until_followed(primary)?;
        let sent = wan.bytes(primary, self.other) - sent;
        Ok(vec![
            "commits went on in the primary while nothing got through".to_owned(),
            format!("after it was healed, caught up in {} ms, over {sent} bytes", took.as_millis()),
        ])
    }

    /// Has the clients go where the role is.
    fn clients_follow(&mut self) {
        std::mem::swap(&mut self.primary, &mut self.other);
        self.bank.set_servers(vec![self.demo.postgres(self.primary)]);
    }

    /// Clients go to a secondary, and back; then each mode is tried there by hand.
    fn forward(&mut self) -> Seen {
        let at = self.demo.forwarding(self.other);
        let before = self.ledger().acknowledged();
        self.bank.move_to(vec![at]);
        // Those that are under way end where they are.
        self.wait_for_commits(CLIENTS as u64)?;
        self.commits_go_on(Duration::from_secs(3))?;
        let forwarded = self.ledger().acknowledged() - before;
        self.bank.move_to(vec![self.demo.postgres(self.primary)]);
        self.wait_for_commits(CLIENTS as u64)?;
        let mut seen = vec![format!("{forwarded} transfers of the clients were written through {}", name(self.other))];
        seen.extend(self.demo.try_modes(self.primary, self.other)?);
        Ok(seen)
    }

    fn switch_over(&mut self) -> Seen {
        let (from, to) = (self.primary, self.other);
        let begun = Instant::now();
        match self.demo.operate(to, Operation::Switchover { target: RegionId(to) })? {
            Outcome::Moved { branch, fenced_at: Some(end) } if end == branch.after => {}
            outcome => return Err(TourError::Unexpected(format!("a switchover ended as {outcome:?}"))),
        }
        let moved = begun.elapsed();
        self.clients_follow();
        self.wait_for_commits(1)?;
        let first = begun.elapsed();
        let followed = self.demo.wait_until_followed(to)?;
        Ok(vec![
            format!(
                "{} → {}: moved after {} ms, first commit after {} ms",
                name(from),
                name(to),
                moved.as_millis(),
                first.as_millis()
            ),
            format!("{} follows after another {} ms", name(from), followed.as_millis()),
        ])
    }

    fn fail_over(&mut self) -> Result<Duration, TourError> {
        let begun = Instant::now();
        let to = self.other;
        match self.demo.operate(to, Operation::Failover { target: RegionId(to) })? {
            Outcome::Moved { branch, .. } if branch.primary == RegionId(to) => Ok(begun.elapsed()),
            outcome => Err(TourError::Unexpected(format!("a failover ended as {outcome:?}"))),
        }
    }

    fn kill_primary(&mut self) -> Seen {
        let lost_before = self.demo.lost(self.primary)?;
        self.demo.kill(self.primary);
        let begun = Instant::now();
        self.fail_over()?;
        self.clients_follow();
        self.wait_for_commits(1)?;
        let first = begun.elapsed();
        let missing = self.demo.take_missing(self.primary, self.ledger())?;
        self.commits_go_on(Duration::from_secs(1))?;
        let mut seen = vec![format!(
            "{} is the primary: first commit {} ms after it was asked for; {} acknowledged commits had not arrived there",
            name(self.primary),
            first.as_millis(),
            missing.commits
        )];
        seen.extend(self.comes_back(&lost_before, &missing)?);
        Ok(seen)
    }

    /// The region that was left comes back, or is heard of again.
    fn comes_back(&mut self, lost_before: &serde_json::Value, missing: &super::lost::Missing) -> Seen {
        let (wan, back) = (self.demo.wan(), self.other);
        let sent = wan.bytes(self.primary, back);
        let begun = Instant::now();
        self.demo.restart(back)?;
        self.demo.wait_until_followed(self.primary)?;
        let (took, sent) = (begun.elapsed(), wan.bytes(self.primary, back) - sent);
        let mut seen = self.demo.compare_lost(back, lost_before, missing)?;
        seen.push(format!(
            "{} came back and follows after {} ms, over {sent} bytes: no copy was made",
            name(back),
            took.as_millis()
        ));
        Ok(seen)
    }

    fn leave_primary(&mut self) -> Seen {
        let (left, to) = (self.primary, self.other);
        let lost_before = self.demo.lost(left)?;
        self.demo.wan().set_cut(true, |(first, second)| first == left || second == left);
        self.commits_go_on(Duration::from_secs(1))?;
        self.fail_over()?;
        // Clients that have a connection stay with the primary that was left.
        let acknowledged = self.ledger().acknowledged();
        let server = self.demo.postgres(to);
        let probe = async {
            let client = connect(server).await?;
            client.batch_execute("create table if not exists probe (n int)").await?;
            for n in 0..PROBES {
                client.execute("insert into probe values ($1)", &[&(n as i32)]).await?;
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        self.demo.wait_for("PostgreSQL of the new primary that writes", || {
            let asked = async { connect(server).await.ok()?.query_one("select pg_is_in_recovery()", &[]).await.ok() };
            self.demo.runtime().block_on(asked).filter(|row| !row.get::<_, bool>(0)).map(|_| ())
        })?;
        self.demo.runtime().block_on(probe).map_err(postgres("writing in the new primary"))?;
        self.commits_go_on(Duration::from_secs(1))?;
        let apart = self.ledger().acknowledged() - acknowledged;
        self.clients_follow();
        let sent = self.demo.wan().bytes(to, left);
        let begun = Instant::now();
        self.demo.wan().set_cut(false, |_| true);
        self.demo.wait_until_fenced(left)?;
        let missing = self.demo.take_missing(to, self.ledger())?;
        self.wait_for_commits(1)?;
        self.demo.wait_until_followed(to)?;
        let (took, sent) = (begun.elapsed(), self.demo.wan().bytes(to, left) - sent);
        let mut seen = vec![format!(
            "{} acknowledged {apart} commits in a lineage of its own, while {PROBES} were made in {}; then it was heard of",
            name(left),
            name(to)
        )];
        seen.extend(self.demo.compare_lost(left, &lost_before, &missing)?);
        seen.push(format!("{} follows after {} ms, over {sent} bytes", name(left), took.as_millis()));
        Ok(seen)
    }

    /// Waits until this many more commits have been acknowledged.
    fn wait_for_commits(&self, more: u64) -> Result<(), TourError> {
        let begun = Instant::now();
        let enough = self.ledger().acknowledged() + more;
        while self.ledger().acknowledged() < enough {
            if begun.elapsed() > RESUME_LIMIT {
                return Err(TourError::Unexpected(format!("no {more} commits within {} s", RESUME_LIMIT.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
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
}
