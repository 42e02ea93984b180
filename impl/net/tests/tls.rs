//! Connections under TLS: what goes through, and who is turned away, each with its reason.

use auriga_certs::{Authority, Validity};
use auriga_net::admin::{Access, AdminReply, AdminRequest, ask};
use auriga_net::connection::{ConnectionError, Receiver};
use auriga_net::dialler::{dial, keep_connected};
use auriga_net::frame::Frame;
use auriga_net::handshake::{ConnectionRole, HandshakeError, Hello};
use auriga_net::listener::{Acceptor, ListenLimits, listen};
use auriga_net::tls::{Certified, CertifiedRole};
use auriga_net::{ClusterId, Credentials, Encoded, Outbox, Traffic};
use auriga_protocol::Token;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

const CLUSTER: ClusterId = ClusterId(5);
const PATIENCE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A busy machine takes its time.
fn patient() -> ListenLimits {
    ListenLimits { handshake_timeout: PATIENCE, ..ListenLimits::default() }
}

fn said(name: &str, role: CertifiedRole) -> Certified {
    let volumes = if role == CertifiedRole::Instance { [1].into() } else { [].into() };
    Certified { name: name.to_owned(), role, volumes }
}

fn issue(authority: &Authority, name: &str, role: CertifiedRole) -> Credentials {
    let issued = authority.sign(&said(name, role), Validity::days(60)).expect("signed");
    Credentials::from_pem(authority.certificate(), &issued.certificate, &issued.key).expect("good")
}

/// Credentials that were good when they were made, of a certificate that is no more once this has returned.
fn expired(authority: &Authority, name: &str, role: CertifiedRole) -> Credentials {
    let now = SystemTime::now();
    let validity = Validity { from: now - DAY, until: now + Duration::from_secs(5) };
    let issued = authority.sign(&said(name, role), validity).expect("signed");
    let ca = authority.certificate();
    let made = Credentials::from_pem(ca, &issued.certificate, &issued.key).expect("good for a moment");
    // Its clock counts whole seconds.
    while Credentials::from_pem(ca, &issued.certificate, &issued.key).is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
    made
}

/// Answers each request with as many bytes as the token says.
struct Echo(Option<Certified>, Arc<Outbox>);

struct Echoes;

impl Acceptor for Echoes {
    type Receiver = Echo;

    fn accept(&self, _: Hello, certified: Option<Certified>, outbox: &Arc<Outbox>) -> Result<Echo, ConnectionError> {
        Ok(Echo(certified, outbox.clone()))
    }
}

impl Receiver for Echo {
    async fn receive(&mut self, frame: Frame, _: usize) -> Result<(), ConnectionError> {
        let Frame::Request(Token(bytes), _) = frame else { panic!("{frame:?}") };
        let who = self.0.as_ref().map_or_else(|| "in the clear".to_owned(), |certified| format!("{certified:?}"));
        let text = if bytes == 0 { who } else { "x".repeat(bytes as usize) };
        self.1.push(&Encoded::reply(Token(bytes), &AdminReply::Refused(text))?, None);
        self.1.flush();
        Ok(())
    }
}

/// Ends what it holds when it is dropped.
struct Listening(SocketAddr, AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.1.abort();
    }
}

async fn listening(credentials: Option<Credentials>, limits: ListenLimits) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let own = Hello { cluster: CLUSTER, role: ConnectionRole::Storage, name: "s1".into() };
    let task = tokio::spawn(listen(listener, own, credentials, limits, Arc::default(), Arc::new(Echoes)));
    Listening(address, task.abort_handle())
}

fn hello(name: &str) -> Hello {
    Hello { cluster: CLUSTER, role: ConnectionRole::Admin, name: name.into() }
}

