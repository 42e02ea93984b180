//! A cluster under TLS, and processes that have a certificate or none and do what they may not: each is refused by name,
//! and the volume goes on. What strangers can do to any connection is in `hostile.rs` and in `auriga-net`'s own tests.

mod common;

use auriga_certs::{Authority, Validity};
use auriga_net::admin::{Access, AdminReply, AdminRequest, Fault, ask};
use auriga_net::connection::{ConnectionError, Receiver, run};
use auriga_net::dialler::dial;
use auriga_net::frame::Frame;
use auriga_net::handshake::{ConnectionRole, Hello};
use auriga_net::tls::{Certified, CertifiedRole};
use auriga_net::{Credentials, Encoded, Outbox, Traffic};
use auriga_page::Delta;
use auriga_protocol::{
    Lsn, Membership, MembershipEpoch, Message, Party, PgId, QuorumSet, SegmentId, VolumeEpoch, VolumeId, WriterConfig,
    WriterId,
};
use auriga_storage::StorageConfig;
use auriga_volume::{RemoteVolume, VolumeConfig, create_volume};
use common::*;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster with certificates, its authority, and an open volume.
struct Trusted {
    cluster: Cluster,
    authority: Arc<Authority>,
    volume: RemoteVolume,
}

fn issue(authority: &Authority, name: &str, role: CertifiedRole, volumes: &[u64]) -> Credentials {
    let said = Certified { name: name.to_owned(), role, volumes: volumes.iter().copied().collect() };
    let issued = authority.sign(&said, Validity::days(1)).expect("signed");
    Credentials::from_pem(authority.certificate(), &issued.certificate, &issued.key).expect("good")
}

impl Trusted {
    async fn start(adjust: fn(&mut StorageConfig)) -> Trusted {
        let authority = Arc::new(Authority::generate().expect("new"));
        let signing = authority.clone();
        let adjust = move |config: &mut StorageConfig| {
            config.credentials = Some(issue(&signing, &config.name, CertifiedRole::Storage, &[]));
            config.limits.handshake_timeout = Duration::from_secs(30);
            adjust(config);
        };
        let cluster = Cluster::start_adjusted(Arc::new(adjust)).await;
        let config = instance(&cluster, &authority, "instance-1", VOLUME.0);
        create_volume(&config, soon()).await.expect("all nodes answer");
        let volume = RemoteVolume::open(config, soon()).await.expect("all segments answer");
        Trusted { cluster, authority, volume }
    }

    fn address(&self) -> SocketAddr {
        self.cluster.members[&member(0)]
    }

    fn issue(&self, role: CertifiedRole, volumes: &[u64]) -> Credentials {
        issue(&self.authority, "x", role, volumes)
    }

    /// Connects as this role for this purpose, sends what `frames` says, and waits until the connection is closed.
    async fn closed_after(&self, role: CertifiedRole, purpose: ConnectionRole, frames: &[(Encoded, Option<Party>)]) {
        let volumes: &[u64] = if role == CertifiedRole::Instance { &[VOLUME.0] } else { &[] };
        self.closed(&self.issue(role, volumes), purpose, frames).await;
    }

