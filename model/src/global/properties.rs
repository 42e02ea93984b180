//! What must hold in every state, and what some state must show so that holding means something.

use super::model::{Action, GlobalModel};
use super::scopes::{Bounds, Shows};
use super::world::{Acknowledged, RegionNode, World};
use auriga_protocol::global::{RegionRole, ShippedRecord};
use auriga_protocol::{Lsn, RegionId};
use stateright::Property;
use std::sync::Arc;

/// The properties of a scope.
pub(super) fn of(bounds: &Bounds) -> Vec<Property<GlobalModel>> {
    let mut properties = vec![
        Property::always("no rule R-GLOBAL is broken", |_, world: &World| world.violation.is_none()),
        Property::always("logs agree as far as their lineages do", |_, world: &World| logs_agree(world)),
        Property::always("what was acknowledged is in the log or in a named snapshot", |_, world: &World| {
            world.acknowledged.iter().all(|commit| is_kept(world, commit))
        }),
        Property::always("a primary has every commit of its lineage", |_, world: &World| primaries_are_complete(world)),
        Property::always("a snapshot has exactly what its name says", |_, world: &World| snapshots_are_exact(world)),
        Property::sometimes("a commit is acknowledged", |_, world: &World| !world.acknowledged.is_empty()),
    ];
    if bounds.converges {
        properties.push(Property::always("when nothing is under way, one primary has complete secondaries", converges));
        properties.push(Property::sometimes("nothing is under way after a promotion", |model, world: &World| {
            world.observer.promotions().next().is_some() && has_converged(world) && is_quiet(model, world)
        }));
    }
    properties.extend(bounds.shows.iter().map(|shows| example(*shows)));
    properties
}

fn example(shows: Shows) -> Property<GlobalModel> {
    match shows {
        Shows::Reversed => Property::sometimes("a switchover reverses the direction", |_, world: &World| {
            let planned = world.observer.promotions().any(|(branch, planned)| planned && branch.primary != RegionId(1));
            let first = &world.regions[0].disk;
            planned && first.records.iter().any(|record| first.lineage.tip().after < record.lsn) && !is_own(world, 0)
        }),
        Shows::Lost => Property::sometimes("a failover loses an acknowledged commit, and it is named", |_, world| {
            lost_commits(world).next().is_some() && !world.observer.lost().is_empty()
        }),
        Shows::LosslessFailover => Property::sometimes("a failover loses nothing", |_, world: &World| {
            let mut promotions = world.observer.promotions().filter(|(_, planned)| !planned);
            let complete = |commit: &Acknowledged| commit.region == RegionId(1);
            promotions.next().is_some()
                && world.acknowledged.iter().any(complete)
                && lost_commits(world).next().is_none()
                && world.regions[0].machine.role() == RegionRole::Secondary
        }),
        Shows::TwoLineages => {
            Property::sometimes("two lineages are acknowledged in at one time", |_, world: &World| {
                let primary = |node: &&Arc<RegionNode>| node.machine.role() == RegionRole::Primary;
                let lost = lost_commits(world).map(|commit| commit.region).next();
                let newer = world.acknowledged.iter().any(|commit| Some(commit.region) != lost);
                lost.is_some() && newer && world.regions.iter().filter(primary).count() > 1
            })
        }
        Shows::Resumed => Property::sometimes("an operation survives its controller's crash", |_, world: &World| {
            let resumed = world.controllers.iter().any(|node| node.interrupted && node.machine.is_idle());
            resumed && world.observer.promotions().next().is_some()
        }),
        Shows::Undone => Property::sometimes("a switchover is undone", |_, world: &World| {
            world.observer.promotions().any(|(branch, _)| branch.primary == RegionId(1))
        }),
        Shows::TwoSnapshots => Property::sometimes("two regions keep a suffix each", |_, world: &World| {
            world.regions.iter().filter(|node| !node.disk.snapshots.is_empty()).count() > 1
        }),
        Shows::Behind => Property::sometimes("the target is behind when the primary is fenced", |_, world: &World| {
            let fenced = world.regions[0].machine.role() == RegionRole::HandedOn;
            fenced && world.regions[1].machine.durable() < world.regions[0].machine.durable()
        }),
    }
}

