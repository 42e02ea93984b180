//! A segment to which strangers speak: whatever they say, it goes on, and each step ends.

use super::{Target, frames};
use auriga_net::Frame;
use auriga_page::Delta;
use auriga_protocol::segment::{Outcome, Survived, Task, Timer};
use auriga_protocol::{
    AppendId, Effect, Effects, Input, Machine, MemberId, Membership, Micros, PgId, QuorumSet, Segment, SegmentConfig,
    SegmentId, VolumeId,
};

/// An input is a run of payloads of frames, each with its length before it (u16). What is none is passed over.
pub struct Alone;

/// Most inputs of one run that a segment gives itself.
const STEPS_MAX: usize = 100_000;

/// As the frames of the corpus address it.
const ID: SegmentId = SegmentId { volume: VolumeId(7), pg: PgId(1), member: MemberId(0) };

/// A segment whose disk has no pages, and makes everything durable at once.
struct Running {
    segment: Segment<Delta>,
    steps: usize,
    said: Vec<&'static str>,
}

impl Running {
    fn begin() -> Running {
        let config = SegmentConfig { renew_life_every: Micros(0), log_weight_max: 1 << 16, ..SegmentConfig::default() };
        let survived = Survived::founded(Membership::initial(QuorumSet::aurora()));
        let mut out = Effects::default();
        let segment = Segment::boot(&config, ID, survived, Micros(0), &mut out);
        let mut running = Running { segment, steps: 0, said: Vec::new() };
        running.carry_out(out);
        running
    }

    fn step(&mut self, input: Input<Segment<Delta>>) {
        let mut out = Effects::default();
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "it never comes to rest");
        self.segment.step(Micros(self.steps as u64), input, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, mut out: Effects<Segment<Delta>>) {
        let (mut durable, mut tasks) = (None, Vec::new());
        for effect in out.drain() {
            match effect {
                Effect::Send { message, .. } | Effect::Multicast { message, .. } => self.said.push(message.name()),
                Effect::Append { id, .. } => durable = Some(id),
                Effect::Start(task) => tasks.push(task),
                Effect::SetTimer { .. } | Effect::Note(_) => {}
                Effect::Answer { answer, .. } => match answer {},
            }
        }
        if let Some(AppendId(id)) = durable {
            self.step(Input::Durable(AppendId(id)));
        }
        for task in tasks {
            self.step(Input::Done(done(task)));
        }
    }
}

fn done(task: Task<Delta>) -> Outcome<Delta> {
    match task {
        Task::Coalesce { floor, .. } => Outcome::Coalesced { floor },
        Task::ReadBase { token, page } => Outcome::Base { token, page, base: None },
        Task::ReadBases { token, .. } => Outcome::Bases { token, pages: vec![], unchanged: vec![], complete: true },
        Task::PutBases { token, .. } => Outcome::BasesPut { token },
        Task::Scrub { .. } | Task::Retire => Outcome::Scrubbed { damaged: vec![] },
    }
}

impl Target for Alone {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let framed = |payload: &Vec<u8>| [&(payload.len() as u16).to_le_bytes()[..], payload].concat();
        let mut corpus: Vec<Vec<u8>> = frames::messages().iter().map(framed).collect();
        corpus.push(corpus.iter().filter(|one| one.len() < 200).flatten().copied().collect());
        corpus
    }

    fn run(&mut self, input: &[u8]) -> String {
        let mut running = Running::begin();
        let mut rest = input;
        while let Some((length, more)) = rest.split_first_chunk() {
            let length = usize::from(u16::from_le_bytes(*length)).min(more.len());
            let (payload, more) = more.split_at(length);
            rest = more;
            if let Ok(Some(Frame::Protocol(envelope))) = frames::decoded(payload) {
                running.step(Input::Message { from: envelope.from, message: envelope.message });
            }
        }
        running.step(Input::Timer(Timer::Gossip));
        running.step(Input::Timer(Timer::Coalesce));
        running.said.iter().take(8).map(|name| format!("{name} ")).collect()
    }
}
