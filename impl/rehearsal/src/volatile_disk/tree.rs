//! Names and files of a volatile disk.

use super::content::Content;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The root's inode number.
pub const ROOT: u64 = 1;

/// All inodes that the kernel knows.
pub struct Tree {
    root: PathBuf,
    /// What `root` leads through.
    _below: File,
    inodes: HashMap<u64, Inode>,
    by_path: HashMap<PathBuf, u64>,
    next: u64,
}

/// A directory or a file.
#[derive(Clone)]
pub struct Inode {
    /// Relative to the root.
    pub path: PathBuf,
    /// `None`: a directory.
    pub content: Option<Arc<Mutex<Content>>>,
    /// References that the kernel has.
    lookups: u64,
}

impl Inode {
    /// The name in the root below which it is.
    pub fn top(&self) -> Option<&str> {
        self.path.iter().next().and_then(OsStr::to_str)
    }
}

impl Tree {
    /// The tree below the directory `root`, kept reachable by `below`.
    pub fn new(root: PathBuf, below: File) -> Tree {
        let directory = Inode { path: PathBuf::new(), content: None, lookups: 1 };
        Tree {
            root,
            _below: below,
            inodes: HashMap::from([(ROOT, directory)]),
            by_path: HashMap::new(),
            next: ROOT + 1,
        }
    }

    /// The inode with this number.
    pub fn get(&self, number: u64) -> io::Result<&Inode> {
        self.inodes.get(&number).ok_or_else(|| io::Error::from_raw_os_error(libc::ESTALE))
    }

    /// Where it lies below.
    pub fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// The path of `name` in a directory.
    pub fn child(&self, parent: u64, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.get(parent)?.path.join(name))
    }

    /// The inode of what exists at `path`, referred to once more.
    pub fn look_up(&mut self, path: &Path) -> io::Result<(u64, &Inode)> {
        let number = match self.by_path.get(path) {
            Some(number) => *number,
            None => {
                let below = self.below(path);
                let content = match std::fs::symlink_metadata(&below)?.file_type() {
                    kind if kind.is_dir() => None,
                    kind if kind.is_file() => Some(Content::of(File::options().read(true).write(true).open(&below)?)),
                    _ => return Err(io::ErrorKind::Unsupported.into()),
                };
                self.add(path, content)
            }
        };
        let inode = self.inodes.get_mut(&number).expect("every number in `by_path` is that of an inode");
        inode.lookups += 1;
        Ok((number, inode))
    }

    fn add(&mut self, path: &Path, content: Option<Content>) -> u64 {
        let number = self.next;
        self.next += 1;
        let content = content.map(|content| Arc::new(Mutex::new(content)));
        self.inodes.insert(number, Inode { path: path.to_owned(), content, lookups: 0 });
        self.by_path.insert(path.to_owned(), number);
        number
    }

    /// The kernel has `count` references fewer.
    pub fn forget(&mut self, number: u64, count: u64) {
        let Some(inode) = self.inodes.get_mut(&number) else { return };
        inode.lookups = inode.lookups.saturating_sub(count);
        let named = self.by_path.get(&inode.path) == Some(&number);
        // What has a name may have changes that are not durable.
        if inode.lookups == 0 && !named && number != ROOT {
            self.inodes.remove(&number);
        }
    }

    /// What is at `path` has no name any more.
    pub fn unlinked(&mut self, path: &Path) {
        if let Some(number) = self.by_path.remove(path) {
            let inode = self.inodes.get(&number);
            if inode.is_some_and(|inode| inode.lookups == 0) {
                self.inodes.remove(&number);
            }
        }
    }

    /// The file at `from` is now at `to`, in place of what was there.
    pub fn renamed(&mut self, from: &Path, to: &Path) {
        self.unlinked(to);
        if let Some(number) = self.by_path.remove(from) {
            self.by_path.insert(to.to_owned(), number);
            if let Some(inode) = self.inodes.get_mut(&number) {
                inode.path = to.to_owned();
            }
        }
    }

    /// Every file that is known.
    pub fn files(&self) -> impl Iterator<Item = &Arc<Mutex<Content>>> {
        self.inodes.values().filter_map(|inode| inode.content.as_ref())
    }

    /// The files with a name below these names of the root, in the order of their names.
    pub fn files_below(&self, names: &[&str]) -> Vec<Arc<Mutex<Content>>> {
        let mut found: Vec<(&Path, Arc<Mutex<Content>>)> = self
            .by_path
            .values()
            .filter_map(|number| self.inodes.get(number))
            .filter(|inode| inode.top().is_some_and(|top| names.contains(&top)))
            .filter_map(|inode| Some((inode.path.as_path(), inode.content.clone()?)))
            .collect();
        found.sort_unstable_by_key(|(path, _)| *path);
        found.into_iter().map(|(_, content)| content).collect()
    }

    /// Names in a directory, and whether each is a directory itself.
    pub fn list(&self, number: u64) -> io::Result<Vec<(OsString, bool)>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.below(&self.get(number)?.path))? {
            let entry = entry?;
            names.push((entry.file_name(), entry.file_type()?.is_dir()));
        }
        names.sort_unstable();
        Ok(names)
    }
}
