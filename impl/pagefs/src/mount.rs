//! Mounting: a [`PageFs`] or a [`ReaderFs`] at a path, for as long as a [`Mount`] lives.
//!
//! The mount is made by mount(2) on `/dev/fuse`, without any helper program, so the process needs `CAP_SYS_ADMIN`: as
//! root, or, for an ordinary user, in a user namespace of its own. By default the mount is made in a *private mount
//! namespace*: only this process and those that it starts see it, and it ends with the last of them. So a process that
//! was killed leaves no stale mount behind, ever.

use crate::files::Files;
use crate::fs::{Figures, FsOptions, LoadError, PageFs};
use crate::fuse::Adapter;
use crate::local::Local;
use crate::reader::ReaderFs;
use auriga_volume::{Volume, VolumeError};
use fuser::{BackgroundSession, Config, INodeNo, MountOption, Notifier, Session, SessionACL};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// The file system's own options.
    pub fs: FsOptions,
    /// Threads that read requests. As many as the machine has cores is best.
    pub threads: usize,
    /// Let other users in, subject to the permissions of files. PostgreSQL is one: it refuses to be root.
    pub allow_other: bool,
    /// A directory on the local disk for files that need not last (PostgreSQL's temporary ones). What is in it is
    /// removed. `None`: they are on the volume like any other.
    pub local: Option<PathBuf>,
    /// Mount in a private mount namespace, entering one on the calling thread: see [`enter_private_namespace`].
    pub private: bool,
    /// Whether new symbolic links may have absolute targets: such a link leads to what another machine does not have.
    pub absolute_links: bool,
}

impl Default for MountOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        MountOptions {
            fs: FsOptions::default(),
            threads,
            allow_other: true,
            local: None,
            private: true,
            absolute_links: true,
        }
    }
}

/// Why there is no mount.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The volume can't be opened as a file system.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The operating system refused.
    #[error("mounting at {path}: {error}")]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A mounted file system. Dropping it unmounts; [`Mount::unmount`] does so too, waits for durability, and says whether it
/// worked.
pub struct Mount<F: Files = PageFs> {
    fs: Arc<F>,
    session: Option<BackgroundSession>,
    /// How the kernel is told something. Dropped with the session, because it keeps the connection to the kernel open, and
    /// processes that still use the mount must see that it has ended.
    kernel: Option<Arc<Notifier>>,
    path: PathBuf,
}

impl Mount {
    /// Opens the file system on `volume` and mounts it at `path`, an existing directory. A dead mount that is found
    /// there is detached first. `on_lost`: see [`PageFs::load`].
    ///
    /// With [`MountOptions::private`], call it on the thread that will start the processes that are to see the mount.
    ///
    /// # Errors
    /// When the volume has no sound file system, or the operating system refuses.
    pub fn start(
        volume: Arc<dyn Volume>,
        path: &Path,
        options: &MountOptions,
        on_lost: impl Fn(VolumeError) + Send + Sync + 'static,
    ) -> Result<Mount, MountError> {
        let fs = PageFs::load(volume, options.fs.clone(), Box::new(on_lost))?;
        let mount = Mount::of(fs, path, options, options.fs.read_only)?;
        let kernel = mount.kernel.as_ref().map_or_else(Weak::new, Arc::downgrade);
        mount.fs.is_mounted(Box::new(move |ino| {
            // A file that the kernel does not know has no copies.
            let _ = kernel.upgrade().map(|kernel| kernel.inval_inode(INodeNo(ino), 0, 0));
        }));
        Ok(mount)
    }

    /// Figures of the file system.
    pub fn figures(&self) -> Figures {
        self.fs.figures()
    }

    /// Unmounts, and waits until everything written is durable.
    ///
    /// # Errors
    /// When a process still uses the mount (it then goes away with the last one), or the volume fails.
    pub fn unmount(mut self) -> io::Result<()> {
        self.end()?;
        if self.fs.is_lost() || self.fs.options().read_only {
            return Ok(());
        }
        self.fs.sync_now(None).map_err(io::Error::other)
    }

