//! The log of a storage process or an instance, on standard error: it never harms the process.
//!
//! A line that can't be written at once is dropped and counted, and so is one that fails: the reader of a pipe is slow
//! or gone, the disk is full, the terminal is stopped. The next line that can be written says how many are missing. A
//! file that has grown to [`FILE_BYTES_MAX`] is emptied. There is no thread: nothing to take a signal that is meant for
//! another, and nothing that must not exist yet when a process makes its own namespaces.

use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Mutex;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes after which a log that is a regular file begins anew.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Most bytes in one write. A pipe that is ready for writing takes this many without waiting.
const CHUNK: usize = libc::PIPE_BUF;

/// Lines after which a file's size is looked at.
const LOOK_EVERY: u64 = 1024;

/// A log without a promise to keep every line.
pub struct Lossy {
    fd: RawFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: u64,
    missing: u64,
}

impl Lossy {
    /// Writes to a descriptor that stays open.
    pub fn to(fd: RawFd) -> Lossy {
        Lossy { fd, state: Mutex::default() }
    }

    fn line(&self, line: &[u8]) {
        // A panic while it was locked has left nothing half done.
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.lines.is_multiple_of(LOOK_EVERY) {
            self.shorten();
        }
        state.lines += 1;
        if state.missing > 0 {
            let notice = format!("{} lines of this log are missing: they could not be written\n", state.missing);
            if self.write(notice.as_bytes()).is_err() {
                state.missing += 1;
                return;
            }
            state.missing = 0;
        }
        if self.write(line).is_err() {
            state.missing += 1;
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(CHUNK).try_for_each(|chunk| {
            let mut ready = libc::pollfd { fd: self.fd, events: libc::POLLOUT, revents: 0 };
            // SAFETY: one structure, which outlives the call.
            let count = unsafe { libc::poll(&raw mut ready, 1, 0) };
            if count != 1 || ready.revents & libc::POLLOUT == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.file().write_all(chunk)
        })
    }

    fn shorten(&self) {
        let file = self.file();
        let is_long = |there: &std::fs::Metadata| there.is_file() && there.len() > FILE_BYTES_MAX;
        if file.metadata().is_ok_and(|there| is_long(&there)) {
            let _ = file.set_len(0);
        }
    }

    /// What a thread that panics says. It may hold the lock: so the line is not counted where it is lost.
    fn last_words(&self, words: &str) {
        let _ = self.write(words.as_bytes());
    }

    /// The descriptor as a file that is not closed.
    fn file(&self) -> ManuallyDrop<File> {
        // SAFETY: the descriptor stays open, and this file is never dropped.
        ManuallyDrop::new(unsafe { File::from_raw_fd(self.fd) })
    }
}

/// One line on its way.
pub struct Line<'a>(&'a Lossy);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lossy {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// `RUST_LOG` chooses what is logged; everything of ours from `info` up where it is absent.
pub fn to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,fuser=error"));
    let log: &'static Lossy = Box::leak(Box::new(Lossy::to(io::stderr().as_raw_fd())));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(move || Line(log)).init();
    // The standard library's hook waits until standard error takes its lines: a process whose log is stuck would not
    // end.
    std::panic::set_hook(Box::new(move |panic| {
        let (thread, trace) = (std::thread::current(), std::backtrace::Backtrace::capture());
        log.last_words(&format!("thread {:?}: {panic}\n{trace}\n", thread.name().unwrap_or("?")));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up_and_what_is_missing_is_said() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let log = Lossy::to(writer.as_raw_fd());
        for _ in 0..10_000 {
            log.line(&[b'x'; 100]);
        }
        log.last_words("nobody hears this, and nobody waits for it\n");
        let mut some = vec![0; 50_000];
        reader.read_exact(&mut some).expect("what fitted");
        log.line(b"after\n");
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("text");
        assert!(rest.contains("lines of this log are missing") && rest.ends_with("after\n"), "{} bytes", rest.len());
    }

    #[test]
    fn a_reader_that_is_gone_and_a_full_disk_are_survived() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let log = Lossy::to(writer.as_raw_fd());
        (0..3).for_each(|_| log.line(b"into the void\n"));
        let full = File::options().write(true).open("/dev/full").expect("Linux has one");
        let log = Lossy::to(full.as_raw_fd());
        (0..3).for_each(|_| log.line(b"onto a full disk\n"));
        assert_eq!(log.state.lock().expect("sound").missing, 3);
    }
}
