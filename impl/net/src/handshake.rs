//! The handshake: who speaks, which versions, of which cluster. Before it, no frame is read.
//!
//! ```text
//! hello   magic "AURIGA" │ lowest u16 │ highest u16 │ length u16 │ cluster u128 │ role u8 │ name length u8 │ name (UTF-8)
//! answer  status u8, then, when it is 0, the acceptor's own hello; when it is 1, its lowest u16 and highest u16
//! ```
//! Integers are little-endian. The dialler speaks first. A dialler that sends another magic gets no answer. `length` counts
//! what follows it: bytes after the name are a later build's, and are skipped.
//!
//! **Versions.** Each side names the lowest and the highest protocol version that it speaks. The connection has the highest
//! that both speak. Both compute it from the two hellos, so it need not be sent.
//!
//! The cluster's identity keeps clusters apart that share a network by mistake. It is no secret and no authentication:
//! that is what [`crate::tls`] is for.

use crate::tls::NotCertified;
use std::fmt;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// First bytes of every connection.
pub const MAGIC: [u8; 6] = *b"AURIGA";

/// The highest version that this build speaks. Raised whenever a frame of one side could be misunderstood by the other.
pub const PROTOCOL_VERSION: u16 = 9;

/// The lowest version that this build speaks.
pub const PROTOCOL_LOWEST: u16 = 9;

/// The first version whose hello names a range. Those before name one, where this one has its lowest.
const FIRST_WITH_RANGE: u16 = 6;

/// Most bytes of a hello after its length.
const HELLO_MAX: usize = 1024;

/// First byte of a TLS alert, which is what a process with certificates sends to one that speaks in the clear.
const TLS_ALERT: u8 = 21;

/// First byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 22;

/// Most bytes of a node's name.
pub const NAME_MAX: usize = 63;

/// What identifies a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct ClusterId(pub u128);

impl std::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ConnectionRole {
    /// A storage node: gossip, hydration, healing.
    Storage = 0,
    /// A writer's records and their acknowledgements.
    WriterLog = 1,
    /// A writer's page reads: apart from the log, so that pages never stand in an acknowledgement's way. A reader's, too.
    WriterReads = 2,
    /// Requests to the node as such.
    Admin = 3,
    /// A reader that follows a writer.
    Reader = 4,
    /// A region of a global database, or a controller of one, to a region.
    Region = 5,
}

/// The versions that one side speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    /// The lowest.
    pub lowest: u16,
    /// The highest.
    pub highest: u16,
}

impl Versions {
    /// Those of this build.
    pub const OWN: Versions = Versions { lowest: PROTOCOL_LOWEST, highest: PROTOCOL_VERSION };

    /// The highest that both speak.
    pub fn common(self, other: Versions) -> Option<u16> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.highest - self.lowest {
            0 => write!(f, "protocol version {}", self.highest),
            _ => write!(f, "protocol versions {} to {}", self.lowest, self.highest),
        }
    }
}

/// What each side says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Which cluster it belongs to.
    pub cluster: ClusterId,
    /// What the connection is for.
    pub role: ConnectionRole,
    /// Its node's name, 1 to [`NAME_MAX`] bytes.
    pub name: String,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Not one of ours.
    #[error("the other side does not speak this protocol: it began with {0:02x?}")]
    Foreign([u8; 6]),
    /// One of ours, of another time.
    #[error("the other side speaks {theirs}, this one {own}")]
    Version {
        /// What the other side speaks.
        theirs: Versions,
        /// What this side speaks.
        own: Versions,
    },
    /// One of ours that has certificates, where this side has none.
    #[error("the other side asks for a certificate (TLS), and this one has none: give it [tls]")]
    WantsTls,
    /// The other way round.
    #[error("the other side speaks in the clear, and this one asks for a certificate (TLS): give it [tls]")]
    Plaintext,
    /// No agreement on who speaks.
    #[error("TLS: {0}")]
    Tls(String),
    /// A certificate that is good, and not one of ours.
    #[error(transparent)]
    NotCertified(#[from] NotCertified),
    /// A certificate of another process.
    #[error("the other side says that it is {said:?}, and its certificate that it is {certified:?}")]
    Name {
        /// As it says.
        said: String,
        /// As its certificate says.
        certified: String,
    },
    /// One of ours, of another cluster.
    #[error("the other side belongs to cluster {0}")]
    Cluster(ClusterId),
    /// A field makes no sense.
    #[error("the hello is malformed: {0}")]
    Malformed(&'static str),
    /// The acceptor said no.
    #[error("the other side refused: {0}")]
    Refused(&'static str),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

impl HandshakeError {
    /// What went wrong while the two sides agreed on who they are.
    pub(crate) fn tls(error: io::Error) -> HandshakeError {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
                HandshakeError::Plaintext
            }
            Some(cause) => HandshakeError::Tls(explained(cause)),
            None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                let why = "the other side closed the connection: does it have certificates ([tls])?";
                HandshakeError::Tls(why.to_owned())
            }
            None => HandshakeError::Io(error),
        }
    }

    /// The same of what went wrong after that: a peer refuses a certificate only then.
    pub(crate) fn within_tls(self) -> HandshakeError {
        match self {
            HandshakeError::Io(error) if error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()) => {
                HandshakeError::tls(error)
            }
            other => other,
        }
    }
}

