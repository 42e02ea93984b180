//! One `psql` that stays, for questions that are asked often.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const END: &str = "no row is like this";

/// A session; ended when dropped.
pub struct Session {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Session {
    /// Opens one. The command is bounded in time by `timeout`, which has to be long enough for the whole test.
    pub fn open(psql: &mut Command) -> Session {
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("piped"));
        Session { child, input, output: BufReader::new(output) }
    }

    /// The first row's first column; `None`: there is none, or the server does not answer.
    pub fn ask(&mut self, sql: &str) -> Option<String> {
        let input = self.input.as_mut()?;
        writeln!(input, "{sql};\n\\echo {END}").and_then(|()| input.flush()).ok()?;
        let mut answer = None;
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim() {
                END => return answer,
                row => answer = answer.or(Some(row.to_owned())),
            }
        }
    }

    /// A WAL position.
    pub fn lsn(&mut self, sql: &str) -> Option<u64> {
        let text = self.ask(sql)?;
        let (high, low) = text.split_once('/')?;
        Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}
