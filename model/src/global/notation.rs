//! Steps and states of the global model, told in one line each.

use super::model::Action;
use super::world::World;
use auriga_protocol::Lsn;
use auriga_protocol::global::{GlobalMessage, GlobalRefusal, Lineage, Plan, ShippedRecord};

pub(super) fn line(before: &World, action: &Action) -> String {
    match action {
        Action::Commit(region) => {
            let machine = &before.regions[usize::from(region.0) - 1].machine;
            format!("{region}@{} commits record #{}", machine.lineage().tip().global_epoch, before.commits)
        }
        Action::Begin(controller) => format!("{controller} is asked for its next operation"),
        Action::Ship(region) => format!("{region} ships"),
        Action::GiveFenceUp(controller) => format!("{controller} goes on without the old primary's fence"),
        Action::Deliver(envelope) => format!("{} → {} {}", envelope.from, envelope.to, message(&envelope.message)),
        Action::Fsync(party) => format!("{party} fsync"),
        Action::Crash(party, keep) => format!("{party} crashes, keeps {keep} of what was pending, and restarts"),
    }
}

fn message<R>(message: &GlobalMessage<R>) -> String {
    match message {
        GlobalMessage::Fence { global_epoch, target, planned: true } => format!("Fence {global_epoch} for {target}"),
        GlobalMessage::Fence { global_epoch, target, .. } => format!("Fence {global_epoch} for {target}, unplanned"),
        GlobalMessage::Fenced { global_epoch, parent, final_lsn } => {
            format!("Fenced {global_epoch}: {parent} ends at {final_lsn}")
        }
        GlobalMessage::Renounce { global_epoch } => format!("Renounce below {global_epoch}"),
        GlobalMessage::Renounced { global_epoch } => format!("Renounced below {global_epoch}"),
        GlobalMessage::Promote { global_epoch, plan: Plan::Planned { parent, at } } => {
            format!("Promote {global_epoch} exactly at {at} of {parent}")
        }
        GlobalMessage::Promote { global_epoch, plan: Plan::Unplanned } => format!("Promote {global_epoch}"),
        GlobalMessage::Promoted { branch } => format!("Promoted {} after {}", branch.global_epoch, branch.after),
        GlobalMessage::Ship { lineage: l, above, records } => {
            format!("Ship {} above {above}: {}", lineage(l), lsns(records))
        }
        GlobalMessage::Arrived { global_epoch, through } => format!("Arrived {global_epoch} through {through}"),
        GlobalMessage::Ask => String::from("Ask"),
        GlobalMessage::Standing { tip, durable, .. } => format!("Standing {} durable {durable}", tip.global_epoch),
        GlobalMessage::Refused { global_epoch, refusal } => format!("Refused {global_epoch}: {}", reason(refusal)),
    }
}

fn reason(refusal: &GlobalRefusal) -> String {
    match refusal {
        GlobalRefusal::StaleGlobalEpoch { known, .. } => format!("stale, {known} is known"),
        GlobalRefusal::NotPrimary { tip } => format!("{} is primary in {}", tip.primary, tip.global_epoch),
        GlobalRefusal::HandedOn { handover, .. } => format!("handed on to {} in {}", handover.target, handover.to),
        GlobalRefusal::NotDrained { last } => format!("only {last} has arrived"),
        GlobalRefusal::NotParent { tip } => format!("the log ends in {}", tip.global_epoch),
        GlobalRefusal::AlreadyPrimary { tip } => format!("primary in {} already", tip.global_epoch),
        GlobalRefusal::LineageFull => String::from("the lineage is full"),
    }
}

fn lineage(lineage: &Lineage) -> String {
    let one = |branch: &auriga_protocol::global::Branch| format!("{}>{}", branch.global_epoch, branch.after);
    lineage.branches().iter().map(one).collect::<Vec<_>>().join(" ")
}

fn lsns<R>(records: &[ShippedRecord<R>]) -> String {
    let all: Vec<Lsn> = records.iter().map(|record| record.lsn).collect();
    format!("{all:?}")
}

/// What was broken, and what every region has.
pub(super) fn last_word(world: &World) -> String {
    let broken = world.violation.as_ref().map(|violation| format!("{}: {}; ", violation.rule, violation.what));
    let region = |(index, node): (usize, &std::sync::Arc<super::world::RegionNode>)| {
        let records: Vec<String> = node.disk.records.iter().map(|r| format!("{}#{}", r.lsn, r.record)).collect();
        format!("r{} {:?} {} [{}]", index + 1, node.machine.role(), lineage(&node.disk.lineage), records.join(" "))
    };
    let regions: Vec<String> = world.regions.iter().enumerate().map(region).collect();
    broken.unwrap_or_default() + &regions.join("; ")
}
