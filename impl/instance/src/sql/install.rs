//! Makes the functions in every database of the writer, and in each that is made later from a template that lacks them.

use crate::on_mount::die_with_parent;
use crate::postgres::server::ServerSpec;
use crate::postgres::session::Session;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is run in each database.
const FUNCTIONS: &str = include_str!("functions.sql");
/// How often it looks for a database that it does not know.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long it waits before it asks a server again that did not answer.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How often it looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(50);

/// A thread that makes the functions. Dropping it ends the thread.
pub(crate) struct Installer {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Installer {
    /// Makes them in the databases of the server of `spec`, once it writes.
    ///
    /// # Errors
    /// The operating system has no thread.
    pub fn start(spec: ServerSpec) -> io::Result<Installer> {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        // The session ends with the thread that began it.
        let thread = std::thread::Builder::new().name("functions".to_owned()).spawn(move || {
            let mut installing = Installing { spec, session: None, done: BTreeSet::new() };
            while !seen.load(Relaxed) {
                let pause = if installing.look().is_ok() { LOOK_EVERY } else { ASK_AGAIN };
                let until = Instant::now() + pause;
                while !seen.load(Relaxed) && Instant::now() < until {
                    std::thread::sleep(GLANCE);
                }
            }
        })?;
        Ok(Installer { ended, thread: Some(thread) })
    }
}

impl Drop for Installer {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Installing {
    spec: ServerSpec,
    session: Option<Session>,
    /// Databases, by their OID, that have the functions.
    done: BTreeSet<String>,
}

impl Installing {
    /// Looks at the databases, the templates first, so that what is made from them has the functions.
    fn look(&mut self) -> io::Result<()> {
        let listed = "SELECT coalesce(string_agg(oid || ' ' || encode(datname::text::bytea, 'hex'), ',' \
                      ORDER BY NOT datistemplate, oid), '') FROM pg_database WHERE datallowconn AND NOT pg_is_in_recovery()";
        let session = match &mut self.session {
            Some(session) => session,
            None => self.session.insert(Session::begin(&self.spec)?),
        };
        let listed = session.ask(listed).and_then(|listed| listed.ok_or(io::ErrorKind::InvalidData.into()));
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                // It has just been started, or has ended.
                self.session = None;
                return Err(error);
            }
        };
        let found: Vec<(&str, &str)> = listed.split(',').filter_map(|entry| entry.split_once(' ')).collect();
        self.done.retain(|oid| found.iter().any(|(found, _)| found == oid));
        for (oid, name) in found {
            if self.done.contains(oid) {
                continue;
            }
            match install(&self.spec, &name_of(name)?) {
                Ok(()) => drop(self.done.insert(oid.to_owned())),
                // Dropped meanwhile, or locked: it is looked at again.
                Err(error) => tracing::info!(%error, oid, "a database has not got the functions of Aurora yet"),
            }
        }
        Ok(())
    }
}

/// A name from the hexadecimal digits of its bytes.
fn name_of(digits: &str) -> io::Result<String> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).map_err(|_| invalid()));
    let bytes: io::Result<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair?, 16).map_err(|_| invalid())).collect();
    String::from_utf8(bytes?).map_err(|_| invalid())
}

/// Makes the functions in one database, all or none, unless it has these already.
fn install(spec: &ServerSpec, database: &str) -> io::Result<()> {
    let mut command = Command::new(spec.installation.bin.join("psql"));
    command.args(["--no-psqlrc", "--quiet", "-At", "-v", "ON_ERROR_STOP=1", "--username=postgres", "--host"]);
    command.arg(&spec.sockets).arg("--port").arg(spec.port.to_string());
    command.arg("--dbname").arg(conninfo(database));
    spec.user.apply(&mut command);
    command.current_dir("/").env("PGCONNECT_TIMEOUT", "5").env("PGAPPNAME", "auriga");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    die_with_parent(&mut command);
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // That psql has ended is seen from its status.
        let _ = input.write_all(script().as_bytes());
    }
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

/// A database as psql takes it, whatever its name.
fn conninfo(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Does nothing where it was run before: each run would make the catalogs a little larger.
fn script() -> String {
    let mark = format!("{:016x}", fingerprint(FUNCTIONS));
    format!(
        "SELECT coalesce(obj_description(to_regprocedure('pg_catalog.aurora_version()'), 'pg_proc') = '{mark}', false) AS \
         done \\gset\n\\if :done\n\\else\nBEGIN;\n{FUNCTIONS}\nCOMMENT ON FUNCTION pg_catalog.aurora_version() IS \
         '{mark}';\nCOMMIT;\n\\endif\n"
    )
}

/// FNV-1a.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_any_that_postgresql_has() {
        assert_eq!(name_of("706f737467726573").unwrap(), "postgres");
        assert_eq!(name_of("c3a92c2027").unwrap(), "é, '");
        assert!(name_of("7").is_ok() && name_of("zz").is_err() && name_of("ff").is_err());
        assert_eq!(conninfo("it's a \\ b"), "dbname='it\\'s a \\\\ b'");
    }
}
