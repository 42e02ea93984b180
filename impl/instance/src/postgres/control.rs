//! What `pg_control` says of the server that wrote the WAL: a standby needs at least as much room.

use super::find::Installation;
use super::user::RunAs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Settings that a standby must have at least as large as the writer, by `pg_controldata`'s names and by their own.
const LEAST: [(&str, &str); 5] = [
    ("max_connections setting:", "max_connections"),
    ("max_worker_processes setting:", "max_worker_processes"),
    ("max_wal_senders setting:", "max_wal_senders"),
    ("max_prepared_xacts setting:", "max_prepared_transactions"),
    ("max_locks_per_xact setting:", "max_locks_per_transaction"),
];

/// Returns the writer's values of the settings that bound a standby's from below.
///
/// # Errors
/// `pg_controldata` fails.
pub fn least_settings(pg: &Installation, user: &RunAs, data: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut command = Command::new(pg.bin.join("pg_controldata"));
    command.arg(data);
    user.apply(&mut command).current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
    let output = command.output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("pg_controldata: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

fn parse(text: &str) -> Vec<(String, u64)> {
    let setting = |line: &str| {
        let (said, name) = LEAST.iter().find(|(said, _)| line.starts_with(said))?;
        Some(((*name).to_owned(), line[said.len()..].trim().parse().ok()?))
    };
    text.lines().filter_map(setting).collect()
}

/// `settings`, with those of `least` raised to at least what is there.
pub fn at_least(settings: &[(String, String)], least: &[(String, u64)]) -> Vec<(String, String)> {
    let raised = |name: &str, value: &str| {
        let least = least.iter().find(|(least, _)| least == name)?.1;
        Some(value.parse::<u64>().map_or(least, |value| value.max(least)).to_string())
    };
    let given =
        settings.iter().map(|(name, value)| (name.clone(), raised(name, value).unwrap_or_else(|| value.clone())));
    let missing = least.iter().filter(|(name, _)| !settings.iter().any(|(given, _)| given == name));
    given.chain(missing.map(|(name, least)| (name.clone(), least.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_has_at_least_what_the_writer_has() {
        let text = "pg_control version number:            1300\nmax_connections setting:              200\n\
                    max_worker_processes setting:         8\nmax_prepared_xacts setting:           0\n";
        let least = parse(text);
        assert_eq!(
            least.iter().map(|(name, value)| (&**name, *value)).collect::<Vec<_>>(),
            [("max_connections", 200), ("max_worker_processes", 8), ("max_prepared_transactions", 0)]
        );
        let given = [("max_connections", "50"), ("max_worker_processes", "16"), ("shared_buffers", "16MB")];
        let given: Vec<_> = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let settings = at_least(&given, &least);
        assert_eq!(
            settings.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>(),
            [
                ("max_connections", "200"),
                ("max_worker_processes", "16"),
                ("shared_buffers", "16MB"),
                ("max_prepared_transactions", "0")
            ]
        );
    }
}
