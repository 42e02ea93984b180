//! A disk that forgets: a FUSE mount over a directory, whose power can be cut. It can be filled, too ([`room`]).
//!
//! What a process writes is durable when a later fsync or fdatasync of the same file has returned, and may be lost before
//! that. A power cut makes every operation fail at once; when the power comes back, each change of a file's content or
//! size that was not synchronised has been dropped, kept, or (writes) kept in some of its sectors of 512 bytes. The seed
//! decides. A synchronisation takes a random while, during which the power may be cut.
//!
//! **The model is simpler than a real disk.** Names (create, rename, unlink, mkdir) are durable at once, so a missing
//! synchronisation of a directory is not found out. Changes of one sector are independent of each other, which no disk
//! does: that is more than what can happen. Synchronisation of one file says nothing about another one.
//!
//! The directory below always holds the newest content, so reading costs nothing; of each change, what was there before is
//! kept in memory until it is durable ([`content`]).
//!
//! **A lying disk** answers every synchronisation at once, and keeps nothing: what believes it must be found out. It
//! exists to show that what is checked with this disk can fail.

mod content;
mod fuse;
mod room;
mod tree;

use auriga_pagefs::enter_private_namespace;
use content::Fate;
use fuser::{BackgroundSession, Config, MountOption, Session};
use nix::mount::{MntFlags, umount2};
use room::Room;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tree::Tree;

/// Threads that answer the kernel: each synchronisation occupies one, and six processes have a few each.
const THREADS: usize = 16;
/// Longest synchronisation, in microseconds.
const SYNC_MICROS_MAX: u64 = 2000;

/// What a power cut did to changes that were not synchronised.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Cut {
    /// They are there.
    pub kept: u64,
    /// They never were.
    pub dropped: u64,
    /// Some of their sectors are there.
    pub torn: u64,
}

/// What the mount and its owner share.
struct Shared {
    tree: Mutex<Tree>,
    /// Names in the root whose power is off.
    off: Mutex<BTreeSet<String>>,
    room: Mutex<Room>,
    lies: AtomicBool,
    random: Mutex<fastrand::Rng>,
}

/// A mounted volatile disk. Dropping it unmounts.
pub struct VolatileDisk {
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
    path: PathBuf,
}

/// Makes mounts of this process invisible to all but those that it starts, and ends them with the last of them. To be
/// called before any thread is started.
///
/// # Errors
/// Without `CAP_SYS_ADMIN`.
pub fn prepare() -> io::Result<()> {
    enter_private_namespace()
}

impl VolatileDisk {
    /// Mounts one over the directory at `path`, whose content it shows.
    ///
    /// # Errors
    /// Returns the operating system's error.
    pub fn mount(path: &Path, seed: u64) -> io::Result<VolatileDisk> {
        // The directory remains reachable through this descriptor when the mount covers it.
        let below = std::fs::File::open(path)?;
        let root = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), below.as_raw_fd()));
        let shared = Arc::new(Shared {
            tree: Mutex::new(Tree::new(root, below)),
            off: Mutex::default(),
            room: Mutex::default(),
            lies: AtomicBool::new(false),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
        });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("volatile".into()), MountOption::NoAtime, MountOption::NoDev];
        config.n_threads = Some(THREADS);
        let session = Session::new(fuse::Adapter::new(shared.clone()), path, &config)?.spawn()?;
        Ok(VolatileDisk { shared, session: Some(session), path: path.to_owned() })
    }

    /// From now on, every operation below these names of the root fails.
    pub fn power_off(&self, names: &[&str]) {
        lock(&self.shared.off).extend(names.iter().map(|name| (*name).to_owned()));
    }

    /// Decides what is left of the changes below these names that were not synchronised, and lets operations happen again.
    /// No process may have a file open below them.
    ///
    /// # Errors
    /// Returns the operating system's error.
    pub fn power_on(&self, names: &[&str]) -> io::Result<Cut> {
        let mut cut = Cut::default();
        let mut random = lock(&self.shared.random);
        for content in lock(&self.shared.tree).files_below(names) {
            let fate = match random.u8(0..4) {
                _ if self.shared.lies.load(SeqCst) => Fate::Dropped,
                0 => Fate::Dropped,
                1 => Fate::Kept,
                _ => Fate::Mixed,
            };
            lock(&content).cut(fate, &mut random, &mut cut)?;
        }
        lock(&self.shared.off).retain(|name| !names.contains(&name.as_str()));
        Ok(cut)
    }

    /// From now on, files below each of these names of the root may grow by `left` bytes, together.
    pub fn fill(&self, names: &[&str], left: u64) {
        let mut room = lock(&self.shared.room);
        names.iter().for_each(|name| room.limit(name, left));
    }

    /// Below these names of the root, there is as much room as the directory has.
    pub fn make_room(&self, names: &[&str]) {
        let mut room = lock(&self.shared.room);
        names.iter().for_each(|name| room.lift(name));
    }

    /// From now on, nothing is durable whatever is synchronised.
    pub fn lie(&self) {
        self.shared.lies.store(true, SeqCst);
        lock(&self.shared.tree).files().for_each(|content| lock(content).remember_everything());
    }
}

impl Drop for VolatileDisk {
    fn drop(&mut self) {
        if let Err(error) = detach(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "while unmounting the volatile disk");
        }
        drop(self.session.take());
    }
}

/// Detaches a volatile disk that was mounted at `path`, also one whose process is gone.
///
/// # Errors
/// The operating system's; `InvalidInput` where none is.
pub fn detach(path: &Path) -> io::Result<()> {
    Ok(umount2(path, MntFlags::MNT_DETACH)?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
