//! A plain streaming standby of a demo's writer: a copy of its own, in the demo's directory.

use crate::demo::layout::Layout;
use crate::process::Process;
use crate::standbys::{self, ProgramError, Server};
use crate::tour::TourError;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Its number among the instances, for its address: no instance has it.
pub const NUMBER: u8 = 60;
/// How long it may take until it accepts connections.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// Settings that a standby needs at least as high as its writer has them.
const AT_LEAST: [&str; 5] = [
    "max_connections",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
    "max_locks_per_transaction",
];

/// A running one. Dropping it ends it.
pub struct Plain {
    /// How it is reached.
    pub server: Server,
    process: Process,
}

impl Plain {
    /// Copies the writer, and starts a standby on the copy. To be called on a thread that lives as long as the program.
    ///
    /// # Errors
    /// It can't be copied, or does not start.
    pub fn start(layout: &Layout, writer: &Server, server: Server) -> Result<Plain, TourError> {
        let directory = layout.dir.join("plain");
        let log = layout.log("plain");
        let process = make(layout, writer, &server, &directory, &log)?;
        let mut plain = Plain { server, process };
        let until = Instant::now() + READY_LIMIT;
        while plain.server.ask("SELECT 1").is_err() {
            if plain.process.ended().is_some() || Instant::now() >= until {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(TourError::Unexpected(format!("the plain standby does not start:\n{said}")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(plain)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.process.kill();
    }
}

fn make(layout: &Layout, writer: &Server, server: &Server, directory: &Path, log: &Path) -> Result<Process, TourError> {
    let local = |error: io::Error| TourError::Unexpected(format!("{}: {error}", directory.display()));
    // What a kept demo had from the last time is of no use.
    let _ = std::fs::remove_dir_all(directory);
    std::fs::create_dir(directory).map_err(local)?;
    server.user.own(directory).map_err(local)?;
    let data = directory.join("data");
    let mut backup = writer.client("pg_basebackup");
    backup.args(["--checkpoint=fast", "--no-sync", "-D"]).arg(&data);
    standbys::run(&writer.name, "pg_basebackup", &mut backup, "")?;
    let signal = data.join("standby.signal");
    std::fs::write(&signal, "").and_then(|()| server.user.own(&signal)).map_err(local)?;

    let mut command = Command::new(server.programs.join("postgres"));
    command.arg("-D").arg(&data);
    let mut set = |name: &str, value: &str| {
        command.arg("-c").arg(format!("{name}={value}"));
    };
    for (name, value) in layout.postgres.settings.iter().chain(&layout.reader_settings) {
        set(name, value);
    }
    for name in AT_LEAST {
        set(name, &writer.ask(&format!("SHOW {name}"))?);
    }
    set("listen_addresses", &server.host);
    set("port", &server.port.to_string());
    set("unix_socket_directories", "");
    set("fsync", "off");
    set("allow_in_place_tablespaces", "on");
    set("primary_conninfo", &format!("host={} port={} user=postgres application_name=plain", writer.host, writer.port));
    server.user.apply(&mut command).current_dir("/");
    Process::run(command, log)
        .map_err(|source| TourError::from(ProgramError::Io { program: "postgres".to_owned(), source }))
}
