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
//!
//! 2. **Acknowledgements at once** ([`Reductions::acknowledgements_at_once`]). All acknowledgements in flight to a
//!    writer are taken in one step, and one that is overtaken by a higher SCL of the same segment in the same volume
//!    epoch is dropped. Acknowledgements commute: each raises one member's SCL to a maximum. A run in which the writer
//!    takes some of those in flight, acts, and takes the rest later is still there: it is the run in which the segments
//!    of the rest made their appends durable *after* the writer acted. That run can be had because what those segments
//!    did in between depends on nothing that the writer learnt from the rest.
//!
//! 3. **Spent messages** ([`Reductions::drop_spent`]): a message that can never again change anything but by making its
//!    sender stop is dropped, so that states that differ only in such leftovers are one. See [`spent`] for each kind. A
//!    dropped refusal leaves an old writer in ignorance, which only gives it *more* behaviours.
//!
//! 4. **A crash keeps nothing** ([`Reductions::crash_keeps_nothing`]). A crash that keeps the first k pending appends
//!    is k times `Fsync` and then a crash that keeps none. They differ in what was sent in between, which may be lost,
//!    and in notes, which make the observer stricter, never laxer.
//!
//! 5. **One append at a time**: `Durable(n)` for several appends at once is a run of single ones (always on; the segment
//!    answers what is ready, so later answers supersede earlier ones).

use crate::world::World;
use auriga_protocol::message::{Envelope, Message, Refusal};
use auriga_protocol::writer::Role;
use auriga_protocol::{Lsn, Party, VolumeEpoch, WriterId};
use std::sync::Arc;

/// Which reductions are on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reductions {
    /// Reduction 1.
    pub symmetry: bool,
    /// Reduction 2.
    pub acknowledgements_at_once: bool,
    /// Reduction 3.
    pub drop_spent: bool,
    /// Reduction 4.
    pub crash_keeps_nothing: bool,
}

impl Reductions {
    /// All.
    pub const ON: Reductions =
        Reductions { symmetry: true, acknowledgements_at_once: true, drop_spent: true, crash_keeps_nothing: true };
    /// None.
    pub const OFF: Reductions =
        Reductions { symmetry: false, acknowledgements_at_once: false, drop_spent: false, crash_keeps_nothing: false };
    /// All but names: for scopes in which a writer chooses a segment to read from.
    pub const NAMED: Reductions = Reductions { symmetry: false, ..Reductions::ON };
}

/// Applies reductions 2 and 3 to the network.
pub fn thin_out(reductions: Reductions, world: &mut World) {
    if reductions.acknowledgements_at_once {
        drop_overtaken_acknowledgements(world);
    }
    if reductions.drop_spent {
        let mut network = std::mem::take(&mut world.network);
        network.retain(|flying| !spent(world, &flying.envelope));
        world.network = network;
    }
}

fn drop_overtaken_acknowledgements(world: &mut World) {
    let of = |envelope: &Envelope<_>| match envelope.message {
        Message::Acknowledge { volume_epoch, scl, .. } => Some((envelope.from, envelope.to, volume_epoch, scl)),
        _ => None,
    };
    let all: Vec<(Party, Party, VolumeEpoch, Lsn)> = world.network.iter().filter_map(|f| of(&f.envelope)).collect();
    if all.len() > 1 {
        let overtaken = |(from, to, epoch, scl)| {
            all.iter().any(|other| (other.0, other.1, other.2) == (from, to, epoch) && other.3 > scl)
        };
        world.network.retain(|flying| !of(&flying.envelope).is_some_and(overtaken));
    }
}

