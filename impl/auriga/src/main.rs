//! `auriga`: the one binary.
//!
//! | command | what it does |
//! |---|---|
//! | `demo` | a whole region on this machine, until Ctrl-C; `--tour` breaks it on purpose and checks the outcome |
//! | `status`, `inject` | look at a running demo, and break it |
//! | `storage`, `instance`, `create-volume` | the same roles by hand, on several machines |
//! | `control`, `gateway`, `failover`, `events` | who has another instance take over, where clients connect, and what people ask |
//! | `global`, `open-snapshot` | one database in several regions, and what a failover lost of one |
//! | `backup`, `backups`, `restore` | a volume's log and pages elsewhere, and a new volume from them |
//! | `certs` | the certificates by which the processes of a cluster know each other |
//! | `rehearse` | long runs of crashes, with every acknowledged commit checked |
//!
//! `roles` is what a storage process and an instance are, `status` the table. The demo and the rehearsals are in
//! `auriga-rehearsal`, questions to running processes in `auriga-admin`.

/// The standard library's, except that nothing comes of an output that is closed or full: a demo whose reader has gone
/// goes on.
macro_rules! println {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

mod accept_loss;
mod backup;
mod certs;
mod cli;
mod drain;
mod global;
mod log;
mod lost;
mod memory;
mod planted;
mod roles;
mod set_aside;
mod signals;
mod snapshot;
mod status;
mod watchers;

use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Standard error may be gone: that is no reason for another exit code.
            let _ = writeln!(std::io::stderr(), "auriga: {error}");
            ExitCode::FAILURE
        }
    }
}
