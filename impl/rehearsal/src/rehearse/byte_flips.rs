//! Bits that change on disk, under a live storage process or a stopped one.
//!
//! One copy is damaged at a time: each round ends when all six are whole again. What is not found within a while is made
//! to show itself by a restart, which reads the whole journal and every header; what is not found then was in unused
//! space, in the readable twin of a small value, or has been written over.

use super::Rehearsal;
use crate::demo::layout::STORAGE;
use crate::tour::TourError;
use auriga_net::admin::NodeStatus;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a storage process logs when it finds damage other than in pages, which it counts in its status.
const FOUND: [&str; 4] = [" is damaged at ", "the journal is damaged", "base pages were lost", "copies was damaged"];
/// Damage in anything but pages is found by a live process within this time, or at its restart.
const FIND_LIMIT: Duration = Duration::from_secs(4);
/// Pages that are verified in a second (`SegmentConfig::scrub_pages`).
const PAGES_PER_SECOND: u64 = 256;
/// Bytes looked at to see whether a place is in use.
const BLOCK: u64 = 4096;

/// What became of the flips of one kind of file.
#[derive(Default)]
struct Count {
    harmless: u32,
    /// Time until found, and until whole again.
    found_live: Vec<(Duration, Duration)>,
    found_at_restart: u32,
}

/// What became of all flips.
#[derive(Default)]
pub struct Counts(BTreeMap<&'static str, Count>);

impl Counts {
    /// One line for each kind of file.
    pub fn show(&self) {
        for (kind, count) in &self.0 {
            let longest = |which: fn(&(Duration, Duration)) -> Duration| {
                count.found_live.iter().map(which).max().unwrap_or_default().as_secs_f64()
            };
            println!(
                "{kind:<10} harmless {:>3}  found while running {:>3} (at most {:.1} s later, whole {:.1} s after that)  \
                 found at or after a restart {:>3}",
                count.harmless,
                count.found_live.len(),
                longest(|(found, _)| *found),
                longest(|(_, whole)| *whole),
                count.found_at_restart
            );
        }
    }
}

/// A place in a file of a storage process.
struct Place {
    kind: &'static str,
    path: PathBuf,
    offset: u64,
}

/// What a process has found so far.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Found {
    logged: usize,
    healed_pages: u64,
}

