//! Whole pages only, in the files of relations.
//!
//! PostgreSQL writes such a file in pages of 8 KiB, and runs without full-page writes, because no page is ever in the log by
//! half. The kernel, when it keeps copies, cuts a process's write in two wherever a part of the process's buffer is not
//! mapped. Example: PostgreSQL writes block 7; the kernel asks for 4,000 bytes at 57,344, then for 4,192 at 61,344. The first
//! part waits here, though the kernel is told that it is written: the process's write has not ended, so nothing was promised.
//! With the second part, the page is whole, and is one change.
//!
//! The kernel lets one write at a time into a file, so at most one page of it waits.

use super::PageFs;
use super::data::PAGE;
use crate::error::FsError;
use crate::inode::{Inode, lock};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// The first part of a page.
pub(crate) struct Part {
    block: u64,
    bytes: Vec<u8>,
    /// The kernel has asked for the page meanwhile, and was shown the page without this part.
    was_shown: bool,
}

impl Part {
    fn end(&self) -> u64 {
        self.block * PAGE + self.bytes.len() as u64
    }
}

/// The whole pages that a write completes.
pub(super) struct Whole<'a> {
    /// Where they begin, in bytes into the file.
    pub offset: u64,
    /// Their content; empty where the write completes none.
    pub pages: Cow<'a, [u8]>,
    /// The kernel was shown an older page, or has a part that was never written: once the pages are written, it must be
    /// made to forget its copies, and not before, or it could be shown the older page again.
    pub is_known_otherwise: bool,
}

impl PageFs {
    /// Returns the whole pages that a write to a relation's file completes. What is left of `data` waits for the rest of
    /// its page.
    ///
    /// # Errors
    /// [`FsError::HalfAPage`]: it neither begins a page nor goes on where the last one stopped.
    pub(super) fn whole_pages<'a>(
        self: &Arc<Self>,
        inode: &Inode,
        mut offset: u64,
        data: &'a [u8],
    ) -> Result<Whole<'a>, FsError> {
        let mut waits = lock(&inode.part);
        let mut data = Cow::Borrowed(data);
        let is_known_otherwise = match waits.take() {
            Some(part) if part.end() == offset => {
                offset = part.block * PAGE;
                data = Cow::Owned([&part.bytes, &*data].concat());
                part.was_shown
            }
            // The write that it was a part of has failed. The kernel has copies of that part alone.
            Some(_) => true,
            None => false,
        };
        if !offset.is_multiple_of(PAGE) {
            if is_known_otherwise {
                self.forget_later(inode.ino);
            }
            return Err(FsError::HalfAPage);
        }
        let whole = data.len() - data.len() % PAGE as usize;
        if whole < data.len() {
            let block = (offset + whole as u64) / PAGE;
            *waits = Some(Part { block, bytes: data[whole..].to_vec(), was_shown: false });
            match &mut data {
                Cow::Borrowed(data) => *data = &data[..whole],
                Cow::Owned(data) => data.truncate(whole),
            }
        }
        Ok(Whole { offset, pages: data, is_known_otherwise })
    }

    /// Notes that the kernel is shown `blocks` of a file, without what waits.
    pub(super) fn note_shown(&self, inode: &Inode, blocks: &Range<u64>) {
        if let Some(part) = lock(&inode.part).as_mut().filter(|part| blocks.contains(&part.block)) {
            part.was_shown = true;
        }
    }

    /// Lets go of what waits, because the file is cut or filled meanwhile: the write that it was a part of has failed.
    pub(super) fn forget_part(self: &Arc<Self>, inode: &Inode) {
        if lock(&inode.part).take().is_some() {
            self.forget_later(inode.ino);
        }
    }

    /// Makes the kernel forget its copies, on a thread that answers nobody: the kernel may wait for an answer first.
    pub(super) fn forget_later(self: &Arc<Self>, ino: u64) {
        self.run_later(move |fs| fs.forget_copies(ino));
    }
}
