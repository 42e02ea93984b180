//! What is known of the storage processes, and of the members that live on them.

use crate::controller::Millis;
use std::net::SocketAddr;

/// What came of a look at a storage process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look {
    /// It serves, or could.
    Serves {
        /// How many segments it holds.
        segments: usize,
        /// How many bytes they take.
        used_bytes: u64,
    },
    /// It answers, and can't serve: its store can't be opened.
    Refuses,
    /// It does not answer.
    Silent,
}

/// What the volume's writer sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// When it was asked.
    pub asked: Millis,
    /// The volume's groups.
    pub groups: Vec<GroupSeen>,
}

/// A protection group as the writer sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupSeen {
    /// Its number.
    pub pg: u16,
    /// Everyone, those included who join or are being replaced.
    pub members: Vec<MemberSeen>,
    /// The replacements under way: who goes, who comes.
    pub under_way: Vec<(u8, u8)>,
}

/// A member as the writer sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberSeen {
    /// Its number.
    pub member: u8,
    /// Where it lives.
    pub home: SocketAddr,
    /// For how long it has owed the writer an answer, in milliseconds; 0 where it owes none.
    pub silent_ms: u64,
    /// Whether it joins, and has all that it must have.
    pub hydrated: bool,
}

impl GroupSeen {
    /// The member with this number.
    pub fn member(&self, number: u8) -> Option<&MemberSeen> {
        self.members.iter().find(|member| member.member == number)
    }

    /// Whether this member goes or comes.
    pub fn is_changing(&self, number: u8) -> bool {
        self.under_way.iter().any(|(old, new)| [*old, *new].contains(&number))
    }
}

/// What is known of one storage process.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    last: Option<Look>,
    /// Since when the looks say the same, whether it serves.
    since: Millis,
}

impl Seen {
    pub fn take(&mut self, now: Millis, look: Look) {
        let serves = |look: &Look| matches!(look, Look::Serves { .. });
        if self.last.as_ref().map(serves) != Some(serves(&look)) {
            self.since = now;
        }
        self.last = Some(look);
    }

    /// Since when it does not serve; `None`: it does, or nobody has looked yet.
    pub fn gone_since(&self) -> Option<Millis> {
        matches!(self.last, Some(Look::Refuses | Look::Silent)).then_some(self.since)
    }

    /// Since when it serves.
    pub fn serves_since(&self) -> Option<Millis> {
        self.load().map(|_| self.since)
    }

    /// How much is on it, where it serves: segments, then bytes.
    pub fn load(&self) -> Option<(usize, u64)> {
        match &self.last {
            Some(Look::Serves { segments, used_bytes }) => Some((*segments, *used_bytes)),
            _ => None,
        }
    }
}
