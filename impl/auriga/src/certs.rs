//! `auriga certs`: makes the certificates by which the processes of a cluster know each other.

use auriga_certs::{Authority, USUAL_DAYS, Validity};
use auriga_net::tls::{Certified, CertifiedRole};
use clap::Subcommand;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a certificate authority: one for each cluster
    Init {
        /// Where to write it; keep it away from the cluster's machines
        dir: PathBuf,
    },
    /// Issue the certificate of one process
    Issue {
        /// The authority's directory; the certificate is written there, too
        dir: PathBuf,
        /// The process's name, as in its configuration
        name: String,
        /// What it is there for: storage, instance, control, replication, admin
        #[arg(long)]
        role: CertifiedRole,
        /// The number of a volume that an instance or a region may write and read; may be given several times
        #[arg(long = "volume")]
        volumes: Vec<u64>,
        /// For how many days it is good
        #[arg(long, default_value_t = USUAL_DAYS, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
}

/// Does it, and says what it wrote.
///
/// # Errors
/// It is not done, and why.
pub fn run(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    let written = match command {
        Command::Init { dir } => Authority::init(&dir)?.1,
        Command::Issue { dir, name, role, volumes, days } => {
            let said = Certified { name, role, volumes: volumes.into_iter().collect() };
            Authority::load(&dir)?.issue(&dir, &said, Validity::days(days))?
        }
    };
    for path in written {
        println!("wrote {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
