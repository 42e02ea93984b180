//! Traces in the field's notation: `w1@e2 → A Write 1..2 vdl=0`.

use crate::checking::Checkable;
use crate::payload::Mark;
use crate::script::Command;
use crate::volume::{Step, Volume};
use crate::world::World;
use auriga_protocol::message::{Install, Message, Refusal};
use auriga_protocol::writer::Role;
use auriga_protocol::{Lsn, PageId, Party, Record, TruncationList};
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
                let envelope = &before.network[*at].envelope;
                let again = if matches!(step, Step::Duplicate(_)) { " (and again later)" } else { "" };
                let (from, to) = (party(before, envelope.from, true), party(before, envelope.to, true));
                format!("{from} → {to} {}{again}", message(&envelope.message))
            }
            Step::Misroute(at, member) => {
                let envelope = &before.network[*at].envelope;
                let from = party(before, envelope.from, true);
                format!("a reader beside {from} → {member} {}", message(&envelope.message))
            }
            Step::Fsync(index) => format!("{} fsync", name(index)),
            Step::Crash(index, 0) => format!("{} crashes", name(index)),
            Step::Crash(index, keep) => format!("{} crashes, {keep} pending survive", name(index)),
            Step::CrashZone(zone, _) => {
                let nodes: Vec<String> = before.shape.nodes_of(*zone).map(|index| node(before, index)).collect();
                format!("az{} ({}) crashes", zone + 1, nodes.join(", "))
            }
            Step::Submit(index) => format!("{} submits", writer(index)),
            Step::Read(index, page) => format!("{} reads {}", writer(index), page_name(*page)),
            Step::Retry(index) => format!("{} retries", writer(index)),
            Step::Gossip(index, peer) => format!("{} asks {peer} what it misses", name(index)),
            Step::Coalesce(index) => format!("{} coalesces", name(index)),
            Step::Task(index) => format!("{} page store ends a task", name(index)),
        };
        match self.next_state(before, step.clone()) {
            Some(after) => told + &consequences(before, &after),
            None => told,
        }
    }

    fn command(&self, before: &World, step: &Step) -> Vec<Command> {
        let name = |index: &usize| node(before, *index);
        let writer = |index: &usize| format!("w{}", index + 1);
        let delivery = |envelope: &auriga_protocol::message::Envelope<Mark>| Command::Deliver {
            from: party(before, envelope.from, false),
            to: party(before, envelope.to, false),
            message: message(&envelope.message),
        };
        let one = match step {
            Step::Start(_) => Command::Start { writer: writer(&before.writers.len()) },
            Step::Deliver(at) | Step::Duplicate(at) => delivery(&before.network[*at].envelope),
            // No script command: a second reader is the model's own device.
            Step::Misroute(..) => return Vec::new(),
            Step::Fsync(index) => Command::Fsync { node: name(index), count: 1 },
            Step::Crash(index, keep) => Command::Crash { node: name(index), keep: *keep },
            Step::CrashZone(zone, keep) => Command::CrashAz { az: format!("az{}", zone + 1), keep: keep.clone() },
            Step::Submit(index) => {
                let pages = self.next_pages(before).iter().map(|page| page_name(*page)).collect();
                Command::Submit { writer: writer(index), pages }
            }
            Step::Read(index, page) => Command::Read { writer: writer(index), page: page_name(*page) },
            Step::Retry(index) => Command::Timer { node: writer(index), timer: String::from("Retry") },
            Step::Gossip(index, peer) => {
                let peer = before.shape.index(before.nodes[*index].machine.id().pg, *peer);
                Command::Gossip { node: name(index), peer: node(before, peer) }
            }
            Step::Coalesce(index) => Command::Timer { node: name(index), timer: String::from("Coalesce") },
            Step::Task(index) => Command::Task { node: name(index) },
        };
        vec![one]
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
        if role != Some(writer.role()) && (writer.role() == Role::Open || writer.role() == Role::Fenced) {
            let what = if writer.role() == Role::Open { "opens at" } else { "is fenced at" };
            text += &format!("   ▸ w{} {what} vdl={}", index + 1, writer.vdl());
        } else if writer.role() == Role::Open && then.is_some_and(|then| then.vdl() != writer.vdl()) {
            text += &format!("   ▸ w{} acknowledges through {}", index + 1, writer.vdl());
        }
        if then.is_some_and(|then| then.allocated() != writer.allocated()) && writer.role() == Role::Open {
            text += &format!("   ▸ allocated through {}", writer.allocated());
        }
    }
    text
}

