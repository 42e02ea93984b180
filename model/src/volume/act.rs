//! What happens in a step: a machine takes an input, and what it asks for is done.

use super::{Step, Volume};
use crate::node::Node;
use crate::payload::Mark;
use crate::reductions::thin_out;
use crate::world::{Submitted, VOLUME, World};
use auriga_protocol::notation::message_text;
use auriga_protocol::reader::Timer as ReaderTimer;
use auriga_protocol::segment::Timer as SegmentTimer;
use auriga_protocol::writer::{Answer, Request, Timer as WriterTimer, WriterIdentity};
use auriga_protocol::{
    Change, Effect, Effects, Input, Lsn, Machine, MemberId, Message, Micros, PageId, Party, Refusal, Segment,
    SegmentId, Token, VolumeEpoch, Writer, WriterId,
};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

type SegmentEffects = Vec<Effect<Segment<Mark>>>;

impl Volume {
    /// Whether appends of this node are durable as soon as they are started.
    pub(super) fn is_prompt(&self, world: &World, index: usize) -> bool {
        self.scale.synchronous || (self.scale.reductions.only_the_doomed_wait && !world.may_crash(index))
    }

    pub(super) fn start(&self, world: &mut World) {
        let writer = WriterId(world.writers.len() as u64 + 1);
        world.left.writers -= 1;
        world.script(|_| format!("start {writer}"));
        let mut effects = Effects::default();
        let id = WriterIdentity { volume: VOLUME, writer };
        let machine = Writer::boot(&self.writer_config, id, (), Micros(0), &mut effects);
        world.writers.push(Arc::new(machine));
        self.writer_effects(world, world.writers.len() - 1, effects);
    }

    pub(super) fn start_after(&self, world: &mut World, refused_by: Option<VolumeEpoch>) {
        self.start(world);
        let writer = world.writers.len() - 1;
        let holds = |node: &Arc<Node>| Some(node.kept.promised) == refused_by;
        if let Some(segment) = world.nodes.iter().find(|node| holds(node)).map(|node| node.machine.id()) {
            world.script(|names| format!("deliver w{} {} Seal", writer + 1, names.segment(segment)));
            let current = refused_by.unwrap_or_default();
            let message = Message::Refused(Refusal::StaleVolumeEpoch { current });
            world.script(|names| format!("deliver {} w{} Refused", names.segment(segment), writer + 1));
            self.step_writer(world, writer, Input::Message { from: Party::Segment(segment), message });
        }
    }

    pub(super) fn deliver(&self, world: &mut World, at: usize, again: bool) {
        let flying = if again { Arc::clone(&world.network[at]) } else { world.network.remove(at) };
        let (from, message) = (flying.envelope.from, flying.envelope.message.clone());
        world.script(|names| {
            let (from, to) = (names.party(from), names.party(flying.envelope.to));
            format!("{} {from} {to} {}", if again { "repeat" } else { "deliver" }, message_text(&message))
        });
        match flying.envelope.to {
            Party::Segment(segment) => {
                let index = self.shape.index(segment.pg, segment.member);
                self.step_segment(world, index, Input::Message { from, message });
            }
            Party::Writer(_, writer) => {
                if let Some(index) = world.writer_index(writer) {
                    self.step_writer(world, index, Input::Message { from, message });
                }
            }
            Party::Reader(_, reader) if world.reader_is(reader) => {
                self.step_reader(world, Input::Message { from, message });
            }
            Party::Reader(..) => {}
        }
    }

    pub(super) fn fsync(&self, world: &mut World, index: usize) {
        let durable = Arc::make_mut(&mut world.nodes[index]).fsync(&self.segment_config);
        if let Some(append) = durable {
            let name = world.name_of(index);
            world.script(|_| format!("sync {name} 1"));
            self.step_segment(world, index, Input::Durable(append));
        }
    }

    fn run_task(&self, world: &mut World, index: usize) {
        let outcome = Arc::make_mut(&mut world.nodes[index]).run_task(&self.segment_config);
        if let Some(outcome) = outcome {
            let name = world.name_of(index);
            world.script(|_| format!("task {name}"));
            self.step_segment(world, index, Input::Done(outcome));
        }
    }

    fn step_segment(&self, world: &mut World, index: usize, input: Input<Segment<Mark>>) {
        let group_point = match &input {
            Input::Message { message: Message::ReadPage { group_point, .. }, .. } => Some(*group_point),
            _ => None,
        };
        let Some(effects) = self.stepped(world, index, input) else { return };
        if let (Some(group_point), Some(scl)) = (group_point, refused_above_scl(&effects))
            && group_point <= scl
        {
            let id = world.nodes[index].machine.id();
            world.breaks("R-READ-2", format!("{id} refused group point {group_point} although its SCL is {scl}"));
        }
        self.segment_effects(world, index, effects);
    }

