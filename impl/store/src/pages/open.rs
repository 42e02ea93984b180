//! Making a page file, and opening one: rebuilding the index from the slots' headers.

use super::DIR;
use super::file::{Index, PageFile, Writer, write_superblock};
use super::format::{
    GROUP_BYTES, GROUP_SLOTS, GROUPS_AT, IndexSum, Place, SLOT_HEADER, SUPERBLOCK_MAGIC, SlotHeader, Superblock,
    group_at, header_at,
};
use super::slots::Slots;
use crate::PAGE_SIZE;
use crate::disk::{Disk, File, read_up_to};
use crate::error::{IoFailure, While};
use crate::space::Space;
use crate::twin::{self, BLOCK};
use auriga_protocol::{Lsn, MemberId, Membership, PageId, PgId, SegmentId, VolumeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};

/// What is in the disk's directory of page files.
pub(crate) struct FoundFile {
    pub segment: SegmentId,
    name: String,
    file: Arc<dyn File>,
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
    let member = (0..16).map(MemberId).find(|known| known.to_string() == member)?;
    Some(SegmentId { volume: VolumeId(volume.parse().ok()?), pg: PgId(pg.parse().ok()?), member })
}

/// Makes the page file of a new segment, durably: it appears complete under its name, or not at all.
///
/// # Errors
/// The operating system's.
pub(crate) fn create(
    disk: &dyn Disk,
    space: &Arc<Space>,
    segment: SegmentId,
    membership: Membership,
) -> Result<PageFile, IoFailure> {
    let superblock =
        Superblock { segment, membership, generation: 1, floor: Lsn::ZERO, lost: false, index: IndexSum::default() };
    let name = name_of(segment);
    let new = format!("{name}.new");
    space.take(GROUPS_AT).doing(|| format!("make {name}"))?;
    let made = || {
        let file = disk.create(&new)?;
        write_superblock(&*file, &superblock)?;
        disk.rename(&new, &name)?;
        disk.sync_dir(DIR)?;
        Ok(file)
    };
    let file = made().inspect_err(|_| space.give(GROUPS_AT)).doing(|| format!("make {name}"))?;
    Ok(page_file(name, file, space, superblock, Index::new(), Slots::default(), Vec::new()))
}

/// The page files that there are, with what their superblocks say. Removes those whose making was cut short.
///
/// # Errors
/// The operating system's.
pub(crate) fn find(disk: &dyn Disk) -> Result<Vec<FoundFile>, IoFailure> {
    disk.create_dir(DIR).doing(|| "make the directory of page files".into())?;
    let mut found = Vec::new();
    for name in disk.list(DIR).doing(|| "list the page files".into())? {
        let path = format!("{DIR}/{name}");
        let Some(segment) = segment_of(&name) else {
            if name.ends_with(".new") {
                disk.remove(&path).doing(|| format!("remove {path}"))?;
            }
            continue;
        };
        let file = disk.open(&path).doing(|| format!("open {path}"))?;
        let value = twin::read(&*file, SUPERBLOCK_MAGIC).doing(|| format!("read {path}"))?;
        let superblock = value.and_then(|(_, value)| postcard::from_bytes::<Superblock>(&value).ok());
        let superblock = superblock.filter(|superblock| superblock.segment == segment);
        found.push(FoundFile { segment, name: path, file, superblock });
    }
    Ok(found)
}

impl FoundFile {
    /// The durable floor and the membership at creation; `None`: both superblocks are unreadable.
    pub(crate) fn known(&self) -> Option<(Lsn, &Membership)> {
        self.superblock.as_ref().map(|superblock| (superblock.floor, &superblock.membership))
    }

