//! What is in the store. Each object says what it is, of which volume, and has a checksum over all of it.

use auriga_page::Delta;
use auriga_points::Stamp;
use auriga_protocol::{Change, Lsn, PageId, VolumeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The first bytes of each object.
const MAGIC: [u8; 8] = *b"AURIGABK";
/// The format that this code reads and writes.
const VERSION: u16 = 1;
/// Magic, version, kind.
const HEADER: usize = 8 + 2 + 2;
/// The checksum.
const TRAILER: usize = 4;

/// What an object holds.
pub trait Object: Serialize + DeserializeOwned {
    /// Its number among objects.
    const KIND: u16;
}

/// Of which volume the backup is. Written first, once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// The volume.
    pub volume: VolumeId,
    /// When the backup began, in microseconds since 1970.
    pub began: i64,
}

impl Object for Identity {
    const KIND: u16 = 1;
}

/// Some pages of a base image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BasePart {
    /// The volume.
    pub volume: VolumeId,
    /// The base's name: the LSN from which on the log is needed.
    pub begin: Lsn,
    /// Its number in the base.
    pub part: u32,
    /// The pages are as of here.
    pub at: Lsn,
    /// Pages that are not zero, each by a delta that makes any page this one.
    pub pages: Vec<Change<Delta>>,
}

impl Object for BasePart {
    const KIND: u16 = 2;
}

/// A base image. Written last: without it there is no such base.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Base {
    /// The volume.
    pub volume: VolumeId,
    /// Its name: each page is as of here or later, and a page that is not in it was zero here.
    pub begin: Lsn,
    /// The log is needed through here at least: no page is newer.
    pub through: Lsn,
    /// When the last page was read, in microseconds since 1970.
    pub ended: i64,
    /// The checksum of each part.
    pub parts: Vec<u32>,
    /// Pages in them.
    pub pages: u64,
}

impl Object for Base {
    const KIND: u16 = 3;
}

/// Mini-transactions that follow each other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Log {
    /// The volume.
    pub volume: VolumeId,
    /// The one before them ends here.
    pub above: Lsn,
    /// The last one ends here.
    pub through: Lsn,
    /// When the last one was read, in microseconds since 1970. It was written before.
    pub read: i64,
    /// In order.
    pub transactions: Vec<Transaction>,
}

impl Log {
    /// Splits it: mini-transactions through `at`, and the rest.
    pub fn split(mut self, at: Lsn) -> (Vec<Transaction>, Log) {
        let rest = self.transactions.split_off(self.transactions.partition_point(|one| one.lsn <= at));
        let first = std::mem::replace(&mut self.transactions, rest);
        (first, self)
    }
}

/// A mini-transaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Transaction {
    /// Where it ends.
    pub lsn: Lsn,
    /// What it changes of the database: not what a region keeps of its own.
    pub changes: Vec<Change<Delta>>,
}

impl Object for Log {
    const KIND: u16 = 4;
}

/// How far the log is backed up. Replaced after each object of the log: where that is missing later, it is known to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The volume.
    pub volume: VolumeId,
    /// The end of the last object.
    pub through: Lsn,
    /// When it was read.
    pub read: i64,
}

impl Object for Head {
    const KIND: u16 = 5;
}

/// Why bytes are no object.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// Too short, or of something else.
    #[error("it is no object of a backup")]
    Foreign,
    /// Of another format.
    #[error("it has format version {0}; this program knows version {VERSION}")]
    Version(u16),
    /// Another object than its name says.
    #[error("it is another object than its name says")]
    Other,
    /// It was cut or changed.
    #[error("it is damaged: its checksum is another")]
    Damaged,
    /// The checksum is right, and the content is not.
    #[error("its content can't be read: {0}")]
    Content(String),
}

/// Encodes an object. Returns its checksum, too.
///
/// # Errors
/// It holds what can't be encoded.
pub fn encode<T: Object>(object: &T) -> Result<(Vec<u8>, u32), Malformed> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&T::KIND.to_le_bytes());
    let mut bytes = postcard::to_extend(object, bytes).map_err(|error| Malformed::Content(error.to_string()))?;
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    Ok((bytes, sum))
}

