//! The field's notation: one line for one message, entry or answer, the same in traces, scripts and reports.
//!
//! ```text
//! w1@e2 → A Write 11..12 vdl=4
//! A → w1 Acknowledge e2 scl=12
//! pg1/C ⇢ pg1/D GossipPush e2 11..12          (⇢: lost on its way)
//! ```
//!
//! A segment is `A` to `F` where the volume has one protection group, `pg1/A` where it has several. Records are given
//! as runs of LSNs; a `*` marks a CPL.

use crate::ids::{Lsn, MemberId, Party, SegmentId, VolumeEpoch};
use crate::life::Life;
use crate::membership::{MembershipNote, Step};
use crate::message::{BasePage, Footing, Install, Message, Question, Refusal, SealReport};
use crate::note::Note;
use crate::quorum::Membership;
use crate::record::{Payload, Record};
use crate::segment::{Entry, Founders, Task};
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

/// How names are written: it depends on how many groups the volume has.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// Whether group numbers are left out.
    pub one_group: bool,
}

impl Names {
    /// Names in a volume of `groups` protection groups.
    pub fn of(groups: u16) -> Names {
        Names { one_group: groups == 1 }
    }

    /// A segment's name.
    pub fn segment(self, id: SegmentId) -> String {
        if self.one_group { id.member.to_string() } else { format!("{}/{}", id.pg, id.member) }
    }

    /// A party's name.
    pub fn party(self, party: Party) -> String {
        match party {
            Party::Segment(id) => self.segment(id),
            Party::Writer(_, id) => id.to_string(),
            Party::Reader(_, id) => id.to_string(),
        }
    }

    /// One message on its way, or lost.
    pub fn message<P: Payload>(self, from: Party, to: Party, message: &Message<P>, lost: bool) -> String {
        self.multicast(from, &[to], message, lost)
    }

    /// The same message to several.
    pub fn multicast<P: Payload>(self, from: Party, to: &[Party], message: &Message<P>, lost: bool) -> String {
        let sender = match (from, sender_epoch(message)) {
            (Party::Writer(_, id), Some(epoch)) if epoch.writer == id => format!("{id}@e{}", epoch.number),
            (Party::Writer(_, id), Some(epoch)) => format!("{id}@{epoch}"),
            _ => self.party(from),
        };
        let arrow = if lost { '⇢' } else { '→' };
        let to: Vec<_> = to.iter().map(|party| self.party(*party)).collect();
        format!("{sender} {arrow} {} {}", to.join(" "), message_text(message))
    }
}

fn sender_epoch<P: Payload>(message: &Message<P>) -> Option<VolumeEpoch> {
    match message {
        Message::TailPull { volume_epoch, .. }
        | Message::Write { volume_epoch, .. }
        | Message::ReadPage { volume_epoch, .. }
        | Message::Seal { volume_epoch, .. } => Some(*volume_epoch),
        Message::Membership { volume_epoch, .. } => Some(*volume_epoch),
        Message::Install { install, .. } => Some(install.volume_epoch),
        _ => None,
    }
}

/// Records as runs of LSNs: `11..13* 15*`.
pub fn records<P: Payload>(records: &[Record<P>]) -> String {
    if records.is_empty() {
        return "-".into();
    }
    let mut text = String::new();
    let mut rest = records;
    while let Some(first) = rest.first() {
        let run = 1 + rest.windows(2).take_while(|pair| !pair[0].is_cpl && pair[1].lsn == pair[0].lsn.next()).count();
        let last = &rest[run - 1];
        let gap = if text.is_empty() { "" } else { " " };
        let cpl = if last.is_cpl { "*" } else { "" };
        let _ = match run {
            1 => write!(text, "{gap}{}{cpl}", first.lsn),
            _ => write!(text, "{gap}{}..{}{cpl}", first.lsn, last.lsn),
        };
        rest = &rest[run..];
    }
    text
}

