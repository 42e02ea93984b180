//! Two regions, each with six storage processes: shipping, switchover, failover, the named loss, and the way back.
//! An instance here is a writer that commits to pages and, like an instance, asks first whether it may.

#[path = "../../storage/tests/common/mod.rs"]
mod common;

use auriga_net::ClusterId;
use auriga_protocol::global::{KeptSuffix, MayNotWrite, Operation, Outcome, RegionRole};
use auriga_protocol::writer::FollowersConfig;
use auriga_protocol::{Lsn, Micros, PageId, RegionId};
use auriga_region::controller;
use auriga_region::source::Source;
use auriga_region::{LinkConfig, RegionConfig, RegionProcess, RegionStatus, state_of};
use auriga_volume::{RemoteVolume, Volume, VolumeConfig, VolumeError, create_volume};
use common::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::time::sleep;

const FIRST: RegionId = RegionId(1);
const SECOND: RegionId = RegionId(2);
const PAGES: u64 = 40;

/// On a machine that does much else.
fn patient() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

struct Place {
    cluster: Cluster,
    /// Where its region's process listens, and where its instance does for readers.
    region: SocketAddr,
    readers: SocketAddr,
    process: Option<RegionProcess>,
}

struct World {
    places: BTreeMap<RegionId, Place>,
}

