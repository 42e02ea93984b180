//! What goes wrong with instances, while clients know one address.

use super::steps::{Seen, volume_epoch};
use super::{Tour, TourError, postgres};
use crate::demo::WRITER;
use crate::demo::layout::Layout;
use crate::demo::watchers::CONTROL;
use crate::instances;
use auriga_admin::instance;
use auriga_admin::postgres::{connect, connect_listening, told};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How long a writer that was replaced may take to tell its client.
const FENCED_LIMIT: Duration = Duration::from_secs(30);
/// How often readers are asked how late they are.
const LAG_EVERY: Duration = Duration::from_millis(20);

/// Asks the readers for so long how late they are.
pub fn lag_for(tour: &Tour, time: Duration) -> Seen {
    let (layout, begun) = (tour.demo.layout(), Instant::now());
    let mut lags: Vec<Vec<u64>> = layout.readers().map(|_| Vec::new()).collect();
    while begun.elapsed() < time {
        for (number, lags) in layout.readers().zip(&mut lags) {
            let asked = instance::status(layout.admin_address(number), tour.demo.access(), instance::PATIENCE);
            lags.extend(tour.demo.runtime().block_on(asked).ok().and_then(|status| status.lag_ms));
        }
        std::thread::sleep(LAG_EVERY);
    }
    let shown = layout.readers().zip(&mut lags).map(|(number, lags)| {
        lags.sort_unstable();
        let name = Layout::reader_name(number);
        match (lags.get(lags.len() / 2), lags.last()) {
            (Some(median), Some(most)) => Ok(format!("{name} {median} ms, at most {most} ms")),
            _ => Err(TourError::Unexpected(format!("{name} does not say how late it is"))),
        }
    });
    let shown: Vec<String> = shown.collect::<Result<_, _>>()?;
    Ok(vec![format!("replica lag under this load, in the median: {}", shown.join("; "))])
}

/// The last instance that is not this one.
fn other_than(tour: &Tour, instance: &str) -> String {
    let mut names = (0..=tour.demo.layout().readers).rev().map(Layout::instance_name);
    names.find(|name| name != instance).unwrap_or_else(|| WRITER.to_owned())
}

pub fn reader_killed(tour: &mut Tour) -> Seen {
    let reader = other_than(tour, &instances::whole(tour.demo)?);
    let begun = Instant::now();
    tour.demo.cluster().0.kill(&reader)?;
    tour.demo.start(&reader)?;
    let ready = begun.elapsed();
    tour.commits_go_on(Duration::from_secs(1))?;
    Ok(vec![format!("{reader} on an empty directory: it lets clients in after {} ms", ready.as_millis())])
}

pub fn writer_killed(tour: &mut Tour) -> Seen {
    let before = instances::whole(tour.demo)?;
    let epoch = volume_epoch(tour, &before)?;
    let begun = Instant::now();
    tour.demo.cluster().0.kill(&before)?;
    let after = instances::successor(tour.demo, &before)?;
    tour.wait_for_commits(1)?;
    let first = begun.elapsed();
    let now = volume_epoch(tour, &after)?;
    if now <= epoch {
        return Err(TourError::Unexpected(format!("the volume epoch went from {epoch} to {now}")));
    }
    let back = Instant::now();
    tour.demo.start(&before)?;
    instances::whole(tour.demo)?;
    Ok(vec![
        format!("{after} has taken over: first commit after {} ms; volume epoch {epoch} → {now}", first.as_millis()),
        format!("the old writer came back on an empty directory: a reader after {} ms", back.elapsed().as_millis()),
    ])
}

pub fn writer_frozen(tour: &mut Tour) -> Seen {
    let runtime = tour.demo.runtime();
    let before = instances::whole(tour.demo)?;
    // A client of the instance itself, whom no gateway tells that there is another writer.
    let server = tour.demo.postgres(instances::number(tour.demo, &before));
    let (probe, notice) = runtime.block_on(connect_listening(server)).map_err(postgres("connecting the probe"))?;
    runtime
        .block_on(probe.batch_execute("create table probe (n int)"))
        .map_err(postgres("creating the probe's table"))?;

    tour.demo.cluster().0.process(&before)?.freeze();
    let after = instances::successor(tour.demo, &before)?;
    // It commits before the other one is resumed.
    let writes = async { connect(tour.server).await?.batch_execute("insert into probe values (2)").await };
    runtime.block_on(writes).map_err(postgres("committing on the new writer"))?;

    tour.demo.cluster().0.process(&before)?.resume();
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
    instances::whole(tour.demo)?;
    tour.wait_for_commits(1)?;
    let probes = tour.ask(tour.server, "reading the probe", "select string_agg(n::text, ',') from probe")?;
    if probes != "2" {
        return Err(TourError::Unexpected(format!("the probe's table holds {probes:?} instead of \"2\"")));
    }
    Ok(vec![
        format!("{before} was frozen, and {after} has taken over"),
        format!("the old one's client, on its next commit, was told: {seen}"),
        "the old one then became a reader, in the same process".to_owned(),
    ])
}

pub fn asked_for(tour: &mut Tour) -> Seen {
    let before = instances::whole(tour.demo)?;
    let to = if before == WRITER { other_than(tour, &before) } else { WRITER.to_owned() };
    let ended = instances::fail_over(tour.demo, Some(&to))?;
    if ended.writer.as_ref() != Some(&to) {
        return Err(TourError::Unexpected(format!("asked for a failover to {to}: {:?} writes", ended.writer)));
    }
    instances::whole(tour.demo)?;
    tour.commits_go_on(Duration::from_secs(1))?;
    Ok(vec![format!("`auriga failover --to {to}`: from {before}, in {} ms", ended.took_ms)])
}

pub fn zone_lost(tour: &mut Tour) -> Seen {
    let before = instances::whole(tour.demo)?;
    let lost = instances::zone_of(tour.demo, &before);
    for name in lost.iter().map(String::as_str).chain([CONTROL]) {
        tour.demo.cluster().0.kill(name)?;
    }
    // What was on its way may still be acknowledged for a moment.
    std::thread::sleep(Duration::from_millis(500));
    let acknowledged = tour.ledger().acknowledged();
    std::thread::sleep(Duration::from_secs(1));
    if tour.ledger().acknowledged() != acknowledged {
        return Err(TourError::Unexpected("commits were acknowledged without a writer".to_owned()));
    }
    let begun = Instant::now();
    tour.demo.cluster().0.start(CONTROL)?;
    let after = instances::successor(tour.demo, &before)?;
    tour.wait_for_commits(1)?;
    let first = begun.elapsed();
    lost.iter().try_for_each(|name| tour.demo.start(name))?;
    instances::whole(tour.demo)?;
    tour.wait_for_commits(1)?;
    Ok(vec![
        format!("{} and the controller killed: nobody is there to have another one take over", lost.join(", ")),
        format!(
            "a controller was started elsewhere: {after} has taken over, first commit {} ms later",
            first.as_millis()
        ),
        format!(
            "then AZ {} came back, {before} as a reader",
            Layout::instance_az(instances::number(tour.demo, &before))
        ),
    ])
}
