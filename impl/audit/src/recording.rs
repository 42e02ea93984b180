//! Recordings: every input of a process's machines, so that their lives can be run again through the state machines.
//!
//! Notes say what a machine did; only its inputs say whether it should have. A recording holds both ends of each step:
//! what survived at boot, then each message, timer, durability, outcome and request, in the order in which the machine
//! took them, and after each step a digest of what came of it. The trace check boots the machine as it is meant from the
//! first and feeds it the rest (`trace_check/replay/`): the same must come of it.
//!
//! It costs what the redo records of the node cost, once more; so it is asked for separately, and has a limit.

use auriga_page::Delta;
use auriga_protocol::segment::{self, AcceptedLoss, Outcome, Survived, Task};
use auriga_protocol::writer;
use auriga_protocol::{
    AppendId, Change, Effect, Input, Lsn, Machine, MemberId, Message, Micros, PageId, Party, PgId, Segment,
    SegmentConfig, Token, Writer, WriterConfig,
};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;

/// Longest frame that is read: a boot holds a segment's whole log.
const FRAME_MAX: usize = 1 << 30;

/// One frame of a recording.
#[expect(clippy::large_enum_variant, reason = "a frame is a step on the way to or from a file: none is kept")]
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum RecordingFrame {
    /// The first: whose recording it is, by the name in its trace lines.
    Node(String),
    /// Something that happened.
    Recorded(Recorded),
    /// The last one of a recording that has reached its limit: more happened.
    Full,
}

/// Something that happened to a machine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// When, on the trace's clock: the `at` of the notes that came of it.
    pub at: Micros,
    /// The machine that it happened to.
    pub machine: Party,
    /// The event.
    pub what: Happened,
}

/// A boot, an input, or what came of the inputs since the last such.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "most variants are the machines' own inputs")]
pub enum Happened {
    /// With this configuration (planted defects left out), on what survived.
    SegmentBooted(SegmentConfig, Survived<Delta>),
    /// With this configuration (planted defects left out).
    WriterBooted(WriterConfig),
    Message(Party, Message<Delta>),
    SegmentTimer(segment::Timer),
    WriterTimer(writer::Timer),
    Durable(AppendId),
    Done(Outcome<Delta>),
    CoalesceNow,
    Submit(Vec<Change<Delta>>),
    Flush,
    Read(Token, PageId),
    Cancel(Token),
    Publish(Lsn, u64),
    Gave(Vec<Output>),
    AcceptLoss(AcceptedLoss),
    Replace(Token, PgId, MemberId, SocketAddr),
    UndoReplace(Token, PgId, MemberId),
}

/// What a machine wanted done, other than a note: notes are in the trace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Output {
    /// A message's or task's name, or `Append`, `SetTimer`, `Answer`.
    pub name: String,
    /// CRC-32C over all of it.
    pub digest: u32,
}

impl Happened {
    /// A segment's input as it is kept.
    pub fn to_segment(input: &Input<Segment<Delta>>) -> Happened {
        match input {
            Input::Message { from, message } => Happened::Message(*from, message.clone()),
            Input::Timer(timer) => Happened::SegmentTimer(*timer),
            Input::Durable(append) => Happened::Durable(*append),
            Input::Done(outcome) => Happened::Done(outcome.clone()),
            Input::Request { request: segment::Request::CoalesceNow, .. } => Happened::CoalesceNow,
            Input::Request { request: segment::Request::AcceptLoss(loss), .. } => Happened::AcceptLoss(*loss),
        }
    }

    /// A writer's input as it is kept.
    pub fn to_writer(input: &Input<Writer<Delta>>) -> Happened {
        match input {
            Input::Message { from, message } => Happened::Message(*from, message.clone()),
            Input::Timer(timer) => Happened::WriterTimer(*timer),
            Input::Durable(append) => Happened::Durable(*append),
            Input::Done(never) => match *never {},
            Input::Request { token, request } => match request {
                writer::Request::Submit(changes) => Happened::Submit(changes.clone()),
                writer::Request::Flush => Happened::Flush,
                writer::Request::Read(page) => Happened::Read(*token, *page),
                writer::Request::Cancel => Happened::Cancel(*token),
                writer::Request::Publish { read_point, wal } => Happened::Publish(*read_point, *wal),
                writer::Request::Replace { pg, old, home } => Happened::Replace(*token, *pg, *old, *home),
                writer::Request::UndoReplace { pg, new } => Happened::UndoReplace(*token, *pg, *new),
            },
        }
    }
}

/// Work that has a name.
pub trait Named {
    /// For people, and for the rule that is about it.
    fn name(&self) -> &'static str;
}

impl Named for Task<Delta> {
    fn name(&self) -> &'static str {
        match self {
            Task::Coalesce { .. } => "Coalesce",
            Task::ReadBase { .. } => "ReadBase",
            Task::ReadBases { .. } => "ReadBases",
            Task::PutBases { .. } => "PutBases",
            Task::Retire => "Retire",
            Task::Scrub { .. } => "Scrub",
        }
    }
}

impl Named for Infallible {
    fn name(&self) -> &'static str {
        match *self {}
    }
}

