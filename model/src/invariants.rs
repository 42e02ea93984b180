//! What is checked in every state.
//!
//! The protocol's own observer judges the notes, by rule (`R-…`). Beside it stand the invariants (`I-…`, see
//! `specs/invariants.md`) that need to look into the machines and disks. The first that breaks is latched in the state,
//! so each `always` property is "this one has not broken". Beside them `sometimes` properties show that the scope
//! reaches what the others speak of.

use crate::node::Node;
use crate::volume::{Focus, Scale, Volume};
use crate::world::World;
use auriga_protocol::writer::WriterRole;
use auriga_protocol::{Lsn, MemberId, MemberSet, Message, Party, PgId, Segment, Writer};
use stateright::Property;
use std::sync::Arc;

/// Checks what the step may have broken.
pub fn after_step(model: &Volume, before: &World, world: &mut World) {
    let changed = |index: &usize| !Arc::ptr_eq(&world.nodes[*index], &before.nodes[*index]);
    let touched: Vec<usize> = (0..world.nodes.len()).filter(changed).collect();
    let broken = touched.iter().find_map(|index| {
        let node = &world.nodes[*index];
        annulled_is_gone(world, node).or_else(|| chains_agree(world, *index)).or_else(|| floor_is_low(world, node))
    });
    let moved = world.history.durable != before.history.durable;
    let broken = broken.or_else(|| if moved || !touched.is_empty() { copies_are_there(model, world) } else { None });
    let stepped =
        |index: &usize| before.writers.get(*index).is_none_or(|then| !Arc::ptr_eq(&world.writers[*index], then));
    let broken = broken.or_else(|| {
        let mut writers = (0..world.writers.len()).filter(stepped);
        writers.find_map(|index| {
            let writer = &world.writers[index];
            let opened = before.writers.get(index).is_none_or(|then| then.role() != writer.role());
            let unfounded = if opened { opened_on_a_quorum(model, world, writer) } else { None };
            unfounded.or_else(|| allocation_is_bounded(model, world, writer)).or_else(|| durable_is_seen(world, writer))
        })
    });
    let broken = broken.or_else(|| readers_are_held(world));
    if let Some((rule, what)) = broken {
        world.breaks(rule, what);
    }
}

