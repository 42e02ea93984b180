//! The world round the machines: nodes, writers, the network, what is left of each budget, and what was observed.
//!
//! A [`World`] is a state of the model. It is cheap to clone: whatever a step does not touch is shared.
//!
//! The network holds what was sent and not delivered. A message may be delivered at any time and in any order; one that
//! is lost is one that is never delivered; repetition is bounded by a budget. A writer that crashes is one that takes no
//! further step: it keeps nothing on disk, and a restart is a new writer. A segment that is away is one that takes no
//! step for a while, so a crash and the boot after it are one step.

use crate::node::Node;
use crate::payload::Mark;
use auriga_protocol::message::{Envelope, Message};
use auriga_protocol::notation::Names;
use auriga_protocol::observer::Observer;
use auriga_protocol::{
    Lsn, MemberId, Note, PageId, Party, PgId, Reader, TruncationList, VolumeEpoch, VolumeId, Writer, WriterId,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The one volume of a model.
pub const VOLUME: VolumeId = VolumeId(1);

/// What does not change: how many segments, and which of them share an Availability Zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Protection groups.
    pub groups: u16,
    /// Members of each group.
    pub members: u8,
    /// Members of each Availability Zone, all of the same size.
    pub zones: Vec<Vec<u8>>,
    /// Whether states that differ only in the names of segments are taken for one (see `reductions.rs`).
    pub symmetric: bool,
}

impl Shape {
    /// Where the node of this segment stands in [`World::nodes`].
    pub fn index(&self, pg: PgId, member: MemberId) -> usize {
        usize::from(pg.0) * usize::from(self.members) + usize::from(member.0)
    }

    /// Nodes of a zone, over all groups.
    pub fn nodes_of(&self, zone: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.groups)
            .flat_map(move |pg| self.zones[zone].iter().map(move |member| self.index(PgId(pg), MemberId(*member))))
    }
}

/// How much may still happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize)]
pub struct Budgets {
    /// Writers that may start.
    pub writers: u8,
    /// Mini-transactions that may be submitted, over all writers.
    pub submits: u8,
    /// Single nodes that may crash.
    pub crashes: u8,
    /// Availability Zones that may crash.
    pub zone_crashes: u8,
    /// Nodes whose journal may lose entries.
    pub losses: u8,
    /// Journals that may be cleaned.
    pub cleans: u8,
    /// Retry timers that may fire, over all writers.
    pub retries: u8,
    /// Gossip rounds that may have an effect.
    pub gossips: u8,
    /// Coalescings that may start.
    pub coalesces: u8,
    /// Reads that may be asked.
    pub reads: u8,
    /// Messages that may be delivered and yet stay in flight.
    pub duplicates: u8,
    /// Readers that may start, one after the other: the one before crashes.
    pub readers: u8,
    /// Times that a reader may go on to another read point.
    pub advances: u8,
    /// Retry timers of the reader that may fire.
    pub reader_retries: u8,
    /// Pages that a reader may ask for.
    pub reader_reads: u8,
    /// Leases of readers, and graces after an opening, that may end.
    pub leases: u8,
}

/// A message in flight, with what its content hashes to.
#[derive(Clone, PartialEq, Debug)]
pub struct Flying {
    /// The message.
    pub envelope: Envelope<Mark>,
    /// Stands for the content; addresses, and members that it names, left out.
    pub content: u128,
    /// Whether it names members.
    pub names_members: bool,
}

/// What was seen so far: the protocol's observer, and what the model knows because it is the users too.
#[derive(Clone, PartialEq, Debug)]
pub struct History {
    /// Judges the notes.
    pub observer: Observer,
    /// Every record submitted.
    pub records: BTreeMap<Lsn, Submitted>,
    /// The truncations in force in each volume epoch that some segment has installed.
    pub installs: BTreeMap<VolumeEpoch, TruncationList>,
    /// Recovered VDL of each volume epoch that opened.
    pub opened: BTreeMap<VolumeEpoch, Lsn>,
    /// Everything through this was acknowledged to some user.
    pub acknowledged: Lsn,
    /// Everything through this was called durable, to users or by opening there; and the volume epoch in which that was.
    pub durable: (Lsn, VolumeEpoch),
    /// Operations of users, where the scope asks for linearizability.
    pub operations: Option<crate::linearizability::Operations>,
}

impl History {
    /// Whether `lsn` is annulled for a reader of `volume_epoch`: by the list in force there, or by a range that this list
    /// forgot. Such a range was in force when an earlier writer opened (R-TRUNCATE-6).
    pub fn annuls(&self, volume_epoch: VolumeEpoch, lsn: Lsn) -> bool {
        let Some(list) = self.installs.get(&volume_epoch) else { return false };
        let by_earlier = |epoch: &VolumeEpoch| self.installs.get(epoch).is_some_and(|list| list.annuls(lsn));
        let forgotten = || lsn <= list.forgotten() && self.opened.range(..volume_epoch).any(|(it, _)| by_earlier(it));
        list.annuls(lsn) || forgotten()
    }
}

/// A record as its user knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Submitted {
    /// The writer's volume epoch.
    pub volume_epoch: VolumeEpoch,
    /// The page.
    pub page: PageId,
    /// The content.
    pub mark: Mark,
}

/// A rule or invariant that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Its number.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

