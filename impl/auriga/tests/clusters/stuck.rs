//! Storage that stands still while an instance begins: everything can still be ended.

use crate::common::{Running, pids, wait_until, wait_until_gone};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;

/// Three storage processes that stand still. They go on when the test ends.
struct Stopped(Vec<Pid>);

impl Stopped {
    /// Stops them when the instance has mounted the volume, and waits until something waits for the mount.
    fn while_the_cluster_is_made(dir: &Path) -> Stopped {
        let dir = dir.to_str().unwrap();
        let log = format!("{dir}/logs/writer.log");
        wait_until("the mount", || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("a file system was made"))
        });
        let pid = |name: &str| Pid::from_raw(pids(&format!("auriga storage --config {dir}/config/{name}.toml"))[0]);
        let stopped = Stopped(["a1", "a2", "b1"].map(pid).into());
        stopped.0.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).unwrap());
        wait_until("something that waits for the mount", || processes_of(dir).into_iter().any(waits));
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGCONT);
        }
    }
}

/// Processes that name the directory, on their command line or (as what `initdb` starts) in their environment.
fn processes_of(dir: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let names = |pid: &i32| {
        ["cmdline", "environ"].into_iter().any(|file| {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(dir)
        })
    };
    numbers.filter(names).collect()
}

/// Whether a process waits for the answer to a FUSE request.
fn waits(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|place| place == "request_wait_answer")
}

fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim().chars().next()
}

#[test]
fn an_instance_that_is_killed_while_storage_stands_still_is_gone() {
    let keep = tempfile::tempdir().unwrap();
    let dir = keep.path().join("demo");
    let mut demo = Running::launch("127.0.108", &["--keep", dir.to_str().unwrap()]);
    let stopped = Stopped::while_the_cluster_is_made(&dir);
    let instance = pids(&format!("auriga instance --config {}/config/writer.toml", dir.display()))[0];
    kill(Pid::from_raw(instance), Signal::SIGKILL).unwrap();
    wait_until("the end of the instance", || matches!(state(instance), None | Some('Z')));
    // The demo finds out, and ends everything, the processes that stand still included.
    assert_eq!(demo.end().code(), Some(1), "{}", demo.output());
    assert!(demo.output().contains("writer ended (signal: 9"), "{}", demo.output());
    wait_until("the end of everything", || pids(dir.to_str().unwrap()).is_empty());
    drop(stopped);
}

#[test]
fn ctrl_c_is_heard_while_storage_stands_still() {
    let mut demo = Running::launch("127.0.109", &[]);
    let dir = std::env::temp_dir().join(format!("auriga-demo-{}", demo.child.id()));
    let stopped = Stopped::while_the_cluster_is_made(&dir);
    assert_eq!(demo.signal(Signal::SIGINT).code(), Some(130), "{}", demo.output());
    wait_until_gone(dir.to_str().unwrap());
    drop(stopped);
}

#[test]
fn an_early_ctrl_c_stops_the_start() {
    let mut demo = Running::launch("127.0.110", &[]);
    let dir = std::env::temp_dir().join(format!("auriga-demo-{}", demo.child.id()));
    demo.wait_for("starting six storage processes");
    assert_eq!(demo.signal(Signal::SIGINT).code(), Some(130), "{}", demo.output());
    assert!(demo.output().contains("stopped before everything was up"), "{}", demo.output());
    wait_until_gone(dir.to_str().unwrap());
}
