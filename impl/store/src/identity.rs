//! Whose directory this is. A node must not start on the disk of another one: its segments would count twice.

use crate::disk::Directory;
use crate::error::{IoContext, IoFailure, OpenError};
use crate::twin;
use serde::{Deserialize, Serialize};
use std::io;

const NAME: &str = "node";

/// The format of the whole directory: a change of any file's format, after which another build could misread it, is also a
/// new magic here. The last character is the version. Journals of `AUN1` name volume epochs by number alone; truncation
/// lists of `AUN2` don't say what they forgot.
const MAGIC: [u8; 4] = *b"AUN3";

/// How the magic of every version begins.
const FAMILY: &[u8] = b"AUN";

/// The content of the identity file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub cluster: u128,
    pub node: String,
    /// Random. In every batch of the journal, so that bytes that a user has put into a page can't pass for a batch.
    pub journal: u64,
}

/// Reads the identity file; `None` when the directory is new.
///
/// # Errors
/// It is another node's, or it is gone or unreadable in a directory that has segments.
pub(crate) fn verify(disk: &dyn Directory, cluster: u128, node: &str) -> Result<Option<Identity>, OpenError> {
    let found = match disk.open(NAME) {
        Ok(file) => {
            let doing = || "read the identity file".into();
            let magic = twin::magic_of(&*file).context(doing)?;
            if let Some(magic) = magic.filter(|magic| magic.starts_with(FAMILY) && *magic != MAGIC) {
                let [found, own] = [magic, MAGIC].map(|magic| magic.escape_ascii().to_string());
                return Err(OpenError::OtherFormat {
                    age: if magic < MAGIC { "earlier" } else { "later" },
                    found,
                    own,
                });
            }
            twin::read_and_repair(&*file, MAGIC).context(doing)?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if has_segments(disk)? { Err(OpenError::IdentityLost) } else { Ok(None) };
        }
        Err(source) => return Err(IoFailure { doing: "open the identity file".into(), source }.into()),
    };
    let identity = found.and_then(|(_, value)| postcard::from_bytes::<Identity>(&value).ok());
    let identity = identity.ok_or(OpenError::IdentityLost)?;
    if identity.cluster != cluster || identity.node != node {
        return Err(OpenError::WrongIdentity {
            found: identity.node,
            found_cluster: identity.cluster,
            wanted: node.to_owned(),
            wanted_cluster: cluster,
        });
    }
    Ok(Some(identity))
}

fn has_segments(disk: &dyn Directory) -> Result<bool, IoFailure> {
    match disk.list(crate::pages::DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        names => Ok(!names.context(|| "list the page files".into())?.is_empty()),
    }
}

/// An identity with a fresh journal number.
///
/// # Errors
/// No randomness.
pub(crate) fn fresh(cluster: u128, node: &str) -> Result<Identity, IoFailure> {
    let mut random = [0; 8];
    let source = std::fs::File::open("/dev/urandom");
    source
        .and_then(|mut source| io::Read::read_exact(&mut source, &mut random))
        .context(|| "read /dev/urandom".into())?;
    Ok(Identity { cluster, node: node.to_owned(), journal: u64::from_le_bytes(random) })
}

/// Writes the identity file, last of all in a new directory: where it is, the rest is complete.
///
/// # Errors
/// Returns the operating system's error.
pub(crate) fn write(disk: &dyn Directory, identity: &Identity) -> Result<(), IoFailure> {
    const NEW: &str = "node.new";
    let value = postcard::to_allocvec(identity).expect("plain data has an encoding");
    let written = || {
        twin::write_both(&*disk.create(NEW)?, MAGIC, 1, &value)?;
        disk.rename(NEW, NAME)?;
        disk.sync_dir("")
    };
    written().context(|| "write the identity file".into())
}
