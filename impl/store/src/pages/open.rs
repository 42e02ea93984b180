//! Making a page file, and opening one: rebuilding the index from the slots' headers.

use super::DIR;
use super::file::{Index, PageFile, Writer, write_superblock};
use super::format::{
    GROUP_BYTES, GROUP_SLOTS, GROUPS_AT, IndexSum, SLOT_HEADER, SUPERBLOCK_MAGIC, SlotHeader, Superblock, group_at,
    header_at,
};
use super::slots::Slots;
use crate::PAGE_SIZE;
use crate::disk::{Directory, File, read_up_to};
use crate::error::{IoContext, IoFailure};
use crate::space::Space;
use crate::twin::{self, BLOCK};
use auriga_protocol::{Charter, Lsn, MemberId, Membership, PageId, PgId, SegmentId, VolumeId};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

/// What is in the disk's directory of page files.
pub(crate) struct FoundFile {
    pub segment: SegmentId,
    name: String,
    file: Arc<dyn File>,
    headers: Arc<dyn File>,
    superblock: Option<Superblock>,
}

/// The name of the segment's page file.
fn name_of(segment: SegmentId) -> String {
    format!("{DIR}/v{}-pg{}-{}", segment.volume.0, segment.pg.0, segment.member)
}

/// The segment whose page file has this name.
fn segment_of(name: &str) -> Option<SegmentId> {
    let (volume, rest) = name.strip_prefix('v')?.split_once("-pg")?;
    let (pg, member) = rest.split_once('-')?;
    let member = MemberId::of_name(member)?;
    Some(SegmentId { volume: VolumeId(volume.parse().ok()?), pg: PgId(pg.parse().ok()?), member })
}

/// Makes the page file of a new segment, durably: it appears complete under its name, or not at all.
///
/// # Errors
/// Returns the operating system's error.
pub(crate) fn create(
    disk: &dyn Directory,
    space: &Arc<Space>,
    segment: SegmentId,
    membership: Membership,
    charter: Charter,
    joins: bool,
) -> Result<PageFile, IoFailure> {
    let superblock = Superblock {
        segment,
        membership,
        charter,
        joins,
        generation: 1,
        floor: Lsn::ZERO,
        ceiling: Lsn::ZERO,
        lost: false,
        index: IndexSum::default(),
    };
    let name = name_of(segment);
    let new = format!("{name}.new");
    space.take(GROUPS_AT).context(|| format!("make {name}"))?;
    let made = || {
        let file = disk.create(&new)?;
        write_superblock(&*file, &superblock)?;
        disk.rename(&new, &name)?;
        disk.sync_dir(DIR)?;
        Ok((file, disk.open(&name)?))
    };
    let files = made().inspect_err(|_| space.give(GROUPS_AT)).context(|| format!("make {name}"))?;
    Ok(page_file(name, files, space, superblock, Index::new(), Slots::default()))
}

/// The page files that there are, with what their superblocks say. Removes those whose making was cut short.
///
/// # Errors
/// Returns the operating system's error.
pub(crate) fn find(disk: &dyn Directory) -> Result<Vec<FoundFile>, IoFailure> {
    disk.create_dir(DIR).context(|| "make the directory of page files".into())?;
    let mut found = Vec::new();
    for name in disk.list(DIR).context(|| "list the page files".into())? {
        let path = format!("{DIR}/{name}");
        let Some(segment) = segment_of(&name) else {
            if name.ends_with(".new") {
                disk.remove(&path).context(|| format!("remove {path}"))?;
            }
            continue;
        };
        let open = || disk.open(&path).context(|| format!("open {path}"));
        let (file, headers) = (open()?, open()?);
        let value = twin::read(&*file, SUPERBLOCK_MAGIC).context(|| format!("read {path}"))?;
        let superblock = value.and_then(|(_, value)| Superblock::decode(&value));
        let superblock = superblock.filter(|superblock| superblock.segment == segment);
        found.push(FoundFile { segment, name: path, file, headers, superblock });
    }
    Ok(found)
}

impl FoundFile {
    /// The durable floor and the membership at creation; `None`: both superblocks are unreadable.
    pub(crate) fn known(&self) -> Option<(Lsn, &Membership)> {
        self.superblock.as_ref().map(|superblock| (superblock.floor, &superblock.membership))
    }

    /// Whether it was made when its volume existed already.
    pub(crate) fn joins(&self) -> bool {
        self.superblock.as_ref().is_some_and(|superblock| superblock.joins)
    }

    /// Rebuilds the index. Where that isn't possible, empties the file and marks its pages as lost.
    ///
    /// # Errors
    /// Returns the operating system's error.
    pub(crate) fn open(self, space: &Arc<Space>) -> Result<PageFile, IoFailure> {
        let superblock = self.superblock.clone().expect("opening it has read the superblock");
        self.open_as(space, superblock)
    }

