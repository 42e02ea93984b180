//! Two regions, each of six storage processes, driven by the commands that a person types. Everybody has a certificate of
//! one authority.

use super::{AURIGA, wait_until};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

const MEMBERS: [&str; 6] = ["a1", "a2", "b1", "b2", "c1", "c2"];

/// What instances the regions have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One that writes.
    Writers,
    /// One that takes any role, and one that reads.
    Any,
}

/// A process of the program, killed and waited for when the test ends.
pub struct Process(pub Child);

impl Process {
    pub fn start(arguments: &[&str], log: &Path) -> Process {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(AURIGA);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Process(command.spawn().unwrap())
    }

    /// Waits for its end. Returns its exit code.
    pub fn end(&mut self) -> Option<i32> {
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

pub struct World {
    // Dropped in this order: what uses storage ends first.
    pub instances: [Option<Process>; 2],
    pub regions: [Option<Process>; 2],
    others: Vec<Process>,
    _storage: Vec<Process>,
    networks: [&'static str; 2],
    dir: TempDir,
}

impl World {
    /// A global database that was just created; region 1 is the primary. In each region an instance may write, and another
    /// one reads. Each region has a loopback network of its own.
    pub fn start(networks: [&'static str; 2], kind: Kind) -> World {
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
        for (index, network) in networks.iter().enumerate() {
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
            let follow = format!(
                "[follow]\nregion = \"{network}.21:7402\"\n[[follow.instances]]\nreaders = \"{network}.11:7402\"\n\
                 postgres = \"host={network}.11 port=5432 user=postgres\"\n"
            );
            let readers = format!("[readers]\nlisten = \"{network}.11:7402\"\n");
            let instance = |name: &str, host: u8, role: &str, rest: &str| {
                let tls = tls(&format!("{name}-{region}"), &["instance", "--volume", "1"]);
                let text = format!(
                    "cluster = \"c{region}\"\nname = \"{name}-{region}\"\nvolume = 1\ngroups = 2\ndirectory = \"{}\"\n\
                     role = \"{role}\"\nlisten = \"{network}.{host}\"\nadmin = \"{network}.{host}:7401\"\n\
                     [postgres.settings]\nshared_buffers = \"16MB\"\n{rest}{tls}{all}",
                    at.join(name).display()
                );
                std::fs::write(at.join(format!("{name}.toml")), text).unwrap();
            };
            match kind {
                Kind::Writers => instance("writer", 11, "writer", &readers),
                Kind::Any => {
                    instance("writer", 11, "any", &format!("{readers}{follow}"));
                    instance("reader", 12, "reader", &follow);
                }
            }
            let control = tls(&format!("control-{region}"), &["control"]);
            let control = format!(
                "cluster = \"c{region}\"\nname = \"control-{region}\"\ndirectory = \"{}\"\nlisten = \"{network}.31:7403\"\n\
                 {control}[[instances]]\nname = \"writer-{region}\"\nadmin = \"{network}.11:7401\"\n{all}",
                at.join("control").display()
            );
            std::fs::write(at.join("control.toml"), control).unwrap();
            let regions: Vec<String> = (1..=2)
                .map(|other| format!("[[regions]]\nregion = {other}\naddress = \"{}.21:7405\"\n", networks[other - 1]))
                .collect();
            let config = format!(
                "global = \"g\"\nfirst_primary = 1\nregion = {region}\nname = \"region-{region}\"\n\
                 cluster = \"c{region}\"\nvolume = 1\ngroups = 2\ninstances = [\"{network}.11:7402\"]\n\
                 [readers]\nlisten = \"{network}.21:7402\"\n{}{all}",
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
        let mut world = World {
            instances: [None, None],
            regions: [None, None],
            others: Vec::new(),
            _storage: storage,
            networks,
            dir,
        };
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

    pub fn path(&self, region: usize, name: &str) -> PathBuf {
        self.dir.path().join(format!("r{region}")).join(name)
    }

    pub fn file(&self, region: usize, name: &str) -> String {
        self.path(region, name).display().to_string()
    }

    pub fn run_region(&mut self, region: usize) {
        let file = self.file(region, "region.toml");
        let process = Process::start(&["global", "region", "--config", &file], &self.path(region, "region.log"));
        self.regions[region - 1] = Some(process);
    }

    /// Starts a region's instance, and waits until PostgreSQL answers.
    pub fn run_instance(&mut self, region: usize) {
        let file = self.file(region, "writer.toml");
        let process = Process::start(&["instance", "--config", &file], &self.path(region, "writer.log"));
        self.instances[region - 1] = Some(process);
        wait_until("PostgreSQL", || self.sql(region, "select 1").is_ok());
    }

    /// Starts a region's instance, and does not wait.
    pub fn run_any(&mut self, region: usize) {
        let file = self.file(region, "writer.toml");
        let process = Process::start(&["instance", "--config", &file], &self.path(region, "writer.log"));
        self.instances[region - 1] = Some(process);
    }

    /// Starts a process of a region that runs until the test ends, by its command and its configuration.
    pub fn run(&mut self, region: usize, command: &str, name: &str) {
        let (file, log) = (self.file(region, &format!("{name}.toml")), self.path(region, &format!("{name}.log")));
        self.others.push(Process::start(&[command, "--config", &file], &log));
    }

    /// Asks a region's instance that may write.
    pub fn sql(&self, region: usize, statement: &str) -> Result<String, String> {
        self.sql_at(region, 11, statement)
    }

    /// Asks an instance by the last byte of its address.
    pub fn sql_at(&self, region: usize, host: u8, statement: &str) -> Result<String, String> {
        let host = format!("{}.{host}", self.networks[region - 1]);
        let mut command = Command::new("psql");
        command.args(["-XqAt", "-U", "postgres", "-h", &host, "-c", statement]).env("PGCONNECT_TIMEOUT", "5");
        let output = command.stdin(Stdio::null()).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(text(&output)),
        }
    }

    /// Waits until a region's instance has ended because it was fenced.
    pub fn until_fenced(&mut self, region: usize) {
        let mut instance = self.instances[region - 1].take().unwrap();
        assert_eq!(instance.end(), Some(3), "the exit code of an instance that was fenced");
    }

    /// Asks the global database, through the configuration of region 1.
    pub fn global(&self, arguments: &[&str]) -> String {
        let file = self.file(1, "admin.toml");
        text(&auriga(&[&["global"], arguments, &["--config", &file]].concat()))
    }
}

pub fn auriga(arguments: &[&str]) -> Output {
    Command::new(AURIGA).args(arguments).stdin(Stdio::null()).output().unwrap()
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

impl Drop for World {
    /// Where a test fails, what the processes said last is the best that there is to find out why.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for region in [1, 2] {
            for name in ["region", "control", "writer", "reader"] {
                let log = std::fs::read_to_string(self.path(region, &format!("{name}.log"))).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("---- {name} of region {region}\n{}", lines[lines.len().saturating_sub(25)..].join("\n"));
            }
        }
    }
}
