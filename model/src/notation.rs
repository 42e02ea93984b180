//! Traces in the field's notation: `w1@e2 → A Write 1..2 vdl=0`.

use crate::checking::Checkable;
use crate::volume::{Step, Volume};
use crate::world::World;
use auriga_protocol::message::Envelope;
use auriga_protocol::notation::{Names, message_text};
use auriga_protocol::writer::WriterRole;
use stateright::Model;
use std::sync::atomic::AtomicUsize;

impl Checkable for Volume {
    fn line(&self, before: &World, step: &Step) -> String {
        let name = |index: &usize| node(before, *index);
        let writer = |index: &usize| writer_with_epoch(before, *index);
        let told = match step {
            Step::Start(None) => format!("w{} starts", before.writers.len() + 1),
            Step::Start(Some(current)) => {
                format!("w{} starts, and is told of {current}", before.writers.len() + 1)
            }
            Step::Deliver(at) | Step::Duplicate(at) => {
                let Envelope { from, to, message } = &before.network[*at].envelope;
                let again = if matches!(step, Step::Duplicate(_)) { " (and again later)" } else { "" };
                format!("{}{again}", Names::of(before.shape.groups).message(*from, *to, message, false))
            }
            Step::Misroute(at, member) => {
                let Envelope { from, message, .. } = &before.network[*at].envelope;
                format!("a reader beside {from} → {member} {}", message_text(message))
            }
            Step::Fsync(index) => format!("{} fsync", name(index)),
            Step::Crash(index, 0) => format!("{} crashes", name(index)),
            Step::Crash(index, keep) => format!("{} crashes, {keep} pending survive", name(index)),
            Step::CrashZone(zone, _) => {
                let nodes: Vec<String> = before.shape.nodes_of(*zone).map(|index| node(before, index)).collect();
                format!("az{} ({}) crashes", zone + 1, nodes.join(", "))
            }
            Step::Lose(index, first) => format!("{} crashes, and loses its journal after entry {first}", name(index)),
            Step::Clean(index) => format!("{} journal is cleaned", name(index)),
            Step::Submit(index) => format!("{} submits", writer(index)),
            Step::Read(index, page) => format!("{} reads {page:?}", writer(index)),
            Step::Retry(index) => format!("{} retries", writer(index)),
            Step::Linger(index) => format!("{} waits for no more promises", writer(index)),
            Step::Gossip(index, peer) => format!("{} asks {peer} what it misses", name(index)),
            Step::Coalesce(index) => format!("{} coalesces", name(index)),
            Step::Task(index) => format!("{} page store ends a task", name(index)),
            Step::StartReader => String::from("a reader starts"),
            Step::Advance(to) => format!("the reader shows {to}"),
            Step::Release => String::from("the reader needs nothing older"),
            Step::ReadAt(page, at) => format!("the reader reads {page:?} as of {at}"),
            Step::ReaderRetry => String::from("the reader retries"),
            Step::Lease(index) => format!("{} drops the reader", writer(index)),
            Step::Grace(index) => format!("{} waits for no reader any more", writer(index)),
        };
        match self.next_state(before, step.clone()) {
            Some(after) => told + &consequences(before, &after),
            None => told,
        }
    }

    fn script(&self, before: Option<(&World, &Step)>) -> Vec<String> {
        let Some((before, step)) = before else { return self.script_head() };
        let mut world = World { script: Some(Vec::new()), ..before.clone() };
        self.apply(&mut world, step);
        self.settle(&mut world);
        world.script.unwrap_or_default()
    }

    fn last_word(&self, world: &World) -> String {
        world.broken.as_ref().map_or_else(String::new, |broken| format!("{}: {}", broken.rule, broken.what))
    }

    fn expanded(&self) -> Option<&AtomicUsize> {
        Some(Volume::expanded(self))
    }
}

/// What the step made true that a reader of a trace wants to know.
fn consequences(before: &World, after: &World) -> String {
    let mut text = String::new();
    for (index, writer) in after.writers.iter().enumerate() {
        let then = before.writers.get(index);
        let role = then.map(|then| then.role());
        if role != Some(writer.role()) && (writer.role() == WriterRole::Open || writer.role() == WriterRole::Fenced) {
            let what = if writer.role() == WriterRole::Open { "opens at" } else { "is fenced at" };
            text += &format!("   ▸ w{} {what} vdl={}", index + 1, writer.vdl());
        } else if writer.role() == WriterRole::Open && then.is_some_and(|then| then.vdl() != writer.vdl()) {
            text += &format!("   ▸ w{} acknowledges through {}", index + 1, writer.vdl());
        }
        if then.is_some_and(|then| then.allocated() != writer.allocated()) && writer.role() == WriterRole::Open {
            text += &format!("   ▸ allocated through {}", writer.allocated());
        }
    }
    text
}

fn node(world: &World, index: usize) -> String {
    world.name_of(index)
}

fn writer_with_epoch(world: &World, index: usize) -> String {
    format!("w{}@{}", index + 1, world.writers[index].volume_epoch())
}