/// A state of the model.
#[derive(Clone, PartialEq, Debug)]
pub struct World {
    /// What does not change.
    pub shape: Arc<Shape>,
    /// By group, then member.
    pub nodes: Vec<Arc<Node>>,
    /// In the order of their starts; writer number n is `WriterId(n + 1)`.
    pub writers: Vec<Arc<Writer<Mark>>>,
    /// The reader that runs, if any; reader number n is `ReaderId(n)`.
    pub reader: Option<Arc<Reader<Mark>>>,
    /// Whether some writer has dropped it, or has not waited for it.
    pub reader_dropped: bool,
    /// A set.
    pub network: Vec<Arc<Flying>>,
    /// What may still happen.
    pub left: Budgets,
    /// Nodes that may crash or lose entries, as bits: only their disks let appends wait (reduction 5).
    pub doomed: u64,
    /// Requests made so far: the next token.
    pub requests: u8,
    /// Records submitted so far: the next mark.
    pub marks: u8,
    /// What was seen.
    pub history: Arc<History>,
    /// The first rule broken; nothing happens after it.
    pub broken: Option<Arc<Broken>>,
    /// While a trace is written as a script: its commands. No part of the state.
    pub script: Option<Vec<String>>,
}

impl World {
    /// Whether this rule was broken.
    pub fn broke(&self, rule: &str) -> bool {
        self.broken.as_ref().is_some_and(|broken| broken.rule == rule)
    }

    /// Latches the first rule that breaks.
    pub fn breaks(&mut self, rule: &'static str, what: impl Into<String>) {
        if self.broken.is_none() {
            self.broken = Some(Arc::new(Broken { rule, what: what.into() }));
        }
    }

    /// Puts a message in flight, unless the same is.
    pub fn send(&mut self, from: Party, to: Party, message: Message<Mark>) {
        let mut bytes = Vec::with_capacity(64);
        let mut names_members = false;
        let mut label = |_| {
            names_members = true;
            0
        };
        crate::canon::write(&mut bytes, &message, 0, &mut label);
        let content = crate::canon::digest(&bytes);
        let flying = Flying { envelope: Envelope { from, to, message }, content, names_members };
        let same = |other: &Arc<Flying>| {
            let alike = other.content == content && other.envelope.from == from && other.envelope.to == to;
            alike && (!names_members || other.envelope.message == flying.envelope.message)
        };
        if !self.network.iter().any(same) {
            self.network.push(Arc::new(flying));
        }
    }

    /// Adds a command to the script, if one is written.
    pub fn script(&mut self, command: impl FnOnce(Names) -> String) {
        let names = Names::of(self.shape.groups);
        if let Some(script) = &mut self.script {
            script.push(command(names));
        }
    }

    /// A segment's name in a script.
    pub fn name_of(&self, index: usize) -> String {
        Names::of(self.shape.groups).segment(self.nodes[index].machine.id())
    }

    /// Tells the observer, and keeps what the model's own properties need.
    pub fn note(&mut self, note: &Note) {
        let history = Arc::make_mut(&mut self.history);
        let (mut twice, mut back) = (None, None);
        if let Note::Installed { segment, volume_epoch, truncations } = note {
            let known = history.installs.entry(*volume_epoch).or_insert_with(|| truncations.clone());
            // Either two writers decided for one volume epoch, or this segment has forgotten what it was told.
            let told = history.observer.segments.get(segment).is_some_and(|told| told.installed == *volume_epoch);
            let rule = if told { "R-TRUNCATE-2" } else { "R-FENCE-3" };
            twice = (known != truncations).then(|| (rule, format!("{volume_epoch}: {known:?} and {truncations:?}")));
        }
        let verdict = history.observer.observe(note);
        match note {
            Note::Opened { volume_epoch, vdl, .. } => {
                let annuls = |epoch: &VolumeEpoch| history.installs.get(epoch).is_some_and(|list| list.annuls(*vdl));
                let by = history.opened.keys().find(|epoch| *epoch < volume_epoch && annuls(epoch));
                back = by.map(|by| format!("{volume_epoch} opened at {vdl}, which {by} had annulled"));
                history.opened.insert(*volume_epoch, *vdl);
                history.durable = history.durable.max((*vdl, *volume_epoch));
            }
            Note::Durable { volume_epoch, vdl, .. } => {
                history.acknowledged = history.acknowledged.max(*vdl);
                history.durable = history.durable.max((*vdl, *volume_epoch));
                if let Some(operations) = &mut history.operations {
                    operations.durable_through(*vdl);
                }
            }
            _ => {}
        }
        if let Err(violation) = verdict {
            self.breaks(violation.rule, violation.what);
        }
        if let Some((rule, what)) = twice {
            self.breaks(rule, what);
        }
        if let Some(what) = back {
            self.breaks("I-LINEAGE", what);
        }
    }

    /// Records of `page` at or below `read_point` that are in force for a reader of `volume_epoch`, in order.
    pub fn page_as_of(&self, volume_epoch: VolumeEpoch, page: PageId, read_point: Lsn) -> Vec<Mark> {
        let history = &self.history;
        let in_force =
            |lsn: Lsn, record: &Submitted| record.volume_epoch <= volume_epoch && !history.annuls(volume_epoch, lsn);
        let through = self.history.records.range(..=read_point).filter(|(_, record)| record.page == page);
        through.filter(|(lsn, record)| in_force(**lsn, record)).map(|(_, record)| record.mark).collect()
    }

    /// Whether this node may still crash.
    pub fn may_crash(&self, index: usize) -> bool {
        self.left.crashes + self.left.zone_crashes > 0 && self.doomed >> index & 1 == 1
    }

    /// Whether this node's journal may still lose entries.
    pub fn may_lose(&self, index: usize) -> bool {
        self.left.losses > 0 && self.doomed >> index & 1 == 1
    }

    /// The writer of this name, if it was started.
    pub fn writer_index(&self, writer: WriterId) -> Option<usize> {
        usize::try_from(writer.0).ok()?.checked_sub(1).filter(|index| *index < self.writers.len())
    }
}