/// A port on an address that nothing else here uses: no connection of another process takes the port meanwhile, from which
/// it would come on 127.0.0.1.
async fn free() -> (TcpListener, SocketAddr) {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let address = format!("127.0.135.{}:0", 1 + LAST.fetch_add(1, Relaxed));
    let listener = TcpListener::bind(address).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// Listens where whoever listened before may not have ended yet.
async fn bind(address: SocketAddr) -> TcpListener {
    let deadline = patient();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < deadline, "the port is not free: {error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

impl World {
    /// Two regions that have just been created.
    async fn start() -> World {
        let mut places = BTreeMap::new();
        let mut listeners = Vec::new();
        for region in [FIRST, SECOND] {
            let cluster = Cluster::start().await;
            create_volume(&cluster.volume("maker"), patient()).await.expect("all nodes answer");
            let ((listener, region_at), (_, readers)) = (free().await, free().await);
            listeners.push((region, listener));
            places.insert(region, Place { cluster, region: region_at, readers, process: None });
        }
        let mut world = World { places };
        for (region, listener) in listeners {
            world.run_on(region, listener);
        }
        world
    }

    fn link(&self, name: &str) -> LinkConfig {
        let regions = self.places.iter().map(|(region, place)| (*region, place.region)).collect();
        LinkConfig { name: name.to_owned(), global: ClusterId(0x91), credentials: None, regions }
    }

    fn run_on(&mut self, region: RegionId, listener: TcpListener) {
        let place = &self.places[&region];
        let config = RegionConfig {
            region,
            first_primary: FIRST,
            link: self.link("region"),
            volume: place.cluster.volume("region"),
            writers: vec![place.readers],
            readers: None,
        };
        let process = RegionProcess::start(config, listener);
        self.places.get_mut(&region).expect("a region").process = Some(process);
    }

    /// Starts a region's process again.
    async fn run(&mut self, region: RegionId) {
        let address = self.places[&region].region;
        self.run_on(region, bind(address).await);
    }

    fn kill(&mut self, region: RegionId) {
        self.places.get_mut(&region).expect("a region").process = None;
    }

    fn status(&self, region: RegionId) -> Option<RegionStatus> {
        self.places[&region].process.as_ref()?.status()
    }

    fn volume_config(&self, region: RegionId) -> VolumeConfig {
        let mut config = self.places[&region].cluster.volume("instance");
        // A region's process is not dropped because it is away for longer than a reader may be.
        config.writer.followers =
            FollowersConfig { lease: Micros(200_000), grace: Micros(120_000_000), ..FollowersConfig::some() };
        config
    }

    /// Starts an instance: it opens the volume, and asks whether it may write.
    async fn instance(&self, region: RegionId) -> Result<Arc<RemoteVolume>, MayNotWrite> {
        let config = self.volume_config(region);
        let deadline = patient();
        loop {
            let volume = match RemoteVolume::open(config.clone(), patient()).await {
                Ok(volume) => Arc::new(volume),
                Err(error) => {
                    assert!(Instant::now() < deadline, "it never opens: {error}");
                    continue;
                }
            };
            match state_of(&volume).await {
                Ok(state) => {
                    state.map_or(Ok(()), |state| state.grants())?;
                    volume.serve_readers(bind(self.places[&region].readers).await, &config);
                    return Ok(volume);
                }
                Err(error) => assert!(Instant::now() < deadline, "it never reads: {error}"),
            }
        }
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = patient();
        while !holds() {
            if Instant::now() >= deadline {
                let troubles: Vec<_> =
                    self.places.values().map(|place| place.process.as_ref().map(|p| p.trouble())).collect();
                panic!("{what} never happens: {:?} {:?} {troubles:?}", self.status(FIRST), self.status(SECOND));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until `to` has everything that `from`, the primary, has made durable.
    async fn until_arrived(&self, from: RegionId, to: RegionId, volume: &RemoteVolume) {
        let vdl = volume.vdl();
        self.until("everything arrives", || {
            let state = self.status(from);
            state.is_some_and(|status| {
                let branch = status.lineage.tip();
                let arrived = status.arrived.get(&to).copied().unwrap_or_default();
                // As far as the branch has come, or farther: its volume LSNs and global LSNs differ by a constant.
                branch.primary == from && arrived == status.durable && self.covers(from, vdl, arrived)
            })
        })
        .await;
    }

    fn covers(&self, region: RegionId, vdl: Lsn, arrived: Lsn) -> bool {
        let status = self.status(region).expect("it runs");
        let tip = status.lineage.tip();
        // The first branch begins at 0 in both; later ones are compared by what the primary has read.
        if tip.after == Lsn::ZERO { arrived >= vdl } else { status.durable == arrived }
    }
}

/// Values by page: what was acknowledged.
type Ledger = BTreeMap<u64, u8>;

/// Commits the next value of a page, if the volume is still ours.
async fn write(volume: &RemoteVolume, ledger: &mut Ledger, block: u64) -> Result<Lsn, VolumeError> {
    let before = ledger.get(&block).copied().unwrap_or(0);
    let value = before % 250 + 1;
    let lsn = commit(volume, vec![fill(page(block), before, value)], patient()).await?;
    ledger.insert(block, value);
    Ok(lsn)
}

async fn write_many(volume: &RemoteVolume, ledger: &mut Ledger, count: u64) {
    for round in 0..count {
        write(volume, ledger, round % PAGES).await.expect("it may write");
    }
}

async fn content(volume: &RemoteVolume) -> Ledger {
    let mut found = Ledger::new();
    for block in 0..PAGES {
        let value = first_byte(volume, page(block)).await;
        if value > 0 {
            found.insert(block, value);
        }
    }
    found
}

fn moved(outcome: Outcome) -> Lsn {
    let Outcome::Moved { branch, .. } = outcome else { panic!("{outcome:?}") };
    branch.after
}

async fn switch(world: &World, target: RegionId) -> Outcome {
    let operation = Operation::Switchover { target };
    controller::run(&world.link("controller"), operation, patient().into()).await.expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_and_the_way_back_lose_nothing() {
    let world = World::start().await;
    let first = world.instance(FIRST).await.expect("the first primary");
    let mut ledger = Ledger::new();
    write_many(&first, &mut ledger, 200).await;
    world.until_arrived(FIRST, SECOND, &first).await;
    let refused = world.instance(SECOND).await.map(|_| ()).expect_err("a secondary");
    assert!(matches!(refused, MayNotWrite::Secondary(tip) if tip.primary == FIRST));

    // Under load: the writer ends when it is fenced, and what it was told is all there is.
    let writing = async {
        for round in 0.. {
            if write(&first, &mut ledger, round % PAGES).await.is_err() {
                return round;
            }
        }
        0
    };
    let (written, outcome) = tokio::join!(writing, switch(&world, SECOND));
    moved(outcome);
    assert!(written > 0, "it wrote until then");
    drop(first);
    let second = world.instance(SECOND).await.expect("it is primary now");
    let found = content(&second).await;
    // The one commit that was not acknowledged may be there all the same.
    let differs: Vec<_> = (0..PAGES).filter(|block| found.get(block) != ledger.get(block)).collect();
    assert!(differs.len() <= 1, "{differs:?}");
    ledger = found;
    let refused = world.instance(FIRST).await.map(|_| ()).expect_err("a secondary by now");
    assert!(matches!(refused, MayNotWrite::Secondary(_) | MayNotWrite::Fenced(_)));

    write_many(&second, &mut ledger, 100).await;
    world
        .until("the first follows", || {
            let arrived = world.status(SECOND).and_then(|status| status.arrived.get(&FIRST).copied());
            arrived.is_some_and(|lsn| lsn > Lsn::ZERO)
        })
        .await;
    drop(second);
    moved(switch(&world, FIRST).await);
    let first = world.instance(FIRST).await.expect("it is primary again");
    assert_eq!(content(&first).await, ledger, "nothing is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_names_what_it_loses_and_the_old_primary_comes_back_without_a_copy() {
    let mut world = World::start().await;
    let old = world.instance(FIRST).await.expect("the first primary");
    let mut ledger = Ledger::new();
    write_many(&old, &mut ledger, 100).await;
    world.until_arrived(FIRST, SECOND, &old).await;
    let arrived = ledger.clone();

    // The regions are parted: shipping ends, and the instance goes on.
    world.kill(FIRST);
    let mut lost = ledger.clone();
    let mut lost_commits = Vec::new();
    for block in [3, 5, 7, 3, PAGES - 1] {
        lost_commits.push(write(&old, &mut lost, block).await.expect("it is still primary"));
    }
    let operation = Operation::Failover { target: SECOND };
    let outcome = controller::run(&world.link("controller"), operation, patient().into()).await.expect("it ends");
    let Outcome::Moved { branch, fenced_at: None } = outcome else { panic!("{outcome:?}") };
    let new = world.instance(SECOND).await.expect("it is primary now");
    assert_eq!(content(&new).await, arrived, "what had arrived, and nothing else");
    let mut ledger = arrived;
    for block in [5, 9, 9] {
        write(&new, &mut ledger, block).await.expect("it is primary");
    }
    // Two primaries, two lineages: the old one has not heard of it.
    lost_commits.push(write(&old, &mut lost, 11).await.expect("it has not heard of it"));

    world.run(FIRST).await;
    world
        .until("the old primary is a secondary", || {
            world.status(FIRST).is_some_and(|status| status.role == RegionRole::Secondary && status.lost.is_some())
        })
        .await;
    assert!(write(&old, &mut lost, 12).await.is_err(), "it is fenced");
    drop(old);
    let KeptSuffix { suffix, above, through } = world.status(FIRST).and_then(|status| status.lost).expect("named");
    assert_eq!((suffix.region, suffix.after), (FIRST, branch.after));
    // In the first branch of a first primary both kinds of LSN are the same.
    let named: Vec<Lsn> =
        lost_commits.iter().copied().filter(|lsn| *lsn > suffix.after && *lsn <= suffix.through).collect();
    assert_eq!(named, lost_commits, "every lost commit is in {suffix}");
    assert_eq!(suffix.through, *lost_commits.last().expect("some"), "and nothing else is");

    // It stays readable as of its own end.
    let source = Source::start(&world.volume_config(FIRST));
    let deadline = patient();
    let point = loop {
        match source.point(through).await {
            Ok(point) => break point,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    for (block, value) in &lost {
        let page = PageId { inode: 1, block: *block };
        let read = loop {
            match source.page(page, &point).await {
                Ok(read) => break read,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        };
        assert_eq!(read.content()[0], *value, "page {block} as of the end of the lost suffix, after {above}");
    }

    // And the way back loses nothing.
    write_many(&new, &mut ledger, 60).await;
    drop(new);
    moved(switch(&world, FIRST).await);
    let first = world.instance(FIRST).await.expect("it is primary again");
    assert_eq!(content(&first).await, ledger, "the new lineage, and nothing of the lost suffix");
}

/// Ends a region's process in the middle of whatever it does, and starts it again.
async fn interrupt(world: &mut World, region: RegionId, after_ms: u64, away_ms: u64) {
    sleep(Duration::from_millis(after_ms)).await;
    world.kill(region);
    sleep(Duration::from_millis(away_ms)).await;
    world.run(region).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_process_dies_in_the_middle_a_switchover_loses_nothing() {
    let mut world = World::start().await;
    let (mut ledger, mut from, mut to) = (Ledger::new(), FIRST, SECOND);
    // When the process of which region is interrupted: none of it is asserted, whatever happens must be right.
    for (round, (after_ms, away_ms)) in [(0, 50), (20, 0), (40, 300), (60, 10), (90, 100), (140, 0)].iter().enumerate()
    {
        let volume = world.instance(from).await.expect("it is primary");
        assert_eq!(content(&volume).await, ledger, "round {round}");
        write_many(&volume, &mut ledger, 50).await;
        let link = world.link("controller");
        let switching = tokio::spawn(async move {
            controller::run(&link, Operation::Switchover { target: to }, patient().into()).await
        });
        let victim = if round % 2 == 0 { from } else { to };
        interrupt(&mut world, victim, *after_ms, *away_ms).await;
        moved(switching.await.expect("it ran").expect("it ends"));
        drop(volume);
        (from, to) = (to, from);
    }
    let volume = world.instance(from).await.expect("it is primary");
    assert_eq!(content(&volume).await, ledger, "nothing is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_that_is_cut_short_again_and_again_is_finished() {
    let mut world = World::start().await;
    let old = world.instance(FIRST).await.expect("the first primary");
    let mut ledger = Ledger::new();
    write_many(&old, &mut ledger, 2 * PAGES).await;
    world.until_arrived(FIRST, SECOND, &old).await;
    world.kill(FIRST);
    let mut lost = ledger.clone();
    write_many(&old, &mut lost, PAGES).await;
    let operation = Operation::Failover { target: SECOND };
    controller::run(&world.link("controller"), operation, patient().into()).await.expect("it ends");
    let new = world.instance(SECOND).await.expect("it is primary now");
    write_many(&new, &mut ledger, 7).await;
    for after_ms in [30, 60, 90, 120, 150, 180, 210, 240, 300, 400] {
        world.run(FIRST).await;
        sleep(Duration::from_millis(after_ms)).await;
        world.kill(FIRST);
    }
    world.run(FIRST).await;
    world
        .until("the old primary follows", || {
            world.status(FIRST).is_some_and(|status| status.role == RegionRole::Secondary && status.lost.is_some())
        })
        .await;
    drop((old, new));
    moved(switch(&world, FIRST).await);
    let first = world.instance(FIRST).await.expect("it is primary again");
    assert_eq!(content(&first).await, ledger, "the new lineage, and nothing of the lost suffix");
}
