//! How fast is the volume itself, without PostgreSQL? 256-byte commits against six storage processes on this machine.
//!
//! ```text
//! raw_volume [--seconds 5] [--writers 1,32] [--bytes 256] [--dir DIR] [--memory] [--tls]
//! ```
//! Each writer submits one record of random bytes, waits until it is durable, and goes on. All share one thread,
//! as the load generator's goroutines on the other side of `bench/raw-volume.sh` share threads, and as a mount has no
//! thread for each of its users: durability is told by a callback.
//! Beside it, and before it, the machine is measured: one `fdatasync` after an append of the same size, and one
//! round trip over loopback. The figure is median commit ÷ (fdatasync + round trip).
//!
//! `--memory` replaces each store by memory: what is left is the network and the processors.
//! `--tls` gives every process a certificate, and lets them speak under TLS.
//! The storage processes are this binary with the argument `storage`; they die with their parent.

use auriga_certs::{AUTHORITY_CERTIFICATE, Authority, Certified, CertifiedRole, Validity};
use auriga_net::tls::CredentialFiles;
use auriga_net::{ClusterId, Credentials};
use auriga_page::{Delta, PAGE_SIZE};
use auriga_protocol::{Change, MemberId, PageId, VolumeId};
use auriga_storage::disk::Opened;
use auriga_storage::{MemoryPlatters, open_store};
use auriga_storage::{StorageConfig, StorageNode};
use auriga_store::StoreOptions;
use auriga_volume::Volume;
use auriga_volume::VolumeStatus;
use auriga_volume::{RemoteVolume, VolumeConfig, create_volume};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const CLUSTER: ClusterId = ClusterId(0x0bec);
const PAGES: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(30);

struct Arguments {
    seconds: u64,
    writers: Vec<usize>,
    bytes: usize,
    dir: PathBuf,
    memory: bool,
    tls: bool,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((role, rest)) if role == "storage" => storage(rest),
        _ => bench(&options(&arguments)?),
    }
}

fn options(arguments: &[String]) -> Result<Arguments, Failure> {
    let mut options = Arguments {
        seconds: 5,
        writers: vec![1, 32],
        bytes: 256,
        dir: std::env::temp_dir(),
        memory: false,
        tls: false,
    };
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--seconds" => options.seconds = value()?.parse()?,
            "--writers" => options.writers = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--bytes" => options.bytes = value()?.parse()?,
            "--dir" => options.dir = value()?.into(),
            "--memory" => options.memory = true,
            "--tls" => options.tls = true,
            _ => return Err(format!("unknown argument {name}").into()),
        }
    }
    Ok(options)
}

/// Makes the certificates of all processes.
fn certify(dir: &Path) -> Result<(), Failure> {
    let (authority, _) = Authority::init(dir)?;
    let storage = (0..6).map(|index| (format!("storage-{index}"), CertifiedRole::Storage, [].into()));
    for (name, role, volumes) in storage.chain([("bench".to_owned(), CertifiedRole::Instance, [1].into())]) {
        authority.issue(dir, &Certified { name, role, volumes }, Validity::days(1))?;
    }
    Ok(())
}

fn credentials(dir: &Path, name: &str) -> Result<Credentials, Failure> {
    let [cert, key] = ["crt", "key"].map(|ext| dir.join(format!("{name}.{ext}")));
    Ok(Credentials::load(&CredentialFiles { ca: dir.join(AUTHORITY_CERTIFICATE), cert, key })?)
}

/// One storage process: `storage INDEX DIR|memory CERTIFICATES|clear ADDRESS…`.
fn storage(arguments: &[String]) -> Result<(), Failure> {
    let [index, dir, certificates, addresses @ ..] = arguments else {
        return Err("storage INDEX DIR CERTIFICATES ADDRESS…".into());
    };
    let index: usize = index.parse()?;
    let members = addresses.iter().zip(0..).map(|(address, member)| Ok((MemberId(member), address.parse()?)));
    let members: BTreeMap<MemberId, SocketAddr> = members.collect::<Result<_, std::net::AddrParseError>>()?;
    let mut config = StorageConfig::new(&format!("storage-{index}"), "az", CLUSTER, addresses[index].parse()?);
    config.members = members;
    if certificates != "clear" {
        config.credentials = Some(credentials(Path::new(certificates), &config.name)?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let node = StorageNode::start(config, || open(dir, &format!("storage-{index}"))).await?;
        node.stopped().await;
        node.stop().await;
        Ok(())
    })
}

