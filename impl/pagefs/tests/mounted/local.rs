//! Files that need not last are on the local disk, and seen where they belong.

use super::{can_mount, mount_at, open_to_all, volume};
use auriga_pagefs::{FsOptions, Mount, MountOptions};
use auriga_volume::{MemoryVolume, VolumeError};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn mount_with_local(volume: &Arc<MemoryVolume>, at: &Path, local: &Path) -> Mount {
    let fs = FsOptions { deadline: Duration::from_secs(60), ..FsOptions::default() };
    let options = MountOptions { fs, private: false, local: Some(local.to_owned()), ..MountOptions::default() };
    Mount::start(volume.clone(), at, &options, |error: VolumeError| eprintln!("lost: {error}")).expect("mounted")
}

fn names(directory: &Path) -> BTreeSet<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("listed").file_name().into_string().expect("UTF-8");
    fs::read_dir(directory).expect("a directory").map(name).collect()
}

fn local_files(local: &Path) -> usize {
    fs::read_dir(local).expect("a directory").count()
}

/// Waits until so many local files are left: the kernel tells the mount that a file was closed some time after close(2)
/// and munmap(2) have returned, and a removed file goes with its last close.
fn until_local_files(local: &Path, wanted: usize) {
    let since = Instant::now();
    while local_files(local) != wanted {
        assert!(since.elapsed() < Duration::from_secs(60), "{} local files, not {wanted}", local_files(local));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_need_not_last_never_reaches_the_volume() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::Builder::new().prefix("pagefs-").tempdir().expect("a temporary directory");
    open_to_all(directory.path());
    let (at, local) = (directory.path().join("mnt"), directory.path().join("local"));
    fs::create_dir(&at).expect("made");
    let volume = volume(Duration::ZERO);
    let mount = mount_with_local(&volume, &at, &local);
    for directory in ["base", "base/5", "base/pgsql_tmp", "base/pgsql_tmp/pgsql_tmp7.0.fileset", "pg_dynshmem"] {
        fs::create_dir(at.join(directory)).expect("made");
    }
    let before = mount.figures().records;
    use_local_files(&at, &local);
    assert_eq!(mount.figures().records, before, "nothing of it is a record");
    fs::remove_dir(at.join("base/pgsql_tmp/pgsql_tmp7.0.fileset")).expect("empty");

    fs::write(at.join("base/5/16384"), [1; 8192]).expect("written");
    fs::write(at.join("base/5/t3_16385"), b"a temporary one").expect("written");
    assert_eq!(names(&at.join("base/5")), ["16384", "t3_16385"].map(String::from).into());
    until_local_files(&local, 1);
    let moved = fs::rename(at.join("base/5/t3_16385"), at.join("base/5/16386")).expect_err("it would have to last");
    assert_eq!(moved.kind(), ErrorKind::CrossesDevices);
    assert_eq!(fs::remove_dir(at.join("base/5")).expect_err("full").kind(), ErrorKind::DirectoryNotEmpty);
    mount.unmount().expect("unused");
    until_local_files(&local, 0);
    fs::write(local.join("what a crash left"), b"x").expect("written");
    let mount = mount_with_local(&volume, &at, &local);
    assert_eq!((names(&at.join("base/5")), local_files(&local)), (["16384".to_owned()].into(), 0));
    mount.unmount().expect("unused");
    let mount = mount_at(&volume, &at);
    assert_eq!(names(&at.join("base/5")), ["16384".to_owned()].into(), "another machine finds what must last");
    fs::write(at.join("base/5/t3_16387"), b"x").expect("written");
    assert!(names(&at.join("base/5")).contains("t3_16387"), "without a local directory it is on the volume");
    mount.unmount().expect("unused");
}

fn use_local_files(at: &Path, local: &Path) {
    let path = at.join("base/pgsql_tmp/pgsql_tmp7.0.fileset/i1of2.p0.0");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("made");
    assert_eq!(File::create_new(&path).expect_err("there").kind(), ErrorKind::AlreadyExists);
    file.write_all(&[7; 100_000]).expect("written");
    file.write_all_at(b"inside", 5000).expect("written");
    file.sync_all().expect("at once");
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0)).expect("sought");
    file.read_to_end(&mut content).expect("read");
    assert!(content.len() == 100_000 && &content[4999..5007] == b"\x07inside\x07");
    let again = OpenOptions::new().append(true).open(&path).expect("opened twice");
    (&again).write_all(b"end").expect("appended");
    assert_eq!((fs::metadata(&path).expect("there").len(), local_files(local)), (100_003, 1));
    file.set_len(10).expect("shortened");
    assert_eq!(fs::read(&path).expect("read"), [7; 10]);
    fs::rename(&path, path.with_file_name("other")).expect("renamed");
    assert_eq!(names(path.parent().expect("one")), ["other".to_owned()].into());
    fs::remove_file(path.with_file_name("other")).expect("removed");
    assert_eq!((file.metadata().expect("still open").nlink(), local_files(local)), (0, 1));
    file.write_all_at(b"still there", 0).expect("written");
    drop((file, again));

    let path = at.join("pg_dynshmem/mmap.4711");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("made");
    file.set_len(1 << 20).expect("grown");
    share(&file);
    let mut read = [0; 6];
    OpenOptions::new().read(true).open(&path).expect("opened").read_exact_at(&mut read, 4097).expect("read");
    assert_eq!(&read, b"shared");
    fs::remove_file(&path).expect("removed");
}

/// Writes through one mapping what another one sees.
fn share(file: &File) {
    let map = || {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of an open file, which is longer than that.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 1 << 20, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(at, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        at.cast::<u8>()
    };
    let (one, other) = (map(), map());
    // SAFETY: both are mappings of 1 MiB, unmapped here and nowhere else.
    unsafe {
        std::ptr::copy_nonoverlapping(b"shared".as_ptr(), one.add(4097), 6);
        assert_eq!(std::slice::from_raw_parts(other.add(4097), 6), b"shared");
        assert_eq!(libc::msync(one.cast(), 1 << 20, libc::MS_SYNC), 0);
        assert_eq!((libc::munmap(one.cast(), 1 << 20), libc::munmap(other.cast(), 1 << 20)), (0, 0));
    }
}