/// Decodes an object. Returns its checksum, too.
///
/// # Errors
/// It is not what [`encode`] made.
pub fn decode<T: Object>(bytes: &[u8]) -> Result<(T, u32), Malformed> {
    if bytes.len() < HEADER + TRAILER || bytes[..8] != MAGIC {
        return Err(Malformed::Foreign);
    }
    let (content, sum) = bytes.split_at(bytes.len() - TRAILER);
    let sum = u32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
    let (version, kind) = (u16::from_le_bytes([bytes[8], bytes[9]]), u16::from_le_bytes([bytes[10], bytes[11]]));
    if crc32c::crc32c(content) != sum {
        return Err(Malformed::Damaged);
    }
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    if kind != T::KIND {
        return Err(Malformed::Other);
    }
    let (object, rest) =
        postcard::take_from_bytes(&content[HEADER..]).map_err(|error| Malformed::Content(error.to_string()))?;
    if !rest.is_empty() {
        return Err(Malformed::Content(format!("{} bytes are left", rest.len())));
    }
    Ok((object, sum))
}

/// Names of objects.
pub mod names {
    use auriga_protocol::Lsn;

    /// [`Identity`](super::Identity).
    pub const IDENTITY: &str = "identity";
    /// [`Head`](super::Head).
    pub const HEAD: &str = "head";
    /// Begins the names of log objects.
    pub const LOG: &str = "log/";
    /// Begins the names of base images.
    pub const BASE: &str = "base/";

    /// A log object's.
    pub fn log(above: Lsn, through: Lsn) -> String {
        format!("{LOG}{:020}-{:020}", above.0, through.0)
    }

    /// What the name of a log object says: above and through.
    pub fn of_log(name: &str) -> Option<(Lsn, Lsn)> {
        let (above, through) = name.strip_prefix(LOG)?.split_once('-')?;
        Some((Lsn(above.parse().ok()?), Lsn(through.parse().ok()?)))
    }

    /// A base image's.
    pub fn base(begin: Lsn) -> String {
        format!("{BASE}{:020}/manifest", begin.0)
    }

    /// What the name of a base image says.
    pub fn of_base(name: &str) -> Option<Lsn> {
        Some(Lsn(name.strip_prefix(BASE)?.strip_suffix("/manifest")?.parse().ok()?))
    }

    /// A part's.
    pub fn part(begin: Lsn, part: u32) -> String {
        format!("{BASE}{:020}/{part:08}", begin.0)
    }

    /// Of which base a part, or a manifest, is.
    pub fn base_of(name: &str) -> Option<Lsn> {
        Some(Lsn(name.strip_prefix(BASE)?.split_once('/')?.0.parse().ok()?))
    }
}

/// A page, as base parts have it.
pub fn page(page: PageId, content: &[u8]) -> Change<Delta> {
    Change { page, payload: Delta::full(content) }
}

/// A time, as objects have it.
pub fn micros(at: Stamp) -> i64 {
    at.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Log {
        let changes = vec![page(PageId { inode: 3, block: 1 }, &[7; auriga_page::PAGE_SIZE])];
        let transactions = vec![Transaction { lsn: Lsn(9), changes }];
        Log { volume: VolumeId(5), above: Lsn(7), through: Lsn(9), read: 11, transactions }
    }

    #[test]
    fn objects_come_back() {
        let (bytes, sum) = encode(&log()).unwrap();
        assert_eq!(decode::<Log>(&bytes), Ok((log(), sum)));
        assert_eq!(decode::<Head>(&bytes), Err(Malformed::Other));
    }

    #[test]
    fn whatever_happens_to_an_object_is_noticed() {
        let (bytes, _) = encode(&log()).unwrap();
        for length in 0..bytes.len() {
            assert!(decode::<Log>(&bytes[..length]).is_err(), "cut to {length}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(decode::<Log>(&changed).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn an_object_has_the_bytes_that_the_specification_shows() {
        let head = Head { volume: VolumeId(5), through: Lsn(300), read: 1 };
        let (bytes, _) = encode(&head).unwrap();
        let shown = *b"AURIGABK\x01\x00\x05\x00\x05\xac\x02\x02";
        assert_eq!(bytes[..bytes.len() - TRAILER], shown);
        assert_eq!(bytes[bytes.len() - TRAILER..], crc32c::crc32c(&shown).to_le_bytes());
    }

    #[test]
    fn names_come_back() {
        assert_eq!(names::of_log(&names::log(Lsn(7), Lsn(9))), Some((Lsn(7), Lsn(9))));
        assert_eq!(names::of_base(&names::base(Lsn(7))), Some(Lsn(7)));
        assert_eq!(names::of_base(&names::part(Lsn(7), 3)), None);
        assert_eq!(names::base_of(&names::part(Lsn(7), 3)), Some(Lsn(7)));
    }
}