fn open(dir: &str, node: &str) -> Result<Opened, String> {
    match dir {
        "memory" => Ok(MemoryPlatters::default().open()),
        dir => open_store(Path::new(dir), StoreOptions::new(CLUSTER.0, node)),
    }
}

/// Storage processes, killed when this goes out of scope.
struct Storage(Vec<Child>);

impl Drop for Storage {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Storage {
    fn cpu_time(&self) -> Result<Duration, Failure> {
        self.0.iter().map(|child| cpu_time(&child.id().to_string())).sum()
    }

    fn start(options: &Arguments, dir: &Path) -> Result<(Storage, BTreeMap<MemberId, SocketAddr>), Failure> {
        let listeners = (0..6).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        drop(listeners);
        let mut storage = Storage(Vec::new());
        for index in 0..6 {
            let own = if options.memory { "memory".into() } else { dir.join(index.to_string()) };
            let mut command = Command::new(std::env::current_exe()?);
            let certificates = if options.tls { dir.join("certificates") } else { "clear".into() };
            command.arg("storage").arg(index.to_string()).arg(own).arg(certificates);
            command.args(addresses.iter().map(SocketAddr::to_string));
            die_with_parent(&mut command);
            storage.0.push(command.spawn()?);
        }
        Ok((storage, addresses.into_iter().zip(0..).map(|(address, member)| (MemberId(member), address)).collect()))
    }
}

/// Processor time that a process has used.
fn cpu_time(process: &str) -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit(')').next().ok_or("no stat")?;
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10)) // Linux counts in hundredths of a second.
}

fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: prctl is async-signal-safe and touches nothing of this process.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

