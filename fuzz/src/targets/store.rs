//! A storage process's directory: its identity, journal and page files.

use super::{Target, kind, text};
use crate::unhex;
use auriga_store::{Store, StoreOptions};
use std::collections::BTreeMap;
use tempfile::TempDir;

/// Bytes of a block.
const BLOCK: usize = 4096;

/// An input changes a sound directory. Its first byte says whether checksums are made right afterwards; then eight bytes
/// make a change: which file, what (a byte, four bytes, a shorter file, a copied block), where, and to what.
pub struct Directory {
    sound: BTreeMap<String, Vec<u8>>,
    place: TempDir,
}

impl Directory {
    /// The directory of the byte vectors.
    pub fn new() -> Directory {
        let mut sound: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for line in text("conformance/vectors/store.txt").lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                [name, "length", length] => {
                    sound.insert(name.to_owned(), vec![0; length.parse().expect("a length")]);
                }
                [name, at, hex] => {
                    let (at, bytes): (usize, _) = (at.parse().expect("an offset"), unhex(hex).expect("hexadecimal"));
                    let file = sound.get_mut(name).expect("its length comes first");
                    file[at..at + bytes.len()].copy_from_slice(&bytes);
                }
                _ => panic!("{line}"),
            }
        }
        Directory { sound, place: tempfile::tempdir().expect("a directory") }
    }

    fn changed(&self, input: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.sound.clone();
        let names: Vec<String> = files.keys().cloned().collect();
        let (mended, edits) = input.split_first().unwrap_or((&0, &[]));
        for edit in edits.chunks_exact(8) {
            let file = files.get_mut(&names[usize::from(edit[0]) % names.len()]).expect("listed");
            let at = usize::from(u16::from_le_bytes([edit[2], edit[3]])) % (file.len() + 1);
            match edit[1] % 8 {
                0 => file.truncate(at),
                1 => {
                    let to = at / BLOCK * BLOCK;
                    let from = usize::from(edit[4]) * BLOCK;
                    if let Some(block) = file.get(from..from + BLOCK).map(<[u8]>::to_vec) {
                        file.splice(to..(to + BLOCK).min(file.len()), block);
                    }
                }
                2 | 3 => {
                    for (place, byte) in file.iter_mut().skip(at).zip(&edit[4..]) {
                        *place = *byte;
                    }
                }
                _ => {
                    // Most of a file is zeros: the first bytes of a block are where something is.
                    let at = at / BLOCK * BLOCK + usize::from(edit[4]);
                    if let Some(place) = file.get_mut(at) {
                        *place = edit[5];
                    }
                }
            }
        }
        if mended % 4 != 0 {
            files.iter_mut().for_each(|(name, file)| mend(name, file));
        }
        files
    }
}

fn half(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 4).map_or(0, |it| u32::from_le_bytes([it[0], it[1], it[2], it[3]]) as usize)
}

/// Makes the checksums of a file right (`specs/formats.md`).
fn mend(name: &str, file: &mut [u8]) {
    for at in (0..file.len()).step_by(64) {
        let rest = &mut file[at..];
        let is_block = at % BLOCK == 0;
        if is_block && rest.starts_with(b"AUJ") {
            let length = half(rest, 4);
            if (40..=rest.len()).contains(&length) {
                let sum = crc32c::crc32c_append(crc32c::crc32c(&rest[..36]), &rest[40..length]);
                rest[36..40].copy_from_slice(&sum.to_le_bytes());
            }
        } else if is_block && at < 2 * BLOCK && rest.len() >= BLOCK && !name.starts_with("journal/0") {
            let sum = crc32c::crc32c_append(crc32c::crc32c(&rest[..4]), &rest[8..BLOCK]);
            rest[4..8].copy_from_slice(&sum.to_le_bytes());
        } else if rest.len() >= 64 && rest.starts_with(b"AUS") {
            let sum = crc32c::crc32c(&rest[..60]);
            rest[60..64].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

impl Target for Directory {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let mut corpus = vec![vec![0]];
        for file in 0..self.sound.len() as u8 {
            for block in 0..14 {
                corpus.push(vec![1, file, 4, 0, block << 4, 40, 255, 0, 0]);
            }
        }
        corpus
    }

    fn run(&mut self, input: &[u8]) -> String {
        let dir = self.place.path().join("node");
        for (name, bytes) in self.changed(input) {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
        let options = StoreOptions { journal_file_bytes: 64 << 10, reserve_bytes: 0, ..StoreOptions::new(1, "node") };
        let said = match Store::open(&dir, options) {
            Ok((_, survived)) => {
                let of = |(_, survived): &(_, auriga_protocol::segment::Survived<_>)| {
                    format!(
                        "{} entries, damaged: {}, at {:?}; ",
                        survived.entries.len(),
                        survived.damaged,
                        survived.floor
                    )
                };
                survived.iter().map(of).collect()
            }
            Err(error) => format!("{} {error}", kind(&error)),
        };
        std::fs::remove_dir_all(&dir).expect("removed");
        said
    }
}
