//! Requests to a storage node as such: create a segment, tell its numbers, inject a fault, stop.
//!
//! They travel in the same frames as the protocol (see [`crate::frame`]) and touch no rule of it.

use crate::connection::{ConnectionError, Receiver};
use crate::dialler::dial;
use crate::frame::{Encoded, Frame, FrameError};
use crate::handshake::{ClusterId, ConnectionRole, HandshakeError, Hello};
use crate::tls::Credentials;
use crate::traffic::MessageTraffic;
use crate::{connection, outbox};
use auriga_protocol::segment::{AcceptedLoss, SegmentStatus};
use auriga_protocol::{Charter, Held, Membership, SegmentId, Token};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// What a node is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AdminRequest {
    /// Create an empty segment. Asking again for the same changes nothing.
    CreateSegment {
        /// The segment to create.
        id: SegmentId,
        /// Its group's first membership.
        membership: Membership,
        /// What its volume is made as.
        charter: Charter,
    },
    /// Tell your numbers.
    Status,
    /// Misbehave, for rehearsals.
    Inject(Fault),
    /// Stop, gracefully.
    Stop,
    /// Tell which segments you hold, of which volumes.
    Holdings,
    /// An operator accepts that journals are lost (R-REJOIN-8). Asking again for the same changes nothing.
    AcceptLoss {
        /// The segment that is told.
        id: SegmentId,
        /// The number of its volume.
        label: u64,
        /// Whose journals.
        loss: AcceptedLoss,
    },
}

/// What it replies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AdminReply {
    /// Done.
    Done,
    /// Not done, and why, for a person to read.
    Refused(String),
    /// Numbers.
    Status(Box<NodeStatus>),
    /// Every segment that is held.
    Holdings(Vec<Held>),
}

/// Ways to misbehave. Each replaces what was set before for the same thing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fault {
    /// Delay every protocol message, by milliseconds.
    Delay {
        /// What arrives.
        incoming_ms: u32,
        /// What leaves.
        outgoing_ms: u32,
    },
    /// Drop everything from and to the nodes with these names. A partition, when both sides are told.
    Partition {
        /// Node names, as in their handshakes.
        from: Vec<String>,
    },
    /// Let every append take this much longer, in milliseconds.
    SlowDisk {
        /// Milliseconds.
        append_ms: u32,
    },
    /// Act as if the disk were nearly full.
    DiskFull(bool),
    /// Behave.
    Clear,
}

/// A node's numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// Its Availability Zone.
    pub az: String,
    /// What it does, or why it does nothing.
    pub condition: Condition,
    /// What an operator should know of it, for a person to read: what it holds that it should not.
    pub warnings: Vec<String>,
    /// Its segments.
    pub segments: Vec<(SegmentId, SegmentStatus)>,
    /// Frames and bytes by message, since it started.
    pub traffic: Vec<MessageTraffic>,
    /// Frames that were not sent because their receiver was unreachable or slow.
    pub dropped_frames: u64,
    /// Its disk.
    pub disk: DiskStatus,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// Seconds since it started.
    pub uptime_seconds: u64,
}

/// What a node does.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Condition {
    /// It serves its segments.
    #[default]
    Serving,
    /// It has no segment: its directory is new or was lost. It asks its peers what it should have.
    Blank {
        /// How many of them have answered.
        answered: usize,
        /// How many there are.
        peers: usize,
    },
    /// Its store can't be opened. It serves nothing, and says so.
    Refused {
        /// What was found.
        found: String,
        /// What to do.
        advice: String,
    },
}

/// A node's disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Bytes in files.
    pub used_bytes: u64,
    /// Pages stored.
    pub pages: u64,
    /// Appends that became durable since the start.
    pub appends: u64,
    /// Moving mean of the time from an append's start to its durability, in microseconds.
    pub append_micros_mean: u64,
    /// The longest such time since the start, in microseconds.
    pub append_micros_max: u64,
}

/// What one who asks must have: the cluster's identity, and credentials where its processes ask for certificates.
#[derive(Clone, Debug)]
pub struct Access {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Who asks.
    pub credentials: Option<Credentials>,
}

/// In the clear.
impl From<ClusterId> for Access {
    fn from(cluster: ClusterId) -> Access {
        Access { cluster, credentials: None }
    }
}

impl From<&Access> for Access {
    fn from(access: &Access) -> Access {
        access.clone()
    }
}

/// Why an admin request has no reply.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No connection.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The connection ended first.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The request is too large.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No reply in time.
    #[error("no reply within {0:?}")]
    TimedOut(Duration),
}

/// Asks the node at `address` one thing, over a connection of its own.
///
/// # Errors
/// When there is no reply within `patience`, and why.
pub async fn ask(
    address: SocketAddr,
    access: impl Into<Access>,
    request: &AdminRequest,
    patience: Duration,
) -> Result<AdminReply, AdminError> {
    let asking = ask_patiently(address, access.into(), request);
    timeout(patience, asking).await.unwrap_or(Err(AdminError::TimedOut(patience)))
}

/// How long a node may take to tell what it holds.
const HOLDINGS_PATIENCE: Duration = Duration::from_secs(2);

/// Asks one process what it holds.
///
/// # Errors
/// It does not answer, or refuses, and why, for a person to read.
pub async fn holdings(address: SocketAddr, access: impl Into<Access>) -> Result<Vec<Held>, String> {
    match ask(address, access, &AdminRequest::Holdings, HOLDINGS_PATIENCE).await {
        Ok(AdminReply::Holdings(held)) => Ok(held),
        Ok(AdminReply::Refused(why)) => Err(why),
        Ok(other) => Err(format!("it answered something else: {other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

async fn ask_patiently(address: SocketAddr, access: Access, request: &AdminRequest) -> Result<AdminReply, AdminError> {
    let credentials = access.credentials.as_ref();
    let name = credentials.map_or("admin", |credentials| &credentials.own().name).to_owned();
    let own = Hello { cluster: access.cluster, role: ConnectionRole::Admin, name };
    let request = Encoded::request(Token(0), request)?;
    let (stream, peer) = dial(address, &own, credentials).await?;
    let outbox = outbox::Outbox::new(Arc::default(), outbox::OUTBOX_BYTES_MAX);
    let (replied, reply) = oneshot::channel();
    let mut receiver = ReplyReceiver(Some(replied));
    let asking = async {
        // The connection is up before its task's first poll ends.
        while !outbox.push(&request, None) {
            tokio::task::yield_now().await;
        }
        outbox.flush();
        reply.await
    };
    tokio::select! {
        Ok(reply) = asking => Ok(reply),
        reason = connection::run(stream, &peer.name, None, &outbox, &mut receiver) => Err(reason.into()),
    }
}

struct ReplyReceiver(Option<oneshot::Sender<AdminReply>>);

impl Receiver for ReplyReceiver {
    async fn receive(&mut self, frame: Frame, _size: usize) -> Result<(), ConnectionError> {
        match (frame, self.0.take()) {
            (Frame::Reply(_, reply), Some(replied)) => {
                let _ = replied.send(*reply);
                Ok(())
            }
            _ => Err(ConnectionError::OutOfPlace("not the one reply that was asked for")),
        }
    }
}