    /// What the machine asks for; `None` if an assertion fell.
    fn stepped(&self, world: &mut World, index: usize, input: Input<Segment<Mark>>) -> Option<SegmentEffects> {
        let mut effects = Effects::default();
        let machine = &mut Arc::make_mut(&mut world.nodes[index]).machine;
        match catch_unwind(AssertUnwindSafe(|| machine.step(Micros(0), input, &mut effects))) {
            Ok(()) => Some(effects.drain().collect()),
            Err(panic) => {
                world.breaks("assertion", panic_text(&*panic));
                None
            }
        }
    }

    /// Does what a segment asks for. Gossip questions that [`Volume::gossip`] has not picked are lost.
    fn segment_effects(&self, world: &mut World, index: usize, effects: SegmentEffects) {
        let from = Party::Segment(world.nodes[index].machine.id());
        for effect in effects {
            match effect {
                Effect::Send { message: Message::GossipPull { .. }, .. } | Effect::SetTimer { .. } => {}
                Effect::Send { to, message } => world.send(from, to, message),
                Effect::Multicast { to, message } => {
                    to.into_iter().for_each(|to| world.send(from, to, message.clone()));
                }
                Effect::Append { id, entry } => Arc::make_mut(&mut world.nodes[index]).pending.push_back((id, entry)),
                Effect::Start(task) => Arc::make_mut(&mut world.nodes[index]).tasks.push_back(task),
                Effect::Note(note) => world.note(&note),
                Effect::Answer { answer, .. } => match answer {},
            }
        }
        while self.is_prompt(world, index) && !world.nodes[index].pending.is_empty() && world.broken.is_none() {
            self.fsync(world, index);
        }
        while self.scale.prompt_tasks && !world.nodes[index].tasks.is_empty() && world.broken.is_none() {
            self.run_task(world, index);
        }
    }

    /// The gossip timer fires until it is the turn of member `asked`, whom the question reaches at once.
    fn gossip(&self, world: &mut World, index: usize, asked: MemberId) {
        let id = world.nodes[index].machine.id();
        let peer = Party::Segment(SegmentId { member: asked, ..id });
        for _ in 0..self.shape.members {
            let name = world.name_of(index);
            world.script(|_| format!("timer {name} Gossip"));
            let Some(effects) = self.stepped(world, index, Input::Timer(SegmentTimer::Gossip)) else { return };
            let question = effects.iter().find_map(|effect| match effect {
                Effect::Send { to, message: message @ Message::GossipPull { .. } } => Some((*to, message.clone())),
                _ => None,
            });
            self.segment_effects(world, index, effects);
            // A segment that knows nothing asks everyone at once, in messages of another kind.
            let Some((to, message)) = question else { return };
            if to == peer {
                world.script(|names| format!("deliver {name} {} {}", names.party(to), message_text(&message)));
                let message = Input::Message { from: Party::Segment(id), message };
                return self.step_segment(world, self.shape.index(id.pg, asked), message);
            }
        }
    }

    /// A node boots from what is left on its disk.
    fn booted(&self, world: &mut World, index: usize, mut effects: Effects<Segment<Mark>>) {
        let name = world.name_of(index);
        world.script(|_| format!("restart {name}"));
        self.segment_effects(world, index, effects.drain().collect());
    }

    fn crash(&self, world: &mut World, index: usize, keep: usize) {
        let (name, mut effects) = (world.name_of(index), Effects::default());
        world.script(|_| format!("crash {name} {keep}"));
        Arc::make_mut(&mut world.nodes[index]).crash(&self.segment_config, keep, &mut effects);
        self.booted(world, index, effects);
    }

    fn lose(&self, world: &mut World, index: usize, first: usize) {
        let (name, mut effects) = (world.name_of(index), Effects::default());
        world.script(|_| format!("crash {name} 0"));
        world.script(|_| format!("forget {name} {first}"));
        Arc::make_mut(&mut world.nodes[index]).lose(&self.segment_config, first, &mut effects);
        self.booted(world, index, effects);
    }

    pub(super) fn step_writer(&self, world: &mut World, index: usize, input: Input<Writer<Mark>>) {
        let mut effects = Effects::default();
        let writer = Arc::make_mut(&mut world.writers[index]);
        let stepped = catch_unwind(AssertUnwindSafe(|| writer.step(Micros(0), input, &mut effects)));
        match stepped {
            Ok(()) => self.writer_effects(world, index, effects),
            Err(panic) => world.breaks("assertion", panic_text(&*panic)),
        }
    }

