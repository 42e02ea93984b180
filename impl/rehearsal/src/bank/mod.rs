//! Clients that transfer money and remember every commit that was acknowledged to them.
//!
//! Each transfer is one transaction: two balances change and one row is added to the table `ledger`, which names the
//! client and its sequence number. The clients keep their own ledger, outside of the database:
//!
//! | outcome | when | what the database must show |
//! |---|---|---|
//! | acknowledged | the server said so | the row is there, permanently |
//! | refused | an SQL error: the transaction was rolled back | the row is not there |
//! | lost | acknowledged, in a lineage that a failover between regions has left | the row is not there |
//! | in doubt | the connection broke before an answer | either |
//!
//! [`verify`](verify::verify) compares the two, and checks that every balance is what the ledger's rows make it.

pub mod client;
pub mod ledger;
pub mod verify;

use ledger::Ledger;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::task::JoinHandle;

/// Accounts in the bank.
pub const ACCOUNTS: i32 = 1000;
/// What each begins with.
pub const INITIAL_BALANCE: i64 = 1000;

/// A bank under load.
pub struct Bank {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the clients share.
pub(crate) struct Shared {
    pub(crate) servers: Mutex<Vec<SocketAddr>>,
    /// How often clients were told to connect anew.
    pub(crate) moves: AtomicU64,
    pub(crate) stop: AtomicBool,
    pub(crate) ledger: Ledger,
}

impl Bank {
    /// Creates the tables on `server`.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn create(server: SocketAddr) -> Result<(), tokio_postgres::Error> {
        let client = auriga_admin::postgres::connect(server).await?;
        client
            .batch_execute(&format!(
                "create table bank (account int primary key, balance bigint not null);
                 create table ledger (client int, seq bigint, debit int not null, credit int not null,
                                      amount bigint not null, primary key (client, seq));
                 insert into bank select n, {INITIAL_BALANCE} from generate_series(1, {ACCOUNTS}) n;"
            ))
            .await
    }

    /// Starts `clients` of them against the first of `servers` that answers. Must be called within a tokio runtime.
    pub fn open(servers: Vec<SocketAddr>, clients: usize, seed: u64) -> Bank {
        let shared = Arc::new(Shared {
            servers: Mutex::new(servers),
            moves: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            ledger: Ledger::new(clients),
        });
        let tasks = (0..clients)
            .map(|number| {
                let random = fastrand::Rng::with_seed(seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                tokio::spawn(client::run(shared.clone(), number, random))
            })
            .collect();
        Bank { shared, tasks }
    }

    /// What the clients remember.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Where clients connect from now on, in order of preference.
    pub fn set_servers(&self, servers: Vec<SocketAddr>) {
        *self.shared.servers.lock().unwrap_or_else(PoisonError::into_inner) = servers;
    }

    /// The same, and has clients leave where they are, each after its current transaction.
    pub fn move_to(&self, servers: Vec<SocketAddr>) {
        self.set_servers(servers);
        self.shared.moves.fetch_add(1, Ordering::SeqCst);
    }

    /// Stops the clients, each after its current transaction. One that gets no answer is not waited for: its last
    /// transaction stays in doubt.
    pub async fn close(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for task in self.tasks.drain(..) {
            let abort = task.abort_handle();
            if tokio::time::timeout(std::time::Duration::from_secs(5), task).await.is_err() {
                abort.abort();
            }
        }
    }
}
