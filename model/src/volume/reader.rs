//! The reader on another instance: what can happen to it, and what it is judged by.

use super::{Step, Volume};
use crate::payload::Mark;
use crate::world::{VOLUME, World};
use auriga_protocol::reader::{Answer, Passed, ReaderIdentity, Request};
use auriga_protocol::writer::{Timer as WriterTimer, WriterRole};
use auriga_protocol::{
    Effect, Effects, Input, Lsn, Machine, Message, Micros, PageId, Party, Reader, ReaderId, Record, Token, WriterId,
};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

impl Volume {
    pub(super) fn reader_steps(&self, world: &World, steps: &mut Vec<Step>) {
        if world.left.readers > 0 {
            steps.push(Step::StartReader);
        }
        for (index, writer) in world.writers.iter().enumerate() {
            if world.left.leases > 0 && writer.role() == WriterRole::Open {
                if writer.followers().any(|(id, _)| world.reader_is(id)) {
                    steps.push(Step::Lease(index));
                }
                if self.scale.followers.grace > Micros(0) {
                    steps.push(Step::Grace(index));
                }
            }
        }
        let Some(reader) = &world.reader else { return };
        if world.left.advances > 0 {
            steps.extend(reader.points().into_iter().map(Step::Advance));
        }
        if world.left.reader_retries > 0 {
            steps.push(Step::ReaderRetry);
        }
        let held: Vec<Lsn> = reader.held().collect();
        if held.len() > 1 {
            steps.push(Step::Release);
        }
        if world.left.reader_reads > 0 {
            let at = |page: PageId| held.iter().map(move |at| Step::ReadAt(page, *at));
            steps.extend(self.pages().into_iter().flat_map(at));
        }
    }

    fn pages(&self) -> BTreeSet<PageId> {
        self.scale.workload.iter().flatten().copied().collect()
    }

    pub(super) fn start_reader(&self, world: &mut World) {
        world.requests += 1;
        let id = ReaderIdentity { volume: VOLUME, reader: ReaderId(world.requests.into()) };
        let mut effects = Effects::default();
        let reader = Reader::boot(&self.reader_config, id, (), Micros(0), &mut effects);
        world.network.retain(|flying| !matches!(flying.envelope.to, Party::Reader(..)));
        world.reader = Some(Arc::new(reader));
        world.reader_dropped = false;
        self.reader_effects(world, effects);
    }

    pub(super) fn step_reader(&self, world: &mut World, input: Input<Reader<Mark>>) {
        let _ = self.with_reader(world, |reader, effects| reader.step(Micros(0), input, effects));
    }

    fn with_reader<R>(
        &self,
        world: &mut World,
        act: impl FnOnce(&mut Reader<Mark>, &mut Effects<Reader<Mark>>) -> R,
    ) -> Option<R> {
        let mut effects = Effects::default();
        let reader = Arc::make_mut(world.reader.as_mut()?);
        if let Ok(result) = catch_unwind(AssertUnwindSafe(|| act(reader, &mut effects))) {
            self.reader_effects(world, effects);
            return Some(result);
        }
        world.breaks("assertion", "an assertion of the reader fell");
        None
    }

    /// A message to the writer reaches every writer that was started.
    fn reader_effects(&self, world: &mut World, mut effects: Effects<Reader<Mark>>) {
        let Some(from) = world.reader.as_ref().map(|reader| Party::Reader(VOLUME, reader.id().reader)) else { return };
        for effect in effects.drain() {
            match effect {
                Effect::Send { message: message @ Message::Follow { .. }, .. } => {
                    for writer in 1..=world.writers.len() as u64 {
                        world.send(from, Party::Writer(VOLUME, WriterId(writer)), message.clone());
                    }
                }
                Effect::Send { to, message } => world.send(from, to, message),
                Effect::Multicast { to, message } => {
                    to.into_iter().for_each(|to| world.send(from, to, message.clone()));
                }
                Effect::Note(note) => world.note(&note),
                Effect::Answer { token, answer: Answer::Page { read_point, page, .. } } => {
                    self.reader_answered(world, token, read_point, &page);
                }
                Effect::Answer { .. } | Effect::SetTimer { .. } => {}
                Effect::Append { entry, .. } => match entry {},
                Effect::Start(task) => match task {},
            }
        }
    }

    fn reader_answered(&self, world: &mut World, token: Token, read_point: Lsn, content: &[Mark]) {
        let Some(page) = self.pages().into_iter().nth(token.0 as usize >> 8) else { return };
        let Some(epoch) = world.reader.as_ref().map(|reader| reader.status().volume_epoch) else { return };
        let expected = world.page_as_of(epoch, page, read_point);
        if content != expected {
            world.breaks("I-PAGE", format!("{page:?} as of {read_point} is {content:?}, not {expected:?}"));
        }
    }

    /// What lies between two read points is every record in force, and no other.
    pub(super) fn advance(&self, world: &mut World, to: Lsn) {
        let Some(before) = world.reader.as_ref().map(|reader| reader.read_point()) else { return };
        let Some(Ok(passed)) = self.with_reader(world, |reader, effects| reader.advance(to, effects)) else { return };
        let Some(epoch) = world.reader.as_ref().map(|reader| reader.status().volume_epoch) else { return };
        if let Passed::Records(records) = passed {
            let told: Vec<Lsn> = records.iter().map(|record: &Record<Mark>| record.lsn).collect();
            let annuls = |lsn: Lsn| world.history.installs.get(&epoch).is_some_and(|list| list.annuls(lsn));
            let above = world.history.records.range(before.next()..);
            let in_force = above.filter(|(lsn, record)| **lsn <= to && record.volume_epoch <= epoch && !annuls(**lsn));
            let expected: Vec<Lsn> = in_force.map(|(lsn, _)| *lsn).collect();
            if told != expected {
                world.breaks("R-READER-2", format!("between {before} and {to} it was told {told:?}, not {expected:?}"));
            }
        }
    }

    pub(super) fn release(&self, world: &mut World) {
        let _ = self.with_reader(world, |reader, effects| reader.release(reader.read_point(), effects));
    }

    pub(super) fn read_at(&self, world: &mut World, page: PageId, at: Lsn) {
        let place = self.pages().iter().position(|other| *other == page).unwrap_or_default();
        world.requests += 1;
        let token = Token((place as u64) << 8 | u64::from(world.requests));
        self.step_reader(world, Input::Request { token, request: Request::Read { page, at } });
    }

    pub(super) fn lease_ends(&self, world: &mut World, index: usize) {
        let Some(reader) = world.reader.as_ref().map(|reader| reader.id().reader) else { return };
        world.reader_dropped = true;
        self.step_writer(world, index, Input::Timer(WriterTimer::Lease(reader)));
    }

    pub(super) fn grace_ends(&self, world: &mut World, index: usize) {
        let follows = world.writers[index].followers().any(|(id, _)| world.reader_is(id));
        world.reader_dropped |= !follows;
        self.step_writer(world, index, Input::Timer(WriterTimer::Grace));
    }
}

impl World {
    /// Whether this is the reader that runs.
    pub fn reader_is(&self, id: ReaderId) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.id().reader == id)
    }
}