impl Rehearsal<'_> {
    /// Flips one bit, and waits until it is known what became of it, and all is whole.
    pub(super) fn flip_byte(&mut self) -> Result<String, TourError> {
        let index = self.random.usize(0..STORAGE.len());
        let name = STORAGE[index];
        let live = self.random.u8(0..3) > 0;
        let before = self.found(index)?;
        if !live {
            self.demo.cluster().0.kill(name)?;
        }
        let directory = self.demo.layout().storage().join(name);
        let place = choose(&directory, &mut self.random).map_err(unexpected)?;
        flip(&place, self.random.u8(0..8)).map_err(unexpected)?;
        let begun = Instant::now();
        if !live {
            self.demo.start(name)?;
        }
        let healed = if live { before.healed_pages } else { 0 };
        let before = Found { healed_pages: healed, ..before };
        let found_live = self.wait_until_found(index, before, place.kind)?.then(|| begun.elapsed());
        let mut found_at_restart = false;
        if found_live.is_none() && live {
            self.demo.cluster().0.kill(name)?;
            self.demo.start(name)?;
            found_at_restart = self.wait_until_found(index, Found { healed_pages: 0, ..before }, "restart")?;
        }
        let healing = Instant::now();
        self.wait_until_caught_up()?;
        self.wait_until_pages_are_sound()?;
        self.wait_for_commits()?;
        let (kind, whole) = (place.kind, healing.elapsed());
        let count = self.flips.0.entry(kind).or_default();
        let outcome = match found_live {
            Some(found) if live => {
                count.found_live.push((found, whole));
                format!("found after {:.1} s, whole {:.1} s later", found.as_secs_f64(), whole.as_secs_f64())
            }
            None if !found_at_restart => {
                count.harmless += 1;
                "harmless".to_owned()
            }
            _ => {
                count.found_at_restart += 1;
                format!("found at restart, whole after {:.1} s", begun.elapsed().as_secs_f64())
            }
        };
        let state = if live { "live" } else { "stopped" };
        Ok(format!("{name} ({state}), {kind} at {:#x}: {outcome}", place.offset))
    }

    fn status(&self, index: usize) -> Option<NodeStatus> {
        let layout = self.demo.layout();
        let asked = auriga_admin::storage::status(layout.storage_address(index), self.demo.access());
        self.demo.runtime().block_on(asked).ok()
    }

    fn found(&self, index: usize) -> Result<Found, TourError> {
        let path = self.demo.layout().log(STORAGE[index]);
        let text = std::fs::read_to_string(&path).map_err(unexpected)?;
        let logged = text.lines().filter(|line| FOUND.iter().any(|said| line.contains(said))).count();
        let healed = self.status(index).map_or(0, |status| status.segments.iter().map(|(_, s)| s.healed_pages).sum());
        Ok(Found { logged, healed_pages: healed })
    }

    fn wait_until_found(&self, index: usize, before: Found, kind: &str) -> Result<bool, TourError> {
        let pages = self.status(index).map_or(0, |status| status.disk.pages);
        let scrub = if kind == "pages" { Duration::from_secs(pages / PAGES_PER_SECOND) } else { Duration::ZERO };
        let deadline = Instant::now() + FIND_LIMIT + scrub;
        while Instant::now() < deadline {
            self.demo.cluster().0.check_alive(STORAGE[index])?;
            let now = self.found(index)?;
            if now.logged > before.logged || now.healed_pages > before.healed_pages {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(false)
    }

    fn wait_until_pages_are_sound(&self) -> Result<(), TourError> {
        let deadline = Instant::now() + super::CATCH_UP_LIMIT;
        let sound = |status: NodeStatus| status.segments.iter().all(|(_, segment)| segment.damaged_pages == 0);
        while !(0..STORAGE.len()).all(|index| self.status(index).is_some_and(sound)) {
            if Instant::now() >= deadline {
                return Err(TourError::Unexpected("damaged pages are not healed".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// A kind of file, then a file of it, then mostly a place in use.
fn choose(directory: &Path, random: &mut fastrand::Rng) -> io::Result<Place> {
    let (kind, within) = match random.u8(0..10) {
        0 => ("identity", ""),
        1 => ("sidecar", "journal"),
        2..7 => ("journal", "journal"),
        _ => ("pages", "pages"),
    };
    let fits = |name: &str| match kind {
        "identity" => name == "node",
        "sidecar" => name == "durable",
        "journal" => name != "durable",
        _ => true,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory.join(within))? {
        let entry = entry?;
        let is_file = entry.file_type()?.is_file() && entry.metadata()?.len() > 0;
        if is_file && entry.file_name().to_str().is_some_and(fits) {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    let path = random.choice(files).ok_or_else(|| io::Error::other(format!("there is no file with {kind}")))?;
    let file = File::open(&path)?;
    let size = file.metadata()?.len();
    let mut offset = random.u64(0..size);
    let tries = if random.u8(0..4) == 0 { 0 } else { 64 };
    for _ in 0..tries {
        if in_use(&file, offset)? {
            break;
        }
        offset = random.u64(0..size);
    }
    Ok(Place { kind, path, offset })
}

fn in_use(file: &File, offset: u64) -> io::Result<bool> {
    let mut block = [0; BLOCK as usize];
    let read = file.read_at(&mut block, offset / BLOCK * BLOCK)?;
    Ok(block[..read].iter().any(|byte| *byte != 0))
}

fn flip(place: &Place, bit: u8) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(&place.path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place.offset)?;
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, place.offset)
}

fn unexpected(error: io::Error) -> TourError {
    TourError::Unexpected(format!("flipping a bit: {error}"))
}
