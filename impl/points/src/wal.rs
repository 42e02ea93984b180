//! The commits in a volume's WAL, as PostgreSQL's own `pg_waldump` reads it.

use crate::clock::Stamp;
use crate::files::{Files, Unreadable};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

/// Where `pg_control` has the redo point of its last checkpoint, and its timeline. It has been so since PostgreSQL 11.
const REDO_AT: usize = 40;
const TIMELINE_AT: usize = 48;
/// Digits of a segment's name: timeline, and the two halves of its number, 8 each.
const NAME_DIGITS: usize = 24;
/// Of what `pg_waldump` says on its standard error, no more than this is repeated.
const SAID_MAX: u64 = 4096;

/// A position in the WAL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WalPosition(pub u64);

impl fmt::Display for WalPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for WalPosition {
    type Err = ();

    fn from_str(text: &str) -> Result<WalPosition, ()> {
        let (high, low) = text.split_once('/').ok_or(())?;
        let half = |text| u32::from_str_radix(text, 16).map(u64::from).map_err(drop);
        Ok(WalPosition(half(high)? << 32 | half(low)?))
    }
}

/// A relation's files: tablespace, database and number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Relation {
    /// The tablespace's OID.
    pub tablespace: u32,
    /// The database's OID; 0: it is shared.
    pub database: u32,
    /// Its `relfilenode`.
    pub number: u32,
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tablespace, self.database, self.number)
    }
}

/// A commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commit {
    /// The transaction.
    pub xid: u32,
    /// The time in its commit record.
    pub at: Stamp,
    /// Where that record begins.
    pub lsn: WalPosition,
    /// Tables of which it has inserted, changed or removed rows, as far as that is in the WAL that was read.
    pub relations: BTreeSet<Relation>,
}

/// What was read of a WAL.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wal {
    /// Where the last whole record begins.
    pub last: Option<WalPosition>,
    /// Commits, in the order of the WAL.
    pub commits: Vec<Commit>,
}

/// Why a WAL is not read.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The volume's files.
    #[error("reading the volume's files: {0}")]
    Files(#[from] Unreadable),
    /// There is no database cluster there.
    #[error("the volume holds no database cluster")]
    NoCluster,
    /// It was removed.
    #[error("the WAL from {0} on is not there any more")]
    Gone(WalPosition),
    /// The program can't be run.
    #[error("running {program}: {error}")]
    Run {
        /// Which.
        program: String,
        /// Why.
        error: std::io::Error,
    },
    /// It found no record, or said something else than it used to.
    #[error("pg_waldump: {0}")]
    Said(String),
}

/// Where recovery of a database cluster begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Redo {
    /// The position.
    pub at: WalPosition,
    /// The timeline.
    pub timeline: u32,
}

