//! The reductions: what makes the scopes small enough to be complete, and why no behaviour that matters is lost.
//!
//! Each can be switched off. A test checks at V=3 that the verdict on the protocol, and on every planted defect of that
//! size, is the same with and without (`tests/reductions.rs`).
//!
//! 1. **Names of segments** ([`Reductions::symmetry`]). Renaming the members of one Availability Zone, or whole zones,
//!    turns a run into a run: members differ in nothing but their names. The machines use a name in two places only.
//!    `Writer::collect` breaks ties between chains that hold the same records through the same LSN, so either choice
//!    brings the same tail, and whether the chosen one crashes before it answers makes no difference either: a run in
//!    which it answered before the crash is also explored. `Segment::next_peer` takes peers in turn; the model asks
//!    every peer by itself. (`Writer::ask_next` chooses the lowest name among equally fast segments: the read scopes
//!    therefore do not use this reduction.) Two states that are equal up to names have the same future up to names, and
//!    no property looks at names. `symmetry.rs` says how the canonical form is found.
//!    That two members share a zone means one thing only, that they may crash together. So zones that will not crash any
//!    more (the budget is spent, or the guess of reduction 5 is another zone) are no zones: their members are of one kind.
//!
//! 2. **Answers at once** ([`Reductions::answers_at_once`]). `Acknowledge`, `Sealed` and `Tail` arrive in the step that sends
//!    them, and so does `TailPull`. A writer that takes an answer later is a writer that is slow. What it sent in
//!    between it could have sent before the answer was given, because it depended on nothing in the answer; and what it
//!    sends because of the answer may still take as long as it likes. A run in which an answer is lost is the run in
//!    which the question was. A run in which a candidate goes on without the report of a segment that has sealed is the
//!    run in which that segment seals later: until then, what its promise would have refused did not arrive. Between
//!    `Sealed` and `Install` a segment's chain does not move (R-GOSSIP-2), so its tail is the same whenever it is asked.
//!    What a writer claims as durable is claimed at the earliest moment, which the observer judges no laxer.
//!
//! 3. **Spent messages** ([`Reductions::drop_spent`]): a message that can never again change anything but by making its
//!    sender stop is dropped (each time the segment is asked whether it does refuse), so that states that differ only in
//!    such leftovers are one. See [`spent`] for each kind. A dropped refusal leaves an old writer in ignorance, which only
//!    gives it *more* behaviours. A `Seal` that arrives when its writer wants no more reports only makes the segment
//!    refuse: older writers and peers, whose messages may as well be lost; a rival with the same volume epoch, whom the
//!    read quorum that was sealed refuses just so. The writer's own install, when it comes, promises the same.
//!
//! 4. **A crash keeps nothing** ([`Reductions::crash_keeps_nothing`]). A crash that keeps the first k pending appends
//!    is k times `Fsync` and then a crash that keeps none. They differ in what was sent in between, which may be lost,
//!    and in notes: an install may survive that was never noted, which the observer must allow for (the test of this
//!    reduction found that it did not).
//!
//!    With it goes that a delivery that does nothing but take the message from the network is no step: the message
//!    stays, and a message that stays can do all that a lost one can.
//!
//! 5. **Only what will crash lets appends wait** ([`Reductions::only_the_doomed_wait`]). A disk that takes its time and
//!    then does not lose anything is a disk that is prompt behind a slow network, by the argument of 2. Which disk will
//!    lose something is guessed at the start: with one crash (of a node or a zone) in the budget there is one initial
//!    state for each node or zone that it may strike, up to names; the others are prompt, and once it has struck all are.
//!
//! 6. **One append at a time**: `Durable(n)` for several appends at once is a run of single ones (always on; the segment
//!    answers what is ready, so later answers supersede earlier ones).

use crate::node::Node;
use crate::payload::Mark;
use crate::world::World;
use auriga_protocol::message::{Envelope, Message, Refusal, Standing};
use auriga_protocol::writer::WriterRole;
use auriga_protocol::{Effect, Effects, Input, Machine, Micros, Party, VolumeEpoch, WriterId};
use std::sync::Arc;

/// Which reductions are on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reductions {
    /// Reduction 1.
    pub symmetry: bool,
    /// Reduction 2.
    pub answers_at_once: bool,
    /// Reduction 3.
    pub drop_spent: bool,
    /// Reduction 4.
    pub crash_keeps_nothing: bool,
    /// Reduction 5.
    pub only_the_doomed_wait: bool,
}

impl Reductions {
    /// All.
    pub const ON: Reductions = Reductions {
        symmetry: true,
        answers_at_once: true,
        drop_spent: true,
        crash_keeps_nothing: true,
        only_the_doomed_wait: true,
    };
    /// None.
    pub const OFF: Reductions = Reductions {
        symmetry: false,
        answers_at_once: false,
        drop_spent: false,
        crash_keeps_nothing: false,
        only_the_doomed_wait: false,
    };
    /// All but names: for scopes in which a writer chooses a segment to read from.
    pub const NAMED: Reductions = Reductions { symmetry: false, ..Reductions::ON };
}

/// Applies reduction 3 to the network.
pub fn thin_out(reductions: Reductions, world: &mut World) {
    if reductions.drop_spent {
        let mut network = std::mem::take(&mut world.network);
        network.retain(|flying| !spent(world, &flying.envelope));
        world.network = network;
    }
}

