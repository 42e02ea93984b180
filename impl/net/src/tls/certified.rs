//! What a certificate says of the process that holds its key.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use webpki::EndEntityCert;

/// Most volumes in one certificate.
pub const VOLUMES_MAX: usize = 64;

const NAME: &str = "auriga://name/";
const ROLE: &str = "auriga://role/";
const VOLUME: &str = "auriga://volume/";

/// What a process is there for. What each role may do is decided by the process that is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CertifiedRole {
    /// A storage process.
    Storage,
    /// An instance: it writes and reads the volumes that its certificate names.
    Instance,
    /// A program that creates, starts, stops and replaces processes.
    Control,
    /// A region's process: it writes and reads its region's volume, and speaks to other regions.
    Replication,
    /// A person or a dashboard that looks at the cluster.
    Admin,
}

impl CertifiedRole {
    /// Every role.
    pub const ALL: [CertifiedRole; 5] = [
        CertifiedRole::Storage,
        CertifiedRole::Instance,
        CertifiedRole::Control,
        CertifiedRole::Replication,
        CertifiedRole::Admin,
    ];

    /// The role as it is written in a certificate and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            CertifiedRole::Storage => "storage",
            CertifiedRole::Instance => "instance",
            CertifiedRole::Control => "control",
            CertifiedRole::Replication => "replication",
            CertifiedRole::Admin => "admin",
        }
    }

    /// Whether such a process writes and reads volumes: those that its certificate names, and no others.
    pub fn uses_volumes(self) -> bool {
        matches!(self, CertifiedRole::Instance | CertifiedRole::Replication)
    }
}

impl fmt::Display for CertifiedRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CertifiedRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = CertifiedRole::ALL.into_iter().find(|role| role.name() == text);
        known.ok_or_else(|| {
            let names = CertifiedRole::ALL.map(CertifiedRole::name).join(", ");
            format!("there is no role {text:?}; the roles are {names}")
        })
    }
}

/// What a verified certificate says. It travels as URIs among the certificate's alternative names, because a URI is the one
/// kind of alternative name that may hold any words, and because no address is in it: a process may move.
///
/// A volume is named by its *number*, which people choose and know before the volume is made. Its identity is chosen at
/// random when it is made, which is after its instance got a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certified {
    /// The process's name, as in its configuration.
    pub name: String,
    /// What it is there for.
    pub role: CertifiedRole,
    /// The numbers of the volumes that it may touch; none where its role uses none.
    pub volumes: BTreeSet<u64>,
}

/// Why a sound certificate is not one of a process of Auriga.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotCertified {
    /// It can't be read.
    #[error("the certificate can't be read: {0}")]
    Unreadable(String),
    /// A name or a role is missing, or there are two.
    #[error("the certificate names {0} {1}s; there must be one")]
    Count(usize, &'static str),
    /// An unknown role.
    #[error("the certificate is for another build: {0}")]
    Role(String),
    /// Not a number.
    #[error("the certificate names a volume that is not a number: {0:?}")]
    Volume(String),
    /// Too many volumes.
    #[error("the certificate names {0} volumes; {VOLUMES_MAX} are the most")]
    Volumes(usize),
}

impl Certified {
    /// The URIs that say this.
    pub fn uris(&self) -> Vec<String> {
        let own = [format!("{NAME}{}", self.name), format!("{ROLE}{}", self.role)];
        own.into_iter().chain(self.volumes.iter().map(|volume| format!("{VOLUME}{volume}"))).collect()
    }

    /// Reads what a certificate says. Whether it is to be believed is for the caller to have verified.
    ///
    /// # Errors
    /// It says nothing of the kind, or contradicts itself.
    pub fn read(certificate: &EndEntityCert<'_>) -> Result<Certified, NotCertified> {
        Certified::from_uris(certificate.valid_uri_names())
    }

    /// Reads what a list of URIs says. Others than ours are skipped.
    ///
    /// # Errors
    /// They say nothing of the kind, or contradict each other.
    pub fn from_uris<'a>(uris: impl Iterator<Item = &'a str>) -> Result<Certified, NotCertified> {
        let (mut names, mut roles, mut volumes) = (Vec::new(), Vec::new(), BTreeSet::new());
        for uri in uris {
            if let Some(name) = uri.strip_prefix(NAME) {
                names.push(name.to_owned());
            } else if let Some(role) = uri.strip_prefix(ROLE) {
                roles.push(role.parse().map_err(NotCertified::Role)?);
            } else if let Some(volume) = uri.strip_prefix(VOLUME) {
                volumes.insert(volume.parse().map_err(|_| NotCertified::Volume(volume.to_owned()))?);
            }
        }
        if volumes.len() > VOLUMES_MAX {
            return Err(NotCertified::Volumes(volumes.len()));
        }
        Ok(Certified { name: the_one(names, "name")?, role: the_one(roles, "role")?, volumes })
    }
}

fn the_one<T>(mut all: Vec<T>, what: &'static str) -> Result<T, NotCertified> {
    match (all.pop(), all.len()) {
        (Some(one), 0) => Ok(one),
        (one, others) => Err(NotCertified::Count(others + usize::from(one.is_some()), what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_other_uris_are_skipped() {
        let said =
            Certified { name: "writer".into(), role: CertifiedRole::Instance, volumes: BTreeSet::from([1, u64::MAX]) };
        let uris = said.uris();
        assert_eq!(uris[..2], ["auriga://name/writer", "auriga://role/instance"]);
        let others = ["spiffe://elsewhere/x", "auriga://colour/blue"];
        assert_eq!(Certified::from_uris(uris.iter().map(String::as_str).chain(others)), Ok(said));
    }

    #[test]
    fn what_is_missing_doubled_or_unknown_is_named() {
        let read = |uris: &[&str]| Certified::from_uris(uris.iter().copied()).expect_err("refused").to_string();
        assert_eq!(read(&[]), "the certificate names 0 names; there must be one");
        assert!(read(&["auriga://name/a", "auriga://role/admin", "auriga://role/storage"]).contains("2 roles"));
        assert!(read(&["auriga://name/a", "auriga://role/king"]).contains("there is no role \"king\""));
        assert!(read(&["auriga://name/a", "auriga://role/admin", "auriga://volume/x"]).contains("not a number"));
        let many: Vec<String> = (0..=VOLUMES_MAX).map(|volume| format!("auriga://volume/{volume}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(read(&many).contains("65 volumes"));
    }
}
