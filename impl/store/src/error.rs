//! What can go wrong with a store. Refusals and torn tails are no errors; broken invariants panic.

use auriga_protocol::SegmentId;
use std::io;

/// The disk did not do what it was asked, while `doing` this.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct IoFailure {
    /// What was being done, with the file's name.
    pub doing: String,
    /// The operating system's reason.
    pub source: io::Error,
}

impl IoFailure {
    /// Whether it may be waited out.
    pub(crate) fn is_no_space(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Names what was being done when an I/O call failed.
pub(crate) trait IoContext<T> {
    /// A failure to find room may be waited out.
    fn context(self, what: impl FnOnce() -> String) -> Result<T, IoFailure>;

    /// Half of it may have happened, so every failure is final; also the one to find room.
    fn final_context(self, what: impl FnOnce() -> String) -> Result<T, IoFailure>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, IoFailure> {
        self.map_err(|source| IoFailure { doing: what(), source })
    }

    fn final_context(self, what: impl FnOnce() -> String) -> Result<T, IoFailure> {
        self.map_err(io::Error::other).context(what)
    }
}

/// Why a store can't go on. The node stops, so that nothing that may be lost is ever acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A read, a write or a synchronisation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The journal is damaged where it was sound when it was written. Opening the store again reports it to segments.
    #[error("journal file {file} is damaged at or after byte {offset}")]
    JournalDamaged {
        /// Which file.
        file: String,
        /// Where the first damaged batch begins.
        offset: u64,
    },
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A read, a write or a synchronisation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The directory belongs to another node or another cluster.
    #[error(
        "this is the store of node {found:?} of cluster {found_cluster:032x}, not of {wanted:?} of {wanted_cluster:032x}"
    )]
    WrongIdentity {
        /// Whose the directory is.
        found: String,
        /// Its cluster.
        found_cluster: u128,
        /// Who opens it.
        wanted: String,
        /// That one's cluster.
        wanted_cluster: u128,
    },
    /// The directory was written by an earlier or a later build, whose files mean something else.
    #[error("the directory has the format {found} of {age} builds; this one reads {own}")]
    OtherFormat {
        /// The magic of its identity file.
        found: String,
        /// That of this build.
        own: String,
        /// Earlier, or later.
        age: &'static str,
    },
    /// There are segments, but it isn't known whose: the identity file is gone or unreadable.
    #[error("the identity file is missing or unreadable, but the directory holds segments")]
    IdentityLost,
    /// A sound entry, but of an unknown form: written by another version.
    #[error("an entry of {segment} can't be decoded: {source}")]
    UnknownEntry {
        /// Whose.
        segment: SegmentId,
        /// The codec's reason.
        source: postcard::Error,
    },
    /// The journal knows a segment whose page file is gone.
    #[error("the page file of {0} is missing")]
    PageFileMissing(SegmentId),
    /// Both copies of a page file's superblock are damaged, and the journal does not know the segment's membership.
    #[error("both superblocks of page file {0} are damaged, and its membership isn't known otherwise")]
    SegmentUnreadable(String),
}

/// Why a segment can't be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There is one already.
    #[error("{0} exists already")]
    Exists(SegmentId),
    /// A read, a write or a synchronisation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
}
