//! Connections to the processes where the members of volumes are, opened and closed as memberships say.
//!
//! Configuration says where a volume's first six members are; those connections stay for good. A member that came later
//! has its home in its group's membership. [`Peers::follow`] is told all homes that are known, and opens and closes
//! connections, so that there is one to each of them. Nothing that is safe depends on it: a message that finds no
//! connection is lost, as any may be.

use crate::outbox::{OUTBOX_BYTES_MAX, Outbox};
use crate::traffic::Traffic;
use auriga_protocol::membership::Step;
use auriga_protocol::{MemberId, PgId, SegmentId, VolumeId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::task::AbortHandle;

/// Connections beside those to the configured addresses at one time. Homes beyond have none, and are as silent as if
/// they were down.
pub const PEERS_MAX: usize = 256;

/// Where segments are, of those that are not where configuration says.
pub type Homes = BTreeMap<SegmentId, SocketAddr>;

/// Tells where the members of a group are, as far as its membership says it.
pub fn homes_of(volume: VolumeId, pg: PgId, membership: &Step) -> Homes {
    let at = |member| Some((SegmentId { volume, pg, member }, membership.home(member)?));
    membership.members().iter().filter_map(at).collect()
}

/// See the [module](self).
pub struct Peers {
    configured: BTreeMap<MemberId, SocketAddr>,
    traffic: Arc<Traffic>,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    homes: Homes,
    open: BTreeMap<SocketAddr, Open>,
    is_closed: bool,
}

struct Open {
    outbox: Arc<Outbox>,
    /// Keeps it connected; `None`: nobody dials, because it is this process's own address.
    dialling: Option<AbortHandle>,
}

impl Peers {
    /// Knows where the first members are. Nothing is dialled before the first [`Peers::follow`].
    pub fn new(configured: BTreeMap<MemberId, SocketAddr>, traffic: Arc<Traffic>) -> Peers {
        Peers { configured, traffic, state: RwLock::default() }
    }

    /// Finds the way to a segment.
    pub fn find(&self, segment: SegmentId) -> Option<Arc<Outbox>> {
        let state = self.read();
        let address = state.homes.get(&segment).or_else(|| self.configured.get(&segment.member))?;
        state.open.get(address).map(|open| open.outbox.clone())
    }

    /// Takes these homes for all that are known, dials those that are new, and closes what leads to none any more.
    /// `dial` keeps an outbox connected to an address; it may answer `None` for an address that is not to be dialled.
    pub fn follow(&self, homes: Homes, dial: impl Fn(SocketAddr, Arc<Outbox>) -> Option<AbortHandle>) {
        if !self.is_news(&homes) {
            return;
        }
        let configured: BTreeSet<SocketAddr> = self.configured.values().copied().collect();
        let further = homes.values().copied().filter(|address| !configured.contains(address)).collect::<BTreeSet<_>>();
        if further.len() > PEERS_MAX {
            tracing::warn!(homes = further.len(), most = PEERS_MAX, "too many homes: some have no connection");
        }
        let wanted: BTreeSet<SocketAddr> = further.into_iter().take(PEERS_MAX).chain(configured).collect();
        let mut state = self.write();
        if state.is_closed {
            return;
        }
        state.open.retain(|address, open| {
            let stays = wanted.contains(address);
            if !stays {
                tracing::info!(%address, "no member lives there any more: closing the connection");
                open.end();
            }
            stays
        });
        for address in wanted {
            state.open.entry(address).or_insert_with(|| {
                let outbox = Outbox::new(self.traffic.clone(), OUTBOX_BYTES_MAX);
                Open { dialling: dial(address, outbox.clone()), outbox }
            });
        }
        state.homes = homes;
    }

    /// Whether every connection that is dialled is there.
    pub fn are_connected(&self) -> bool {
        self.read().open.values().all(|open| open.dialling.is_none() || open.outbox.is_connected())
    }

    /// The addresses to which there is a connection, or is to be one.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.read().open.keys().copied().collect()
    }

    /// Closes every connection, for good.
    pub fn close(&self) {
        let mut state = self.write();
        state.is_closed = true;
        state.open.values().for_each(Open::end);
        state.open.clear();
    }

    fn is_news(&self, homes: &Homes) -> bool {
        let state = self.read();
        state.homes != *homes || state.open.is_empty()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn end(&self) {
        self.dialling.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn segment(pg: u16, member: u8) -> SegmentId {
        SegmentId { volume: VolumeId(1), pg: PgId(pg), member: MemberId(member) }
    }

    fn peers() -> Peers {
        let configured = [(MemberId(0), address(1)), (MemberId(1), address(2))].into();
        Peers::new(configured, Arc::default())
    }

    #[test]
    fn connections_follow_homes_and_those_of_the_configuration_stay() {
        let peers = peers();
        let dialled = std::sync::Mutex::new(Vec::new());
        let dial = |address, _| {
            dialled.lock().expect("no holder panics").push(address);
            None
        };
        let news = || std::mem::take(&mut *dialled.lock().expect("no holder panics"));
        assert!(peers.find(segment(0, 0)).is_none(), "nothing is dialled yet");
        peers.follow(Homes::new(), dial);
        assert_eq!(news(), [address(1), address(2)]);
        assert!(peers.find(segment(0, 6)).is_none(), "nobody knows where it is");

        // Member 6 of the first group, and another member 6 of the second one, which lives where member 1 does.
        peers.follow([(segment(0, 6), address(3)), (segment(1, 6), address(2))].into(), dial);
        assert_eq!(news(), [address(3)]);
        let way = |pg, member| peers.find(segment(pg, member)).expect("known");
        assert!(Arc::ptr_eq(&way(1, 6), &way(0, 1)) && !Arc::ptr_eq(&way(0, 6), &way(0, 1)));

        peers.follow([(segment(0, 7), address(4))].into(), dial);
        assert_eq!((news(), peers.addresses()), (vec![address(4)], vec![address(1), address(2), address(4)]));
        assert!(peers.find(segment(0, 6)).is_none());
        peers.follow([(segment(0, 7), address(4))].into(), dial);
        assert_eq!(news(), [], "no news");
    }

    #[test]
    fn a_home_in_a_membership_counts_before_the_configuration() {
        let peers = peers();
        peers.follow([(segment(0, 0), address(9))].into(), |_, _| None);
        let (moved, other) = (peers.find(segment(0, 0)), peers.find(segment(1, 0)));
        assert!(!Arc::ptr_eq(&moved.expect("known"), &other.expect("known")));
    }

    #[test]
    fn a_crowd_of_homes_is_bounded() {
        let peers = peers();
        let homes = (0..400).map(|n| (segment(n, 6), address(1000 + n))).collect();
        peers.follow(homes, |_, _| None);
        assert_eq!(peers.addresses().len(), PEERS_MAX + 2);
    }
}
