//! What is checked, one scenario for each statement. Pages are 8 KiB; the record at LSN n sets byte n of the first page.

use super::link::{Found, Link, Node};
use auriga_net::handshake::ClusterId;
use auriga_page::{Delta, PAGE_SIZE};
use auriga_protocol::{
    Install, Lsn, MembershipEpoch, Message, PageId, Record, Refusal, SealReport, Token, TruncationList, VolumeEpoch,
    WriterId,
};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

type Running = Pin<Box<dyn Future<Output = Found<()>> + Send>>;

/// A scenario.
pub struct Scenario {
    /// The invariant that it observes.
    pub invariant: &'static str,
    /// The rules that it exercises.
    pub rules: &'static str,
    /// What must be so.
    pub statement: &'static str,
    body: fn(Node) -> Running,
}

impl Scenario {
    /// Runs it on a fresh segment of the node.
    pub async fn run(&self, address: SocketAddr, cluster: ClusterId) -> Found<()> {
        (self.body)(Node::with_fresh_segment(address, cluster).await?).await
    }
}

macro_rules! scenarios {
    ($($invariant:literal, $rules:literal, $statement:literal => $body:ident;)*) => {
        /// Every scenario.
        pub const ALL: &[Scenario] = &[$(Scenario {
            invariant: $invariant,
            rules: $rules,
            statement: $statement,
            body: |node| Box::pin($body(node)),
        }),*];
    };
}

scenarios! {
    "I-PROMISE", "R-FENCE-1", "after a promise, a lower volume epoch is refused" => lower_epoch_is_refused;
    "I-ONE-WRITER", "R-FENCE-3", "of two candidates of one number the higher ballot is promised, and no writer uses another's" => epoch_is_promised_once;
    "I-PROMISE", "R-FENCE-2", "a repeated seal is answered with the same report" => seal_again;
    "I-KEPT", "R-WRITE-1", "a write before its writer's install is refused" => write_before_install;
    "I-KEPT", "R-FENCE-1", "after a newer promise, the old writer's writes are refused" => old_writer_is_refused;
    "I-COPIES", "R-WRITE-3", "SCL stops before a hole, and passes it when it is filled" => hole;
    "I-CHAIN", "R-WRITE-4", "a record that comes twice is acknowledged twice and kept once" => twice;
    "I-ANNULLED", "R-TRUNCATE-1", "an install drops what it annuls" => truncation;
    "I-ANNULLED", "R-TRUNCATE-3", "an annulled record is not taken again" => annulled_again;
    "I-BACK", "R-FENCE-2, R-RECOVER-1", "the next candidate is told the whole durable chain" => chain_is_reported;
    "I-PAGE", "R-READ-3", "a page is as of its read point" => page_as_of_read_point;
    "I-PAGE", "R-READ-1", "a read point above the chain is refused" => read_above_chain;
    "I-PAGE", "R-READ-2", "an idle group is read at a read point above its chain" => idle_group;
    "I-READ-POINT", "R-READ-5", "a page that was never written is zeroes at version 0" => never_written;
}

const PAGE: PageId = PageId { inode: 1, block: 0 };

/// How often a segment that was just made is asked to seal.
const FOUNDED_IN: usize = 1_000;
/// The volume epoch of writer 1, once it has taken over.
const FIRST: VolumeEpoch = VolumeEpoch::new(1, WriterId(1));
/// One that writer 1 has promised only.
const FIFTH: VolumeEpoch = VolumeEpoch::new(5, WriterId(1));
/// That of writer 2, which follows writer 1.
const SECOND: VolumeEpoch = VolumeEpoch::new(2, WriterId(2));

/// The record at `lsn`, which follows `before` in its group, sets byte number `lsn` of the page to `lsn`.
fn record(lsn: u64, before: u64) -> Record<Delta> {
    let (old, mut new) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
    new[lsn as usize] = lsn as u8;
    let payload = Delta::between(&old, &new).unwrap_or_else(Delta::zero);
    let (prev, prev_block) = (Lsn(before), Lsn::ZERO);
    Record { lsn: Lsn(lsn), prev_volume: prev, prev_segment: prev, prev_block, is_cpl: true, page: PAGE, payload }
}

fn write(volume_epoch: VolumeEpoch, records: Vec<Record<Delta>>) -> Message<Delta> {
    Message::Write { volume_epoch, membership_epoch: MembershipEpoch(1), records, vdl: Lsn::ZERO, pgmrpl: Lsn::ZERO }
}

