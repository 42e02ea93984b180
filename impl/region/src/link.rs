//! Connections between the regions of a global database, and from its controllers.
//!
//! Each region dials each other one, and sends on the connection that it dialled. What is for a controller goes back on the
//! connection on which that one has spoken. Messages may be lost: whoever waits for an answer asks again.

use auriga_driver::lock;
use auriga_net::connection::{ConnectionError, Receiver};
use auriga_net::dialler::keep_connected;
use auriga_net::frame::{Frame, Mtr};
use auriga_net::listener::{Acceptor, ListenLimits, listen};
use auriga_net::outbox::Outbox;
use auriga_net::tls::{Certified, CertifiedRole};
use auriga_net::{ClusterId, ConnectionRole, Credentials, Encoded, Hello, Traffic};
use auriga_protocol::global::{GlobalMessage, GlobalParty};
use auriga_protocol::{ControllerId, RegionId};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver as Inbox, Sender, channel};
use tokio::task::JoinSet;

/// Bytes that may wait for one region: several windows.
const OUTBOX_BYTES: usize = 32 << 20;

/// Messages that may wait to be taken. Beyond it the sender's connection waits.
const INBOX_MAX: usize = 64;

/// Most controllers whose connections are known.
const CONTROLLERS_MAX: usize = 64;

/// A message, and who sent it.
pub type Received = (GlobalParty, GlobalMessage<Mtr>);

/// The ways to the other parties of a global database.
pub struct Link {
    own: GlobalParty,
    regions: BTreeMap<RegionId, Arc<Outbox>>,
    controllers: Mutex<HashMap<ControllerId, Arc<Outbox>>>,
}

/// Where the regions of a global database are.
#[derive(Clone)]
pub struct LinkConfig {
    /// This process's name.
    pub name: String,
    /// The global database's identity.
    pub global: ClusterId,
    /// This process's certificate, if it has one.
    pub credentials: Option<Credentials>,
    /// Where each region's process listens.
    pub regions: BTreeMap<RegionId, SocketAddr>,
}

impl LinkConfig {
    fn hello(&self) -> Hello {
        Hello { cluster: self.global, role: ConnectionRole::Region, name: self.name.clone() }
    }
}

impl Link {
    /// Connects `own` to every other region, and listens where there is a `listener`. The tasks run as long as `tasks` is.
    pub fn start(
        own: GlobalParty,
        config: &LinkConfig,
        listener: Option<TcpListener>,
        tasks: &mut JoinSet<()>,
    ) -> (Arc<Link>, Inbox<Received>) {
        let traffic = Arc::new(Traffic::default());
        let (sender, inbox) = channel(INBOX_MAX);
        let others = config.regions.iter().filter(|(region, _)| GlobalParty::Region(**region) != own);
        let others: Vec<(RegionId, SocketAddr)> = others.map(|(region, address)| (*region, *address)).collect();
        let regions = others.iter().map(|(region, _)| (*region, Outbox::new(traffic.clone(), OUTBOX_BYTES))).collect();
        let link = Arc::new(Link { own, regions, controllers: Mutex::default() });
        for (region, address) in others {
            let answers = Incoming { sender: sender.clone(), may_be: MayBe::Region(region), back: None };
            let outbox = link.regions[&region].clone();
            tasks.spawn(keep_connected(address, config.hello(), config.credentials.clone(), outbox, answers));
        }
        if let Some(listener) = listener {
            let inbound = Arc::new(Inbound { sender, link: link.clone() });
            let limits = ListenLimits::default();
            tasks.spawn(listen(listener, config.hello(), config.credentials.clone(), limits, traffic, inbound));
        }
        (link, inbox)
    }

    /// Sends, or loses it.
    pub fn send(&self, to: GlobalParty, message: &GlobalMessage<Mtr>) {
        let outbox = match to {
            GlobalParty::Region(region) => self.regions.get(&region).cloned(),
            GlobalParty::Controller(controller) => lock(&self.controllers).get(&controller).cloned(),
        };
        let Some(outbox) = outbox else { return };
        match Encoded::global(self.own, message) {
            Ok(encoded) => {
                outbox.push(&encoded, None);
                outbox.flush();
            }
            Err(error) => tracing::error!(%to, %error, "a message between regions can't be sent"),
        }
    }

    /// Whether there is a connection to this region.
    pub fn is_connected(&self, region: RegionId) -> bool {
        self.regions.get(&region).is_some_and(|outbox| outbox.is_connected())
    }

    fn learn(&self, controller: ControllerId, outbox: &Arc<Outbox>) {
        let mut controllers = lock(&self.controllers);
        controllers.retain(|_, known| known.is_connected());
        if controllers.len() < CONTROLLERS_MAX {
            controllers.insert(controller, outbox.clone());
        }
    }
}

/// In whose name a peer may speak.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MayBe {
    /// This region.
    Region(RegionId),
    /// Any region.
    Regions,
    /// Any controller.
    Controllers,
    /// Whoever reaches the port: nobody is asked for a certificate.
    Anybody,
}

impl MayBe {
    fn allows(self, party: GlobalParty) -> bool {
        match (self, party) {
            (MayBe::Anybody, _) => true,
            (MayBe::Region(only), GlobalParty::Region(region)) => only == region,
            (MayBe::Regions, GlobalParty::Region(_)) | (MayBe::Controllers, GlobalParty::Controller(_)) => true,
            (MayBe::Region(_) | MayBe::Regions, GlobalParty::Controller(_)) => false,
            (MayBe::Controllers, GlobalParty::Region(_)) => false,
        }
    }
}

struct Inbound {
    sender: Sender<Received>,
    link: Arc<Link>,
}

impl Acceptor for Inbound {
    type Receiver = Incoming;

    fn accept(
        &self,
        peer: Hello,
        certified: Option<Certified>,
        outbox: &Arc<Outbox>,
    ) -> Result<Incoming, ConnectionError> {
        let may_be = match certified.as_ref().map(|certified| certified.role) {
            _ if peer.role != ConnectionRole::Region => {
                return Err(ConnectionError::OutOfPlace("neither region nor controller"));
            }
            None => MayBe::Anybody,
            Some(CertifiedRole::Replication) => MayBe::Regions,
            Some(CertifiedRole::Control | CertifiedRole::Admin) => MayBe::Controllers,
            Some(role @ (CertifiedRole::Storage | CertifiedRole::Instance)) => {
                let why = format!("{} (role {role}) may not speak to a region", peer.name);
                return Err(ConnectionError::NotAllowed(why));
            }
        };
        let back = Some((self.link.clone(), outbox.clone()));
        Ok(Incoming { sender: self.sender.clone(), may_be, back })
    }
}

/// Receives one connection's messages.
struct Incoming {
    sender: Sender<Received>,
    may_be: MayBe,
    /// The way back to a controller.
    back: Option<(Arc<Link>, Arc<Outbox>)>,
}

impl Receiver for Incoming {
    async fn receive(&mut self, frame: Frame, _: usize) -> Result<(), ConnectionError> {
        let Frame::Global(from, message) = frame else {
            return Err(ConnectionError::OutOfPlace("not a message between regions"));
        };
        if !self.may_be.allows(from) {
            return Err(ConnectionError::NotAllowed(format!("it may not speak as {from}")));
        }
        if let (GlobalParty::Controller(controller), Some((link, outbox))) = (from, &self.back) {
            link.learn(controller, outbox);
        }
        // Nobody takes it any more where this process ends.
        let _ = self.sender.send((from, *message)).await;
        Ok(())
    }
}
