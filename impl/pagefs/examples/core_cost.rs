//! What a write and a read cost in the file system itself, without a kernel: nanoseconds of one thread's time.

use auriga_pagefs::fs::NewInode;
use auriga_pagefs::layout::{Kind, ROOT};
use auriga_pagefs::{FsOptions, PageFs, mkfs};
use auriga_volume::{MemoryVolume, MemoryVolumeConfig};
use std::sync::Arc;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = MemoryVolumeConfig { history_weight_max: 0, ..Default::default() };
    let volume = Arc::new(MemoryVolume::new(config));
    mkfs(&*volume, 0, 0, Duration::from_secs(5))?;
    let fs = PageFs::load(volume, FsOptions::default(), Box::new(|_| ()))?;
    let new = NewInode { kind: Kind::File, mode: 0o600, uid: 0, gid: 0, rdev: 0, target: b"" };
    let ino = fs.create(ROOT, b"a", &new, false)?.ino;
    let mut page = [0x55; 8192];
    let time = |what: &str, rounds: u32, work: &mut dyn FnMut(u64)| {
        let begun = cpu_time();
        (0..u64::from(rounds)).for_each(&mut *work);
        println!("{what:32} {:8} ns", (cpu_time() - begun).as_nanos() / u128::from(rounds));
    };
    time("write that extends", 4096, &mut |at| fs.write(ino, at * 8192, &page, |_| ()));
    time("write with three small changes", 40_000, &mut |at| {
        [4, 600, 5000].into_iter().for_each(|from| page[from..from + 20].fill(at as u8));
        fs.write(ino, at % 4096 * 8192, &page, |_| ());
    });
    time("write that changes nothing", 40_000, &mut |at| {
        let page = [0x55; 8192];
        fs.write(ino, at % 8 * 8192, &page, |_| ());
    });
    time("read", 40_000, &mut |at| {
        fs.read(ino, at % 4096 * 8192, 8192, |done| {
            let _ = done.map(|read| read.with(|bytes| bytes[7]));
        });
    });
    time("fsync", 40_000, &mut |_| fs.sync(Some(ino), |_| ()));
    Ok(())
}

/// Processor time of this thread, which other processes do not disturb as much as they do the clock on the wall.
fn cpu_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_THREAD).expect("Linux knows it");
    let parts = [usage.user_time(), usage.system_time()];
    parts.into_iter().map(|part| Duration::from_micros((part.tv_sec() * 1_000_000 + part.tv_usec()) as u64)).sum()
}
