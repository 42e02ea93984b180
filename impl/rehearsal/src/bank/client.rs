//! One client of the bank.

use super::ledger::Outcome;
use super::{ACCOUNTS, Shared};
use auriga_admin::postgres::{CONNECT_LIMIT, connect, told};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::{Severity, SqlState};

/// Pause before trying the next server.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

const TRANSFER: &str = "with moved as (
    update bank set balance = balance + case account when $1::int then -$3::bigint else $3::bigint end
    where account in ($1::int, $2::int))
  insert into ledger (client, seq, debit, credit, amount) values ($4::int, $5::bigint, $1, $2, $3)
  returning pg_current_xact_id()::text::bigint";

/// Transfers money until told to stop.
pub(super) async fn run(shared: Arc<Shared>, number: usize, mut random: fastrand::Rng) {
    while !shared.stop.load(Ordering::SeqCst) {
        match connect_any(&shared).await {
            Some(client) => transfer_until_broken(&shared, number, &client, &mut random).await,
            None => tokio::time::sleep(RETRY_PAUSE).await,
        }
    }
}

async fn connect_any(shared: &Shared) -> Option<Client> {
    let servers = shared.servers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for server in servers {
        // A frozen server accepts (its kernel does) and never answers.
        match tokio::time::timeout(CONNECT_LIMIT, connect(server)).await {
            Ok(Ok(client)) => return Some(client),
            Ok(Err(error)) => tracing::debug!(%server, %error, "no connection"),
            Err(_) => tracing::debug!(%server, "no connection in time"),
        }
    }
    None
}

async fn transfer_until_broken(shared: &Shared, number: usize, client: &Client, random: &mut fastrand::Rng) {
    let Ok(statement) = client.prepare(TRANSFER).await else { return };
    let moves = shared.moves.load(Ordering::SeqCst);
    while !shared.stop.load(Ordering::SeqCst) && shared.moves.load(Ordering::SeqCst) == moves {
        let debit = random.i32(1..=ACCOUNTS);
        let credit = debit % ACCOUNTS + 1;
        let amount = random.i64(1..=10);
        let seq = shared.ledger.begin(number);
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&debit, &credit, &amount, &(number as i32), &seq];
        match client.query_one(&statement, &parameters).await {
            Ok(row) => shared.ledger.acknowledge(number, seq, row.get(0)),
            Err(error) => {
                shared.ledger.error(&told(&error));
                if !is_rolled_back(&error) {
                    return;
                }
                shared.ledger.end(number, seq, Outcome::Refused);
                if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
                    // Its region or its volume has another writer.
                    tokio::time::sleep(RETRY_PAUSE).await;
                    return;
                }
            }
        }
    }
}

/// Whether the server said that the transaction was rolled back and the session goes on. After a FATAL or a PANIC
/// it is not known whether the commit record was durable; nor where the server says that it does not know.
fn is_rolled_back(error: &tokio_postgres::Error) -> bool {
    let is_known = error.code() != Some(&SqlState::TRANSACTION_RESOLUTION_UNKNOWN);
    is_known && error.as_db_error().is_some_and(|e| e.parsed_severity() == Some(Severity::Error))
}