async fn refused(listening: &Listening, name: &str, credentials: Option<&Credentials>) -> HandshakeError {
    let dialled = tokio::time::timeout(PATIENCE, dial(listening.0, &hello(name), credentials)).await;
    dialled.expect("answered or closed").err().expect("refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_side_learns_who_the_other_is() {
    let authority = Authority::generate().expect("new");
    let listening = listening(Some(issue(&authority, "s1", CertifiedRole::Storage)), patient()).await;
    let writer = issue(&authority, "writer", CertifiedRole::Instance);
    let (session, peer) = dial(listening.0, &hello("writer"), Some(&writer)).await.expect("welcome");
    assert_eq!(peer.name, "s1");
    assert_eq!(session.certified(), Some(&said("s1", CertifiedRole::Storage)));
    let access = Access { cluster: CLUSTER, credentials: Some(writer) };
    let reply = ask(listening.0, &access, &AdminRequest::Status, PATIENCE).await.expect("answered");
    assert_eq!(reply, AdminReply::Refused(format!("{:?}", said("writer", CertifiedRole::Instance))));
}

struct Sizes(mpsc::UnboundedSender<(u64, usize)>);

impl Receiver for Sizes {
    async fn receive(&mut self, frame: Frame, _: usize) -> Result<(), ConnectionError> {
        let Frame::Reply(Token(token), reply) = frame else { panic!("{frame:?}") };
        let AdminReply::Refused(text) = *reply else { panic!("{reply:?}") };
        let _ = self.0.send((token, text.len()));
        Ok(())
    }
}

/// Frames of every size, from within one TLS record to many, both ways at once: all arrive, in order.
#[tokio::test(flavor = "multi_thread")]
async fn frames_of_every_size_arrive_in_order() {
    let authority = Authority::generate().expect("new");
    let listening = listening(Some(issue(&authority, "s1", CertifiedRole::Storage)), patient()).await;
    let credentials = issue(&authority, "x", CertifiedRole::Admin);
    let outbox = Outbox::new(Arc::new(Traffic::default()), 8 << 20);
    let (sender, mut sizes) = mpsc::unbounded_channel();
    let keeping = keep_connected(listening.0, hello("x"), Some(credentials), outbox.clone(), Sizes(sender));
    let keeping = tokio::spawn(keeping);
    let mut expected = Vec::new();
    for size in [1, 100, 4096, 16_383, 16_384, 16_385, 65_536, 1 << 20, 3 << 20, 7, 40_000].repeat(3) {
        // Small requests would say little of the way there: this one is long, and its answer as long as its token says.
        let partition = auriga_net::admin::Fault::Partition { from: vec!["y".repeat(size as usize / 2)] };
        let request = Encoded::request(Token(size), &AdminRequest::Inject(partition)).expect("small enough");
        while !outbox.push(&request, None) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        outbox.flush();
        expected.push((size, size as usize));
    }
    for one in expected {
        let got = tokio::time::timeout(PATIENCE, sizes.recv()).await.expect("in time");
        assert_eq!(got, Some(one));
    }
    keeping.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_turned_away_by_name_and_harm_nobody() {
    let (authority, other) = (Authority::generate().expect("new"), Authority::generate().expect("new"));
    let listening = listening(Some(issue(&authority, "s1", CertifiedRole::Storage)), patient()).await;
    let good = issue(&authority, "x", CertifiedRole::Admin);

    let foreign = issue(&other, "x", CertifiedRole::Admin);
    let why = refused(&listening, "x", Some(&foreign)).await.to_string();
    assert!(why.contains("not signed by our certificate authority"), "{why}");
    let old = expired(&authority, "x", CertifiedRole::Admin);
    let why = refused(&listening, "x", Some(&old)).await.to_string();
    assert!(why.contains("our certificate has expired"), "{why}");
    assert!(matches!(refused(&listening, "x", None).await, HandshakeError::WantsTls));
    // One that calls itself by another's name is welcomed by its own side only: the connection is closed.
    let (session, _) = dial(listening.0, &hello("s1"), Some(&good)).await.expect("its certificate is good");
    let (outbox, mut heard) = (Outbox::new(Arc::default(), 1000), Sizes(mpsc::unbounded_channel().0));
    let running = auriga_net::connection::run(session, "s1", None, &outbox, &mut heard);
    tokio::time::timeout(PATIENCE, running).await.expect("closed");

    let access = Access { cluster: CLUSTER, credentials: Some(good) };
    ask(listening.0, &access, &AdminRequest::Status, PATIENCE).await.expect("the others are unharmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dialler_reaches_must_be_storage_of_its_own_cluster() {
    let (authority, other) = (Authority::generate().expect("new"), Authority::generate().expect("new"));
    let own = issue(&authority, "x", CertifiedRole::Admin);
    let cases = [
        (issue(&authority, "s1", CertifiedRole::Instance), "of role instance, not of storage"),
        (issue(&other, "s1", CertifiedRole::Storage), "not signed by our certificate authority"),
        (expired(&authority, "s1", CertifiedRole::Storage), "the other side's certificate has expired"),
    ];
    for (credentials, expected) in cases {
        let listening = listening(Some(credentials), patient()).await;
        let why = refused(&listening, "x", Some(&own)).await.to_string();
        assert!(why.contains(expected), "{why}");
    }
    let in_the_clear = listening(None, patient()).await;
    let why = refused(&in_the_clear, "x", Some(&own)).await.to_string();
    assert!(why.contains("[tls]"), "{why}");
}

/// Half a TLS handshake holds a place like any other connection, and no longer than a handshake may take.
#[tokio::test(flavor = "multi_thread")]
async fn half_open_handshakes_are_limited_and_end() {
    let authority = Authority::generate().expect("new");
    let limits =
        ListenLimits { connections_max: 4, handshake_timeout: Duration::from_secs(3), ..ListenLimits::default() };
    let listening = listening(Some(issue(&authority, "s1", CertifiedRole::Storage)), limits).await;
    let mut half_open = Vec::new();
    for _ in 0..12 {
        let stream = TcpStream::connect(listening.0).await.expect("it listens");
        // The header of a TLS record, whose rest never comes.
        let _ = stream.try_write(&[22, 3, 1, 2, 0, 1]);
        half_open.push(stream);
    }
    let access = Access { cluster: CLUSTER, credentials: Some(issue(&authority, "x", CertifiedRole::Admin)) };
    let until = std::time::Instant::now() + PATIENCE;
    while let Err(error) = ask(listening.0, &access, &AdminRequest::Status, PATIENCE).await {
        assert!(std::time::Instant::now() < until, "no place becomes free: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(half_open);
}

/// A byte now and then does not keep a handshake alive.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_drips_is_not_waited_for() {
    let authority = Authority::generate().expect("new");
    let limits = ListenLimits { handshake_timeout: Duration::from_secs(2), ..ListenLimits::default() };
    let listening = listening(Some(issue(&authority, "s1", CertifiedRole::Storage)), limits).await;
    let mut stream = TcpStream::connect(listening.0).await.expect("it listens");
    // A record of 16 KiB, for which the handshake's time would have to be that of hours.
    stream.write_all(&[22, 3, 1, 64, 0]).await.expect("sent");
    let dripping = async {
        while stream.write_all(&[1]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, dripping).await.expect("cut off");
}
