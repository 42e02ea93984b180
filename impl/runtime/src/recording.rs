//! Recordings: every input of a node's segments, so that their lives can be run again through the state machine.
//!
//! Notes say what a segment did; only its inputs say whether it should have. A recording holds both ends of each step:
//! what survived at boot, and then each message, timer, durability and outcome, in the order in which the machine took
//! them. The trace check boots the machine as it is meant from the first and feeds it the rest
//! (`trace_check/replay.rs`): the notes that come out must be those in the trace.
//!
//! It costs what the redo records of the node cost, once more; so it is asked for separately, and off without a trace.

use auriga_protocol::segment::{Outcome, Request, Survived, Timer};
use auriga_protocol::{AppendId, Input, Message, Micros, Party, Segment, SegmentConfig, SegmentId};
use auriga_store::Delta;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Something that happened to a segment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// When, on the trace's clock.
    pub at: Micros,
    /// To whom.
    pub segment: SegmentId,
    /// What.
    pub what: Happened,
}

/// A boot, or an input.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the variants are the machine's own inputs")]
pub enum Happened {
    /// With this configuration (planted defects left out), on what survived.
    Booted(SegmentConfig, Survived<Delta>),
    Message(Party, Message<Delta>),
    Timer(Timer),
    Durable(AppendId),
    Done(Outcome<Delta>),
    CoalesceNow,
}

impl Happened {
    /// An input as it is kept.
    pub fn of(input: &Input<Segment<Delta>>) -> Happened {
        match input {
            Input::Message { from, message } => Happened::Message(*from, message.clone()),
            Input::Timer(timer) => Happened::Timer(*timer),
            Input::Durable(append) => Happened::Durable(*append),
            Input::Done(outcome) => Happened::Done(outcome.clone()),
            Input::Request { request: Request::CoalesceNow, .. } => Happened::CoalesceNow,
        }
    }
}

/// Where recordings go: frames of a length (u32, little-endian) and so many bytes of postcard.
pub(crate) struct Recorder(BufWriter<File>);

impl Recorder {
    /// A new file: only its end can be torn.
    pub(crate) fn to_file(path: &Path) -> io::Result<Recorder> {
        Ok(Recorder(BufWriter::with_capacity(1 << 18, File::create_new(path)?)))
    }

    pub(crate) fn write(&mut self, recorded: &Recorded) -> io::Result<()> {
        let bytes = postcard::to_allocvec(recorded).map_err(io::Error::other)?;
        self.0.write_all(&(bytes.len() as u32).to_le_bytes())?;
        self.0.write_all(&bytes)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Reads a recording; a frame that a kill has torn, or that makes no sense, ends it.
///
/// # Errors
/// When the file can't be read.
pub fn read(path: &Path) -> io::Result<Vec<Recorded>> {
    let bytes = std::fs::read(path)?;
    let (mut rest, mut recorded) = (&bytes[..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let Some(frame) = after.get(..u32::from_le_bytes(*length) as usize) else { break };
        let Ok(one) = postcard::from_bytes(frame) else { break };
        recorded.push(one);
        rest = &after[frame.len()..];
    }
    Ok(recorded)
}
