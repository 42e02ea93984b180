//! The volume's members as its writer's process sees them: where they live, who is silent, who comes and who goes.

use auriga_driver::lock;
use auriga_protocol::writer::{GroupStatus, WriterStatus};
use auriga_protocol::{Lsn, MemberId, PgId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Each member is told VDL several times a second, and answers: one that has not is silent after this time.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// A protection group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupShown {
    /// Which one.
    pub pg: PgId,
    /// Everyone, those included who join or are being replaced. Who has given way is none of them any more.
    pub members: Vec<MemberShown>,
    /// The replacements under way: who goes, who comes.
    pub under_way: Vec<(MemberId, MemberId)>,
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberShown {
    /// Which one.
    pub member: MemberId,
    /// Where it lives; `None`: nobody has said so.
    pub home: Option<SocketAddr>,
    /// Its last acknowledged SCL.
    pub scl: Lsn,
    /// Milliseconds since it was heard; 0 where it was a moment ago.
    pub silent_ms: u64,
    /// Whether it joins: it is written to, and not read yet.
    pub joins: bool,
    /// Whether it joins, and has all that it must have.
    pub hydrated: bool,
}

/// When each member was heard last.
#[derive(Default)]
pub(super) struct HeardMembers(Mutex<BTreeMap<(PgId, MemberId), Instant>>);

impl HeardMembers {
    /// This member speaks now.
    pub fn speaks(&self, pg: PgId, member: MemberId) {
        lock(&self.0).insert((pg, member), Instant::now());
    }

    /// For how long it has been silent, in milliseconds; since now where nobody has asked for it before.
    fn silence(&self, pg: PgId, member: MemberId) -> u64 {
        let ago = lock(&self.0).entry((pg, member)).or_insert_with(Instant::now).elapsed();
        if ago < SILENT_AFTER { 0 } else { u64::try_from(ago.as_millis()).unwrap_or(u64::MAX) }
    }
}

/// Shows the groups of a writer. `configured`: where the first members live.
pub(super) fn groups(
    writer: &WriterStatus,
    heard: &HeardMembers,
    configured: &BTreeMap<MemberId, SocketAddr>,
) -> Vec<GroupShown> {
    let shown = |group: &GroupStatus| GroupShown {
        pg: group.pg,
        members: writer
            .members
            .iter()
            .filter(|seen| seen.pg == group.pg && group.membership.next.members().contains(seen.member))
            .map(|seen| MemberShown {
                member: seen.member,
                home: group.membership.home(seen.member).or_else(|| configured.get(&seen.member).copied()),
                scl: seen.scl,
                silent_ms: heard.silence(group.pg, seen.member),
                joins: seen.joining,
                hydrated: seen.joining && seen.counts,
            })
            .collect(),
        under_way: group.membership.next.replacements.iter().map(|it| (it.old, it.new)).collect(),
    };
    writer.groups.iter().map(shown).collect()
}
