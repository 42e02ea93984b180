//! Copies are away for a while under a bulk load, and come back: how long does a commit wait?
//!
//! Beside the bank's clients one connection loads, and one commits a row at a time and takes the time of each. A round
//! fails when a commit waits longer than [`WAIT_LIMIT`]; the figure to reach is [`WAIT_GOAL`].

use super::{Rehearsal, STORAGE};
use crate::tour::{TourError, postgres};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// No commit waits longer while copies are away or come back.
const WAIT_LIMIT: Duration = Duration::from_secs(10);
/// What a commit is meant to wait at most.
const WAIT_GOAL: Duration = Duration::from_secs(1);
/// How long a zone is away.
const ZONE_AWAY: Duration = Duration::from_secs(10);
/// How long a process is away in a rolling restart, and how long all are there before the next goes.
const PROCESS_AWAY: Duration = Duration::from_secs(3);
/// The load goes on for so long after the last copy has come back.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// Upper ends of the histogram's classes, in milliseconds.
const CLASSES: [u128; 6] = [10, 30, 100, 300, 1000, 3000];

impl Rehearsal<'_> {
    /// An Availability Zone goes away under load and comes back.
    pub(super) fn heal_zone(&mut self) -> Result<String, TourError> {
        let zone = self.random.usize(..STORAGE.len() / 2);
        let names = &STORAGE[2 * zone..2 * zone + 2];
        let waited = self.under_load(|rehearsal| {
            names.iter().try_for_each(|name| rehearsal.demo.cluster().0.kill(name))?;
            std::thread::sleep(ZONE_AWAY);
            names.iter().try_for_each(|name| rehearsal.demo.start(name).map(drop))?;
            Ok(())
        })?;
        Ok(format!("{} away; {waited}", names.join(" ")))
    }

    /// Every storage process is killed and started again, one after the other, under load.
    pub(super) fn restart_rolling(&mut self) -> Result<String, TourError> {
        let waited = self.under_load(|rehearsal| {
            for name in STORAGE {
                rehearsal.demo.cluster().0.kill(name)?;
                std::thread::sleep(PROCESS_AWAY);
                rehearsal.demo.start(name)?;
                std::thread::sleep(PROCESS_AWAY);
            }
            Ok(())
        })?;
        Ok(format!("rolling restart; {waited}"))
    }

    /// Does `trouble` while load and probe run; returns how long commits waited, once every copy has caught up.
    fn under_load(&self, trouble: impl FnOnce(&Self) -> Result<(), TourError>) -> Result<String, TourError> {
        let runtime = self.demo.runtime();
        let (stop, stopped) = watch::channel(false);
        let loading = runtime.spawn(load(self.server, stopped.clone()));
        let probing = runtime.spawn(probe(self.server, stopped));
        std::thread::sleep(PROCESS_AWAY);
        let done = trouble(self);
        std::thread::sleep(AFTERWARDS);
        stop.send_replace(true);
        let unexpected = |what: &str| TourError::Unexpected(format!("the {what} was cut short"));
        runtime.block_on(loading).map_err(|_| unexpected("load"))?.map_err(postgres("loading"))?;
        let waits = runtime.block_on(probing).map_err(|_| unexpected("probe"))?.map_err(postgres("committing"))?;
        done?;
        self.wait_until_caught_up()?;
        let longest = waits.iter().max().copied().unwrap_or_default();
        println!("          commits by wait: {}", histogram(&waits));
        if longest > WAIT_LIMIT {
            return Err(TourError::Unexpected(format!("a commit waited {} ms", longest.as_millis())));
        }
        Ok(format!("longest wait {} ms (goal {})", longest.as_millis(), WAIT_GOAL.as_millis()))
    }
}

/// Writes about 20 MB with each statement, until it is stopped.
async fn load(server: SocketAddr, stopped: watch::Receiver<bool>) -> Result<(), tokio_postgres::Error> {
    let client = auriga_admin::postgres::connect(server).await?;
    client.batch_execute("drop table if exists bulk; create table bulk (number int, content text)").await?;
    while !*stopped.borrow() {
        client
            .batch_execute(
                "insert into bulk select n, repeat(md5(n::text), 10) from generate_series(1, 60000) n;
                 update bulk set number = number + 1 where number % 50 = 0",
            )
            .await?;
    }
    Ok(())
}

/// Commits one row at a time until it is stopped; returns how long each took.
async fn probe(server: SocketAddr, stopped: watch::Receiver<bool>) -> Result<Vec<Duration>, tokio_postgres::Error> {
    let client = auriga_admin::postgres::connect(server).await?;
    client.batch_execute("drop table if exists probe; create table probe (at timestamptz)").await?;
    let mut waits = Vec::new();
    while !*stopped.borrow() {
        let begun = Instant::now();
        client.batch_execute("insert into probe values (now())").await?;
        waits.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(waits)
}

/// How many waits are in each class.
fn histogram(waits: &[Duration]) -> String {
    let mut from = 0;
    let mut shown = Vec::new();
    for to in CLASSES.into_iter().chain([u128::MAX]) {
        let count = waits.iter().filter(|wait| (from..to).contains(&wait.as_millis())).count();
        let class = if to == u128::MAX { format!("more {count}") } else { format!("< {to} ms {count}") };
        shown.push(class);
        from = to;
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wait_is_in_one_class() {
        let waits = [0, 9, 10, 999, 1000, 60_000].map(Duration::from_millis);
        assert_eq!(histogram(&waits), "< 10 ms 2, < 30 ms 1, < 100 ms 0, < 300 ms 0, < 1000 ms 1, < 3000 ms 1, more 1");
    }
}
