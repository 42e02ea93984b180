//! Which connection leads to whom.
//!
//! Peers are dialled: each member has one outbox for the node's whole life. Writers and readers dial in: what goes to a writer goes
//! back through every connection on which it has spoken, pages through those for pages. There is one of them, unless
//! its messages are repeated on another: that connection gets the answers too, and takes none away. A writer that
//! dials again is heard at once, whatever has become of its connection before.

use auriga_net::Outbox;
use auriga_protocol::{MemberId, Party};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

/// Connections that lead to one writer at most: the one that has been known longest gives way. Where it is the writer's
/// own, that speaks again and is known again (see [`Known`]).
const CONNECTIONS_MAX: usize = 8;

/// A writer or reader, and whether the way is for pages.
type Route = (Party, bool);
/// A connection on which a writer has spoken.
type Way = (Arc<Outbox>, Known);

/// The ways out of a node.
pub(super) struct Routes {
    members: BTreeMap<MemberId, Arc<Outbox>>,
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
    pub fn new(members: BTreeMap<MemberId, Arc<Outbox>>) -> Routes {
        Routes { members, writers: RwLock::default() }
    }

    /// The ways to `to`; `pages`: on a writer's connections for pages.
    pub fn find(&self, to: Party, pages: bool) -> Vec<Arc<Outbox>> {
        match to {
            Party::Segment(id) => self.members.get(&id.member).cloned().into_iter().collect(),
            Party::Writer(..) | Party::Reader(..) => {
                let writers = self.writers.read().expect("no holder panics");
                let known = writers.get(&(to, pages)).into_iter().flatten();
                known.map(|(outbox, _)| outbox.clone()).collect()
            }
        }
    }

    /// From now on, `outbox` leads to this writer or reader too.
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
    use auriga_protocol::{VolumeId, WriterId};

    const WRITER: Party = Party::Writer(VolumeId(1), WriterId(1));

    fn outbox() -> Arc<Outbox> {
        Outbox::new(Arc::new(Traffic::default()), 1)
    }

    #[test]
    fn who_repeats_a_writers_messages_takes_no_answer_away() {
        let routes = Routes::new(BTreeMap::new());
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
        let routes = Routes::new(BTreeMap::new());
        let first = routes.learn(WRITER, false, &outbox());
        (0..CONNECTIONS_MAX - 1).for_each(|_| drop(routes.learn(WRITER, false, &outbox())));
        assert!(first.is_known());
        routes.learn(WRITER, false, &outbox());
        assert!(!first.is_known());
        assert_eq!(routes.find(WRITER, false).len(), CONNECTIONS_MAX);
    }
}
