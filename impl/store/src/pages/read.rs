//! Reading pages: one, or neighbours in the file at once. Every bit of what is answered was verified.

use super::file::{Index, PageFile, are_neighbours};
use super::format::{Place, SLOT_HEADER, SlotHeader, content_at, header_at};
use crate::error::{IoContext, IoFailure};
use crate::{Delta, PAGE_SIZE, PageImage};
use auriga_protocol::message::BasePage;
use auriga_protocol::{Lsn, PageId};
use bytes::BytesMut;

/// What reading a page comes to; `None`: it is not stored.
pub(super) type PageRead = Result<Option<BasePage<Delta>>, ReadFailure>;

/// A page that could not be read.
pub(super) enum ReadFailure {
    /// Its checksum is wrong.
    Damaged(PageId),
    /// The operating system failed.
    Io(IoFailure),
}

impl From<IoFailure> for ReadFailure {
    fn from(failure: IoFailure) -> Self {
        ReadFailure::Io(failure)
    }
}

impl PageFile {
    /// The version of a page of `index`, from its header alone.
    pub(super) fn version(&self, place: &Place, page: PageId) -> Result<Lsn, ReadFailure> {
        let doing = || format!("read header of page {page:?} of {}", self.name);
        let mut header = [0; SLOT_HEADER];
        let length = self.file.read_at(&mut header, header_at(place.slot)).context(doing)?;
        match SlotHeader::decode(place.slot, &header[..length]) {
            Some(header) if header.place() == *place && header.page == page => Ok(header.version),
            _ => Err(ReadFailure::Damaged(page)),
        }
    }

    /// Reads a page of `index`, and verifies every bit of it.
    pub(super) fn read(&self, index: &Index, page: PageId) -> PageRead {
        let Some(place) = index.get(&page) else { return Ok(None) };
        let doing = || format!("read page {page:?} of {}", self.name);
        let mut header = [0; SLOT_HEADER];
        let header_length = self.headers.read_at(&mut header, header_at(place.slot)).context(doing)?;
        let mut content = BytesMut::zeroed(PAGE_SIZE);
        let content_length = self.file.read_at(&mut content, content_at(place.slot)).context(doing)?;
        content.truncate(content_length);
        verify(page, place, &header[..header_length], content)
    }

    /// Reads pages of `index` as [`PageFile::read`] does, those that are neighbours in the file at once.
    pub(super) fn read_all(&self, index: &Index, pages: &[PageId]) -> Vec<PageRead> {
        let mut read: Vec<PageRead> = pages.iter().map(|_| Ok(None)).collect();
        let found = pages.iter().enumerate().filter_map(|(at, page)| Some((at, *page, *index.get(page)?)));
        let mut found: Vec<(usize, PageId, Place)> = found.collect();
        found.sort_unstable_by_key(|(_, _, place)| place.slot);
        for run in found.chunk_by(|(_, _, one), (_, _, next)| are_neighbours(one.slot, next.slot)) {
            match run {
                [(at, page, _)] => read[*at] = self.read(index, *page),
                run => self.read_run(index, run, &mut read),
            }
        }
        read
    }

    /// Reads neighbours: each page of `run` is answered at its place in `read`.
    fn read_run(&self, index: &Index, run: &[(usize, PageId, Place)], read: &mut [PageRead]) {
        let first = run[0].2.slot;
        let mut headers = vec![0; run.len() * SLOT_HEADER];
        let mut contents = BytesMut::zeroed(run.len() * PAGE_SIZE);
        let both = self
            .headers
            .read_at(&mut headers, header_at(first))
            .and_then(|headers_length| Ok((headers_length, self.file.read_at(&mut contents, content_at(first))?)));
        let Ok((headers_length, contents_length)) = both else {
            // One by one, so that each failure is told of the page that it belongs to.
            return run.iter().for_each(|(at, page, _)| read[*at] = self.read(index, *page));
        };
        headers.truncate(headers_length);
        contents.truncate(contents_length);
        let mut headers = headers.chunks(SLOT_HEADER);
        for (at, page, place) in run {
            let content = contents.split_to(contents.len().min(PAGE_SIZE));
            read[*at] = verify(*page, place, headers.next().unwrap_or_default(), content);
        }
    }
}

/// What was read for a page that is at `place`, if it is that page to the last bit.
fn verify(page: PageId, place: &Place, header: &[u8], content: BytesMut) -> PageRead {
    let damaged = || ReadFailure::Damaged(page);
    // It may be marked as gone already: it is there until that commit is complete.
    let header = SlotHeader::decode(place.slot, header).ok_or_else(damaged)?;
    let expected = header.place() == *place && header.page == page && content.len() == PAGE_SIZE;
    if !expected || crc32c::crc32c(&content) != header.content {
        return Err(damaged());
    }
    let content = PageImage::new(content.freeze()).map_err(|_| damaged())?;
    Ok(Some(BasePage { page, version: header.version, content }))
}
