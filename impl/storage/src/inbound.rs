//! What a connection to a storage node may say, and where it goes.

use super::node::Node;
use super::requests;
use super::routes::Known;
use auriga_net::connection::{ConnectionError, Receiver};
use auriga_net::frame::{Encoded, Frame};
use auriga_net::handshake::{Hello, Role};
use auriga_net::listener::Acceptor;
use auriga_net::outbox::Outbox;
use auriga_page::Delta;
use auriga_protocol::message::Envelope;
use auriga_protocol::{Party, Token, VolumeId, WriterId};
use std::sync::Arc;

/// Writers that may speak through one connection; an instance needs one.
const WRITERS_MAX: usize = 64;

/// Accepts connections for a node.
pub(super) struct Inbound(pub Arc<Node>);

impl Acceptor for Inbound {
    type Receiver = InboundReceiver;

    fn accept(&self, peer: Hello, outbox: &Arc<Outbox>) -> InboundReceiver {
        InboundReceiver { node: self.0.clone(), peer, outbox: outbox.clone(), writers: Vec::new() }
    }
}

/// Receives one connection's frames.
pub(super) struct InboundReceiver {
    node: Arc<Node>,
    peer: Hello,
    outbox: Arc<Outbox>,
    /// Who has spoken here.
    writers: Vec<((VolumeId, WriterId), Known)>,
}

impl Receiver for InboundReceiver {
    async fn receive(&mut self, frame: Frame, size: usize) -> Result<(), ConnectionError> {
        self.node.traffic.count_received(frame.name(), size);
        match (frame, self.peer.role) {
            (Frame::Protocol(envelope), Role::Storage | Role::WriterLog | Role::WriterReads) => {
                self.learn_sender(envelope.from)?;
                self.deliver(envelope);
                Ok(())
            }
            (Frame::Request(token, request), Role::Admin) => {
                let reply = requests::handle(&self.node, request).await;
                self.reply(token, reply)
            }
            (Frame::Protocol(_), Role::Admin) => Err(ConnectionError::OutOfPlace("a message on an admin connection")),
            (Frame::Request(..), _) => Err(ConnectionError::OutOfPlace("a request on a protocol connection")),
            (Frame::Reply(..), _) => Err(ConnectionError::OutOfPlace("a reply to nothing")),
        }
    }
}

impl InboundReceiver {
    /// From the first time that a writer speaks here, replies to it take this way.
    fn learn_sender(&mut self, from: Party) -> Result<(), ConnectionError> {
        let Party::Writer(volume, writer) = from else { return Ok(()) };
        let pages = self.peer.role == Role::WriterReads;
        let learn = || self.node.routes.learn((volume, writer), pages, &self.outbox);
        let is_full = self.writers.len() >= WRITERS_MAX;
        match self.writers.iter_mut().find(|(known, _)| *known == (volume, writer)) {
            Some((_, known)) if known.is_known() => {}
            Some((_, known)) => *known = learn(),
            None if is_full => {
                return Err(ConnectionError::OutOfPlace("too many writers on one connection"));
            }
            None => self.writers.push(((volume, writer), learn())),
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

    fn reply(&self, token: Token, reply: auriga_net::admin::AdminReply) -> Result<(), ConnectionError> {
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

/// Refuses every frame: on a connection that this node dialled the other side is silent, because each side dials its
/// own.
pub(super) struct Silent;

impl Receiver for Silent {
    async fn receive(&mut self, _: Frame, _: usize) -> Result<(), ConnectionError> {
        Err(ConnectionError::OutOfPlace("a frame on a connection for the other direction"))
    }
}
