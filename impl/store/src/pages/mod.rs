//! Base pages: one file for each segment, and the threads that work on them.
//!
//! **What it is for.** Storage coalesces its log into pages. A page here has everything through the segment's floor, so
//! the log below can go.
//!
//! **Committing.** Nothing that is committed is ever overwritten. New versions go to free slots; then their headers;
//! then, all of that being durable, the superblock, which carries floor and generation. It is written twice, with a
//! synchronisation after each, so that it can be read whatever happened to one copy. A header counts when its
//! generation is at or below the superblock's; of several of one page the newest counts. A page that is forgotten keeps
//! its header, *marked* with the generation that takes it away: until that is the superblock's, the page is there, and
//! an opening takes the mark off. Older headers of the page are durably erased by then: they were erased by an earlier
//! commit, and the marks are synchronised before the superblock. So forgetting needs no room.
//!
//! **Deciding honestly what was lost.** The index (which page is in which slot, with which header checksum) is not
//! stored, but its *sum* is, in the superblock. At the start it is rebuilt from the headers. If the sum fits, every
//! unreadable or surplus header is proven not to matter: it belonged to a commit that never happened, or to a page
//! that has been replaced. If not, pages were lost and it can't be known which: an older version might pass for the
//! newest. Then the file is emptied and marked, and the segment is told
//! [`PagesLost`](auriga_protocol::segment::Outcome::PagesLost), at every start until all pages have come from a peer.
//! A header's checksum covers its content's, so the sum stands for every bit of every page: a content that does not fit
//! is noticed when it is read, and healed by itself.
//!
//! **Threads.** One commits, for all segments of the node, in order for each segment; some read. A read does not wait
//! for a commit's synchronisation: it sees the pages before it, and its outcome is delivered before the commit's (the
//! index is locked meanwhile), as if it had been started first. That matters: a segment drops log records once it gets
//! `Coalesced`, so a base from before must not reach it afterwards.
//!
//! **No room** is no failure: a commit that finds none has changed nothing, and is tried again until there is room.
//! Reads go on meanwhile.
//!
//! **Bounded.** A segment bounds its own tasks: one `Coalesce`, one `PutBases` for each page or chunk that it asked
//! for, `reads_max` reads. Of its scrubs one waits here at most. Memory: 24 bytes for each page, plus what a
//! B-tree leaves empty.
//!
//! **Where to go next.** `format.rs` (bytes), `file.rs` (committing), `read.rs` (reading), `open.rs` (creating, rebuilding),
//! `tasks.rs` (what each task does), `pool.rs` (threads), `slots.rs` and `room.rs` (what is free, and given back).

mod file;
mod format;
mod open;
mod pool;
mod read;
mod room;
mod slots;
mod tasks;

pub(crate) use file::PageFile;
pub(crate) use open::{FoundFile, create, find};
pub(crate) use pool::Pool;

/// The directory of page files.
pub(crate) const DIR: &str = "pages";