fn is_own(world: &World, index: usize) -> bool {
    world.regions[index].disk.lineage.tip().primary == RegionId(index as u16 + 1)
}

/// Acknowledged commits that are not part of the newest lineage.
fn lost_commits(world: &World) -> impl Iterator<Item = &Acknowledged> {
    let newest = world.observer.promotions().map(|(branch, _)| branch.global_epoch).max();
    let lost = move |commit: &&Acknowledged| {
        newest.is_some_and(|newest| !world.observer.is_part(commit.global_epoch, commit.lsn, newest))
    };
    world.acknowledged.iter().filter(lost)
}

/// R-GLOBAL-6, R-GLOBAL-9: where two logs' lineages are the same, so are their records.
fn logs_agree(world: &World) -> bool {
    let pairs = world.regions.iter().flat_map(|one| world.regions.iter().map(move |other| (&*one.disk, &*other.disk)));
    pairs.into_iter().all(|(one, other)| {
        let shared = one.lineage.shared_through(one.last(), &other.lineage).min(other.last());
        let through = |records: &[ShippedRecord<u8>]| records.partition_point(|record| record.lsn <= shared);
        one.records[..through(&one.records)] == other.records[..through(&other.records)]
    })
}

/// R-GLOBAL-4, R-GLOBAL-5: nothing that a region acknowledged ever leaves it.
fn is_kept(world: &World, commit: &Acknowledged) -> bool {
    let disk = &world.regions[usize::from(commit.region.0) - 1].disk;
    let wanted = ShippedRecord { lsn: commit.lsn, record: commit.payload };
    disk.records.contains(&wanted) || disk.snapshots.iter().any(|snapshot| snapshot.records.contains(&wanted))
}

/// R-GLOBAL-3: what was acknowledged in a lineage is on the disk of the region that continues the lineage.
fn primaries_are_complete(world: &World) -> bool {
    let primaries = world.regions.iter().enumerate().filter(|(index, _)| is_own(world, *index));
    primaries.into_iter().all(|(_, node)| {
        let epoch = node.disk.lineage.tip().global_epoch;
        let of_lineage = |commit: &&Acknowledged| world.observer.is_part(commit.global_epoch, commit.lsn, epoch);
        let has = |commit: &Acknowledged| {
            node.disk.records.contains(&ShippedRecord { lsn: commit.lsn, record: commit.payload })
        };
        world.acknowledged.iter().filter(of_lineage).all(has)
    })
}

fn snapshots_are_exact(world: &World) -> bool {
    world.regions.iter().flat_map(|node| &node.disk.snapshots).all(|snapshot| {
        let named = snapshot.suffix.after.0 + 1..=snapshot.suffix.through.0;
        snapshot.records.iter().map(|record| record.lsn).eq(named.map(Lsn))
    })
}

/// Whether whatever is under way would change nothing any more.
fn is_quiet(model: &GlobalModel, world: &World) -> bool {
    if world.regions.iter().any(|node| !node.pending.is_empty())
        || world.controllers.iter().any(|node| !node.pending.is_empty())
    {
        return false;
    }
    let mut actions: Vec<Action> = Vec::new();
    model.going_on(world, &mut actions);
    actions.iter().all(|action| model.after(world, action).is_none())
}

/// Whether one region is primary and all others are its copies.
fn has_converged(world: &World) -> bool {
    let mut primaries = world.regions.iter().filter(|node| node.machine.role() == RegionRole::Primary);
    let (Some(primary), None) = (primaries.next(), primaries.next()) else { return false };
    let same =
        |node: &Arc<RegionNode>| node.disk.lineage == primary.disk.lineage && node.disk.records == primary.disk.records;
    world.controllers.iter().all(|node| node.machine.is_idle()) && world.regions.iter().all(same)
}

/// Progress, as safety: no operation ever gets stuck, and every region ends as a copy of one primary.
fn converges(model: &GlobalModel, world: &World) -> bool {
    world.violation.is_some() || has_converged(world) || !is_quiet(model, world)
}
