//! The size of a model of one volume.

use crate::reductions::Reductions;
use crate::world::Budgets;
use auriga_protocol::writer::FollowersConfig;
use auriga_protocol::{Defects, PageId};

/// What the scope is about: which `sometimes` must be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Focus {
    /// Log and recovery.
    Recovery,
    /// Reads and collection.
    Reads,
    /// Several writers at once.
    Promotion,
    /// A reader on another instance.
    Readers,
}

/// One size of the model. Start from [`Scale::of`] and change what the scope is about.
#[derive(Clone, Debug)]
pub struct Scale {
    /// Which `sometimes` must be shown.
    pub focus: Focus,
    /// Protection groups.
    pub groups: u16,
    /// Members of each group, in zones of the same size.
    pub zones: Vec<Vec<u8>>,
    /// Write quorum.
    pub write: u8,
    /// Read quorum.
    pub read: u8,
    /// How much may happen.
    pub budgets: Budgets,
    /// Highest volume epoch: a refused candidate that would go above takes no further step.
    pub epochs: u64,
    /// The pages that each submission changes, in turn.
    pub workload: Vec<Vec<PageId>>,
    /// Whether an append is durable as soon as it is started.
    pub synchronous: bool,
    /// Whether the run begins with the first writer open on an empty volume.
    pub begins_open: bool,
    /// Whether page store tasks end in the step that starts them.
    pub prompt_tasks: bool,
    /// Whether the users' operations are recorded and judged.
    pub linearizable: bool,
    /// LAL.
    pub allocation_limit: u64,
    /// Whether recoveries wait for more promises than they need.
    pub lingers: bool,
    /// Whether the first reader follows from the beginning.
    pub begins_followed: bool,
    /// How writers treat readers on other instances.
    pub followers: FollowersConfig,
    /// Which reductions are on.
    pub reductions: Reductions,
    /// Planted defects.
    pub defects: Defects,
}

/// A page by number.
pub fn page(block: u64) -> PageId {
    PageId { inode: 0, block }
}

impl Scale {
    /// `zones` zones of `per_zone` members, one group, one writer, nothing else.
    pub fn of(focus: Focus, zones: u8, per_zone: u8, write: u8, read: u8) -> Scale {
        let zone = |zone: u8| (zone * per_zone..(zone + 1) * per_zone).collect();
        Scale {
            focus,
            groups: 1,
            zones: (0..zones).map(zone).collect(),
            write,
            read,
            budgets: Budgets { writers: 1, ..Budgets::default() },
            epochs: 2,
            workload: vec![vec![page(0)]],
            synchronous: true,
            begins_open: false,
            prompt_tasks: true,
            linearizable: false,
            allocation_limit: 4,
            lingers: false,
            begins_followed: false,
            followers: FollowersConfig::default(),
            reductions: Reductions::ON,
            defects: Defects::NONE,
        }
    }
}
