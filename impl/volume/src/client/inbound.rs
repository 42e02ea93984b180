//! Receives what storage sends to a writer.

use super::Client;
use auriga_net::connection::{ConnectionError, Receiver};
use auriga_net::frame::Frame;
use auriga_protocol::{Input, Party};
use std::sync::Arc;

/// Receives one connection's frames.
pub(super) struct WriterReceiver(pub Arc<Client>);

impl Receiver for WriterReceiver {
    async fn receive(&mut self, frame: Frame, size: usize) -> Result<(), ConnectionError> {
        let ports = self.0.driver.ports();
        ports.traffic.count_received(frame.name(), size);
        match frame {
            Frame::Protocol(envelope) => {
                let identity = ports.identity;
                // Anything else is a late reply to an earlier writer of this process.
                if envelope.to == Party::Writer(identity.volume, identity.writer) {
                    if let Party::Segment(segment) = envelope.from
                        && segment.volume == identity.volume
                    {
                        self.0.heard.speaks(segment.pg, segment.member);
                    }
                    self.0.input(Input::Message { from: envelope.from, message: envelope.message });
                }
                Ok(())
            }
            _ => Err(ConnectionError::OutOfPlace("not a message of the protocol")),
        }
    }
}
