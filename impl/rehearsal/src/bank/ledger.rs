//! What the clients remember, outside of the database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Different error texts that are kept; further ones are counted together.
const ERRORS_MAX: usize = 32;

/// What a client knows of one of its transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// No answer, or not yet.
    InDoubt,
    /// Committed, said the server.
    Acknowledged,
    /// Rolled back, said the server.
    Refused,
    /// Committed, said the server, in a lineage that has been left: a failover between regions has lost it.
    Lost,
}

/// What every client knows of every transaction: `[client][sequence number]`.
pub type Outcomes = Vec<Vec<Outcome>>;

/// The clients' memory.
#[derive(Debug)]
pub struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    outcomes: Outcomes,
    /// The transaction's number, of each that was acknowledged: by client and sequence number.
    xids: BTreeMap<(usize, usize), i64>,
    acknowledged: u64,
    last_acknowledged: Instant,
    longest_wait: Duration,
    errors: BTreeMap<String, u64>,
}

impl Ledger {
    /// For this many clients.
    pub fn new(clients: usize) -> Ledger {
        Ledger {
            inner: Mutex::new(Inner {
                outcomes: vec![Vec::new(); clients],
                xids: BTreeMap::new(),
                acknowledged: 0,
                last_acknowledged: Instant::now(),
                longest_wait: Duration::ZERO,
                errors: BTreeMap::new(),
            }),
        }
    }

    /// Gives out a client's next sequence number, in doubt until the outcome is known.
    pub fn begin(&self, client: usize) -> i64 {
        let outcomes = &mut self.lock().outcomes[client];
        outcomes.push(Outcome::InDoubt);
        (outcomes.len() - 1) as i64
    }

    /// The outcome is known.
    pub fn end(&self, client: usize, seq: i64, outcome: Outcome) {
        let mut inner = self.lock();
        inner.outcomes[client][seq as usize] = outcome;
        if outcome == Outcome::Acknowledged {
            inner.note_wait();
            inner.acknowledged += 1;
            inner.last_acknowledged = Instant::now();
        }
    }

    /// A transaction was acknowledged, and had this number.
    pub fn acknowledge(&self, client: usize, seq: i64, xid: i64) {
        self.end(client, seq, Outcome::Acknowledged);
        self.lock().xids.insert((client, seq as usize), xid);
    }

    /// These were acknowledged, and are lost by a failover that says so. Returns their numbers.
    pub fn lose(&self, lost: &[(usize, usize)]) -> BTreeSet<i64> {
        let mut inner = self.lock();
        for (client, seq) in lost {
            inner.outcomes[*client][*seq] = Outcome::Lost;
        }
        lost.iter().filter_map(|which| inner.xids.get(which).copied()).collect()
    }

    /// A client was told this.
    pub fn error(&self, text: &str) {
        let errors = &mut self.lock().errors;
        let key = match errors.contains_key(text) || errors.len() < ERRORS_MAX {
            true => text,
            false => "(other errors)",
        };
        *errors.entry(key.to_owned()).or_default() += 1;
    }

    /// Commits acknowledged so far, to all clients.
    pub fn acknowledged(&self) -> u64 {
        self.lock().acknowledged
    }

    /// Takes the longest time without any acknowledgement since this was last asked, and what clients were told.
    pub fn take_observations(&self) -> (Duration, BTreeMap<String, u64>) {
        let mut inner = self.lock();
        inner.note_wait();
        (std::mem::take(&mut inner.longest_wait), std::mem::take(&mut inner.errors))
    }

    /// A copy of everything.
    pub fn outcomes(&self) -> Outcomes {
        self.lock().outcomes.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn note_wait(&mut self) {
        self.longest_wait = self.longest_wait.max(self.last_acknowledged.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_in_doubt_until_its_outcome_is_known() {
        let ledger = Ledger::new(2);
        let seq = ledger.begin(1);
        assert_eq!(ledger.outcomes()[1], [Outcome::InDoubt]);
        ledger.end(1, seq, Outcome::Acknowledged);
        assert_eq!(ledger.outcomes(), [vec![], vec![Outcome::Acknowledged]]);
        assert_eq!(ledger.acknowledged(), 1);
    }

    #[test]
    fn the_number_of_different_errors_kept_is_bounded() {
        let ledger = Ledger::new(1);
        for n in 0..ERRORS_MAX + 10 {
            ledger.error(&n.to_string());
        }
        let (_, errors) = ledger.take_observations();
        assert_eq!(errors.len(), ERRORS_MAX + 1);
        assert_eq!(errors["(other errors)"], 10);
    }
}
