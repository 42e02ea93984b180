//! Instances that are overtaken: each ends with the exit code that says so, whatever it was doing.

use crate::common::{AURIGA, Running};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Of an instance that was fenced.
const EXIT_FENCED: i32 = 3;

/// An instance of a demo's volume that the demo does not know of; killed when the test ends.
struct Rival {
    child: Child,
    log: PathBuf,
}

impl Rival {
    /// Starts one, from the configuration of the demo's own instance.
    fn start(demo: &Running, at: &Path, number: u8) -> Rival {
        let name = format!("rival-{number}");
        let host = format!("{}.{}", demo.network, 100 + number);
        let text = std::fs::read_to_string(Path::new(&demo.dir()).join("config/writer.toml")).unwrap();
        let mut config: toml::Table = text.parse().unwrap();
        config.insert("name".into(), name.clone().into());
        config.insert("listen".into(), host.clone().into());
        config.insert("admin".into(), format!("{host}:7401").into());
        config.insert("directory".into(), at.join(&name).to_str().unwrap().into());
        let certificates = format!("{}/certificates", demo.dir());
        let issue = ["certs", "issue", &certificates, &name, "--role", "instance", "--volume", "1"];
        // From the second round on, it has one.
        if !Path::new(&certificates).join(format!("{name}.crt")).exists() {
            assert!(Command::new(AURIGA).args(issue).stdin(Stdio::null()).status().unwrap().success());
        }
        let own = config["tls"].as_table_mut().unwrap();
        own.insert("cert".into(), format!("{certificates}/{name}.crt").into());
        own.insert("key".into(), format!("{certificates}/{name}.key").into());
        let file = at.join(format!("{name}.toml"));
        std::fs::write(&file, config.to_string()).unwrap();
        let log = at.join(format!("{name}.log"));
        let output = File::create(&log).unwrap();
        let child = Command::new(AURIGA)
            .args(["instance", "--config", file.to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Rival { child, log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn serves(&self) -> bool {
        self.log().contains("postgres accepts connections")
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn of_two_instances_started_together_one_serves_and_the_other_ends_as_fenced() {
    let mut demo = Running::start("127.0.107", &[]);
    demo.sql("create table t as select 1 as x").unwrap();
    assert!(demo.auriga(&["inject", "kill", "writer"]).status.success());
    for round in 0..4 {
        let at = tempfile::tempdir().unwrap();
        let mut rivals: Vec<Rival> = (1..=2)
            .map(|number| {
                // From at the same moment to while the other creates nothing any more.
                std::thread::sleep(Duration::from_millis(150 * round * u64::from(number - 1)));
                Rival::start(&demo, at.path(), number)
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(300);
        let loser = loop {
            let ended = rivals.iter_mut().position(|rival| rival.child.try_wait().unwrap().is_some());
            if let Some(loser) = ended {
                break loser;
            }
            assert!(Instant::now() < deadline, "{}\n{}", rivals[0].log(), rivals[1].log());
            std::thread::sleep(Duration::from_millis(20));
        };
        let status = rivals[loser].wait();
        assert_eq!(status.code(), Some(EXIT_FENCED), "{}", rivals[loser].log());
        let mut winner = rivals.swap_remove(1 - loser);
        while !winner.serves() {
            assert!(winner.child.try_wait().unwrap().is_none() && Instant::now() < deadline, "{}", winner.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        kill(Pid::from_raw(winner.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let status = winner.wait();
        assert_eq!(status.code(), Some(0), "{}", winner.log());
    }
    demo.signal(Signal::SIGINT);
}
