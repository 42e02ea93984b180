//! Where objects are: a folder.
//!
//! An object is there whole or not at all, under its name: it is written under another name first. It stays there after a
//! power cut.

use crate::format::{Malformed, Object, decode, encode};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The end of the name of what is being written.
const UNFINISHED: &str = ".unfinished";

/// Everything of the database is in there: nobody else may read it.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// Why an object is not put or got.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is no place for objects.
    #[error("{0}: a backup is in a folder of the file system: give its path, or a URL that begins with file:///")]
    Place(String),
    /// The store.
    #[error("{name}: {error}")]
    Io {
        /// Which object, or folder.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// An object that should be there.
    #[error("{0} is missing from the backup")]
    Missing(String),
    /// An object that is not as it was put there.
    #[error("{name} of the backup: {error}")]
    Malformed {
        /// Which.
        name: String,
        /// What is wrong.
        error: Malformed,
    },
}

/// The objects of one backup.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

fn failed(name: &str) -> impl FnOnce(io::Error) -> StoreError {
    let name = name.to_owned();
    move |error| StoreError::Io { name, error }
}

impl Store {
    /// Opens the store at a path, or a URL that begins with `file:///`.
    ///
    /// # Errors
    /// It is something else.
    pub fn open(place: &str) -> Result<Store, StoreError> {
        let path = match place.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => path,
            Some(_) => return Err(StoreError::Place(place.to_owned())),
            None => place,
        };
        Ok(Store { folder: PathBuf::from(path) })
    }

    /// Puts an object, in the place of one of that name. Returns its checksum.
    ///
    /// # Errors
    /// It may be there or not.
    pub fn put<T: Object>(&self, name: &str, object: &T) -> Result<u32, StoreError> {
        let malformed = |error| StoreError::Malformed { name: name.to_owned(), error };
        let (bytes, sum) = encode(object).map_err(malformed)?;
        let path = self.folder.join(name);
        let folder = path.parent().unwrap_or(&self.folder);
        let put = || {
            make_durably(folder)?;
            let unfinished = PathBuf::from(format!("{}{UNFINISHED}", path.display()));
            let mut file = File::options().write(true).create(true).truncate(true).mode(FILE_MODE).open(&unfinished)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(folder)?.sync_all()
        };
        put().map_err(failed(name))?;
        Ok(sum)
    }

    /// Gets an object with its checksum; `None`: there is none of that name.
    ///
    /// # Errors
    /// It is damaged, or the store fails.
    pub fn find<T: Object>(&self, name: &str) -> Result<Option<(T, u32)>, StoreError> {
        let bytes = match fs::read(self.folder.join(name)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(name)(error)),
        };
        let malformed = |error| StoreError::Malformed { name: name.to_owned(), error };
        decode(&bytes).map(Some).map_err(malformed)
    }

    /// Gets an object that should be there, with its checksum.
    ///
    /// # Errors
    /// It is missing or damaged, or the store fails.
    pub fn get<T: Object>(&self, name: &str) -> Result<(T, u32), StoreError> {
        self.find(name)?.ok_or_else(|| StoreError::Missing(name.to_owned()))
    }

    /// The names of all objects that begin with `prefix`, which ends with a slash, in order.
    ///
    /// # Errors
    /// The store fails.
    pub fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        list(&self.folder.join(prefix), prefix, &mut names).map_err(failed(prefix))?;
        names.sort();
        Ok(names)
    }

    /// Removes an object. That there is none is no error.
    ///
    /// # Errors
    /// The store fails.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(name)(error)),
            _ => Ok(()),
        }
    }
}

/// Makes a folder so that it stays.
fn make_durably(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_durably(above)?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match folder.parent().filter(|above| !above.as_os_str().is_empty()) {
        Some(above) => File::open(above)?.sync_all(),
        None => Ok(()),
    }
}

fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{prefix}{name}/"), names)?;
        } else if !name.ends_with(UNFINISHED) {
            names.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Head;
    use auriga_protocol::{Lsn, VolumeId};

    fn head(through: u64) -> Head {
        Head { volume: VolumeId(1), through: Lsn(through), read: 0 }
    }

    #[test]
    fn objects_are_put_listed_got_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("to/backup");
        let store = Store::open(&format!("file://{}", place.display())).unwrap();
        assert!(store.list("log/").unwrap().is_empty());
        for (name, through) in [("log/2", 2), ("log/1", 1), ("log/deep/3", 3), ("head", 3)] {
            store.put(name, &head(through)).unwrap();
        }
        store.put("log/1", &head(9)).unwrap();
        fs::write(place.join("log/4.unfinished"), "half of it").unwrap();
        assert_eq!(store.list("log/").unwrap(), ["log/1", "log/2", "log/deep/3"]);
        assert_eq!(store.get::<Head>("log/1").unwrap().0, head(9));
        store.remove("log/1").unwrap();
        store.remove("log/1").unwrap();
        assert!(matches!(store.get::<Head>("log/1"), Err(StoreError::Missing(name)) if name == "log/1"));
        fs::write(place.join("log/2"), "torn").unwrap();
        assert!(matches!(store.get::<Head>("log/2"), Err(StoreError::Malformed { .. })));
    }

    #[test]
    fn other_places_are_refused() {
        for place in ["s3://bucket/backup", "file://relative"] {
            assert!(matches!(Store::open(place), Err(StoreError::Place(_))), "{place}");
        }
    }
}