/// Reads from `pg_control` where recovery begins.
///
/// # Errors
/// There is none, or the volume fails.
pub fn redo(files: &Files) -> Result<Redo, WalError> {
    let control = files.read("pgdata/global/pg_control")?.ok_or(WalError::NoCluster)?;
    let field = |at: usize, len: usize| control.get(at..at + len);
    let at = field(REDO_AT, 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let timeline = field(TIMELINE_AT, 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    match (at, timeline) {
        (Some(at), Some(timeline)) if at > 0 && timeline > 0 => Ok(Redo { at: WalPosition(at), timeline }),
        _ => Err(WalError::NoCluster),
    }
}

/// A segment of the WAL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Its file's name.
    pub name: String,
    /// Where it begins.
    pub begins: WalPosition,
    /// How long each segment of this cluster is.
    pub size: u64,
}

/// Returns the WAL segments of a timeline that a volume holds, in order.
///
/// # Errors
/// The volume fails.
pub fn segments(files: &Files, timeline: u32) -> Result<Vec<Segment>, WalError> {
    let mut found = Vec::new();
    for name in files.list("pgdata/pg_wal")? {
        let Some((of, number)) = numbered(&name).filter(|(of, _)| *of == timeline) else { continue };
        let Some(size) = files.find(&format!("pgdata/pg_wal/{name}"))?.map(|record| record.size) else { continue };
        if let Some(begins) = begins(number, size) {
            debug_assert_eq!(of, timeline);
            found.push(Segment { name, begins, size });
        }
    }
    found.sort_by_key(|segment| segment.begins);
    Ok(found)
}

/// The timeline of a segment called `name`, and the two halves of its number.
fn numbered(name: &str) -> Option<(u32, (u64, u64))> {
    if name.len() != NAME_DIGITS || !name.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let part = |from: usize| u32::from_str_radix(&name[from..from + 8], 16).ok();
    Some((part(0)?, (part(8)?.into(), part(16)?.into())))
}

/// All segments of a cluster are of one size, so that of the file is that of them all.
fn begins((high, low): (u64, u64), size: u64) -> Option<WalPosition> {
    size.is_power_of_two().then_some(())?;
    high.checked_mul(1 << 32)?.checked_add(low.checked_mul(size)?).map(WalPosition)
}

/// Copies the WAL from `from` on, as far as it is there without a gap, into a directory of the local disk.
///
/// # Errors
/// It does not begin there any more, or the volume fails.
pub fn copy(files: &Files, from: Redo, directory: &Path) -> Result<(), WalError> {
    let mut next = None;
    for segment in segments(files, from.timeline)? {
        if segment.begins.0 + segment.size <= from.at.0 {
            continue;
        }
        let follows = next.map_or(segment.begins <= from.at, |next| next == segment.begins.0);
        if !follows {
            break;
        }
        next = Some(segment.begins.0 + segment.size);
        files.copy(&format!("pgdata/pg_wal/{}", segment.name), &directory.join(&segment.name))?;
    }
    next.map(drop).ok_or(WalError::Gone(from.at))
}

/// Reads the WAL in `directory` from `from` on up to the first record that is not whole, by the `pg_waldump` in `bin`.
///
/// # Errors
/// It can't be run, finds no record, or says what is not understood.
pub fn dump(bin: &Path, directory: &Path, from: Redo) -> Result<Wal, WalError> {
    let program = bin.join("pg_waldump");
    let failed = |error| WalError::Run { program: program.display().to_string(), error };
    let mut command = Command::new(&program);
    command.arg("-p").arg(directory).args(["-t", &from.timeline.to_string(), "-s", &from.at.to_string()]);
    command.env("TZ", "UTC").env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let errors = child.stderr.take().map(|errors| {
        std::thread::spawn(move || {
            let mut said = String::new();
            let mut errors = errors.take(SAID_MAX);
            let _ = errors.read_to_string(&mut said); // What can't be read is not repeated.
            let _ = std::io::copy(&mut errors.into_inner(), &mut std::io::sink());
            said
        })
    });
    let mut reading = Reading::default();
    let read = match child.stdout.take() {
        Some(output) => reading.take_all(BufReader::new(output)).map_err(failed),
        None => Ok(()),
    };
    if !matches!(read, Ok(())) || reading.nonsense.is_some() {
        let _ = child.kill(); // It has ended, or ends now.
    }
    child.wait().map_err(failed)?;
    let said = errors.and_then(|errors| errors.join().ok()).unwrap_or_default();
    read?;
    if let Some(line) = reading.nonsense {
        return Err(WalError::Said(format!("this was not understood: {line}")));
    }
    // It ends with an error wherever the WAL does.
    if reading.wal.last.is_none() {
        return Err(WalError::Said(said.trim().to_owned()));
    }
    Ok(reading.wal)
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    wal: Wal,
    /// Tables by transaction and subtransaction.
    touched: HashMap<u32, BTreeSet<Relation>>,
    nonsense: Option<String>,
}

impl Reading {
    fn take_all(&mut self, output: impl BufRead) -> std::io::Result<()> {
        for line in output.lines() {
            let line = line?;
            if self.take(&line).is_none() {
                self.nonsense = Some(line);
                break;
            }
        }
        Ok(())
    }

    /// Takes a line: one record. `None`: it is not one that follows.
    fn take(&mut self, line: &str) -> Option<()> {
        let (head, described) = line.split_once(", desc: ")?;
        let manager = head.strip_prefix("rmgr: ")?.split_whitespace().next()?;
        let xid: u32 = between(head, "tx:")?.parse().ok()?;
        let lsn: WalPosition = between(head, "lsn:")?.parse().ok()?;
        let before: WalPosition = between(head, "prev ")?.parse().ok()?;
        // What a record says may hold anything, line breaks included. No line but the next record follows this one.
        if self.wal.last.is_some_and(|last| last != before || lsn <= last) {
            return None;
        }
        self.wal.last = Some(lsn);
        match manager {
            "Heap" | "Heap2" if changes_rows(described) => {
                self.touched.entry(xid).or_default().extend(relations(described));
            }
            "Transaction" => self.finish(xid, lsn, described)?,
            _ => {}
        }
        Some(())
    }

    fn finish(&mut self, xid: u32, lsn: WalPosition, described: &str) -> Option<()> {
        let (what, rest) = described.trim().split_once(' ').unwrap_or((described.trim(), ""));
        let (xid, rest) = match what {
            "COMMIT" => (xid, rest),
            "COMMIT_PREPARED" => {
                let (xid, rest) = rest.split_once(": ")?;
                (xid.parse().ok()?, rest)
            }
            "ABORT" => {
                self.touched.remove(&xid);
                return Some(());
            }
            _ => return Some(()),
        };
        let mut parts = rest.split(';').map(str::trim);
        let at = parts.next()?.parse().ok()?;
        let subtransactions = parts.find_map(|part| part.strip_prefix("subxacts:")).unwrap_or_default();
        let mut relations = self.touched.remove(&xid).unwrap_or_default();
        for xid in subtransactions.split_whitespace() {
            relations.extend(self.touched.remove(&xid.parse().ok()?).unwrap_or_default());
        }
        self.wal.commits.push(Commit { xid, at, lsn, relations });
        Some(())
    }
}

/// What follows `key` in the first part of a line, up to the next comma.
fn between<'a>(head: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = head.split_once(key)?;
    Some(rest.split(',').next()?.trim())
}

