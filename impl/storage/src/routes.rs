//! Which connection leads to whom.
//!
//! Peers are dialled: each member has one outbox for the node's whole life. Writers dial in: replies go back through
//! the connection on which the writer last spoke, pages through the one for pages.

use auriga_net::Outbox;
use auriga_protocol::{MemberId, Party, VolumeId, WriterId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

type WriterRoute = (VolumeId, WriterId, bool);

/// The ways out of a node.
pub(super) struct Routes {
    members: BTreeMap<MemberId, Arc<Outbox>>,
    writers: RwLock<HashMap<WriterRoute, Arc<Outbox>>>,
}

impl Routes {
    pub fn new(members: BTreeMap<MemberId, Arc<Outbox>>) -> Routes {
        Routes { members, writers: RwLock::default() }
    }

    /// The way to `to`; `pages`: on a writer's connection for pages.
    pub fn find(&self, to: Party, pages: bool) -> Option<Arc<Outbox>> {
        match to {
            Party::Segment(id) => self.members.get(&id.member).cloned(),
            Party::Writer(volume, writer) => {
                let writers = self.writers.read().expect("no holder panics");
                writers.get(&(volume, writer, pages)).cloned()
            }
        }
    }

    /// From now on, `outbox` leads to this writer.
    pub fn learn(&self, (volume, writer): (VolumeId, WriterId), pages: bool, outbox: &Arc<Outbox>) {
        self.writers.write().expect("no holder panics").insert((volume, writer, pages), outbox.clone());
    }

    /// The connection behind `outbox` is gone.
    pub fn forget(&self, outbox: &Arc<Outbox>) {
        self.writers.write().expect("no holder panics").retain(|_, known| !Arc::ptr_eq(known, outbox));
    }
}
