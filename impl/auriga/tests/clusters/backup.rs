//! A backup under load, and new volumes from it as of some instants, driven by the commands that a person types.

use crate::common::{AURIGA, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const NETWORK: &str = "127.0.139";
const MEMBERS: [&str; 6] = ["a1", "a2", "b1", "b2", "c1", "c2"];
const CLIENTS: u64 = 3;

/// A process of the program, killed and waited for when the test ends.
struct Process(Child);

impl Process {
    fn start(arguments: &[&str], log: &Path) -> Process {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(AURIGA);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Process(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct World {
    // Dropped in this order: what uses storage ends first.
    backup: Option<Process>,
    instances: Vec<Process>,
    _storage: Vec<Process>,
    dir: TempDir,
}

impl World {
    /// Six storage processes.
    fn start() -> World {
        let dir = tempfile::tempdir().unwrap();
        // PostgreSQL's user must get through.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
        let mut storage = Vec::new();
        for (index, name) in MEMBERS.iter().enumerate() {
            let (az, at) = (&name[..1], dir.path().join(name));
            let text = format!(
                "cluster = \"backup\"\nname = \"{name}\"\naz = \"{az}\"\ndirectory = \"{}\"\nlisten = \"{}\"\nmembers = [{}]\n",
                at.display(),
                address(index),
                (0..6).map(|other| format!("\"{}\"", address(other))).collect::<Vec<_>>().join(", ")
            );
            let file = dir.path().join(format!("{name}.toml"));
            std::fs::write(&file, text).unwrap();
            let log = dir.path().join(format!("{name}.log"));
            storage.push(Process::start(&["storage", "--config", file.to_str().unwrap()], &log));
        }
        World { backup: None, instances: Vec::new(), _storage: storage, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text_path(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Makes a volume. Returns the configuration of its instance.
    fn create(&self, volume: u64) -> String {
        let storage: Vec<String> = storage_list();
        let text = format!(
            "cluster = \"backup\"\nname = \"i{volume}\"\nvolume = {volume}\ngroups = 2\ndirectory = \"{}\"\nlisten = \"{}\"\n\
             admin = \"{}:7401\"\n[readers]\nlisten = \"{}:7402\"\n[postgres.settings]\nshared_buffers = \"16MB\"\n{}",
            self.text_path(&format!("i{volume}")),
            host(volume),
            host(volume),
            host(volume),
            storage.concat()
        );
        let file = self.path(&format!("i{volume}.toml"));
        std::fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        wait_until("the volume", || auriga(&["create-volume", "--config", &file]).status.success());
        file
    }

    /// Starts a volume's instance, and waits until PostgreSQL answers.
    fn run(&mut self, volume: u64) {
        let file = self.text_path(&format!("i{volume}.toml"));
        let log = self.path(&format!("i{volume}.log"));
        self.instances.push(Process::start(&["instance", "--config", &file], &log));
        wait_until("PostgreSQL", || sql(volume, "select 1").is_ok());
    }

    /// Starts the backup of volume 1.
    fn back_up(&mut self) {
        let text = format!(
            "cluster = \"backup\"\nname = \"backup\"\nvolume = 1\ngroups = 2\ninstances = [\"{}:7402\"]\nto = \"{}\"\n\
             put_every_ms = 300\n{}",
            host(1),
            self.text_path("kept"),
            storage_list().concat()
        );
        let file = self.path("backup.toml");
        std::fs::write(&file, text).unwrap();
        let log = self.path("backup.log");
        self.backup = Some(Process::start(&["backup", "--config", file.to_str().unwrap()], &log));
    }

    /// What is in the backup.
    fn catalog(&self) -> Option<Value> {
        let output = auriga(&["backups", "--json", "--from", &self.text_path("kept")]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Restores from a folder into a volume, as of a time.
    fn restore(&self, from: &str, volume: u64, at: &str) -> Output {
        let (from, config) = (self.text_path(from), self.text_path(&format!("i{volume}.toml")));
        auriga(&["restore", "--from", &from, "--at", at, "--config", &config, "--clocks-within", "1"])
    }
}

fn address(index: usize) -> String {
    format!("{NETWORK}.{}:7400", index + 1)
}

fn host(volume: u64) -> String {
    format!("{NETWORK}.{}", 10 + volume)
}

fn storage_list() -> Vec<String> {
    let one = |(index, name): (usize, &&str)| {
        format!("[[storage]]\nname = \"{name}\"\naz = \"{}\"\naddress = \"{}\"\n", &name[..1], address(index))
    };
    MEMBERS.iter().enumerate().map(one).collect()
}

fn auriga(arguments: &[&str]) -> Output {
    Command::new(AURIGA).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn sql(volume: u64, statement: &str) -> Result<String, String> {
    let mut command = Command::new("psql");
    command.args(["-XqAt", "-U", "postgres", "-h", &host(volume), "-c", statement]).env("PGCONNECT_TIMEOUT", "5");
    let output = command.stdin(Stdio::null()).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(text(&output))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// A time, as the command line takes it.
fn at(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // From days since 1970 to a date, as H. Hinnant describes it.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{:06}", micros % 1_000_000)
}

/// A commit: what it wrote, when it was begun, and when it was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Committed {
    id: u64,
    begun: u64,
    acknowledged: u64,
}

/// Sessions that commit until they are told to stop.
struct Clients {
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    running: Vec<JoinHandle<Vec<Committed>>>,
}

impl Clients {
    fn start() -> Clients {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(1)));
        let client = |_| {
            let (stop, next) = (stop.clone(), next.clone());
            std::thread::spawn(move || {
                let mut done = Vec::new();
                while !stop.load(SeqCst) {
                    let (id, begun) = (next.fetch_add(1, SeqCst), now());
                    sql(
                        1,
                        &format!(
                            "insert into ledger values ({id}); update pages set n = n + 1 where id % 7 = {id} % 7"
                        ),
                    )
                    .unwrap();
                    done.push(Committed { id, begun, acknowledged: now() });
                }
                done
            })
        };
        let running = (0..CLIENTS).map(client).collect();
        Clients { stop, next, running }
    }

    fn stop(self) -> Vec<Committed> {
        self.stop.store(true, SeqCst);
        self.running.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

/// What was acknowledged before the instant is there, and what was begun after it is not.
fn is_as_of(volume: u64, instant: u64, ledger: &[Committed]) {
    let rows = sql(volume, "select id from ledger").unwrap();
    let there: BTreeSet<u64> = rows.lines().map(|row| row.parse().unwrap()).collect();
    for one in ledger {
        let is_there = there.contains(&one.id);
        assert!(is_there || one.acknowledged > instant, "{one:?} is missing as of {instant}");
        assert!(!is_there || one.begun <= instant, "{one:?} is there as of {instant}");
    }
    // Both statements of a transaction, or none.
    let sums = sql(volume, "select sum(n), (select count(*) from ledger) from pages").unwrap();
    let (sum, count) = sums.split_once('|').unwrap();
    assert_eq!(sum.parse::<u64>().unwrap(), count.parse::<u64>().unwrap() * 10, "{sums}");
    assert_eq!(sql(volume, "insert into ledger values (0); select count(*) from ledger where id = 0").unwrap(), "1");
}

/// Copies a backup, and damages the copy by `damage` of the log object in the middle of it.
fn damaged(world: &World, name: &str, damage: impl FnOnce(&Path)) -> PathBuf {
    let copied = Command::new("cp").arg("-r").args([world.path("kept"), world.path(name)]).status().unwrap();
    assert!(copied.success());
    let entries = std::fs::read_dir(world.path(name).join("log")).unwrap();
    let mut objects: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    objects.sort();
    let object = objects.swap_remove(objects.len() / 4);
    damage(&object);
    object
}

#[test]
fn a_volume_is_restored_as_of_any_instant() {
    let mut world = World::start();
    world.create(1);
    world.run(1);
    sql(1, "create table ledger(id int); create table pages as select i id, 0 n from generate_series(0, 69) i")
        .unwrap();
    world.back_up();
    wait_until("a base image", || {
        world.catalog().is_some_and(|it| it["bases"].as_array().is_some_and(|it| !it.is_empty()))
    });
    let began = now();
    let clients = Clients::start();
    wait_until("commits", || clients.next.load(SeqCst) > 30 && now() > began + 3_000_000);
    // It keeps nothing of its own: another process goes on.
    world.backup = None;
    let without = clients.next.load(SeqCst);
    wait_until("commits without a backup", || clients.next.load(SeqCst) > without + 10);
    world.back_up();
    sql(1, "checkpoint").unwrap();
    let again = clients.next.load(SeqCst);
    wait_until("more commits", || clients.next.load(SeqCst) > again + 30 && now() > began + 8_000_000);
    let ledger = clients.stop();
    let until = at(now()) + "+00";
    sql(1, "insert into ledger values (-1)").unwrap();
    wait_until("the end of the load in the backup", || {
        world.catalog().is_some_and(|it| it["log_read"].as_str() > Some(&*until))
    });

    let (first, last) = (began + 2_500_000, ledger.iter().map(|one| one.begun).max().unwrap());
    let instant = || fastrand::u64(first..last);

    // Nothing of what is refused harms anybody.
    for volume in [2, 3] {
        world.create(volume);
    }
    let refused = text(&world.restore("kept", 1, &at(instant())));
    assert!(refused.contains("the volume was written before"), "{refused}");
    let refused = text(&world.restore("kept", 2, &at(now() + 3_600_000_000)));
    assert!(refused.contains("it is not known that all before it is there"), "{refused}");
    let refused = text(&world.restore("kept", 2, &at(began - 3_600_000_000)));
    assert!(refused.contains("begins too late"), "{refused}");
    let late = at(last);
    damaged(&world, "hole", |object| std::fs::remove_file(object).unwrap());
    let refused = text(&world.restore("hole", 2, &late));
    assert!(refused.contains("is not in the backup"), "{refused}");

    // A restore that ended in the middle leaves a volume that nobody can open. The same command finishes it.
    let mut content = Vec::new();
    let object = damaged(&world, "torn", |object| {
        content = std::fs::read(object).unwrap();
        std::fs::write(object, &content[..content.len() / 2]).unwrap();
    });
    let refused = text(&world.restore("torn", 2, &late));
    assert!(refused.contains("it is damaged"), "{refused}");
    let unopened = text(&auriga(&["instance", "--config", &world.text_path("i2.toml")]));
    assert!(unopened.contains("a restore into this volume has not ended"), "{unopened}");
    let refused = text(&world.restore("kept", 2, &at(last - 1)));
    assert!(refused.contains("another restore into this volume was begun"), "{refused}");
    std::fs::write(object, content).unwrap();
    let restored = world.restore("torn", 2, &late);
    assert!(restored.status.success(), "{}", text(&restored));
    world.run(2);
    is_as_of(2, last, &ledger);
    let refused = text(&world.restore("kept", 2, &late));
    assert!(refused.contains("the volume was written before"), "{refused}");

    let chosen = instant();
    let restored = world.restore("kept", 3, &at(chosen));
    assert!(restored.status.success(), "{}", text(&restored));
    world.run(3);
    is_as_of(3, chosen, &ledger);
    assert_eq!(sql(1, "select count(*) from ledger where id = -1").unwrap(), "1", "the first one goes on");

    // All that is backed up.
    world.create(4);
    let (from, config) = (world.text_path("kept"), world.text_path("i4.toml"));
    let restored = auriga(&["restore", "--from", &from, "--config", &config]);
    assert!(restored.status.success(), "{}", text(&restored));
    world.run(4);
    let rows = "select count(*), min(id), (select sum(n) from pages) from ledger";
    assert_eq!(sql(4, rows).unwrap(), sql(1, rows).unwrap());
}
