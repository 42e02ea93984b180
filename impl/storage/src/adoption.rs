//! Asks the peers what this process should hold: makes blank what is missing, and says what is another cluster's.
//!
//! Both are decided by the protocol ([`missing`], [`strangers`]); this only asks, and does it. A process whose directory
//! was lost comes back by itself so: its blank segments rejoin, and fetch what the others have.

use super::node::Node;
use super::requests;
use auriga_driver::lock;
use auriga_net::admin::holdings;
use auriga_protocol::MemberId;
use auriga_protocol::identity::{Answers, Missing, Stranger, missing, strangers};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

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

/// Looks again and again, as the process of `me`.
pub(super) async fn adopt(node: Arc<Node>, me: MemberId) {
    loop {
        let answers = ask(&node, me).await;
        let all_answered = answers.values().all(Option::is_some);
        let own = requests::holdings(&node);
        let settled = remember(&node, &answers, strangers(me, &own, &answers).into_iter().collect());
        let lacking = missing(me, &own, &answers);
        let complete = lacking.is_empty();
        for each in lacking {
            make(&node, each).await;
        }
        sleep(if all_answered && settled && complete && !own.is_empty() { CALM } else { SOON }).await;
    }
}

async fn ask(node: &Node, me: MemberId) -> Answers {
    let mut asking = JoinSet::new();
    for (member, address) in node.config.members.iter().filter(|(member, _)| **member != me) {
        let (member, address, access) = (*member, *address, node.config.access());
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

async fn make(node: &Arc<Node>, Missing { id, charter, membership }: Missing) {
    let making = node.clone();
    let made = tokio::task::spawn_blocking(move || requests::create_segment(&making, id, membership, charter, true));
    match made.await {
        Ok(Ok(())) => {
            tracing::warn!(segment = %id, "this process had no such segment: made a blank one, which rejoins")
        }
        Ok(Err(why)) => tracing::error!(segment = %id, why, "a segment that is missing here can't be made"),
        Err(_) => {}
    }
}
