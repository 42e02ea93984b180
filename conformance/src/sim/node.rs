//! The parties of a simulated cluster: a machine, its disk or its users, and what ails it.

use super::payload::Mark;
use crate::disk::Disk;
use auriga_protocol::segment::{self, Segment};
use auriga_protocol::writer::{self, Writer};
use auriga_protocol::{Life, Lsn, Membership, PageId, QuorumSet, SegmentId, Token, VolumeId, WriterId};
use std::collections::BTreeMap;

/// The one volume.
pub const VOLUME: VolumeId = VolumeId(1);

/// A segment and its disk.
pub struct SegmentNode {
    /// Who.
    pub id: SegmentId,
    /// `None` while it is down.
    pub machine: Option<Segment<Mark>>,
    /// Outlives the machine.
    pub disk: Disk<Mark>,
    /// Counts boots: what an earlier life asked for is void.
    pub life: u32,
    /// Timers that are set: the number of the event that is the valid one, by timer; zero: not set.
    pub timers: [u32; 4],
    /// How many pending appends the fsync under way covers.
    pub syncing: Option<usize>,
    /// Whether a task is under way.
    pub working: bool,
    /// Whether it stores base pages from a peer now.
    pub hydrating: bool,
    /// An old copy of its disk.
    pub copy: Option<Disk<Mark>>,
    /// The copy was put back, and it has not rejoined since.
    pub went_back: bool,
    /// Its process and its disk are gone for good.
    pub dead: bool,
    /// It has left its group, and was deleted.
    pub left: bool,
    /// What ails it.
    pub ails: Ailments,
}

/// Temporary troubles of a node; each ends at a time in virtual microseconds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ailments {
    /// Does nothing until then.
    pub frozen_until: u64,
    /// Its disk is slow until then …
    pub slow_until: u64,
    /// … by this factor.
    pub slow_factor: u64,
    /// No space until then.
    pub full_until: u64,
    /// Nothing reaches it until then.
    pub deaf_until: u64,
    /// Nothing leaves it until then.
    pub mute_until: u64,
    /// Messages to and from it take longer until then …
    pub far_until: u64,
    /// … by this much.
    pub far_extra: u64,
    /// It and this writer can't reach each other …
    pub cut_from: WriterId,
    /// … until then.
    pub cut_until: u64,
}

impl SegmentNode {
    /// A node that was never booted.
    pub fn created(id: SegmentId, blank: bool) -> Self {
        let membership = Membership::initial(QuorumSet::aurora());
        SegmentNode {
            id,
            machine: None,
            disk: if blank { Disk::created(membership) } else { Disk::founded(membership) },
            life: 0,
            timers: [0; 4],
            syncing: None,
            working: false,
            hydrating: false,
            copy: None,
            went_back: false,
            dead: false,
            left: false,
            ails: Ailments::default(),
        }
    }

    /// The segment of a new member.
    pub fn joining(id: SegmentId, membership: Membership) -> Self {
        SegmentNode { disk: Disk::joining(membership), ..SegmentNode::created(id, true) }
    }

    /// Stops; of the pending appends the oldest `keep` survive.
    pub fn stop(&mut self, keep: usize) {
        self.machine = None;
        self.timers = [0; 4];
        self.syncing = None;
        self.working = false;
        self.hydrating = false;
        self.life += 1;
        self.disk.crash(keep);
    }

    /// Whether it may not count now: it lost journal entries, or has none, or old ones, and has not rejoined.
    pub fn forgetful(&self) -> bool {
        if self.went_back || self.dead {
            return true;
        }
        match &self.machine {
            Some(machine) => machine.status().rejoining,
            None => {
                let survived = self.disk.survived();
                let amnesia = |entry: &segment::Entry<Mark>| match entry {
                    segment::Entry::Amnesia { .. } | segment::Entry::Blank { .. } => Some(true),
                    segment::Entry::Founding(_) => Some(true),
                    segment::Entry::Rejoined { .. } | segment::Entry::Founded(_) => Some(false),
                    _ => None,
                };
                survived.damaged || survived.entries.iter().rev().find_map(amnesia).unwrap_or(true)
            }
        }
    }

    /// Whether the copy is of an earlier life than the last in which the segment counted: then it is found out (R-LIFE-4).
    pub fn copy_is_of_an_earlier_life(&self) -> bool {
        let Some(copy) = &self.copy else { return false };
        let (of_copy, now) = (last_life(copy), last_life(&self.disk));
        let counted = if now.1 { now.0.number } else { now.0.number.saturating_sub(1) };
        (now.0.incarnation, counted) > (of_copy.0.incarnation, of_copy.0.number)
    }

    /// Whether its base pages are not all sound.
    pub fn unsound(&self) -> bool {
        let healing = self.machine.as_ref().map(Segment::status);
        self.dead || self.disk.unsound() || healing.is_some_and(|status| status.hydrating || status.damaged_pages > 0)
    }
}

/// The last life that a journal knows, and whether enough peers are known to remember it.
fn last_life(disk: &Disk<Mark>) -> (Life, bool) {
    let lives = disk.durable().iter().filter_map(|entry| match entry {
        segment::Entry::Life { life, registered } => Some((*life, *registered)),
        segment::Entry::Amnesia { incarnation, target: Some(_) } | segment::Entry::Rejoined { incarnation } => {
            Some((Life::first(*incarnation), true))
        }
        _ => None,
    });
    lives.max_by_key(|(life, registered)| (life.incarnation, life.number, *registered)).unwrap_or_default()
}

/// A read that a user waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AskedRead {
    /// Which page.
    pub page: PageId,
    /// VDL when it was asked: what the user knows to be durable.
    pub durable: Lsn,
    /// Whether the finale asked.
    pub finale: bool,
}

/// A writer and its users.
pub struct WriterNode {
    /// Who.
    pub id: WriterId,
    /// `None` once it has crashed: a writer never comes back.
    pub machine: Option<Writer<Mark>>,
    /// Timers that are set.
    pub timers: BTreeMap<writer::Timer, u32>,
    /// Does nothing until then.
    pub frozen_until: u64,
    /// Whether it was frozen once.
    pub woke: bool,
    /// Reads that users wait for.
    pub reads: BTreeMap<Token, AskedRead>,
    /// The next token.
    pub next_token: u64,
    /// Whether it has opened, and was not fenced since.
    pub open: bool,
}

impl WriterNode {
    /// A writer that is not yet booted.
    pub fn created(id: WriterId) -> Self {
        let (timers, reads) = (BTreeMap::new(), BTreeMap::new());
        WriterNode { id, machine: None, timers, frozen_until: 0, woke: false, reads, next_token: 0, open: false }
    }

    /// Whether it is, or may become, the writer.
    pub fn in_the_running(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.role() != writer::WriterRole::Fenced)
    }
}