/// What a certificate's refusal means, for a person.
fn explained(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error};
    let why = match error {
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "the other side's certificate has expired"
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "the other side's certificate is not valid yet: are the clocks right?"
        }
        Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "the other side's certificate was not signed by our certificate authority"
        }
        Error::NoCertificatesPresented => "the other side showed no certificate",
        Error::AlertReceived(Alert::CertificateExpired) => "the other side says that our certificate has expired",
        Error::AlertReceived(Alert::UnknownCA | Alert::DecryptError) => {
            "the other side says that our certificate was not signed by its certificate authority"
        }
        Error::InvalidCertificate(Bad::Other(other)) => {
            return format!("the other side showed what is no good here: {}", other.0);
        }
        other => return other.to_string(),
    };
    why.to_owned()
}

const WELCOME: u8 = 0;
const OTHER_VERSION: u8 = 1;
const OTHER_CLUSTER: u8 = 2;

impl Hello {
    fn encode(&self, versions: Versions) -> Vec<u8> {
        assert!((1..=NAME_MAX).contains(&self.name.len()), "a node's name has 1 to {NAME_MAX} bytes: {:?}", self.name);
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&versions.lowest.to_le_bytes());
        out.extend_from_slice(&versions.highest.to_le_bytes());
        out.extend_from_slice(&((16 + 1 + 1 + self.name.len()) as u16).to_le_bytes());
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        out.push(self.role as u8);
        out.push(self.name.len() as u8);
        out.extend_from_slice(self.name.as_bytes());
        out
    }

    /// Reads a hello; answers it with the version that it shares with `own`.
    async fn read(stream: &mut (impl AsyncRead + Unpin), own: Versions) -> Result<(Hello, u16), HandshakeError> {
        let mut magic = [0; 6];
        stream.read_exact(&mut magic).await?;
        if magic[0] == TLS_HANDSHAKE {
            return Err(HandshakeError::WantsTls);
        }
        if magic != MAGIC {
            return Err(HandshakeError::Foreign(magic));
        }
        let lowest = stream.read_u16_le().await?;
        let highest = if lowest < FIRST_WITH_RANGE { lowest } else { stream.read_u16_le().await? };
        if highest < lowest {
            return Err(HandshakeError::Malformed("its lowest version is above its highest"));
        }
        let theirs = Versions { lowest, highest };
        let version = own.common(theirs).ok_or(HandshakeError::Version { theirs, own })?;
        let length = usize::from(stream.read_u16_le().await?);
        if length > HELLO_MAX {
            return Err(HandshakeError::Malformed("a hello that is too long"));
        }
        let mut fields = vec![0; length];
        stream.read_exact(&mut fields).await?;
        Ok((Hello::decode(&fields)?, version))
    }

    fn decode(fields: &[u8]) -> Result<Hello, HandshakeError> {
        let short = HandshakeError::Malformed("a hello that is too short");
        let Some((cluster, [role, length, rest @ ..])) = fields.split_first_chunk() else { return Err(short) };
        let cluster = ClusterId(u128::from_le_bytes(*cluster));
        let role = match role {
            0 => ConnectionRole::Storage,
            1 => ConnectionRole::WriterLog,
            2 => ConnectionRole::WriterReads,
            3 => ConnectionRole::Admin,
            4 => ConnectionRole::Reader,
            5 => ConnectionRole::Region,
            _ => return Err(HandshakeError::Malformed("an unknown role")),
        };
        // What is after the name is a later build's.
        let name = rest.get(..usize::from(*length)).ok_or(short)?;
        if !(1..=NAME_MAX).contains(&name.len()) {
            return Err(HandshakeError::Malformed("a name that is empty or too long"));
        }
        let name = String::from_utf8(name.to_vec());
        let name = name.map_err(|_| HandshakeError::Malformed("a name that is not UTF-8"))?;
        // Names stand in logs and tables: one must not begin a line of its own there, or colour it.
        if name.chars().any(char::is_control) {
            return Err(HandshakeError::Malformed("a name with control characters"));
        }
        Ok(Hello { cluster, role, name })
    }
}

