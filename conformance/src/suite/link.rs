//! One writer's two connections to one storage node, with waits for an answer that must come, or must not.

use auriga_net::admin::{AdminReply, AdminRequest, ask};
use auriga_net::frame::take_frame;
use auriga_net::handshake::{ClusterId, ConnectionRole, Hello, dial};
use auriga_net::{Encoded, Frame};
use auriga_page::Delta;
use auriga_protocol::{
    Charter, MemberSet, Membership, Message, Party, PgId, QuorumSet, Refusal, SegmentId, VolumeId, WriterConfig,
    WriterId,
};
use bytes::BytesMut;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for an answer that must come.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer that must not come is waited for.
const SILENCE: Duration = Duration::from_millis(300);

/// Whatever goes wrong, in words.
pub type Found<T> = Result<T, String>;

fn said(what: impl std::fmt::Display) -> String {
    what.to_string()
}

/// A fresh segment on a node, and the writers that talk to it.
pub struct Node {
    address: SocketAddr,
    cluster: ClusterId,
    segment: SegmentId,
}

impl Node {
    /// Creates a segment of a volume that no other client uses.
    pub async fn with_fresh_segment(address: SocketAddr, cluster: ClusterId) -> Found<Node> {
        let volume = VolumeId(fastrand::u64(1 << 32..));
        let segment = SegmentId { volume, pg: PgId(0), member: auriga_protocol::MemberId(0) };
        // A group of one: with five more, they would have to be there for it to be founded (R-REJOIN-7).
        let membership = Membership::initial(QuorumSet::steady(MemberSet::first(1), 1, 1));
        let charter = Charter { label: volume.0, shape: WriterConfig::default().shape() };
        let request = AdminRequest::CreateSegment { id: segment, membership, charter };
        match ask(address, cluster, &request, PATIENCE).await.map_err(said)? {
            AdminReply::Done => Ok(Node { address, cluster, segment }),
            other => Err(format!("asked to create a segment, the node replied {other:?}")),
        }
    }

    /// Connects as a writer.
    pub async fn writer(&self, id: u64) -> Found<Link> {
        let party = Party::Writer(self.segment.volume, WriterId(id));
        let name = format!("conformance-{id}");
        let log = Stream::connect(self, ConnectionRole::WriterLog, &name).await?;
        let reads = Stream::connect(self, ConnectionRole::WriterReads, &name).await?;
        Ok(Link { id: WriterId(id), party, segment: Party::Segment(self.segment), log, reads })
    }
}

struct Stream {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Stream {
    async fn connect(node: &Node, role: ConnectionRole, name: &str) -> Found<Stream> {
        let connecting = timeout(PATIENCE, TcpStream::connect(node.address));
        let mut stream = connecting.await.map_err(said)?.map_err(said)?;
        let hello = Hello { cluster: node.cluster, role, name: name.to_owned() };
        timeout(PATIENCE, dial(&mut stream, &hello)).await.map_err(said)?.map_err(said)?;
        Ok(Stream { stream, buffer: BytesMut::new() })
    }

    async fn next(&mut self) -> Found<Frame> {
        loop {
            if let Some((frame, _)) = take_frame(&mut self.buffer).map_err(said)? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.buffer).await.map_err(said)? == 0 {
                return Err("the node closed the connection".to_owned());
            }
        }
    }
}

/// One writer's connections to one node.
pub struct Link {
    /// Which writer.
    pub id: WriterId,
    party: Party,
    segment: Party,
    log: Stream,
    reads: Stream,
}

impl Link {
    fn stream(&mut self, message: &Message<Delta>) -> &mut Stream {
        if matches!(message, Message::ReadPage { .. }) { &mut self.reads } else { &mut self.log }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &Message<Delta>) -> Found<()> {
        let mut bytes = BytesMut::new();
        Encoded::protocol(self.party, message).map_err(said)?.write(Some(self.segment), &mut bytes);
        self.stream(message).stream.write_all(&bytes).await.map_err(said)
    }

    /// Sends a message and waits for the answer that `wanted` recognises. Others are passed over: a segment may say more
    /// than it is asked.
    pub async fn ask<T>(
        &mut self,
        message: &Message<Delta>,
        expected: &str,
        wanted: impl Fn(&Message<Delta>) -> Option<T>,
    ) -> Found<T> {
        self.send(message).await?;
        let stream = self.stream(message);
        let mut others = Vec::new();
        let hearing = async {
            loop {
                if let Frame::Protocol(envelope) = stream.next().await? {
                    match wanted(&envelope.message) {
                        Some(answer) => return Ok(answer),
                        None => others.push(crate::notation::message_text(&envelope.message)),
                    }
                }
            }
        };
        let heard = timeout(PATIENCE, hearing).await;
        heard.unwrap_or_else(|_| Err(format!("to {}, expected {expected}, heard {others:?}", message.name())))
    }

    /// Sends a message that must be refused like this.
    pub async fn refused(&mut self, message: &Message<Delta>, expected: &Refusal) -> Found<()> {
        let text = format!("the refusal {expected:?}");
        self.ask(message, &text, |answer| match answer {
            Message::Refused(refusal) | Message::ReadRefused { refusal, .. } if refusal == expected => Some(()),
            _ => None,
        })
        .await
    }

    /// Sends a message after which nothing that `forbidden` recognises may come.
    pub async fn must_not_hear(
        &mut self,
        message: &Message<Delta>,
        forbidden: impl Fn(&Message<Delta>) -> bool,
    ) -> Found<()> {
        self.send(message).await?;
        let stream = self.stream(message);
        let hearing = async {
            loop {
                match stream.next().await {
                    Ok(Frame::Protocol(envelope)) if forbidden(&envelope.message) => {
                        return Err(format!("it said {}", crate::notation::message_text(&envelope.message)));
                    }
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
        };
        timeout(SILENCE, hearing).await.unwrap_or(Ok(()))
    }
}
