//! Names of tables, read from the heap pages of three catalogs: for people, where no server runs that could be asked.
//!
//! What the catalogs' pages do not hold yet (it is in the WAL alone) has no name here.

use crate::files::{Files, Unreadable};
use crate::wal::Relation;
use auriga_page::PAGE_SIZE;
use std::collections::HashMap;

/// OIDs of catalogs.
const PG_CLASS: u32 = 1259;
const PG_DATABASE: u32 = 1262;
const PG_NAMESPACE: u32 = 2615;

/// The first bytes of a `pg_filenode.map`.
const MAP_MAGIC: u32 = 0x0059_2717;
/// The most mappings that any version has in one.
const MAPPINGS_MAX: usize = 64;

/// Where a page's line pointers begin, and bytes of each.
const LINES_AT: usize = 24;
const LINE_BYTES: usize = 4;
/// Bytes of a `name`.
const NAME_BYTES: usize = 64;
/// Where `pg_class` has the schema and the number of the file. It has been so since PostgreSQL 12.
const NAMESPACE_AT: usize = 68;
const FILENODE_AT: usize = 88;
/// Bits of a row's header.
const INSERT_ABORTED: u16 = 0x0200;
const INSERT_FROZEN: u16 = 0x0300;
const NOT_DELETED: u16 = 0x0800;

/// What is known of a relation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Named {
    /// Its database's name.
    pub database: Option<String>,
    /// Its schema and name.
    pub table: Option<String>,
}

/// Looks names up in a volume's catalogs.
pub struct Names<'a> {
    files: &'a Files,
    databases: HashMap<u32, String>,
    tables: HashMap<u32, HashMap<u32, String>>,
}

impl<'a> Names<'a> {
    /// Reads the names of databases.
    ///
    /// # Errors
    /// The volume fails.
    pub fn open(files: &'a Files) -> Result<Names<'a>, Unreadable> {
        let mapped = mapped(files, "pgdata/global")?;
        let number = mapped.get(&PG_DATABASE).copied().unwrap_or(PG_DATABASE);
        let rows = rows(files, &format!("pgdata/global/{number}"))?;
        let databases = newest(&rows, |row| Some((row.number(0)?, row.name()?)));
        Ok(Names { files, databases, tables: HashMap::new() })
    }

    /// Returns what is known of a relation.
    ///
    /// # Errors
    /// The volume fails.
    pub fn of(&mut self, relation: Relation) -> Result<Named, Unreadable> {
        if !self.tables.contains_key(&relation.database) {
            let tables = self.tables_of(relation.database)?;
            self.tables.insert(relation.database, tables);
        }
        let tables = &self.tables[&relation.database];
        let database = self.databases.get(&relation.database).cloned();
        Ok(Named { database, table: tables.get(&relation.number).cloned() })
    }

    /// Tables of a database by the number of their file. Those of shared catalogs are in each database's `pg_class`: their
    /// names are not looked for.
    fn tables_of(&self, database: u32) -> Result<HashMap<u32, String>, Unreadable> {
        let folder = format!("pgdata/base/{database}");
        if database == 0 || self.files.find(&folder)?.is_none() {
            return Ok(HashMap::new());
        }
        let mapped = mapped(self.files, &folder)?;
        let number = mapped.get(&PG_CLASS).copied().unwrap_or(PG_CLASS);
        let classes = rows(self.files, &format!("{folder}/{number}"))?;
        let file = |row: &Row| match row.number(FILENODE_AT)? {
            0 => mapped.get(&row.number(0)?).copied(),
            number => Some(number),
        };
        let by_oid: HashMap<u32, u32> = newest(&classes, |row| Some((row.number(0)?, file(row)?)));
        let spaces = by_oid.get(&PG_NAMESPACE).copied().unwrap_or(PG_NAMESPACE);
        let spaces = rows(self.files, &format!("{folder}/{spaces}"))?;
        let spaces: HashMap<u32, String> = newest(&spaces, |row| Some((row.number(0)?, row.name()?)));
        Ok(newest(&classes, |row| {
            let space = spaces.get(&row.number(NAMESPACE_AT)?).map_or("?", String::as_str);
            Some((file(row)?, format!("{space}.{}", row.name()?)))
        }))
    }
}

/// A row's version.
struct Row {
    inserted: u32,
    is_current: bool,
    columns: Vec<u8>,
}

impl Row {
    fn number(&self, at: usize) -> Option<u32> {
        u32_at(&self.columns, at)
    }

