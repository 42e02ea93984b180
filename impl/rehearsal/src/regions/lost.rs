//! The named loss, compared with what clients remember.

use super::GlobalDemo;
use crate::bank::ledger::{Ledger, Outcome};
use crate::bank::verify::missing;
use crate::demo::region::name;
use crate::tour::{TourError, postgres};
use std::collections::BTreeSet;

/// The table that has a row for each transfer, as reports name it.
const LEDGER: &str = "public.ledger";

/// What a failover has lost, by the clients' ledger.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Missing {
    /// How many commits.
    pub commits: usize,
    /// Their transactions' numbers, in the lineage that was left.
    pub xids: BTreeSet<i64>,
    /// Transactions that clients do not know the outcome of.
    pub in_doubt: usize,
}

impl GlobalDemo {
    /// Finds the acknowledged commits that the primary does not have, and has the ledger take them for lost. The one that
    /// lost them must not acknowledge any more.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub fn take_missing(&self, primary: u16, ledger: &Ledger) -> Result<Missing, TourError> {
        let before = ledger.outcomes();
        let asked = missing(self.postgres(primary), &before);
        let lost = self.runtime().block_on(asked).map_err(postgres("asking the new primary what it has"))?;
        let in_doubt = before.iter().flatten().filter(|outcome| **outcome == Outcome::InDoubt).count();
        Ok(Missing { commits: lost.len(), xids: ledger.lose(&lost), in_doubt })
    }

    /// Waits until `region` names what it lost, another suffix than `before`, and compares that with what is missing.
    /// Returns what a person is told.
    ///
    /// # Errors
    /// It does not name it in time, or names something else.
    pub fn compare_lost(
        &self,
        region: u16,
        before: &serde_json::Value,
        missing: &Missing,
    ) -> Result<Vec<String>, TourError> {
        let named = self.wait_for(&format!("lost suffix that {} names", name(region)), || {
            let named = self.lost(region).ok()?;
            (!named.is_null() && named["name"] != before["name"]).then_some(named)
        })?;
        let suffix = named["name"].as_str().unwrap_or_default().to_owned();
        if named["kept"] != true {
            return Err(TourError::Unexpected(format!("{suffix} is not kept: {named}")));
        }
        let changes = named["amount"]["mini_transactions"].as_u64().unwrap_or_default();
        // Commits that are made durable together may be one mini-transaction.
        if changes == 0 && missing.commits > 0 {
            let text = format!("{} commits are missing, and {suffix} holds nothing", missing.commits);
            return Err(TourError::Unexpected(text));
        }
        let listed = listed(&named);
        if let Some(xid) = missing.xids.iter().find(|xid| !listed.contains(&short(**xid))) {
            return Err(TourError::Unexpected(format!(
                "transaction {xid} is missing, and is not among what {suffix} lists"
            )));
        }
        // The other direction: a transfer that is listed is missing, or was on its way when its connection broke.
        let lost: BTreeSet<u32> = missing.xids.iter().map(|xid| short(*xid)).collect();
        let unknown: Vec<u32> = transfers(&named).difference(&lost).copied().collect();
        if unknown.len() > missing.in_doubt {
            return Err(TourError::Unexpected(format!(
                "{suffix} lists {} transfers that clients do not miss, and they are in doubt of {}: {unknown:?}",
                unknown.len(),
                missing.in_doubt
            )));
        }
        Ok(vec![format!(
            "{suffix} is named: {changes} mini-transactions, {} bytes, {} commits, among which the {} are that clients miss",
            named["amount"]["bytes"],
            listed.len(),
            missing.commits
        )])
    }
}

/// The transactions that a report of a lost suffix lists.
fn listed(named: &serde_json::Value) -> BTreeSet<u32> {
    let commits = named["commits"].as_array().into_iter().flatten();
    commits.filter_map(|commit| commit["xid"].as_u64()?.try_into().ok()).collect()
}

/// Those of them that are a transfer.
fn transfers(named: &serde_json::Value) -> BTreeSet<u32> {
    let commits = named["commits"].as_array().into_iter().flatten();
    let is_transfer = |commit: &&serde_json::Value| {
        let tables = commit["tables"].as_array().into_iter().flatten();
        tables.into_iter().any(|table| table["name"] == LEDGER)
    };
    commits.filter(is_transfer).filter_map(|commit| commit["xid"].as_u64()?.try_into().ok()).collect()
}

/// A transaction's number as its commit record has it: without the epoch.
fn short(xid: i64) -> u32 {
    xid as u32
}
