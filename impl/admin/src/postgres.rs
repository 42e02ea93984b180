//! Connections to a cluster's PostgreSQL, as the superuser.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// How long a connection may take to be made.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(2);

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
