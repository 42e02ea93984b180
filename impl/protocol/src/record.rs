//! Redo records: the only way a volume changes.

use crate::ids::{Lsn, PageId, PgId};
use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// What a record does to its page. A small integer in the model, a byte delta in production.
pub trait Payload: Clone + Eq + Hash + Debug {
    /// A page. `Default` is the page that was never written.
    type Page: Clone + Eq + Hash + Debug + Default;

    /// Applies the change. Total: every payload applies to every page.
    fn apply(&self, page: &mut Self::Page);

    /// Bytes that this payload occupies in memory, for limits.
    fn weight(&self) -> usize;

    /// Whether a page may be `Default` after it. Storage may forget such a page, its version included, once every read
    /// point has passed it; of all others the version is kept. The records that led to such a page may then be applied
    /// to it once more, from any of them on, in order: that must lead there again.
    fn may_clear(&self) -> bool {
        false
    }
}

/// One change of one page, before it has an LSN.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Change<P> {
    /// The page that changes.
    pub page: PageId,
    /// How.
    pub payload: P,
}

/// A redo record, with the three back-links of 18 §2.2. A link of zero means "none before".
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Record<P> {
    /// This record's position.
    pub lsn: Lsn,
    /// The record before it in the volume.
    pub prev_volume: Lsn,
    /// The record before it in the same protection group: the segment chain that SCL follows.
    pub prev_segment: Lsn,
    /// The record before it of the same page, as far as this writer knows (zero after a recovery: unknown).
    pub prev_block: Lsn,
    /// Whether this is a Consistency Point LSN: the last record of its mini-transaction (17 §4.1).
    pub is_cpl: bool,
    /// The page that changes.
    pub page: PageId,
    /// How.
    pub payload: P,
}

/// Bytes that a record's bookkeeping is counted as, by every holder: a limit must mean the same to the writer that
/// fills a log and to the segment that keeps it.
pub const RECORD_OVERHEAD: usize = 160;

impl<P: Payload> Change<P> {
    /// Bytes of memory that this change is counted as once it is a record.
    pub fn weight(&self) -> usize {
        self.payload.weight() + RECORD_OVERHEAD
    }
}

impl<P: Payload> Record<P> {
    /// Bytes of memory this record is counted as, its bookkeeping included.
    pub fn weight(&self) -> usize {
        self.payload.weight() + RECORD_OVERHEAD
    }
}

/// Which protection group keeps which page. Fixed when the volume is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Geometry {
    /// Number of protection groups, at least 1.
    #[serde(deserialize_with = "at_least_one")]
    pub groups: u16,
    /// Consecutive blocks of one file that stay in one group, at least 1.
    #[serde(deserialize_with = "at_least_one")]
    pub extent_blocks: u32,
}

/// Zero is malformed (R-LIMIT-1): pages are divided by these numbers.
fn at_least_one<'de, D: Deserializer<'de>, N: Deserialize<'de> + PartialEq + From<u8>>(from: D) -> Result<N, D::Error> {
    let number = N::deserialize(from)?;
    if number == N::from(0) { Err(D::Error::custom("zero groups, or blocks of an extent")) } else { Ok(number) }
}

impl Geometry {
    /// The group that keeps `page`.
    pub fn group_of(&self, page: PageId) -> PgId {
        let extent = page.block / u64::from(self.extent_blocks);
        PgId((page.inode.wrapping_mul(31).wrapping_add(extent) % u64::from(self.groups)) as u16)
    }

    /// All groups, in order.
    pub fn group_ids(&self) -> impl Iterator<Item = PgId> + use<> {
        (0..self.groups).map(PgId)
    }
}

/// Applies to `page` every record of `records` in `(version, through]`, in LSN order; answers the new version.
///
/// `records` must be in LSN order and all of one page.
pub fn materialise<'a, P: Payload + 'a>(
    page: &mut P::Page,
    version: Lsn,
    through: Lsn,
    records: impl IntoIterator<Item = &'a Record<P>>,
) -> Lsn {
    let mut at = version;
    for record in records {
        if record.lsn > at && record.lsn <= through {
            record.payload.apply(page);
            at = record.lsn;
        }
    }
    at
}

/// Whether LSNs ascend and each link leads back, as in whatever a sound sender sends.
pub fn are_in_order<P>(records: &[Record<P>]) -> bool {
    let leads_back = |record: &Record<P>| {
        let Record { lsn, prev_volume, prev_segment, prev_block, .. } = record;
        prev_volume < lsn && prev_segment < lsn && prev_block < lsn
    };
    records.iter().all(leads_back) && records.iter().zip(records.iter().skip(1)).all(|(one, next)| one.lsn < next.lsn)
}

/// Total weight of `records`, in bytes.
pub fn weight_of<P: Payload>(records: &[Record<P>]) -> usize {
    records.iter().map(Record::weight).sum::<usize>()
}

/// Splits `records` so that the first part weighs at most `limit` bytes but has at least one record.
pub fn take_weight<P: Payload>(records: impl Iterator<Item = Record<P>>, limit: usize) -> Vec<Record<P>> {
    let mut taken = Vec::new();
    let mut weight = 0;
    for record in records {
        weight += record.weight();
        if !taken.is_empty() && weight > limit {
            break;
        }
        taken.push(record);
    }
    taken
}
