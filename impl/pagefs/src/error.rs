//! What a file-system operation can answer instead of doing what it was asked.

use auriga_volume::VolumeError;

/// Why an operation was not done. Nothing was changed, unless [`FsError::Volume`] says that storage is at fault: then
/// what was under way may still become durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FsError {
    /// No such entry or inode (`ENOENT`).
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken (`EEXIST`).
    #[error("the file exists")]
    Exists,
    /// A directory was needed (`ENOTDIR`).
    #[error("not a directory")]
    NotDirectory,
    /// A directory was not expected (`EISDIR`).
    #[error("is a directory")]
    IsDirectory,
    /// The directory has entries (`ENOTEMPTY`).
    #[error("the directory is not empty")]
    NotEmpty,
    /// The arguments make no sense together (`EINVAL`).
    #[error("invalid argument")]
    Invalid,
    /// A write to a relation's file that neither begins a page nor goes on where the last one stopped (`EIO`). A page that is
    /// in the log by half could not be told from a whole one after a crash.
    #[error("only whole pages may be written to a relation's file")]
    HalfAPage,
    /// A name above 255 bytes, or a symbolic link's target above what a slot holds (`ENAMETOOLONG`).
    #[error("the name is too long")]
    NameTooLong,
    /// A file above the largest size (`EFBIG`).
    #[error("the file would be too large")]
    TooLarge,
    /// The configured capacity or the largest number of inodes is reached (`ENOSPC`).
    #[error("no space is left on the volume")]
    NoSpace,
    /// The volume is mounted to be read only (`EROFS`).
    #[error("the file system is read-only")]
    ReadOnly,
    /// A way of allocating that this file system does not have (`EOPNOTSUPP`).
    #[error("not supported")]
    NotSupported,
    /// No link to a directory, and no link to what has been removed (`EPERM`).
    #[error("not permitted")]
    NotPermitted,
    /// Too many links to one inode (`EMLINK`).
    #[error("too many links")]
    TooManyLinks,
    /// Nothing of this kind behind this offset (`ENXIO`).
    #[error("no data or hole there")]
    NoSuchRange,
    /// The local disk failed (`EIO`).
    #[error("the local disk failed")]
    Local,
    /// The volume failed: fenced, closed, or too slow (`EIO`).
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

impl FsError {
    /// The number that Linux has for it.
    pub fn errno(self) -> i32 {
        match self {
            FsError::NotFound => libc::ENOENT,
            FsError::Exists => libc::EEXIST,
            FsError::NotDirectory => libc::ENOTDIR,
            FsError::IsDirectory => libc::EISDIR,
            FsError::NotEmpty => libc::ENOTEMPTY,
            FsError::Invalid => libc::EINVAL,
            FsError::NameTooLong => libc::ENAMETOOLONG,
            FsError::TooLarge => libc::EFBIG,
            FsError::NoSpace => libc::ENOSPC,
            FsError::ReadOnly => libc::EROFS,
            FsError::NotSupported => libc::EOPNOTSUPP,
            FsError::NotPermitted => libc::EPERM,
            FsError::TooManyLinks => libc::EMLINK,
            FsError::NoSuchRange => libc::ENXIO,
            FsError::Volume(_) | FsError::Local | FsError::HalfAPage => libc::EIO,
        }
    }
}
