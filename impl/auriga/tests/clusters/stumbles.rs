//! What a newcomer stumbles over, as a newcomer would type it.

use crate::common::{AURIGA, Running, pids, wait_until};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn auriga(arguments: &[&str]) -> Output {
    Command::new(AURIGA).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn what_can_not_be_is_said_before_anything_is_started() {
    let output = auriga(&["demo", "--network", "127.0.126", "--port", "0"]);
    assert!(!output.status.success() && told(&output).contains("0 is not in 1..=65535"), "{}", told(&output));

    let output = auriga(&["demo", "--network", "127.0.126", "--shared-buffers", "lots"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("invalid value for parameter \"shared_buffers\": \"lots\""), "{}", told(&output));
}

/// A file system with little room, until the test ends.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Small {
        let at = tempfile::tempdir().unwrap();
        let arguments = ["-t", "tmpfs", "-o", "size=200m", "tmpfs", at.path().to_str().unwrap()];
        assert!(Command::new("mount").args(arguments).status().unwrap().success());
        Small(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn too_little_room_is_said_at_once() {
    let small = Small::mount();
    let dir = small.0.path().join("demo");
    let output = auriga(&["demo", "--network", "127.0.127", "--dir", dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("MB free, and ") && told(&output).contains("MB are needed"), "{}", told(&output));
    assert!(!dir.exists(), "nothing was begun");
}

#[test]
fn the_logs_of_a_start_that_failed_are_kept_and_named() {
    let mut demo = Running::launch("127.0.128", &["--shared-buffers", "4TB"]);
    assert_eq!(demo.end().code(), Some(1), "{}", demo.output());
    let output = demo.output();
    let logs = output.lines().find_map(|line| line.split_once("all logs of this attempt are kept in ")).unwrap().1;
    let log = std::fs::read_to_string(Path::new(logs).join("writer-postgres.log")).unwrap();
    assert!(log.contains("shared memory") && output.contains("shared memory"), "{output}\n{log}");
    std::fs::remove_dir_all(logs).unwrap();
}

/// Processes that end with the test.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn an_instance_before_its_volume_says_so_and_a_status_without_answers_is_no_success() {
    const NAMES: [&str; 6] = ["a1", "a2", "b1", "b2", "c1", "c2"];
    let at = tempfile::tempdir().unwrap();
    let at = at.path();
    let address = |index: usize| format!("127.0.129.{}:7400", index + 1);
    let members: Vec<String> = (0..6).map(|index| format!("{:?}", address(index))).collect();
    let mut instance = format!(
        "cluster = \"stumbles\"\nname = \"writer\"\nvolume = 1\ndirectory = {:?}\nlisten = \"127.0.129.11\"\n\
         admin = \"127.0.129.11:7401\"\n",
        at.join("writer")
    );
    for (index, name) in NAMES.iter().enumerate() {
        let az = &name[..1];
        instance.push_str(&format!("[[storage]]\nname = {name:?}\naz = {az:?}\naddress = {:?}\n", address(index)));
        let storage = format!(
            "cluster = \"stumbles\"\nname = {name:?}\naz = {az:?}\ndirectory = {:?}\nlisten = {:?}\nmembers = [{}]\n",
            at.join(name),
            address(index),
            members.join(", ")
        );
        std::fs::write(at.join(format!("{name}.toml")), storage).unwrap();
    }
    let config = at.join("writer.toml");
    std::fs::write(&config, instance).unwrap();
    let config = config.to_str().unwrap();

    let silent = auriga(&["status", "--config", config]);
    assert_eq!(silent.status.code(), Some(1), "{}", told(&silent));
    assert_eq!(told(&silent).matches("SILENT").count(), 7, "{}", told(&silent));

    let start = |name: &&str| {
        let config = at.join(format!("{name}.toml"));
        let mut command = Command::new(AURIGA);
        command.args(["storage", "--config", config.to_str().unwrap()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let _children = Children(NAMES.iter().map(start).collect());
    let early = auriga(&["instance", "--config", config]);
    assert_eq!(early.status.code(), Some(1));
    assert!(told(&early).contains("make it with `auriga create-volume`"), "{}", told(&early));
    assert!(auriga(&["status", "--config", config]).status.success());
}

#[test]
fn status_answers_while_a_demo_starts() {
    let keep = tempfile::tempdir().unwrap();
    let dir = keep.path().join("demo");
    let mut demo = Running::launch("127.0.115", &["--keep", dir.to_str().unwrap()]);
    wait_until("the demo's directory", || dir.join("lock").exists());
    let status = auriga(&["status", "--dir", dir.to_str().unwrap()]);
    assert!(told(&status).contains("writer") && told(&status).contains("process"), "{}", told(&status));
    assert!(!demo.output().contains("Ctrl-C stops everything"), "it was up already");
    demo.signal(Signal::SIGINT);
    wait_until("its end", || pids(dir.to_str().unwrap()).is_empty());
}

#[test]
fn inject_says_what_it_did_not_do_and_status_shows_what_is_in_force() {
    let mut demo = Running::start("127.0.116", &[]);
    assert!(demo.auriga(&["inject", "slow", "a1", "--ms", "7"]).status.success());
    assert!(demo.auriga(&["inject", "partition", "c2"]).status.success());
    let status = told(&demo.auriga(&["status"]));
    assert!(status.contains("slow 7 ms") && status.contains("cut off"), "{status}");

    let all = demo.auriga(&["inject", "slow", "all", "--ms", "0"]);
    assert!(all.status.success(), "{all:?}");
    assert!(told(&all).contains("nothing done to writer: only storage processes"), "{}", told(&all));
    assert!(demo.auriga(&["inject", "heal", "c2"]).status.success());
    let status = told(&demo.auriga(&["status"]));
    assert!(!status.contains("slow") && !status.contains("cut off"), "{status}");

    for (arguments, reason) in [
        (["inject", "heal", "c2"], "nothing was wrong with it"),
        (["inject", "resume", "b1"], "it is not frozen"),
        (["inject", "slow", "writer"], "only storage processes can be slowed down"),
    ] {
        let output = demo.auriga(&arguments);
        assert!(!output.status.success() && told(&output).contains(reason), "{}", told(&output));
    }
    assert!(demo.auriga(&["inject", "kill", "b1"]).status.success());
    let again = demo.auriga(&["inject", "kill", "az-b"]);
    assert!(again.status.success(), "{again:?}");
    assert!(told(&again).contains("nothing done to b1: it is not running") && told(&again).contains("done: b2"));
    demo.signal(Signal::SIGINT);
}