type Broken = Option<(&'static str, String)>;

/// I-ANNULLED: a segment holds nothing that its install annuls, whatever it remembers of that install.
fn annulled_is_gone(world: &World, node: &Node) -> Broken {
    let truncations = world.history.installs.get(&node.machine.install().volume_epoch)?;
    let held = node.machine.log().records().find(|record| truncations.annuls(record.lsn))?;
    Some(("I-ANNULLED", format!("{} holds {}, annulled by {truncations:?}", node.machine.id(), held.lsn)))
}

/// I-FLOOR: no floor is above the read point of a read that is under way in the volume epoch installed there.
fn floor_is_low(world: &World, node: &Node) -> Broken {
    let (epoch, floor) = (node.machine.install().volume_epoch, node.machine.log().floor());
    let reading = |writer: &Arc<Writer<_>>| writer.volume_epoch() == epoch && writer.status().reads > 0;
    if floor == Lsn::ZERO || !world.writers.iter().any(reading) {
        return None;
    }
    world.network.iter().find_map(|flying| match (&flying.envelope.message, flying.envelope.to) {
        (Message::ReadPage { volume_epoch, read_point, .. }, Party::Segment(to))
            if *volume_epoch == epoch && to.pg == node.machine.id().pg && floor > *read_point =>
        {
            let what = format!("{} collected {floor}; a read at {read_point} is under way", node.machine.id());
            Some(("I-FLOOR", what))
        }
        _ => None,
    })
}

/// R-READER-3: no writer has told a PGMRPL above what a follower needs. I-FLOOR: while no writer has dropped the reader, no
/// floor is above what it needs.
fn readers_are_held(world: &World) -> Broken {
    let reader = world.reader.as_ref()?;
    let open = world.writers.iter().filter(|writer| writer.role() == WriterRole::Open);
    let mut told = open.flat_map(|writer| writer.followers().map(|(id, floor)| (id, floor, writer.told_pgmrpl())));
    if let Some((id, floor, told)) = told.find(|(_, floor, told)| told > floor) {
        return Some(("R-READER-3", format!("PGMRPL {told} was told, and {id} follows and needs {floor}")));
    }
    let needs = reader.needs().filter(|_| !world.reader_dropped && !reader.is_lost())?;
    let node = world.nodes.iter().find(|node| node.machine.log().floor() > needs)?;
    let floor = node.machine.log().floor();
    Some(("I-FLOOR", format!("{} collected {floor}; a reader needs {needs}", node.machine.id())))
}

/// R-RECOVER-3: a writer opens only once a write quorum of every group has its install on disk.
fn opened_on_a_quorum(model: &Volume, world: &World, writer: &Writer<crate::payload::Mark>) -> Broken {
    let epoch = writer.volume_epoch();
    let has = |pg: u16, member: &MemberId| {
        let node = &world.nodes[world.shape.index(PgId(pg), *member)];
        node.kept.installed >= epoch || node.machine.status().rejoining
    };
    let installed = |pg: u16| (0..world.shape.members).map(MemberId).filter(|member| has(pg, member)).collect();
    let short = (0..world.shape.groups).find(|pg| !model.quorum().write_met(installed(*pg)))?;
    let what = || format!("{epoch} opened with its install on {:?} of {} only", installed(short), PgId(short));
    (writer.role() == WriterRole::Open).then(|| ("R-RECOVER-3", what()))
}

/// I-CHAIN: two segments of a group with the same install have the same chain, as far as both are complete.
fn chains_agree(world: &World, index: usize) -> Broken {
    let this = &world.nodes[index].machine;
    let peers = world.nodes.iter().map(|node| &node.machine);
    let same_install = |peer: &&Segment<_>| peer.id().pg == this.id().pg && peer.install() == this.install();
    peers.filter(same_install).find_map(|peer| {
        let above = this.log().floor().max(peer.log().floor());
        let through = this.log().scl().min(peer.log().scl());
        let chain = |segment: &Segment<crate::payload::Mark>| -> Vec<(Lsn, crate::payload::Mark)> {
            let records = segment.log().records().filter(|record| record.lsn > above && record.lsn <= through);
            records.map(|record| (record.lsn, record.payload)).collect()
        };
        let (ours, theirs) = (chain(this), chain(peer));
        let what = || format!("{} has {ours:?} where {} has {theirs:?}", this.id(), peer.id());
        (ours != theirs).then(|| ("I-CHAIN", what()))
    })
}

/// I-COPIES: what was acknowledged is on the disks of a write quorum of its group. A segment that lost its copy is none
/// that counts, until it says that it has rejoined: then it must have it again (I-AMNESIA).
fn copies_are_there(model: &Volume, world: &World) -> Broken {
    let history = &world.history;
    let (through, by) = history.durable;
    let annulled = |lsn: Lsn| history.annuls(by, lsn);
    let acknowledged = history.records.range(..=through);
    let mut in_force = acknowledged.filter(|(lsn, record)| record.volume_epoch <= by && !annulled(**lsn));
    in_force.find_map(|(lsn, record)| {
        let pg = model.geometry().group_of(record.page);
        let holds = |member: &MemberId| {
            let node = &world.nodes[world.shape.index(pg, *member)];
            node.kept.holds(*lsn) || node.machine.status().rejoining
        };
        let holders: MemberSet = (0..world.shape.members).map(MemberId).filter(holds).collect();
        let what = || format!("{lsn} is durable for {by}, and on disk in {pg} only at {holders:?}");
        let lost = world.left.losses < model.scale.budgets.losses;
        let rule = if lost { "I-AMNESIA" } else { "I-COPIES" };
        (!model.quorum().write_met(holders)).then(|| (rule, what()))
    })
}

/// I-LAL: no LSN above max(VDL, end of the last truncation) + LAL.
fn allocation_is_bounded(model: &Volume, world: &World, writer: &Writer<crate::payload::Mark>) -> Broken {
    let through = world.history.installs.get(&writer.volume_epoch()).map(|list| list.through());
    let limit = writer.vdl().max(through.unwrap_or_default()).0 + model.scale.allocation_limit;
    let allocated = writer.allocated();
    let what = || format!("{} allocated {allocated}, above {limit}", writer.volume_epoch());
    (writer.role() == WriterRole::Open && allocated.0 > limit).then(|| ("I-LAL", what()))
}

/// I-PROGRESS: when every record of an open writer is on a write quorum, its VDL is its last CPL.
fn durable_is_seen(world: &World, writer: &Writer<crate::payload::Mark>) -> Broken {
    if writer.role() != WriterRole::Open {
        return None;
    }
    let epoch = writer.volume_epoch();
    let own = || world.history.records.iter().filter(|(_, record)| record.volume_epoch == epoch);
    let last = *own().next_back()?.0;
    if writer.vdl() >= last || writer.allocated() != last {
        return None;
    }
    let pgcls = writer.status().pgcl;
    let complete = pgcls.iter().all(|(pg, pgcl)| {
        let of_group = own().filter(|(_, record)| group_of(world, record.page) == *pg);
        of_group.map(|(lsn, _)| *lsn).next_back().is_none_or(|last| last <= *pgcl)
    });
    let what = || format!("{epoch}: every group is complete ({pgcls:?}), and VDL {} is not {last}", writer.vdl());
    complete.then(|| ("I-PROGRESS", what()))
}

fn group_of(world: &World, page: auriga_protocol::PageId) -> PgId {
    auriga_protocol::Geometry { groups: world.shape.groups, extent_blocks: 1 }.group_of(page)
}

macro_rules! unbroken {
    ($($rule:literal),* $(,)?) => {
        [$(Property::always($rule, |_: &Volume, world: &World| !world.broke($rule))),*]
    };
}

/// The properties of a scope.
pub fn properties(scale: &Scale) -> Vec<Property<Volume>> {
    let mut properties: Vec<Property<Volume>> = unbroken![
        "I-COPIES",
        "I-AMNESIA",
        "I-ANNULLED",
        "I-CHAIN",
        "I-LAL",
        "I-PROGRESS",
        "I-LINEAGE",
        "I-FLOOR",
        "I-PAGE",
        "R-WRITE-2",
        "R-QUORUM-1",
        "R-FENCE-1",
        "R-FENCE-2",
        "R-FENCE-3",
        "R-RECOVER-2",
        "R-RECOVER-3",
        "R-TRUNCATE-1",
        "R-TRUNCATE-2",
        "R-ALLOC-2",
        "R-VDL-2",
        "R-READ-1",
        "R-READ-2",
        "R-READ-3",
        "R-READ-4",
        "R-COLLECT-1",
        "R-REJOIN-1",
        "R-READER-1",
        "R-READER-2",
        "R-READER-3",
        "assertion",
    ]
    .into();
    if scale.linearizable {
        properties.push(Property::always("linearizable", |_, world: &World| {
            world.history.operations.as_ref().is_none_or(|operations| operations.linearizable())
        }));
    }
    properties.extend(shown(scale));
    properties
}

fn shown(scale: &Scale) -> Vec<Property<Volume>> {
    let budgets = &scale.budgets;
    let crashes = budgets.crashes + budgets.zone_crashes > 0;
    let mut shown: Vec<Property<Volume>> = Vec::new();
    let mut show = |wanted: bool, name: &'static str, condition: fn(&Volume, &World) -> bool| {
        if wanted {
            shown.push(Property::sometimes(name, condition));
        }
    };
    show(true, "a commit is acknowledged", |_, world| world.history.acknowledged > Lsn::ZERO);
    // A prompt disk loses nothing but what a segment was told of VDL: such a crash often changes no state at all.
    show(crashes && !scale.synchronous, "a commit is acknowledged after a crash", |model, world| {
        let crashed = |left: &crate::world::Budgets| left.crashes + left.zone_crashes;
        world.history.acknowledged > Lsn::ZERO && crashed(&world.left) < crashed(&model.scale.budgets)
    });
    show(budgets.writers > 1, "a later writer opens on an acknowledged commit", |_, world| {
        world.history.opened.len() > 1 && world.history.opened.values().any(|vdl| *vdl > Lsn::ZERO)
    });
    show(budgets.writers > 1, "a record is annulled", |_, world| {
        let annuls = |lsn: &Lsn| world.history.installs.values().any(|list| list.annuls(*lsn));
        world.history.records.keys().any(annuls)
    });
    show(budgets.writers > 1 && scale.focus != Focus::Reads, "an unacknowledged record is recovered", |_, world| {
        let unseen = |record: &crate::world::Submitted, lsn: Lsn| {
            world.writers.iter().any(|w| w.volume_epoch() == record.volume_epoch && w.vdl() < lsn)
        };
        let recovered = |lsn: Lsn, record: &crate::world::Submitted| {
            world.history.opened.iter().any(|(epoch, vdl)| *epoch > record.volume_epoch && *vdl >= lsn)
        };
        world.history.records.iter().any(|(lsn, record)| recovered(*lsn, record) && unseen(record, *lsn))
    });
    show(
        scale.focus == Focus::Promotion && budgets.writers > 2,
        "two candidates compete with one number",
        |_, world| {
            let sealing = || world.writers.iter().filter(|writer| writer.role() == WriterRole::Sealing);
            sealing().any(|one| {
                sealing().filter(|other| other.volume_epoch().number == one.volume_epoch().number).count() > 1
            })
        },
    );
    show(!scale.reductions.drop_spent, "an overtaken writer learns it", |_, world| {
        world.writers.iter().any(|writer| writer.role() == WriterRole::Fenced)
    });
    show(!scale.synchronous, "an append is pending", |_, world| world.nodes.iter().any(|n| !n.pending.is_empty()));
    show(budgets.submits > 1 && scale.groups == 1, "a chain has a hole", |_, world| {
        world.nodes.iter().any(|node| node.machine.log().last() > node.machine.log().scl() && node.pending.is_empty())
    });
    show(budgets.losses > 0, "a segment that lost its journal counts again", |_, world| {
        let back = |node: &Arc<Node>| !node.machine.status().rejoining && rejoined(node);
        world.nodes.iter().any(back)
    });
    show(budgets.cleans > 0, "a cleaned journal is booted", |model, world| {
        let whole = &model.scale.budgets;
        world.left.cleans < whole.cleans && world.left.crashes < whole.crashes
    });
    show(budgets.coalesces > 0, "a floor has moved", |_, world| {
        world.nodes.iter().any(|node| node.machine.log().floor() > Lsn::ZERO)
    });
    show(budgets.reads > 0, "a page with records is asked for", |_, world| {
        world.left.reads == 0 && world.history.acknowledged > Lsn::ZERO
    });
    show_readers(scale, &mut show);
    shown
}

