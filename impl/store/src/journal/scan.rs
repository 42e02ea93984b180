//! Opening a journal: what survived, and whether something is missing.
//!
//! **Torn or damaged?** One batch is written at a time, and the next one only when it is durable. So of a crash's
//! victims at most the last batch may be torn; it was never reported, and is dropped. Everything else that is missing
//! was durable once, and its loss is *damage*. Three things give it away:
//! - a gap in the batch numbers between the newest sound batch and the `oldest` that it names;
//! - the sidecar, which names a durable batch above the newest sound one;
//! - an unreadable sidecar: then it can't be known, and the worst is assumed.
//!
//! The sidecar is written after each synchronisation but has none of its own: a power cut may take it some seconds
//! back (killing the process does not). Then the damage of just the very last batch would pass for a tear. That takes
//! a power cut and a damaged block at one time.
//!
//! **After damage** every segment of the node is told, because it isn't known whose entries are gone. What survived is
//! written again with a `DamageFound` for each segment, and only then the damaged files are given up: so the verdict
//! survives another crash, until the segment's own `Amnesia` takes its place.

use super::files::{Files, SIDECAR_MAGIC, Used};
use super::format::{Chunk, EntryHeader, FrameKind, NUMBER_MAX, frames_of, parse_batch};
use super::live::Live;
use super::spares::{DIR, JournalFile, Purpose, Spares};
use crate::Delta;
use crate::disk::{Directory, File, read_up_to};
use crate::error::{IoContext, IoFailure, OpenError};
use crate::space::Space;
use crate::twin::{self, BLOCK};
use auriga_protocol::segment::Entry;
use auriga_protocol::{Lsn, SegmentId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SIDECAR: &str = "durable";

/// Most bytes of a batch that is written while opening.
const REWRITE_MAX: usize = 1 << 20;

/// What the journal needs to know to open.
pub(crate) struct Opening<'a> {
    pub disk: &'a Arc<dyn Directory>,
    pub space: &'a Arc<Space>,
    /// The identity's random number.
    pub journal: u64,
    pub file_bytes: u64,
    /// The durable floor of each segment that exists.
    pub floors: &'a BTreeMap<SegmentId, Lsn>,
    /// Segments whose floor could not be read: they forgot, as if their part of the journal were damaged.
    pub forgetful: &'a BTreeSet<SegmentId>,
}

/// A segment's part of the journal.
#[derive(Default)]
pub(crate) struct Log {
    /// By sequence, so in the order of their first appends.
    entries: BTreeMap<u64, (EntryHeader, Entry<Delta>)>,
    /// Sequence of the newest `DamageFound`, and of the newest entry that answers it.
    damage_found: u64,
    standing: u64,
}

impl Log {
    /// The entries, oldest first.
    pub(crate) fn into_entries(self) -> Vec<Entry<Delta>> {
        self.entries.into_values().map(|(_, entry)| entry).collect()
    }

    /// Whether entries are missing and the segment does not know it.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damage_found > self.standing
    }
}

/// A journal that was read.
pub(crate) struct Opened {
    pub(super) files: Files,
    /// Each segment's part.
    pub(crate) logs: BTreeMap<SegmentId, Log>,
    pub(super) next_sequence: u64,
}

/// Makes the journal of a new directory.
///
/// # Errors
/// Returns the operating system's error.
pub(crate) fn create(opening: &Opening<'_>) -> Result<Opened, IoFailure> {
    let Opening { disk, space, journal, file_bytes, .. } = *opening;
    disk.create_dir(DIR).context(|| "make the journal's directory".into())?;
    for name in disk.list(DIR).context(|| "list the journal".into())? {
        disk.remove(&format!("{DIR}/{name}")).context(|| "remove what an earlier first start left".into())?;
    }
    let name = format!("{DIR}/{SIDECAR}");
    let sidecar = disk.create(&name).context(|| format!("make {name}"))?;
    twin::write_both(&*sidecar, SIDECAR_MAGIC, 0, &[]).context(|| format!("write {name}"))?;
    let spares = Spares::new(disk.clone(), space.clone(), file_bytes, 0);
    let mut files = Files::new(journal, spares, sidecar, 1);
    files.write(&mut Chunk::default(), Purpose::Moving)?;
    Ok(Opened { files, logs: BTreeMap::new(), next_sequence: 1 })
}