fn install(install: &Install) -> String {
    let mut text = format!("{} vdl={}", install.volume_epoch, install.vdl);
    if install.truncations.forgotten() > Lsn::ZERO {
        let _ = write!(text, " forgotten={}", install.truncations.forgotten());
    }
    for range in install.truncations.ranges() {
        let _ = write!(text, " annul=({},{}]@{}", range.above, range.through, range.volume_epoch);
    }
    text
}

fn is_first(step: &Step) -> bool {
    step.is_settled() && step.next.is_first()
}

/// A step: `m1 ABCDEF→m2 ABCDEFG`, or `m3 ABCDEG` where none is on its way.
pub fn step(step: &Step) -> String {
    let side = |membership: &Membership| format!("{} {:?}", membership.membership_epoch, membership.members());
    if step.is_settled() { side(&step.next) } else { format!("{}→{}", side(&step.before), side(&step.next)) }
}

fn report(report: &SealReport) -> String {
    format!("installed={} scl={} vdl={}", report.install.volume_epoch, report.scl, report.vdl)
}

fn question(question: Question) -> String {
    format!("q{}.{}", question.life, question.number)
}

fn base<P: Payload>(base: &BasePage<P>) -> String {
    format!("{:?}@{}={:?}", base.page, base.version, base.content)
}

fn bases<P: Payload>(pages: &[BasePage<P>]) -> String {
    if pages.is_empty() { "-".into() } else { pages.iter().map(base).collect::<Vec<_>>().join(" ") }
}

/// Formats a refusal with what it carries.
pub fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::StaleVolumeEpoch { current } => format!("StaleVolumeEpoch current={current}"),
        Refusal::NotInstalled { installed } => format!("NotInstalled installed={installed}"),
        Refusal::StaleMembership { current } => format!("StaleMembership current={}", step(current)),
        Refusal::AboveScl { scl } => format!("AboveScl scl={scl}"),
        Refusal::BelowFloor { floor } => format!("BelowFloor floor={floor}"),
        Refusal::OtherShape { shape } => format!("OtherShape shape=({shape})"),
        other => format!("{other:?}"),
    }
}

