//! Frames: how messages are laid out on a connection. Byte by byte in `specs/formats.md`, "On the wire".
//!
//! ```text
//! ┌────────────┬────────────┬────────────── payload: `length` bytes ───────────────┐
//! │ length u32 │ CRC-32C u32│ kind u8 │ postcard (message, from) │ postcard (to)   │
//! └────────────┴────────────┴─────────┴──────────────────────────┴─────────────────┘
//! ```
//!
//! **The receiver comes last**, so that what goes to six segments is encoded, and its checksum computed, once: for each
//! of them only `to` is appended.
//!
//! **Every frame has a checksum.** TCP's own has 16 bits and is often checked by hardware that then copies the data
//! once more; a record that was damaged on its way would be made durable with a sound checksum of its own. CRC-32C costs
//! about as much as copying the frame (there is an instruction for it), so there is no switch.
//!
//! **What is sent six times is compressed once** ([`compression`]): on a network between Availability Zones, bytes are
//! what is paid for, and a copy that is half as long is also half as much to send, to receive and to sum up.
//!
//! Decoding trusts nothing: length, checksum, every field, and that nothing is left over. An error is for the connection
//! that sent it, see [`FrameError`].

mod compression;

use crate::admin::{AdminReply, AdminRequest};
use crate::is_page_traffic;
use auriga_page::Delta;
use auriga_protocol::global::{GlobalMessage, GlobalParty};
use auriga_protocol::message::Envelope;
use auriga_protocol::{Change, Message, Party, Token};
use bytes::{Buf, Bytes, BytesMut};
use compression::Compressed;
use serde::{Deserialize, Serialize};

/// Bytes before the payload.
pub const FRAME_HEADER: usize = 8;

/// Most bytes of payload: several times what the largest batch of records or pages needs.
pub const FRAME_PAYLOAD_MAX: usize = 4 << 20;

/// A mini-transaction between regions: what it changes. Where it lies in a volume is each region's own business.
pub type Mtr = Vec<Change<Delta>>;

/// What a frame holds.
#[derive(Clone, PartialEq, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every frame is of the largest kind, and none is kept")]
pub enum Frame {
    /// A message of the protocol.
    Protocol(Envelope<Delta>),
    /// A message between regions of a global database, or between one and a controller.
    Global(GlobalParty, Box<GlobalMessage<Mtr>>),
    /// A request to a node as such.
    Request(Token, AdminRequest),
    /// The node's reply.
    Reply(Token, Box<AdminReply>),
    /// Something that a later build sends, and that a build which does not know it may skip.
    Skipped(u8),
}

impl Frame {
    /// What is in it, for counters.
    pub fn name(&self) -> &'static str {
        match self {
            Frame::Protocol(envelope) => envelope.message.name(),
            Frame::Global(..) => "Global",
            Frame::Request(..) => "AdminRequest",
            Frame::Reply(..) => "AdminReply",
            Frame::Skipped(_) => "Skipped",
        }
    }
}

const KIND_PROTOCOL: u8 = 0;
const KIND_REQUEST: u8 = 1;
const KIND_REPLY: u8 = 2;
/// What would be a [`KIND_PROTOCOL`], compressed except for its receiver.
const KIND_COMPRESSED: u8 = 3;
const KIND_GLOBAL: u8 = 4;

/// From this kind on, a frame of an unknown kind is skipped. Below it, an unknown kind ends the connection: what it says
/// may not be passed over.
pub const KIND_SKIPPABLE: u8 = 128;

