//! Objects of a backup, as a store may have spoilt them.

use super::{Target, kind};
use auriga_backup::format::{
    Base, BasePart, Head, Identity, Log, Malformed, Object, Transaction, decode, encode, page,
};
use auriga_protocol::{Lsn, PageId, VolumeId};

/// Bytes of the checksum at the end of an object.
const SUM: usize = 4;

/// An input is an object. Its checksum is made right, so that what lies behind it is read.
pub struct Backup;

fn bytes<T: Object>(object: &T) -> Vec<u8> {
    encode(object).expect("it can be encoded").0
}

fn read<T: Object>(input: &[u8]) -> String {
    match decode::<T>(input) {
        Ok(_) => "sound".into(),
        Err(Malformed::Content(why)) => why,
        Err(error) => kind(&error),
    }
}

impl Target for Backup {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let (volume, begin, through) = (VolumeId(5), Lsn(7), Lsn(300));
        let pages = vec![page(PageId { inode: 3, block: 1 }, &[7; 8192]), page(PageId { inode: 0, block: 0 }, &[])];
        let transactions = vec![Transaction { lsn: through, changes: pages.clone() }];
        vec![
            bytes(&Identity { volume, began: 1 }),
            bytes(&BasePart { volume, begin, part: 0, at: begin, pages }),
            bytes(&Base { volume, begin, through, ended: 9, parts: vec![1, 2], pages: 2 }),
            bytes(&Log { volume, above: begin, through, read: -1, transactions }),
            bytes(&Head { volume, through, read: 2 }),
        ]
    }

    fn run(&mut self, input: &[u8]) -> String {
        let mut object = input.to_vec();
        if let Some(at) = object.len().checked_sub(SUM) {
            let sum = crc32c::crc32c(&object[..at]).to_le_bytes();
            object[at..].copy_from_slice(&sum);
        }
        [read::<Identity>, read::<BasePart>, read::<Base>, read::<Log>, read::<Head>]
            .map(|read| read(&object))
            .join(", ")
    }
}
