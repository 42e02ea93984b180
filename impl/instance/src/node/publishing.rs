//! Publishing: tells the readers, again and again, how far the volume is, and with it a position of PostgreSQL's WAL
//! (R-READER-6). In a global database it is written into the volume, too, for the readers of other regions (R-GLOBAL-14).

use crate::health::now_ms;
use crate::postgres::server::ServerSpec;
use crate::postgres::session::Session;
use auriga_protocol::Lsn;
use auriga_protocol::global::RegionState;
use auriga_region::hold::REGION_READER;
use auriga_region::publication::{Publication, publication_change};
use auriga_volume::{RemoteVolume, Volume};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it looks whether there is something to publish. A part of the readers' lag.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The least time between two publications in the volume. A part of the lag of other regions' readers.
const SHIP_EVERY: Duration = Duration::from_millis(20);
/// How long one of those may wait for room. Another one follows.
const SHIP_PATIENCE: Duration = Duration::from_secs(1);
/// How often a writer that is of no region looks whether it has become one's.
const REGION_EVERY: Duration = Duration::from_millis(500);
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
    /// Publishes `volume` with positions of the server of `spec`, whenever a reader would learn something. `region` is what
    /// the volume says of its region, if it is one's.
    ///
    /// # Errors
    /// The operating system has no thread.
    pub fn start(volume: Arc<RemoteVolume>, spec: ServerSpec, region: Option<RegionState>) -> io::Result<Publisher> {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        // The session ends with the thread that began it.
        let thread = std::thread::Builder::new().name("publishing".to_owned()).spawn(move || {
            let (mut session, mut shipped) = (None, Shipped::new(region));
            while !seen.load(Relaxed) {
                let silent = !publish(&volume, &mut shipped, || position(&mut session, &spec));
                std::thread::sleep(if silent { ASK_AGAIN } else { LOOK_EVERY });
            }
        })?;
        Ok(Publisher { ended, thread: Some(thread) })
    }
}

/// Publishes where there is something to publish. Returns whether the server answers, as far as it was asked.
fn publish(volume: &RemoteVolume, shipped: &mut Shipped, position: impl FnOnce() -> Option<u64>) -> bool {
    let (follow, ship) = (volume.wants_publication(), shipped.is_due(volume));
    if !follow && !ship {
        return true;
    }
    // Chosen before the question.
    let (read_point, covers) = (volume.vdl(), volume.allocated());
    let Some(wal) = position() else { return false };
    if follow {
        volume.publish_at(read_point, wal);
    }
    if ship {
        shipped.write(volume, covers, wal);
    }
    true
}

/// Publications in the volume itself.
struct Shipped {
    /// Volume LSNs to global LSNs. Nothing is known yet of a volume on which no region has ever written.
    region: Option<RegionState>,
    /// Whether there is a region.
    is_regions: bool,
    looked: Instant,
    /// The last one, and when it was written.
    last: Lsn,
    at: Instant,
}

impl Shipped {
    fn new(region: Option<RegionState>) -> Shipped {
        let (is_regions, now) = (region.is_some(), Instant::now());
        Shipped { region, is_regions, looked: now, last: Lsn::ZERO, at: now }
    }

    /// Whether something was written since the last one, and a region follows: an idle volume stays idle.
    fn is_due(&mut self, volume: &RemoteVolume) -> bool {
        if !self.is_regions && self.looked.elapsed() >= REGION_EVERY {
            self.looked = Instant::now();
            self.is_regions = volume.followers().iter().any(|(reader, _)| *reader == REGION_READER);
        }
        self.is_regions && self.at.elapsed() >= SHIP_EVERY && volume.allocated() > self.last
    }

    fn write(&mut self, volume: &RemoteVolume, covers: Lsn, wal: u64) {
        // The first branch of a global database begins with the volume.
        let covers = self.region.as_ref().map_or(covers, |region| region.global_of(covers));
        let change = publication_change(Publication { covers, wal, at_ms: now_ms() });
        self.at = Instant::now();
        // Where the volume has ended, somebody else says so.
        if let Ok(lsn) = volume.submit(vec![change], self.at + SHIP_PATIENCE) {
            self.last = lsn;
        }
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
