//! `auriga global lost`: what the last failover lost of a region.

use auriga_admin::config::RegionConfig;
use auriga_admin::storage::{identity_in, volume_of_region};
use auriga_instance::postgres::find;
use auriga_points::lost::{LostCommits, commits};
use auriga_points::names::Named;
use auriga_points::wal::{Relation, WalError};
use auriga_protocol::RegionId;
use auriga_protocol::global::KeptSuffix;
use auriga_region::lost::{Lost, last};
use auriga_region::source::Source;
use auriga_volume::find_volume;
use serde_json::{Value, json};
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

type Failure = Box<dyn Error>;

/// How long the volume may take to be found, and what is lost of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Commits that are shown to a person. As JSON all of them are.
const SHOWN_MAX: usize = 50;

/// A region's volume, looked at.
pub struct Looked {
    /// Where pages are asked for.
    pub runtime: Runtime,
    /// Its log and pages.
    pub source: Arc<Source>,
    /// What the region lost last, if it lost something.
    pub lost: Option<Lost>,
}

/// Asks a region's storage what it lost last.
///
/// # Errors
/// Too few storage processes answer.
pub fn look(config: &RegionConfig) -> Result<Looked, Failure> {
    let mut volume = volume_of_region(config)?;
    let identity = identity_in(config.identity.as_deref())?;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (source, lost) = runtime.block_on(async {
        volume.volume = find_volume(&volume, identity, std::time::Instant::now() + PATIENCE).await?;
        let source = Arc::new(Source::start(&volume));
        let (region, first) = (RegionId(config.region), RegionId(config.first_primary));
        let lost = last(&source, region, first, &volume, Instant::now() + PATIENCE).await?;
        Ok::<_, Failure>((source, lost))
    })?;
    Ok(Looked { runtime, source, lost })
}

/// Why commits can't be listed.
#[derive(Debug)]
enum NotListed {
    Wal(WalError),
    Find(find::FindError),
}

impl From<WalError> for NotListed {
    fn from(error: WalError) -> NotListed {
        NotListed::Wal(error)
    }
}

impl From<NotListed> for Failure {
    fn from(error: NotListed) -> Failure {
        match error {
            NotListed::Wal(error) => format!("the lost commits can't be listed: {error}").into(),
            NotListed::Find(error) => error.into(),
        }
    }
}

/// Prints what was lost.
///
/// # Errors
/// Too few storage processes answer, or the WAL can't be read.
pub fn run(config: &RegionConfig, as_json: bool) -> Result<ExitCode, Failure> {
    let looked = look(config)?;
    let Some(lost) = &looked.lost else {
        println!("{}", if as_json { "null" } else { "this region has lost nothing" });
        return Ok(ExitCode::SUCCESS);
    };
    let listed = lost.amount.map(|_| list(&looked, &lost.suffix)).transpose();
    let (listed, why_not) = match listed {
        Ok(listed) => (listed, None),
        // What storage says of it is told all the same.
        Err(error) => (None, Some(error)),
    };
    if as_json {
        println!("{}", report(lost, listed.as_ref()));
    } else {
        show(lost, listed.as_ref());
    }
    why_not.map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
}

fn list(looked: &Looked, suffix: &KeptSuffix) -> Result<LostCommits, NotListed> {
    commits(&looked.source, looked.runtime.handle(), suffix, |major| {
        let installations = find::find(None).map_err(NotListed::Find)?;
        Ok(find::choose(&installations, major).map_err(NotListed::Find)?.bin.clone())
    })
}

/// What was lost, as JSON.
fn report(lost: &Lost, listed: Option<&LostCommits>) -> Value {
    let KeptSuffix { suffix, above, through } = lost.suffix;
    let amount = lost.amount.map(
        |amount| json!({"mini_transactions": amount.mini_transactions, "pages": amount.pages, "bytes": amount.bytes}),
    );
    let commits = listed.map(|listed| {
        let table = |relation: &Relation| {
            let Named { database, table } = listed.names.get(relation).cloned().unwrap_or_default();
            json!({"relation": relation.to_string(), "database": database, "name": table})
        };
        let commits = listed.commits.iter();
        let commits = commits.map(|commit| {
            json!({
                "xid": commit.xid,
                "at": commit.at.to_string(),
                "wal_lsn": commit.lsn.to_string(),
                "tables": commit.relations.iter().map(table).collect::<Vec<_>>(),
            })
        });
        commits.collect::<Vec<_>>()
    });
    json!({
        "name": suffix.to_string(),
        "region": suffix.region.0,
        "global_epoch": suffix.branch.to_string(),
        "after_global_lsn": suffix.after.0,
        "through_global_lsn": suffix.through.0,
        "after_volume_lsn": above.0,
        "through_volume_lsn": through.0,
        "kept": lost.amount.is_some(),
        "amount": amount,
        "wal_after": listed.map(|listed| listed.after.to_string()),
        "wal_through": listed.map(|listed| listed.through.to_string()),
        "commits": commits,
    })
}

/// Shows what was lost to a person.
fn show(lost: &Lost, listed: Option<&LostCommits>) {
    let suffix = lost.suffix.suffix;
    println!(
        "{suffix}: region {} lost what its global epoch {} had after global LSN {}, through {}",
        suffix.region.0, suffix.branch, suffix.after, suffix.through
    );
    let Some(amount) = lost.amount else {
        println!("it is not kept any more");
        return;
    };
    println!("{} mini-transactions, {} pages, {} bytes of redo", amount.mini_transactions, amount.pages, amount.bytes);
    let Some(listed) = listed else { return };
    println!("{} commits, in the WAL after {} through {}", listed.commits.len(), listed.after, listed.through);
    for commit in listed.commits.iter().take(SHOWN_MAX) {
        let name = |relation: &Relation| {
            let Named { database, table } = listed.names.get(relation).cloned().unwrap_or_default();
            match (database, table) {
                (Some(database), Some(table)) => format!("{database}.{table}"),
                _ => relation.to_string(),
            }
        };
        let tables: Vec<String> = commit.relations.iter().map(name).collect();
        println!("  xid {}  {}  {}  {}", commit.xid, commit.at, commit.lsn, tables.join(" "));
    }
    if listed.commits.len() > SHOWN_MAX {
        println!("  and {} more: --json lists all of them", listed.commits.len() - SHOWN_MAX);
    }
}
