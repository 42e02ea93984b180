//! Finds PostgreSQL installations on this machine.
//!
//! A directory counts when it holds both `postgres` and `initdb` and the server is version 15 or newer. Where several
//! are found, a new volume gets the newest, and an existing volume the one with its own major version: data files of
//! different major versions are not compatible.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest major version that is supported (older ones keep their statistics in files).
pub const OLDEST_MAJOR: u32 = 15;

/// What to type where nothing is installed.
pub const HOW_TO_INSTALL: &str = "install it with `sudo apt-get install -y postgresql` (Debian, Ubuntu), \
`sudo dnf install -y postgresql-server` (Fedora) or `brew install postgresql`, or point to one with --pg-bin";

/// A PostgreSQL installation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Installation {
    /// The directory of `postgres`, `initdb` and, mostly, the client programs.
    pub bin: PathBuf,
    /// Major version, such as 15.
    pub major: u32,
    /// What `postgres --version` says.
    pub version: String,
}

impl Installation {
    /// The names of the extensions that can be created, as far as `pg_config` says where they are.
    pub fn extensions(&self) -> Vec<String> {
        let asked = Command::new(self.bin.join("pg_config")).arg("--sharedir").output();
        let share = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
        if share.is_empty() {
            return Vec::new();
        }
        let files = std::fs::read_dir(Path::new(&share).join("extension")).into_iter().flatten().flatten();
        let is_plain = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        let named = files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".control")?.to_owned()));
        let mut names: Vec<String> = named.filter(is_plain).collect();
        names.sort();
        names
    }
}

/// Why there is no PostgreSQL to run.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Nothing at all.
    #[error("PostgreSQL {OLDEST_MAJOR} or newer was not found: {HOW_TO_INSTALL}")]
    NotFound,
    /// Only old ones.
    #[error("PostgreSQL in {} is version {found}, but {OLDEST_MAJOR} or newer is needed: {HOW_TO_INSTALL}", bin.display())]
    TooOld {
        /// Where.
        bin: PathBuf,
        /// Its major version.
        found: u32,
    },
    /// The directory that was named holds no server.
    #[error("no usable PostgreSQL in {}: it must hold `postgres` and `initdb`", bin.display())]
    NotThere {
        /// Which directory.
        bin: PathBuf,
    },
    /// The volume was created by another major version.
    #[error(
        "this volume holds a database cluster of PostgreSQL {wanted}, and only {found} found; \
             install postgresql-{wanted}, or point to it with --pg-bin"
    )]
    OtherMajor {
        /// The volume's version.
        wanted: u32,
        /// Those that are here.
        found: String,
    },
}

/// Every usable installation, newest first; only the one in `explicit`, if given.
///
/// # Errors
/// None is found, or none is new enough. The message says what to type.
pub fn find(explicit: Option<&Path>) -> Result<Vec<Installation>, FindError> {
    if let Some(bin) = explicit {
        let found = probe(bin).ok_or_else(|| FindError::NotThere { bin: bin.to_owned() })?;
        return only_new_enough(vec![found]);
    }
    let mut found: Vec<Installation> = Vec::new();
    for bin in usual_places() {
        if let Some(installation) = probe(&bin)
            && !found.iter().any(|other| other.bin == installation.bin)
        {
            found.push(installation);
        }
    }
    only_new_enough(found)
}

/// The installation for a volume whose cluster has `major`, or the newest for a new volume.
///
/// # Errors
/// None has that major version.
pub fn choose(installations: &[Installation], major: Option<u32>) -> Result<&Installation, FindError> {
    let Some(wanted) = major else {
        return installations.first().ok_or(FindError::NotFound);
    };
    installations.iter().find(|i| i.major == wanted).ok_or_else(|| FindError::OtherMajor {
        wanted,
        found: installations.iter().map(|i| i.major.to_string()).collect::<Vec<_>>().join(", "),
    })
}

fn only_new_enough(mut found: Vec<Installation>) -> Result<Vec<Installation>, FindError> {
    found.sort_by_key(|i| std::cmp::Reverse(i.major));
    let Some(newest) = found.first() else { return Err(FindError::NotFound) };
    if newest.major < OLDEST_MAJOR {
        return Err(FindError::TooOld { bin: newest.bin.clone(), found: newest.major });
    }
    found.retain(|i| i.major >= OLDEST_MAJOR);
    Ok(found)
}

/// Directories where packages put PostgreSQL, then those on PATH.
fn usual_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    for (parent, prefix, suffix) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/usr/local", "pgsql", "bin"),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    ] {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                places.push(entry.path().join(suffix));
            }
        }
    }
    if let Some(path) = std::env::var_os("PATH") {
        places.extend(std::env::split_paths(&path));
    }
    places
}

/// Looks at one directory. A symbolic link `postgres` leads to the real installation.
fn probe(bin: &Path) -> Option<Installation> {
    let server = std::fs::canonicalize(bin.join("postgres")).ok()?;
    let bin = server.parent()?.to_owned();
    if !bin.join("initdb").exists() {
        return None;
    }
    let output = Command::new(&server).arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(Installation { bin, major: parse_major(&version)?, version })
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` → 15; `postgres (PostgreSQL) 18beta1` → 18.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split("(PostgreSQL)").nth(1)?.trim_start();
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fake(dir: &Path, version: &str) {
        std::fs::create_dir_all(dir).unwrap();
        for name in ["postgres", "initdb"] {
            let path = dir.join(name);
            std::fs::write(&path, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn versions_are_read_as_distributions_print_them() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("postgres: command not found"), None);
    }

    #[test]
    fn an_old_or_absent_server_is_refused_with_the_line_that_helps() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old");
        fake(&old, "13.9");
        assert!(matches!(find(Some(&old)), Err(FindError::TooOld { found: 13, .. })));
        assert!(find(Some(&old)).unwrap_err().to_string().contains("apt-get install"));
        assert!(matches!(find(Some(dir.path())), Err(FindError::NotThere { .. })));
    }

    #[test]
    fn extensions_are_those_that_have_a_control_file() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        fake(&bin, "15.1");
        let installation = find(Some(&bin)).unwrap().remove(0);
        assert!(installation.extensions().is_empty(), "without pg_config");
        let program = bin.join("pg_config");
        std::fs::write(&program, format!("#!/bin/sh\necho '{}'\n", dir.path().display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(dir.path().join("extension")).unwrap();
        for name in ["uuid-ossp.control", "hstore.control", "hstore--1.4.sql", "no one's.control"] {
            std::fs::write(dir.path().join("extension").join(name), "").unwrap();
        }
        assert_eq!(installation.extensions(), ["hstore", "uuid-ossp"]);
    }

    #[test]
    fn an_existing_volume_gets_its_own_major_version() {
        let installation =
            |major| Installation { bin: PathBuf::from(format!("/{major}")), major, version: String::new() };
        let both = [installation(17), installation(15)];
        assert_eq!(choose(&both, None).unwrap().major, 17);
        assert_eq!(choose(&both, Some(15)).unwrap().major, 15);
        let error = choose(&both, Some(16)).unwrap_err().to_string();
        assert!(error.contains("postgresql-16") && error.contains("17, 15"), "{error}");
    }
}