/// Why bytes are no frame. The connection they came from is closed, because nothing after them can be understood.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is beyond [`FRAME_PAYLOAD_MAX`].
    #[error("a frame of {length} bytes exceeds the limit of {FRAME_PAYLOAD_MAX}")]
    TooLarge {
        /// As read, or as it would have been written.
        length: usize,
    },
    /// The payload was damaged on its way.
    #[error("the frame's checksum is {found:#010x} instead of {expected:#010x}")]
    Checksum {
        /// As read.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// An unknown kind.
    #[error("frame kind {0} is unknown: the other side is a later build")]
    Kind(u8),
    /// The payload is empty, or doesn't decode, or has bytes left over.
    #[error("the payload is malformed: {0}")]
    Malformed(&'static str),
    /// The payload doesn't decode.
    #[error("the payload is malformed: {0}")]
    Postcard(#[from] postcard::Error),
}

/// A payload, encoded except for its receiver.
#[derive(Clone, Debug)]
pub struct Encoded {
    body: Bytes,
    checksum: u32,
    name: &'static str,
}

impl Encoded {
    /// A message of the protocol; compressed where that makes it shorter, unless it is a page that a reader waits
    /// for, or most of it is packed already.
    ///
    /// # Errors
    /// When it is too large to send.
    pub fn protocol(from: Party, message: &Message<Delta>) -> Result<Encoded, FrameError> {
        let plain = encode(KIND_PROTOCOL, &(message, from))?;
        let is_page = is_page_traffic(message) && !matches!(message, Message::LogPush { .. });
        let as_it_is = is_page || 2 * packed_bytes(message) > plain.len();
        let compressed = if as_it_is { None } else { compression::compress(&plain[1..]) };
        let body = compressed.map_or(Ok(plain), |compressed| encode(KIND_COMPRESSED, &compressed))?;
        Ok(Encoded::of(message.name(), body))
    }

    /// A message between regions.
    ///
    /// # Errors
    /// When it is too large to send.
    pub fn global(from: GlobalParty, message: &GlobalMessage<Mtr>) -> Result<Encoded, FrameError> {
        Ok(Encoded::of("Global", encode(KIND_GLOBAL, &(from, message))?))
    }

    /// An admin request.
    ///
    /// # Errors
    /// When it is too large to send.
    pub fn request(token: Token, request: &AdminRequest) -> Result<Encoded, FrameError> {
        Ok(Encoded::of("AdminRequest", encode(KIND_REQUEST, &(token, request))?))
    }

    /// The reply to an admin request.
    ///
    /// # Errors
    /// When it is too large to send.
    pub fn reply(token: Token, reply: &AdminReply) -> Result<Encoded, FrameError> {
        Ok(Encoded::of("AdminReply", encode(KIND_REPLY, &(token, reply))?))
    }

    fn of(name: &'static str, body: Vec<u8>) -> Encoded {
        Encoded { checksum: crc32c::crc32c(&body), body: body.into(), name }
    }

    /// What is in it, for counters.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Appends the frame to `out`; answers its size in bytes. `to` is for protocol messages.
    pub fn write(&self, to: Option<Party>, out: &mut BytesMut) -> usize {
        let mut scratch = [0; 32];
        let receiver: &[u8] = match &to {
            Some(to) => postcard::to_slice(to, &mut scratch).expect("a party takes at most 21 bytes"),
            None => &[],
        };
        let checksum = crc32c::crc32c_append(self.checksum, receiver);
        out.reserve(FRAME_HEADER + self.body.len() + receiver.len());
        out.extend_from_slice(&((self.body.len() + receiver.len()) as u32).to_le_bytes());
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&self.body);
        out.extend_from_slice(receiver);
        FRAME_HEADER + self.body.len() + receiver.len()
    }
}

/// Bytes of deltas that are packed already.
fn packed_bytes(message: &Message<Delta>) -> usize {
    let records = match message {
        Message::Write { records, .. }
        | Message::GossipPush { records, .. }
        | Message::Tail { records, .. }
        | Message::LogPush { records, .. } => records,
        _ => return 0,
    };
    records.iter().filter(|record| record.payload.is_packed()).map(|record| record.payload.len()).sum()
}

/// A payload without its receiver.
fn encode(kind: u8, content: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let body = postcard::to_extend(content, vec![kind])?;
    // A receiver takes at most 21 bytes.
    if body.len() + 32 > FRAME_PAYLOAD_MAX {
        return Err(FrameError::TooLarge { length: body.len() });
    }
    Ok(body)
}

/// Bytes of the frame that `buffer` begins with, its header included, once its length is there.
pub fn expected(buffer: &[u8]) -> Option<usize> {
    let length = buffer.first_chunk::<4>()?;
    Some(FRAME_HEADER + u32::from_le_bytes(*length) as usize)
}

/// Takes the next whole frame off `buffer`; answers it with its size in bytes, or `None` when more bytes are needed.
///
/// # Errors
/// When what is there is no frame.
pub fn take_frame(buffer: &mut BytesMut) -> Result<Option<(Frame, usize)>, FrameError> {
    let Some((header, rest)) = buffer.split_at_checked(FRAME_HEADER) else { return Ok(None) };
    let mut header: &[u8] = header;
    let (length, expected) = (header.get_u32_le() as usize, header.get_u32_le());
    if length > FRAME_PAYLOAD_MAX {
        return Err(FrameError::TooLarge { length });
    }
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let found = crc32c::crc32c(payload);
    if found != expected {
        return Err(FrameError::Checksum { expected, found });
    }
    let frame = decode(payload)?;
    buffer.advance(FRAME_HEADER + length);
    Ok(Some((frame, FRAME_HEADER + length)))
}

fn decode(payload: &[u8]) -> Result<Frame, FrameError> {
    let (kind, content) = payload.split_first().ok_or(FrameError::Malformed("empty"))?;
    match *kind {
        KIND_PROTOCOL => {
            let (message, from, to) = decode_all(content)?;
            Ok(Frame::Protocol(Envelope { from, to, message }))
        }
        KIND_COMPRESSED => {
            let (compressed, to): (Compressed, Party) = decode_all(content)?;
            let (message, from) = decode_all(&compressed.decompress()?)?;
            Ok(Frame::Protocol(Envelope { from, to, message }))
        }
        KIND_GLOBAL => decode_all(content).map(|(from, message)| Frame::Global(from, Box::new(message))),
        KIND_REQUEST => decode_all(content).map(|(token, request)| Frame::Request(token, request)),
        KIND_REPLY => decode_all(content).map(|(token, reply)| Frame::Reply(token, Box::new(reply))),
        kind if kind >= KIND_SKIPPABLE => Ok(Frame::Skipped(kind)),
        kind => Err(FrameError::Kind(kind)),
    }
}

fn decode_all<'a, T: Deserialize<'a>>(content: &'a [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(content)? {
        (value, []) => Ok(value),
        _ => Err(FrameError::Malformed("bytes are left over")),
    }
}

#[cfg(test)]
mod tests;