    /// The name behind the OID that each of these catalogs begins with.
    fn name(&self) -> Option<String> {
        let bytes = self.columns.get(4..4 + NAME_BYTES)?;
        let length = bytes.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }
}

/// Of several versions of what has one key, the one that was not deleted counts, and then the youngest.
fn newest<V>(rows: &[Row], of: impl Fn(&Row) -> Option<(u32, V)>) -> HashMap<u32, V> {
    let mut ordered: Vec<&Row> = rows.iter().collect();
    ordered.sort_by_key(|row| (row.is_current, row.inserted));
    ordered.into_iter().filter_map(of).collect()
}

fn rows(files: &Files, path: &str) -> Result<Vec<Row>, Unreadable> {
    let content = files.read(path)?.unwrap_or_default();
    Ok(content.chunks_exact(PAGE_SIZE).flat_map(rows_of_page).collect())
}

fn rows_of_page(page: &[u8]) -> Vec<Row> {
    let end = usize::from(u16_at(page, 12).unwrap_or(0)).min(page.len());
    let lines = page.get(LINES_AT..end).unwrap_or_default().chunks_exact(LINE_BYTES);
    lines.filter_map(|line| row(page, u32_at(line, 0)?)).collect()
}

/// The row that a line pointer leads to; `None`: there is none, or its transaction was aborted.
fn row(page: &[u8], line: u32) -> Option<Row> {
    let (offset, flags, length) = (line & 0x7fff, line >> 15 & 3, line >> 17);
    if flags != 1 {
        return None;
    }
    let tuple = page.get(offset as usize..(offset + length) as usize)?;
    let marks = u16_at(tuple, 20)?;
    if marks & INSERT_FROZEN == INSERT_ABORTED {
        return None;
    }
    let is_current = marks & NOT_DELETED != 0 || u32_at(tuple, 4)? == 0;
    let columns = tuple.get(usize::from(*tuple.get(22)?)..)?.to_vec();
    Some(Row { inserted: u32_at(tuple, 0)?, is_current, columns })
}

/// Numbers of files of the catalogs that a `pg_filenode.map` maps.
fn mapped(files: &Files, folder: &str) -> Result<HashMap<u32, u32>, Unreadable> {
    let map = files.read(&format!("{folder}/pg_filenode.map"))?.unwrap_or_default();
    Ok(mappings(&map).unwrap_or_default())
}

fn mappings(map: &[u8]) -> Option<HashMap<u32, u32>> {
    let count = u32_at(map, 4).filter(|_| u32_at(map, 0) == Some(MAP_MAGIC))? as usize;
    let pair = |index: usize| Some((u32_at(map, 8 + index * 8)?, u32_at(map, 12 + index * 8)?));
    (0..count.min(MAPPINGS_MAX)).map(pair).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page with rows of (xmin, xmax, marks, OID, name).
    fn page(rows: &[(u32, u32, u16, u32, &str)]) -> Vec<u8> {
        let mut page = vec![0; PAGE_SIZE];
        let mut at = PAGE_SIZE;
        for (index, (inserted, deleted, marks, oid, name)) in rows.iter().enumerate() {
            let mut tuple = vec![0; 24 + 4 + NAME_BYTES];
            tuple[0..4].copy_from_slice(&inserted.to_le_bytes());
            tuple[4..8].copy_from_slice(&deleted.to_le_bytes());
            tuple[20..22].copy_from_slice(&marks.to_le_bytes());
            tuple[22] = 24;
            tuple[24..28].copy_from_slice(&oid.to_le_bytes());
            tuple[28..28 + name.len()].copy_from_slice(name.as_bytes());
            at -= tuple.len();
            page[at..at + tuple.len()].copy_from_slice(&tuple);
            let line = at as u32 | 1 << 15 | (tuple.len() as u32) << 17;
            page[LINES_AT + index * 4..][..4].copy_from_slice(&line.to_le_bytes());
        }
        let end = (LINES_AT + rows.len() * 4) as u16;
        page[12..14].copy_from_slice(&end.to_le_bytes());
        page
    }

    #[test]
    fn the_version_that_is_not_deleted_names_it() {
        let page = page(&[
            (5, 9, 0, 7, "former"),
            (9, 0, NOT_DELETED, 7, "now"),
            (11, 0, NOT_DELETED | INSERT_ABORTED, 7, "never"),
            (3, 0, NOT_DELETED | INSERT_FROZEN, 8, "old"),
        ]);
        let names = newest(&rows_of_page(&page), |row| Some((row.number(0)?, row.name()?)));
        assert_eq!((&*names[&7], &*names[&8], names.len()), ("now", "old", 2));
    }

    #[test]
    fn any_bytes_are_read() {
        for fill in [0u8, 1, 0x7f, 0xff] {
            let page = vec![fill; PAGE_SIZE];
            let rows = rows_of_page(&page);
            newest(&rows, |row| Some((row.number(0)?, row.name()?)));
            assert_eq!(mappings(&page), None);
        }
    }
}
