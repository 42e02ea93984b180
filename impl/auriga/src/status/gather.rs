//! Asks everyone for their numbers.

use auriga_admin::config::InstanceConfig;
use auriga_admin::member::{Described, Role, State};
use auriga_admin::postgres::connect;
use auriga_admin::{instance, storage, trust};
use auriga_instance::node::InstanceStatus;
use auriga_net::admin::{Access, NodeStatus};
#[cfg(feature = "rehearsal")]
use auriga_rehearsal::demo::control::{self, Ask, Reply};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
#[cfg(feature = "rehearsal")]
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where to look.
pub enum Where {
    /// A demo, in this directory.
    #[cfg(feature = "rehearsal")]
    Demo(PathBuf),
    /// A cluster whose roles were started by hand.
    Config(Box<InstanceConfig>),
}

/// Everything that is known.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Storage processes.
    pub storage: Vec<Storage>,
    /// Instances.
    pub instances: Vec<Instance>,
    /// Controllers, gateways, and a region's process.
    pub watchers: Vec<Described>,
    /// Over the time since the look before.
    pub rates: Option<Rates>,
    #[serde(skip)]
    at: Option<Instant>,
}

/// A storage process.
#[derive(Clone, Debug, Serialize)]
pub struct Storage {
    /// Who it is.
    pub member: Described,
    /// What it says; `None` when it doesn't answer.
    pub status: Option<NodeStatus>,
    /// Why it doesn't answer, where it should.
    pub silent_because: Option<String>,
}

/// An instance.
#[derive(Clone, Debug, Serialize)]
pub struct Instance {
    /// Who it is.
    pub member: Described,
    /// What it says; `None` when it doesn't answer.
    pub status: Option<InstanceStatus>,
    /// Transactions committed, over all databases, as PostgreSQL counts them (reading ones included).
    pub transactions: Option<i64>,
}

/// What happened between two looks, at the instance that serves.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    /// Transactions per second.
    pub transactions: f64,
    /// Bytes per second from the instance to all copies together.
    pub sent: f64,
    /// Bytes per transaction from the instance to all copies together; absent without transactions.
    pub sent_per_transaction: Option<f64>,
    /// Bytes per second of pages read from storage.
    pub pages_received: f64,
}

/// Looks around.
///
/// # Errors
/// The demo can't be asked. That a process is down is no error: it is what is shown.
pub async fn gather(place: &Where) -> std::io::Result<Report> {
    let (access, members) = match place {
        #[cfg(feature = "rehearsal")]
        Where::Demo(dir) => match control::ask(dir, &Ask::Describe)? {
            Reply::Described { layout, members } => (layout.access(), members),
            _ => return Err(std::io::Error::other("the demo answered something else")),
        },
        Where::Config(config) => (trust::access(&config.cluster, config.tls.as_ref()), members_of(config)),
    };
    let access = access.map_err(std::io::Error::other)?;
    let mut report = Report {
        storage: Vec::new(),
        instances: Vec::new(),
        watchers: Vec::new(),
        rates: None,
        at: Some(Instant::now()),
    };
    for member in members {
        let up = member.state == State::Up;
        match member.role {
            Role::Storage => {
                let (status, silent_because) = match up {
                    true => match storage::status(member.address, &access).await {
                        Ok(status) => (Some(status), None),
                        Err(error) => (None, Some(error.to_string())),
                    },
                    false => (None, None),
                };
                report.storage.push(Storage { member, status, silent_because });
            }
            Role::Instance => {
                let status = match up {
                    true => instance::status(member.address, &access, instance::PATIENCE).await.ok(),
                    false => None,
                };
                let transactions = match (member.postgres, &status) {
                    (Some(postgres), Some(_)) => transactions(postgres).await,
                    _ => None,
                };
                report.instances.push(Instance { member, status, transactions });
            }
            Role::Control | Role::Gateway | Role::Region => report.watchers.push(member),
        }
    }
    add_further(&mut report, &access).await;
    Ok(report)
}

