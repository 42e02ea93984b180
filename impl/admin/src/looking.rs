//! Looking at instances again and again: whether one answers, and what it says.

use auriga_http::{Client, HttpError, Method};
use auriga_instance::health::Phase;
use auriga_instance::node::InstanceStatus;
use auriga_net::admin::Access;
use auriga_net::tls::CertifiedRole;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Where an instance answers questions about itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceAddress {
    /// Its name.
    pub name: String,
    /// Its admin port.
    pub admin: SocketAddr,
    /// Of two instances of the same promotion tier, the larger one takes over. Any measure will do: gigabytes of
    /// memory, say.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
}

fn is_zero(size: &u64) -> bool {
    *size == 0
}

/// Whether an instance's PostgreSQL lets clients in. A standby may serve before its replay is where they may come.
pub fn lets_clients_in(status: &InstanceStatus) -> bool {
    status.health.phase == Phase::Ready && status.reader.is_none_or(|reader| reader.lets_clients_in)
}

/// What came of a look.
#[derive(Debug)]
pub enum Looked {
    /// It answered.
    Answered(Box<InstanceStatus>),
    /// Its host is up, and nothing listens there.
    Refused,
    /// Something else came, or nothing in time: why, for a person.
    Silent(String),
}

/// Looks at one instance, over a connection that is kept.
pub struct Looker {
    client: Client,
}

impl Looker {
    /// One who looks at the instance whose admin port this is.
    pub fn new(admin: SocketAddr, access: &Access) -> Looker {
        Looker { client: Client::new(admin, access, CertifiedRole::Instance) }
    }

    /// Looks once, for at most `patience`.
    pub async fn look(&mut self, patience: Duration) -> Looked {
        let deadline = Instant::now() + patience;
        let first = self.ask(patience).await;
        // A connection that was kept has broken: whether the instance is still there is seen by dialling it.
        let last = match first {
            Err(HttpError::Broken { .. }) => self.ask(deadline.saturating_duration_since(Instant::now())).await,
            first => first,
        };
        match last {
            Ok(status) => Looked::Answered(status),
            Err(HttpError::Unreachable { source, .. })
                if matches!(source.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) =>
            {
                Looked::Refused
            }
            Err(error) => Looked::Silent(error.to_string()),
        }
    }

    async fn ask(&mut self, patience: Duration) -> Result<Box<InstanceStatus>, HttpError> {
        self.client.ask(Method::GET, "/status", None::<&()>, patience).await
    }
}
