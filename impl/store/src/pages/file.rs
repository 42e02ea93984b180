//! The page file of one segment: reading pages, and committing new ones. See the module above for why it is safe.

use super::format::{
    GROUP_SLOTS, Place, SLOT_HEADER, SUPERBLOCK_MAGIC, SlotHeader, Superblock, content_at, group_at, header_at,
};
use super::slots::Slots;
use crate::disk::{File, read_up_to};
use crate::error::{IoContext, IoFailure};
use crate::space::Space;
use crate::twin::{self, BLOCK};
use crate::{Delta, PAGE_SIZE};
use auriga_protocol::message::BasePage;
use auriga_protocol::segment::PageRange;
use auriga_protocol::{Charter, Lsn, PageId, SegmentId};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// The page file of one segment. Any thread may read; one at a time commits.
pub(crate) struct PageFile {
    pub(super) segment: SegmentId,
    pub(super) name: String,
    pub(super) file: Arc<dyn File>,
    /// The same file, for reading headers: contents that are read in order look like that to the operating system,
    /// which then reads ahead.
    pub(super) headers: Arc<dyn File>,
    pub(super) space: Arc<Space>,
    pub(super) index: RwLock<Index>,
    pub(super) writer: Mutex<Writer>,
    /// The last page that was verified.
    pub(super) scrubbed: Mutex<Option<PageId>>,
    /// Whether the file system can give back room in the middle of a file, as far as is known.
    pub(super) keeps_holes: AtomicBool,
}

/// Where each page is.
pub(super) type Index = BTreeMap<PageId, Place>;

/// What committing needs.
pub(super) struct Writer {
    pub superblock: Superblock,
    pub slots: Slots,
}

impl PageFile {
    /// Whose it is.
    pub(crate) fn segment(&self) -> SegmentId {
        self.segment
    }

    /// Pages stored.
    pub(crate) fn page_count(&self) -> u64 {
        self.index().len() as u64
    }

    /// What its volume was made as.
    pub(crate) fn charter(&self) -> Charter {
        self.writer().superblock.charter
    }

    /// The durable floor.
    pub(crate) fn floor(&self) -> Lsn {
        self.writer().superblock.floor
    }

    /// No page is newer than this or the floor.
    pub(crate) fn ceiling(&self) -> Lsn {
        self.writer().superblock.ceiling
    }

    /// Whether all pages must come from a peer again.
    pub(crate) fn is_lost(&self) -> bool {
        self.writer().superblock.lost
    }

    /// The index as it is committed. A holder holds back the next commit, but not its synchronisation.
    pub(super) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a commit. Waits for the one under way, if any.
    pub(super) fn begin(&self) -> Commit<'_> {
        let writer = self.writer();
        let generation = writer.superblock.generation + 1;
        Commit { file: self, writer, generation, changes: BTreeMap::new() }
    }

    /// Stored pages of `range`.
    pub(super) fn pages_in(&self, range: &PageRange) -> Vec<PageId> {
        let after = range.after.map_or(Bound::Unbounded, Bound::Excluded);
        let index = self.index();
        let pages = index.range((after, Bound::Unbounded)).map(|(page, _)| *page);
        pages.take_while(|page| range.contains(*page)).collect()
    }

    fn give(&self, slots: &mut Slots, slot: u32) {
        slots.give(slot);
        self.space.add_reusable(PAGE_SIZE as u64);
    }

    /// Makes the headers of `slots`, which are sorted, unreadable. Durable with the next synchronisation.
    fn erase(&self, slots: &[u32]) -> Result<(), IoFailure> {
        const NONE: [u8; BLOCK] = [0; BLOCK];
        for run in slots.chunk_by(|one, next| are_neighbours(*one, *next)) {
            let erased = self.file.write_at(&NONE[..run.len() * SLOT_HEADER], header_at(run[0]));
            erased.final_context(|| format!("erase headers of {}", self.name))?;
        }
        Ok(())
    }
}

