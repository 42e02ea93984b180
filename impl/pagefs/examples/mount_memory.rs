//! Mounts a volume that lives in this process's memory, to try the file system by hand.
//!
//! ```sh
//! cargo run -p auriga-pagefs --example mount_memory -- /mnt/somewhere [delay in microseconds]
//! ```
//!
//! The mount is visible to everyone and ends with a line (or the end) of input. Nothing is kept.

use auriga_pagefs::{Mount, MountOptions, mkfs};
use auriga_volume::{MemoryVolume, MemoryVolumeConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: mount_memory DIRECTORY [MICROSECONDS]")?;
    let delay = arguments.next().map_or(Ok(0), |micros| micros.parse())?;
    let config =
        MemoryVolumeConfig { durable_after: Duration::from_micros(delay), history_weight_max: 0, ..Default::default() };
    let volume = Arc::new(MemoryVolume::new(config));
    mkfs(&*volume, 0, 0, Duration::from_secs(10))?;
    let options = MountOptions { private: false, ..MountOptions::default() };
    let mount = Mount::start(volume, Path::new(&path), &options, |error| eprintln!("lost: {error}"))?;
    eprintln!("mounted at {path}; press enter to unmount");
    std::io::stdin().read_line(&mut String::new())?;
    eprintln!("{:#?}", mount.figures());
    mount.unmount()?;
    Ok(())
}