    /// The same, but waits for durability no longer than `limit`: for those who are asked to end, and then end.
    ///
    /// # Errors
    /// As [`Mount::unmount`], or the limit has passed.
    pub fn unmount_within(mut self, limit: Duration) -> io::Result<()> {
        self.end()?;
        if self.fs.is_lost() || self.fs.options().read_only {
            return Ok(());
        }
        let (sender, durable) = mpsc::channel();
        let fs = self.fs.clone();
        std::thread::Builder::new().name("last-sync".to_owned()).spawn(move || sender.send(fs.sync_now(None)))?;
        match durable.recv_timeout(limit) {
            Ok(synced) => synced.map_err(io::Error::other),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Mount<ReaderFs> {
    /// Mounts a reader's file system at `path`. Of the options, those of [`PageFs`] are not looked at.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn reader(fs: Arc<ReaderFs>, path: &Path, options: &MountOptions) -> Result<Mount<ReaderFs>, MountError> {
        Mount::of(fs, path, options, false)
    }

    /// Unmounts.
    ///
    /// # Errors
    /// When a process still uses the mount: it then goes away with the last one.
    pub fn detach(mut self) -> io::Result<()> {
        self.end()
    }
}

impl<F: Files> Mount<F> {
    fn of(fs: Arc<F>, path: &Path, options: &MountOptions, read_only: bool) -> Result<Mount<F>, MountError> {
        let failed = |error| MountError::Mount { path: path.to_owned(), error };
        if options.private {
            enter_private_namespace().map_err(failed)?;
        }
        detach_dead_mount(path).map_err(failed)?;
        let local = options.local.as_deref().map(Local::new).transpose().map_err(failed)?.map(Arc::new);
        let path = path.canonicalize().map_err(failed)?;
        let adapter = Adapter::new(Arc::clone(&fs), local, options.absolute_links);
        let session = Session::new(adapter, &path, &config(options, read_only)).and_then(Session::spawn);
        let session = session.map_err(failed)?;
        let kernel = Some(Arc::new(session.notifier()));
        Ok(Mount { fs, session: Some(session), kernel, path })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file system behind it.
    pub fn fs(&self) -> &Arc<F> {
        &self.fs
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        self.kernel = None;
        match umount2(&self.path, MntFlags::empty()) {
            Ok(()) => session.join(),
            Err(busy) => {
                // Detached, it is out of everyone's sight at once; its threads end when the last user is gone.
                umount2(&self.path, MntFlags::MNT_DETACH)?;
                drop(session);
                Err(busy.into())
            }
        }
    }
}

impl<F: Files> Drop for Mount<F> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(path = %self.path.display(), %error, "the mount was in use when it was given up");
        }
    }
}

fn config(options: &MountOptions, read_only: bool) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("auriga".into()),
        MountOption::Subtype("auriga".into()),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
        MountOption::NoDev,
        MountOption::NoSuid,
    ];
    if read_only {
        config.mount_options.push(MountOption::RO);
    }
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.threads.max(1));
    config
}

/// Gives the calling thread a mount namespace of its own, for it and the threads and processes that it starts from
/// now on. Best called first thing in `main`, so that the whole program is in it.
///
/// An ordinary user gets a user namespace with it, in which mounting is allowed; there, too, the user has the
/// number that it has outside. That works only while the process has no other thread.
///
/// # Errors
/// Without `CAP_SYS_ADMIN`, where the kernel or its policy gives ordinary users no user namespaces.
pub fn enter_private_namespace() -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        unshare(CloneFlags::CLONE_NEWNS)?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    }
    let everything = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    Ok(mount(None::<&str>, "/", None::<&str>, everything, None::<&str>)?)
}

/// Detaches what is mounted at `path` when no process serves it any more.
fn detach_dead_mount(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED)) => {
            tracing::warn!(path = %path.display(), "detaching a mount that lost its process");
            Ok(umount2(path, MntFlags::MNT_DETACH)?)
        }
        _ => Ok(()),
    }
}
