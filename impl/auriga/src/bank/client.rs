//! One client of the bank.

use super::ledger::Outcome;
use super::{ACCOUNTS, Shared};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_postgres::error::Severity;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Pause before trying the next server.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

const TRANSFER: &str = "with moved as (
    update bank set balance = balance + case account when $1::int then -$3::bigint else $3::bigint end
    where account in ($1::int, $2::int))
  insert into ledger (client, seq, debit, credit, amount) values ($4::int, $5::bigint, $1, $2, $3)";

/// What a server says of its own accord (warnings, mostly): the last of it.
pub type LastNotice = Arc<Mutex<Option<String>>>;

/// Connects as the superuser.
///
/// # Errors
/// PostgreSQL's, or the network's.
pub async fn connect(server: SocketAddr) -> Result<Client, tokio_postgres::Error> {
    connect_listening(server).await.map(|(client, _)| client)
}

/// The same, and keeps the last notice: a server that stops at once says why in one.
///
/// # Errors
/// PostgreSQL's, or the network's.
pub async fn connect_listening(server: SocketAddr) -> Result<(Client, LastNotice), tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host(server.ip().to_string()).port(server.port()).user("postgres").dbname("postgres");
    config.connect_timeout(CONNECT_LIMIT);
    let (client, mut connection) = config.connect(NoTls).await?;
    let notice = LastNotice::default();
    let noticed = notice.clone();
    tokio::spawn(async move {
        // The error that ends it, if any, is also what the client's next statement gets.
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(text) = message {
                let text = format!("{}: {} ({})", text.severity(), text.message(), text.code().code());
                *noticed.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
            }
        }
    });
    Ok((client, notice))
}

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
    while !shared.stop.load(Ordering::SeqCst) {
        let debit = random.i32(1..=ACCOUNTS);
        let credit = debit % ACCOUNTS + 1;
        let amount = random.i64(1..=10);
        let seq = shared.ledger.begin(number);
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&debit, &credit, &amount, &(number as i32), &seq];
        match client.execute(&statement, &parameters).await {
            Ok(_) => shared.ledger.end(number, seq, Outcome::Acknowledged),
            Err(error) => {
                shared.ledger.error(&told(&error));
                if !is_rolled_back(&error) {
                    return;
                }
                shared.ledger.end(number, seq, Outcome::Refused);
            }
        }
    }
}

/// Whether the server said that the transaction was rolled back and the session goes on. After a FATAL or a PANIC
/// nobody knows whether the commit record was durable.
fn is_rolled_back(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|e| e.parsed_severity() == Some(Severity::Error))
}

/// An error as a person should see it.
pub fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{}: {} ({})", error.severity(), error.message(), error.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
