//! A process whose store can't be opened: it stays, serves nothing, and says why.
//!
//! So `auriga status` can name it, and its silence is not taken for a crash.

use crate::{StartError, allowed};
use auriga_net::admin::{Access, AdminReply, AdminRequest, Condition, NodeStatus};
use auriga_net::connection::{ConnectionError, Receiver};
use auriga_net::frame::{Encoded, Frame};
use auriga_net::handshake::{ConnectionRole, Hello};
use auriga_net::listener::{Acceptor, ListenLimits, listen};
use auriga_net::outbox::Outbox;
use auriga_net::tls::Certified;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A process that refuses. Dropping it closes its connections.
pub struct RefusedNode {
    stopped: watch::Receiver<bool>,
    tasks: JoinSet<()>,
}

/// Who refuses, and why.
pub struct Refusal {
    /// The process's name.
    pub name: String,
    /// Its Availability Zone.
    pub az: String,
    /// What was found.
    pub found: String,
    /// What to do.
    pub advice: String,
}

struct Inner {
    refusal: Refusal,
    started: Instant,
    stop: watch::Sender<bool>,
}

impl RefusedNode {
    /// Listens at `address`, and refuses. Needs a tokio runtime.
    ///
    /// # Errors
    /// It can't listen.
    pub async fn start(
        address: SocketAddr,
        access: Access,
        limits: ListenLimits,
        refusal: Refusal,
    ) -> Result<RefusedNode, StartError> {
        let listener = TcpListener::bind(address).await.map_err(|error| StartError::Listen { address, error })?;
        let own = Hello { cluster: access.cluster, role: ConnectionRole::Storage, name: refusal.name.clone() };
        let (stop, stopped) = watch::channel(false);
        let acceptor = Arc::new(Refuser(Arc::new(Inner { refusal, started: Instant::now(), stop })));
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, own, access.credentials, limits, Arc::default(), acceptor));
        Ok(RefusedNode { stopped, tasks })
    }

    /// Lets go of the address: when this returns, another may listen there.
    pub async fn end(mut self) {
        self.tasks.shutdown().await;
    }

    /// Waits until it is asked over the network to stop.
    pub async fn stopped(&self) {
        let mut stopped = self.stopped.clone();
        if stopped.wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending().await
        }
    }
}

struct Refuser(Arc<Inner>);

impl Acceptor for Refuser {
    type Receiver = RefusingReceiver;

    fn accept(
        &self,
        peer: Hello,
        certified: Option<Certified>,
        outbox: &Arc<Outbox>,
    ) -> Result<RefusingReceiver, ConnectionError> {
        let certified =
            certified.map_or(Ok(None), |certified| allowed::connect(&certified, peer.role).map(|()| Some(certified)));
        let certified = certified.map_err(ConnectionError::NotAllowed)?;
        Ok(RefusingReceiver { inner: self.0.clone(), certified, outbox: outbox.clone() })
    }
}

struct RefusingReceiver {
    inner: Arc<Inner>,
    certified: Option<Certified>,
    outbox: Arc<Outbox>,
}

impl Receiver for RefusingReceiver {
    async fn receive(&mut self, frame: Frame, _: usize) -> Result<(), ConnectionError> {
        // What is not a request is for segments that are not open: lost, as messages may be.
        if let Frame::Request(token, request) = frame {
            let reply = match allowed::ask(self.certified.as_ref(), &request, false) {
                Ok(()) => self.inner.reply(&request),
                Err(why) => AdminReply::Refused(why),
            };
            let reply = Encoded::reply(token, &reply)?;
            self.outbox.push(&reply, None);
            self.outbox.flush();
        }
        Ok(())
    }
}

impl Inner {
    fn reply(&self, request: &AdminRequest) -> AdminReply {
        match request {
            AdminRequest::Status => AdminReply::Status(Box::new(self.status())),
            AdminRequest::Stop => {
                self.stop.send_replace(true);
                AdminReply::Done
            }
            _ => AdminReply::Refused(format!("its store is refused: {}", self.refusal.found)),
        }
    }

    fn status(&self) -> NodeStatus {
        let Refusal { name, az, found, advice } = &self.refusal;
        NodeStatus {
            node: name.clone(),
            az: az.clone(),
            condition: Condition::Refused { found: found.clone(), advice: advice.clone() },
            uptime_seconds: self.started.elapsed().as_secs(),
            ..NodeStatus::default()
        }
    }
}