/// A message without its addresses.
pub fn message_text<P: Payload>(message: &Message<P>) -> String {
    let name = message.name();
    let or_first = |page: &Option<_>| page.map_or("first".to_owned(), |page| format!("{page:?}"));
    match message {
        Message::Seal { volume_epoch, .. } => format!("{name} {volume_epoch}"),
        Message::Sealed { volume_epoch, report: told } => format!("{name} {volume_epoch} {}", report(told)),
        Message::TailPull { above, .. } => format!("{name} above={above}"),
        Message::Tail { base, records: chain, complete, .. } => {
            format!("{name} base={base} {}{}", records(chain), if *complete { " complete" } else { "" })
        }
        Message::Install { install: told, membership } | Message::GossipInstall { install: told, membership } => {
            let step = if is_first(membership) { String::new() } else { format!(" {}", step(membership)) };
            format!("{name} {}{step}", install(told))
        }
        Message::Membership { membership, .. } => format!("{name} {}", step(membership)),
        Message::MembershipInstalled { volume_epoch, epochs: (next, before), counts, .. } => {
            let settled = if next == before { format!("{next}") } else { format!("{before}→{next}") };
            format!("{name} {volume_epoch} {settled}{}", if *counts { " counts" } else { "" })
        }
        Message::Write { records: sent, vdl, pgmrpl, .. } => {
            format!("{name} {} vdl={vdl} pgmrpl={pgmrpl}", records(sent))
        }
        Message::Acknowledge { volume_epoch, scl, .. } => format!("{name} {volume_epoch} scl={scl}"),
        Message::Refused(why) => format!("{name} {}", refusal(why)),
        Message::ReadPage { page, read_point, group_point, .. } => {
            format!("{name} {page:?} at={read_point} group={group_point}")
        }
        Message::Page { version, page, .. } => format!("{name} version={version} {page:?}"),
        Message::ReadRefused { refusal: why, .. } => format!("{name} {}", refusal(why)),
        Message::GossipPull { installed, scl, .. } => format!("{name} {installed} scl={scl}"),
        Message::GossipPush { installed, records: sent, .. } => format!("{name} {installed} {}", records(sent)),
        Message::GossipTooFar { floor } => format!("{name} floor={floor}"),
        Message::HydratePull { installed, after, newer_than, .. } => {
            format!("{name} {installed} after={} newer_than={newer_than}", or_first(after))
        }
        Message::HydratePush { floor, pages, complete, .. } => {
            format!("{name} floor={floor} {}{}", bases(pages), if *complete { " complete" } else { "" })
        }
        Message::HealPull { page, floor } => format!("{name} {page:?} floor={floor}"),
        Message::HealPush { page, base: sound, through } => {
            let sound = sound.as_ref().map_or("never written".into(), base);
            format!("{name} {page:?} through={through} {sound}")
        }
        Message::RejoinPull { question: asked, incarnation, .. } => {
            format!("{name} {} {incarnation}", question(*asked))
        }
        Message::FoundPull { question: asked } => format!("{name} {}", question(*asked)),
        Message::FoundPush { question: asked, footing: said } => {
            format!("{name} {} {}", question(*asked), footing(said))
        }
        Message::RejoinKnown { question: asked, known } => format!("{name} {} {known}", question(*asked)),
        Message::Follow { number, floor, quiet } => {
            let quiet = if *quiet { " quiet" } else { "" };
            format!("{name} {number} floor={}{quiet}", floor.map_or("-".into(), |floor| floor.to_string()))
        }
        Message::LogPull { above, .. } => format!("{name} above={above}"),
        Message::LogPush { base, records: chain, through, vdl, .. } => {
            format!("{name} base={base} {} through={through} vdl={vdl}", records(chain))
        }
        Message::Following { number, volume_epoch, start, .. } => {
            format!("{name} {number} {volume_epoch} start={start}")
        }
        Message::Feedback { number, volume_epoch, floor } => format!("{name} {number} {volume_epoch} floor={floor}"),
        Message::NotKept { volume_epoch, floor } => format!("{name} {volume_epoch} floor={floor}"),
        Message::Published { volume_epoch, read_point, wal } => format!("{name} {volume_epoch} {read_point} wal={wal}"),
        Message::RejoinPush { question: asked, promised, report: told, lives: known } => {
            format!("{name} {} promised={promised} {}{}", question(*asked), report(told), lives(known))
        }
        Message::LifeAsk { question: asked, life: begun, .. } => {
            format!("{name} {} {}", question(*asked), life(*begun))
        }
        Message::LifeKnown { question: asked, later, sure, .. } => {
            let (later, sure) = (if *later { " later" } else { "" }, if *sure { "" } else { " unsure" });
            format!("{name} {}{later}{sure}", question(*asked))
        }
    }
}

/// A life without its nonce: `i1.3` is the third after the first loss.
fn life(life: Life) -> String {
    format!("{}.{}", life.incarnation, life.number)
}

/// Nothing when none is known.
fn lives(lives: &BTreeMap<MemberId, Life>) -> String {
    lives.iter().map(|(member, known)| format!(" {member}={}", life(*known))).collect()
}

fn footing(footing: &Footing) -> String {
    match footing {
        Footing::Blank { birth } => format!("Blank {birth}"),
        Footing::Founder { birth, yours } => {
            format!("Founder {birth} yours={}", yours.map_or("-".into(), |birth| birth.to_string()))
        }
        Footing::Rejoining => "Rejoining".into(),
    }
}

/// An entry of the journal.
pub fn entry<P: Payload>(entry: &Entry<P>) -> String {
    match entry {
        Entry::Membership(membership) => format!("Membership {}", membership.membership_epoch),
        Entry::Step(known) => format!("Step {} {}", known.volume_epoch, step(known)),
        Entry::Promise { volume_epoch } => format!("Promise {volume_epoch}"),
        Entry::Install(told) => format!("Install {}", install(told)),
        Entry::Records { records: kept, vdl } => format!("Records {} vdl={vdl}", records(kept)),
        Entry::Amnesia { incarnation, target } => {
            format!("Amnesia {incarnation} target={}", target.map_or("?".into(), |lsn| lsn.to_string()))
        }
        Entry::Life { life: own, registered } => {
            format!("Life {}{}", life(*own), if *registered { " registered" } else { "" })
        }
        Entry::PeerLife { member, life: known } => format!("PeerLife {member}={}", life(*known)),
        Entry::Blank { birth } => format!("Blank {birth}"),
        Entry::Founding(founders) => format!("Founding {}", self::founders(founders)),
        Entry::Founded(founders) => format!("Founded {}", self::founders(founders)),
        other => format!("{other:?}"),
    }
}

