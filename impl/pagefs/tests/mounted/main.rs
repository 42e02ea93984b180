//! The file system as the kernel and PostgreSQL see it. Needs root, `/dev/fuse`, and for PostgreSQL an installation; what
//! is missing is named, and its tests are skipped.

mod kernel;
mod local;
mod postgres;

use auriga_pagefs::{FsOptions, Mount, MountOptions, enter_private_namespace, mkfs};
use auriga_volume::VolumeError;
use auriga_volume::{MemoryVolume, MemoryVolumeConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Whether this test can mount; says why not. Enters a private mount namespace on this thread.
fn can_mount() -> bool {
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse").map(drop);
    match device.and_then(|()| enter_private_namespace()) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("SKIPPED: this test mounts a file system, which needs root and /dev/fuse: {error}");
            false
        }
    }
}

fn volume(durable_after: Duration) -> Arc<MemoryVolume> {
    let volume = Arc::new(MemoryVolume::new(MemoryVolumeConfig { durable_after, ..Default::default() }));
    mkfs(&*volume, 0, 0, Duration::from_secs(5)).expect("an empty volume");
    volume
}

/// A mount in a temporary directory; unmounted and removed when dropped.
struct Mounted {
    mount: Mount,
    _directory: TempDir,
}

fn mount(volume: &Arc<MemoryVolume>) -> Mounted {
    let directory = tempfile::Builder::new().prefix("pagefs-").tempdir().expect("a temporary directory");
    open_to_all(directory.path());
    let mount = mount_at(volume, directory.path());
    Mounted { mount, _directory: directory }
}

fn mount_at(volume: &Arc<MemoryVolume>, path: &Path) -> Mount {
    let fs = FsOptions { deadline: Duration::from_secs(20), ..FsOptions::default() };
    mount_with(volume, path, fs)
}

fn mount_with(volume: &Arc<MemoryVolume>, path: &Path, fs: FsOptions) -> Mount {
    let options = MountOptions { fs, private: false, ..MountOptions::default() };
    Mount::start(volume.clone(), path, &options, |error: VolumeError| eprintln!("lost: {error}")).expect("mounted")
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
}

impl Mounted {
    fn path(&self) -> &Path {
        self.mount.path()
    }
}
