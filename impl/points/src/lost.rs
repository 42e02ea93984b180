//! The commits of a lost suffix: those that the old primary has in its WAL, and the new one has not.
//!
//! A commit survives a failover if, and only if, recovery of the volume as of the shared end finds its record. So two WALs
//! are read, each up to its first record that is not whole: that of the volume as of the shared end, and that as of the
//! suffix's end. What is in the second one behind the end of the first is lost, and nothing else is.

use crate::files::Files;
use crate::names::{Named, Names};
use crate::snapshot::Snapshot;
use crate::wal::{Commit, Relation, WalError, WalPosition, copy, dump, redo};
use auriga_protocol::global::KeptSuffix;
use auriga_region::source::Source;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Nothing is written to the points that are read.
const NO_WRITES: usize = 0;

/// The commits that a lost suffix holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostCommits {
    /// Where the last record begins that the new primary has, too.
    pub after: WalPosition,
    /// Where the last record of the suffix begins.
    pub through: WalPosition,
    /// In the order of the WAL.
    pub commits: Vec<Commit>,
    /// What is known of the tables that they touched.
    pub names: BTreeMap<Relation, Named>,
}

/// Lists the commits of a lost suffix. `bin` answers where the programs of a major version of PostgreSQL are. Needs a tokio
/// runtime; waits on the calling thread, which must not be one of its own.
///
/// # Errors
/// The volume does not keep the suffix any more, too few segments answer, or its WAL can't be read.
pub fn commits<E: From<WalError>>(
    source: &Arc<Source>,
    runtime: &tokio::runtime::Handle,
    suffix: &KeptSuffix,
    bin: impl FnOnce(Option<u32>) -> Result<PathBuf, E>,
) -> Result<LostCommits, E> {
    let open = |at| {
        let _within = runtime.enter();
        Files::open(Arc::new(Snapshot::open(source.clone(), at, NO_WRITES))).map_err(WalError::from)
    };
    let (shared, end) = (open(suffix.above)?, open(suffix.through)?);
    let bin = bin(major(&end)?)?;
    Ok(between(&shared, &end, &bin)?)
}

/// The major version of PostgreSQL that a volume's cluster is of.
fn major(files: &Files) -> Result<Option<u32>, WalError> {
    let version = files.read("pgdata/PG_VERSION")?.ok_or(WalError::NoCluster)?;
    Ok(String::from_utf8_lossy(&version).trim().parse().ok())
}

fn between(shared: &Files, end: &Files, bin: &Path) -> Result<LostCommits, WalError> {
    // Both are read from one position on: what a transaction touched before the shared end is then found, too.
    let from = redo(shared)?;
    let read = |files: &Files| {
        let failed = |error| WalError::Run { program: "making a temporary directory".to_owned(), error };
        let directory = tempfile::tempdir().map_err(failed)?;
        copy(files, from, directory.path())?;
        dump(bin, directory.path(), from)
    };
    let (before, after) = (read(shared)?, read(end)?);
    let shared_end = before.last.unwrap_or(from.at);
    let commits: Vec<Commit> = after.commits.into_iter().filter(|commit| commit.lsn > shared_end).collect();
    let mut known = Names::open(end)?;
    let mut names = BTreeMap::new();
    for relation in commits.iter().flat_map(|commit| &commit.relations) {
        if !names.contains_key(relation) {
            names.insert(*relation, known.of(*relation)?);
        }
    }
    Ok(LostCommits { after: shared_end, through: after.last.unwrap_or(shared_end), commits, names })
}
