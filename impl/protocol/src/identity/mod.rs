//! Which volume is which: what is fixed when a volume is made, and what follows from who holds what.
//!
//! A volume's identity ([`VolumeId`]) is a random number, chosen when it is made; it is part of every segment's id, so
//! of every message and every file. What people type is a *label*, which is theirs to choose, and which another cluster
//! may have chosen as well. So nothing that is found under a label is believed to be the volume of that label before
//! enough processes say so:
//!
//! - [`plan_creation`] (R-VOLUME-1): whether a volume may be made;
//! - [`find`](fn@find) (R-VOLUME-2): which identity a label means;
//! - [`missing`](fn@missing) (R-VOLUME-3): which segments a process should have and has not;
//! - [`joining`](fn@joining) (R-MEMBER-9): which it should have as the home of a new member;
//! - [`strangers`] (R-VOLUME-4): which of its segments belong to a volume of another cluster.
//!
//! All are functions of what the processes answer when they are asked what they hold. Asking is the drivers' business.

mod find;
mod missing;
mod plan;

pub use find::{Found, find};
pub use missing::{Missing, Stranger, joining, missing, strangers};
pub use plan::{Unmade, plan_creation};

use crate::ids::{MemberId, SegmentId, VolumeId};
use crate::membership::Step;
use crate::quorum::MemberSet;
use crate::record::Geometry;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// What every writer of a volume must agree on, ever (R-VOLUME-5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// Which group keeps which page.
    pub geometry: Geometry,
    /// LAL: how far above VDL a writer may have allocated.
    pub allocation_limit: u64,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Geometry { groups, extent_blocks } = self.geometry;
        write!(f, "groups {groups}, extents of {extent_blocks} blocks, LAL {}", self.allocation_limit)
    }
}

/// What is fixed when a volume is made. Each of its segments keeps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Charter {
    /// The number by which people name the volume.
    pub label: u64,
    /// Its shape.
    pub shape: Shape,
}

/// A segment that a process holds, as it says when it is asked.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Held {
    /// The segment. Its volume is the identity.
    pub id: SegmentId,
    /// What its volume was made as.
    pub charter: Charter,
    /// Its group's membership, as it knows it, and what it is about to be.
    pub membership: Step,
    /// Whether it knows of any writer: a promise, a recovery, a record.
    pub written: bool,
}

/// What each member's process answered; `None`: it did not.
pub type Answers = BTreeMap<MemberId, Option<Vec<Held>>>;

/// Who holds segments of which volume with this label. A process holds, not the member that its segment is: with
/// addresses in another order the two differ.
fn holders(label: u64, answers: &Answers) -> BTreeMap<VolumeId, MemberSet> {
    let mut holders = BTreeMap::new();
    for (member, answer) in answers {
        for held in answer.iter().flatten().filter(|held| held.charter.label == label) {
            let of_volume: &mut MemberSet = holders.entry(held.id.volume).or_default();
            *of_volume = of_volume.with(*member);
        }
    }
    holders
}

/// Those who have not answered.
fn silent(members: MemberSet, answers: &Answers) -> MemberSet {
    members.iter().filter(|member| answers.get(member).is_none_or(Option::is_none)).collect()
}

#[cfg(test)]
mod tests;
