//! System calls on a mount.

use super::{can_mount, mount, mount_at, mount_with, volume};
use auriga_pagefs::FsOptions;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn rename_with(from: &Path, to: &Path, flags: u32) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no zero byte");
    let (from, to) = (path(from), path(to));
    // SAFETY: both are strings that end with a zero byte and outlive the call.
    match unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[test]
fn files_and_names_work_as_everywhere() {
    if !can_mount() {
        return;
    }
    let mounted = mount(&volume(Duration::ZERO));
    use_names(mounted.path());
}

#[test]
fn changes_are_made_elsewhere_while_the_log_is_far_ahead() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::Builder::new().prefix("pagefs-").tempdir().expect("a temporary directory");
    let fs = FsOptions { inline_lag_max: 0, deadline: Duration::from_secs(20), ..FsOptions::default() };
    let mount = mount_with(&volume(Duration::from_micros(300)), directory.path(), fs);
    use_names(mount.path());
    mount.unmount().expect("unused");
}

#[test]
fn only_fsync_takes_times_along() {
    if !can_mount() {
        return;
    }
    let mounted = mount(&volume(Duration::ZERO));
    let file = File::create(mounted.path().join("a")).expect("created");
    file.write_all_at(b"first", 0).expect("written");
    file.sync_all().expect("durable");
    let records = || mounted.mount.figures().records;
    let before = records();
    file.write_all_at(b"other", 0).expect("written");
    file.sync_data().expect("durable");
    assert_eq!(records() - before, 1, "the content alone");
    file.sync_all().expect("durable");
    assert_eq!(records() - before, 2, "now the time");
}

/// PostgreSQL runs without full-page writes, so no page of it may be in the log by half.
#[test]
fn a_write_of_pages_is_one_mini_transaction() {
    if !can_mount() {
        return;
    }
    let mounted = mount(&volume(Duration::ZERO));
    let path = relation(mounted.path());
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("created");
    let transactions = || mounted.mount.figures().transactions;
    for (content, pages) in [(1, 1), (2, 1), (3, 16)] {
        let before = transactions();
        file.write_all_at(&vec![content; pages * 8192], 8192).expect("written");
        assert_eq!(transactions() - before, 1, "{pages} pages");
    }
    let content = |offset| {
        let mut page = vec![0; 8192];
        file.read_exact_at(&mut page, offset).expect("read");
        page
    };
    let before = transactions();
    file.write_all_at(&[4; 4096], 8192).expect("the first half");
    assert_eq!(transactions(), before, "it waits");
    file.write_all_at(&[5; 12288], 12288).expect("the second half, and a page");
    assert_eq!(transactions() - before, 1);
    assert_eq!(content(8192), [[4; 4096], [5; 4096]].concat());
    for (offset, bytes) in [(12288, 4096), (100, 8192)] {
        let half = file.write_all_at(&vec![9; bytes], offset).expect_err("half a page");
        assert_eq!(half.raw_os_error(), Some(libc::EIO));
    }
    assert_eq!(transactions() - before, 1);
    assert_eq!(content(8192), [[4; 4096], [5; 4096]].concat(), "what was refused is not seen either");
    fs::write(path.with_file_name("pg_filenode.map"), [1; 512]).expect("no file of pages");
}

/// The kernel cuts a write in two where the process's buffer is not mapped: it is not seen in the log.
#[test]
fn a_page_that_the_kernel_writes_in_parts_is_one_mini_transaction() {
    if !can_mount() {
        return;
    }
    let mounted = mount(&volume(Duration::ZERO));
    let path = relation(mounted.path());
    // A page at 32 bytes into the file, as PostgreSQL's buffers are in memory.
    let source = mounted.path().join("source");
    fs::write(&source, [vec![0; 32], vec![6; 64 << 10]].concat()).expect("written");
    let source = File::open(&source).expect("opened");
    let file = File::create(&path).expect("created");
    let figures = || mounted.mount.figures();
    for page in 0..4 {
        // SAFETY: a new mapping, which is not mapped page by page before it is looked at, and outlives its use.
        let bytes = unsafe {
            let at = libc::mmap(std::ptr::null_mut(), 65536, libc::PROT_READ, libc::MAP_PRIVATE, source.as_raw_fd(), 0);
            assert_ne!(at, libc::MAP_FAILED);
            std::slice::from_raw_parts(at.cast::<u8>().add(32), 8192)
        };
        let before = figures();
        file.write_all_at(bytes, page * 8192).expect("written");
        assert_eq!(figures().transactions - before.transactions, 1);
    }
    mounted.mount.fs().drop_caches();
    assert_eq!(fs::read(&path).expect("read"), vec![6; 4 * 8192]);
}

/// The path of a relation's file, in a database's directory that is made.
fn relation(root: &Path) -> std::path::PathBuf {
    let database = root.join("pgdata/base/5");
    fs::create_dir_all(&database).expect("made");
    database.join("16384")
}