/// New pages, not yet committed: contents are in free slots, headers in memory. Dropping it changes nothing.
pub(super) struct Commit<'a> {
    file: &'a PageFile,
    writer: MutexGuard<'a, Writer>,
    generation: u64,
    /// `None`: the page goes.
    changes: BTreeMap<PageId, Option<SlotHeader>>,
}

impl Commit<'_> {
    /// Stores a page; a zero page is forgotten.
    ///
    /// # Errors
    /// Returns an error if there is no room, or another error of the operating system.
    pub(super) fn put(&mut self, base: &BasePage<Delta>) -> Result<(), IoFailure> {
        if base.content.is_zero() {
            self.remove(base.page);
            return Ok(());
        }
        let slot = self.take_slot()?;
        let content = base.content.content();
        let header = SlotHeader {
            page: base.page,
            version: base.version,
            generation: self.generation,
            slot,
            content: crc32c::crc32c(content),
            gone: 0,
        };
        if let Some(Some(earlier)) = self.changes.insert(base.page, Some(header)) {
            self.file.give(&mut self.writer.slots, earlier.slot);
        }
        let written = self.file.file.write_at(content, content_at(slot));
        written.context(|| format!("write page {:?} of {}", base.page, self.file.name))
    }

    /// Forgets a page. Needs no room.
    pub(super) fn remove(&mut self, page: PageId) {
        if let Some(Some(earlier)) = self.changes.insert(page, None) {
            self.file.give(&mut self.writer.slots, earlier.slot);
        }
    }

    /// Makes everything durable, then visible; calls `visible` before anyone can read the new pages. Pages and floor
    /// change together or not at all. `restored`: lost pages have all come back.
    ///
    /// # Errors
    /// The operating system's: then it isn't known what is durable, and the node must stop.
    pub(super) fn finish(
        mut self,
        floor: Option<Lsn>,
        ceiling: Lsn,
        restored: bool,
        visible: impl FnOnce(),
    ) -> Result<(), IoFailure> {
        let file = self.file;
        let mut headers: Vec<_> = self.changes.values().flatten().copied().collect();
        headers.sort_unstable_by_key(|header| header.slot);
        file.write_headers(&headers)?;
        let gone = self.gone();
        file.mark_gone(&gone, self.generation)?;
        if !headers.is_empty() || !gone.is_empty() {
            file.file.sync().final_context(|| format!("synchronise {}", file.name))?;
        }
        let places = self.places();
        let mut superblock = self.writer.superblock.clone();
        superblock.generation = self.generation;
        superblock.floor = floor.unwrap_or(superblock.floor);
        superblock.ceiling = superblock.ceiling.max(ceiling);
        superblock.lost &= !restored;
        {
            let index = file.index();
            for (page, place) in &places {
                index.get(page).into_iter().for_each(|old| superblock.index.remove(*page, *old));
                place.iter().for_each(|new| superblock.index.add(*page, *new));
            }
        }
        write_superblock(&*file.file, &superblock).final_context(|| format!("commit {}", file.name))?;
        self.writer.superblock = superblock;
        self.changes.clear();
        let replaced = file.publish(&places, visible);
        self.clean(replaced)
    }

    fn places(&self) -> Vec<(PageId, Option<Place>)> {
        self.changes.iter().map(|(page, header)| (*page, header.as_ref().map(SlotHeader::place))).collect()
    }

    /// Where the pages are that go, sorted by slot.
    fn gone(&self) -> Vec<Place> {
        let index = self.file.index();
        let forgotten = self.changes.iter().filter(|(_, header)| header.is_none());
        let mut gone: Vec<Place> = forgotten.filter_map(|(page, _)| index.get(page).copied()).collect();
        gone.sort_unstable_by_key(|place| place.slot);
        gone
    }

    /// Frees the slots of replaced pages.
    fn clean(&mut self, mut replaced: Vec<u32>) -> Result<(), IoFailure> {
        replaced.sort_unstable();
        self.file.erase(&replaced)?;
        replaced.into_iter().for_each(|slot| self.file.give(&mut self.writer.slots, slot));
        Ok(())
    }

    fn take_slot(&mut self) -> Result<u32, IoFailure> {
        let slots = &mut self.writer.slots;
        if slots.warm() > 0 {
            self.file.space.remove_reusable(PAGE_SIZE as u64);
        } else {
            if slots.holes() == 0 {
                self.file.grow(slots)?;
            }
            self.file.space.take(PAGE_SIZE as u64).context(|| format!("add a page to {}", self.file.name))?;
        }
        Ok(slots.take().expect("there is a free slot, or growing failed"))
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        for header in std::mem::take(&mut self.changes).into_values().flatten() {
            self.file.give(&mut self.writer.slots, header.slot);
        }
    }
}

