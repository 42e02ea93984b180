//! The six things that go wrong.

use super::{Tour, TourError, postgres};
use crate::bank::Bank;
use crate::demo::WRITER;
use auriga_admin::instance;
use auriga_admin::postgres::{connect, connect_listening, told};
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

type Seen = Result<Vec<String>, TourError>;

/// Rows of the table that is only read, each a little over 500 bytes.
const ARCHIVE_ROWS: u32 = 60_000;
const ARCHIVE_SUM: &str = "select count(*) || ' ' || sum(n) || ' ' || sum(length(body)) from archive";
/// The instance that takes over in step 6.
const SUCCESSOR: &str = "writer-2";
/// How long the old instance may take to notice that it is fenced, and end.
const FENCED_LIMIT: Duration = Duration::from_secs(30);
/// Its exit code then.
const FENCED_EXIT: i32 = auriga_instance::node::EXIT_FENCED as i32;

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
    let address = tour.demo.cluster().0.address(WRITER)?;
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

pub fn instance_killed(tour: &mut Tour) -> Seen {
    let epoch = volume_epoch(tour, WRITER)?;
    let begun = Instant::now();
    tour.demo.cluster().0.kill(WRITER)?;
    tour.demo.start(WRITER)?;
    let ready = begun.elapsed();
    tour.wait_for_commits(1)?;
    let first = begun.elapsed();
    tour.commits_go_on(Duration::from_secs(2))?;
    let now = volume_epoch(tour, WRITER)?;
    if now <= epoch {
        return Err(TourError::Unexpected(format!("the volume epoch went from {epoch} to {now}")));
    }
    Ok(vec![format!(
        "on an empty directory: ready after {} ms, first commit after {} ms; volume epoch {epoch} → {now}",
        ready.as_millis(),
        first.as_millis()
    )])
}

pub fn instance_frozen(tour: &mut Tour) -> Seen {
    let runtime = tour.demo.runtime();
    let (probe, notice) = runtime.block_on(connect_listening(tour.server)).map_err(postgres("connecting the probe"))?;
    runtime
        .block_on(probe.batch_execute("create table probe (n int)"))
        .map_err(postgres("creating the probe's table"))?;

    tour.demo.cluster().0.process(WRITER)?.freeze();
    tour.demo.cluster().0.add_instance(SUCCESSOR, 1);
    let begun = Instant::now();
    tour.demo.start(SUCCESSOR)?;
    let ready = begun.elapsed();
    tour.server = tour.demo.postgres(1);
    tour.bank.set_servers(vec![tour.server]);
    // The clients still wait for the frozen one: show that the new one commits, by itself, before it is resumed.
    let writes = async { connect(tour.server).await?.batch_execute("insert into probe values (2)").await };
    runtime.block_on(writes).map_err(postgres("committing on the new instance"))?;

    tour.demo.cluster().0.process(WRITER)?.resume();
    let seen = match runtime.block_on(async {
        tokio::time::timeout(FENCED_LIMIT, probe.batch_execute("insert into probe values (1)")).await
    }) {
        Ok(Ok(())) => return Err(TourError::Unexpected("THE FENCED INSTANCE ACKNOWLEDGED A COMMIT".to_owned())),
        Ok(Err(error)) => {
            let notice = notice.lock().unwrap_or_else(PoisonError::into_inner).take();
            notice.map_or(told(&error), |notice| format!("{notice}; {}", told(&error)))
        }
        Err(_) => return Err(TourError::Unexpected("the fenced instance's client was told nothing".to_owned())),
    };
    let status = tour.demo.cluster().0.process(WRITER)?.wait(FENCED_LIMIT);
    if status.and_then(|s| s.code()) != Some(FENCED_EXIT) {
        return Err(TourError::Unexpected(format!("the fenced instance ended with {status:?}, not {FENCED_EXIT}")));
    }
    tour.demo.cluster().0.kill(WRITER)?;
    tour.wait_for_commits(1)?;
    tour.commits_go_on(Duration::from_secs(2))?;
    let probes = tour.ask(tour.server, "reading the probe", "select string_agg(n::text, ',') from probe")?;
    if probes != "2" {
        return Err(TourError::Unexpected(format!("the probe's table holds {probes:?} instead of \"2\"")));
    }
    Ok(vec![
        format!("the new instance ({}) was ready after {} ms", tour.server, ready.as_millis()),
        format!("the old one's client, on its next commit, was told: {seen}"),
        format!("the old instance then ended with exit code {FENCED_EXIT} (fenced)"),
    ])
}

fn volume_epoch(tour: &Tour, instance: &str) -> Result<auriga_protocol::VolumeEpoch, TourError> {
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