fn founders(founders: &Founders) -> String {
    let others: Vec<_> = founders.others.iter().map(|(member, birth)| format!(" {member}={birth}")).collect();
    format!("{}{}", founders.birth, others.concat())
}

/// A task of the page store.
pub fn task<P: Payload>(task: &Task<P>) -> String {
    match task {
        Task::Coalesce { floor, records: taken } => format!("Coalesce floor={floor} {}", records(taken)),
        Task::ReadBase { page, .. } => format!("ReadBase {page:?}"),
        Task::ReadBases { after, limit, .. } => format!("ReadBases after={after:?} limit={limit}"),
        Task::PutBases { pages, floor, .. } => {
            format!("PutBases {} floor={}", bases(pages), floor.map_or("-".into(), |floor| floor.to_string()))
        }
        Task::Retire => "Retire".into(),
        Task::Scrub { limit } => format!("Scrub limit={limit}"),
    }
}

/// A note, without who says it.
pub fn note(note: &Note) -> String {
    match note {
        Note::Global(note) => format!("{note:?}"),
        Note::Membership(note) => match note {
            MembershipNote::InForce(now) => format!("InForce {} {:?}", now.membership_epoch, now.members()),
            MembershipNote::Changed { volume_epoch, membership: now, .. } => {
                format!("Changed {volume_epoch} {} {:?}", now.membership_epoch, now.members())
            }
            MembershipNote::Made { home, .. } => format!("Made at {home}"),
            MembershipNote::Left { .. } => "Left".into(),
        },
        Note::Sealed { volume_epoch, scl, .. } => format!("Sealed {volume_epoch} scl={scl}"),
        Note::Installed { volume_epoch, .. } => format!("Installed {volume_epoch}"),
        Note::Acknowledged { volume_epoch, scl, .. } => format!("Acknowledged {volume_epoch} scl={scl}"),
        Note::Served { page, read_point, version, .. } => format!("Served {page:?} at={read_point} version={version}"),
        Note::Collected { floor, .. } => format!("Collected floor={floor}"),
        Note::Learnt { promised, installed, .. } => format!("Learnt promised={promised} installed={installed}"),
        Note::Rejoined { promised, scl, .. } => format!("Rejoined promised={promised} scl={scl}"),
        Note::WentBack { by, .. } => format!("WentBack by={by}"),
        Note::LossAccepted { lost, fence, .. } => format!("LossAccepted lost={lost:?} fence={fence}"),
        Note::Allocated { lsn, pg, page, is_cpl, .. } => {
            format!("Allocated {lsn}{} {pg} {page:?}", if *is_cpl { "*" } else { "" })
        }
        Note::Opened { volume_epoch, vdl, .. } => format!("Opened {volume_epoch} vdl={vdl}"),
        Note::Durable { volume_epoch, vdl, .. } => format!("Durable {volume_epoch} vdl={vdl}"),
        Note::Read { page, read_point, version, .. } => format!("Read {page:?} at={read_point} version={version}"),
        Note::ReadPoint { reader, volume_epoch, read_point, .. } => {
            format!("ReadPoint {reader} {volume_epoch} at={read_point}")
        }
        Note::Implausible { from, why, .. } => format!("Implausible from={from} {why:?}"),
        Note::Contradicted { from, lsn, .. } => format!("Contradicted from={from} lsn={lsn}"),
        Note::Fenced { volume_epoch, by, .. } => format!("Fenced {volume_epoch} by={by}"),
    }
}
