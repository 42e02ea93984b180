//! Roles by what they may do, as a table: a change of one cell is a change of this file.

use super::*;
use auriga_net::admin::Fault;
use auriga_page::Delta;
use auriga_protocol::identity::{Charter, Shape};
use auriga_protocol::segment::AcceptedLoss;
use auriga_protocol::{
    Geometry, Lsn, MemberId, Membership, MembershipEpoch, PgId, QuorumSet, Refusal, SegmentId, Token, VolumeEpoch,
    WriterId,
};
use std::collections::BTreeSet;

const VOLUME: VolumeId = VolumeId(700);
const LABEL: u64 = 7;

fn certified(role: CertifiedRole) -> Certified {
    Certified { name: "x".into(), role, volumes: BTreeSet::from([LABEL]) }
}

/// The roles of those that `allows` lets through, in the order of [`CertifiedRole::ALL`].
fn roles(allows: impl Fn(&Certified) -> bool) -> String {
    let allowed = CertifiedRole::ALL.into_iter().filter(|role| allows(&certified(*role)));
    allowed.map(CertifiedRole::name).collect::<Vec<_>>().join(" ")
}

#[test]
fn connections_by_role() {
    for (purpose, expected) in [
        (ConnectionRole::Storage, "storage"),
        (ConnectionRole::WriterLog, "instance replication"),
        (ConnectionRole::WriterReads, "instance replication"),
        (ConnectionRole::Admin, "storage instance control replication admin"),
    ] {
        assert_eq!(roles(|certified| connect(certified, purpose).is_ok()), expected, "{purpose:?}");
    }
}

fn charter(label: u64) -> Charter {
    Charter { label, shape: Shape { geometry: Geometry { groups: 1, extent_blocks: 8 }, allocation_limit: 64 } }
}

fn creation(label: u64) -> AdminRequest {
    let id = SegmentId { volume: VOLUME, pg: PgId(0), member: MemberId(0) };
    AdminRequest::CreateSegment { id, membership: Membership::initial(QuorumSet::aurora()), charter: charter(label) }
}

fn acceptance(label: u64) -> AdminRequest {
    let id = SegmentId { volume: VOLUME, pg: PgId(0), member: MemberId(0) };
    AdminRequest::AcceptLoss { id, label, loss: AcceptedLoss::default() }
}

#[test]
fn requests_by_role() {
    for (request, expected) in [
        (AdminRequest::Status, "instance control admin"),
        (AdminRequest::Holdings, "storage instance control replication admin"),
        (creation(LABEL), "instance control admin"),
        (creation(LABEL + 1), "control admin"),
        (acceptance(LABEL), "instance admin"),
        (acceptance(LABEL + 1), "admin"),
        (AdminRequest::Inject(Fault::Clear), "admin"),
        (AdminRequest::Stop, "control admin"),
    ] {
        assert_eq!(roles(|certified| ask(Some(certified), &request, true).is_ok()), expected, "{request:?}");
        let inject = matches!(request, AdminRequest::Inject(_));
        assert_eq!(ask(None, &request, true), Ok(()), "without certificates");
        assert_eq!(ask(None, &request, false).is_err(), inject, "{request:?}");
        let without = if inject { "" } else { expected };
        assert_eq!(roles(|certified| ask(Some(certified), &request, false).is_ok()), without, "{request:?}");
    }
}

fn segment(volume: VolumeId) -> Party {
    Party::Segment(SegmentId { volume, pg: PgId(0), member: MemberId(0) })
}

/// One message of each of the two kinds: what writers say, and what segments say.
fn messages() -> (Vec<Message<Delta>>, Vec<Message<Delta>>) {
    let volume_epoch = VolumeEpoch::new(1, WriterId(1));
    let page = auriga_protocol::PageId { inode: 1, block: 1 };
    let (lsn, read) = (Lsn(1), Token(1));
    let by_writers = vec![
        Message::Seal { volume_epoch, shape: charter(LABEL).shape },
        Message::Write {
            volume_epoch,
            membership_epoch: MembershipEpoch(1),
            records: Vec::new(),
            vdl: lsn,
            pgmrpl: lsn,
        },
        Message::ReadPage { read, volume_epoch, page, read_point: lsn, group_point: lsn },
    ];
    let by_segments = vec![
        Message::GossipPull {
            installed: volume_epoch,
            scl: lsn,
            membership: auriga_protocol::membership::Step::first(Membership::initial(QuorumSet::aurora())),
        },
        Message::GossipTooFar { floor: lsn },
        Message::HydratePull { installed: volume_epoch, after: None, newer_than: lsn, at_least: lsn },
        Message::HealPull { page, floor: lsn },
        Message::Refused(Refusal::Busy),
    ];
    (by_writers, by_segments)
}

#[test]
fn messages_by_role() {
    let (by_writers, by_segments) = messages();
    let (writer, other_writer) = (Party::Writer(VOLUME, WriterId(1)), Party::Writer(VolumeId(8), WriterId(1)));
    let peer = segment(VOLUME);
    let allowed = |from, message: &Message<Delta>, label| {
        roles(|certified| send(certified, from, segment(VOLUME), message, label).is_ok())
    };
    for message in &by_writers {
        let name = message.name();
        assert_eq!(allowed(writer, message, Some(LABEL)), "instance replication", "{name}");
        assert_eq!(allowed(writer, message, Some(LABEL + 1)), "", "{name} to a volume that is not named");
        assert_eq!(allowed(writer, message, None), "instance replication", "{name} to nothing that is here");
        assert_eq!(allowed(other_writer, message, Some(LABEL)), "", "{name} in the name of another volume's writer");
        assert_eq!(allowed(peer, message, Some(LABEL)), "", "{name} in the name of a segment");
    }
    for message in &by_segments {
        let name = message.name();
        assert_eq!(allowed(peer, message, Some(LABEL)), "storage", "{name}");
        assert_eq!(allowed(peer, message, Some(LABEL + 1)), "storage", "{name}: storage serves every volume");
        assert_eq!(allowed(writer, message, Some(LABEL)), "", "{name} in the name of a writer");
    }
}

#[test]
fn a_refusal_names_who_what_and_why() {
    let instance = certified(CertifiedRole::Instance);
    let (from, to) = (Party::Writer(VOLUME, WriterId(1)), segment(VOLUME));
    let why = send(&instance, from, to, &messages().0[0], Some(9)).expect_err("refused");
    assert_eq!(why, "x (role instance) may not send Seal to volume 9, which its certificate does not name");
    let why = ask(Some(&instance), &AdminRequest::Stop, false).expect_err("refused");
    assert_eq!(why, "x (role instance) may not stop this process");
    let why = connect(&instance, ConnectionRole::Storage).expect_err("refused");
    assert_eq!(why, "x (role instance) may not open a connection for Storage");
}
