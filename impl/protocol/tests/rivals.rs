//! Two candidates of one number sealed disjoint read quorums, and each installed on a few segments; neither has opened.
//! Whoever recovers next sees both installs, whose truncations contradict each other: the higher ballot's are in force.

use auriga_protocol::message::{SealReport, Standing};
use auriga_protocol::writer::{WriterIdentity, WriterRole};
use auriga_protocol::{
    Effect, Effects, Input, Install, Lsn, Machine, MemberId, Membership, Message, Micros, PageId, Party, Payload, PgId,
    QuorumSet, Record, Refusal, SegmentId, TruncationList, VolumeEpoch, VolumeId, Writer, WriterConfig, WriterId,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Nothing;

impl Payload for Nothing {
    type Page = ();

    fn apply(&self, (): &mut ()) {}

    fn weight(&self) -> usize {
        0
    }
}

const VOLUME: VolumeId = VolumeId(1);
const NUMBER: u64 = 1;
const LAL: u64 = 10;

fn install(writer: u64, vdl: u64) -> Install {
    let mut truncations = TruncationList::default();
    let volume_epoch = VolumeEpoch::new(NUMBER, WriterId(writer));
    truncations.annul_above(volume_epoch, Lsn(vdl), LAL);
    Install { volume_epoch, truncations, vdl: Lsn(vdl) }
}

/// Lets a candidate recover from three reports: LSN 1 is on the segment that `keeper` installed on, and nowhere else.
fn recovered_vdl(keeper: u64, dropper: u64) -> Lsn {
    let config = WriterConfig { allocation_limit: LAL, linger: Micros(0), ..WriterConfig::default() };
    let identity = WriterIdentity { volume: VOLUME, writer: WriterId(5) };
    let mut out = Effects::default();
    let mut writer: Writer<Nothing> = Writer::boot(&config, identity, (), Micros(0), &mut out);
    let from = |member| Party::Segment(SegmentId { volume: VOLUME, pg: PgId(0), member: MemberId(member) });
    let mut hear = |writer: &mut Writer<Nothing>, member, message| {
        writer.step(Micros(0), Input::Message { from: from(member), message }, &mut out);
        out.drain().collect::<Vec<_>>()
    };

    let current = VolumeEpoch::new(NUMBER, WriterId(keeper.max(dropper)));
    hear(&mut writer, 0, Message::Refused(Refusal::StaleVolumeEpoch { current }));
    let volume_epoch = current.next(identity.writer);
    let mut pulled = None;
    for (member, install, scl) in [(0, install(dropper, 0), 0), (1, install(dropper, 0), 0), (2, install(keeper, 1), 1)]
    {
        let membership = Membership::initial(QuorumSet::aurora());
        let report = SealReport {
            install,
            scl: Lsn(scl),
            vdl: Lsn(0),
            floor: Lsn(0),
            membership: auriga_protocol::membership::Step::first(membership),
            standing: Standing::default(),
        };
        let effects = hear(&mut writer, member, Message::Sealed { volume_epoch, report });
        pulled = effects.into_iter().find_map(|effect| match effect {
            Effect::Send { to: Party::Segment(to), message: Message::TailPull { above, .. } } => {
                Some((to.member.0, above))
            }
            _ => None,
        });
    }
    let (member, above) = pulled.expect("three reports are a read quorum: a tail is asked for");
    let page = PageId { inode: 1, block: 0 };
    let zero = Lsn(0);
    let record = Record {
        lsn: Lsn(1),
        prev_volume: zero,
        prev_segment: zero,
        prev_block: zero,
        is_cpl: true,
        page,
        payload: Nothing,
    };
    let records = if member == 2 { vec![record] } else { Vec::new() };
    let effects = hear(&mut writer, member, Message::Tail { volume_epoch, above, base: zero, records, complete: true });
    assert_eq!(writer.role(), WriterRole::Installing);
    let decided = effects.into_iter().find_map(|effect| match effect {
        Effect::Multicast { message: Message::Install { install, .. }, .. } => Some(install.vdl),
        _ => None,
    });
    decided.expect("the outcome is sent to every segment")
}

#[test]
fn what_one_rival_kept_and_the_other_annulled_is_decided_by_the_higher_ballot() {
    assert_eq!(recovered_vdl(7, 9), Lsn(0), "the install in force annuls LSN 1");
    assert_eq!(recovered_vdl(9, 7), Lsn(1), "the install in force keeps LSN 1");
}
