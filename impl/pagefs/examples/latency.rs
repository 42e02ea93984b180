//! Medians of 8 KiB requests in a directory of any file system, to compare a mount with a disk.
//!
//! ```sh
//! cargo run --release -p auriga-pagefs --example latency -- /mnt/somewhere /another/directory
//! ```

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const PAGE: usize = 8192;
const PAGES: u64 = 4096;
const ROUNDS: usize = 20_000;

fn main() -> std::io::Result<()> {
    println!("{:40} {:>10} {:>10} {:>16} {:>14}", "µs (p50)", "pwrite", "pread", "pwrite+fdatasync", "pwrite/s by 4");
    for directory in std::env::args().skip(1) {
        let path = Path::new(&directory).join("latency.tmp");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let result = measure(&file);
        drop(file);
        std::fs::remove_file(&path)?;
        let [write, read, sync, rate] = result?;
        println!("{directory:40} {write:>10.1} {read:>10.1} {sync:>16.1} {rate:>14.0}");
    }
    Ok(())
}

fn measure(file: &File) -> std::io::Result<[f64; 4]> {
    let mut page = [0x55; PAGE];
    for block in 0..PAGES {
        file.write_all_at(&page, block * PAGE as u64)?;
    }
    let mut at = 1u64;
    let mut next = move || {
        at = at.wrapping_mul(2_862_933_555_777_941_757_u64).wrapping_add(3_037_000_493);
        (at >> 33) % PAGES * PAGE as u64
    };
    // As PostgreSQL changes pages: a few bytes in a few places.
    let mut change = 0u8;
    let write = median(ROUNDS, || {
        change = change.wrapping_add(1);
        [4, 600, 5000].into_iter().for_each(|at| page[at..at + 20].fill(change));
        file.write_all_at(&page, next())
    })?;
    let mut buffer = [0; PAGE];
    let read = median(ROUNDS, || file.read_exact_at(&mut buffer, next()))?;
    let sync = median(ROUNDS / 10, || {
        change = change.wrapping_add(1);
        page[4000..4100].fill(change);
        file.write_all_at(&page, next()).and_then(|()| file.sync_data())
    })?;
    Ok([write, read, sync, rate(file)?])
}

fn median(rounds: usize, mut work: impl FnMut() -> std::io::Result<()>) -> std::io::Result<f64> {
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begun = Instant::now();
        work()?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    Ok(took[rounds / 2].as_secs_f64() * 1e6)
}

/// Writes per second by four threads, each in its own quarter.
fn rate(file: &File) -> std::io::Result<f64> {
    let quarter = |quarter: u64| {
        let begun = Instant::now();
        let mut written = 0u64;
        while begun.elapsed() < Duration::from_secs(2) {
            let page = [written as u8; PAGE];
            file.write_all_at(&page, (quarter * (PAGES / 4) + written % (PAGES / 4)) * PAGE as u64)?;
            written += 1;
        }
        Ok(written as f64 / begun.elapsed().as_secs_f64())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|index| scope.spawn(move || quarter(index))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<std::io::Result<f64>>()
    })
}