/// Reads the journal and makes it ready to go on.
///
/// # Errors
/// The operating system's; or an entry is of an unknown form.
pub(crate) fn open(opening: &Opening<'_>) -> Result<Opened, OpenError> {
    let Opening { disk, space, journal, file_bytes, floors, forgetful } = *opening;
    let mut scan = Scan::read(opening)?;
    let (durable, sidecar) = sidecar(disk)?;
    scan.batches.sort_unstable_by_key(|batch| batch.number);
    let newest = scan.batches.last().map_or(0, |batch| batch.number);
    let oldest = scan.batches.last().map_or(0, |batch| batch.oldest);
    scan.batches.retain(|batch| batch.number >= oldest);
    scan.batches.dedup_by_key(|batch| batch.number);
    let complete = newest > 0 && scan.batches.len() as u64 == newest - oldest + 1;
    let damaged = !complete || durable.is_none_or(|durable| durable > newest);
    let spares = Spares::new(disk.clone(), space.clone(), file_bytes, scan.highest_name);
    let mut opened = Opened {
        files: Files::new(journal, spares, sidecar, newest.max(durable.unwrap_or(0)) + 1),
        logs: BTreeMap::new(),
        next_sequence: 1,
    };
    floors.iter().for_each(|(segment, floor)| opened.files.live.set_floor(*segment, *floor));
    opened.take_batches(&scan, file_bytes, floors)?;
    scan.into_spares(&mut opened.files)?;
    if damaged {
        tracing::error!(newest, oldest, ?durable, "the journal is damaged: its segments must rejoin");
    }
    if damaged || !forgetful.is_empty() {
        opened.rewrite(floors, |segment| damaged || forgetful.contains(&segment))?;
    }
    let files = &opened.files;
    let durable = files.next_batch - 1;
    twin::write_both(&*files.sidecar, SIDECAR_MAGIC, durable, &[]).context(|| format!("write {DIR}/{SIDECAR}"))?;
    Ok(opened)
}

/// The sidecar, made anew if it is gone, and the durable batch that it names.
fn sidecar(disk: &Arc<dyn Directory>) -> Result<(Option<u64>, Arc<dyn File>), IoFailure> {
    let name = format!("{DIR}/{SIDECAR}");
    match disk.open(&name) {
        Ok(file) => {
            let value = twin::read(&*file, SIDECAR_MAGIC).context(|| format!("read {name}"))?;
            Ok((value.map(|(durable, _)| durable).filter(|durable| *durable < NUMBER_MAX), file))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok((None, disk.create(&name).context(|| format!("make {name}"))?))
        }
        Err(source) => Err(IoFailure { doing: format!("open {name}"), source }),
    }
}

/// Where a sound batch lies.
struct Found {
    number: u64,
    oldest: u64,
    file: usize,
    offset: usize,
    length: usize,
}

struct Scan {
    files: Vec<JournalFile>,
    batches: Vec<Found>,
    highest_name: u64,
}

impl Scan {
    fn read(opening: &Opening<'_>) -> Result<Scan, IoFailure> {
        let Opening { disk, space, journal, file_bytes, .. } = *opening;
        let mut scan = Scan { files: Vec::new(), batches: Vec::new(), highest_name: 0 };
        for name in disk.list(DIR).context(|| "list the journal".into())? {
            let Some(number) = Spares::number_of(&name) else { continue };
            scan.highest_name = scan.highest_name.max(number);
            let name = format!("{DIR}/{name}");
            let file = disk.open_log(&name).context(|| format!("open {name}"))?;
            // What is readable now may be in memory only: a segment must not build on it before it is durable.
            file.sync().context(|| format!("synchronise {name}"))?;
            let bytes = read_up_to(&*file, 0, file_bytes as usize).context(|| format!("read {name}"))?;
            space.found(file.size().context(|| format!("measure {name}"))?);
            scan.find_batches(journal, &bytes);
            scan.files.push(JournalFile { name, file });
        }
        Ok(scan)
    }

    fn find_batches(&mut self, journal: u64, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let found = parse_batch(journal, &bytes[at..]);
            if let Some(header) = found {
                let (number, oldest) = (header.number, header.oldest);
                self.batches.push(Found { number, oldest, file: self.files.len(), offset: at, length: header.length });
            }
            at += found.map_or(BLOCK, |header| header.length.next_multiple_of(BLOCK));
        }
    }

    /// Files without a batch that is needed are ready to be used again.
    fn into_spares(self, files: &mut Files) -> Result<(), IoFailure> {
        for file in self.files {
            let used = files.used.iter().any(|used| used.file.name == file.name);
            if !used {
                files.spares.put(file)?;
            }
        }
        Ok(())
    }
}

