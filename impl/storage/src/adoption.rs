//! Asks the peers what this process should hold: makes blank what is missing, and says what is another cluster's.
//!
//! All is decided by the protocol ([`missing`], [`joining`], [`strangers`]); this only asks, and does it. A process whose directory
//! was lost comes back by itself so: its blank segments rejoin, and fetch what the others have.

use super::node::Node;
use super::requests;
use auriga_driver::{clock, lock};
use auriga_net::admin::holdings;
use auriga_protocol::defect::Defects;
use auriga_protocol::identity::{Answers, Missing, Stranger, joining, missing, strangers};
use auriga_protocol::membership::MembershipNote;
use auriga_protocol::{MemberId, Note};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Those who are asked besides the configured peers have numbers from here on.
const FURTHER: u8 = 32;
/// Between two looks, while a peer is silent or something is not as it should be.
const SOON: Duration = Duration::from_millis(500);
/// Between two looks where all is well.
const CALM: Duration = Duration::from_secs(10);

/// What is known of the peers.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// How many answered when they were last asked.
    pub answered: usize,
    /// How many there are.
    pub peers: usize,
    /// What here is another cluster's.
    pub strangers: BTreeSet<Stranger>,
}

/// See [`Known`].
pub(super) type Neighbours = Mutex<Known>;

/// For a person: what is here, what the others have, and what to do.
pub(super) fn said(stranger: &Stranger) -> String {
    let Stranger { label, here, meant, holders } = stranger;
    format!(
        "refused: this directory holds {here} as volume {label}, which is another cluster's: {} of its peers hold {meant}. \
         Put the right directory back, or move this one out of the way with `auriga set-aside`; then start this process \
         again",
        holders.len()
    )
}

/// Looks again and again, as the process that listens at `address`; `me`: which of the first members lives there, if any.
pub(super) async fn adopt(node: Arc<Node>, me: Option<MemberId>, address: SocketAddr) {
    loop {
        let answers = ask(&node, address).await;
        let all_answered = answers.values().all(Option::is_some);
        let own = requests::holdings(&node);
        let settled = remember(
            &node,
            &answers,
            me.map_or_else(BTreeSet::new, |me| strangers(me, &own, &answers).into_iter().collect()),
        );
        let mut lacking = me.map_or_else(Vec::new, |me| missing(me, &own, &answers));
        lacking.extend(joining(address, &own, &answers, Defects::NONE));
        let complete = lacking.is_empty();
        for each in lacking {
            make(&node, address, each).await;
        }
        // One that holds nothing may be named as a home at any time.
        sleep(if all_answered && settled && complete && !own.is_empty() { CALM } else { SOON }).await;
    }
}

/// Asks the configured peers, then those that their answers name.
async fn ask(node: &Node, own: SocketAddr) -> Answers {
    let configured = node.config.members.iter().map(|(member, address)| (*member, *address));
    let mut answers = ask_these(node, configured.filter(|(_, address)| *address != own)).await;
    let asked: BTreeSet<SocketAddr> = node.config.members.values().copied().chain([own]).collect();
    let held = answers.values().flatten().flatten();
    let homes = held.flat_map(|held| held.membership.next.homes.values().copied());
    let further: BTreeSet<SocketAddr> = homes.filter(|home| !asked.contains(home)).collect();
    // Numbers that no configured process has.
    let numbered = (FURTHER..=MemberId::MAX.0).map(MemberId).zip(further);
    answers.extend(ask_these(node, numbered).await);
    answers
}

async fn ask_these(node: &Node, peers: impl Iterator<Item = (MemberId, SocketAddr)>) -> Answers {
    let mut asking = JoinSet::new();
    for (member, address) in peers {
        let access = node.config.access();
        asking.spawn(async move { (member, holdings(address, access).await.ok()) });
    }
    asking.join_all().await.into_iter().collect()
}

/// Returns whether there are no strangers.
fn remember(node: &Node, answers: &Answers, strangers: BTreeSet<Stranger>) -> bool {
    let mut known = lock(&node.neighbours);
    for stranger in strangers.difference(&known.strangers) {
        tracing::error!("{}", said(stranger));
    }
    let answered = answers.values().filter(|answer| answer.is_some()).count();
    *known = Known { answered, peers: answers.len(), strangers };
    known.strangers.is_empty()
}

async fn make(node: &Arc<Node>, home: SocketAddr, Missing { id, charter, membership }: Missing) {
    let joins = membership.home(id.member) == Some(home);
    let making = node.clone();
    let made = tokio::task::spawn_blocking(move || requests::create_segment(&making, id, membership, charter, true));
    match made.await {
        Ok(Ok(())) if joins => {
            let made = Note::Membership(MembershipNote::Made { segment: id, home });
            node.config.trace.note(clock::now(), &made);
            tracing::warn!(segment = %id, "a new member of its group lives here: made a blank segment, which fetches what the others have");
        }
        Ok(Ok(())) => {
            tracing::warn!(segment = %id, "this process had no such segment: made a blank one, which rejoins")
        }
        Ok(Err(why)) => tracing::error!(segment = %id, why, "a segment that is missing here can't be made"),
        Err(_) => {}
    }
}