/// Seals. A segment that was just made is asked until it counts (R-REJOIN-6).
async fn seal(link: &mut Link, volume_epoch: VolumeEpoch) -> Found<SealReport> {
    let seal = Message::Seal { volume_epoch, shape: shape() };
    for _ in 0..FOUNDED_IN {
        let answer = link.ask(&seal, "Sealed", |answer| match answer {
            Message::Sealed { volume_epoch: of, report } if *of == volume_epoch => Some(Some(report.clone())),
            Message::Refused(Refusal::Rejoining) => Some(None),
            _ => None,
        });
        match answer.await? {
            Some(report) => return Ok(report),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    Err("the segment does not count".into())
}

/// Seals and installs; LSNs 1 to 10 above `vdl` are annulled.
async fn take_over(link: &mut Link, volume_epoch: VolumeEpoch, vdl: u64) -> Found<Lsn> {
    let report = seal(link, volume_epoch).await?;
    let mut truncations: TruncationList = report.install.truncations;
    truncations.annul_above(volume_epoch, Lsn(vdl), 10);
    let install = Install { volume_epoch, truncations, vdl: Lsn(vdl) };
    let membership = report.membership;
    link.ask(&Message::Install { install, membership }, "Acknowledge", |answer| acknowledged(answer, volume_epoch))
        .await
}

fn acknowledged(answer: &Message<Delta>, of: VolumeEpoch) -> Option<Lsn> {
    match answer {
        Message::Acknowledge { volume_epoch, scl, .. } if *volume_epoch == of => Some(*scl),
        _ => None,
    }
}

async fn write_and_hear(link: &mut Link, of: VolumeEpoch, records: Vec<Record<Delta>>, scl: u64) -> Found<()> {
    let expected = format!("Acknowledge {of} scl={scl}");
    let heard = |answer: &Message<Delta>| acknowledged(answer, of).filter(|heard| *heard == Lsn(scl)).map(|_| ());
    link.ask(&write(of, records), &expected, heard).await
}

fn is<T: PartialEq + std::fmt::Debug>(name: &str, found: T, expected: T) -> Found<()> {
    if found == expected { Ok(()) } else { Err(format!("{name} is {found:?}, not {expected:?}")) }
}

fn scl_is(found: Lsn, expected: u64) -> Found<()> {
    is("SCL", found, Lsn(expected))
}

/// How most scenarios begin: writer 1 has taken over in volume epoch 1 and written the chain 11, 12, … through `last`,
/// which is acknowledged. LSNs begin at 11: the first recovery annuls 1 to 10.
async fn with_chain_through(node: &Node, last: u64) -> Found<Link> {
    let mut link = node.writer(1).await?;
    scl_is(take_over(&mut link, FIRST, 0).await?, 0)?;
    let chain: Vec<_> = (11..=last).map(|lsn| record(lsn, if lsn == 11 { 0 } else { lsn - 1 })).collect();
    if !chain.is_empty() {
        write_and_hear(&mut link, FIRST, chain, last).await?;
    }
    Ok(link)
}

/// How the others begin: writer 1 has the promise of volume epoch 5, and writer 2 has come.
async fn with_promise(node: &Node) -> Found<(Link, Link)> {
    let (mut one, other) = (node.writer(1).await?, node.writer(2).await?);
    seal(&mut one, FIFTH).await?;
    Ok((one, other))
}

async fn lower_epoch_is_refused(node: Node) -> Found<()> {
    let (_, mut other) = with_promise(&node).await?;
    let stale = Refusal::StaleVolumeEpoch { current: FIFTH };
    other.refused(&Message::Seal { volume_epoch: VolumeEpoch::new(4, other.id), shape: shape() }, &stale).await?;
    let higher = VolumeEpoch::new(6, other.id);
    seal(&mut other, higher).await.map(drop)
}

async fn epoch_is_promised_once(node: Node) -> Found<()> {
    let (mut one, mut other) = with_promise(&node).await?;
    let higher = VolumeEpoch::new(5, other.id);
    seal(&mut other, higher).await?;
    one.refused(&Message::Seal { volume_epoch: FIFTH, shape: shape() }, &Refusal::StaleVolumeEpoch { current: higher })
        .await?;
    let of_one = Message::Seal { volume_epoch: VolumeEpoch::new(6, one.id), shape: shape() };
    other.must_not_hear(&of_one, |answer| matches!(answer, Message::Sealed { .. })).await
}

async fn seal_again(node: Node) -> Found<()> {
    let mut one = node.writer(1).await?;
    let first = seal(&mut one, FIFTH).await?;
    let second = seal(&mut one, FIFTH).await?;
    if first == second { Ok(()) } else { Err(format!("first {first:?}, then {second:?}")) }
}

async fn write_before_install(node: Node) -> Found<()> {
    let (mut one, _) = with_promise(&node).await?;
    let refusal = Refusal::NotInstalled { installed: VolumeEpoch::NONE };
    one.refused(&write(FIFTH, vec![record(11, 0)]), &refusal).await
}

async fn old_writer_is_refused(node: Node) -> Found<()> {
    let (mut old, mut new) = (with_chain_through(&node, 11).await?, node.writer(2).await?);
    seal(&mut new, SECOND).await?;
    let late = write(FIRST, vec![record(12, 11)]);
    old.refused(&late, &Refusal::StaleVolumeEpoch { current: SECOND }).await?;
    old.must_not_hear(&late, |answer| matches!(answer, Message::Acknowledge { .. })).await?;
    scl_is(seal(&mut new, SECOND.next(WriterId(2))).await?.scl, 11)
}

async fn hole(node: Node) -> Found<()> {
    let mut one = with_chain_through(&node, 10).await?;
    write_and_hear(&mut one, FIRST, vec![record(12, 11)], 0).await?;
    one.must_not_hear(&write(FIRST, vec![record(13, 12)]), |answer| {
        acknowledged(answer, FIRST).is_some_and(|scl| scl > Lsn::ZERO)
    })
    .await?;
    write_and_hear(&mut one, FIRST, vec![record(11, 0)], 13).await
}

async fn twice(node: Node) -> Found<()> {
    let mut one = with_chain_through(&node, 11).await?;
    write_and_hear(&mut one, FIRST, vec![record(11, 0)], 11).await?;
    chain_is(&node, 2, &[11]).await
}

/// A new candidate, which seals the volume epoch of this number and fetches the whole chain, must find these LSNs.
async fn chain_is(node: &Node, number: u64, expected: &[u64]) -> Found<()> {
    let mut next = node.writer(number + 100).await?;
    let volume_epoch = VolumeEpoch::new(number, next.id);
    let report = seal(&mut next, volume_epoch).await?;
    let truncations = report.install.truncations;
    let pull = Message::TailPull { volume_epoch, above: Lsn::ZERO, truncations };
    let found: Vec<u64> = next
        .ask(&pull, "Tail", |answer| match answer {
            Message::Tail { records, complete: true, .. } => Some(records.iter().map(|record| record.lsn.0).collect()),
            _ => None,
        })
        .await?;
    is("the chain", found.as_slice(), expected)
}

async fn truncation(node: Node) -> Found<()> {
    let (_old, mut new) = (with_chain_through(&node, 13).await?, node.writer(2).await?);
    scl_is(take_over(&mut new, SECOND, 11).await?, 11)
}

async fn annulled_again(node: Node) -> Found<()> {
    let (_old, mut new) = (with_chain_through(&node, 12).await?, node.writer(2).await?);
    scl_is(take_over(&mut new, SECOND, 11).await?, 11)?;
    write_and_hear(&mut new, SECOND, vec![record(12, 11)], 11).await?;
    write_and_hear(&mut new, SECOND, vec![record(22, 11)], 22).await?;
    chain_is(&node, 3, &[11, 22]).await
}

async fn chain_is_reported(node: Node) -> Found<()> {
    with_chain_through(&node, 12).await?;
    chain_is(&node, 2, &[11, 12]).await
}

async fn read(link: &mut Link, read_point: u64, page: PageId) -> Found<(Lsn, Vec<u8>)> {
    read_in_group(link, read_point, read_point, page).await
}

/// `group_point`: the group's last LSN at or below the read point.
async fn read_in_group(link: &mut Link, read_point: u64, group_point: u64, page: PageId) -> Found<(Lsn, Vec<u8>)> {
    let token = Token(read_point + page.block * 100);
    let (read_point, group_point) = (Lsn(read_point), Lsn(group_point));
    let ask = Message::ReadPage { read: token, volume_epoch: FIRST, page, read_point, group_point };
    link.ask(&ask, "Page", |answer| match answer {
        Message::Page { read, version, page } if *read == token => Some((*version, page.content().to_vec())),
        _ => None,
    })
    .await
}

async fn page_as_of_read_point(node: Node) -> Found<()> {
    let mut one = with_chain_through(&node, 12).await?;
    for (read_point, byte_12) in [(11, 0), (12, 12)] {
        let (version, content) = read(&mut one, read_point, PAGE).await?;
        is("the version", version, Lsn(read_point))?;
        is("the content", (content.get(11), content.get(12)), (Some(&11), Some(&byte_12)))?;
    }
    Ok(())
}

async fn read_above_chain(node: Node) -> Found<()> {
    let mut one = with_chain_through(&node, 11).await?;
    let (at, read) = (Lsn(12), Token(1));
    let ask = Message::ReadPage { read, volume_epoch: FIRST, page: PAGE, read_point: at, group_point: at };
    one.refused(&ask, &Refusal::AboveScl { scl: Lsn(11) }).await
}

async fn idle_group(node: Node) -> Found<()> {
    let mut one = with_chain_through(&node, 11).await?;
    let (version, content) = read_in_group(&mut one, 15, 11, PAGE).await?;
    is("the version and byte 11", (version, content.get(11)), (Lsn(11), Some(&11)))
}

async fn never_written(node: Node) -> Found<()> {
    let mut one = with_chain_through(&node, 11).await?;
    let (version, content) = read(&mut one, 11, PageId { inode: 1, block: 9 }).await?;
    is("the version and the highest byte", (version, content.into_iter().max()), (Lsn::ZERO, Some(0)))
}

/// What the segments here were made with.
fn shape() -> auriga_protocol::Shape {
    auriga_protocol::WriterConfig::default().shape()
}