fn bench(options: &Arguments) -> Result<(), Failure> {
    let dir = tempfile::tempdir_in(&options.dir)?;
    let sync = median(fdatasync_times(dir.path(), options.bytes)?);
    let round_trip = median(round_trip_times(options.bytes)?);
    println!("fdatasync: {:.0} us", micros(sync));
    println!("round_trip: {:.0} us", micros(round_trip));

    let certificates = dir.path().join("certificates");
    if options.tls {
        certify(&certificates)?;
    }
    let (storage, members) = Storage::start(options, dir.path())?;
    let mut config = VolumeConfig::new("bench", CLUSTER, VolumeId(1), members);
    if options.tls {
        config.credentials = Some(credentials(&certificates, &config.name)?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let volume = runtime.block_on(async {
        create_volume(&config, Instant::now() + PATIENCE).await?;
        Ok::<_, Failure>(RemoteVolume::open(config, Instant::now() + PATIENCE).await?)
    })?;
    for writers in &options.writers {
        let started = Instant::now();
        let before = volume.status();
        let (own_cpu, storage_cpu) = (cpu_time("self")?, storage.cpu_time()?);
        let mut latencies = write_for(&volume, *writers, options)?;
        let (commits, elapsed) = (latencies.len(), started.elapsed());
        latencies.sort_unstable();
        let (p50, p99) = (latencies[commits / 2], latencies[commits * 99 / 100]);
        let after = volume.status();
        let sent = after.log_bytes_sent - before.log_bytes_sent;
        let writes = |status: &VolumeStatus| {
            status.traffic.iter().filter(|kind| kind.message == "Write").map(|kind| kind.sent.frames).sum::<u64>()
        };
        let batches = (writes(&after) - writes(&before)) / 6;
        println!("volume.c{writers}.rate: {:.0} commits/s", commits as f64 / elapsed.as_secs_f64());
        println!("volume.c{writers}.p50: {:.3} ms", micros(p50) / 1e3);
        println!("volume.c{writers}.p99: {:.3} ms", micros(p99) / 1e3);
        println!("volume.c{writers}.commits_per_batch: {:.1} -", commits as f64 / batches.max(1) as f64);
        println!("volume.c{writers}.bytes_per_commit: {:.0} bytes (six copies)", sent as f64 / commits as f64);
        let per_commit = |cpu: Duration| micros(cpu) / commits as f64;
        let (own_cpu, storage_cpu) = (cpu_time("self")? - own_cpu, storage.cpu_time()? - storage_cpu);
        println!("volume.c{writers}.cpu_writer: {:.1} us/commit", per_commit(own_cpu));
        println!("volume.c{writers}.cpu_storage: {:.1} us/commit (six processes)", per_commit(storage_cpu));
        let floor = sync + round_trip;
        println!("volume.c{writers}.p50_over_floor: {:.2} x (fdatasync + round trip)", micros(p50) / micros(floor));
    }
    runtime.block_on(volume.close(Instant::now() + PATIENCE));
    Ok(())
}

/// Latencies of the commits of `writers` closed loops.
fn write_for(volume: &RemoteVolume, writers: usize, options: &Arguments) -> Result<Vec<Duration>, Failure> {
    let until = Instant::now() + Duration::from_secs(options.seconds);
    let (done, ready) = channel();
    let submit = |writer: usize, changes: Vec<Change<Delta>>| {
        let deadline = Instant::now() + PATIENCE;
        let lsn = volume.submit(changes, deadline)?;
        let done = done.clone();
        let callback = move |result| done.send((writer, result)).unwrap_or(());
        volume.when_durable(lsn, deadline, Box::new(callback));
        Ok::<_, Failure>(())
    };
    let mut began = vec![Instant::now(); writers];
    let mut latencies = Vec::new();
    let mut random = RandomChange::new(options.bytes);
    for (writer, began) in began.iter_mut().enumerate() {
        *began = Instant::now();
        submit(writer, random.next()?)?;
    }
    let mut under_way = writers;
    while under_way > 0 {
        let (writer, result) = ready.recv()?;
        result?;
        let now = Instant::now();
        latencies.push(now - began[writer]);
        if now < until {
            let change = random.next()?;
            began[writer] = Instant::now();
            submit(writer, change)?;
        } else {
            under_way -= 1;
        }
    }
    Ok(latencies)
}

/// Makes records of `bytes` random bytes each, at random places.
struct RandomChange {
    bytes: usize,
    content: [u8; PAGE_SIZE],
}

impl RandomChange {
    fn new(bytes: usize) -> RandomChange {
        RandomChange { bytes, content: [0; PAGE_SIZE] }
    }

    fn next(&mut self) -> Result<Vec<Change<Delta>>, Failure> {
        let offset = fastrand::usize(..PAGE_SIZE - self.bytes);
        let changed = &mut self.content[offset..offset + self.bytes];
        fastrand::fill(changed);
        changed.iter_mut().for_each(|byte| *byte |= 1); // Every byte differs from the zeros before.
        let payload = Delta::between(&[0; PAGE_SIZE], &self.content).ok_or("nothing to write")?;
        self.content[offset..offset + self.bytes].fill(0);
        Ok(vec![Change { page: PageId { inode: 1, block: fastrand::u64(..PAGES) }, payload }])
    }
}

/// What one append of `bytes` and its `fdatasync` take, in a file whose space is allocated.
fn fdatasync_times(dir: &Path, bytes: usize) -> Result<Vec<Duration>, Failure> {
    let mut file = std::fs::File::create(dir.join("fdatasync"))?;
    file.write_all(&vec![0; 1 << 20])?;
    file.sync_all()?;
    std::io::Seek::rewind(&mut file)?;
    let content = vec![1; bytes];
    let mut times = Vec::new();
    for _ in 0..300 {
        let began = Instant::now();
        file.write_all(&content)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// What `bytes` there and 8 bytes back take over loopback.
fn round_trip_times(bytes: usize) -> Result<Vec<Duration>, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut here = TcpStream::connect(listener.local_addr()?)?;
    let (mut there, _) = listener.accept()?;
    here.set_nodelay(true)?;
    there.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut request = vec![0; bytes];
        while there.read_exact(&mut request).is_ok() && there.write_all(&[0; 8]).is_ok() {}
    });
    let (request, mut reply) = (vec![0; bytes], [0; 8]);
    let mut times = Vec::new();
    for _ in 0..2000 {
        let began = Instant::now();
        here.write_all(&request)?;
        here.read_exact(&mut reply)?;
        times.push(began.elapsed());
    }
    drop(here);
    echo.join().map_err(|_| "the echo panicked")?;
    Ok(times)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