/// Adds the storage processes that only the volume's membership names: those that took over from others.
async fn add_further(report: &mut Report, access: &Access) {
    let volume = report.serving().and_then(|serving| serving.status.as_ref()).and_then(|status| status.volume.as_ref());
    let members = volume.into_iter().flat_map(|volume| &volume.groups).flat_map(|group| &group.members);
    let known = |home: &SocketAddr| report.storage.iter().any(|storage| storage.member.address == *home);
    let homes: BTreeSet<SocketAddr> = members.filter_map(|member| member.home).filter(|home| !known(home)).collect();
    for address in homes {
        let (status, silent_because) = match storage::status(address, access).await {
            Ok(status) => (Some(status), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let named = status.as_ref().map(|status| (status.node.clone(), status.az.clone()));
        let (name, az) = named.unwrap_or_else(|| (address.to_string(), String::new()));
        let (role, state) = (Role::Storage, State::Up);
        let member = Described { name, role, az, address, postgres: None, pid: None, state, faults: Vec::new() };
        report.storage.push(Storage { member, status, silent_because });
    }
}

/// Returns every configured member as up: without a demo to ask, one that doesn't answer is shown as silent.
fn members_of(config: &InstanceConfig) -> Vec<Described> {
    let storage = config.storage.iter().map(|s| Described {
        name: s.name.clone(),
        role: Role::Storage,
        az: s.az.clone(),
        address: s.address,
        postgres: None,
        pid: None,
        state: State::Up,
        faults: Vec::new(),
    });
    let instance = Described {
        name: config.name.clone(),
        role: Role::Instance,
        az: String::new(),
        address: config.admin,
        postgres: Some(SocketAddr::new(config.listen, config.port)),
        pid: None,
        state: State::Up,
        faults: Vec::new(),
    };
    storage.chain([instance]).collect()
}

async fn transactions(postgres: SocketAddr) -> Option<i64> {
    let asked = async {
        let client = connect(postgres).await.ok()?;
        let row = client.query_one("select sum(xact_commit)::bigint from pg_stat_database", &[]).await.ok()?;
        row.try_get(0).ok()
    };
    tokio::time::timeout(Duration::from_secs(1), asked).await.ok().flatten()
}

impl Report {
    /// Computes the rates since an earlier look.
    pub fn compare_with(&mut self, before: &Report) {
        let (Some(now), Some(then)) = (self.serving(), before.serving()) else { return };
        // Another instance, or the same one started again, counts from zero.
        let same = now.member.name == then.member.name && now.member.pid == then.member.pid;
        let volume = |i: &Instance| i.status.as_ref().and_then(|s| s.volume.clone());
        let (Some(a), Some(b), true) = (volume(then), volume(now), same) else { return };
        let seconds = match (self.at, before.at) {
            (Some(now), Some(then)) => now.duration_since(then).as_secs_f64().max(0.001),
            _ => return,
        };
        let count = |x: Option<i64>, y: Option<i64>| Some(y? - x?).filter(|&n| n > 0).map(|n| n as f64);
        let transactions = count(then.transactions, now.transactions);
        let sent = b.log_bytes_sent.saturating_sub(a.log_bytes_sent) as f64;
        let pages = b.page_bytes_received.saturating_sub(a.page_bytes_received) as f64;
        self.rates = Some(Rates {
            transactions: transactions.unwrap_or(0.0) / seconds,
            sent: sent / seconds,
            sent_per_transaction: transactions.map(|n| sent / n),
            pages_received: pages / seconds,
        });
    }

    /// Whether anyone at all has answered.
    pub fn is_answered(&self) -> bool {
        self.storage.iter().any(|storage| storage.status.is_some()) || self.instances.iter().any(|i| i.status.is_some())
    }

    /// The instance that serves: the one with the highest volume epoch.
    pub fn serving(&self) -> Option<&Instance> {
        let epoch = |i: &Instance| i.status.as_ref().and_then(|s| s.volume.as_ref()).map(|v| v.writer.volume_epoch);
        self.instances.iter().filter(|i| epoch(i).is_some()).max_by_key(|i| epoch(i))
    }
}
