//! Which connection leads to whom.
//!
//! Peers are dialled, where configuration or a membership says that they are ([`Peers`]). Writers and readers dial in: what
//! goes to a writer goes back through every connection on which it has spoken, pages through those for pages. There is one
//! of them, unless its messages are repeated on another: that connection gets the answers too, and takes none away. A writer
//! that dials again is heard at once, whatever has become of its connection before. A segment that no membership here names
//! is answered in the same way: it may have been replaced while it was away, and is to be told so.

use auriga_net::{Homes, Outbox, Peers};
use auriga_protocol::Party;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, RwLock};
use tokio::task::AbortHandle;

/// Connections that lead to one writer at most: the one that has been known longest gives way. Where it is the writer's
/// own, that speaks again and is known again (see [`Known`]).
const CONNECTIONS_MAX: usize = 8;

/// Who dialled in, and whether the way is for pages.
type Route = (Party, bool);
/// A connection on which it has spoken.
type Way = (Arc<Outbox>, Known);

/// The ways out of a node.
pub(super) struct Routes {
    peers: Peers,
    /// Those who dialled in.
    writers: RwLock<HashMap<Route, Vec<Way>>>,
}

/// Whether a connection still leads to the writer that has spoken on it.
#[derive(Clone)]
pub(super) struct Known(Arc<AtomicBool>);

impl Known {
    /// Whether it does.
    pub fn is_known(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Routes {
    pub fn new(peers: Peers) -> Routes {
        Routes { peers, writers: RwLock::default() }
    }

    /// See [`Peers::follow`].
    pub fn follow(&self, homes: Homes, dial: impl Fn(SocketAddr, Arc<Outbox>) -> Option<AbortHandle>) {
        self.peers.follow(homes, dial);
    }

    /// Closes the connections to peers.
    pub fn close(&self) {
        self.peers.close();
    }

    /// The ways to `to`; `pages`: on a writer's connections for pages.
    pub fn find(&self, to: Party, pages: bool) -> Vec<Arc<Outbox>> {
        if let Party::Segment(id) = to
            && let Some(peer) = self.peers.find(id)
        {
            return vec![peer];
        }
        let pages = pages && !matches!(to, Party::Segment(_));
        let writers = self.writers.read().expect("no holder panics");
        let known = writers.get(&(to, pages)).into_iter().flatten();
        known.map(|(outbox, _)| outbox.clone()).collect()
    }

    /// Whether `who` can be answered only on a connection that it dialled.
    pub fn is_to_be_learnt(&self, who: Party) -> bool {
        match who {
            Party::Segment(id) => self.peers.find(id).is_none(),
            Party::Writer(..) | Party::Reader(..) => true,
        }
    }

    /// From now on, `outbox` leads to this writer, reader or segment too.
    pub fn learn(&self, who: Party, pages: bool, outbox: &Arc<Outbox>) -> Known {
        let mut writers = self.writers.write().expect("no holder panics");
        let known = writers.entry((who, pages)).or_default();
        if known.len() >= CONNECTIONS_MAX {
            let (_, first) = known.remove(0);
            first.0.store(false, Relaxed);
        }
        let here = Known(Arc::new(AtomicBool::new(true)));
        known.push((outbox.clone(), here.clone()));
        here
    }

    /// The connection behind `outbox` is gone.
    pub fn forget(&self, outbox: &Arc<Outbox>) {
        self.writers.write().expect("no holder panics").retain(|_, known| {
            known.retain(|(other, _)| !Arc::ptr_eq(other, outbox));
            !known.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_net::Traffic;
    use auriga_protocol::{MemberId, PgId, SegmentId, VolumeId, WriterId};
    use std::collections::BTreeMap;

    const WRITER: Party = Party::Writer(VolumeId(1), WriterId(1));

    fn outbox() -> Arc<Outbox> {
        Outbox::new(Arc::new(Traffic::default()), 1)
    }

    fn routes() -> Routes {
        Routes::new(Peers::new(BTreeMap::new(), Arc::default()))
    }

    #[test]
    fn a_segment_that_nobody_knows_is_answered_where_it_spoke_until_its_home_is_known() {
        let id = SegmentId { volume: VolumeId(1), pg: PgId(0), member: MemberId(6) };
        let (routes, own, to) = (routes(), outbox(), Party::Segment(id));
        assert!(routes.is_to_be_learnt(to) && routes.find(to, false).is_empty());
        routes.learn(to, false, &own);
        assert!(routes.find(to, true).iter().all(|found| Arc::ptr_eq(found, &own)));
        routes.follow([(id, SocketAddr::from(([127, 0, 0, 1], 1)))].into(), |_, _| None);
        assert!(!routes.is_to_be_learnt(to) && !routes.find(to, false).iter().any(|found| Arc::ptr_eq(found, &own)));
    }

    #[test]
    fn who_repeats_a_writers_messages_takes_no_answer_away() {
        let routes = routes();
        let (own, other, to) = (outbox(), outbox(), WRITER);
        let known = routes.learn(WRITER, false, &own);
        routes.learn(WRITER, false, &other);
        assert!(routes.find(to, false).iter().any(|found| Arc::ptr_eq(found, &own)));
        routes.forget(&other);
        assert!(routes.find(to, false).len() == 1 && known.is_known());
        assert!(routes.find(to, true).is_empty(), "pages go their own way");
        routes.forget(&own);
        assert!(routes.find(to, false).is_empty());
    }

    #[test]
    fn a_crowd_is_bounded_and_whoever_gave_way_can_tell() {
        let routes = routes();
        let first = routes.learn(WRITER, false, &outbox());
        (0..CONNECTIONS_MAX - 1).for_each(|_| drop(routes.learn(WRITER, false, &outbox())));
        assert!(first.is_known());
        routes.learn(WRITER, false, &outbox());
        assert!(!first.is_known());
        assert_eq!(routes.find(WRITER, false).len(), CONNECTIONS_MAX);
    }
}