#[test]
fn what_the_kernel_has_read_costs_no_request_until_caches_are_dropped() {
    if !can_mount() {
        return;
    }
    let mounted = mount(&volume(Duration::ZERO));
    let path = relation(mounted.path());
    fs::write(&path, vec![7; 1 << 20]).expect("written");
    let requests = |file: &File| {
        let before = mounted.mount.figures().reads;
        let mut content = vec![0; 8192];
        for page in 0..128 {
            file.read_exact_at(&mut content, page * 8192).expect("read");
            assert_eq!(content, [7; 8192]);
        }
        mounted.mount.figures().reads - before
    };
    mounted.mount.fs().drop_caches();
    let file = File::open(&path).expect("opened");
    assert!((1..=64).contains(&requests(&file)), "read ahead, many pages at a time");
    assert_eq!(requests(&file), 0);
    assert_eq!(requests(&File::open(&path).expect("opened again")), 0);
    mounted.mount.fs().drop_caches();
    assert_ne!(requests(&file), 0);
}

#[test]
fn a_write_by_another_user_ends_the_right_to_run_as_the_owner() {
    use std::os::unix::process::CommandExt;
    if !can_mount() {
        return;
    }
    let mounted = mount(&volume(Duration::ZERO));
    let path = mounted.path().join("program");
    fs::write(&path, b"#!/bin/sh").expect("written");
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    let seen = || fs::metadata(&path).expect("there").mode() & 0o7777;
    mode(0o6777);
    OpenOptions::new().append(true).open(&path).expect("opened").write_all(b"\n").expect("written");
    assert_eq!(seen(), 0o6777, "root may");
    let nobody = |command: &str| {
        let status = Command::new("sh").args(["-c", command, "sh"]).arg(&path).uid(65534).gid(65534).status();
        assert!(status.expect("a shell").success());
    };
    nobody("echo more >>\"$1\"");
    assert_eq!(seen(), 0o777);
    mode(0o2767);
    nobody("echo more >>\"$1\"");
    assert_eq!(seen(), 0o2767, "a group that may not execute: the bit means something else");
    mode(0o4777);
    nobody(": >\"$1\"");
    assert_eq!((seen(), fs::metadata(&path).expect("there").len()), (0o777, 0));
}

