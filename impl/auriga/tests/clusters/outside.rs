//! What leaves the volume, and what must not: tablespaces, base backups, PostgreSQL's log.

use crate::common::{Running, wait_until};
use nix::sys::signal::Signal;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn a_tablespace_is_within_the_volume_or_refused() {
    let mut demo = Running::start("127.0.117", &["--locale", "C.UTF-8"]);
    assert_eq!(demo.sql("show lc_collate").unwrap(), "C.UTF-8");
    let outside = tempfile::tempdir().unwrap();
    std::fs::set_permissions(outside.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let own = format!("copy (select 1) to program 'cat >/dev/null; mkdir {0}/mine'", outside.path().display());
    demo.sql(&own).unwrap();
    let refused = demo.sql(&format!("create tablespace outside location '{}/mine'", outside.path().display()));
    assert!(refused.as_ref().is_err_and(|text| text.contains("could not create symbolic link")), "{refused:?}");
    let log = std::fs::read_to_string(format!("{}/logs/writer.log", demo.dir())).unwrap();
    assert!(log.contains("refused a symbolic link that leads out of the volume"), "{log}");

    // Not at a path within the mount either: the mount is elsewhere at the next start, and the path is in the WAL.
    let data = demo.sql("show data_directory").unwrap();
    let mount = data.strip_suffix("/pgdata").unwrap();
    demo.sql(&format!("copy (select 1) to program 'cat >/dev/null; mkdir {mount}/mine'")).unwrap();
    assert!(demo.sql(&format!("create tablespace mine location '{mount}/mine'")).is_err());

    demo.sql("create tablespace inside location ''").unwrap();
    demo.sql("create table t tablespace inside as select 42 as x").unwrap();
    assert!(demo.auriga(&["inject", "restart", "writer"]).status.success());
    wait_until("the instance", || demo.sql("select x from t").as_deref() == Ok("42"));
    assert_ne!(data, demo.sql("show data_directory").unwrap(), "a new instance has a new directory");

    // PostgreSQL's log has outlived the first instance's directory.
    let log = std::fs::read_to_string(format!("{}/logs/writer-postgres.log", demo.dir())).unwrap();
    assert_eq!(log.matches("starting PostgreSQL").count(), 2, "{log}");
    demo.signal(Signal::SIGINT);
}

#[test]
fn a_base_backup_takes_no_setting_along_that_is_unsafe_elsewhere() {
    let mut demo = Running::start("127.0.118", &[]);
    assert_eq!(demo.sql("show full_page_writes").unwrap(), "off");
    assert_eq!(demo.sql("show recovery_init_sync_method").unwrap(), "syncfs");
    demo.sql("create tablespace inside location ''").unwrap();
    let at = tempfile::tempdir().unwrap();
    let backup = at.path().join("backup");
    let host = format!("{}.11", demo.network);
    let output = Command::new("pg_basebackup")
        .args(["-h", &host, "-U", "postgres", "-c", "fast", "-X", "stream", "-D", backup.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    for file in ["postgresql.conf", "postgresql.auto.conf", "auriga.conf"] {
        let text = std::fs::read_to_string(backup.join(file)).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(!lines.iter().any(|line| line.contains("full_page_writes")), "{file}: {lines:?}");
    }
    demo.signal(Signal::SIGINT);
}