impl PageFile {
    /// Adds a group of slots. Its block of headers is written at once, so that writing a header later never needs room.
    fn grow(&self, slots: &mut Slots) -> Result<(), IoFailure> {
        let doing = || format!("grow {}", self.name);
        self.space.take(BLOCK as u64).context(doing)?;
        let group = slots.count() / GROUP_SLOTS;
        if let Err(failure) = self.file.write_at(&[0; BLOCK], group_at(group)).context(doing) {
            self.space.give(BLOCK as u64);
            return Err(failure);
        }
        slots.add_group();
        Ok(())
    }

    /// Marks the headers of pages, sorted by slot, as gone with this generation. A header that is not as the index
    /// knows it is erased: its page could not be read anyway.
    fn mark_gone(&self, gone: &[Place], generation: u64) -> Result<(), IoFailure> {
        // A reader must not meet a header that is half written.
        let _no_readers = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for run in gone.chunk_by(|one, next| are_neighbours(one.slot, next.slot)) {
            let at = header_at(run[0].slot);
            let doing = || format!("mark headers of {}", self.name);
            let mut headers = read_up_to(&*self.file, at, run.len() * SLOT_HEADER).final_context(doing)?;
            headers.resize(run.len() * SLOT_HEADER, 0);
            for (place, bytes) in run.iter().zip(headers.chunks_mut(SLOT_HEADER)) {
                let known = SlotHeader::decode(place.slot, bytes).filter(|header| header.place() == *place);
                let marked = known.map(|header| SlotHeader { gone: generation, ..header }.encode().0);
                bytes.copy_from_slice(&marked.unwrap_or([0; SLOT_HEADER]));
            }
            self.file.write_at(&headers, at).final_context(doing)?;
        }
        Ok(())
    }

    /// Writes headers, sorted by slot: those of neighbours at once.
    fn write_headers(&self, headers: &[SlotHeader]) -> Result<(), IoFailure> {
        for run in headers.chunk_by(|one, next| are_neighbours(one.slot, next.slot)) {
            let bytes: Vec<u8> = run.iter().flat_map(|header| header.encode().0).collect();
            let written = self.file.write_at(&bytes, header_at(run[0].slot));
            written.final_context(|| format!("write headers of {}", self.name))?;
        }
        Ok(())
    }

    /// Changes the index; answers the slots that are no longer in it.
    fn publish(&self, places: &[(PageId, Option<Place>)], visible: impl FnOnce()) -> Vec<u32> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        visible();
        let change = |(page, place): &(PageId, Option<Place>)| match place {
            Some(place) => index.insert(*page, *place),
            None => index.remove(page),
        };
        places.iter().filter_map(change).map(|replaced| replaced.slot).collect()
    }
}

/// Whether the header of `next` comes directly after that of `one`.
pub(super) fn are_neighbours(one: u32, next: u32) -> bool {
    header_at(one) + SLOT_HEADER as u64 == header_at(next)
}

/// Writes both superblocks, one after the other.
pub(super) fn write_superblock(file: &dyn File, superblock: &Superblock) -> std::io::Result<()> {
    twin::write_both(file, SUPERBLOCK_MAGIC, superblock.generation, &superblock.encode())
}