#[test]
fn an_open_directory_that_was_removed_still_has_attributes() {
    if !can_mount() {
        return;
    }
    let mounted = mount(&volume(Duration::ZERO));
    let path = mounted.path().join("d");
    fs::create_dir(&path).expect("made");
    let open = File::open(&path).expect("opened");
    fs::remove_dir(&path).expect("removed");
    let metadata = open.metadata().expect("it is open");
    assert!(metadata.is_dir() && metadata.nlink() == 0);
    let inodes = mounted.mount.figures().inodes;
    drop(open);
    let until = Instant::now() + Duration::from_secs(60);
    while mounted.mount.figures().inodes == inodes {
        assert!(Instant::now() < until, "it never ends");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn use_names(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::write(at("a"), b"hello").expect("written");
    OpenOptions::new().append(true).open(at("a")).expect("opened").write_all(b", world").expect("appended");
    assert_eq!(fs::read(at("a")).expect("read"), b"hello, world");
    fs::create_dir(at("d")).expect("made");
    assert_eq!(fs::remove_file(at("d")).expect_err("a directory").kind(), ErrorKind::IsADirectory);
    fs::hard_link(at("a"), at("d/b")).expect("linked");
    symlink("d/b", at("l")).expect("linked");
    assert_eq!((fs::read(at("l")).expect("read").len(), fs::metadata(at("a")).expect("exists").nlink()), (12, 2));
    assert_eq!(fs::remove_dir(at("d")).expect_err("full").kind(), ErrorKind::DirectoryNotEmpty);
    fs::rename(at("d"), at("e")).expect("renamed");
    assert_eq!(
        rename_with(&at("a"), &at("e/b"), libc::RENAME_NOREPLACE).expect_err("taken").raw_os_error(),
        Some(libc::EEXIST)
    );
    fs::write(at("c"), b"c").expect("written");
    rename_with(&at("c"), &at("e/b"), libc::RENAME_EXCHANGE).expect("exchanged");
    assert_eq!((fs::read(at("e/b")).expect("read"), fs::read(at("c")).expect("read").len()), (b"c".to_vec(), 12));

    let mut open = File::open(at("c")).expect("opened");
    fs::rename(at("e/b"), at("c")).expect("replaced while open");
    let mut old = String::new();
    open.read_to_string(&mut old).expect("read");
    assert_eq!((old.as_str(), fs::read(at("c")).expect("read")), ("hello, world", b"c".to_vec()));

    let _socket = UnixListener::bind(at("socket")).expect("bound");
    assert!(fs::metadata(at("socket")).expect("exists").file_type().is_socket());
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("made");
    for index in 0..2000 {
        File::create(at(&format!("e/{index}"))).expect("created");
    }
    let names = || fs::read_dir(at("e")).expect("listed").map(|entry| entry.expect("an entry").file_name());
    assert_eq!(names().collect::<std::collections::HashSet<_>>().len(), 2000);
    names().for_each(|name| fs::remove_file(at("e").join(name)).expect("removed"));
    assert_eq!(names().count(), 0);
}

#[test]
fn offsets_holes_and_mappings_work_as_everywhere() {
    if !can_mount() {
        return;
    }
    let mounted = mount(&volume(Duration::ZERO));
    let path = mounted.path().join("a");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("created");
    let noise: Vec<u8> = (0..3_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    file.write_all_at(&noise, 5).expect("written");
    let mut seen = vec![1; 5 + noise.len()];
    file.read_exact_at(&mut seen, 0).expect("read");
    assert!(seen[..5] == [0; 5] && seen[5..] == noise[..]);

    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, punch, 10_000, 1_000_000).expect("punched");
    file.read_exact_at(&mut seen, 0).expect("read");
    assert!(seen[10_000..1_010_000].iter().all(|byte| *byte == 0) && seen[1_010_000..] == noise[1_009_995..]);
    fallocate(&file, FallocateFlags::empty(), 0, 4_000_000).expect("allocated");
    assert_eq!(file.seek(SeekFrom::End(0)).expect("a size"), 4_000_000);
    file.set_len(7).expect("truncated");
    file.set_len(100).expect("grown");
    assert_eq!(fs::read(&path).expect("read"), [&[0; 5], &noise[..2], &[0; 93]].concat());

    for flags in [libc::MAP_PRIVATE, libc::MAP_SHARED] {
        // SAFETY: a fresh mapping of 100 bytes, used only within them, and unmapped before the file is closed.
        unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let at = libc::mmap(std::ptr::null_mut(), 100, protection, flags, file.as_raw_fd(), 0);
            assert_ne!(at, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
            assert_eq!(*at.cast::<u8>().add(5), noise[0]);
            *at.cast::<u8>().add(50) = 77;
            assert_eq!((libc::msync(at, 100, libc::MS_SYNC), libc::munmap(at, 100)), (0, 0));
        }
    }
    assert_eq!(fs::read(&path).expect("read")[50], 77, "a shared mapping reaches the file");
}

#[test]
fn a_synchronous_write_returns_when_it_is_durable() {
    if !can_mount() {
        return;
    }
    let delay = Duration::from_millis(40);
    let volume = volume(delay);
    let mounted = mount(&volume);
    let path = mounted.path().join("a");
    let plain = OpenOptions::new().write(true).create_new(true).open(&path).expect("created");
    let took = |work: &dyn Fn() -> std::io::Result<usize>| {
        let begun = Instant::now();
        work().expect("it succeeds");
        begun.elapsed()
    };
    assert!(took(&|| plain.write_at(b"1", 0)) < delay);
    assert!(took(&|| plain.sync_data().map(|()| 0)) >= delay / 2);
    for (flag, content) in [(libc::O_DSYNC, b"2"), (libc::O_SYNC, b"3")] {
        let sync = OpenOptions::new().write(true).custom_flags(flag).open(&path).expect("opened");
        assert!(took(&|| sync.write_at(content, 100)) >= delay);
    }
    let directory = File::open(mounted.path()).expect("opened");
    File::create(mounted.path().join("b")).expect("created");
    assert!(took(&|| directory.sync_all().map(|()| 0)) >= delay / 2);
    // A kernel that keeps copies may ask once more after each synchronous write.
    assert!((4..=6).contains(&mounted.mount.figures().syncs), "{}", mounted.mount.figures().syncs);
    assert!(mounted.mount.figures().sync_p50_micros >= 16_384);
}

/// Not a test of its own: the process that `a_dead_mount_is_detached_and_mounted_again` kills.
#[test]
fn serves_a_mount_until_killed() {
    let Some(path) = std::env::var_os("PAGEFS_TEST_MOUNT_AT") else { return };
    let _mount = mount_at(&volume(Duration::ZERO), path.as_ref());
    println!("\nmounted");
    std::thread::sleep(Duration::from_secs(30));
}

#[test]
fn a_dead_mount_is_detached_and_mounted_again() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::Builder::new().prefix("pagefs-").tempdir().expect("a temporary directory");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "kernel::serves_a_mount_until_killed", "--nocapture"])
        .env("PAGEFS_TEST_MOUNT_AT", directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mounted = lines.map_while(Result::ok).any(|line| line == "mounted");
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(mounted, "the child mounts");
    let dead = fs::metadata(directory.path()).expect_err("no process serves it");
    assert_eq!(dead.raw_os_error(), Some(libc::ENOTCONN));
    let volume = volume(Duration::ZERO);
    let again = mount_at(&volume, directory.path());
    fs::write(again.path().join("a"), b"alive").expect("written");
    again.unmount().expect("unused");
    assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 0);

    let again = mount_at(&volume, directory.path());
    let open = File::open(again.path().join("a")).expect("the volume has it");
    assert_eq!(again.unmount().expect_err("in use").raw_os_error(), Some(libc::EBUSY));
    assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 0, "gone from sight at once");
    drop(open);
    drop(Arc::clone(&volume));
}
