//! A storage process that is lost for good is replaced by itself, while writes go on.

use crate::common::{Running, wait_until};

/// Whether a process says in its log that it has made the segment of a new member.
fn adopted(demo: &Running, name: &str) -> bool {
    let log = std::fs::read_to_string(format!("{}/logs/{name}.log", demo.dir())).unwrap_or_default();
    log.contains("a new member of its group lives here")
}

#[test]
fn a_storage_process_that_is_lost_for_good_is_replaced_by_itself_while_writes_go_on() {
    let demo = Running::start("127.0.141", &["--readers", "1", "--spares", "3", "--watched", "--trace"]);
    demo.sql("create table t (n int)").unwrap();
    let lost = demo.auriga(&["inject", "lose", "b1"]);
    assert!(lost.status.success(), "{lost:?}");
    let mut written = 0;
    let replaced = || {
        let events = demo.auriga(&["events"]);
        String::from_utf8_lossy(&events.stdout).contains("Completed repair of storage onto process: b3")
    };
    wait_until("b3 to have all that it must have", || {
        written += 1;
        demo.sql(&format!("insert into t values ({written})")).unwrap();
        replaced()
    });
    assert!(adopted(&demo, "b3"));
    // The group is whole again: it bears the loss of another zone.
    let killed = demo.auriga(&["inject", "kill", "az-c"]);
    assert!(killed.status.success(), "{killed:?}");
    demo.sql("insert into t values (0)").unwrap();
    assert_eq!(demo.sql("select count(*) from t").unwrap(), (written + 1).to_string());
}
