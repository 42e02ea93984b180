//! The writer is lost in one of several ways, and another instance takes over, while clients know one address only.

use super::{Rehearsal, STORAGE};
use crate::bank::verify::{Verdict, verify_from};
use crate::demo::layout::Layout;
use crate::tour::{TourError, postgres};
use auriga_admin::postgres::connect;
use auriga_control::client;
use auriga_control::serve::ClusterShown;
use auriga_instance::node::InstanceRole;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Readers of the demo.
pub const READERS: u8 = 2;
/// The cluster is whole again within this time.
const WHOLE_LIMIT: Duration = Duration::from_secs(120);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// What happens to the writer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// SIGKILL; its directory is deleted.
    Kill,
    /// SIGSTOP, until another one writes.
    Freeze,
    /// SIGKILL, together with both storage processes of its Availability Zone.
    Zone,
    /// Somebody asks for it.
    Planned,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Kill, Kind::Freeze, Kind::Zone, Kind::Planned];
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Kind::Kill => "writer killed",
            Kind::Freeze => "writer frozen",
            Kind::Zone => "writer's AZ lost",
            Kind::Planned => "asked for",
        })
    }
}

/// How long clients waited, by what had happened.
#[derive(Debug, Default)]
pub struct Waits(BTreeMap<Kind, Vec<Duration>>);

impl Waits {
    fn note(&mut self, kind: Kind, wait: Duration) {
        self.0.entry(kind).or_default().push(wait);
    }

    /// Shows them, where there are any.
    pub fn show(&mut self) {
        if self.0.is_empty() {
            return;
        }
        println!("{:<20}{:>8}{:>12}{:>12}{:>12}", "no commit for", "rounds", "p50", "p99", "most");
        for (kind, waits) in &mut self.0 {
            waits.sort();
            let at = |share: usize| waits[(waits.len() * share).div_ceil(100).saturating_sub(1)].as_millis();
            let shown = [at(50), at(99), at(100)].map(|wait| format!("{wait} ms"));
            println!("{:<20}{:>8}{:>12}{:>12}{:>12}", kind.to_string(), waits.len(), shown[0], shown[1], shown[2]);
        }
    }
}

impl Rehearsal<'_> {
    /// One failover, and everything whole again afterwards.
    pub(super) fn fail_over(&mut self, round: u32) -> Result<String, TourError> {
        // Each kind equally often, in another order each time.
        if (round - 1).is_multiple_of(Kind::ALL.len() as u32) {
            self.kinds = Kind::ALL.to_vec();
            self.random.shuffle(&mut self.kinds);
        }
        let kind = self.kinds.pop().unwrap_or(Kind::Kill);
        let before = self.whole()?;
        self.bank.ledger().take_observations();
        match kind {
            Kind::Kill => self.demo.cluster().0.kill(&before)?,
            Kind::Freeze => self.demo.cluster().0.process(&before)?.freeze(),
            Kind::Zone => self.zone_of(&before).iter().try_for_each(|name| self.demo.cluster().0.kill(name))?,
            Kind::Planned => {
                let (control, access) = (self.demo.layout().control_address(), self.demo.access());
                let asked = self.demo.runtime().block_on(client::failover(control, access, None));
                asked.map_err(|error| TourError::Unexpected(format!("a planned failover: {error}")))?;
            }
        }
        let after = self.wait_for("another writer", |cluster| {
            let writer = cluster.writer.clone().filter(|writer| *writer != before)?;
            cluster.instances.iter().any(|instance| instance.name == writer && instance.is_ready).then_some(writer)
        })?;
        self.wait_for_commits()?;
        let (wait, _) = self.bank.ledger().take_observations();
        self.waits.note(kind, wait);
        match kind {
            Kind::Kill => self.demo.start(&before)?,
            Kind::Freeze => self.demo.cluster().0.process(&before)?.resume(),
            Kind::Zone => self.zone_of(&before).iter().try_for_each(|name| self.demo.start(name))?,
            Kind::Planned => {}
        }
        self.whole()?;
        Ok(format!("{kind}: {before} to {after}, {} ms without a commit", wait.as_millis()))
    }

    /// Both storage processes of an instance's Availability Zone, and the instance.
    fn zone_of(&self, instance: &str) -> Vec<String> {
        let number = (0..=READERS).find(|number| Layout::instance_name(*number) == instance).unwrap_or(0);
        let az = Layout::instance_az(number);
        let storage = STORAGE.iter().filter(|name| Layout::az(name) == az).map(|name| (*name).to_owned());
        storage.chain([instance.to_owned()]).collect()
    }

    /// Waits until one writes, all others follow it, and no failover is under way. Returns who writes.
    fn whole(&self) -> Result<String, TourError> {
        self.wait_for("one writer and its readers", |cluster| {
            let writer = cluster.writer.clone()?;
            let is_well = |name: &str, answers, is_ready, role| {
                let wanted = if name == writer { InstanceRole::Writer } else { InstanceRole::Reader };
                answers && is_ready && role == Some(wanted)
            };
            let mut instances = cluster.instances.iter();
            let all = instances.all(|i| is_well(&i.name, i.answers, i.is_ready, i.role));
            (all && cluster.failover_to.is_none()).then_some(writer)
        })
    }

    fn wait_for<T>(&self, what: &str, found: impl Fn(&ClusterShown) -> Option<T>) -> Result<T, TourError> {
        let deadline = Instant::now() + WHOLE_LIMIT;
        let (control, access) = (self.demo.layout().control_address(), self.demo.access());
        loop {
            let last = self.demo.runtime().block_on(client::cluster(control, access));
            if let Some(found) = last.as_ref().ok().and_then(&found) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                let text = format!("no {what} within {} s; the controller says: {last:?}", WHOLE_LIMIT.as_secs());
                return Err(TourError::Unexpected(text));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Compares each reader with what the clients remember, once it shows what the writer has now.
    pub(super) fn verify_readers(&self) -> Result<Verdict, TourError> {
        let mut worst = Verdict::default();
        let writer = self.whole()?;
        for number in (0..=READERS).filter(|number| Layout::instance_name(*number) != writer) {
            let reader = self.demo.postgres(number);
            let compared = self.demo.runtime().block_on(self.verify_reader(reader));
            let verdict = compared.map_err(postgres("comparing a reader with the clients' ledger"))?;
            worst.lost += verdict.lost;
            worst.unexplained += verdict.unexplained;
            worst.wrong_balances += verdict.wrong_balances;
        }
        Ok(worst)
    }

    async fn verify_reader(&self, reader: SocketAddr) -> Result<Verdict, tokio_postgres::Error> {
        let before = self.bank.ledger().outcomes();
        let row = connect(self.server).await?.query_one("select pg_current_wal_lsn()::text", &[]).await?;
        let lsn: String = row.get(0);
        let client = connect(reader).await?;
        let deadline = Instant::now() + WHOLE_LIMIT;
        let replayed = "select coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)";
        // One that never gets there is found out by the comparison.
        while !client.query_one(replayed, &[&lsn]).await?.get::<_, bool>(0) && Instant::now() < deadline {
            tokio::time::sleep(PAUSE).await;
        }
        verify_from(reader, self.bank.ledger(), &before).await
    }
}