    async fn closed(&self, credentials: &Credentials, purpose: ConnectionRole, frames: &[(Encoded, Option<Party>)]) {
        let hello = Hello { cluster: CLUSTER, role: purpose, name: "x".into() };
        let (session, _) = dial(self.address(), &hello, Some(credentials)).await.expect("its certificate is good");
        let outbox = Outbox::new(Arc::new(Traffic::default()), 8 << 20);
        let (sender, mut answers) = mpsc::unbounded_channel();
        let mut heard = Heard(sender);
        let running = run(session, "storage", None, &outbox, &mut heard);
        let sending = async {
            while !outbox.is_connected() {
                tokio::task::yield_now().await;
            }
            for (frame, to) in frames {
                outbox.push(frame, *to);
                outbox.flush();
            }
            std::future::pending::<()>().await;
        };
        let ended = async {
            tokio::select! {
                reason = running => reason,
                () = sending => unreachable!("it waits"),
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("closed");
        assert!(answers.try_recv().is_err(), "it was answered");
    }

    async fn still_works(&self, from: u8) {
        commit(&self.volume, vec![fill(page(1), from, from + 1)], soon()).await.expect("the volume goes on");
    }

    async fn ask(&self, credentials: Credentials, request: AdminRequest) -> AdminReply {
        let access = Access { cluster: CLUSTER, credentials: Some(credentials) };
        ask(self.address(), &access, &request, PATIENCE).await.expect("answered")
    }
}

fn instance(cluster: &Cluster, authority: &Authority, name: &str, label: u64) -> VolumeConfig {
    let credentials = Some(issue(authority, name, CertifiedRole::Instance, &[label]));
    VolumeConfig { credentials, ..cluster.volume(name) }
}

struct Heard(mpsc::UnboundedSender<Frame>);

impl Receiver for Heard {
    async fn receive(&mut self, frame: Frame, _: usize) -> Result<(), ConnectionError> {
        let _ = self.0.send(frame);
        Ok(())
    }
}

fn segment_a() -> SegmentId {
    SegmentId { volume: VOLUME, pg: PgId(0), member: member(0) }
}

fn frame(from: Party, message: &Message<Delta>) -> (Encoded, Option<Party>) {
    (Encoded::protocol(from, message).expect("small"), Some(Party::Segment(segment_a())))
}

/// What takes a volume away from its writer.
fn seal(volume: VolumeId) -> (Encoded, Option<Party>) {
    let writer = WriterId(66);
    let volume_epoch = VolumeEpoch::new(1 << 20, writer);
    frame(Party::Writer(volume, writer), &Message::Seal { volume_epoch, shape: WriterConfig::default().shape() })
}

fn gossip() -> (Encoded, Option<Party>) {
    let from = Party::Segment(SegmentId { member: member(1), ..segment_a() });
    frame(
        from,
        &Message::GossipPull {
            installed: VolumeEpoch::NONE,
            scl: Lsn(1),
            membership: auriga_protocol::membership::Step::first(Membership::initial(QuorumSet::aurora())),
        },
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_works_under_tls_through_a_restart_and_a_lost_directory() {
    let mut trusted = Trusted::start(|_| ()).await;
    trusted.still_works(0).await;
    trusted.cluster.stop(0).await;
    trusted.cluster.stop(1).await;
    trusted.cluster.wipe(1);
    trusted.cluster.restart(0).await;
    trusted.cluster.restart(1).await;
    trusted.still_works(1).await;
    let config = instance(&trusted.cluster, &trusted.authority, "instance-2", VOLUME.0);
    let next = RemoteVolume::open(config, soon()).await.expect("recovers");
    assert_eq!(first_byte(&next, page(1)).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_role_opens_no_connection_that_is_not_its_own() {
    let trusted = Trusted::start(|_| ()).await;
    trusted.closed_after(CertifiedRole::Admin, ConnectionRole::WriterLog, &[seal(VOLUME)]).await;
    trusted.closed_after(CertifiedRole::Storage, ConnectionRole::WriterLog, &[seal(VOLUME)]).await;
    trusted.closed_after(CertifiedRole::Instance, ConnectionRole::Storage, &[gossip()]).await;
    trusted.closed_after(CertifiedRole::Control, ConnectionRole::WriterReads, &[]).await;
    // Its own connection, and messages that are not its own.
    trusted.closed_after(CertifiedRole::Storage, ConnectionRole::Storage, &[seal(VOLUME)]).await;
    trusted.closed_after(CertifiedRole::Instance, ConnectionRole::WriterLog, &[gossip()]).await;
    trusted.still_works(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_touches_no_volume_that_its_certificate_does_not_name() {
    let trusted = Trusted::start(|_| ()).await;
    let other = trusted.issue(CertifiedRole::Instance, &[VOLUME.0 + 1]);
    trusted.closed(&other, ConnectionRole::WriterLog, &[seal(VOLUME)]).await;
    // In the name of the writer of a volume that is its own.
    trusted.closed(&other, ConnectionRole::WriterLog, &[seal(VolumeId(VOLUME.0 + 1))]).await;
    let id = SegmentId { volume: VolumeId(99), ..segment_a() };
    let (membership, charter) = (Membership::initial(QuorumSet::aurora()), trusted.cluster.volume("x").charter());
    let reply = trusted.ask(other, AdminRequest::CreateSegment { id, membership, charter }).await;
    let expected = "x (role instance) may not create a segment of a volume that its certificate does not name";
    assert_eq!(reply, AdminReply::Refused(expected.to_owned()));
    trusted.still_works(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_refused_by_role_and_faults_unless_they_are_wanted() {
    let trusted = Trusted::start(|_| ()).await;
    let refused = async |role, volumes: &[u64], request| match trusted.ask(trusted.issue(role, volumes), request).await
    {
        AdminReply::Refused(why) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(CertifiedRole::Instance, &[VOLUME.0], AdminRequest::Stop).await;
    assert_eq!(why, "x (role instance) may not stop this process");
    let why = refused(CertifiedRole::Storage, &[], AdminRequest::Stop).await;
    assert_eq!(why, "x (role storage) may not stop this process");
    let inject = || AdminRequest::Inject(Fault::DiskFull(true));
    let why = refused(CertifiedRole::Admin, &[], inject()).await;
    assert!(why.contains("allow_fault_injection"), "{why}");
    let status = trusted.ask(trusted.issue(CertifiedRole::Admin, &[]), AdminRequest::Status).await;
    assert!(matches!(status, AdminReply::Status(_)), "{status:?}");
    trusted.still_works(0).await;

    let trusted = Trusted::start(|config| config.allow_fault_injection = true).await;
    let reply = trusted.ask(trusted.issue(CertifiedRole::Admin, &[]), inject()).await;
    assert_eq!(reply, AdminReply::Done);
    let reply = trusted.ask(trusted.issue(CertifiedRole::Instance, &[VOLUME.0]), inject()).await;
    assert!(matches!(reply, AdminReply::Refused(_)), "{reply:?}");
}

/// Sixty connections that never get beyond TLS, and as many that send rubbish in it, at a node that takes sixteen.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_half_open_handshakes_costs_nobody_else_anything() {
    let trusted = Trusted::start(|config| {
        config.limits.connections_max = 16;
        config.limits.handshake_timeout = Duration::from_secs(3);
    })
    .await;
    let mut flood = Vec::new();
    for index in 0..120 {
        let Ok(mut stream) = TcpStream::connect(trusted.address()).await else { continue };
        let begun: &[u8] = if index % 2 == 0 { &[22, 3, 1, 2, 0, 1] } else { &[22, 3, 1, 0, 4, 99, 99, 99, 99] };
        let _ = stream.write_all(begun).await;
        flood.push(stream);
    }
    trusted.still_works(0).await;
    // Once the handshakes have had their time, a new connection finds a place.
    let access = Access { cluster: CLUSTER, credentials: Some(trusted.issue(CertifiedRole::Admin, &[])) };
    let until = std::time::Instant::now() + PATIENCE;
    while let Err(error) = ask(trusted.address(), &access, &AdminRequest::Status, PATIENCE).await {
        assert!(std::time::Instant::now() < until, "no place becomes free: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(flood);
}

/// Forty connections with a good certificate, of a node that takes sixteen, which say nothing once they are open.
#[tokio::test(flavor = "multi_thread")]
async fn a_good_certificate_gives_nobody_more_places_than_there_are() {
    let trusted = Trusted::start(|config| config.limits.connections_max = 16).await;
    let credentials = trusted.issue(CertifiedRole::Instance, &[VOLUME.0]);
    let hello = Hello { cluster: CLUSTER, role: ConnectionRole::WriterLog, name: "x".into() };
    let (mut held, mut refused) = (Vec::new(), 0);
    for from in 0..40 {
        let dialled = tokio::time::timeout(PATIENCE, dial(trusted.address(), &hello, Some(&credentials))).await;
        match dialled.expect("answered or closed") {
            Ok((session, _)) => held.push(session),
            Err(_) => refused += 1,
        }
        trusted.still_works(from).await;
    }
    assert!(refused > 0, "{} held", held.len());
    drop(held);
}

/// TLS lets nobody replay another's connection. A process of the same role may repeat what it has heard of: that changes
/// nothing.
#[tokio::test(flavor = "multi_thread")]
async fn who_repeats_a_writers_messages_a_thousand_times_changes_nothing() {
    let trusted = Trusted::start(|_| ()).await;
    trusted.still_works(0).await;
    let credentials = trusted.issue(CertifiedRole::Instance, &[VOLUME.0]);
    // What the writer has said, said again by another process of the same role, a thousand times: it changes nothing.
    let volume_epoch = trusted.volume.status().writer.volume_epoch;
    let heartbeat = Message::Write {
        volume_epoch,
        membership_epoch: MembershipEpoch(1),
        records: Vec::new(),
        vdl: Lsn::ZERO,
        pgmrpl: Lsn::ZERO,
    };
    let replayed = vec![frame(Party::Writer(VOLUME, volume_epoch.writer), &heartbeat); 1000];
    let hello = Hello { cluster: CLUSTER, role: ConnectionRole::WriterLog, name: "x".into() };
    let (session, _) = dial(trusted.address(), &hello, Some(&credentials)).await.expect("its certificate is good");
    let outbox = Outbox::new(Arc::new(Traffic::default()), 8 << 20);
    let (sender, mut answers) = mpsc::unbounded_channel();
    let mut heard = Heard(sender);
    let replaying = async {
        while !outbox.is_connected() {
            tokio::task::yield_now().await;
        }
        for (frame, to) in &replayed {
            outbox.push(frame, *to);
        }
        outbox.flush();
        answers.recv().await
    };
    tokio::select! {
        reason = run(session, "storage", None, &outbox, &mut heard) => panic!("{reason}"),
        answer = replaying => assert!(answer.is_some()),
    }
    trusted.still_works(1).await;
}
