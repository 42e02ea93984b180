//! One `psql` that stays, for questions that are asked often.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const END: &str = "no row is like this";
/// How long a server that is not there is left alone.
const AGAIN: Duration = Duration::from_millis(100);

/// A session, opened when something is asked, and again when it is over; ended when dropped.
pub struct Session {
    command: Command,
    open: Option<Open>,
}

struct Open {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Session {
    /// Sessions by this command.
    pub fn new(command: Command) -> Session {
        Session { command, open: None }
    }

    /// The first row's first column; `None`: there is none, or the server does not answer.
    pub fn ask(&mut self, sql: &str) -> Option<String> {
        if self.open.is_none() {
            let command = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().expect("started");
            let (input, output) = (child.stdin.take(), child.stdout.take().expect("piped"));
            self.open = Some(Open { child, input, output: BufReader::new(output) });
        }
        let answer = self.open.as_mut().and_then(|open| open.ask(sql));
        if answer.is_none() {
            self.open = None;
            std::thread::sleep(AGAIN);
        }
        answer
    }

    /// A WAL position.
    pub fn lsn(&mut self, sql: &str) -> Option<u64> {
        let text = self.ask(sql)?;
        let (high, low) = text.split_once('/')?;
        Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?)
    }
}

impl Open {
    fn ask(&mut self, sql: &str) -> Option<String> {
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
}

impl Drop for Open {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}
