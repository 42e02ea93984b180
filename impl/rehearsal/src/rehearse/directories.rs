//! Directories of storage processes, copied, removed, broken, and those of another cluster.

use crate::demo::Demo;
use crate::demo::cluster::Cluster;
use crate::demo::layout::{Layout, STORAGE};
use crate::tour::TourError;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The processes of the other cluster answer within this time.
const READY: Duration = Duration::from_secs(60);

fn unexpected(path: &Path) -> impl FnOnce(io::Error) -> TourError {
    let path = path.display().to_string();
    move |error| TourError::Unexpected(format!("{path}: {error}"))
}

/// Removes a directory, if there is one.
///
/// # Errors
/// The operating system's.
pub(super) fn remove(path: &Path) -> Result<(), TourError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unexpected(path)(error)),
        _ => Ok(()),
    }
}

/// Copies a directory with everything below it.
///
/// # Errors
/// The operating system's.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), TourError> {
    std::fs::create_dir_all(to).map_err(unexpected(to))?;
    for entry in std::fs::read_dir(from).map_err(unexpected(from))? {
        let entry = entry.map_err(unexpected(from))?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).map_err(unexpected(&target))?;
        }
    }
    Ok(())
}

/// Takes a part of a store away, or cuts a file of it short; says what it did.
///
/// # Errors
/// The operating system's.
pub(super) fn break_file(directory: &Path, random: &mut fastrand::Rng) -> Result<String, TourError> {
    let part = ["node", "journal", "pages"][random.usize(..3)];
    let path = directory.join(part);
    if random.bool() {
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        return removed.map(|()| format!("{part} removed")).map_err(unexpected(&path));
    }
    let mut files = vec![path.clone()];
    if path.is_dir() {
        let entries = std::fs::read_dir(&path).map_err(unexpected(&path))?;
        files = entries.flatten().map(|entry| entry.path()).collect();
        files.sort_unstable();
    }
    let Some(path) = random.choice(files) else { return Ok("nothing to break".to_owned()) };
    let file = File::options().write(true).open(&path).map_err(unexpected(&path))?;
    let size = file.metadata().map_err(unexpected(&path))?.len();
    let left = random.u64(..=size);
    file.set_len(left).map_err(unexpected(&path))?;
    Ok(format!("{part} cut to {left} of {size} bytes"))
}

/// The directories of six processes with the names of ours, of a cluster with the name of ours, which has made a volume
/// of the number of ours. Made when they are first asked for.
///
/// # Errors
/// It can't be made.
pub(super) fn another_clusters(demo: &Demo) -> Result<PathBuf, TourError> {
    let ours = demo.layout();
    let [a, b, c] = ours.network;
    let theirs = Layout {
        dir: ours.dir.join("another-cluster"),
        network: [a, b, c.wrapping_add(100)],
        trace: false,
        readers: 0,
        watched: false,
        trace_inputs_mib: None,
        ..ours.clone()
    };
    if theirs.identity_file().exists() {
        return Ok(theirs.storage());
    }
    let mut cluster = Cluster::new(theirs.clone())?;
    for name in STORAGE {
        cluster.start(name)?;
    }
    let deadline = Instant::now() + READY;
    let answers = |index| {
        let asked = auriga_admin::storage::status(theirs.storage_address(index), demo.access());
        demo.runtime().block_on(asked).is_ok()
    };
    while !(0..STORAGE.len()).all(answers) {
        if Instant::now() >= deadline {
            return Err(TourError::Unexpected("the processes of another cluster do not answer".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let config = theirs.instance_config("writer", 0, Path::new("/"));
    let made = demo.runtime().block_on(auriga_admin::storage::create_volume(&config));
    let identity = made.map_err(|error| TourError::Unexpected(format!("another cluster's volume: {error}")))?;
    cluster.stop_all();
    let mark = theirs.identity_file();
    std::fs::write(&mark, identity.to_string()).map_err(unexpected(&mark))?;
    Ok(theirs.storage())
}
