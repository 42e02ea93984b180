//! A zone and one more lose their directories, on a whole demo. It needs root, /dev/fuse and PostgreSQL.

use crate::common::{AURIGA, Running, wait_until};
use nix::sys::signal::Signal;
use std::process::Command;

fn accept(demo: &Running, more: &[&str]) -> (bool, String) {
    let config = format!("{}/config/writer.toml", demo.dir());
    let output = Command::new(AURIGA).args(["accept-loss", "--config", &config]).args(more).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn inject(demo: &Running, action: &str, target: &str) {
    let output = demo.auriga(&["inject", action, target]);
    assert!(output.status.success(), "{output:?}");
}

fn states(demo: &Running, state: &str) -> usize {
    let seen = demo.auriga(&["status"]).stdout;
    String::from_utf8_lossy(&seen).lines().filter(|line| line.contains(state)).count()
}

#[test]
#[ignore = "takes more than a minute: nightly runs it"]
fn an_operator_accepts_the_loss_and_every_commit_is_there() {
    let mut demo = Running::start("127.0.119", &[]);
    demo.sql("create table t as select generate_series(1, 1000) as x").unwrap();
    let (done, said) = accept(&demo, &["--lost", "a1,a2,b1"]);
    assert!(!done && said.contains("A is named as lost, and it is not"), "{said}");
    inject(&demo, "kill", "az-a");
    demo.sql("insert into t values (1001)").unwrap();
    for zone in ["az-b", "az-c"] {
        inject(&demo, "kill", zone);
    }
    for name in ["a1", "a2", "b1"] {
        std::fs::remove_dir_all(format!("{}/storage/{name}", demo.dir())).unwrap();
    }
    for zone in ["az-a", "az-b", "az-c"] {
        inject(&demo, "restart", zone);
    }
    // Nobody counts: the lost need four others, the others three witnesses.
    wait_until("the lost rejoin, the others ask", || {
        states(&demo, " rejoining ") == 3 && states(&demo, " asks peers ") == 3
    });
    let (done, said) = accept(&demo, &["--lost", "a1,a2"]);
    assert!(!done && said.contains("C lost its journal, too"), "{said}");
    let (done, said) = accept(&demo, &["--lost", "a1,a2,b1,b2"]);
    assert!(!done && said.contains("nothing was done"), "{said}");
    let (done, said) = accept(&demo, &["--lost", "a1,a2,b1"]);
    let identity = said.split_whitespace().skip_while(|word| *word != "--identity").nth(1).map(str::to_owned);
    let identity = identity.unwrap_or_else(|| panic!("{said}"));
    assert!(!done && said.contains("nothing was done"), "{said}");
    let (done, said) = accept(&demo, &["--lost", "a1,a2,b1", "--identity", "v1"]);
    assert!(!done && said.contains("is not the identity"), "{said}");
    assert_eq!(states(&demo, " asks peers "), 3);
    let (done, said) = accept(&demo, &["--lost", "a1,a2,b1", "--identity", &identity]);
    assert!(done && said.contains("start the instance"), "{said}");
    wait_until("the survivors count", || states(&demo, " up ") >= 3);
    inject(&demo, "restart", "writer");
    wait_until("the volume is open", || demo.sql("select count(*) from t").is_ok_and(|count| count == "1001"));
    wait_until("all six are there", || states(&demo, " rejoining ") + states(&demo, " hydrating ") == 0);
    demo.sql("insert into t values (1002)").unwrap();
    inject(&demo, "kill", "az-c");
    demo.sql("insert into t values (1003)").unwrap();
    assert_eq!(demo.sql("select count(*) from t").unwrap(), "1003");
    demo.signal(Signal::SIGINT);
}
