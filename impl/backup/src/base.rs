//! A base image: every page of the file system, each as of some point from where the image begins.
//!
//! Pages are read at different points, so that nothing has to be kept for the image but the log. To apply the log from where
//! it begins to a page that is newer already does no harm: a record sets bytes, whatever they were, so that to set them all
//! once more, in order, ends with the same page. A page that no inode has is zero, and is not in the image.

use crate::format::{Base, BasePart, names, page};
use crate::store::{Store, StoreError};
use crate::take::TakeError;
use auriga_page::PageImage;
use auriga_pagefs::layout::{InodeRecord, Kind, Malformed, SLOTS_PER_PAGE, Superblock, TABLE, blocks};
use auriga_points::Stamp;
use auriga_protocol::{Lsn, PageId, Payload, VolumeId};
use auriga_region::source::{Point, Source, Unread};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, sleep};

/// Pages that are read together, at one point.
const TOGETHER: usize = 64;
/// Bytes of pages in a part, roughly.
const PART_BYTES: usize = 4 << 20;
/// How long storage may not answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Takes a base image that begins at `begin`, the end of a mini-transaction through which the log is backed up.
pub(crate) async fn take(source: Arc<Source>, store: Store, volume: VolumeId, begin: Lsn) -> Result<Base, TakeError> {
    let mut taking = Taking { source, store, volume, begin, parts: Vec::new(), pages: 0, part: None, through: begin };
    let wanted = taking.wanted().await?;
    for ranges in wanted {
        let mut pages = ranges.blocks.map(|block| PageId { inode: ranges.inode, block }).peekable();
        while pages.peek().is_some() {
            let some: Vec<PageId> = pages.by_ref().take(TOGETHER).collect();
            taking.read(some).await?;
        }
    }
    taking.finish()
}

/// Blocks of an inode.
struct Blocks {
    inode: u64,
    blocks: Range<u64>,
}

struct Taking {
    source: Arc<Source>,
    store: Store,
    volume: VolumeId,
    begin: Lsn,
    /// Checksums of the parts that are put.
    parts: Vec<u32>,
    pages: u64,
    part: Option<BasePart>,
    through: Lsn,
}

impl Taking {
    /// Every block that an inode has. What is made later is in the log.
    async fn wanted(&mut self) -> Result<Vec<Blocks>, TakeError> {
        let first = self.pages_of(&[PageId { inode: TABLE, block: 0 }]).await?;
        let Some(superblock) = first.first().map(Superblock::decode).transpose()?.flatten() else {
            return Ok(Vec::new());
        };
        let mut wanted = vec![Blocks { inode: TABLE, blocks: 0..superblock.table_pages + 1 }];
        for block in 1..=superblock.table_pages {
            for page in self.pages_of(&[PageId { inode: TABLE, block }]).await? {
                wanted.extend(inodes_of(&page, block)?);
            }
        }
        Ok(wanted)
    }

    /// Reads pages, and puts a part where there are enough.
    async fn read(&mut self, wanted: Vec<PageId>) -> Result<(), TakeError> {
        let images = self.pages_of(&wanted).await?;
        let (volume, begin, at) = (self.volume, self.begin, self.through);
        let number = self.parts.len() as u32;
        let part = self.part.get_or_insert_with(|| BasePart { volume, begin, part: number, at, pages: Vec::new() });
        part.at = at;
        let whole = wanted.into_iter().zip(images).filter(|(_, image)| !image.is_zero());
        part.pages.extend(whole.map(|(id, image)| page(id, image.content())));
        let bytes: usize = part.pages.iter().map(|page| page.payload.weight()).sum();
        if bytes >= PART_BYTES { self.put() } else { Ok(()) }
    }

    fn put(&mut self) -> Result<(), TakeError> {
        let Some(part) = self.part.take() else { return Ok(()) };
        let sum = block_in_place(|| self.store.put(&names::part(self.begin, part.part), &part))?;
        self.parts.push(sum);
        self.pages += part.pages.len() as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<Base, TakeError> {
        self.put()?;
        let Taking { volume, begin, through, parts, pages, .. } = self;
        let base = Base { volume, begin, through, ended: Stamp::now().0, parts, pages };
        block_in_place(|| self.store.put(&names::base(begin), &base))?;
        Ok(base)
    }

    /// Reads pages as of one of the newest points.
    async fn pages_of(&mut self, wanted: &[PageId]) -> Result<Vec<PageImage>, TakeError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let why = match self.source.newest().await {
                Ok(point) if point.at < self.through => Unread::Unreachable,
                Ok(point) => match pages_at(&self.source, &point, wanted).await {
                    Ok(images) => {
                        self.through = point.at;
                        return Ok(images);
                    }
                    Err(why) => why,
                },
                Err(why) => why,
            };
            if Instant::now() >= deadline {
                return Err(why.into());
            }
            sleep(ASK_AGAIN).await;
        }
    }
}

async fn pages_at(source: &Arc<Source>, point: &Point, wanted: &[PageId]) -> Result<Vec<PageImage>, Unread> {
    let point = Arc::new(point.clone());
    let mut reading = JoinSet::new();
    for (index, page) in wanted.iter().copied().enumerate() {
        let (source, point) = (source.clone(), point.clone());
        reading.spawn(async move { (index, source.page(page, &point).await) });
    }
    let mut images = vec![PageImage::default(); wanted.len()];
    while let Some(read) = reading.join_next().await {
        let (index, image) = read.map_err(|_| Unread::Unreachable)?;
        images[index] = image?;
    }
    Ok(images)
}

/// The blocks of the inodes in a page of the table. What was cut off and is not zeroed yet is among them.
fn inodes_of(page: &PageImage, block: u64) -> Result<Vec<Blocks>, Malformed> {
    let mut found = Vec::new();
    for slot in (block - 1) * SLOTS_PER_PAGE..block * SLOTS_PER_PAGE {
        let Some(record) = InodeRecord::decode(page, slot)? else { continue };
        if matches!(record.kind, Kind::File | Kind::Directory) {
            found.push(Blocks { inode: record.ino, blocks: 0..blocks(record.size).max(record.trim_end) });
        }
    }
    Ok(found)
}

impl From<Malformed> for TakeError {
    fn from(error: Malformed) -> TakeError {
        TakeError::Files(error)
    }
}

impl From<StoreError> for TakeError {
    fn from(error: StoreError) -> TakeError {
        TakeError::Store(error)
    }
}
