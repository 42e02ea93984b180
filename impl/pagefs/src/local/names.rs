//! Which files need not last, by their names.
//!
//! PostgreSQL removes each of them when it starts, or makes it anew. What else is there must last, so whatever is not
//! known by name is on the volume.

/// Directories all of whose files need not last, wherever they are: segments of shared memory, scratch files of
/// extensions, and what sorts and hashes put out of memory. The last one is also in every tablespace, and has directories
/// of its own for parallel queries.
const DIRECTORIES: [&[u8]; 3] = [b"pg_dynshmem", b"pg_stat_tmp", b"pgsql_tmp"];
/// The last of them.
const WITH_DIRECTORIES: &[u8] = b"pgsql_tmp";

/// Whether a file of this name need not last, in a directory with these names of its own, the nearest first.
pub(super) fn need_not_last(name: &[u8], directories: &[Box<[u8]>]) -> bool {
    let nearest = directories.first().is_some_and(|nearest| DIRECTORIES.contains(&&**nearest));
    let second = directories.get(1).is_some_and(|second| **second == *WITH_DIRECTORIES);
    nearest || second || is_temporary_relation(name) || is_spilled_change(name)
}

/// `t<backend>_<file>`, with `_fsm`, `_vm` or `_init` and `.<segment>` where there are: a temporary table's or index's.
fn is_temporary_relation(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"t") else { return false };
    let Some(rest) = digits(rest).and_then(|rest| rest.strip_prefix(b"_")).and_then(digits) else { return false };
    let forks = [&b"_fsm"[..], b"_vm", b"_init"];
    let rest = forks.iter().find_map(|fork| rest.strip_prefix(*fork)).unwrap_or(rest);
    rest.is_empty() || rest.strip_prefix(b".").and_then(digits).is_some_and(<[u8]>::is_empty)
}

/// `xid-<transaction>-lsn-<high>-<low>.spill`: a large transaction that a logical decoder is in the middle of.
fn is_spilled_change(name: &[u8]) -> bool {
    name.starts_with(b"xid-") && name.ends_with(b".spill")
}

/// What comes after one or more digits.
fn digits(name: &[u8]) -> Option<&[u8]> {
    let count = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then(|| &name[count..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(path: &str) -> bool {
        let mut names: Vec<Box<[u8]>> = path.split('/').rev().map(|name| name.as_bytes().into()).collect();
        let name = names.remove(0);
        need_not_last(&name, &names)
    }

    #[test]
    fn what_need_not_last() {
        let paths = [
            "base/5/t3_16384",
            "base/5/t3_16384.12",
            "base/5/t12_16384_fsm",
            "pg_tblspc/16400/PG_15_202209061/5/t3_16384_vm.1",
            "pg_dynshmem/mmap.2071204874",
            "pg_stat_tmp/pgss_query_texts.stat",
            "base/pgsql_tmp/pgsql_tmp4711.0",
            "base/pgsql_tmp/pgsql_tmp4711.0.fileset/i1of8.p0.0",
            "pg_tblspc/16400/PG_15_202209061/pgsql_tmp/pgsql_tmp4711.3.sharedfileset/0.0",
            "pg_replslot/slot/xid-747-lsn-0-5000000.spill",
        ];
        paths.iter().for_each(|path| assert!(local(path), "{path}"));
    }

    #[test]
    fn what_must_last() {
        let paths = [
            "base/5/16384",
            "base/5/16384_fsm",
            "base/5/t_16384",
            "base/5/t3_16384x",
            "base/5/t3_16384.",
            "base/5/t3_16384_main",
            "base/5/pg_filenode.map",
            "pg_stat/pgstat.stat",
            "pg_replslot/slot/state",
            "pg_wal/000000010000000000000001",
            "global/pg_control",
            "pgsql_tmp.conf",
        ];
        paths.iter().for_each(|path| assert!(!local(path), "{path}"));
    }
}
