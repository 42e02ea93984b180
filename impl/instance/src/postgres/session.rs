//! A session with the local server, for questions that the instance asks often.
//!
//! It is one `psql` that stays. It runs as PostgreSQL's own user, so that the socket's `peer` authentication lets it in,
//! and it never touches the mount.

use super::server::ServerSpec;
use crate::on_mount::die_with_parent;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What `psql` prints after each answer.
const END: &str = "-- end --";

/// A session. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Session {
    /// Begins a session with the server of `spec`, as its superuser. It ends with the calling thread.
    ///
    /// # Errors
    /// `psql` can't be started.
    pub fn begin(spec: &ServerSpec) -> io::Result<Session> {
        let mut command = Command::new(spec.installation.bin.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "-At", "--username=postgres", "--dbname=postgres", "--host"]);
        command.arg(&spec.sockets).arg("--port").arg(spec.port.to_string());
        spec.user.apply(&mut command);
        command.current_dir("/").env("PGCONNECT_TIMEOUT", "5").env("PGAPPNAME", "auriga");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        die_with_parent(&mut command);
        let mut child = command.spawn()?;
        let piped = || io::Error::other("psql has no pipe");
        let (input, output) = (child.stdin.take(), child.stdout.take().ok_or_else(piped)?);
        Ok(Session { child, input, output: BufReader::new(output) })
    }

    /// Asks for one value; `None`: the answer has no row, or is an error of the server.
    ///
    /// # Errors
    /// The session is over.
    pub fn ask(&mut self, query: &str) -> io::Result<Option<String>> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(input, "{query};\n\\echo {END}")?;
        input.flush()?;
        let mut answer = None;
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                END => return Ok(answer),
                row => answer = answer.or_else(|| Some(row.to_owned())),
            }
        }
    }

    /// Asks for a position in the WAL.
    ///
    /// # Errors
    /// The session is over.
    pub fn ask_position(&mut self, query: &str) -> io::Result<Option<u64>> {
        Ok(self.ask(query)?.as_deref().and_then(position))
    }
}

/// A position in the WAL, as PostgreSQL writes it: `16/B374D848`.
pub fn position(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let half = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
    Some(half(high)? << 32 | half(low)?)
}

impl Drop for Session {
    fn drop(&mut self) {
        // At the end of its input psql ends; where it hangs in a query, it does not.
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::position;

    #[test]
    fn positions_are_read() {
        assert_eq!(position("16/B374D848"), Some(0x16_B374_D848));
        assert_eq!(
            (position("0/0"), position("16"), position("1/123456789"), position("/")),
            (Some(0), None, None, None)
        );
    }
}
