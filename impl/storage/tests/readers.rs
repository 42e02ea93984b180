//! Readers on other instances: they follow the writer over the network, and read from storage.

mod common;

use auriga_net::ClusterId;
use auriga_page::{Delta, PAGE_SIZE, PageImage};
use auriga_protocol::writer::FollowersConfig;
use auriga_protocol::{Change, Lsn, Micros, PageId, Payload, ReaderConfig, Record};
use auriga_storage::StorageConfig;
use auriga_volume::{
    Changes, PageRead, ReaderVolume, RemoteReader, RemoteReaderConfig, RemoteVolume, Volume, VolumeError, create_volume,
};
use common::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// On a machine that does much else.
fn patient() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = patient();
    while !holds() {
        assert!(Instant::now() < deadline, "{what} never happens");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A writer that serves readers, and where.
async fn writer(cluster: &Cluster, name: &str, followers: FollowersConfig, make: bool) -> (RemoteVolume, SocketAddr) {
    let mut config = cluster.volume(name);
    config.writer.followers = followers;
    if make {
        create_volume(&config, patient()).await.expect("all nodes answer");
    }
    let volume = RemoteVolume::open(config.clone(), patient()).await.expect("all segments answer");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    volume.serve_readers(listener, &config);
    (volume, address)
}

fn reader_config(cluster: &Cluster, writers: Vec<SocketAddr>) -> RemoteReaderConfig {
    let (name, reader) = ("reader-1".to_owned(), ReaderConfig::default());
    let (cluster, members): (ClusterId, _) = (CLUSTER, cluster.members.clone());
    let trace = auriga_audit::trace::Trace::off();
    RemoteReaderConfig { name, cluster, credentials: None, volume: VOLUME, members, writers, reader, trace }
}

/// Opens a reader, while the writer publishes.
async fn open(config: RemoteReaderConfig, volume: &RemoteVolume) -> RemoteReader {
    let publishing = async {
        loop {
            publish(volume);
            sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        reader = RemoteReader::open(config, patient()) => reader.expect("the writer answers"),
        () = publishing => unreachable!("it has no end"),
    }
}

/// The database's own log is as long as the volume's here.
fn publish(volume: &RemoteVolume) {
    if volume.wants_publication() {
        volume.publish(|| Some(volume.vdl().0));
    }
}

async fn read_at(reader: &RemoteReader, page: PageId, at: Lsn) -> Result<PageRead, VolumeError> {
    let (done, waiting) = oneshot::channel();
    reader.read(page, at, patient(), Box::new(move |result| done.send(result).expect("the test waits")));
    waiting.await.expect("called back exactly once")
}

fn first(read: &PageRead) -> u8 {
    read.page.content().first().copied().unwrap_or(0)
}

/// Goes on to the newest point that was published; `None`: there is none.
fn go_on(reader: &RemoteReader) -> Option<(Lsn, Changes)> {
    let to = reader.published().last()?.read_point;
    let changes = reader.advance(to).ok()?;
    assert_eq!(reader.read_point(), to);
    Some((to, changes))
}

/// The volume, as the records that a reader was told make it.
#[derive(Default)]
struct Followed(BTreeMap<PageId, PageImage>);

impl Followed {
    /// Applies whole mini-transactions: each has two records here.
    fn apply(&mut self, records: &[Record<Delta>]) {
        assert!(records.len().is_multiple_of(2), "half a mini-transaction");
        assert!(records.iter().enumerate().all(|(index, record)| record.is_cpl == (index % 2 == 1)));
        for record in records {
            record.payload.apply(self.0.entry(record.page).or_default());
        }
    }
}

/// Writes the next value to both pages.
async fn write_both(volume: &RemoteVolume, value: u8) -> Lsn {
    let changes = vec![fill(page(1), value - 1, value), fill(page(2), value - 1, value)];
    commit(volume, changes, patient()).await.expect("durable")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_follows_a_writer_that_is_under_load() {
    let cluster = Cluster::start().await;
    let (volume, address) = writer(&cluster, "instance-1", FollowersConfig::some(), true).await;
    write_both(&volume, 1).await;
    let reader = open(reader_config(&cluster, vec![address]), &volume).await;
    let mut followed = Followed::default();
    let writing = async {
        for value in 2..=120 {
            write_both(&volume, value).await;
            publish(&volume);
        }
    };
    let reading = async {
        let (deadline, mut seen, mut steps) = (patient(), 0, 0);
        while seen < 120 {
            assert!(Instant::now() < deadline, "it has come to {seen}");
            publish(&volume);
            let Some((at, changes)) = go_on(&reader) else {
                sleep(Duration::from_millis(1)).await;
                continue;
            };
            let pages = [read_at(&reader, page(1), at).await, read_at(&reader, page(2), at).await];
            let [one, two] = pages.map(|read| read.expect("held"));
            match changes {
                Changes::Records(records) => followed.apply(&records),
                Changes::Unknown => followed.0 = [(page(1), one.page.clone()), (page(2), two.page.clone())].into(),
            }
            assert_eq!(first(&one), first(&two), "half a mini-transaction at {at}");
            assert!(first(&one) >= seen, "it went back from {seen} to {}", first(&one));
            assert_eq!((&one.page, &two.page), (&followed.0[&page(1)], &followed.0[&page(2)]), "as of {at}");
            (seen, steps) = (first(&one), steps + 1);
            reader.release(at);
        }
        steps
    };
    let ((), steps) = tokio::join!(writing, reading);
    let status = reader.status().reader;
    assert!(steps > 1 && status.cuts == 0, "{steps} steps, {status:?}");
    until("what it needs is told", || volume.followers().iter().all(|(_, floor)| *floor == reader.read_point())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_killed_starts_again_as_another() {
    let cluster = Cluster::start().await;
    let followers = FollowersConfig { lease: Micros(500_000), ..FollowersConfig::some() };
    let (volume, address) = writer(&cluster, "instance-1", followers, true).await;
    write_both(&volume, 1).await;
    let reader = open(reader_config(&cluster, vec![address]), &volume).await;
    go_on(&reader).expect("published");
    drop(reader);
    write_both(&volume, 2).await;
    let reader = open(reader_config(&cluster, vec![address]), &volume).await;
    let (at, changes) = go_on(&reader).expect("published");
    assert!(matches!(changes, Changes::Unknown), "it knows nothing yet");
    assert_eq!(first(&read_at(&reader, page(1), at).await.expect("held")), 2);
    until("the one that was killed is dropped", || volume.followers().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_with_the_next_writer() {
    let cluster = Cluster::start().await;
    let (old, first_address) = writer(&cluster, "instance-1", FollowersConfig::some(), true).await;
    let spare = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let next_address = spare.local_addr().expect("bound");
    write_both(&old, 1).await;
    let reader = open(reader_config(&cluster, vec![first_address, next_address]), &old).await;
    let (before, _) = go_on(&reader).expect("published");

    let mut config = cluster.volume("instance-2");
    config.writer.followers = FollowersConfig::some();
    let new = RemoteVolume::open(config.clone(), patient()).await.expect("recovers");
    new.serve_readers(spare, &config);
    assert_eq!(first(&read_at(&reader, page(1), before).await.expect("it holds this point")), 1);
    write_both(&new, 2).await;
    drop(old);
    let deadline = patient();
    let at = loop {
        assert!(Instant::now() < deadline, "it never goes on: {:?}", reader.status().reader);
        publish(&new);
        match go_on(&reader) {
            Some((at, _)) if at >= new.vdl() => break at,
            _ => sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(at > before);
    assert_eq!(reader.status().reader.volume_epoch, new.status().writer.volume_epoch);
    assert_eq!(first(&read_at(&reader, page(2), at).await.expect("held")), 2);
    assert_eq!(first(&read_at(&reader, page(2), before).await.expect("not released")), 1);
}

/// A whole page that no packing makes smaller.
fn noise(page: PageId, seed: u64) -> Change<Delta> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    Change { page, payload: Delta::full(&std::array::from_fn::<u8, PAGE_SIZE, _>(|_| next())) }
}

/// Nodes that coalesce whatever they may at once.
fn eager() -> Adjust {
    Arc::new(|config: &mut StorageConfig| config.segment.coalesce_every = Micros(20_000))
}

fn floors(cluster: &Cluster) -> Vec<Lsn> {
    cluster.nodes.values().map(|node| node.status().segments[0].1.floor).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn collection_waits_for_a_reader() {
    let cluster = Cluster::start_adjusted(eager()).await;
    let followers = FollowersConfig { grace: Micros(0), ..FollowersConfig::some() };
    let (volume, address) = writer(&cluster, "instance-1", followers, true).await;
    write_both(&volume, 1).await;
    let reader = open(reader_config(&cluster, vec![address]), &volume).await;
    let (at, _) = go_on(&reader).expect("published");
    for value in 2..=20 {
        write_both(&volume, value).await;
    }
    // Long enough for many a coalescing: every floor comes as far as it may.
    until("the floors come to what the reader needs", || floors(&cluster).iter().all(|floor| *floor == at)).await;
    write_both(&volume, 21).await;
    assert_eq!(first(&read_at(&reader, page(1), at).await.expect("kept for it")), 1);
    publish(&volume);
    until("a newer point is published", || reader.published().last().is_some_and(|p| p.read_point == volume.vdl()))
        .await;
    assert!(floors(&cluster).iter().all(|floor| *floor == at));
    let (newest, _) = go_on(&reader).expect("published");
    reader.release(newest);
    until("the floors go on", || floors(&cluster).iter().all(|floor| *floor > at)).await;
    assert_eq!(first(&read_at(&reader, page(1), newest).await.expect("held")), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_lags_too_far_is_dropped_and_refused() {
    let cluster = Cluster::start_adjusted(eager()).await;
    let followers = FollowersConfig { grace: Micros(0), lag_weight_max: 128 << 10, ..FollowersConfig::some() };
    let (volume, address) = writer(&cluster, "instance-1", followers, true).await;
    write_both(&volume, 1).await;
    let reader = open(reader_config(&cluster, vec![address]), &volume).await;
    let (at, _) = go_on(&reader).expect("published");
    for seed in 1..=60 {
        commit(&volume, vec![noise(page(1), seed)], patient()).await.expect("durable");
    }
    until("the floors go on without it", || floors(&cluster).iter().all(|floor| *floor > at)).await;
    assert_eq!(read_at(&reader, page(1), at).await.err(), Some(VolumeError::NotKept));
    assert_eq!(reader.advance(volume.vdl()).err(), Some(VolumeError::NotKept));
    until("the writer knows it no more", || volume.followers().is_empty()).await;
}
