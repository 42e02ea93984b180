//! Has the writer replace a member of a group, or take a replacement back.

use super::{MemberShown, RemoteVolume};
use auriga_driver::lock;
use auriga_protocol::membership::ReplaceRefused;
use auriga_protocol::writer::Request;
use auriga_protocol::{Input, MemberId, PgId, Token};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;

/// Members of the first six that stay: a read quorum of them.
const FIRST_MEMBERS_MIN: usize = 3;

/// What the writer answered: who comes, of a replacement.
type Answered = Result<Option<MemberId>, ReplaceRefused>;

/// Answers that who asked has yet to take.
#[derive(Default)]
pub(super) struct Changes(Mutex<BTreeMap<Token, Answered>>);

impl Changes {
    pub fn answer(&self, token: Token, answered: Answered) {
        lock(&self.0).insert(token, answered);
    }

    fn take(&self, token: Token) -> Option<Answered> {
        lock(&self.0).remove(&token)
    }
}

impl RemoteVolume {
    /// Begins to replace a member of a group by a new one, whose home is another storage process. It is completed by itself.
    /// Returns the new member's number.
    ///
    /// # Errors
    /// It is not begun, and why.
    pub fn replace(&self, pg: PgId, old: MemberId, home: SocketAddr) -> Result<MemberId, ReplaceRefused> {
        // The writer knows the homes of those who joined; of the first members, configuration does.
        let groups = self.status().groups;
        let group = groups.iter().find(|group| group.pg == pg).ok_or(ReplaceRefused::NoSuchGroup)?;
        if group.members.iter().any(|member| member.home == Some(home)) {
            return Err(ReplaceRefused::HomeTaken);
        }
        // A candidate begins with the first members, and so far finds the others through a read quorum of them only.
        let stays = |member: &&MemberShown| {
            let goes = group.under_way.iter().any(|(going, _)| *going == member.member) || member.member == old;
            self.client.configured.contains_key(&member.member) && !goes
        };
        if self.client.configured.contains_key(&old) && group.members.iter().filter(stays).count() < FIRST_MEMBERS_MIN {
            return Err(ReplaceRefused::FirstMembersStay);
        }
        let new = self.change(Request::Replace { pg, old, home })?;
        new.ok_or(ReplaceRefused::NotOpen)
    }

    /// Takes the replacement by a member back, as long as it joins.
    ///
    /// # Errors
    /// It is not taken back, and why.
    pub fn undo_replace(&self, pg: PgId, new: MemberId) -> Result<(), ReplaceRefused> {
        self.change(Request::UndoReplace { pg, new }).map(drop)
    }

    fn change(&self, request: Request<auriga_page::Delta>) -> Answered {
        let token = Token(self.client.next_read.fetch_add(1, SeqCst));
        // The writer answers within its step.
        self.client.input(Input::Request { token, request });
        let ports = self.client.driver.ports();
        ports.memberships.notify_one();
        ports.changes.take(token).unwrap_or(Err(ReplaceRefused::NotOpen))
    }
}