    /// Makes a file without a readable superblock usable again: without pages, and marked as lost.
    ///
    /// # Errors
    /// Returns the operating system's error.
    pub(crate) fn reset(
        self,
        space: &Arc<Space>,
        membership: Membership,
        charter: Charter,
    ) -> Result<PageFile, IoFailure> {
        let highest = Headers::read(&*self.file).context(|| format!("read {}", self.name))?.highest_generation;
        let superblock = Superblock {
            segment: self.segment,
            membership,
            charter,
            // What makes it forgetful is that its superblocks are lost.
            joins: false,
            generation: highest + 1,
            floor: Lsn::ZERO,
            ceiling: Lsn::ZERO,
            lost: true,
            index: IndexSum::default(),
        };
        self.open_as(space, superblock)
    }

    fn open_as(self, space: &Arc<Space>, mut superblock: Superblock) -> Result<PageFile, IoFailure> {
        let name = self.name;
        let doing = || format!("open {name}");
        let headers = Headers::read(&*self.file).context(doing)?;
        let Resolved { mut index, mut restored, mut useless } = headers.resolve(superblock.generation);
        let mut sum = IndexSum::default();
        index.iter().for_each(|(page, place)| sum.add(*page, *place));
        if sum != superblock.index {
            tracing::error!(%name, found = sum.pages, expected = superblock.index.pages, "base pages were lost");
            superblock.lost = true;
            superblock.index = IndexSum::default();
            superblock.generation = superblock.generation.max(headers.highest_generation) + 1;
            useless.extend(index.values().map(|place| place.slot));
            index.clear();
            restored.clear();
        }
        // What is readable now may be in memory only, and one of the superblocks may be damaged.
        write_superblock(&*self.file, &superblock).context(doing)?;
        let mut slots = Slots::default();
        (0..headers.groups).for_each(|_| slots.add_found_group());
        index.values().for_each(|place| slots.mark_taken(place.slot));
        // No commit to come may find the marks of one that never happened.
        for header in restored {
            self.file.write_at(&header.encode().0, header_at(header.slot)).context(doing)?;
        }
        for slot in useless {
            self.file.write_at(&[0; SLOT_HEADER], header_at(slot)).context(doing)?;
        }
        self.file.sync().context(doing)?;
        space.found(GROUPS_AT + u64::from(headers.groups) * GROUP_BYTES);
        space.add_reusable(u64::from(slots.warm()) * PAGE_SIZE as u64);
        Ok(page_file(name, (self.file, self.headers), space, superblock, index, slots))
    }
}

fn page_file(
    name: String,
    (file, headers): (Arc<dyn File>, Arc<dyn File>),
    space: &Arc<Space>,
    superblock: Superblock,
    index: Index,
    slots: Slots,
) -> PageFile {
    PageFile {
        segment: superblock.segment,
        name,
        file,
        headers,
        space: space.clone(),
        index: RwLock::new(index),
        writer: Mutex::new(Writer { superblock, slots }),
        scrubbed: Mutex::default(),
        keeps_holes: AtomicBool::new(true),
    }
}

/// All headers of a file.
struct Headers {
    groups: u32,
    sound: Vec<SlotHeader>,
    /// Neither sound nor empty.
    unreadable: Vec<u32>,
    highest_generation: u64,
}

/// What headers come to.
struct Resolved {
    index: Index,
    /// Headers of pages that a commit was about to take away and did not, as they were before.
    restored: Vec<SlotHeader>,
    /// Slots of all headers that are in neither.
    useless: Vec<u32>,
}

impl Headers {
    fn read(file: &dyn File) -> std::io::Result<Headers> {
        let groups = file.size()?.saturating_sub(GROUPS_AT).div_ceil(GROUP_BYTES) as u32;
        let mut headers = Headers { groups, sound: Vec::new(), unreadable: Vec::new(), highest_generation: 0 };
        for group in 0..groups {
            let block = read_up_to(file, group_at(group), BLOCK)?;
            for (slot, bytes) in (group * GROUP_SLOTS..).zip(block.chunks(SLOT_HEADER)) {
                match SlotHeader::decode(slot, bytes) {
                    Some(sound) => headers.sound.push(sound),
                    None if bytes.iter().any(|byte| *byte != 0) => headers.unreadable.push(slot),
                    None => {}
                }
            }
        }
        let generations = headers.sound.iter().map(|header| header.generation.max(header.gone));
        headers.highest_generation = generations.max().unwrap_or(0);
        Ok(headers)
    }

    /// The newest committed header of each page, unless that page is gone by a commit that happened.
    fn resolve(&self, generation: u64) -> Resolved {
        let mut newest: HashMap<PageId, &SlotHeader> = HashMap::new();
        let mut useless = self.unreadable.clone();
        for header in &self.sound {
            if header.generation > generation {
                useless.push(header.slot);
                continue;
            }
            let winner = newest.entry(header.page).or_insert(header);
            let loser = if winner.generation < header.generation { std::mem::replace(winner, header) } else { header };
            if loser.slot != winner.slot {
                useless.push(loser.slot);
            }
        }
        let (mut index, mut restored) = (Index::new(), Vec::new());
        for header in newest.into_values() {
            if header.gone != 0 && header.gone <= generation {
                useless.push(header.slot);
                continue;
            }
            if header.gone != 0 {
                restored.push(SlotHeader { gone: 0, ..*header });
            }
            index.insert(header.page, header.place());
        }
        Resolved { index, restored, useless }
    }
}
