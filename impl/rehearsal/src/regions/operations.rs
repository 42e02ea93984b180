//! What is done to a global database, as a person does it with the commands, and what is waited for afterwards.

use super::GlobalDemo;
use crate::bank::ledger::Ledger;
use crate::bank::verify::Verdict;
use crate::demo::control::Action;
use crate::demo::region::name;
use crate::instances::verify_reader;
use crate::tour::{TourError, postgres};
use auriga_admin::postgres::connect;
use auriga_instance::node::InstanceRole;
use auriga_protocol::Lsn;
use auriga_protocol::global::{Operation, Outcome, RegionRole};
use auriga_region::controller;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a change of roles may take, and what follows from it.
const LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked whether something has come about.
const PAUSE: Duration = Duration::from_millis(20);

impl GlobalDemo {
    /// Carries an operation out, asked for from within a region.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn operate(&self, within: u16, operation: Operation) -> Result<Outcome, TourError> {
        let unexpected = |why: String| TourError::Unexpected(format!("{operation:?}: {why}"));
        let link = self.layout().within(within).map_err(|error| unexpected(error.to_string()))?;
        let deadline = tokio::time::Instant::now() + LIMIT;
        let run = async { controller::run(&link, operation, deadline).await };
        self.runtime().block_on(run).map_err(|error| unexpected(error.to_string()))
    }

    /// Waits until `look` finds something.
    ///
    /// # Errors
    /// It does not in time; `what` is said then.
    pub fn wait_for<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> Result<T, TourError> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                let standings = self.watcher().standings();
                let text = format!("no {what} within {} s; regions stand at {standings:?}", LIMIT.as_secs());
                return Err(TourError::Unexpected(text));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until every other region follows `primary`, and has what that has now. Answers how long it took.
    ///
    /// # Errors
    /// They do not in time.
    pub fn wait_until_followed(&self, primary: u16) -> Result<Duration, TourError> {
        let begun = Instant::now();
        let leads = || {
            let standing = self.watcher().standings().remove(&primary)?;
            (self.watcher().primary() == Some(primary)).then_some(standing)
        };
        let target: Lsn = self.wait_for(&format!("answer of {} as the primary", name(primary)), leads)?.durable;
        let others: Vec<u16> = self.layout().numbers().filter(|number| *number != primary).collect();
        self.wait_for(&format!("other region that follows {} through {target}", name(primary)), || {
            let (leads, standings) = (leads()?, self.watcher().standings());
            let follows = |number: &u16| {
                standings.get(number).is_some_and(|standing| {
                    let same = standing.tip.global_epoch == leads.tip.global_epoch;
                    same && standing.role == RegionRole::Secondary && standing.durable >= target
                })
            };
            others.iter().all(follows).then(|| begun.elapsed())
        })
    }

    /// Waits until the instance of a region does not write any more.
    ///
    /// # Errors
    /// It goes on.
    pub fn wait_until_fenced(&self, number: u16) -> Result<(), TourError> {
        let region = self.region(number);
        let admin = region.layout().admin_address(0);
        self.wait_for(&format!("instance of {} that was fenced", name(number)), || {
            let asked = auriga_admin::instance::status(admin, region.access(), auriga_admin::instance::PATIENCE);
            let status = region.runtime().block_on(asked).ok()?;
            (status.role == InstanceRole::Reader).then_some(())
        })
    }

    /// Compares the instance of a secondary with what clients remember, once it shows what the primary has now.
    ///
    /// # Errors
    /// PostgreSQL's, or it lets no client in.
    pub fn verify_secondary(&self, primary: u16, number: u16, ledger: &Ledger) -> Result<Verdict, TourError> {
        let (writer, reader) = (self.postgres(primary), self.postgres(number));
        self.wait_for(&format!("instance of {} that reads", name(number)), || {
            let asked = async { connect(reader).await.ok()?.query_one("select pg_is_in_recovery()", &[]).await.ok() };
            self.runtime().block_on(asked).filter(|row| row.get(0))
        })?;
        let compared = verify_reader(writer, reader, ledger);
        self.runtime().block_on(compared).map_err(postgres("comparing a secondary with the clients' ledger"))
    }

    /// SIGKILL to every process of a region.
    pub fn kill(&self, number: u16) {
        self.region(number).members().kill_all();
    }

    /// Starts every process of a region that was killed.
    ///
    /// # Errors
    /// One does not start.
    pub fn restart(&self, number: u16) -> Result<(), TourError> {
        self.region(number).members().inject("all", Action::Restart, 0)?;
        Ok(())
    }

    /// What the last failover lost of a region, as `auriga global lost --json` says it.
    ///
    /// # Errors
    /// The command fails.
    pub fn lost(&self, number: u16) -> Result<serde_json::Value, TourError> {
        let unexpected = |why: String| TourError::Unexpected(format!("auriga global lost: {why}"));
        let config = self.region(number).layout().dir.join("config").join(format!("{}.toml", name(number)));
        let program = std::env::current_exe().map_err(|error| unexpected(error.to_string()))?;
        let mut command = Command::new(program);
        command.args(["global", "lost", "--json", "--config"]).arg(config).stdin(Stdio::null());
        let output = command.output().map_err(|error| unexpected(error.to_string()))?;
        if !output.status.success() {
            return Err(unexpected(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| unexpected(error.to_string()))
    }
}
