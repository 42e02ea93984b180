//! The files of certificates and keys. None is ever overwritten, and a key is its owner's alone from its first byte on.

use crate::CertsError;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o700;

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> CertsError {
    let path = path.to_owned();
    move |source| match source.kind() {
        ErrorKind::AlreadyExists => CertsError::Exists(path),
        _ => CertsError::Io { path, source },
    }
}

/// Makes a directory that only its owner may enter, or leaves one that is there as it is.
///
/// # Errors
/// It can't be made.
pub fn make_directory(dir: &Path) -> Result<(), CertsError> {
    if let Some(above) = dir.parent() {
        std::fs::create_dir_all(above).map_err(failed(above))?;
    }
    // Recursive, so that one that is there is no error.
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(dir).map_err(failed(dir))
}

/// Looks whether any of the files is there, before the first is written: half a pair would be in the way of the next try.
///
/// # Errors
/// One is.
pub fn refuse_existing(paths: &[PathBuf]) -> Result<(), CertsError> {
    paths
        .iter()
        .find(|path| path.symlink_metadata().is_ok())
        .map_or(Ok(()), |path| Err(CertsError::Exists(path.clone())))
}

/// Reads a file of text.
///
/// # Errors
/// It can't be read.
pub fn read(path: &Path) -> Result<String, CertsError> {
    std::fs::read_to_string(path).map_err(failed(path))
}

/// Writes a key that must not be there yet.
///
/// # Errors
/// It is there, or can't be written.
pub fn write_key(path: &Path, pem: &str) -> Result<(), CertsError> {
    write(path, pem, KEY_MODE)
}

/// Writes a certificate that must not be there yet.
///
/// # Errors
/// It is there, or can't be written.
pub fn write_certificate(path: &Path, pem: &str) -> Result<(), CertsError> {
    write(path, pem, CERTIFICATE_MODE)
}

/// Waits until a file is on the disk. Only an authority's are worth it: a certificate can be issued again.
///
/// # Errors
/// It can't be synchronised.
pub fn sync(path: &Path) -> Result<(), CertsError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed(path))
}

fn write(path: &Path, pem: &str, mode: u32) -> Result<(), CertsError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file: File = made.map_err(failed(path))?;
    file.write_all(pem.as_bytes()).map_err(failed(path))
}
