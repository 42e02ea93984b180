//! Six storage nodes in this process, on loopback addresses, and a volume over them.
#![allow(dead_code, reason = "each test file uses a part")]

use auriga_net::ClusterId;
use auriga_page::{Delta, PAGE_SIZE};
use auriga_protocol::{Change, Lsn, MemberId, PageId, VolumeId};
use auriga_storage::disk::Opened;
use auriga_storage::{MemoryPlatters, open_store};
use auriga_storage::{StorageConfig, StorageNode};
use auriga_store::StoreOptions;
use auriga_volume::{PageRead, Volume, VolumeError};
use auriga_volume::{RemoteVolume, VolumeConfig, create_volume};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub const CLUSTER: ClusterId = ClusterId(0xa1);
pub const VOLUME: VolumeId = VolumeId(7);

/// How a test changes the nodes' configuration.
pub type Adjust = Arc<dyn Fn(&mut StorageConfig)>;

pub struct Cluster {
    pub nodes: BTreeMap<MemberId, StorageNode>,
    pub members: BTreeMap<MemberId, SocketAddr>,
    platters: BTreeMap<MemberId, Platters>,
    adjust: Adjust,
    _dir: TempDir,
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("readable") {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("readable");
        if path.is_dir() {
            copy_folder(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).expect("copied");
        }
    }
}

/// What a node's disk survives on.
enum Platters {
    Memory(MemoryPlatters),
    Files(PathBuf),
}

impl Platters {
    fn open(&self, node: &str) -> Result<Opened, String> {
        match self {
            Platters::Memory(platters) => Ok(platters.open()),
            Platters::Files(dir) => {
                let options = StoreOptions { journal_file_bytes: 1 << 20, ..StoreOptions::new(CLUSTER.0, node) };
                open_store(dir, options)
            }
        }
    }
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

pub fn member(index: u8) -> MemberId {
    MemberId(index)
}

pub fn name_of(member: MemberId) -> String {
    format!("storage-{member}")
}

impl Cluster {
    /// Six nodes, and nothing on their disks, which are in memory.
    pub async fn start() -> Cluster {
        Cluster::start_adjusted(Arc::new(|_| ())).await
    }

    pub async fn start_adjusted(adjust: Adjust) -> Cluster {
        Cluster::start_with(adjust, |_| Platters::Memory(MemoryPlatters::default())).await
    }

    /// Six nodes on real stores, into which whoever asks may inject faults.
    pub async fn start_on_files() -> Cluster {
        Cluster::start_with(Arc::new(|config| config.allow_fault_injection = true), Platters::Files).await
    }