fn changes_rows(described: &str) -> bool {
    let what = described.split_whitespace().next().unwrap_or_default();
    let what = what.strip_suffix("+INIT").unwrap_or(what);
    matches!(what, "INSERT" | "UPDATE" | "HOT_UPDATE" | "DELETE" | "MULTI_INSERT")
}

fn relations(described: &str) -> impl Iterator<Item = Relation> {
    described.split("rel ").skip(1).filter_map(|text| {
        let mut numbers =
            text.split_whitespace().next()?.trim_end_matches(',').split('/').map(|part| part.parse().ok());
        let (tablespace, database, number) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(Relation { tablespace, database, number })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "\
rmgr: Heap        len (rec/tot):     54/   150, tx:        735, lsn: 0/015592F0, prev 0/015592B8, desc: INSERT off 3 flags 0x08, blkref #0: rel 1663/5/16384 blk 0 FPW
rmgr: Btree       len (rec/tot):     64/    64, tx:        735, lsn: 0/01559390, prev 0/015592F0, desc: INSERT_LEAF off 3, blkref #0: rel 1663/5/16387 blk 1
rmgr: Heap        len (rec/tot):     54/    54, tx:        736, lsn: 0/015593D0, prev 0/01559390, desc: HOT_UPDATE+INIT off 3 xmax 735, blkref #0: rel 1663/5/16390 blk 0
rmgr: Heap        len (rec/tot):     54/    54, tx:        737, lsn: 0/01559400, prev 0/015593D0, desc: LOCK off 1: xid 737, blkref #0: rel 1663/5/16391 blk 0
rmgr: Transaction len (rec/tot):     66/    66, tx:        735, lsn: 0/01559440, prev 0/01559400, desc: COMMIT 2026-12-01 10:00:00.123456 UTC; subxacts: 736; inval msgs: catcache 50
rmgr: Transaction len (rec/tot):     34/    34, tx:        737, lsn: 0/01559490, prev 0/01559440, desc: ABORT 2026-12-01 10:00:00.200000 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:          0, lsn: 0/015594C0, prev 0/01559490, desc: COMMIT_PREPARED 730: 2026-12-01 10:00:01 UTC
";

    #[test]
    fn commits_are_read_with_what_they_touched() {
        let mut reading = Reading::default();
        reading.take_all(LINES.as_bytes()).unwrap();
        assert_eq!(reading.nonsense, None);
        assert_eq!(reading.wal.last, Some(WalPosition(0x0155_94C0)));
        let told: Vec<_> = reading.wal.commits.iter().map(|commit| (commit.xid, commit.relations.len())).collect();
        assert_eq!(told, [(735, 2), (730, 0)]);
        assert_eq!(reading.wal.commits[0].at.to_string(), "2026-12-01 10:00:00.123456+00");
        assert_eq!(reading.wal.commits[0].lsn.to_string(), "0/1559440");
    }

    #[test]
    fn a_record_that_speaks_like_another_one_is_not_believed() {
        let mut reading = Reading::default();
        let forged = LINES.replace(
            "INSERT off 3",
            "MESSAGE \nrmgr: Transaction len (rec/tot): 34/34, tx: 99, lsn: 0/015592F8, prev 0/015592F0, desc: COMMIT 2026-12-01 10:00:00 UTC\n",
        );
        reading.take_all(forged.as_bytes()).unwrap();
        assert!(reading.nonsense.is_some());
    }

    #[test]
    fn segments_are_named_by_where_they_begin() {
        let of =
            |name: &str, size| numbered(name).and_then(|(timeline, number)| Some((timeline, begins(number, size)?)));
        assert_eq!(of("0000000200000001000000FF", 16 << 20), Some((2, WalPosition(0x1_FF00_0000))));
        assert_eq!(of("0000000200000001000000FF", 3), None);
        assert_eq!(of("00000002.history", 16 << 20), None);
    }
}
