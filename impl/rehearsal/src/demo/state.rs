//! How `auriga status` and `auriga inject` find a running demo: a small file per demo in a directory of the user's own.

use crate::process::is_alive;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

/// A running demo.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Running {
    /// The demo's process.
    pub pid: u32,
    /// Its directory.
    pub dir: PathBuf,
}

/// Tells others of this demo; answers the file, to be removed at the end.
///
/// # Errors
/// The directory can't be made, or belongs to another user.
pub fn announce(running: &Running) -> io::Result<PathBuf> {
    let directory = directory();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    if std::fs::symlink_metadata(&directory)?.uid() != geteuid().as_raw() {
        return Err(io::Error::other(format!("{} belongs to another user", directory.display())));
    }
    let path = directory.join(format!("demo-{}.json", running.pid));
    std::fs::write(&path, serde_json::to_vec(running)?)?;
    Ok(path)
}

/// The demos of this user that are running. Files of demos that are gone are ignored.
pub fn running() -> Vec<Running> {
    let Ok(entries) = std::fs::read_dir(directory()) else { return Vec::new() };
    let read = |path: PathBuf| serde_json::from_slice::<Running>(&std::fs::read(path).ok()?).ok();
    let mut found: Vec<Running> = entries.flatten().filter_map(|entry| read(entry.path())).collect();
    found.retain(|running| is_alive(running.pid as i32));
    found.sort_by_key(|running| running.pid);
    found
}

/// `$XDG_RUNTIME_DIR/auriga`, or `/tmp/auriga-UID`.
fn directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(path) if !path.is_empty() => PathBuf::from(path).join("auriga"),
        _ => PathBuf::from(format!("/tmp/auriga-{}", geteuid())),
    }
}
