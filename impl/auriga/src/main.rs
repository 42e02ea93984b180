//! `auriga`: the one binary.
//!
//! | command | what it does |
//! |---|---|
//! | `demo` | a whole region on this machine, until Ctrl-C; `--tour` breaks it on purpose and checks the outcome |
//! | `status`, `inject` | look at a running demo, and break it |
//! | `storage`, `instance`, `create-volume` | the same roles by hand, on several machines |
//! | `rehearse` | long runs of crashes, with every acknowledged commit checked |
//!
//! Modules: [`demo`] orchestrates processes, [`roles`] is what those processes are, [`bank`] the load and its judge,
//! [`tour`] and [`rehearse`] the runs, [`volatile_disk`] a disk that forgets when its power is cut, [`status`] the table.

mod bank;
mod cli;
mod config;
mod demo;
mod instance_admin;
mod planted;
mod process;
mod rehearse;
mod roles;
mod signals;
mod status;
mod storage;
mod tour;
mod volatile_disk;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("auriga: {error}");
            ExitCode::FAILURE
        }
    }
}