fn node(world: &World, index: usize) -> String {
    party(world, Party::Segment(world.nodes[index].machine.id()), false)
}

fn writer_with_epoch(world: &World, index: usize) -> String {
    format!("w{}@{}", index + 1, world.writers[index].volume_epoch())
}

fn party(world: &World, party: Party, with_epoch: bool) -> String {
    match party {
        Party::Segment(segment) if world.shape.groups == 1 => segment.member.to_string(),
        Party::Segment(segment) => format!("{}/{}", segment.pg, segment.member),
        Party::Writer(_, writer) => match world.writer_index(writer) {
            Some(index) if with_epoch => writer_with_epoch(world, index),
            _ => writer.to_string(),
        },
    }
}

fn page_name(page: PageId) -> String {
    format!("{page:?}")
}

/// A message in few words.
pub fn message(message: &Message<Mark>) -> String {
    match message {
        Message::Seal { volume_epoch } => format!("Seal {volume_epoch}"),
        Message::Sealed { volume_epoch, report } => format!(
            "Sealed {volume_epoch} scl={} vdl={} install={}",
            report.scl, report.vdl, report.install.volume_epoch
        ),
        Message::TailPull { volume_epoch, above, .. } => format!("TailPull {volume_epoch} above={above}"),
        Message::Tail { volume_epoch, records: list, complete, .. } => {
            format!("Tail {volume_epoch} {}{}", records(list), if *complete { " complete" } else { "" })
        }
        Message::Install(install) => format!("Install {}", install_text(install)),
        Message::Write { records: list, vdl, pgmrpl, .. } => {
            format!("Write {} vdl={vdl} pgmrpl={pgmrpl}", records(list))
        }
        Message::Acknowledge { volume_epoch, scl, .. } => format!("Acknowledge {volume_epoch} scl={scl}"),
        Message::Refused(reason) => format!("Refused {}", refusal(reason)),
        Message::ReadPage { page, read_point, group_point, .. } => {
            format!("ReadPage {} read_point={read_point} group_point={group_point}", page_name(*page))
        }
        Message::Page { version, page, .. } => {
            let marks: Vec<String> = page.iter().map(|mark| mark.0.to_string()).collect();
            format!("Page version={version} [{}]", marks.join(" "))
        }
        Message::ReadRefused { refusal: reason, .. } => format!("ReadRefused {}", refusal(reason)),
        Message::GossipPull { installed, scl } => format!("GossipPull {installed} scl={scl}"),
        Message::GossipPush { installed, records: list } => format!("GossipPush {installed} {}", records(list)),
        Message::GossipInstall(install) => format!("GossipInstall {}", install_text(install)),
        Message::GossipTooFar { floor } => format!("GossipTooFar floor={floor}"),
        other => other.name().to_owned(),
    }
}

fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::StaleVolumeEpoch { current } => format!("StaleVolumeEpoch {current}"),
        Refusal::EpochTaken { current } => format!("EpochTaken {current}"),
        Refusal::NotInstalled { installed } => format!("NotInstalled {installed}"),
        Refusal::AboveScl { scl } => format!("AboveScl {scl}"),
        Refusal::BelowFloor { floor } => format!("BelowFloor {floor}"),
        other => format!("{other:?}"),
    }
}

fn install_text(install: &Install) -> String {
    format!("{} vdl={} annuls {}", install.volume_epoch, install.vdl, ranges(&install.truncations))
}

fn ranges(list: &TruncationList) -> String {
    let ranges = list.ranges().iter().map(|range| format!("{}..{}", range.above.next(), range.through));
    ranges.collect::<Vec<_>>().join(" ")
}

fn records(records: &[Record<Mark>]) -> String {
    let lsn = |record: Option<&Record<Mark>>| record.map_or(Lsn::ZERO, |record| record.lsn);
    match records {
        [] => String::from("nothing"),
        [one] => one.lsn.to_string(),
        several => format!("{}..{}", lsn(several.first()), lsn(several.last())),
    }
}
