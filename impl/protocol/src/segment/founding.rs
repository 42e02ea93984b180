//! Whether a segment without a journal counts (R-REJOIN-6, R-REJOIN-7, decision 0021).
//!
//! It may be one of the members that are made for a new volume; or it was made again, because its disk was lost, and
//! its volume holds data of which it knows nothing. It can't tell by itself, and does not believe the one who made it.
//! So it draws a *birth* (a number that no other one has), keeps it, and asks all other members, twice:
//!
//! ```text
//!  no journal ──► Blank ─── every other one is blank, or founds with this birth ──► Founding ─── every other one ───► counts
//!                   │                                                                  │         founds with this birth
//!                   └────────────── one knows another birth of it, or none ────────────┴──► Numbering (`rejoin.rs`)
//! ```
//!
//! *Why twice.* A member that counts may promise and acknowledge. Before it does, each other one must know its birth
//! for good, so that none bears witness for a later one. Then one disk that was lost, of all that once counted, is
//! always found out by the others; it takes the loss of all five to forget a founding.
//!
//! *Why it ends.* A birth survives a restart, as do the births that a founding member keeps. A member that was made
//! again in the middle of it rejoins, and a member that rejoins is no obstacle: it is a witness for no birth.
//!
//! *What it does not find.* A copy of the directory from the middle of the founding has the right birth. It counts only
//! in a life that its peers remember, as every segment does at every start (`lives.rs`).

use super::rejoin::Rejoin;
use super::{Entry, Out, Reply, Segment};
use crate::defect::Defect;
use crate::ids::{Birth, MemberId, SegmentId};
use crate::message::{Footing, Message, Question};
use crate::quorum::MemberSet;
use crate::record::Payload;
use alloc::collections::BTreeMap;
use serde::{Deserialize, Serialize};

/// The members that founded a protection group, as one of them knows them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Founders {
    /// Its own birth.
    pub birth: Birth,
    /// The others' births; one that was rejoining then has none.
    pub others: BTreeMap<MemberId, Birth>,
}

impl<P: Payload> Segment<P> {
    /// Begins without a journal.
    pub(super) fn begin_blank(&mut self, out: &mut Out<P>) {
        let birth = Birth(self.boot);
        self.resume_blank(birth);
        self.append(Entry::Blank { birth }, out);
        if self.peers().is_empty() {
            self.found(Founders { birth, others: BTreeMap::new() }, out);
            self.count_as_founder(out);
        }
    }

    /// Takes up again what the journal says of an earlier start.
    pub(super) fn resume_blank(&mut self, birth: Birth) {
        self.rejoin = Some(Rejoin::Blank { question: self.new_question(), birth, heard: BTreeMap::new() });
    }

    /// The same, where the first question was answered.
    pub(super) fn resume_founding(&mut self, founders: Founders) {
        self.founders = Some(founders);
        self.rejoin = Some(Rejoin::Founding { question: self.new_question(), vouched: MemberSet::EMPTY });
    }

    /// Says what this segment is to a blank one, once it is durable.
    pub(super) fn on_found_pull(&mut self, peer: SegmentId, question: Question, out: &mut Out<P>) {
        self.answer(Reply::Footing { peer: peer.member, question }, out);
    }

    pub(super) fn tell_footing(&self, peer: MemberId, question: Question, out: &mut Out<P>) {
        let footing = match (&self.rejoin, &self.founders) {
            (Some(Rejoin::Blank { birth, .. }), _) => Footing::Blank { birth: *birth },
            (None | Some(Rejoin::Founding { .. } | Rejoin::Finishing), Some(founders)) => {
                Footing::Founder { birth: founders.birth, yours: founders.others.get(&peer).copied() }
            }
            (None, None) => Footing::Founder { birth: Birth(0), yours: None },
            (Some(_), _) => Footing::Rejoining,
        };
        out.send(self.peer(peer), Message::FoundPush { question, footing });
    }

    pub(super) fn on_found_push(&mut self, peer: SegmentId, to: Question, footing: Footing, out: &mut Out<P>) {
        let peers = self.peers();
        let enough = if self.config.defects.has(Defect::FoundsOnFive) { peers.len() - 1 } else { peers.len() };
        let own = self.founders.as_ref().map(|founders| founders.birth);
        match &mut self.rejoin {
            Some(Rejoin::Blank { question, birth, heard }) if *question == to => {
                match footing {
                    Footing::Founder { yours, .. } if yours != Some(*birth) => {
                        return self.rejoin_as_lost(out);
                    }
                    Footing::Founder { birth, .. } | Footing::Blank { birth } => {
                        heard.insert(peer.member, Some(birth));
                    }
                    Footing::Rejoining => {
                        heard.entry(peer.member).or_insert(None);
                    }
                }
                let all = peers.iter().filter(|member| heard.contains_key(member)).count() as u32;
                if all >= enough {
                    let others = heard.iter().filter_map(|(member, birth)| Some((*member, (*birth)?))).collect();
                    let founders = Founders { birth: *birth, others };
                    self.found(founders, out);
                }
            }
            Some(Rejoin::Founding { question, vouched }) if *question == to => {
                match footing {
                    Footing::Founder { yours, .. } if yours != own => return self.rejoin_as_lost(out),
                    Footing::Founder { .. } | Footing::Rejoining => *vouched = vouched.with(peer.member),
                    Footing::Blank { .. } => {}
                }
                if vouched.and(peers).len() >= enough {
                    self.count_as_founder(out);
                }
            }
            _ => {}
        }
    }

    /// R-REJOIN-7, the first round: every other one is blank, or founds with this birth.
    fn found(&mut self, founders: Founders, out: &mut Out<P>) {
        self.append(Entry::Founding(founders.clone()), out);
        self.resume_founding(founders);
        self.ask_to_rejoin(out);
    }

    /// Another birth of this segment may have counted: this one must learn what that one knew.
    fn rejoin_as_lost(&mut self, out: &mut Out<P>) {
        self.forget_what_was_promised(out);
        self.ask_to_rejoin(out);
    }

    /// The second round: every other one founds with this birth.
    fn count_as_founder(&mut self, out: &mut Out<P>) {
        let Some(founders) = self.founders.clone() else { return };
        self.rejoin = Some(Rejoin::Finishing);
        let append = self.append(Entry::Founded(founders), out);
        self.waiting.push((append, Reply::Founded));
    }
}
