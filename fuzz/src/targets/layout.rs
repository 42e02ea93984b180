//! Pages of the file system's own structures, as they come from the volume.

use super::{Target, text};
use crate::unhex;
use auriga_page::{PAGE_SIZE, PageImage};
use auriga_pagefs::layout::{ENTRIES_PER_PAGE, Entry, InodeRecord, SLOTS_PER_PAGE, Superblock};

/// An input is the beginning of a page.
pub struct Layout;

impl Target for Layout {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let vectors = text("conformance/vectors/pagefs.txt");
        let pages = vectors.lines().filter(|line| !line.starts_with('#'));
        pages.filter_map(|line| unhex(line.split(' ').nth(2)?)).collect()
    }

    fn run(&mut self, input: &[u8]) -> String {
        let mut content = [0; PAGE_SIZE];
        let length = input.len().min(PAGE_SIZE);
        content[..length].copy_from_slice(&input[..length]);
        let page = PageImage::copy_from(&content);
        let superblock = Superblock::decode(&page).map(|it| it.is_some()).map_err(|error| error.to_string());
        let slots = (0..SLOTS_PER_PAGE).map(|slot| InodeRecord::decode(&page, slot));
        let slots: Vec<_> =
            slots.map(|it| it.map(|it| it.map(|it| it.kind)).map_err(|error| error.to_string())).collect();
        let entries = (0..ENTRIES_PER_PAGE).map(|slot| Entry::decode(1, &page, slot));
        let entries = entries.map(|it| it.map(|it| it.is_some()).map_err(|error| error.to_string()));
        format!(
            "{superblock:?} {:?} {:?}",
            slots.iter().take(3).collect::<Vec<_>>(),
            entries.take(3).collect::<Vec<_>>()
        )
    }
}
