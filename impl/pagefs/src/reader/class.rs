//! What a file of PGDATA is to a reader, by its path.
//!
//! Three questions are answered here, and nowhere else: is the file shown, copied or left out when a reader starts
//! (R-READER-FS-10 to 12); does it follow the volume; and when does a page of the overlay give way to the volume's.

/// What becomes of a file when the reader starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AtStart {
    /// It follows the volume, under the overlay.
    Shown,
    /// The reader gets a copy, and goes its own way from there.
    Copied,
    /// It is not there.
    Left,
}

/// How a file relates to the volume's file of the same path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// Not at all: the reader's own.
    Own,
    /// A page of the overlay gives way to one that is equal.
    Whole,
    /// The main fork of a relation, or its init fork.
    Main,
    /// A visibility map.
    VisibilityMap,
    /// A free space map.
    FreeSpaceMap,
}

impl Class {
    /// Whether files of this class follow the volume.
    pub fn follows(self) -> bool {
        self != Class::Own
    }
}

/// Directories whose files are left out; what the reader makes in them is its own.
const EMPTY: [&[u8]; 8] = [
    b"pg_replslot",
    b"pg_notify",
    b"pg_serial",
    b"pg_snapshots",
    b"pg_stat",
    b"pg_stat_tmp",
    b"pg_dynshmem",
    b"pg_logical",
];
/// Of those, the one whose directories are left out, too: each is a slot.
const SLOTS: &[u8] = b"pg_replslot";
/// Directories whose files are the reader's own, copied when it starts.
const COPIED: [&[u8]; 3] = [b"pg_wal", b"pg_subtrans", b"pg_twophase"];
/// Files in PGDATA itself that tell the server what to do when it starts, or who runs.
const SIGNALS: [&[u8]; 8] = [
    b"postmaster.pid",
    b"postmaster.opts",
    b"standby.signal",
    b"recovery.signal",
    b"promote",
    b"backup_label",
    b"backup_manifest",
    b"current_logfiles",
];
/// The cache of system tables that a server writes for itself, with suffixes while it is being written.
const RELATION_CACHE: &[u8] = b"pg_internal.init";

/// What becomes of a file or directory at `path` (its names, PGDATA excluded) when a reader starts.
pub(crate) fn at_start(path: &[&[u8]], is_directory: bool) -> AtStart {
    let (Some(first), Some(name)) = (path.first(), path.last()) else { return AtStart::Shown };
    if is_directory {
        let is_scratch = *name == b"pgsql_tmp" || (*first == SLOTS && path.len() > 1);
        return if is_scratch { AtStart::Left } else { AtStart::Shown };
    }
    let is_signal = path.len() == 1 && SIGNALS.contains(name);
    if is_signal || is_hidden(name) || EMPTY.contains(first) {
        return AtStart::Left;
    }
    match class_of(path) {
        Class::Own => AtStart::Copied,
        _ => AtStart::Shown,
    }
}

fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(RELATION_CACHE) || name.starts_with(b"pgsql_tmp") || is_temporary(name)
}

/// `t<backend>_<file>`: a temporary relation's.
fn is_temporary(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"t") else { return false };
    digits(rest).and_then(|rest| rest.strip_prefix(b"_")).is_some_and(|rest| digits(rest).is_some())
}

/// How a file at `path` (its names, PGDATA excluded) relates to the volume's.
pub(crate) fn class_of(path: &[&[u8]]) -> Class {
    let (Some(first), Some(name)) = (path.first(), path.last()) else { return Class::Own };
    if EMPTY.contains(first) || COPIED.contains(first) || is_hidden(name) {
        return Class::Own;
    }
    match *first {
        b"pg_xact" | b"pg_multixact" | b"pg_commit_ts" => Class::Whole,
        b"PG_VERSION" if path.len() == 1 => Class::Whole,
        b"global" if path.len() == 2 => relation_or_map(name),
        b"base" if path.len() == 3 => relation_or_map(name),
        b"pg_tblspc" if path.len() == 5 => relation_or_map(name),
        _ => Class::Own,
    }
}

fn relation_or_map(name: &[u8]) -> Class {
    if matches!(name, b"pg_filenode.map" | b"PG_VERSION") {
        return Class::Whole;
    }
    let Some(rest) = digits(name) else { return Class::Own };
    let forks = [(&b"_fsm"[..], Class::FreeSpaceMap), (b"_vm", Class::VisibilityMap), (b"_init", Class::Main)];
    let fork = forks.iter().find_map(|(fork, class)| Some((rest.strip_prefix(*fork)?, *class)));
    let (rest, class) = fork.unwrap_or((rest, Class::Main));
    let is_segment = rest.strip_prefix(b".").and_then(digits).is_some_and(<[u8]>::is_empty);
    if rest.is_empty() || is_segment { class } else { Class::Own }
}

/// What comes after one or more digits.
fn digits(name: &[u8]) -> Option<&[u8]> {
    let count = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then(|| &name[count..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> (AtStart, Class) {
        let names: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        (at_start(&names, false), class_of(&names))
    }

    #[test]
    fn each_path_has_its_class() {
        let shown = [
            ("base/5/16384", Class::Main),
            ("base/5/16384.2", Class::Main),
            ("base/5/16384_init", Class::Main),
            ("base/5/16384_vm", Class::VisibilityMap),
            ("global/1262_fsm.1", Class::FreeSpaceMap),
            ("pg_tblspc/16400/PG_15_202209061/5/16401", Class::Main),
            ("pg_xact/0000", Class::Whole),
            ("pg_multixact/offsets/0000", Class::Whole),
            ("base/5/pg_filenode.map", Class::Whole),
            ("PG_VERSION", Class::Whole),
        ];
        shown.iter().for_each(|(path, class)| assert_eq!(of(path), (AtStart::Shown, *class), "{path}"));
        let copied = [
            "global/pg_control",
            "postgresql.auto.conf",
            "pg_wal/000000010000000000000001",
            "pg_subtrans/0000",
            "pg_twophase/000002F0",
        ];
        copied.iter().for_each(|path| assert_eq!(of(path), (AtStart::Copied, Class::Own), "{path}"));
        let left = [
            "base/5/pg_internal.init",
            "global/pg_internal.init.4711",
            "base/5/t3_16384",
            "base/pgsql_tmp/pgsql_tmp7.0",
            "postmaster.pid",
            "standby.signal",
            "pg_stat/pgstat.stat",
            "pg_logical/replorigin_checkpoint",
        ];
        left.iter().for_each(|path| assert_eq!(of(path), (AtStart::Left, Class::Own), "{path}"));
    }

    #[test]
    fn directories_stay_but_for_slots_and_scratch() {
        assert_eq!(at_start(&[b"pg_logical", b"snapshots"], true), AtStart::Shown);
        assert_eq!(at_start(&[b"pg_replslot"], true), AtStart::Shown);
        assert_eq!(at_start(&[b"pg_replslot", b"slot"], true), AtStart::Left);
        assert_eq!(at_start(&[b"base", b"pgsql_tmp"], true), AtStart::Left);
    }
}
