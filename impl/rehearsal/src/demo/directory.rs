//! A demo's directory: its own. A demo often runs as root, and its directory often lies where everyone may write: whoever
//! makes it first could have root write where a link of theirs points.

use nix::unistd::geteuid;
use std::fs::{DirBuilder, Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// PostgreSQL's user must get through to the mount, and to nothing else.
const MODE: u32 = 0o711;

/// Makes a directory that must not be there yet.
///
/// # Errors
/// It is there, as whatever, or can't be made.
pub fn make_fresh(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)?;
    set_permissions(dir, Permissions::from_mode(MODE))
}

/// Makes a directory that is to be kept, or takes it up again.
///
/// # Errors
/// It can't be made; or it is a link, somebody else's, or one that all may write to.
pub fn make_or_keep(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let found = std::fs::symlink_metadata(dir)?;
    if !found.is_dir() {
        return Err(io::Error::other("it is a symbolic link: name the directory itself"));
    }
    if found.uid() != geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if found.mode() & 0o002 != 0 {
        return Err(io::Error::other("all users may write to it: chmod o-w"));
    }
    set_permissions(dir, Permissions::from_mode(MODE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_may_have_made_is_not_taken() {
        let place = tempfile::tempdir().expect("a directory");
        let (dir, link) = (place.path().join("demo"), place.path().join("link"));
        make_fresh(&dir).expect("fresh");
        assert!(make_fresh(&dir).is_err(), "it is there");
        make_or_keep(&dir).expect("ours");
        std::os::unix::fs::symlink(&dir, &link).expect("a link");
        assert!(make_fresh(&link).is_err());
        assert!(make_or_keep(&link).expect_err("a link").to_string().contains("symbolic link"));
        set_permissions(&dir, Permissions::from_mode(0o777)).expect("set");
        assert!(make_or_keep(&dir).expect_err("open to all").to_string().contains("may write"));
    }
}
