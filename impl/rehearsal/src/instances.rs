//! The instances of a demo that has a controller: who writes, and whether everything is whole.

use crate::bank::ledger::Ledger;
use crate::bank::verify::{Verdict, verify_from};
use crate::demo::Demo;
use crate::demo::layout::{Layout, STORAGE};
use crate::tour::{TourError, postgres};
use auriga_admin::postgres::connect;
use auriga_control::client;
use auriga_control::serve::{ClusterShown, FailoverShown};
use auriga_instance::node::InstanceRole;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The cluster is whole again within this time.
const WHOLE_LIMIT: Duration = Duration::from_secs(120);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until the controller shows what is wanted.
///
/// # Errors
/// It does not in time.
pub fn wait_for<T>(demo: &Demo, what: &str, found: impl Fn(&ClusterShown) -> Option<T>) -> Result<T, TourError> {
    let deadline = Instant::now() + WHOLE_LIMIT;
    let (control, access) = (demo.layout().control_address(), demo.access());
    loop {
        let last = demo.runtime().block_on(client::cluster(control, access));
        if let Some(found) = last.as_ref().ok().and_then(&found) {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            let text = format!("no {what} within {} s; the controller says: {last:?}", WHOLE_LIMIT.as_secs());
            return Err(TourError::Unexpected(text));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until one writes, all others follow it, and no failover is under way. Returns who writes.
///
/// # Errors
/// They do not in time.
pub fn whole(demo: &Demo) -> Result<String, TourError> {
    wait_for(demo, "one writer and its readers", |cluster| {
        let writer = cluster.writer.clone()?;
        let is_well = |name: &str, answers, is_ready, role| {
            let wanted = if name == writer { InstanceRole::Writer } else { InstanceRole::Reader };
            answers && is_ready && role == Some(wanted)
        };
        let mut instances = cluster.instances.iter();
        let all = instances.all(|i| is_well(&i.name, i.answers, i.is_ready, i.role));
        (all && cluster.failover_to.is_none()).then_some(writer)
    })
}

/// Waits until somebody is known to write. Returns who.
///
/// # Errors
/// Nobody is in time.
pub fn writer(demo: &Demo) -> Result<String, TourError> {
    wait_for(demo, "writer", |cluster| cluster.writer.clone())
}

/// Waits until another instance than `before` writes. Returns its name.
///
/// # Errors
/// None does in time.
pub fn successor(demo: &Demo, before: &str) -> Result<String, TourError> {
    wait_for(demo, "another writer", |cluster| {
        let writer = cluster.writer.clone().filter(|writer| writer != before)?;
        cluster.instances.iter().any(|instance| instance.name == writer && instance.is_ready).then_some(writer)
    })
}

/// Asks the controller for a failover, and waits for its end.
///
/// # Errors
/// It was refused.
pub fn fail_over(demo: &Demo, to: Option<&str>) -> Result<FailoverShown, TourError> {
    let (control, access) = (demo.layout().control_address(), demo.access());
    let asked = demo.runtime().block_on(client::failover(control, access, to));
    asked.map_err(|error| TourError::Unexpected(format!("a planned failover: {error}")))
}

/// The number of an instance, of those that the demo begins with.
pub fn number(demo: &Demo, name: &str) -> u8 {
    (0..=demo.layout().readers).find(|number| Layout::instance_name(*number) == name).unwrap_or(0)
}

/// Both storage processes of an instance's Availability Zone, and the instance.
pub fn zone_of(demo: &Demo, instance: &str) -> Vec<String> {
    let az = Layout::instance_az(number(demo, instance));
    let storage = STORAGE.iter().filter(|name| Layout::az(name) == az).map(|name| (*name).to_owned());
    storage.chain([instance.to_owned()]).collect()
}

/// Compares each reader with what the clients remember, once it shows what the writer has now. Returns what was found
/// over all of them, who writes, and who reads.
///
/// # Errors
/// PostgreSQL's, or the cluster is not whole.
pub fn verify_readers(demo: &Demo, ledger: &Ledger) -> Result<(Verdict, String, Vec<String>), TourError> {
    let writer = whole(demo)?;
    let (mut all, mut names) = (Verdict::default(), Vec::new());
    for number in (0..=demo.layout().readers).filter(|number| Layout::instance_name(*number) != writer) {
        let reader = demo.postgres(number);
        let compared = demo.runtime().block_on(verify_reader(demo.layout().writer_endpoint(), reader, ledger));
        all.add(&compared.map_err(postgres("comparing a reader with the clients' ledger"))?);
        names.push(Layout::instance_name(number));
    }
    Ok((all, writer, names))
}

/// Compares a reader with what the clients remember, once it shows what the writer has now.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn verify_reader(
    writer: SocketAddr,
    reader: SocketAddr,
    ledger: &Ledger,
) -> Result<Verdict, tokio_postgres::Error> {
    let before = ledger.outcomes();
    let row = connect(writer).await?.query_one("select pg_current_wal_flush_lsn()::text", &[]).await?;
    let lsn: String = row.get(0);
    let client = connect(reader).await?;
    let deadline = Instant::now() + WHOLE_LIMIT;
    let replayed = "select coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)";
    // One that never gets there is found out by the comparison.
    while !client.query_one(replayed, &[&lsn]).await?.get::<_, bool>(0) && Instant::now() < deadline {
        tokio::time::sleep(PAUSE).await;
    }
    verify_from(reader, ledger, &before).await
}
