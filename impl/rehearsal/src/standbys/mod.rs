//! Hot standbys, compared: whatever a standby on a shared volume shows must be what a plain streaming one shows that is
//! paused at the same position.
//!
//! - [`workload`]: what the writer does, everything that changes files in its own way.
//! - [`compare`]: pausing at one position, and every table by sequential and by index scans.
//!
//! The servers are asked with PostgreSQL's own programs.

pub mod compare;
pub mod workload;

use auriga_instance::postgres::user::RunAs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How long one program may take, in seconds.
const PROGRAM_LIMIT: u32 = 300;

/// A server, as its clients reach it.
#[derive(Clone, Debug)]
pub struct Server {
    /// For a person.
    pub name: String,
    /// Where `psql` and the like are.
    pub programs: PathBuf,
    /// Whom they run as.
    pub user: RunAs,
    /// An address, or the directory of its socket.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Why a program did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It can't be run.
    #[error("{program}: {source}")]
    Io {
        /// Which program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// It said no.
    #[error("{program} at {server} ended with {status}: {said}")]
    Failed {
        /// Which program.
        program: String,
        /// Asked which server.
        server: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it wrote on standard error, or else on standard output.
        said: String,
    },
    /// What was waited for did not come.
    #[error("{0}")]
    Late(String),
}

impl Server {
    /// A program of PostgreSQL's, as the superuser, bounded in time.
    pub fn client(&self, program: &str) -> Command {
        let mut command = command(&self.programs, &self.user, program);
        command.args(["--username=postgres", "--host", &self.host, "--port", &self.port.to_string()]);
        command
    }

    /// Runs a program; answers what it wrote.
    ///
    /// # Errors
    /// It does not succeed.
    pub fn succeed(&self, program: &str, arguments: &[&str]) -> Result<String, ProgramError> {
        run(&self.name, program, self.client(program).args(arguments), "")
    }

    /// Runs SQL, one transaction for each statement; answers the rows. The first error ends it.
    ///
    /// # Errors
    /// The server's, or it isn't there.
    pub fn run(&self, database: &str, sql: &str) -> Result<String, ProgramError> {
        let mut psql = self.client("psql");
        psql.args(["--no-psqlrc", "-AtXq", "-v", "ON_ERROR_STOP=1", "-f", "-", database]);
        psql.env("PGCONNECT_TIMEOUT", "20");
        run(&self.name, "psql", &mut psql, sql)
    }

    /// Asks for one value.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn ask(&self, question: &str) -> Result<String, ProgramError> {
        Ok(self.run("postgres", question)?.trim().to_owned())
    }
}

/// A program of an installation, bounded in time.
pub fn command(programs: &Path, user: &RunAs, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg(PROGRAM_LIMIT.to_string()).arg(programs.join(program));
    user.apply(&mut command).current_dir("/");
    command
}

/// Runs `command` with this on its standard input; answers what it wrote.
///
/// # Errors
/// It does not succeed.
pub fn run(server: &str, program: &str, command: &mut Command, input: &str) -> Result<String, ProgramError> {
    let io_error = |source| ProgramError::Io { program: program.to_owned(), source };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(io_error)?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // Beside reading: neither side waits for the other. One that ends early does not read everything.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    });
    let output = output.map_err(io_error)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (written, said) = (text(output.stdout), text(output.stderr));
    if output.status.success() {
        return Ok(written);
    }
    let said = if said.trim().is_empty() { written } else { said };
    let (program, server, status) = (program.to_owned(), server.to_owned(), output.status);
    Err(ProgramError::Failed { program, server, status, said: said.trim().to_owned() })
}
