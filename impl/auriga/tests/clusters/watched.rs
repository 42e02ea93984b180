//! A demo with a controller and a gateway: clients that know one address go on, whoever writes.

use crate::common::{Running, wait_until, wait_until_gone};
use nix::sys::signal::Signal;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The last byte of the writer endpoint's address, and of the reader endpoint's.
const WRITER: u8 = 32;
const READER: u8 = 33;

/// Asks through an endpoint. Errors name their SQLSTATE.
fn ask(demo: &Running, host: u8, statement: &str) -> Result<String, String> {
    let host = format!("{}.{host}", demo.network);
    // What a frozen server was asked is not answered.
    let output = Command::new("timeout")
        .args(["30", "psql", "-XqAt", "-U", "postgres", "-h", &host, "-v", "VERBOSITY=verbose", "-c", statement])
        .env("PGCONNECT_TIMEOUT", "30")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Inserts this number through the writer endpoint, again and again until that is acknowledged.
fn insert(demo: &Running, n: u32) {
    let statement = format!("insert into t values ({n}) on conflict do nothing");
    wait_until(&format!("{n} to be written"), || ask(demo, WRITER, &statement).is_ok());
}

fn wait_for_rows(demo: &Running, rows: &str) {
    wait_until(&format!("{rows} rows through the reader endpoint"), || {
        ask(demo, READER, "select count(*) from t").as_deref() == Ok(rows)
    });
}

/// The numbers of the events so far.
fn events(demo: &Running) -> Vec<String> {
    let output = demo.auriga(&["events", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let event = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    text.lines().map(|line| event(line)["id"].as_str().unwrap()["RDS-EVENT-".len()..].to_owned()).collect()
}

fn role(demo: &Running, name: &str) -> Option<String> {
    let output = demo.auriga(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let instances = status["instances"].as_array().unwrap();
    let named = instances.iter().find(|instance| instance["member"]["name"] == name).unwrap();
    named["status"]["role"].as_str().map(str::to_owned)
}

fn inject(demo: &Running, action: &str, target: &str) {
    let output = demo.auriga(&["inject", action, target]);
    assert!(output.status.success(), "{action} {target}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Asks the demo's name server for the address of the writer endpoint, with a message that is made by hand.
fn writer_by_name() -> Option<[u8; 4]> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["demo", "cluster-127-0-91", "local", "auriga", "internal", ""] {
        question.push(label.len().try_into().unwrap());
        question.extend(label.bytes());
    }
    question.extend([0, 1, 0, 1]);
    let socket = UdpSocket::bind("127.0.91.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(&question, "127.0.91.32:7404").unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    // One answer, whose address comes last.
    let is_one = answer[..2] == question[..2] && answer[6..8] == [0, 1];
    is_one.then(|| answer[length - 4..length].try_into().unwrap())
}

#[test]
fn clients_that_know_one_address_go_on_whoever_writes() {
    let mut demo = Running::start("127.0.91", &["--readers", "2", "--watched"]);
    let dir = demo.dir();
    ask(&demo, WRITER, "create table t (n int primary key)").unwrap();
    insert(&demo, 1);
    wait_for_rows(&demo, "1");
    let refused = ask(&demo, READER, "insert into t values (0)").unwrap_err();
    assert!(refused.contains("25006"), "{refused}");
    assert_eq!(events(&demo), Vec::<String>::new());
    wait_until("the writer's name", || writer_by_name() == Some([127, 0, 91, 11]));

    inject(&demo, "kill", "writer");
    insert(&demo, 2);
    wait_for_rows(&demo, "2");
    wait_until("the next writer's name", || {
        writer_by_name().is_some_and(|address| [[127, 0, 91, 12], [127, 0, 91, 13]].contains(&address))
    });
    wait_until("the end of the failover", || events(&demo).last().is_some_and(|id| id == "0071"));
    assert_eq!(events(&demo)[0], "0073", "to another AZ");
    inject(&demo, "restart", "writer");
    wait_until("the old writer as a reader", || role(&demo, "writer").as_deref() == Some("reader"));

    // Without a controller the cluster goes on; when it is back, it knows who writes.
    inject(&demo, "kill", "control");
    insert(&demo, 3);
    let output = demo.auriga(&["failover"]);
    assert!(!output.status.success(), "nobody is there to do it");
    inject(&demo, "restart", "control");
    wait_until("a planned failover", || {
        let output = demo.auriga(&["failover", "--to", "writer"]);
        output.status.success()
    });
    assert_eq!(role(&demo, "writer").as_deref(), Some("writer"));
    insert(&demo, 4);
    wait_for_rows(&demo, "4");

    // A frozen writer is replaced, and its connections through the gateway end.
    inject(&demo, "freeze", "writer");
    insert(&demo, 5);
    inject(&demo, "resume", "writer");
    wait_until("the frozen one as a reader", || role(&demo, "writer").as_deref() == Some("reader"));
    inject(&demo, "restart", "gateway");
    insert(&demo, 6);
    wait_for_rows(&demo, "6");
    assert_eq!(ask(&demo, WRITER, "select string_agg(n::text, ' ' order by n) from t").unwrap(), "1 2 3 4 5 6");
    demo.signal(Signal::SIGINT);
    wait_until_gone(&dir);
}
