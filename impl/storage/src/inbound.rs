//! What a connection to a storage node may say, and where it goes.

use super::allowed;
use super::node::Node;
use super::requests;
use super::routes::Known;
use auriga_net::admin::{AdminReply, AdminRequest};
use auriga_net::connection::{ConnectionError, Receiver};
use auriga_net::frame::{Encoded, Frame};
use auriga_net::handshake::{ConnectionRole, Hello};
use auriga_net::listener::Acceptor;
use auriga_net::outbox::Outbox;
use auriga_net::tls::Certified;
use auriga_page::Delta;
use auriga_protocol::message::Envelope;
use auriga_protocol::{Party, Token, VolumeId};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Writers that may speak through one connection; an instance needs one.
const WRITERS_MAX: usize = 64;

/// Accepts connections for a node.
pub(super) struct Inbound(pub Arc<Node>);

impl Acceptor for Inbound {
    type Receiver = InboundReceiver;

    fn accept(
        &self,
        peer: Hello,
        certified: Option<Certified>,
        outbox: &Arc<Outbox>,
    ) -> Result<InboundReceiver, ConnectionError> {
        if let Some(certified) = &certified {
            allowed::connect(certified, peer.role).map_err(ConnectionError::NotAllowed)?;
        }
        let (node, outbox) = (self.0.clone(), outbox.clone());
        Ok(InboundReceiver { node, peer, certified, outbox, writers: Vec::new(), labels: BTreeMap::new() })
    }
}

/// Receives one connection's frames.
pub(super) struct InboundReceiver {
    node: Arc<Node>,
    peer: Hello,
    /// What its certificate says; `None`: this node asks for none.
    certified: Option<Certified>,
    outbox: Arc<Outbox>,
    /// Who has spoken here.
    writers: Vec<(Party, Known)>,
    /// The numbers of volumes that are hosted here and were spoken to. A volume keeps its number.
    labels: BTreeMap<VolumeId, u64>,
}

impl Receiver for InboundReceiver {
    async fn receive(&mut self, frame: Frame, size: usize) -> Result<(), ConnectionError> {
        self.node.traffic.count_received(frame.name(), size);
        match (frame, self.peer.role) {
            (
                Frame::Protocol(envelope),
                ConnectionRole::Storage | ConnectionRole::WriterLog | ConnectionRole::WriterReads,
            ) => {
                if self.may_send(&envelope)? {
                    self.learn_sender(envelope.from)?;
                    self.deliver(envelope);
                }
                Ok(())
            }
            (Frame::Request(token, request), ConnectionRole::Admin) => {
                let reply = match self.may_ask(&request) {
                    Ok(()) => requests::handle(&self.node, request).await,
                    Err(why) => AdminReply::Refused(why),
                };
                self.reply(token, reply)
            }
            (Frame::Protocol(_), ConnectionRole::Admin) => {
                Err(ConnectionError::OutOfPlace("a message on an admin connection"))
            }
            (_, ConnectionRole::Reader) => Err(ConnectionError::OutOfPlace("a reader that takes storage for a writer")),
            (_, ConnectionRole::Region) => Err(ConnectionError::OutOfPlace("a region that takes storage for another")),
            (Frame::Global(..), _) => Err(ConnectionError::OutOfPlace("a message between regions")),
            (Frame::Request(..), _) => Err(ConnectionError::OutOfPlace("a request on a protocol connection")),
            (Frame::Skipped(_), _) => Ok(()),
            (Frame::Reply(..), _) => Err(ConnectionError::OutOfPlace("a reply to nothing")),
        }
    }
}

impl InboundReceiver {
    /// Returns whether a message goes on; an error is for one that the peer may not send at all.
    fn may_send(&mut self, envelope: &Envelope<Delta>) -> Result<bool, ConnectionError> {
        let (Some(certified), Party::Segment(to)) = (&self.certified, envelope.to) else { return Ok(true) };
        let mut label = self.labels.get(&to.volume).copied();
        if label.is_none() {
            label = match self.node.label_of(to.volume) {
                Some(Some(label)) => {
                    self.labels.insert(to.volume, label);
                    Some(label)
                }
                // A segment that has lost what its volume was made as. Whether this writer may speak to it can't be
                // told, so the message is lost; the writer sends again.
                Some(None) if certified.role.uses_volumes() => return Ok(false),
                Some(None) | None => None,
            };
        }
        let allowed = allowed::send(certified, envelope.from, envelope.to, &envelope.message, label);
        allowed.map(|()| true).map_err(ConnectionError::NotAllowed)
    }

    fn may_ask(&self, request: &AdminRequest) -> Result<(), String> {
        let allowed = allowed::ask(self.certified.as_ref(), request, self.node.config.allow_fault_injection);
        allowed.inspect_err(|why| tracing::warn!(peer = self.peer.name, why, "refused a request"))
    }

    /// From the first time that a writer speaks here, replies to it take this way.
    fn learn_sender(&mut self, from: Party) -> Result<(), ConnectionError> {
        if !self.node.routes.is_to_be_learnt(from) {
            return Ok(());
        }
        let pages = self.peer.role == ConnectionRole::WriterReads;
        let learn = || self.node.routes.learn(from, pages, &self.outbox);
        let is_full = self.writers.len() >= WRITERS_MAX;
        match self.writers.iter_mut().find(|(known, _)| *known == from) {
            Some((_, known)) if known.is_known() => {}
            Some((_, known)) => *known = learn(),
            None if is_full && matches!(from, Party::Segment(_)) => {}
            None if is_full => {
                return Err(ConnectionError::OutOfPlace("too many writers on one connection"));
            }
            None => self.writers.push((from, learn())),
        }
        Ok(())
    }

    fn deliver(&self, envelope: Envelope<Delta>) {
        if self.node.faults.is_partitioned_from(&self.peer.name) {
            return;
        }
        match self.node.faults.incoming_delay() {
            None => self.node.deliver(envelope),
            Some(delay) => {
                let node = self.node.clone();
                self.node.later(delay, move || node.deliver(envelope));
            }
        }
    }

    fn reply(&self, token: Token, reply: AdminReply) -> Result<(), ConnectionError> {
        let encoded = Encoded::reply(token, &reply)?;
        self.outbox.push(&encoded, None);
        self.outbox.flush();
        Ok(())
    }
}

impl Drop for InboundReceiver {
    fn drop(&mut self) {
        self.node.routes.forget(&self.outbox);
    }
}

/// Receives what comes back on a connection that this node dialled. Each side dials its own, and says there what it has to
/// say; but a peer that knows no way to a segment here answers it on the connection that it came by.
pub(super) struct Dialled(pub Weak<Node>);

impl Receiver for Dialled {
    async fn receive(&mut self, frame: Frame, size: usize) -> Result<(), ConnectionError> {
        let Some(node) = self.0.upgrade() else { return Ok(()) };
        node.traffic.count_received(frame.name(), size);
        match frame {
            Frame::Protocol(envelope) if allowed::answer(envelope.from, &envelope.message) => {
                node.deliver(envelope);
                Ok(())
            }
            _ => Err(ConnectionError::OutOfPlace("a frame on a connection for the other direction")),
        }
    }
}