/// Whether a message in flight can never again change anything that matters.
pub fn spent(world: &World, envelope: &Envelope<Mark>) -> bool {
    match (envelope.from, envelope.to) {
        (Party::Writer(_, writer), Party::Segment(segment)) => {
            let index = world.shape.index(segment.pg, segment.member);
            let node = &world.nodes[index];
            // A promise that may be forgotten does not refuse permanently.
            let promised = if world.may_lose(index) { VolumeEpoch::NONE } else { node.kept.promised };
            spent_to_segment(world, writer, promised, &envelope.message) && is_refused(node, envelope)
        }
        (Party::Segment(segment), Party::Writer(_, writer)) => {
            let Some(index) = world.writer_index(writer) else { return true };
            spent_to_writer(world, index, segment, &envelope.message)
        }
        (Party::Segment(_), Party::Segment(segment)) => {
            let node = &world.nodes[world.shape.index(segment.pg, segment.member)];
            let kept = &node.kept;
            match &envelope.message {
                // Only a segment that wants to rejoin takes an answer.
                Message::RejoinKnown { .. } | Message::RejoinPush { .. } => {
                    let index = world.shape.index(segment.pg, segment.member);
                    !node.machine.status().rejoining && !world.may_lose(index)
                }
                // Taken only while the promise is the install, and both are the sender's.
                Message::GossipPush { installed, .. } => *installed < kept.promised,
                Message::GossipInstall { install, .. } => {
                    install.volume_epoch < kept.promised || install.volume_epoch <= kept.installed
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// A durable promise above the writer's epoch refuses permanently. The refusal matters only to a candidate that is
/// still sealing with that epoch: it tries again with a higher one. Everyone else would stop.
fn spent_to_segment(world: &World, writer: WriterId, promised: VolumeEpoch, message: &Message<Mark>) -> bool {
    let Some(writer) = world.writer_index(writer).map(|index| &world.writers[index]) else { return true };
    match message {
        Message::Seal { volume_epoch, .. } => {
            // Whether the writer may still want this segment's report.
            let asks = match writer.role() {
                WriterRole::Sealing => true,
                WriterRole::Collecting => world.left.retries > 0 && *volume_epoch >= promised,
                WriterRole::Installing | WriterRole::Open | WriterRole::Fenced => false,
            };
            !asks || writer.volume_epoch() > *volume_epoch
        }
        Message::TailPull { volume_epoch, .. } => *volume_epoch < promised || writer.role() != WriterRole::Collecting,
        Message::Install { install, .. } => install.volume_epoch < promised,
        Message::Write { volume_epoch, .. } | Message::ReadPage { volume_epoch, .. } => *volume_epoch < promised,
        _ => false,
    }
}

/// Past sealing, a refusal only stops its writer, and a stopped writer is one that takes no further step.
fn may_stop(role: WriterRole) -> bool {
    role != WriterRole::Sealing
}

/// Whether the segment, asked now, does nothing but refuse. So the reduction does not assume the fence that it is to
/// check: a message that a broken fence would let through is kept.
fn is_refused(node: &Node, envelope: &Envelope<Mark>) -> bool {
    if matches!(envelope.message, Message::Seal { .. } | Message::TailPull { .. }) {
        return true;
    }
    let (mut machine, mut effects) = (node.machine.clone(), Effects::default());
    let input = Input::Message { from: envelope.from, message: envelope.message.clone() };
    machine.step(Micros(0), input, &mut effects);
    let refusal = |effect| {
        let message = if let Effect::Send { message, .. } = effect { Some(message) } else { None };
        matches!(message, Some(Message::Refused(_) | Message::ReadRefused { .. }))
    };
    effects.drain().all(refusal) && machine == node.machine
}

/// A fenced writer takes nothing; a phase that is over is not entered again (`Collecting` may fall back to `Sealing`
/// when a retry timer fires, so its reports are kept while one may).
fn spent_to_writer(world: &World, index: usize, segment: auriga_protocol::SegmentId, message: &Message<Mark>) -> bool {
    let writer = &world.writers[index];
    let (role, epoch) = (writer.role(), writer.volume_epoch());
    if role == WriterRole::Fenced {
        return true;
    }
    match message {
        Message::Sealed { volume_epoch, .. } => {
            let over = match role {
                WriterRole::Sealing => false,
                WriterRole::Collecting => world.left.retries == 0,
                WriterRole::Installing | WriterRole::Open | WriterRole::Fenced => true,
            };
            over || *volume_epoch < epoch
        }
        Message::Tail { volume_epoch, .. } => {
            matches!(role, WriterRole::Installing | WriterRole::Open) || *volume_epoch < epoch
        }
        Message::Acknowledge { standing, .. } if *standing != Standing::default() => false,
        Message::Acknowledge { volume_epoch, scl, .. } => {
            let known = || {
                let status = writer.status();
                let mut members = status.members.iter();
                members.any(|m| (m.pg, m.member) == (segment.pg, segment.member) && m.installed && m.scl >= *scl)
            };
            *volume_epoch < epoch || known()
        }
        Message::Refused(Refusal::StaleVolumeEpoch { current }) => *current <= epoch || may_stop(role),
        Message::Refused(Refusal::NotInstalled { installed }) => {
            let node = &world.nodes[world.shape.index(segment.pg, segment.member)];
            *installed >= epoch || node.kept.installed >= epoch || install_in_flight(world, index, segment)
        }
        // Tried again by the retry timer only.
        Message::Refused(Refusal::Rejoining | Refusal::Busy | Refusal::DiskFull | Refusal::OtherShape { .. }) => true,
        _ => false,
    }
}

fn install_in_flight(world: &World, index: usize, segment: auriga_protocol::SegmentId) -> bool {
    let writer = Party::Writer(crate::world::VOLUME, WriterId(index as u64 + 1));
    let is_it = |flying: &Arc<crate::world::Flying>| {
        let envelope = &flying.envelope;
        envelope.from == writer
            && envelope.to == Party::Segment(segment)
            && matches!(envelope.message, Message::Install { .. })
    };
    world.network.iter().any(is_it)
}
