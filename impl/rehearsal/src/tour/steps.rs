//! What goes wrong with storage.

use super::{Tour, TourError, postgres};
use crate::bank::Bank;
use crate::instances;
use crate::members;
use auriga_admin::instance;
use auriga_admin::postgres::connect;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(super) type Seen = Result<Vec<String>, TourError>;

/// Rows of the table that is only read, each a little over 500 bytes.
const ARCHIVE_ROWS: u32 = 60_000;
const ARCHIVE_SUM: &str = "select count(*) || ' ' || sum(n) || ' ' || sum(length(body)) from archive";

/// The bank, and a table several times as large as every cache on the instance. Answers its size in bytes.
pub async fn prepare(server: SocketAddr) -> Result<i64, TourError> {
    Bank::create(server).await.map_err(postgres("creating the bank"))?;
    let client = connect(server).await.map_err(postgres("connecting"))?;
    client
        .batch_execute(&format!(
            "create table archive as select n, repeat(md5(n::text), 16) as body from generate_series(1, {ARCHIVE_ROWS}) n"
        ))
        .await
        .map_err(postgres("creating the archive"))?;
    // Frozen, so that reading it later changes nothing.
    client.batch_execute("vacuum (freeze) archive").await.map_err(postgres("freezing the archive"))?;
    client.batch_execute("checkpoint").await.map_err(postgres("writing a checkpoint"))?;
    let row = client.query_one("select pg_total_relation_size('archive')", &[]).await;
    Ok(row.map_err(postgres("measuring the archive"))?.get(0))
}

pub fn one_killed(tour: &mut Tour) -> Seen {
    tour.demo.cluster().0.kill("c1")?;
    tour.commits_go_on(Duration::from_secs(3))?;
    Ok(vec![])
}

pub fn az_killed(tour: &mut Tour) -> Seen {
    tour.demo.cluster().0.kill("c2")?;
    tour.commits_go_on(Duration::from_secs(3))?;
    Ok(vec!["four of six copies left: exactly a write quorum".to_owned()])
}

pub fn az_and_one_killed(tour: &mut Tour) -> Seen {
    tour.demo.cluster().0.kill("b2")?;
    // What was on its way may still be acknowledged for a moment.
    std::thread::sleep(Duration::from_millis(500));
    let acknowledged = tour.ledger().acknowledged();
    let writer = instances::writer(tour.demo)?;
    let address = tour.demo.cluster().0.address(&writer)?;
    let access = tour.demo.access().clone();
    let failed = |error| TourError::Unexpected(format!("the instance's admin port: {error}"));
    let runtime = tour.demo.runtime();
    let asked = instance::drop_caches(address, &access, instance::PATIENCE);
    let before = runtime.block_on(asked).map_err(failed)?;
    let begun = Instant::now();
    let sum = tour.ask(tour.server, "reading the archive with three copies left", ARCHIVE_SUM)?;
    let took = begun.elapsed();
    let asked = instance::status(address, &access, instance::PATIENCE);
    let after = tour.demo.runtime().block_on(asked).map_err(failed)?;
    let expected =
        format!("{ARCHIVE_ROWS} {} {}", u64::from(ARCHIVE_ROWS) * u64::from(ARCHIVE_ROWS + 1) / 2, ARCHIVE_ROWS * 512);
    if sum != expected {
        return Err(TourError::Unexpected(format!("the archive holds {sum:?} instead of {expected:?}")));
    }
    let pages = after.pages_read() - before.pages_read();
    if pages < 1000 {
        return Err(TourError::Unexpected(format!("only {pages} pages came from storage: a cache was read")));
    }
    std::thread::sleep(Duration::from_secs(3));
    let during = tour.ledger().acknowledged() - acknowledged;
    if during != 0 {
        return Err(TourError::Unexpected(format!("{during} commits were acknowledged with three copies left")));
    }
    Ok(vec![
        "three of six copies left: no further commit was acknowledged, none failed".to_owned(),
        format!(
            "the mount's cache was dropped, then {ARCHIVE_ROWS} rows were read and right: {pages} pages from storage in {:.1} s",
            took.as_secs_f64()
        ),
    ])
}

pub fn one_back(tour: &mut Tour) -> Seen {
    tour.demo.start("b2")?;
    let resumed = tour.wait_for_commits(1)?;
    for name in ["c1", "c2"] {
        tour.demo.start(name)?;
    }
    tour.commits_go_on(Duration::from_secs(3))?;
    Ok(vec![format!("first commit {} ms after b2 answered again; then AZ c came back, too", resumed.as_millis())])
}

pub(super) fn volume_epoch(tour: &Tour, instance: &str) -> Result<auriga_protocol::VolumeEpoch, TourError> {
    let address = tour.demo.cluster().0.address(instance)?;
    let asked = instance::status(address, tour.demo.access(), instance::PATIENCE);
    let status = tour
        .demo
        .runtime()
        .block_on(asked)
        .map_err(|error| TourError::Unexpected(format!("the admin port of {instance}: {error}")))?;
    match status.volume {
        Some(volume) => Ok(volume.writer.volume_epoch),
        None => Err(TourError::Unexpected(format!("{instance} has no open volume"))),
    }
}

/// A process and its directory are gone. Its member of each group is replaced by a new one on the spare of its AZ.
pub fn one_lost(tour: &mut Tour) -> Seen {
    const LOST: &str = "a2";
    members::wait_until_whole(tour.demo, None)?;
    let fleet = tour.demo.layout().fleet();
    let unknown = || TourError::Unexpected(format!("there is no storage process {LOST}"));
    let lost = fleet.iter().find(|process| process.name == LOST).ok_or_else(unknown)?;
    let begun = Instant::now();
    tour.demo.cluster().0.kill(LOST)?;
    tour.demo.cluster().0.forget_storage(LOST)?;
    tour.wait_for_commits(1)?;
    members::wait_until_begun(tour.demo, lost)?;
    let noticed = begun.elapsed();
    members::wait_until_whole(tour.demo, Some(lost))?;
    let whole = begun.elapsed();
    tour.wait_for_commits(1)?;
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    Ok(vec![format!(
        "killed, its directory deleted: replaced by the controller from {} on, six copies again after {}",
        seconds(noticed),
        seconds(whole)
    )])
}
