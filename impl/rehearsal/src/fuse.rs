//! The kernel's connections to FUSE mounts, as seen from outside the process that serves them.
//!
//! A connection that is aborted fails every request. That ends what waits for answers that will not come.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel's control file system is mounted, if it is.
const CONTROL: &str = "/sys/fs/fuse/connections";
/// The type of an instance's mount.
const TYPE: &str = "fuse.auriga";

/// The connections of the instances' mounts that process `pid` sees.
pub fn connections(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().filter_map(connection).collect()
}

/// `36 35 0:52 / /path rw - fuse.auriga auriga rw` → 52.
fn connection(line: &str) -> Option<u32> {
    let (mount, kind) = line.split_once(" - ")?;
    if kind.split(' ').next()? != TYPE {
        return None;
    }
    mount.split(' ').nth(2)?.strip_prefix("0:")?.parse().ok()
}

/// Fails every request of a connection, now and from now on.
pub fn abort(connection: u32) {
    // In a namespace of its own the thread may mount the control file system, where it is not mounted.
    let aborted = std::thread::spawn(move || {
        let abort = control()?.join(connection.to_string()).join("abort");
        tracing::warn!(connection, "aborting a FUSE connection whose process does not end");
        std::fs::write(abort, "1")
    });
    match aborted.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(Err(error)) => tracing::warn!(connection, %error, "a FUSE connection can't be aborted"),
        Err(_) => tracing::warn!(connection, "the thread that aborts a FUSE connection panicked"),
    }
}

fn control() -> io::Result<PathBuf> {
    let path = Path::new(CONTROL);
    if std::fs::read_dir(path)?.next().is_none() {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        mount(Some("fusectl"), path, Some("fusectl"), MsFlags::empty(), None::<&str>)?;
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mounts_of_instances_count() {
        let line = "36 35 0:52 / /tmp/x/mnt rw,nosuid,nodev,noatime - fuse.auriga auriga rw,user_id=0";
        assert_eq!(connection(line), Some(52));
        assert_eq!(connection(&line.replace("fuse.auriga", "fuse")), None);
        assert_eq!(connection("22 1 254:0 / / rw,relatime - ext4 /dev/vda rw"), None);
    }
}