/// The accepting side. Answers what the dialler said of itself.
///
/// # Errors
/// When there is no connection, and why; the dialler has been told where it can understand it.
pub async fn accept(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), own: &Hello) -> Result<Hello, HandshakeError> {
    accept_as(stream, own, Versions::OWN).await.map(|(theirs, _)| theirs)
}

/// The same for a build that speaks these versions. Answers the version of the connection, too.
///
/// # Errors
/// As [`accept`].
pub async fn accept_as(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    own: &Hello,
    versions: Versions,
) -> Result<(Hello, u16), HandshakeError> {
    let theirs = Hello::read(stream, versions).await;
    let answer = match &theirs {
        Ok((theirs, _)) if theirs.cluster == own.cluster => [vec![WELCOME], own.encode(versions)].concat(),
        Ok(_) => vec![OTHER_CLUSTER],
        Err(HandshakeError::Version { .. }) => {
            let Versions { lowest, highest } = versions;
            [vec![OTHER_VERSION], lowest.to_le_bytes().to_vec(), highest.to_le_bytes().to_vec()].concat()
        }
        // To one that wanted TLS here, this side is the one that speaks in the clear.
        Err(_) => return theirs,
    };
    stream.write_all(&answer).await?;
    stream.flush().await?;
    let (theirs, version) = theirs?;
    if theirs.cluster == own.cluster { Ok((theirs, version)) } else { Err(HandshakeError::Cluster(theirs.cluster)) }
}

/// The dialling side. Answers what the acceptor said of itself.
///
/// # Errors
/// When there is no connection, and why.
pub async fn dial(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), own: &Hello) -> Result<Hello, HandshakeError> {
    dial_as(stream, own, Versions::OWN).await.map(|(theirs, _)| theirs)
}