    fn writer_effects(&self, world: &mut World, index: usize, mut effects: Effects<Writer<Mark>>) {
        let from = Party::Writer(VOLUME, WriterId(index as u64 + 1));
        for effect in effects.drain() {
            match effect {
                Effect::Send { to, message } => world.send(from, to, message),
                Effect::Multicast { to, message } => {
                    to.into_iter().for_each(|to| world.send(from, to, message.clone()));
                }
                Effect::Note(note) => world.note(&note),
                Effect::Answer { token, answer } => self.answered(world, index, token, answer),
                Effect::SetTimer { .. } => {}
                Effect::Append { entry, .. } => match entry {},
                Effect::Start(task) => match task {},
            }
        }
    }

    /// Delivers an answer to its user.
    fn answered(&self, world: &mut World, index: usize, token: Token, answer: Answer<Mark>) {
        match answer {
            Answer::Submitted(last) => self.submitted(world, index, token, last),
            Answer::Page { read_point, page: content, .. } => {
                let volume_epoch = world.writers[index].volume_epoch();
                let asked = self.scale.workload.iter().flatten().copied().collect::<BTreeSet<_>>();
                let pages: Vec<PageId> = asked.into_iter().collect();
                let Some(page) = pages.get(token.0 as usize >> 8).copied() else { return };
                let expected = world.page_as_of(volume_epoch, page, read_point);
                if content != expected {
                    world.breaks("I-PAGE", format!("{page:?} as of {read_point} is {content:?}, not {expected:?}"));
                }
                let history = Arc::make_mut(&mut world.history);
                if let Some(operations) = &mut history.operations {
                    operations.answered(token.0 as u8, &content);
                }
            }
            Answer::NotSubmitted(_) | Answer::NotRead(_) | Answer::Published => {}
            // Nobody asks for it here.
            Answer::Replacing { .. } | Answer::Undoing | Answer::NotReplaced(_) => {}
        }
    }

    fn submitted(&self, world: &mut World, index: usize, token: Token, last: Lsn) {
        let volume_epoch = world.writers[index].volume_epoch();
        let pages = self.next_pages(world).to_vec();
        let first = last.0 + 1 - pages.len() as u64;
        let marks: Vec<(PageId, Mark)> = (pages.iter().zip(world.marks..)).map(|(page, n)| (*page, Mark(n))).collect();
        let history = Arc::make_mut(&mut world.history);
        for (lsn, (page, mark)) in (first..).zip(&marks) {
            history.records.insert(Lsn(lsn), Submitted { volume_epoch, page: *page, mark: *mark });
        }
        world.marks += pages.len() as u8;
        world.left.submits -= 1;
        if let Some(operations) = &mut history.operations {
            operations.submitted(token.0 as u8, last, marks);
        }
    }

    /// The pages that the next submission changes.
    pub fn next_pages(&self, world: &World) -> &[PageId] {
        let done = usize::from(self.scale.budgets.submits - world.left.submits);
        &self.scale.workload[done % self.scale.workload.len()]
    }

    fn submit(&self, world: &mut World, index: usize) {
        let marks = (self.next_pages(world).iter()).zip(world.marks..);
        let changes = marks.map(|(page, mark)| Change { page: *page, payload: Mark(mark) }).collect();
        world.requests += 1;
        let token = Token(world.requests.into());
        let marks = (self.next_pages(world).iter()).zip(world.marks..).map(|(page, mark)| format!(" {page:?}={mark}"));
        let marks = marks.collect::<String>();
        world.script(|_| format!("submit w{}{marks}", index + 1));
        self.step_writer(world, index, Input::Request { token, request: Request::Submit(changes) });
        self.step_writer(world, index, Input::Request { token, request: Request::Flush });
    }

    /// The token names the page, so that the answer can be judged.
    fn read(&self, world: &mut World, index: usize, page: PageId) {
        let pages: BTreeSet<PageId> = self.scale.workload.iter().flatten().copied().collect();
        let place = pages.iter().position(|other| *other == page).unwrap_or_default();
        world.requests += 1;
        world.left.reads -= 1;
        world.script(|_| format!("read w{} {page:?}", index + 1));
        let token = Token((place as u64) << 8 | u64::from(world.requests));
        if let Some(operations) = &mut Arc::make_mut(&mut world.history).operations {
            operations.asked(world.requests, page);
        }
        self.step_writer(world, index, Input::Request { token, request: Request::Read(page) });
    }