/// Whether a message in flight can never again change anything that matters.
pub fn spent(world: &World, envelope: &Envelope<crate::payload::Mark>) -> bool {
    match (envelope.from, envelope.to) {
        (Party::Writer(_, writer), Party::Segment(segment)) => {
            let promised = world.nodes[world.shape.index(segment.pg, segment.member)].kept.promised;
            spent_to_segment(world, writer, promised, &envelope.message)
        }
        (Party::Segment(segment), Party::Writer(_, writer)) => {
            let Some(index) = world.writer_index(writer) else { return true };
            spent_to_writer(world, index, segment, &envelope.message)
        }
        (Party::Segment(_), Party::Segment(segment)) => {
            let kept = &world.nodes[world.shape.index(segment.pg, segment.member)].kept;
            match &envelope.message {
                // Taken only while the promise is the install, and both are the sender's.
                Message::GossipPush { installed, .. } => *installed < kept.promised,
                Message::GossipInstall(install) => {
                    install.volume_epoch < kept.promised || install.volume_epoch <= kept.installed
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// A durable promise above the writer's epoch refuses for ever. The refusal matters only to a candidate that is still
/// sealing with that epoch: it tries again with a higher one. Everyone else would stop.
fn spent_to_segment(
    world: &World,
    writer: WriterId,
    promised: VolumeEpoch,
    message: &Message<crate::payload::Mark>,
) -> bool {
    let Some(writer) = world.writer_index(writer).map(|index| &world.writers[index]) else { return true };
    match message {
        Message::Seal { volume_epoch } => {
            writer.role() == Role::Fenced
                || writer.volume_epoch() > *volume_epoch
                || (*volume_epoch < promised && writer.role() != Role::Sealing)
        }
        Message::TailPull { volume_epoch, .. } => *volume_epoch < promised || writer.role() != Role::Collecting,
        Message::Install(install) => install.volume_epoch < promised,
        Message::Write { volume_epoch, .. } | Message::ReadPage { volume_epoch, .. } => *volume_epoch < promised,
        _ => false,
    }
}

/// A fenced writer takes nothing; a phase that is over is not entered again (`Collecting` may fall back to `Sealing`
/// when a retry timer fires, so its reports are kept while one may).
fn spent_to_writer(
    world: &World,
    index: usize,
    segment: auriga_protocol::SegmentId,
    message: &Message<crate::payload::Mark>,
) -> bool {
    let writer = &world.writers[index];
    let (role, epoch) = (writer.role(), writer.volume_epoch());
    if role == Role::Fenced {
        return true;
    }
    match message {
        Message::Sealed { volume_epoch, .. } => {
            let over = match role {
                Role::Sealing => false,
                Role::Collecting => world.left.retries == 0,
                Role::Installing | Role::Open | Role::Fenced => true,
            };
            over || *volume_epoch < epoch
        }
        Message::Tail { volume_epoch, .. } => matches!(role, Role::Installing | Role::Open) || *volume_epoch < epoch,
        Message::Acknowledge { volume_epoch, scl, .. } => {
            let known = || {
                let status = writer.status();
                let mut members = status.members.iter();
                members.any(|m| (m.pg, m.member) == (segment.pg, segment.member) && m.installed && m.scl >= *scl)
            };
            *volume_epoch < epoch || known()
        }
        Message::Refused(Refusal::StaleVolumeEpoch { current }) => *current <= epoch,
        Message::Refused(Refusal::EpochTaken { current }) => *current != epoch,
        Message::Refused(Refusal::NotInstalled { installed }) => {
            let node = &world.nodes[world.shape.index(segment.pg, segment.member)];
            *installed >= epoch || node.kept.installed >= epoch || install_in_flight(world, index, segment)
        }
        _ => false,
    }
}

fn install_in_flight(world: &World, index: usize, segment: auriga_protocol::SegmentId) -> bool {
    let writer = Party::Writer(crate::world::VOLUME, WriterId(index as u64 + 1));
    let is_it = |flying: &Arc<crate::world::Flying>| {
        let envelope = &flying.envelope;
        envelope.from == writer
            && envelope.to == Party::Segment(segment)
            && matches!(envelope.message, Message::Install(_))
    };
    world.network.iter().any(is_it)
}