/// What came of a step, as it is kept.
pub fn outputs<M>(effects: &[Effect<M>]) -> Vec<Output>
where
    M: Machine<Party = Party, Message = Message<Delta>>,
    M::Entry: Hash,
    M::Task: Hash + Named,
    M::Timer: Hash,
    M::Answer: Hash,
{
    let output = |name: &str, all: &dyn Fn(&mut Crc)| {
        let mut crc = Crc(0);
        all(&mut crc);
        Output { name: name.to_owned(), digest: crc.0 }
    };
    let kept = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message } => Some(output(message.name(), &|crc| (to, message).hash(crc))),
        Effect::Multicast { to, message } => Some(output(message.name(), &|crc| (to, message).hash(crc))),
        Effect::Append { id, entry } => Some(output("Append", &|crc| (id, entry).hash(crc))),
        Effect::Start(task) => Some(output(task.name(), &|crc| task.hash(crc))),
        Effect::SetTimer { timer, after } => Some(output("SetTimer", &|crc| (timer, after).hash(crc))),
        Effect::Answer { token, answer } => Some(output("Answer", &|crc| (token, answer).hash(crc))),
        Effect::Note(_) => None,
    });
    kept.collect()
}

/// The same on every machine and in every build, unlike the standard library's hasher.
struct Crc(u32);

impl Hasher for Crc {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }

    fn finish(&self) -> u64 {
        self.0.into()
    }
}

/// Where recordings go: frames of a length (u32, little-endian) and that many bytes of postcard.
pub(crate) struct Recorder {
    file: File,
    buffer: Vec<u8>,
    /// Bytes until the limit.
    left: u64,
}

impl Recorder {
    /// A new file: only its end can be torn. It takes `limit` bytes, and little more.
    pub(crate) fn to_file(node: &str, path: &Path, limit: u64) -> io::Result<Recorder> {
        let mut recorder = Recorder { file: File::create_new(path)?, buffer: Vec::new(), left: limit };
        recorder.push(&RecordingFrame::Node(node.to_owned()))?;
        Ok(recorder)
    }

    /// Takes it, to be written with the next [`Recorder::flush`]. Returns whether there is room for more.
    pub(crate) fn record(&mut self, recorded: Recorded) -> io::Result<bool> {
        self.push(&RecordingFrame::Recorded(recorded))?;
        if self.left == 0 {
            self.push(&RecordingFrame::Full)?;
        }
        Ok(self.left > 0)
    }

    fn push(&mut self, frame: &RecordingFrame) -> io::Result<()> {
        let bytes = postcard::to_allocvec(frame).map_err(io::Error::other)?;
        self.left = self.left.saturating_sub(4 + bytes.len() as u64);
        self.buffer.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(&bytes);
        Ok(())
    }

    /// How many bytes wait to be written.
    pub(crate) fn unwritten(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written
    }
}

/// The frames of a recording, one after another; one that a kill has torn, or that makes no sense, ends it.
pub struct Frames(BufReader<File>);

impl Frames {
    /// Opens a recording.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn open(path: &Path) -> io::Result<Frames> {
        Ok(Frames(BufReader::with_capacity(1 << 20, File::open(path)?)))
    }
}

impl Iterator for Frames {
    type Item = RecordingFrame;

    fn next(&mut self) -> Option<RecordingFrame> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).ok()?;
        postcard::from_bytes(&claimed(&mut self.0, u32::from_le_bytes(length) as usize)?).ok()
    }
}

/// Reads `length` bytes; room is made for what there is, not for what the file claims to hold.
fn claimed(file: &mut impl Read, length: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take((length <= FRAME_MAX).then_some(length)? as u64).read_to_end(&mut bytes).ok()?;
    (bytes.len() == length).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_protocol::{MemberId, PgId, SegmentId, VolumeId};

    fn recorded(at: u64) -> Recorded {
        let segment = SegmentId { volume: VolumeId(1), pg: PgId(0), member: MemberId(0) };
        Recorded { at: Micros(at), machine: Party::Segment(segment), what: Happened::Durable(AppendId(at)) }
    }

    #[test]
    fn it_says_so_when_its_limit_is_reached() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("n.inputs");
        let mut recorder = Recorder::to_file("n", &path, 64).expect("opened");
        let taken = (1..).take_while(|at| recorder.record(recorded(*at)).expect("taken")).count();
        recorder.flush().expect("written");
        let size = std::fs::metadata(&path).expect("a file").len();
        assert!((64..128).contains(&size) && taken > 1, "{taken} frames, {size} bytes");
        let frames: Vec<RecordingFrame> = Frames::open(&path).expect("opened").collect();
        assert_eq!(
            (frames.first(), frames.last()),
            (Some(&RecordingFrame::Node("n".into())), Some(&RecordingFrame::Full))
        );
        assert_eq!(frames.len(), taken + 3);
    }

    #[test]
    fn a_length_is_not_believed() {
        assert_eq!(claimed(&mut &b"three"[..], 3), Some(b"thr".to_vec()));
        assert_eq!(claimed(&mut &b"five."[..], 5), Some(b"five.".to_vec()));
        assert_eq!(claimed(&mut &b"four"[..], 5), None);
        assert_eq!(claimed(&mut io::repeat(0), FRAME_MAX + 1), None);
        let before = resident();
        assert_eq!(claimed(&mut &b"short"[..], FRAME_MAX), None);
        assert!(resident() < before + (256 << 20), "a claim of 1 GiB took memory");
    }

    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has one");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
    }

    #[test]
    fn a_kill_may_tear_it_anywhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("n.inputs");
        let mut recorder = Recorder::to_file("n", &path, 1 << 20).expect("opened");
        recorder.record(recorded(1)).expect("taken");
        let whole = recorder.buffer.len();
        recorder.record(recorded(2)).expect("taken");
        let bytes = std::mem::take(&mut recorder.buffer);
        for cut in whole..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).expect("written");
            assert_eq!(Frames::open(&path).expect("opened").count(), 2, "cut at {cut}");
        }
    }
}