fn show_readers(scale: &Scale, show: &mut impl FnMut(bool, &'static str, fn(&Volume, &World) -> bool)) {
    let (readers, budgets) = (scale.focus == Focus::Readers, &scale.budgets);
    show(readers && budgets.advances > 0, "a reader shows a commit", |_, world| {
        world.reader.as_ref().is_some_and(|reader| reader.read_point() > Lsn::ZERO)
    });
    show(
        readers && budgets.writers > 1 && budgets.advances > 0,
        "a reader goes on with the next writer",
        |_, world| {
            let reader = world.reader.as_ref();
            reader.is_some_and(|reader| reader.status().volume_epoch.writer.0 > 1 && reader.read_point() > Lsn::ZERO)
        },
    );
    show(readers && budgets.coalesces > 0 && budgets.leases == 0, "PGMRPL waits for a reader", |_, world| {
        let needs = world.reader.as_ref().and_then(|reader| reader.needs());
        let waits =
            |needs: Lsn| world.writers.iter().any(|w| w.vdl() > needs && w.followers().any(|(_, f)| f == needs));
        needs.is_some_and(waits)
    });
    show(readers && budgets.leases > 0 && budgets.writers == 1, "a dropped reader learns it", |_, world| {
        world.reader.as_ref().is_some_and(|reader| reader.is_lost())
    });
}

fn rejoined(node: &Node) -> bool {
    node.journal().iter().any(|entry| matches!(entry, auriga_protocol::segment::Entry::Rejoined { .. }))
}