impl Opened {
    fn take_batches(
        &mut self,
        scan: &Scan,
        file_bytes: u64,
        floors: &BTreeMap<SegmentId, Lsn>,
    ) -> Result<(), OpenError> {
        for batches in scan.batches.chunk_by(|one, other| one.file == other.file) {
            let file = &scan.files[batches[0].file];
            let bytes = read_up_to(&*file.file, 0, file_bytes as usize).context(|| format!("read {}", file.name))?;
            let id = self.files.next_id;
            self.files.next_id += 1;
            self.files.used.push_back(Used { id, file: file.clone(), first_batch: batches[0].number });
            for batch in batches {
                // The file may have become unreadable since it was scanned: then the frames are simply not there, and
                // the checksum of the second reading says so.
                let bytes = bytes.get(batch.offset..).unwrap_or_default();
                let Some(header) = parse_batch(self.files.journal, bytes) else {
                    return Err(changed_meanwhile(&file.name).into());
                };
                for (frame, entry) in frames_of(&bytes[..header.length]) {
                    self.take_frame(id, frame, entry, floors)?;
                }
                self.files.offset = (batch.offset + batch.length.next_multiple_of(BLOCK)) as u64;
            }
        }
        Ok(())
    }

    fn take_frame(
        &mut self,
        file: u64,
        frame: EntryHeader,
        entry: &[u8],
        floors: &BTreeMap<SegmentId, Lsn>,
    ) -> Result<(), OpenError> {
        let segment = frame.segment;
        let Some(floor) = floors.get(&segment) else { return Err(OpenError::PageFileMissing(segment)) };
        self.files.live.note(file, &frame, entry);
        self.next_sequence = self.next_sequence.max(frame.sequence + 1);
        let log = self.logs.entry(segment).or_default();
        match frame.kind {
            FrameKind::DamageFound => {
                log.damage_found = log.damage_found.max(frame.sequence);
                return Ok(());
            }
            FrameKind::STANDING => log.standing = log.standing.max(frame.sequence),
            FrameKind::RECORDS if frame.lsn <= *floor => return Ok(()),
            _ => {}
        }
        if let std::collections::btree_map::Entry::Vacant(vacant) = log.entries.entry(frame.sequence) {
            let entry = postcard::from_bytes(entry).map_err(|source| OpenError::UnknownEntry { segment, source })?;
            vacant.insert((frame, entry));
        }
        Ok(())
    }

    /// Writes again, in new files, everything that survived, and for each segment that `forgot` that there was damage.
    fn rewrite(
        &mut self,
        segments: &BTreeMap<SegmentId, Lsn>,
        forgot: impl Fn(SegmentId) -> bool,
    ) -> Result<(), IoFailure> {
        let old = self.files.used.len();
        self.files.live = Live::default();
        segments.iter().for_each(|(segment, floor)| self.files.live.set_floor(*segment, *floor));
        self.files.begin_file(Purpose::Moving)?;
        let limit = REWRITE_MAX.min(self.files.spares.file_bytes() as usize / 2);
        let mut chunk = Chunk::default();
        for segment in segments.keys() {
            let log = self.logs.entry(*segment).or_default();
            for (frame, entry) in log.entries.values() {
                let encoded = postcard::to_allocvec(entry).expect("it was decoded, so it has an encoding");
                if !chunk.is_empty() && chunk.len() + encoded.len() > limit {
                    self.files.write(&mut chunk, Purpose::Moving)?;
                    chunk.clear();
                }
                chunk.push_encoded(*frame, &encoded);
            }
            if forgot(*segment) {
                log.damage_found = self.next_sequence;
                self.next_sequence += 1;
            }
            if log.is_damaged() {
                let (kind, sequence) = (FrameKind::DamageFound, log.damage_found);
                chunk.push_encoded(EntryHeader { segment: *segment, kind, sequence, lsn: Lsn::ZERO }, &[]);
            }
        }
        self.files.write(&mut chunk, Purpose::Moving)?;
        // From the next batch on, only what was just written is needed.
        let next = self.files.next_batch;
        let given_up = self.files.used.drain(..old).map(|used| (next, used.file));
        self.files.retired.extend(given_up);
        chunk.clear();
        self.files.write(&mut chunk, Purpose::Moving)
    }
}

fn changed_meanwhile(name: &str) -> IoFailure {
    let source = std::io::Error::other("two readings of one batch differ");
    IoFailure { doing: format!("read {name}"), source }
}
