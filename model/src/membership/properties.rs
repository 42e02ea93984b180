//! What must hold through a membership change, and what some state must show.

use super::scopes::{Bounds, Shows};
use super::{Action, MembershipModel, World};
use auriga_protocol::membership::in_force;
use auriga_protocol::quorum::{MemberSet, Membership};
use auriga_protocol::{MemberId, MembershipEpoch};
use stateright::Property;

pub(super) fn of(bounds: &Bounds) -> Vec<Property<MembershipModel>> {
    let mut properties = vec![
        Property::always("every recovery finds every acknowledged write", |model: &MembershipModel, world: &World| {
            missed(model, world).is_none()
        }),
        Property::always("a new member that is read is hydrated", read_means_hydrated),
        Property::always("when nothing is under way, every change and every write is complete", converges),
        Property::sometimes("a write is acknowledged while a member is replaced", |_, world: &World| world.during != 0),
        Property::sometimes("nothing is under way at the end", |model: &MembershipModel, world: &World| {
            world.requests == model.bounds.requests.len() && is_complete(world) && is_quiet(model, world)
        }),
        Property::sometimes("a writer learns of a change by being refused", |_, world: &World| {
            world.writer.next.membership_epoch > MembershipEpoch(1)
        }),
    ];
    properties.extend(bounds.shows.iter().map(|shows| match shows {
        Shows::Replaced => Property::sometimes("a new member counts", |model: &MembershipModel, world: &World| {
            let base = world.changer.settled().base;
            base != model.config.created.base && world.acknowledged != 0
        }),
        Shows::Undone => {
            Property::sometimes("a replacement is undone after a write", |model: &MembershipModel, world: &World| {
                let same = world.changer.settled() == &model.config.created;
                same && world.writer.next.membership_epoch > MembershipEpoch(2) && world.during != 0
            })
        }
        Shows::Both => Property::sometimes("two members are replaced at one time", |_, world: &World| {
            world.changer.settled().replacements.len() == 2
        }),
    }));
    properties
}

/// A set of members that a recovery may take for enough, and that misses an acknowledged write.
fn missed(model: &MembershipModel, world: &World) -> Option<MemberSet> {
    let known = model.first();
    let all = MemberSet::first(model.bounds.members);
    (1..=all.0).map(MemberSet).find(|answered| {
        let heard = |member: MemberId| (member, world.member(member).disk.step.next.clone());
        let present: Vec<(MemberId, Membership)> = answered.iter().map(heard).collect();
        let found = answered.iter().fold(0, |found, member| found | world.member(member).disk.lsns);
        world.acknowledged & !found != 0 && in_force(&known, &present).is_some()
    })
}

fn read_means_hydrated(model: &MembershipModel, world: &World) -> bool {
    let reads = |member: MemberId| {
        let named = |step: &Membership| step.quorum.read.iter().any(|threshold| threshold.members.contains(member));
        world.members.iter().any(|node| named(&node.disk.step.next))
    };
    let new = (0..model.bounds.members).map(MemberId).filter(|member| !model.config.created.base.contains(*member));
    new.into_iter().all(|member| !reads(member) || world.member(member).disk.hydrated)
}

fn is_complete(world: &World) -> bool {
    world.changer.is_steady() && u32::from(world.acknowledged.count_ones() as u8) == world.acks.len() as u32
}

fn is_quiet(model: &MembershipModel, world: &World) -> bool {
    let mut actions: Vec<Action> = Vec::new();
    model.going_on(world, &mut actions);
    actions.iter().all(|action| model.after(world, action).is_none())
}

/// Progress, as safety.
fn converges(model: &MembershipModel, world: &World) -> bool {
    is_complete(world) || !is_quiet(model, world)
}

pub(super) fn last_word(model: &MembershipModel, world: &World) -> String {
    let member = |(index, node): (usize, &super::Member)| {
        let (id, epoch) = (MemberId(index as u8), node.disk.step.next.membership_epoch);
        format!("{id} {epoch} {:03b}", node.disk.lsns)
    };
    let members: Vec<String> = world.members.iter().enumerate().map(member).collect();
    let missed = missed(model, world).map_or(String::new(), |set| format!("a recovery by {set:?} misses a write; "));
    format!("{missed}acknowledged {:03b}; {}", world.acknowledged, members.join(", "))
}
