//! Two regions, each of six storage processes, with PostgreSQL on the primary, driven by the commands that a person types.
//! Everybody has a certificate of one authority.

mod common;

use common::{AURIGA, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// Each region's loopback network.
const NETWORKS: [&str; 2] = ["127.0.133", "127.0.134"];
/// Where a snapshot is opened.
const SNAPSHOT: &str = "127.0.134.31";
/// Sessions that write what is lost.
const CLIENTS: usize = 3;
/// Transactions that are in a database.
const LEDGER: &str = "select xid from ledger";
const MEMBERS: [&str; 6] = ["a1", "a2", "b1", "b2", "c1", "c2"];

/// A process of the program, killed and waited for when the test ends.
struct Process(Child);

impl Process {
    fn start(arguments: &[&str], log: &Path) -> Process {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(AURIGA);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Process(command.spawn().unwrap())
    }

    /// Waits for its end. Returns its exit code.
    fn end(&mut self) -> Option<i32> {
        wait_until("the end of a process", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code()
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
    instances: [Option<Process>; 2],
    regions: [Option<Process>; 2],
    _storage: Vec<Process>,
    dir: TempDir,
}

impl World {
    /// A global database that was just created; region 1 is the primary.
    fn start() -> World {
        let dir = tempfile::tempdir().unwrap();
        // PostgreSQL's user must get through.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
        let authority = dir.path().join("authority").display().to_string();
        assert!(auriga(&["certs", "init", &authority]).status.success());
        let tls = |name: &str, role: &[&str]| {
            let issued = auriga(&[&["certs", "issue", &authority, name, "--role"], role].concat());
            assert!(issued.status.success(), "{}", text(&issued));
            let file = |name: &str| format!("{authority}/{name}");
            let (ca, cert, key) = (file("ca.crt"), file(&format!("{name}.crt")), file(&format!("{name}.key")));
            format!("[tls]\nca = \"{ca}\"\ncert = \"{cert}\"\nkey = \"{key}\"\n")
        };
        let admin = tls("me", &["admin"]);
        let mut storage = Vec::new();
        for (index, network) in NETWORKS.iter().enumerate() {
            let region = index + 1;
            let at = dir.path().join(format!("r{region}"));
            std::fs::create_dir(&at).unwrap();
            std::fs::set_permissions(&at, Permissions::from_mode(0o711)).unwrap();
            let address = |index: usize| format!("\"{network}.{}:7400\"", index + 1);
            let addresses = (0..6).map(address).collect::<Vec<_>>().join(", ");
            let mut all = String::new();
            for (index, name) in MEMBERS.iter().enumerate() {
                let (az, address, directory) = (&name[..1], address(index), at.join(name).display().to_string());
                let full_name = format!("{name}-{region}");
                let tls = tls(&full_name, &["storage"]);
                let text = format!(
                    "cluster = \"c{region}\"\nname = \"{full_name}\"\naz = \"{az}\"\ndirectory = \"{directory}\"\n\
                     listen = {address}\nmembers = [{addresses}]\n{tls}"
                );
                std::fs::write(at.join(format!("{name}.toml")), text).unwrap();
                all += &format!("[[storage]]\nname = \"{full_name}\"\naz = \"{az}\"\naddress = {address}\n");
            }
            let writer = tls(&format!("writer-{region}"), &["instance", "--volume", "1"]);
            let instance = format!(
                "cluster = \"c{region}\"\nname = \"writer-{region}\"\nvolume = 1\ngroups = 2\ndirectory = \"{}\"\n\
                 listen = \"{network}.11\"\nadmin = \"{network}.11:7401\"\n[readers]\nlisten = \"{network}.11:7402\"\n\
                 [postgres.settings]\nshared_buffers = \"16MB\"\n{writer}{all}",
                at.join("writer").display()
            );
            std::fs::write(at.join("writer.toml"), instance).unwrap();
            let regions: Vec<String> = (1..=2)
                .map(|other| format!("[[regions]]\nregion = {other}\naddress = \"{}.21:7405\"\n", NETWORKS[other - 1]))
                .collect();
            let config = format!(
                "global = \"g\"\nfirst_primary = 1\nregion = {region}\nname = \"region-{region}\"\n\
                 cluster = \"c{region}\"\nvolume = 1\ngroups = 2\ninstances = [\"{network}.11:7402\"]\n{}{all}",
                regions.concat()
            );
            let replication = tls(&format!("region-{region}"), &["replication", "--volume", "1"]);
            std::fs::write(at.join("region.toml"), config.clone() + &replication).unwrap();
            // A region's own certificate does not say who may move the role.
            std::fs::write(at.join("admin.toml"), config + &admin).unwrap();
            for name in MEMBERS {
                let file = at.join(format!("{name}.toml"));
                let log = at.join(format!("{name}.log"));
                storage.push(Process::start(&["storage", "--config", file.to_str().unwrap()], &log));
            }
        }
        let mut world = World { instances: [None, None], regions: [None, None], _storage: storage, dir };
        for region in [1, 2] {
            let file = world.file(region, "writer.toml");
            wait_until("the volume", || auriga(&["create-volume", "--config", &file]).status.success());
            world.run_region(region);
        }
        wait_until("both regions", || {
            let status = world.global(&["status"]);
            status.contains("region 1  primary") && status.contains("region 2  secondary")
        });
        world
    }

    fn path(&self, region: usize, name: &str) -> PathBuf {
        self.dir.path().join(format!("r{region}")).join(name)
    }

    fn file(&self, region: usize, name: &str) -> String {
        self.path(region, name).display().to_string()
    }

    fn run_region(&mut self, region: usize) {
        let file = self.file(region, "region.toml");
        let process = Process::start(&["global", "region", "--config", &file], &self.path(region, "region.log"));
        self.regions[region - 1] = Some(process);
    }

    /// Starts a region's instance, and waits until PostgreSQL answers.
    fn run_instance(&mut self, region: usize) {
        let file = self.file(region, "writer.toml");
        let process = Process::start(&["instance", "--config", &file], &self.path(region, "writer.log"));
        self.instances[region - 1] = Some(process);
        wait_until("PostgreSQL", || sql(region, "select 1").is_ok());
    }

    /// Opens what a region has lost, and waits until PostgreSQL answers there.
    fn open_snapshot(&self, region: usize) -> Process {
        let (file, directory) = (self.file(region, "region.toml"), self.file(region, "snapshot"));
        let options = ["--lost", "--config", &file, "--directory", &directory, "--listen", SNAPSHOT, "--port", "5432"];
        let process = Process::start(&[&["open-snapshot"][..], &options].concat(), &self.path(region, "snapshot.log"));
        wait_until("PostgreSQL on the snapshot", || ask(SNAPSHOT, "select 1").is_ok());
        process
    }

    /// Waits until a region's instance has ended because it was fenced.
    fn until_fenced(&mut self, region: usize) {
        let mut instance = self.instances[region - 1].take().unwrap();
        assert_eq!(instance.end(), Some(3), "the exit code of an instance that was fenced");
    }

    /// Asks the global database, through the configuration of region 1.
    fn global(&self, arguments: &[&str]) -> String {
        let file = self.file(1, "admin.toml");
        text(&auriga(&[&["global"], arguments, &["--config", &file]].concat()))
    }
}

fn auriga(arguments: &[&str]) -> Output {
    Command::new(AURIGA).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn sql(region: usize, statement: &str) -> Result<String, String> {
    ask(&format!("{}.11", NETWORKS[region - 1]), statement)
}

fn ask(host: &str, statement: &str) -> Result<String, String> {
    let mut command = Command::new("psql");
    command.args(["-XqAt", "-U", "postgres", "-h", host, "-c", statement]).env("PGCONNECT_TIMEOUT", "5");
    let output = command.stdin(Stdio::null()).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(text(&output))
    }
}

/// A session that commits to region 2's ledger, one transaction after the other, until it fails.
struct Client(JoinHandle<Vec<u64>>);

impl Client {
    fn start(_: usize) -> Client {
        Client(std::thread::spawn(|| {
            let insert = "insert into ledger values (pg_current_xact_id()) returning xid";
            std::iter::from_fn(|| sql(2, insert).ok()?.parse().ok()).collect()
        }))
    }

    /// Waits until it has failed. Returns what was acknowledged to it.
    fn end(self) -> Vec<u64> {
        self.0.join().unwrap()
    }
}

fn xids(rows: &str) -> BTreeSet<u64> {
    rows.lines().map(|row| row.parse().unwrap()).collect()
}

/// The transactions of a report that touched a table.
fn xids_of(report: &Value, table: &str) -> BTreeSet<u64> {
    let commits = report["commits"].as_array().unwrap().iter();
    let of_table = commits.filter(|commit| {
        let tables = commit["tables"].as_array().unwrap();
        tables.iter().any(|it| it["name"] == table && it["database"] == "postgres")
    });
    of_table.map(|commit| commit["xid"].as_u64().unwrap()).collect()
}

/// What was acknowledged and has not survived is listed. What else is listed was on its way when its session was cut: one
/// transaction of each.
fn is_what_was_lost(report: &Value, acknowledged: &BTreeSet<u64>, survived: &BTreeSet<u64>) {
    let listed = xids_of(report, "public.ledger");
    let lost = acknowledged - survived;
    assert!(!lost.is_empty() && lost.is_subset(&listed), "acknowledged and lost {lost:?}, listed {listed:?}");
    assert!(listed.is_disjoint(survived), "listed {listed:?}, survived {survived:?}");
    let unacknowledged = &listed - acknowledged;
    assert!(unacknowledged.len() <= CLIENTS, "never acknowledged {unacknowledged:?}");
    let times = report["commits"].as_array().unwrap().iter().map(|commit| commit["at"].as_str().unwrap());
    assert!(times.clone().all(|at| at.starts_with("20") && at.ends_with("+00")), "{:?}", times.collect::<Vec<_>>());
}

#[test]
fn a_role_moves_between_regions_and_what_is_lost_is_named() {
    let mut world = World::start();
    world.run_instance(1);
    sql(
        1,
        "create table t(id int primary key, said text); create table ledger(xid xid8); insert into t select i, 'one' from generate_series(1, 500) i",
    )
    .unwrap();
    let moved = world.global(&["switchover", "--to", "2"]);
    assert!(moved.contains("region 2 is the primary") && moved.contains("nothing is lost"), "{moved}");
    world.until_fenced(1);
    world.run_instance(2);
    assert_eq!(sql(2, "select count(*) from t").unwrap(), "500");

    // Region 1 lets nobody write.
    let refused = auriga(&["instance", "--config", &world.file(1, "writer.toml")]);
    let why = text(&refused);
    assert!(!refused.status.success() && why.contains("region 2 is the primary of this global database"), "{why}");
    // The region takes its volume back, and goes on to follow.
    sql(2, "insert into t select i, 'two' from generate_series(501, 600) i").unwrap();
    wait_until("region 1 follows", || {
        let status = world.global(&["status"]);
        let through = |region: &str| {
            let line = status.lines().find(|line| line.starts_with(region))?;
            line.split_whitespace().find_map(|word| word.parse::<u64>().ok().filter(|lsn| *lsn > 2))
        };
        through("region 1").is_some() && through("region 1") == through("region 2")
    });

    // Region 2 is cut off, and goes on.
    let lost = |region: usize| {
        let file = world.file(region, "region.toml");
        auriga(&["global", "lost", "--json", "--config", &file])
    };
    assert_eq!(lost(2).stdout, b"null\n");
    let nothing =
        auriga(&["open-snapshot", "--lost", "--config", &world.file(2, "region.toml"), "--directory", "/none"]);
    assert!(text(&nothing).contains("has lost nothing"), "{}", text(&nothing));
    let clients: Vec<_> = (0..CLIENTS).map(Client::start).collect();
    wait_until("some commits", || sql(2, "select count(*) > 20 from ledger").unwrap() == "t");
    world.regions[1] = None;
    sql(2, "insert into t values (9000, 'lost'); update t set said = 'lost' where id <= 10").unwrap();
    let failed = world.global(&["failover", "--to", "1"]);
    assert!(failed.contains("--allow-data-loss"), "it is not done by mistake: {failed}");
    let failed = world.global(&["failover", "--to", "1", "--allow-data-loss"]);
    assert!(failed.contains("region 1 is the primary") && failed.contains("could not be fenced"), "{failed}");
    sql(2, "insert into t values (9001, 'lost')").unwrap();
    world.run_instance(1);
    // The second hundred has arrived, or is lost with the rest: one transaction, whole.
    let arrived: u64 = sql(1, "select count(*) from t").unwrap().parse().unwrap();
    assert!(arrived == 500 || arrived == 600, "{arrived}");
    assert_eq!(sql(1, "select count(*) from t where said = 'lost'").unwrap(), "0");
    sql(1, "insert into t values (601, 'three')").unwrap();

    // It is heard of again: it names what it lost, and follows.
    world.run_region(2);
    world.until_fenced(2);
    let acknowledged: BTreeSet<u64> = clients.into_iter().flat_map(Client::end).collect();
    let report = || text(&auriga(&["global", "lost", "--json", "--config", &world.file(2, "region.toml")]));
    wait_until("the named loss", || report().contains("lost-r2-"));
    let named: Value = serde_json::from_str(&report()).unwrap();
    assert_eq!((&named["region"], &named["kept"]), (&2.into(), &true.into()), "{named}");
    assert!(named["amount"]["mini_transactions"].as_u64() > Some(0), "{named}");
    let survived = xids(&sql(1, LEDGER).unwrap());
    is_what_was_lost(&named, &acknowledged, &survived);
    let mut snapshot = world.open_snapshot(2);
    let in_snapshot = xids(&ask(SNAPSHOT, LEDGER).unwrap());
    let listed = xids_of(&named, "public.ledger");
    assert_eq!(in_snapshot, &listed | &survived, "the snapshot holds what was lost, whole");
    assert_eq!(ask(SNAPSHOT, "select count(*) from t where said = 'lost'").unwrap(), "12");
    let refused = ask(SNAPSHOT, "delete from t").unwrap_err();
    assert!(refused.contains("read-only transaction"), "{refused}");
    let back = world.global(&["switchover", "--to", "2"]);
    assert!(back.contains("region 2 is the primary") && back.contains("nothing is lost"), "{back}");
    world.until_fenced(1);
    world.run_instance(2);
    // Nobody holds the snapshot any more. It says so, or answers as before: it never shows anything else.
    wait_until("the end of the snapshot", || {
        sql(2, "update t set said = said where id <= 500; checkpoint").unwrap();
        let answer = ask(SNAPSHOT, LEDGER);
        assert!(answer.as_ref().map_or(true, |rows| xids(rows) == in_snapshot), "{answer:?}");
        snapshot.0.try_wait().unwrap().is_some()
    });
    assert_eq!(snapshot.end(), Some(1));
    let log = std::fs::read_to_string(world.path(2, "snapshot.log")).unwrap();
    assert!(log.contains("does not keep the volume as of LSN"), "{log}");
    let rows = "select count(*), count(*) filter (where said = 'lost'), max(id) from t";
    assert_eq!(sql(2, rows).unwrap(), format!("{}|0|601", arrived + 1));
}