    /// Rebuilds the index. Where that isn't possible, empties the file and marks its pages as lost.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn open(self, space: &Arc<Space>) -> Result<PageFile, IoFailure> {
        let superblock = self.superblock.clone().expect("whoever opens it has read the superblock");
        self.open_as(space, superblock)
    }

    /// Makes a file without a readable superblock usable again: without pages, and marked as lost.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn reset(self, space: &Arc<Space>, membership: Membership) -> Result<PageFile, IoFailure> {
        let highest = Headers::read(&*self.file).doing(|| format!("read {}", self.name))?.highest_generation;
        let superblock = Superblock {
            segment: self.segment,
            membership,
            generation: highest + 1,
            floor: Lsn::ZERO,
            lost: true,
            index: IndexSum::default(),
        };
        self.open_as(space, superblock)
    }

    fn open_as(self, space: &Arc<Space>, mut superblock: Superblock) -> Result<PageFile, IoFailure> {
        let name = self.name;
        let doing = || format!("open {name}");
        let headers = Headers::read(&*self.file).doing(doing)?;
        let (mut index, mut tombstones, mut useless) = headers.resolve(superblock.generation);
        let mut sum = IndexSum::default();
        index.iter().for_each(|(page, place)| sum.add(*page, *place));
        if sum != superblock.index {
            tracing::error!(%name, found = sum.pages, expected = superblock.index.pages, "base pages were lost");
            superblock.lost = true;
            superblock.index = IndexSum::default();
            superblock.generation = superblock.generation.max(headers.highest_generation) + 1;
            useless.extend(index.values().map(|place| place.slot).chain(tombstones.drain(..)));
            index.clear();
        }
        // What is readable now may be in memory only, and one of the superblocks may be damaged.
        write_superblock(&*self.file, &superblock).doing(doing)?;
        let mut slots = Slots::default();
        (0..headers.groups).for_each(|_| slots.add_group());
        index
            .values()
            .map(|place| place.slot)
            .chain(tombstones.iter().copied())
            .for_each(|slot| slots.mark_taken(slot));
        for slot in useless {
            self.file.write_at(&[0; SLOT_HEADER], header_at(slot)).doing(doing)?;
        }
        self.file.sync().doing(doing)?;
        space.found(GROUPS_AT + u64::from(headers.groups) * GROUP_BYTES);
        space.add_reusable(u64::from(slots.free()) * PAGE_SIZE as u64);
        Ok(page_file(name, self.file, space, superblock, index, slots, tombstones))
    }
}

fn page_file(
    name: String,
    file: Arc<dyn File>,
    space: &Arc<Space>,
    superblock: Superblock,
    index: Index,
    slots: Slots,
    tombstones: Vec<u32>,
) -> PageFile {
    PageFile {
        segment: superblock.segment,
        name,
        file,
        space: space.clone(),
        index: RwLock::new(index),
        writer: Mutex::new(Writer { superblock, slots, tombstones }),
        scrubbed: Mutex::default(),
    }
}

/// All headers of a file.
struct Headers {
    groups: u32,
    sound: Vec<(SlotHeader, u32)>,
    /// Neither sound nor empty.
    unreadable: Vec<u32>,
    highest_generation: u64,
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
        headers.highest_generation = headers.sound.iter().map(|(header, _)| header.generation).max().unwrap_or(0);
        Ok(headers)
    }

    /// The newest committed header of each page, as index and tombstones; and the slots of all other headers.
    fn resolve(&self, generation: u64) -> (Index, Vec<u32>, Vec<u32>) {
        let mut newest: HashMap<PageId, &(SlotHeader, u32)> = HashMap::new();
        let mut useless = self.unreadable.clone();
        for found in &self.sound {
            let (header, _) = found;
            if header.generation > generation {
                useless.push(header.slot);
                continue;
            }
            let winner = newest.entry(header.page).or_insert(found);
            if winner.0.generation < header.generation {
                *winner = found;
            }
        }
        let winners = || newest.values().map(|(header, _)| header.slot);
        let won: std::collections::HashSet<u32> = winners().collect();
        let committed = self.sound.iter().map(|(header, _)| header).filter(|header| header.generation <= generation);
        useless.extend(committed.map(|header| header.slot).filter(|slot| !won.contains(slot)));
        let (gone, there): (Vec<&(SlotHeader, u32)>, Vec<_>) =
            newest.into_values().partition(|(header, _)| header.tombstone);
        let place = |(header, checksum): &(SlotHeader, u32)| Place { slot: header.slot, checksum: *checksum };
        let index = there.into_iter().map(|found| (found.0.page, place(found))).collect();
        (index, gone.into_iter().map(|(header, _)| header.slot).collect(), useless)
    }
}
