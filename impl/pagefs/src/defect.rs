//! Planted defects, to prove that the tests of this crate can fail.
//!
//! Without the feature `defects`, which only this crate's own tests enable, the set is always empty and the compiler
//! removes every branch.

/// A way to get the file system wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// A page that was changed, made durable and evicted while it was fetched is answered as zeros.
    OutdatedFetchIsZero,
    /// A reader drops pages of visibility maps by their LSN (R-READER-FS-9).
    ReaderDropsMapsByLsn,
    /// A reader drops pages of sequences by their LSN (R-READER-FS-9).
    ReaderDropsSequencesByLsn,
    /// A reader forgets that a page is where a truncation was (R-READER-FS-9).
    ReaderForgetsTruncations,
    /// A reader sees a file as soon as the volume has it (R-READER-FS-6).
    ReaderSharesNames,
    /// A file that a reader makes anew is linked to one that it has dropped (R-READER-FS-7).
    ReaderLinksDropped,
    /// A file that the volume removed first is empty for the reader (R-READER-FS-8).
    ReaderLosesRemoved,
    /// A reader advances without waiting for replay (R-READER-FS-4).
    ReaderDoesNotWait,
    /// A reader fills its cache with a page that changed while it was read.
    ReaderCachesOutdated,
}

/// The defects in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Defects {
    #[cfg(feature = "defects")]
    planted: Option<Defect>,
}

impl Defects {
    /// This one.
    #[cfg(feature = "defects")]
    pub fn planted(defect: Defect) -> Defects {
        Defects { planted: Some(defect) }
    }

    /// Whether this one is in force.
    pub(crate) fn has(self, defect: Defect) -> bool {
        #[cfg(feature = "defects")]
        return self.planted == Some(defect);
        #[cfg(not(feature = "defects"))]
        {
            let _ = defect;
            false
        }
    }
}
