//! Who answers, and what requests that change something share.

use super::translate::{permissions, reply_entry};
use crate::files::Files;
use crate::fs::NewInode;
use crate::layout::Kind;
use crate::local::Local;
use fuser::{INodeNo, ReplyEntry, Request};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Answers the kernel for one file system.
pub struct Adapter<F> {
    pub(super) fs: Arc<F>,
    /// What need not last; `None`: that is on the volume, too.
    pub(super) local: Option<Arc<Local>>,
    /// Whether the kernel may read and write local files by itself.
    pub(super) passthrough: AtomicBool,
    /// Whether a new symbolic link may have an absolute target.
    pub(super) absolute_links: bool,
}

impl<F: Files> Adapter<F> {
    /// Answers from `fs`, and for what need not last from `local`.
    pub(crate) fn new(fs: Arc<F>, local: Option<Arc<Local>>, absolute_links: bool) -> Adapter<F> {
        Adapter { fs, local, passthrough: AtomicBool::new(false), absolute_links }
    }

    /// Makes a change on this thread, or on one of the file system's own when the log is so far ahead of VDL that
    /// submitting may have to wait: these threads are for requests that can be answered, above all reads.
    pub(super) fn change(&self, job: impl FnOnce(&Arc<F>) + Send + 'static) {
        if self.fs.is_lagging() {
            self.fs.run_later(job);
        } else {
            job(&self.fs);
        }
    }

    pub(super) fn make(&self, request: &Request, parent: INodeNo, name: &OsStr, new: New, reply: ReplyEntry) {
        let (uid, gid, name) = (request.uid(), request.gid(), name.to_owned());
        self.change(move |fs| {
            let New { kind, mode, rdev, target } = &new;
            let new = NewInode { kind: *kind, mode: *mode, uid, gid, rdev: *rdev, target };
            reply_entry::<F>(fs.create(parent.0, name.as_bytes(), &new, false), reply);
        });
    }
}

/// What a request wants made.
pub(super) struct New {
    pub kind: Kind,
    pub mode: u16,
    pub rdev: u32,
    pub target: Vec<u8>,
}

impl New {
    pub(super) fn of(kind: Kind, mode: u32) -> New {
        New { kind, mode: permissions(mode), rdev: 0, target: Vec::new() }
    }
}
