//! Forwarded writes in a secondary, in each consistency mode.

use super::GlobalDemo;
use crate::demo::region::name;
use crate::tour::{TourError, postgres};
use auriga_admin::postgres::connect;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Error};

/// Writes in each mode.
const WRITES: i64 = 10;

/// Times of writes, and of the reads after them.
#[derive(Default)]
struct Times {
    writes: Vec<Duration>,
    reads: Vec<Duration>,
}

impl Times {
    fn shown(mut self) -> String {
        let mut median = |times: fn(&mut Times) -> &mut Vec<Duration>| {
            let times = times(&mut self);
            times.sort_unstable();
            times.get(times.len() / 2).map_or(0, |time| time.as_millis())
        };
        let (write, read) = (median(|times| &mut times.writes), median(|times| &mut times.reads));
        format!("a write {write} ms, the read after it {read} ms")
    }
}

async fn count(client: &Client) -> Result<i64, Error> {
    Ok(client.query_one("select count(*) from forwarded", &[]).await?.get(0))
}

impl GlobalDemo {
    /// Writes through the gateway of a secondary, and reads there. Says what was seen.
    ///
    /// # Errors
    /// A mode does not keep what it promises, or PostgreSQL's.
    pub fn try_modes(&self, primary: u16, secondary: u16) -> Result<Vec<String>, TourError> {
        let tried = self.runtime().block_on(self.modes(primary, secondary));
        let (seen, wrong) = tried.map_err(postgres("forwarding writes"))?;
        match wrong {
            None => Ok(seen),
            Some(wrong) => Err(TourError::Unexpected(wrong)),
        }
    }

    async fn modes(&self, primary: u16, secondary: u16) -> Result<(Vec<String>, Option<String>), Error> {
        let writer = connect(self.postgres(primary)).await?;
        writer
            .batch_execute("create table if not exists forwarded (mode text, n bigint); delete from forwarded")
            .await?;
        let (client, mut seen, mut wrong) = (connect(self.forwarding(secondary)).await?, Vec::new(), None);
        let mut written = 0;
        for mode in ["global", "session", "eventual"] {
            client.batch_execute(&format!("set apg_write_forward.consistency_mode = '{mode}'")).await?;
            let (mut times, mut late) = (Times::default(), 0);
            for n in 0..WRITES {
                let begun = Instant::now();
                // In the mode `global` others' writes count, too.
                let by = if mode == "global" { &writer } else { &client };
                by.execute("insert into forwarded values ($1, $2)", &[&mode, &n]).await?;
                written += 1;
                times.writes.push(begun.elapsed());
                let begun = Instant::now();
                let found = count(&client).await?;
                times.reads.push(begun.elapsed());
                late += i64::from(found < written);
            }
            let promises = mode != "eventual";
            if promises && late > 0 {
                wrong = Some(format!("in the mode {mode}, {late} reads of {WRITES} lacked what was committed before"));
            }
            let lacked = if promises { String::new() } else { format!("; {late} of {WRITES} did not show it yet") };
            let whose = if mode == "global" { "written in the primary" } else { "forwarded" };
            seen.push(format!("{mode}: {whose}, {}{lacked}", times.shown()));
        }
        client.batch_execute("set apg_write_forward.consistency_mode = 'off'").await?;
        let refused = client.execute("insert into forwarded values ('off', 0)", &[]).await;
        match refused.as_ref().err().and_then(Error::code).map(|code| code.code()) {
            Some("25006") => seen.push(format!("off: {} refuses to write (25006)", name(secondary))),
            _ => wrong = Some(format!("in the mode off: {refused:?}")),
        }
        Ok((seen, wrong))
    }
}
