//! Frames of the network: what is decoded is encoded and decoded again, and is the same.

use super::{Target, kind, text};
use crate::unhex;
use auriga_net::admin::{AdminReply, AdminRequest, Fault};
use auriga_net::frame::{FRAME_HEADER, take_frame};
use auriga_net::{Encoded, Frame, FrameError};
use auriga_protocol::Token;
use bytes::BytesMut;

/// An input is a frame's payload; its length and checksum are made right.
pub struct Frames;

/// One frame of every message: payloads.
pub fn messages() -> Vec<Vec<u8>> {
    let vectors = text("conformance/vectors/messages.txt");
    let frames = vectors.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
    frames.filter_map(|(_, hex)| unhex(hex)).map(|frame| frame[FRAME_HEADER..].to_vec()).collect()
}

/// The frame with this payload, decoded.
pub fn decoded(payload: &[u8]) -> Result<Option<Frame>, FrameError> {
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    Ok(take_frame(&mut bytes)?.map(|(frame, _)| frame))
}

fn payload(encoded: Result<Encoded, FrameError>) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encoded.expect("small").write(None, &mut bytes);
    bytes[FRAME_HEADER..].to_vec()
}

impl Target for Frames {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let requests = [
            AdminRequest::Status,
            AdminRequest::Holdings,
            AdminRequest::Inject(Fault::Partition { from: vec!["a1".into(), "b2".into()] }),
        ];
        let replies = [AdminReply::Done, AdminReply::Refused("no".into()), AdminReply::Status(Box::default())];
        let mut corpus = messages();
        corpus.extend(requests.iter().map(|request| payload(Encoded::request(Token(1), request))));
        corpus.extend(replies.iter().map(|reply| payload(Encoded::reply(Token(1), reply))));
        corpus
    }

    fn run(&mut self, input: &[u8]) -> String {
        let frame = match decoded(input) {
            Ok(Some(frame)) => frame,
            Ok(None) => return "too short".into(),
            Err(error) => return error.to_string(),
        };
        let again = match &frame {
            Frame::Protocol(envelope) => {
                Encoded::protocol(envelope.from, &envelope.message).map(|it| (it, Some(envelope.to)))
            }
            Frame::Global(from, message) => Encoded::global(*from, message).map(|it| (it, None)),
            Frame::Request(token, request) => Encoded::request(*token, request).map(|it| (it, None)),
            Frame::Reply(token, reply) => Encoded::reply(*token, reply).map(|it| (it, None)),
            Frame::Skipped(_) => return "skipped".into(),
        };
        let Ok((encoded, to)) = again else { return format!("{} that is too long", frame.name()) };
        let mut bytes = BytesMut::new();
        encoded.write(to, &mut bytes);
        let same = take_frame(&mut bytes).expect("sound").expect("whole").0;
        assert_eq!(same, frame, "encoded and decoded again");
        match &frame {
            Frame::Protocol(envelope) => format!("{} from {}", frame.name(), kind(&envelope.from)),
            _ => frame.name().to_owned(),
        }
    }
}
