//! Publishing: tells the readers, again and again, how far the volume is, and with it a position of PostgreSQL's WAL
//! (R-READER-6).

use crate::postgres::server::ServerSpec;
use crate::postgres::session::Session;
use auriga_volume::RemoteVolume;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often it looks whether there is something to publish. A part of the readers' lag.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long it waits before it asks a server again that did not answer.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The *insert* position: pages may be written before their WAL is flushed.
const QUESTION: &str = "SELECT pg_current_wal_insert_lsn()";
/// Bytes of a page of the WAL, and of a segment, as packages build PostgreSQL.
const PAGE: u64 = 8 << 10;
/// See [`PAGE`].
const SEGMENT: u64 = 16 << 20;

/// A thread that publishes. Dropping it ends the thread.
pub(super) struct Publisher {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Publishes `volume` with positions of the server of `spec`, whenever a reader would learn something.
    ///
    /// # Errors
    /// The operating system has no thread.
    pub fn start(volume: Arc<RemoteVolume>, spec: ServerSpec) -> io::Result<Publisher> {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        // The session ends with the thread that began it.
        let thread = std::thread::Builder::new().name("publishing".to_owned()).spawn(move || {
            let mut session = None;
            while !seen.load(Relaxed) {
                let silent = volume.wants_publication() && volume.publish(|| position(&mut session, &spec)).is_none();
                std::thread::sleep(if silent { ASK_AGAIN } else { LOOK_EVERY });
            }
        })?;
        Ok(Publisher { ended, thread: Some(thread) })
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks the server for its position; `None`: it has just been started, or has ended, or recovers.
fn position(session: &mut Option<Session>, spec: &ServerSpec) -> Option<u64> {
    if session.is_none() {
        *session = Session::begin(spec).ok();
    }
    match session.as_mut()?.ask_position(QUESTION) {
        Ok(position) => position.map(end_of_record),
        Err(_) => {
            *session = None;
            None
        }
    }
}

/// Where the last record before `position` ends. At the border of two pages PostgreSQL names the place where the next record
/// will begin, after the page's header. A standby that has replayed everything is before the header, and would seem to
/// lack something until the next record comes.
fn end_of_record(position: u64) -> u64 {
    const HEADER: u64 = 24;
    /// Of a segment's first page.
    const FIRST_HEADER: u64 = 40;
    match (position % SEGMENT, position % PAGE) {
        (FIRST_HEADER, _) => position - FIRST_HEADER,
        (_, HEADER) => position - HEADER,
        _ => position,
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE, SEGMENT, end_of_record};

    #[test]
    fn a_position_after_a_header_is_one_before_it() {
        assert_eq!(end_of_record(3 * SEGMENT + 40), 3 * SEGMENT);
        assert_eq!(end_of_record(3 * SEGMENT + 5 * PAGE + 24), 3 * SEGMENT + 5 * PAGE);
        for inside in
            [3 * SEGMENT + 48, 3 * SEGMENT + 5 * PAGE + 40, 3 * SEGMENT + 5 * PAGE, 3 * SEGMENT + 7 * PAGE - 8]
        {
            assert_eq!(end_of_record(inside), inside);
        }
    }
}