    pub(crate) fn apply(&self, world: &mut World, step: &Step) {
        match step {
            Step::Start(refused_by) => self.start_after(world, *refused_by),
            Step::Deliver(at) => self.deliver(world, *at, false),
            Step::Duplicate(at) => {
                world.left.duplicates -= 1;
                self.deliver(world, *at, true);
            }
            Step::Misroute(at, member) => {
                let flying = Arc::clone(&world.network[*at]);
                if let Party::Segment(segment) = flying.envelope.to {
                    let index = self.shape.index(segment.pg, *member);
                    let (from, message) = (flying.envelope.from, flying.envelope.message.clone());
                    let name = world.name_of(index);
                    world.script(|names| {
                        let (from, to) = (names.party(from), names.segment(segment));
                        format!("misroute {name} {from} {to} {}", message_text(&message))
                    });
                    self.step_segment(world, index, Input::Message { from, message });
                }
            }
            Step::Fsync(index) => self.fsync(world, *index),
            Step::Crash(index, keep) => {
                world.left.crashes -= 1;
                self.crash(world, *index, *keep);
            }
            Step::CrashZone(zone, keep) => {
                world.left.zone_crashes -= 1;
                for (index, keep) in self.shape.nodes_of(*zone).zip(keep) {
                    self.crash(world, index, *keep);
                }
            }
            Step::Lose(index, first) => {
                world.left.losses -= 1;
                self.lose(world, *index, *first);
            }
            Step::Clean(index) => {
                world.left.cleans -= 1;
                let name = world.name_of(*index);
                world.script(|_| format!("clean {name}"));
                Arc::make_mut(&mut world.nodes[*index]).clean(&self.segment_config);
            }
            Step::Submit(index) => self.submit(world, *index),
            Step::Read(index, page) => self.read(world, *index, *page),
            Step::Retry(index) => {
                world.left.retries -= 1;
                world.script(|_| format!("timer w{} Retry", index + 1));
                self.step_writer(world, *index, Input::Timer(WriterTimer::Retry));
            }
            Step::Linger(index) => {
                world.script(|_| format!("timer w{} Linger", index + 1));
                self.step_writer(world, *index, Input::Timer(WriterTimer::Linger));
            }
            Step::Gossip(index, peer) => {
                world.left.gossips -= 1;
                self.gossip(world, *index, *peer);
            }
            Step::Coalesce(index) => {
                world.left.coalesces -= 1;
                let name = world.name_of(*index);
                world.script(|_| format!("timer {name} Coalesce"));
                self.step_segment(world, *index, Input::Timer(SegmentTimer::Coalesce));
            }
            Step::Task(index) => self.run_task(world, *index),
            Step::StartReader => {
                world.left.readers -= 1;
                self.start_reader(world);
            }
            Step::Advance(to) => {
                world.left.advances -= 1;
                self.advance(world, *to);
            }
            Step::Release => self.release(world),
            Step::ReadAt(page, at) => {
                world.left.reader_reads -= 1;
                self.read_at(world, *page, *at);
            }
            Step::ReaderRetry => {
                world.left.reader_retries -= 1;
                self.step_reader(world, Input::Timer(ReaderTimer::Retry));
            }
            Step::Lease(index) => {
                world.left.leases -= 1;
                self.lease_ends(world, *index);
            }
            Step::Grace(index) => {
                world.left.leases -= 1;
                self.grace_ends(world, *index);
            }
        }
    }

    /// Reduction 2: whatever answers a writer, and what a sealed segment is asked, arrives in the step that sends it.
    fn deliver_answers(&self, world: &mut World) {
        let is_answer = |flying: &Arc<crate::world::Flying>| {
            let message = &flying.envelope.message;
            matches!(
                message,
                Message::Acknowledge { .. } | Message::Sealed { .. } | Message::TailPull { .. } | Message::Tail { .. }
            )
        };
        while world.broken.is_none()
            && let Some(at) = world.network.iter().position(is_answer)
        {
            self.deliver(world, at, false);
        }
    }

    /// After a step: digests, reductions.
    pub(crate) fn settle(&self, world: &mut World) {
        if self.scale.reductions.answers_at_once {
            self.deliver_answers(world);
        }
        let mut scratch = Vec::with_capacity(512);
        for node in &mut world.nodes {
            // Only the nodes that the step has touched are not shared with the state before.
            if let Some(node) = Arc::get_mut(node) {
                node.seal_digest(&mut scratch);
            }
        }
        thin_out(self.scale.reductions, world);
    }
}

fn refused_above_scl(effects: &[Effect<Segment<Mark>>]) -> Option<Lsn> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send { message: Message::ReadRefused { refusal: Refusal::AboveScl { scl }, .. }, .. } => Some(*scl),
        _ => None,
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