/// The same for a build that speaks these versions. Answers the version of the connection, too.
///
/// # Errors
/// As [`dial`].
pub async fn dial_as(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    own: &Hello,
    versions: Versions,
) -> Result<(Hello, u16), HandshakeError> {
    stream.write_all(&own.encode(versions)).await?;
    stream.flush().await?;
    match stream.read_u8().await? {
        WELCOME => {}
        OTHER_VERSION => {
            // Builds before the first with a range end here.
            let (Ok(lowest), Ok(highest)) = (stream.read_u16_le().await, stream.read_u16_le().await) else {
                return Err(HandshakeError::Refused("it speaks another protocol version"));
            };
            if highest < lowest {
                return Err(HandshakeError::Malformed("its lowest version is above its highest"));
            }
            return Err(HandshakeError::Version { theirs: Versions { lowest, highest }, own: versions });
        }
        OTHER_CLUSTER => return Err(HandshakeError::Refused("it belongs to another cluster")),
        TLS_ALERT => return Err(HandshakeError::WantsTls),
        _ => return Err(HandshakeError::Malformed("an unknown status")),
    }
    let (theirs, version) = Hello::read(stream, versions).await?;
    if theirs.cluster == own.cluster { Ok((theirs, version)) } else { Err(HandshakeError::Cluster(theirs.cluster)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(cluster: u128) -> Hello {
        Hello { cluster: ClusterId(cluster), role: ConnectionRole::WriterLog, name: "instance-1".into() }
    }

    #[tokio::test]
    async fn both_learn_who_the_other_is() {
        let (mut here, mut there) = tokio::io::duplex(256);
        let acceptor = Hello { role: ConnectionRole::Storage, name: "storage-a1".into(), ..hello(5) };
        let (ours, dialler) = (acceptor.clone(), hello(5));
        let accepting = tokio::spawn(async move { accept(&mut there, &ours).await });
        assert_eq!(dial(&mut here, &dialler).await.expect("welcome"), acceptor);
        assert_eq!(accepting.await.expect("ran").expect("sound"), dialler);
    }

    #[tokio::test]
    async fn another_cluster_is_told_so() {
        let (mut here, mut there) = tokio::io::duplex(256);
        let accepting = tokio::spawn(async move { accept(&mut there, &hello(6)).await });
        assert!(matches!(dial(&mut here, &hello(5)).await, Err(HandshakeError::Refused(_))));
        assert!(matches!(accepting.await.expect("ran"), Err(HandshakeError::Cluster(ClusterId(5)))));
    }

    async fn accepted(bytes: Vec<u8>) -> Result<Hello, HandshakeError> {
        let (mut here, mut there) = tokio::io::duplex(256);
        here.write_all(&bytes).await.expect("fits");
        accept(&mut there, &hello(5)).await
    }

    #[tokio::test]
    async fn foreign_old_and_malformed_hellos_are_named() {
        assert!(matches!(accepted(b"GET / HTTP/1.1\r\n".to_vec()).await, Err(HandshakeError::Foreign(_))));
        assert!(matches!(accepted(vec![22, 3, 1, 2, 0, 1]).await, Err(HandshakeError::WantsTls)));
        let sound = hello(5).encode(Versions::OWN);
        let mut unknown_role = sound.clone();
        unknown_role[28] = 200;
        assert!(matches!(accepted(unknown_role).await, Err(HandshakeError::Malformed(_))));
        let mut a_line = sound.clone();
        a_line[30] = b'\n';
        assert!(matches!(accepted(a_line).await, Err(HandshakeError::Malformed(_))));
        let mut no_text = sound.clone();
        no_text[30] = 0xff;
        assert!(matches!(accepted(no_text).await, Err(HandshakeError::Malformed(_))));
        let mut too_long = sound.clone();
        too_long[10..12].copy_from_slice(&2000u16.to_le_bytes());
        assert!(matches!(accepted(too_long).await, Err(HandshakeError::Malformed(_))));
        let mut too_short = sound;
        too_short[10] -= 1;
        assert!(matches!(accepted(too_short).await, Err(HandshakeError::Malformed(_))));
    }

    /// What both sides of a handshake between builds of these versions make of it.
    async fn met(
        dialler: Versions,
        acceptor: Versions,
    ) -> (Result<(Hello, u16), HandshakeError>, Result<(Hello, u16), HandshakeError>) {
        let (mut here, mut there) = tokio::io::duplex(256);
        let accepting = tokio::spawn(async move { accept_as(&mut there, &hello(5), acceptor).await });
        (dial_as(&mut here, &hello(5), dialler).await, accepting.await.expect("ran"))
    }

    #[tokio::test]
    async fn builds_of_two_versions_speak_the_highest_that_both_know() {
        let (old, new) = (Versions { lowest: 6, highest: 6 }, Versions { lowest: 6, highest: 7 });
        for (dialler, acceptor, expected) in [(old, new, 6), (new, old, 6), (new, new, 7), (old, old, 6)] {
            let (dialled, accepted) = met(dialler, acceptor).await;
            assert_eq!((dialled.expect("welcome").1, accepted.expect("sound").1), (expected, expected));
        }
    }

    #[tokio::test]
    async fn builds_without_a_common_version_name_both() {
        let (old, new) = (Versions { lowest: 6, highest: 7 }, Versions { lowest: 8, highest: 9 });
        let (dialled, accepted) = met(old, new).await;
        let (dialled, accepted) =
            (dialled.expect_err("refused").to_string(), accepted.expect_err("refused").to_string());
        assert_eq!(dialled, "the other side speaks protocol versions 8 to 9, this one protocol versions 6 to 7");
        assert_eq!(accepted, "the other side speaks protocol versions 6 to 7, this one protocol versions 8 to 9");
    }

    /// The builds before the first with a range named one version, followed by the cluster.
    #[tokio::test]
    async fn a_build_before_ranges_is_refused_by_name_and_understands_that() {
        let (mut here, mut there) = tokio::io::duplex(256);
        let old = [&MAGIC[..], &5u16.to_le_bytes(), &5u128.to_le_bytes(), &[0, 1, b'x']].concat();
        here.write_all(&old).await.expect("fits");
        let theirs = Versions { lowest: 5, highest: 5 };
        let refused = accept(&mut there, &hello(5)).await.expect_err("refused");
        assert!(matches!(refused, HandshakeError::Version { theirs: found, .. } if found == theirs), "{refused}");
        assert_eq!(here.read_u8().await.expect("told"), OTHER_VERSION);
    }

    #[tokio::test]
    async fn what_a_later_build_adds_to_its_hello_is_skipped() {
        let mut later = hello(5).encode(Versions::OWN);
        later[10] += 3;
        later.extend_from_slice(b"new");
        assert_eq!(accepted(later).await.expect("welcome"), hello(5));
    }
}
