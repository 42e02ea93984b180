//! Planted defects, to prove that the tests of this crate can fail.
//!
//! Without the feature `defects`, which only this crate's own tests enable, the set is always empty and the compiler
//! removes every branch.

/// A way to get the file system wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// A page that was changed, made durable and evicted while it was fetched is answered as zeros.
    OutdatedFetchIsZero,
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
