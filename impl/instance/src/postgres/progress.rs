//! How far PostgreSQL's recovery is, from the lines that it writes about it into its log.
//!
//! The words depend on the language of its messages. What does not is that such a line names a position in the WAL, such
//! as `0/5000028`: the last line that does is the progress.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the log is read.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Most that is read of it at a time; where more was written, the end counts.
const READ_MAX: u64 = 16 << 10;

/// Follows a log.
#[derive(Debug)]
pub struct Progress {
    log: PathBuf,
    read_to: u64,
    next_look: Instant,
}

impl Progress {
    /// Follows what is appended to `log` from now on.
    pub fn after_now(log: &Path) -> Progress {
        let read_to = std::fs::metadata(log).map_or(0, |file| file.len());
        Progress { log: log.to_owned(), read_to, next_look: Instant::now() }
    }

    /// The newest progress, if there is any since the last look.
    pub fn look(&mut self) -> Option<String> {
        if Instant::now() < self.next_look {
            return None;
        }
        self.next_look = Instant::now() + LOOK_EVERY;
        let text = self.read().unwrap_or_default();
        text.lines().rev().find(|line| names_a_position(line)).map(|line| message(line).to_owned())
    }

    /// What has been appended, up to the end of the last complete line.
    fn read(&mut self) -> io::Result<String> {
        let file = File::open(&self.log)?;
        let length = file.metadata()?.len();
        let from = self.read_to.max(length.saturating_sub(READ_MAX)).min(length);
        let mut bytes = vec![0; (length - from) as usize];
        file.read_exact_at(&mut bytes, from)?;
        bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1));
        self.read_to = from + bytes.len() as u64;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Whether a word of the line is a position in the WAL.
fn names_a_position(line: &str) -> bool {
    let is_hex = |part: &str| !part.is_empty() && part.len() <= 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    line.split([' ', ',', ';']).any(|word| word.split_once('/').is_some_and(|(high, low)| is_hex(high) && is_hex(low)))
}

/// The line without its time, process and level.
fn message(line: &str) -> &str {
    line.split_once("] ").and_then(|(_, rest)| rest.split_once(": ")).map_or(line, |(_, message)| message.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_last_line_with_a_position_since_the_start_counts() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        writeln!(log, "2026-01-01 00:00:00.000 UTC [7] LOG:  redo starts at 0/1").unwrap();
        let mut progress = Progress::after_now(log.path());
        assert_eq!(progress.look(), None);
        writeln!(
            log,
            "2026-01-01 00:00:01.000 UTC [7] LOG:  redo in progress, elapsed time: 1.00 s, current LSN: 0/5A"
        )
        .unwrap();
        writeln!(log, "2026-01-01 00:00:01.000 UTC [9] FATAL:  the database system is starting up").unwrap();
        write!(log, "2026-01-01 00:00:02.000 UTC [7] LOG:  redo in progress, elapsed time: 2.00 s, current LSN: 0/6")
            .unwrap();
        progress.next_look = Instant::now();
        assert_eq!(progress.look().unwrap(), "redo in progress, elapsed time: 1.00 s, current LSN: 0/5A");
        writeln!(log, "B").unwrap();
        progress.next_look = Instant::now();
        assert_eq!(progress.look().unwrap(), "redo in progress, elapsed time: 2.00 s, current LSN: 0/6B");
        assert_eq!(progress.look(), None);
    }
}
