//! The handshake: who speaks, which version, of which cluster. Before it, no frame is read.
//!
//! ```text
//! hello   magic "AURIGA" │ version u16 │ cluster u128 │ role u8 │ name length u8 │ name (UTF-8)
//! answer  status u8, then, when it is 0, the acceptor's own hello
//! ```
//! Integers are little-endian. The dialler speaks first. A dialler that sends another magic gets no answer.
//!
//! The cluster's identity keeps clusters apart that share a network by mistake. It is no secret and no authentication:
//! a peer that can reach the port and knows the identity is believed.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// First bytes of every connection.
pub const MAGIC: [u8; 6] = *b"AURIGA";

/// Raised whenever a frame of one side could be misunderstood by the other.
pub const PROTOCOL_VERSION: u16 = 5;

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
pub enum Role {
    /// A storage node: gossip, hydration, healing.
    Storage = 0,
    /// A writer's records and their acknowledgements.
    WriterLog = 1,
    /// A writer's page reads: apart from the log, so that pages never stand in an acknowledgement's way.
    WriterReads = 2,
    /// Requests to the node as such.
    Admin = 3,
}

/// What each side says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Which cluster it belongs to.
    pub cluster: ClusterId,
    /// What the connection is for.
    pub role: Role,
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
    #[error("the other side speaks protocol version {0}, this one {PROTOCOL_VERSION}")]
    Version(u16),
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

const WELCOME: u8 = 0;
const OTHER_VERSION: u8 = 1;
const OTHER_CLUSTER: u8 = 2;

impl Hello {
    fn encode(&self) -> Vec<u8> {
        assert!((1..=NAME_MAX).contains(&self.name.len()), "a node's name has 1 to {NAME_MAX} bytes: {:?}", self.name);
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&PROTOCOL_VERSION.to_le_bytes());
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        out.push(self.role as u8);
        out.push(self.name.len() as u8);
        out.extend_from_slice(self.name.as_bytes());
        out
    }

    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Hello, HandshakeError> {
        let mut magic = [0; 6];
        stream.read_exact(&mut magic).await?;
        if magic != MAGIC {
            return Err(HandshakeError::Foreign(magic));
        }
        let version = stream.read_u16_le().await?;
        if version != PROTOCOL_VERSION {
            return Err(HandshakeError::Version(version));
        }
        let cluster = ClusterId(stream.read_u128_le().await?);
        let role = match stream.read_u8().await? {
            0 => Role::Storage,
            1 => Role::WriterLog,
            2 => Role::WriterReads,
            3 => Role::Admin,
            _ => return Err(HandshakeError::Malformed("an unknown role")),
        };
        let mut name = vec![0; stream.read_u8().await?.into()];
        if !(1..=NAME_MAX).contains(&name.len()) {
            return Err(HandshakeError::Malformed("a name that is empty or too long"));
        }
        stream.read_exact(&mut name).await?;
        let name = String::from_utf8(name).map_err(|_| HandshakeError::Malformed("a name that is not UTF-8"))?;
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
    let theirs = Hello::read(stream).await;
    let status = match &theirs {
        Ok(theirs) if theirs.cluster == own.cluster => WELCOME,
        Ok(_) => OTHER_CLUSTER,
        Err(HandshakeError::Version(_)) => OTHER_VERSION,
        Err(_) => return theirs,
    };
    let mut answer = vec![status];
    if status == WELCOME {
        answer.extend(own.encode());
    }
    stream.write_all(&answer).await?;
    let theirs = theirs?;
    if theirs.cluster == own.cluster { Ok(theirs) } else { Err(HandshakeError::Cluster(theirs.cluster)) }
}

/// The dialling side. Answers what the acceptor said of itself.
///
/// # Errors
/// When there is no connection, and why.
pub async fn dial(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), own: &Hello) -> Result<Hello, HandshakeError> {
    stream.write_all(&own.encode()).await?;
    match stream.read_u8().await? {
        WELCOME => {}
        OTHER_VERSION => return Err(HandshakeError::Refused("it speaks another protocol version")),
        OTHER_CLUSTER => return Err(HandshakeError::Refused("it belongs to another cluster")),
        _ => return Err(HandshakeError::Malformed("an unknown status")),
    }
    let theirs = Hello::read(stream).await?;
    if theirs.cluster == own.cluster { Ok(theirs) } else { Err(HandshakeError::Cluster(theirs.cluster)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(cluster: u128) -> Hello {
        Hello { cluster: ClusterId(cluster), role: Role::WriterLog, name: "instance-1".into() }
    }

    #[tokio::test]
    async fn both_learn_who_the_other_is() {
        let (mut here, mut there) = tokio::io::duplex(256);
        let acceptor = Hello { role: Role::Storage, name: "storage-a1".into(), ..hello(5) };
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
        let sound = hello(5).encode();
        let mut other_version = sound.clone();
        other_version[6] = 9;
        assert!(matches!(accepted(other_version).await, Err(HandshakeError::Version(9))));
        let mut unknown_role = sound.clone();
        unknown_role[24] = 200;
        assert!(matches!(accepted(unknown_role).await, Err(HandshakeError::Malformed(_))));
        let mut a_line = sound.clone();
        a_line[26] = b'\n';
        assert!(matches!(accepted(a_line).await, Err(HandshakeError::Malformed(_))));
        let mut no_text = sound.clone();
        no_text[26] = 0xff;
        assert!(matches!(accepted(no_text).await, Err(HandshakeError::Malformed(_))));
    }
}