    async fn start_with(adjust: Adjust, platters: fn(PathBuf) -> Platters) -> Cluster {
        let dir = tempfile::Builder::new().prefix("runtime-").tempdir().expect("a directory");
        let mut listeners = BTreeMap::new();
        for index in 0..6 {
            listeners.insert(member(index), TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
        }
        let address = |listener: &TcpListener| listener.local_addr().expect("bound");
        let members = listeners.iter().map(|(member, listener)| (*member, address(listener))).collect();
        let of = |member: &MemberId| (*member, platters(dir.path().join(name_of(*member))));
        let platters = listeners.keys().map(of).collect();
        let mut cluster = Cluster { nodes: BTreeMap::new(), members, platters, adjust, _dir: dir };
        for (member, listener) in listeners {
            cluster.start_on(member, listener);
        }
        cluster
    }

    fn start_on(&mut self, member: MemberId, listener: TcpListener) {
        let mut config = StorageConfig::new(&name_of(member), "az", CLUSTER, self.members[&member]);
        config.members = self.members.clone();
        (self.adjust)(&mut config);
        let node = StorageNode::start_on(listener, config, || self.platters[&member].open(&name_of(member)));
        self.nodes.insert(member, node.expect("it starts"));
    }

    /// Returns when the node has ended, and no thread of it uses its directory any more.
    #[allow(clippy::incompatible_msrv)] // Tests run with the toolchain of the day.
    pub async fn stop(&mut self, index: u8) {
        self.nodes.remove(&member(index)).expect("it runs").stop().await;
        let Platters::Files(dir) = &self.platters[&member(index)] else { return };
        let lock = std::fs::File::open(dir.join("lock")).expect("there");
        let until = Instant::now() + Duration::from_secs(60);
        while lock.try_lock().is_err() {
            assert!(Instant::now() < until, "{} is still in use", dir.display());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Takes everything from the disk of a node that is stopped.
    pub fn wipe(&mut self, index: u8) {
        match self.platters.get_mut(&member(index)).expect("a member") {
            Platters::Memory(platters) => *platters = MemoryPlatters::default(),
            Platters::Files(dir) => std::fs::remove_dir_all(dir).expect("it was there"),
        }
    }

    /// Copies the directory of a node that is stopped.
    pub fn copy_disk(&self, index: u8) {
        if let Platters::Files(dir) = &self.platters[&member(index)] {
            copy_folder(dir, &dir.with_extension("copy"));
        }
    }

    /// Puts that copy in the place of the directory of the node, which is stopped.
    pub fn put_back(&self, index: u8) {
        if let Platters::Files(dir) = &self.platters[&member(index)] {
            std::fs::remove_dir_all(dir).expect("it was there");
            std::fs::rename(dir.with_extension("copy"), dir).expect("it was copied");
        }
    }

    /// Puts the disk of another cluster's node in the place of this one's, which is stopped.
    pub async fn exchange_disks_with(&mut self, mut other: Cluster, index: u8) {
        other.stop(index).await;
        let disk = other.platters.remove(&member(index)).expect("a member");
        if let (Platters::Files(here), Platters::Files(there)) = (&self.platters[&member(index)], &disk) {
            std::fs::remove_dir_all(here).expect("it was there");
            std::fs::rename(there, here).expect("on one file system");
        }
    }

    /// Starts the node again, on what survived.
    pub async fn restart(&mut self, index: u8) {
        let address = self.members[&member(index)];
        let listener = TcpListener::bind(address).await.expect("the port is still ours");
        self.start_on(member(index), listener);
    }

    pub fn volume(&self, name: &str) -> VolumeConfig {
        VolumeConfig::new(name, CLUSTER, VOLUME, self.members.clone())
    }

    /// A cluster with an open volume.
    pub async fn with_volume() -> (Cluster, RemoteVolume) {
        Cluster::start().await.and_volume().await
    }

    /// Makes and opens a volume.
    pub async fn and_volume(self) -> (Cluster, RemoteVolume) {
        let cluster = self;
        let config = cluster.volume("instance-1");
        create_volume(&config, soon()).await.expect("all nodes answer");
        let volume = RemoteVolume::open(config, soon()).await.expect("all segments answer");
        (cluster, volume)
    }
}

pub fn page(block: u64) -> PageId {
    PageId { inode: 1, block }
}

/// The change that makes an all-`from` page all-`to`.
pub fn fill(page: PageId, from: u8, to: u8) -> Change<Delta> {
    Change { page, payload: Delta::between(&[from; PAGE_SIZE], &[to; PAGE_SIZE]).expect("they differ") }
}

pub async fn durable(volume: &RemoteVolume, lsn: Lsn, deadline: Instant) -> Result<(), VolumeError> {
    let (done, waiting) = oneshot::channel();
    let callback = move |result| done.send(result).expect("the test waits");
    volume.when_durable(lsn, deadline, Box::new(callback));
    waiting.await.expect("called back exactly once")
}

pub async fn read(volume: &RemoteVolume, page: PageId, deadline: Instant) -> Result<PageRead, VolumeError> {
    let (done, waiting) = oneshot::channel();
    volume.read(page, deadline, Box::new(move |result| done.send(result).expect("the test waits")));
    waiting.await.expect("called back exactly once")
}

/// Submits and waits for durability.
pub async fn commit(volume: &RemoteVolume, changes: Vec<Change<Delta>>, deadline: Instant) -> Result<Lsn, VolumeError> {
    let lsn = volume.submit(changes, deadline)?;
    durable(volume, lsn, deadline).await.map(|()| lsn)
}

pub async fn first_byte(volume: &RemoteVolume, page: PageId) -> u8 {
    let read = read(volume, page, soon()).await.expect("readable");
    read.page.content().first().copied().unwrap_or(0)
}
