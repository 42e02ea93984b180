//! What the tests of whole demos share.

pub mod regions;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// The program.
pub const AURIGA: &str = env!("CARGO_BIN_EXE_auriga");

/// A demo on addresses of its own, killed and waited for when the test ends.
pub struct Running {
    pub child: Child,
    pub network: &'static str,
    out: tempfile::TempDir,
}

impl Running {
    /// Starts a demo and waits until it is up.
    pub fn start(network: &'static str, arguments: &[&str]) -> Running {
        Running::start_in(Path::new("/"), network, arguments)
    }

    /// The same, from a directory.
    pub fn start_in(directory: &Path, network: &'static str, arguments: &[&str]) -> Running {
        let mut running = Running::launch_in(directory, network, arguments);
        running.wait_for("Ctrl-C stops everything");
        running
    }

    /// Starts a demo.
    pub fn launch(network: &'static str, arguments: &[&str]) -> Running {
        Running::launch_in(Path::new("/"), network, arguments)
    }

    fn launch_in(directory: &Path, network: &'static str, arguments: &[&str]) -> Running {
        let out = tempfile::tempdir().unwrap();
        let file = File::create(out.path().join("out")).unwrap();
        let child = Command::new(AURIGA)
            .args(["demo", "--network", network])
            // Most tests need no readers; of two such options the last one counts.
            .args(if arguments.contains(&"--global") { &[][..] } else { &["--readers", "0"] })
            .args(if arguments.contains(&"--shared-buffers") { &[][..] } else { &["--shared-buffers", "16MB"] })
            // Most tests bring about themselves what a controller would.
            .args(if arguments.contains(&"--watched") || arguments.contains(&"--global") {
                &[][..]
            } else {
                &["--unwatched"]
            })
            .args(arguments.iter().filter(|argument| **argument != "--watched"))
            .current_dir(directory)
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Running { child, network, out }
    }

    /// Waits until the demo has written `text`.
    pub fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(300);
        while !self.output().contains(text) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(self.out.path().join("out")).unwrap()
    }

    /// Where the demo keeps everything, from the line that names its logs.
    pub fn dir(&self) -> String {
        let output = self.output();
        let line = output.lines().find(|line| line.contains("│ logs")).unwrap();
        line.split_whitespace().nth(2).unwrap().strip_suffix("/logs").unwrap().trim_end_matches("/region-*").to_owned()
    }

    pub fn auriga(&self, arguments: &[&str]) -> Output {
        Command::new(AURIGA).args(arguments).args(["--dir", &self.dir()]).output().unwrap()
    }

    /// Sends a signal and waits for the end.
    pub fn signal(&mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        self.end()
    }

    pub fn sql(&self, statement: &str) -> Result<String, String> {
        let host = format!("{}.11", self.network);
        let output =
            Command::new("psql").args(["-XqAt", "-U", "postgres", "-h", &host, "-c", statement]).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes whose command line names `text`.
pub fn processes(text: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(text)).collect()
}

/// Numbers of the processes whose command line holds `text`.
pub fn pids(text: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let found = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text).then_some(pid)
    });
    found.collect()
}

/// Processes that a process has started, with what each calls itself.
pub fn children(of: i32) -> Vec<(i32, String)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let found = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // What follows the name, which may hold anything: its state, and who started it.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<i32>().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        (parent == of).then(|| (pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    });
    found.collect()
}

/// Waits until `condition` holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until no process names the directory, and it is gone.
pub fn wait_until_gone(dir: &str) {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let left = processes(dir);
        if left.is_empty() && !Path::new(dir).exists() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {left:?}, {dir}: {}", Path::new(dir).exists());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asks an instance by the last byte of its address. Errors name their SQLSTATE.
pub fn ask_as(demo: &Running, host: u8, user: &str, database: &str, statement: &str) -> Result<String, String> {
    let host = format!("{}.{host}", demo.network);
    let output = Command::new("psql")
        .args(["-XqAt", "-U", user, "-h", &host, "-v", "VERBOSITY=verbose", "-c", statement, database])
        .env("PGCONNECT_TIMEOUT", "5")
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The same as the superuser, in its own database.
pub fn ask(demo: &Running, host: u8, statement: &str) -> Result<String, String> {
    ask_as(demo, host, "postgres", "postgres", statement)
}
